export { idle } from "../../platform/loop.js";
