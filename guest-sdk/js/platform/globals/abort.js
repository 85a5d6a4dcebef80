export { AbortController, AbortSignal } from "../events.js";
