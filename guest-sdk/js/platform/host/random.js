import { getRandomBytes } from "wasi:random/random@0.2.0";

import { needInstance } from "../phase.js";

export function randomBytes(length) {
  needInstance("random numbers");
  return getRandomBytes(LOCKGATE_BIGINT ? BigInt(length) : length);
}
