// A plugin of Lambda handlers: each event of a connection becomes the proxy event of API Gateway, and the handler's
// proxy response becomes the answer.

import { define } from "../src/define.js";
import { Refusal } from "../src/errors.js";

import { authorize } from "./authorizer.js";
import { connectEvent, disconnectEvent, messageEvent } from "./event.js";
import { invoke } from "./invoke.js";
import { acceptance, checkResponse, reply } from "./response.js";

/** The routes that a client is let in and out without. */
const OPTIONAL = ["$connect", "$disconnect"];

/** Makes a plugin of one handler for every route, or of a handler for each; and of a Lambda authorizer of the type REQUEST. */
export function adapt(handlers, authorizer) {
  const handlerOf = (route) => {
    const handler = typeof handlers === "function" ? handlers : Object.hasOwn(handlers, route) ? handlers[route] : undefined;
    if (handler || OPTIONAL.includes(route)) return handler;
    throw new Error(`no handler for the route "${route}": package.json names those of ${Object.keys(handlers).join(", ")} in lockgate.lambda`);
  };
  return define({
    async connect(event, handshake) {
      try {
        const handler = handlerOf(event.routeKey);
        return handler && (await invoke(handler, connectEvent(event, handshake), acceptance));
      } catch (error) {
        if (error instanceof Refusal) throw error;
        throw new Refusal(502, "Internal server error", { cause: error });
      }
    },
    message(event, message) {
      return invoke(handlerOf(event.routeKey), messageEvent(event, message), reply);
    },
    async disconnect(event, closing) {
      const handler = handlerOf(event.routeKey);
      if (handler) await invoke(handler, disconnectEvent(event, closing), checkResponse);
    },
    authorize: authorizer && ((connectionId, request) => authorize(authorizer, connectionId, request)),
  });
}

/** The function that a Lambda setting such as `index.handler` names in its module. */
export function handlerIn(module, path, setting) {
  let found = module;
  for (const name of path.split(".")) found = found?.[name] ?? (found === module ? module.default?.[name] : undefined);
  if (typeof found === "function") return found;
  const exported = Object.keys(module).filter((name) => name !== "default" && name !== "module.exports");
  throw new Error(`lockgate.lambda in package.json names "${setting}", and the module exports ${exported.length ? exported.join(", ") : "nothing"}, but no function "${path}"`);
}
