// Random numbers from the gateway: Math.random of the engine would be frozen in the snapshot, the same in every instance.

import { randomBytes } from "#host/random";

/** Numbers that are fetched at once. */
const POOL = 64;

let pool = new Float64Array(0);
let left = 0;

/** A number from 0 to 1 with 53 random bits. */
export function random() {
  if (left === 0) {
    const words = new Uint32Array(randomBytes(POOL * 8).slice().buffer);
    pool = Float64Array.from({ length: POOL }, (_, at) => ((words[2 * at] >>> 5) * 2 ** 26 + (words[2 * at + 1] >>> 6)) / 2 ** 53);
    left = POOL;
  }
  left -= 1;
  return pool[left];
}

// This module comes after the globals' libraries and before the author's: core-js makes up a name when it is loaded.
Object.defineProperty(Math, "random", { value: random, writable: true, configurable: true });
