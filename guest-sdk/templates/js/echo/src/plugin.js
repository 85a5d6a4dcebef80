// Sends each message back as it came.

import { define } from "@lockgate/sdk";

// Keep nothing in variables here: another instance may handle the next message. What belongs to a connection goes into its
// attributes: `connections.setAttribute`.
export default define({
  // There are `connect` and `disconnect` too. What is left out lets each client in, and does nothing at its end.

  /** Handles a message of a client: a string, or a Uint8Array. What it returns is the answer; nothing is no answer. */
  message(event, message) {
    return message;
  },
});
