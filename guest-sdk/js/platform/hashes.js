// The hash functions by their names, in WebCrypto's spelling and in Node's.

import { md5, ripemd160, sha1 } from "@noble/hashes/legacy.js";
import { sha224, sha256, sha384, sha512, sha512_256 } from "@noble/hashes/sha2.js";
import { sha3_256, sha3_512 } from "@noble/hashes/sha3.js";

const HASHES = {
  "md5": md5,
  "ripemd160": ripemd160,
  "sha1": sha1,
  "sha224": sha224,
  "sha256": sha256,
  "sha384": sha384,
  "sha512": sha512,
  "sha512-256": sha512_256,
  "sha3-256": sha3_256,
  "sha3-512": sha3_512,
};

export const names = Object.keys(HASHES);

/** The hash function of a name; none if there is no such. */
export function digest(name) {
  return HASHES[String(name).toLowerCase().replace(/^sha-(1|224|256|384|512)$/, "sha$1")];
}
