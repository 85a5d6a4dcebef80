// JavaScript values as DynamoDB's typed attribute values, and back: what the document clients add to the plain ones.
// Bytes are base64 inside, as on DynamoDB's wire, so that a typed item is JSON.

import { decodeBase64, encodeBase64 } from "../base64.js";

/** Turns a value into a typed one. */
export function marshall(value, options = {}) {
  if (value === null) return { NULL: true };
  switch (typeof value) {
    case "string":
      return { S: value };
    case "number":
      if (!Number.isFinite(value)) throw new Error(`Special numeric value ${value} is not allowed`);
      return { N: String(value) };
    case "bigint":
      return { N: String(value) };
    case "boolean":
      return { BOOL: value };
    case "object":
      return marshallObject(value, options);
    default:
      throw new Error(`an item cannot hold a ${typeof value}`);
  }
}

export function marshallItem(item, { removeUndefinedValues = false } = {}) {
  const entries = item instanceof Map ? [...item] : Object.entries(item);
  const kept = entries.filter(([name, value]) => {
    if (value === undefined && !removeUndefinedValues) {
      throw new Error(`"${name}" is undefined. Pass options.removeUndefinedValues=true to remove undefined values from map/array/set.`);
    }
    return value !== undefined && typeof value !== "function";
  });
  return Object.fromEntries(kept.map(([name, value]) => [name, marshall(value, { removeUndefinedValues })]));
}

function marshallObject(value, options) {
  if (value instanceof Set) return marshallSet([...value]);
  if (Array.isArray(value)) {
    const elements = options.removeUndefinedValues ? value.filter((element) => element !== undefined) : value;
    return { L: elements.map((element) => marshall(element, options)) };
  }
  if (ArrayBuffer.isView(value)) return { B: encodeBase64(new Uint8Array(value.buffer, value.byteOffset, value.byteLength)) };
  if (value instanceof ArrayBuffer) return { B: encodeBase64(new Uint8Array(value)) };
  const prototype = Object.getPrototypeOf(value);
  if (value instanceof Map || prototype === null || prototype.constructor?.name === "Object") return { M: marshallItem(value, options) };
  throw new Error(`Unsupported type passed: ${prototype.constructor?.name}. Write it as a string, a number or a plain object`);
}

function marshallSet(elements) {
  if (elements.length === 0) throw new Error("an item cannot hold an empty set");
  const [type] = Object.keys(marshall(elements[0]));
  if (!["S", "N", "B"].includes(type)) throw new Error("a set holds strings, numbers or bytes");
  return { [`${type}S`]: elements.map((element) => marshall(element)[type]) };
}

/** Turns a typed value into a JavaScript value. */
export function unmarshall(typed) {
  const [[type, value]] = Object.entries(typed);
  switch (type) {
    case "N":
      return numberOf(value);
    case "NULL":
      return null;
    case "B":
      return decodeBase64(value);
    case "SS":
      return new Set(value);
    case "NS":
      return new Set(value.map(numberOf));
    case "BS":
      return new Set(value.map(decodeBase64));
    case "L":
      return value.map(unmarshall);
    case "M":
      return unmarshallItem(value);
    default:
      return value;
  }
}

export function unmarshallItem(item) {
  return Object.fromEntries(Object.entries(item).map(([name, value]) => [name, unmarshall(value)]));
}

/** Large integers are exact as a BigInt, as the SDK gives them. */
function numberOf(text) {
  const number = Number(text);
  return Number.isSafeInteger(number) || !/^-?\d+$/.test(text) ? number : BigInt(text);
}

/** Turns the bytes of a caller's typed value into base64, or back: the plain clients take and give bytes. */
export function wire(typed, bytes) {
  const [[type, value]] = Object.entries(typed);
  if (type === "B") return { B: bytes(value) };
  if (type === "BS") return { BS: value.map(bytes) };
  if (type === "L") return { L: value.map((element) => wire(element, bytes)) };
  if (type === "M") return { M: wireItem(value, bytes) };
  return typed;
}

export function wireItem(item, bytes) {
  return Object.fromEntries(Object.entries(item).map(([name, value]) => [name, wire(value, bytes)]));
}
