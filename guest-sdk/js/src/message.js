// Messages: a text is a string, a binary message is a Uint8Array. Half a surrogate pair, which no UTF-8 can have and which
// would end the instance, becomes U+FFFD, as where a browser sends.

/** A message of the contract. */
export function toContract(message, what) {
  if (typeof message === "string") return { tag: "text", val: message.toWellFormed() };
  if (message instanceof Uint8Array) return { tag: "binary", val: message };
  if (message instanceof ArrayBuffer) return { tag: "binary", val: new Uint8Array(message) };
  if (ArrayBuffer.isView(message)) return { tag: "binary", val: new Uint8Array(message.buffer, message.byteOffset, message.byteLength) };
  throw new TypeError(`${what} is ${kind(message)}; a message is a string or a Uint8Array${hint(message)}`);
}

export function fromContract({ tag, val }) {
  return tag === "text" ? val : val instanceof Uint8Array ? val : new Uint8Array(val);
}

/** What a value is, in words. */
export function kind(value) {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object") {
    const name = Object.getPrototypeOf(value)?.constructor?.name;
    return name === undefined || name === "Object" ? "an object" : `an object of ${name}`;
  }
  return typeof value === "function" ? "a function" : `a ${typeof value}`;
}

function hint(value) {
  return value !== null && typeof value === "object" ? "; send an object as json(value)" : "";
}
