// node:crypto: hashes, HMAC, key derivation, random values. Ciphers, signatures and key pairs are not there.

import { hmac } from "@noble/hashes/hmac.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { pbkdf2 } from "@noble/hashes/pbkdf2.js";
import { Buffer } from "buffer";

import { randomBytes as hostBytes } from "#host/random";

import { crypto as webcrypto, getRandomValues, randomUUID, subtle } from "../crypto.js";
import { digest, names } from "../hashes.js";

function find(name) {
  const hash = digest(name);
  if (hash === undefined) throw new Error(`node:crypto has no hash "${name}" in a plugin; it has ${names.join(", ")}`);
  return hash;
}

const bytes = (data, encoding) => (typeof data === "string" ? Buffer.from(data, encoding) : new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength));

/** What `createHash` and `createHmac` return. */
class Hash {
  #state;

  constructor(state) {
    this.#state = state;
  }

  update(data, encoding) {
    this.#state.update(bytes(data, encoding));
    return this;
  }

  digest(encoding) {
    const result = Buffer.from(this.#state.digest());
    return encoding === undefined || encoding === "buffer" ? result : result.toString(encoding === "binary" ? "latin1" : encoding === "base64url" ? "base64" : encoding).replace(...urlSafe(encoding));
  }

  copy() {
    return new Hash(this.#state.clone());
  }
}

/** The `buffer` package has no base64url. */
const urlSafe = (encoding) => (encoding === "base64url" ? [/[+/=]/g, (mark) => ({ "+": "-", "/": "_", "=": "" })[mark]] : [/$^/, ""]);

export const createHash = (name) => new Hash(find(name).create());
export const createHmac = (name, key) => new Hash(hmac.create(find(name), bytes(key)));
export const hash = (name, data, encoding = "hex") => createHash(name).update(data).digest(encoding);
export const getHashes = () => [...names];

export function randomBytes(length, callback) {
  const found = Buffer.from(hostBytes(length));
  if (callback === undefined) return found;
  queueMicrotask(() => callback(null, found));
  return undefined;
}

export function randomFillSync(target, offset = 0, length = target.byteLength - offset) {
  new Uint8Array(target.buffer, target.byteOffset + offset, length).set(hostBytes(length));
  return target;
}

export function randomInt(from, to, callback) {
  const [low, high, done] = typeof to === "number" ? [from, to, callback] : [0, from, to];
  const range = high - low;
  if (!(range > 0 && range < 2 ** 48)) throw new RangeError("randomInt takes a range of 1 to 2^48");
  // A number beyond the last whole range would make the low ones likelier.
  const limit = 2 ** 48 - (2 ** 48 % range);
  let number;
  do number = Buffer.from(hostBytes(6)).readUIntBE(0, 6);
  while (number >= limit);
  const value = low + (number % range);
  if (done === undefined) return value;
  queueMicrotask(() => done(null, value));
  return undefined;
}

export function timingSafeEqual(left, right) {
  const [ours, theirs] = [bytes(left), bytes(right)];
  if (ours.length !== theirs.length) throw new RangeError("Input buffers must have the same byte length");
  let difference = 0;
  for (let at = 0; at < ours.length; at += 1) difference |= ours[at] ^ theirs[at];
  return difference === 0;
}

export const pbkdf2Sync = (password, salt, iterations, length, name) =>
  Buffer.from(pbkdf2(find(name), bytes(password), bytes(salt), { c: iterations, dkLen: length }));

export const hkdfSync = (name, key, salt, info, length) => hkdf(find(name), bytes(key), bytes(salt), bytes(info), length).slice().buffer;

export { getRandomValues, randomUUID, subtle, webcrypto };

export default {
  createHash, createHmac, getHashes, getRandomValues, hash, hkdfSync, pbkdf2Sync, randomBytes, randomFillSync, randomInt, randomUUID,
  subtle, timingSafeEqual, webcrypto,
};
