// A call of the gateway: its arguments are checked before, since a wrong type would end the instance, and its errors
// become a GatewayError.

import { GatewayError } from "./errors.js";
import { kind } from "./message.js";

export function call(contract) {
  try {
    return contract();
  } catch (error) {
    const { tag, val } = error?.payload ?? error ?? {};
    throw typeof tag === "string" ? new GatewayError(tag, val) : error;
  }
}

/** A string as the contract takes it: half a surrogate pair becomes U+FFFD. */
export function text(where, what, value) {
  if (typeof value !== "string") throw new TypeError(`${where}: ${what} is ${kind(value)}; it has to be a string`);
  return value.toWellFormed();
}

export function number(where, what, value, max) {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new TypeError(`${where}: ${what} is ${typeof value === "number" ? value : kind(value)}; it has to be a whole number from 0 to ${max}`);
  }
}

/** An option of the contract: engines write none as null or as undefined. */
export function optional(value) {
  return value ?? undefined;
}
