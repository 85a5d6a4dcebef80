export { performance } from "../performance.js";
