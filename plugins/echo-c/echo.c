// Sends each message back as it came, text or binary.

#include "handler_plugin.h"

bool exports_lockgate_plugin_handler_on_connect(
    exports_lockgate_plugin_handler_event_t *event,
    exports_lockgate_plugin_handler_handshake_t *request,
    exports_lockgate_plugin_handler_acceptance_t *acceptance,
    exports_lockgate_plugin_handler_refusal_t *refusal) {
  (void)refusal;
  exports_lockgate_plugin_handler_event_free(event);
  exports_lockgate_plugin_handler_handshake_free(request);
  *acceptance = (exports_lockgate_plugin_handler_acceptance_t){0};
  return true;
}

// The message is ours, and moves into the answer, which is freed once it is sent.
bool exports_lockgate_plugin_handler_on_message(
    exports_lockgate_plugin_handler_event_t *event,
    exports_lockgate_plugin_handler_message_t *message,
    exports_lockgate_plugin_handler_option_message_t *answer,
    exports_lockgate_plugin_handler_failure_t *failure) {
  (void)failure;
  exports_lockgate_plugin_handler_event_free(event);
  answer->is_some = true;
  answer->val = *message;
  return true;
}

void exports_lockgate_plugin_handler_on_disconnect(
    exports_lockgate_plugin_handler_event_t *event,
    exports_lockgate_plugin_handler_closing_t *closing) {
  exports_lockgate_plugin_handler_event_free(event);
  exports_lockgate_plugin_handler_closing_free(closing);
}
