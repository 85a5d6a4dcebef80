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
  const found = plugin === undefined ? "it has no default export" : `its default export is ${plugin === null ? "null" : typeof plugin}`;
  throw new TypeError(`the plugin's module has to export default define({ connect, message, disconnect }); ${found}`);
}
