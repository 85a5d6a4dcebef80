// @lockgate/sdk: what a plugin imports. index.d.ts describes it.

export * as connections from "./connections.js";
export * as context from "./context.js";
export * as groups from "./groups.js";
export { define } from "./define.js";
export { GatewayError, Refusal } from "./errors.js";
export { json, parseJson } from "./json.js";
