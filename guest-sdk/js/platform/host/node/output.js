import { writeSync } from "node:fs";

export const write = (bytes) => writeSync(2, bytes);
export const writeEarly = () => {};
