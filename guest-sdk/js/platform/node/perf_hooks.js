import { performance } from "../performance.js";

export { performance };
export default { performance };
