import { kind } from "./message.js";

const EVENTS = ["connect", "message", "disconnect", "authorize"];

/** The plugins that `define` has made. */
const defined = new WeakSet();

export function define(handlers) {
  if (handlers === null || typeof handlers !== "object") {
    throw new TypeError(`define takes an object with connect, message, disconnect and authorize, each optional, and not ${typeof handlers}`);
  }
  for (const [name, handler] of Object.entries(handlers)) {
    if (!EVENTS.includes(name)) throw new TypeError(`define: there is no event "${name}"; the events are ${EVENTS.join(", ")}`);
    if (handler !== undefined && typeof handler !== "function") throw new TypeError(`define: ${name} is ${typeof handler} and not a function`);
  }
  const { connect, message, disconnect, authorize } = handlers;
  const plugin = { connect, message, disconnect, authorize };
  defined.add(plugin);
  return Object.freeze(plugin);
}

/** Checks the default export of a plugin's module. */
export function checkPlugin(plugin) {
  if (defined.has(plugin)) return plugin;
  // A file without any export is an empty module of CommonJS.
  const isMissing = plugin === undefined || (kind(plugin) === "an object" && Object.keys(plugin).length === 0);
  const found = isMissing ? "it has no default export" : `its default export is ${kind(plugin)} that define has not made`;
  throw new TypeError(`the plugin's module has to export default define({ connect, message, disconnect }); ${found}`);
}
