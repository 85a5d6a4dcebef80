// The exports of a component: each runs the author's handler to its end, and turns whatever it throws into the
// contract's own answer, since an error that the engine sees ends the instance.

import { endLoading, phase } from "../../platform/phase.js";
import { writeEarly } from "#host/output";
import { describe, ERROR, log, WARNING } from "../../platform/log.js";
import { runToEnd } from "../../platform/loop.js";
import { acceptance, Handshake, refusal, reply } from "../answers.js";
import { checkPlugin } from "../define.js";
import { fromContract } from "../message.js";

/** The handler of a component. `load` gives the author's plugin; it is called once. */
export function exported(load) {
  let plugin;
  // At build time the modules are loaded with the snapshot; a plugin that needs an instance for it waits for its first
  // event.
  const handlers = () => (plugin ??= checkPlugin(load()));

  const run = (handle) => {
    if (phase.loading) {
      phase.loading = false;
      writeEarly();
    }
    return runToEnd(() => handle(handlers()), (error) => log(WARNING, `unhandled: ${describe(error)}`));
  };

  return {
    onConnect(event, request) {
      try {
        return acceptance(run((plugin) => plugin.connect?.(event, new Handshake(request))));
      } catch (thrown) {
        const { status, message, cause } = refusal(thrown);
        if (cause !== undefined) log(ERROR, `refused with ${status}: ${describe(cause)}`);
        throw { status, message: message ?? NONE };
      }
    },

    onMessage(event, message) {
      try {
        return reply(run((plugin) => plugin.message?.(event, fromContract(message)))) ?? NONE;
      } catch (thrown) {
        throw describe(thrown);
      }
    },

    onDisconnect(event, closing) {
      try {
        run((plugin) => plugin.disconnect?.(event, closing));
      } catch (thrown) {
        log(ERROR, `disconnect: ${describe(thrown)}`);
      }
    },
  };
}

/** Ends the loading at build time, and refuses what is no plugin. */
export function loaded(plugin) {
  endLoading();
  checkPlugin(plugin);
}

/** None of an option, as the engine writes it. */
const NONE = LOCKGATE_BIGINT ? undefined : null;
