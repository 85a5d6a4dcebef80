// The exports of a component: each runs the author's handler to its end, and turns whatever it throws into the
// contract's own answer, since an error that the engine sees ends the instance.

import { endLoading, phase } from "../../platform/phase.js";
import { writeEarly } from "#host/output";
import { describe, ERROR, log, WARNING } from "../../platform/log.js";
import { forget, toEnd } from "../../platform/loop.js";
import { activity, fulfilledValue } from "../../platform/promise.js";
import { acceptance, Handshake, identity, refusal, reply } from "../answers.js";
import { checkPlugin } from "../define.js";
import { fromContract } from "../message.js";
import { u64 } from "./u64.js";

const report = (error) => log(WARNING, `unhandled: ${describe(error)}`);

/**
 * The exports of a component, by interface. `load` gives the author's plugin; it is called once. `mayDecide` is whether
 * package.json knows of its `authorize`.
 */
export function exported(load, mayDecide) {
  let plugin;

  const begin = () => {
    if (phase.loading) {
      phase.loading = false;
      writeEarly();
    }
    // At build time the modules are loaded with the snapshot; a plugin that needs an instance for it waits until now.
    plugin = checkPlugin(load());
    if (!mayDecide && plugin.authorize !== undefined) log(WARNING, UNASKED);
    return plugin;
  };

  /** Throws the contract's refusal for whatever was thrown. */
  const refuse = (thrown) => {
    forget(report);
    const { status, message, cause } = refusal(thrown);
    if (cause !== undefined) log(ERROR, `refused with ${status}: ${describe(cause)}`);
    throw { status, message: message ?? NONE };
  };

  const handler = {
    onConnect(event, request) {
      try {
        const answer = (plugin ?? begin()).connect?.(event, new Handshake(request));
        return acceptance(toEnd(answer, report));
      } catch (thrown) {
        return refuse(thrown);
      }
    },

    onMessage(event, message) {
      try {
        const answer = (plugin ?? begin()).message?.(event, fromContract(message));
        if (!activity.any) {
          // The usual answer of a handler that leaves nothing to do needs no more.
          const text = fulfilledValue(answer);
          if (typeof text === "string") return { tag: "text", val: text.toWellFormed() };
        }
        return reply(toEnd(answer, report)) ?? NONE;
      } catch (thrown) {
        forget(report);
        throw describe(thrown);
      }
    },

    onDisconnect(event, closing) {
      try {
        toEnd((plugin ?? begin()).disconnect?.(event, closing), report);
      } catch (thrown) {
        forget(report);
        log(ERROR, `disconnect: ${describe(thrown)}`);
      }
    },
  };

  const authorizer = {
    authorize(connectionId, request) {
      try {
        const { authorize } = plugin ?? begin();
        if (authorize === undefined) throw new TypeError("the plugin is named as an authorizer, and its define has no authorize");
        const { principal, expiresAt, ...rest } = identity(toEnd(authorize(connectionId, new Handshake(request)), report));
        return { ...rest, principal: principal ?? NONE, expiresAt: expiresAt === undefined ? NONE : u64(expiresAt) };
      } catch (thrown) {
        return refuse(thrown);
      }
    },
  };

  return { handler, authorizer };
}

/** Ends the loading at build time, and refuses what is no plugin, and one that decides without being asked. */
export function loaded(plugin, mayDecide) {
  endLoading();
  checkPlugin(plugin);
  if (!mayDecide && plugin.authorize !== undefined) throw new TypeError(UNASKED);
}

/** The component does not export the authorizer, so that no gateway could ask it. */
const UNASKED = `define has authorize, and package.json does not say so: write "lockgate": { "authorizer": true } there, or false if nothing is to ask it`;

/** None of an option, as the engine writes it. */
const NONE = LOCKGATE_BIGINT ? undefined : null;
