// `crypto`: random values from the gateway, digests and HMAC from @noble/hashes.

import { hmac } from "@noble/hashes/hmac.js";

import { randomBytes } from "#host/random";

import { digest } from "./hashes.js";

/** Bytes of one call, as the standard says. */
const MAX = 65_536;

const INTEGERS = new Set(["Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array", "Uint32Array", "BigInt64Array", "BigUint64Array", "Buffer"]);

export function getRandomValues(array) {
  if (!ArrayBuffer.isView(array) || !INTEGERS.has(array.constructor.name)) {
    throw new DOMException("getRandomValues takes an array of integers", "TypeMismatchError");
  }
  if (array.byteLength > MAX) throw new DOMException(`getRandomValues fills at most ${MAX} bytes`, "QuotaExceededError");
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(randomBytes(array.byteLength));
  return array;
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export function randomUUID() {
  const bytes = randomBytes(16);
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = (from, to) => {
    let text = "";
    for (let at = from; at < to; at += 1) text += HEX[bytes[at]];
    return text;
  };
  return `${hex(0, 4)}-${hex(4, 6)}-${hex(6, 8)}-${hex(8, 10)}-${hex(10, 16)}`;
}

const name = (algorithm) => (typeof algorithm === "string" ? algorithm : algorithm?.name);

function bytes(data) {
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new TypeError("expected an ArrayBuffer or a view of one");
}

const buffer = (view) => view.slice().buffer;

function missing(what) {
  return new DOMException(`crypto.subtle has ${what} not: it has digests (SHA-1 and SHA-2) and HMAC; bundle a library in JavaScript for others`, "NotSupportedError");
}

/** An HMAC key. */
class CryptoKey {
  constructor(secret, hash, extractable, usages) {
    Object.defineProperty(this, "__secret", { value: secret });
    this.type = "secret";
    this.extractable = extractable;
    this.algorithm = { name: "HMAC", hash: { name: hash }, length: secret.length * 8 };
    this.usages = usages;
  }
}

export const subtle = {
  async digest(algorithm, data) {
    const hash = digest(name(algorithm));
    if (hash === undefined) throw missing(name(algorithm));
    return buffer(hash(bytes(data)));
  },

  async importKey(format, data, algorithm, extractable, usages) {
    if (format !== "raw" || name(algorithm) !== "HMAC") throw missing(`keys of ${name(algorithm)} as ${format}`);
    return new CryptoKey(bytes(data).slice(), name(algorithm.hash), extractable, [...usages]);
  },

  async sign(algorithm, key, data) {
    return buffer(mac(algorithm, key, data));
  },

  async verify(algorithm, key, signature, data) {
    const [expected, given] = [mac(algorithm, key, data), bytes(signature)];
    if (expected.length !== given.length) return false;
    let difference = 0;
    for (let at = 0; at < expected.length; at += 1) difference |= expected[at] ^ given[at];
    return difference === 0;
  },
};

function mac(algorithm, key, data) {
  const hash = digest(key?.algorithm?.hash?.name);
  if (name(algorithm) !== "HMAC" || hash === undefined) throw missing(name(algorithm));
  return hmac(hash, key.__secret, bytes(data));
}

export const crypto = { getRandomValues, randomUUID, subtle };
