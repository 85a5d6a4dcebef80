import { clearImmediate, clearInterval, clearTimeout, setImmediate, setInterval, setTimeout } from "../loop.js";
import * as promises from "./timers_promises.js";

export { clearImmediate, clearInterval, clearTimeout, promises, setImmediate, setInterval, setTimeout };
export default { clearImmediate, clearInterval, clearTimeout, promises, setImmediate, setInterval, setTimeout };
