// The gateway that answers while a handler runs. Handlers are async, and tests may run several gateways at once: each
// handler carries its own.

import { AsyncLocalStorage } from "node:async_hooks";

const running = new AsyncLocalStorage();

/** Runs a handler whose calls `state` answers. */
export function answeredBy(state, handle) {
  return running.run(state, handle);
}

/** A function of an interface, answered by the running handler's gateway. */
export function ask(module, name) {
  return (...words) => {
    const state = running.getStore();
    if (state === undefined) {
      throw new Error(
        `${module}.${name} was called where no gateway is: in a test, run the handler by Gateway of "@lockgate/sdk/testing"`,
      );
    }
    return state[name](...words);
  };
}
