export { crypto } from "../crypto.js";
