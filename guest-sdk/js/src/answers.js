// The answers of a handler, checked: a wrong one is a failure that says what was returned and what is expected.

import { Refusal } from "./errors.js";
import { kind, toContract } from "./message.js";

const ACCEPTANCE = "connect returns nothing, { subprotocol, headers } or a Refusal";

/** The request of a client, as a handler gets it. */
export class Handshake {
  constructor({ query, headers, subprotocols, sourceIp, domainName, path, httpVersion, secure, certificateSubject }) {
    Object.assign(this, { query, headers, subprotocols, sourceIp, domainName, path, httpVersion, secure });
    this.certificateSubject = certificateSubject ?? undefined;
  }

  queryParameter(name) {
    return this.query.find(([key]) => key === name)?.[1];
  }

  header(name) {
    const lower = name.toLowerCase();
    return this.headers.find(([key]) => key.toLowerCase() === lower)?.[1];
  }
}

/** The answer of `connect` as the contract's acceptance. A refusal is thrown. */
export function acceptance(answer) {
  if (answer === undefined || answer === null) return { subprotocol: undefined, headers: [] };
  if (answer instanceof Refusal) throw answer;
  if (typeof answer !== "object" || Array.isArray(answer)) throw new TypeError(`connect returned ${kind(answer)}; ${ACCEPTANCE}`);
  for (const key of Object.keys(answer)) {
    if (key !== "subprotocol" && key !== "headers") throw new TypeError(`connect returned an object with "${key}"; ${ACCEPTANCE}`);
  }
  const { subprotocol } = answer;
  if (subprotocol !== undefined && subprotocol !== null && typeof subprotocol !== "string") {
    throw new TypeError(`connect returned a subprotocol that is ${kind(subprotocol)}; it has to be a string`);
  }
  return { subprotocol: subprotocol?.toWellFormed(), headers: fields(answer.headers ?? []) };
}

function fields(headers) {
  const pairs = typeof headers[Symbol.iterator] === "function" ? [...headers] : Object.entries(headers);
  return pairs.map((pair) => {
    const [name, value] = Array.isArray(pair) ? pair : [];
    if (typeof name !== "string" || (typeof value !== "string" && typeof value !== "number")) {
      throw new TypeError(
        `connect returned a header ${typeof name === "string" ? `"${name}" that is ${kind(value)}` : `that is ${kind(pair)}`}; ` +
          "headers are { name: value } or [[name, value]], of strings",
      );
    }
    return [name.toWellFormed(), String(value).toWellFormed()];
  });
}

const IDENTITY = "authorize returns the client's name, { principal, values, scopes, expiresAt } or a Refusal";
const IDENTITY_KEYS = ["principal", "values", "scopes", "expiresAt"];

/** The answer of `authorize` as the contract's identity. A refusal is thrown; so is nothing, which lets nobody in by mistake. */
export function identity(answer) {
  if (answer instanceof Refusal) throw answer;
  if (typeof answer === "string") return identity({ principal: answer });
  if (answer === null || typeof answer !== "object" || Array.isArray(answer)) throw new TypeError(`authorize returned ${kind(answer)}; ${IDENTITY}`);
  for (const key of Object.keys(answer)) {
    if (!IDENTITY_KEYS.includes(key)) throw new TypeError(`authorize returned an object with "${key}"; ${IDENTITY}`);
  }
  const { principal, values, scopes, expiresAt } = answer;
  if (principal !== undefined && principal !== null && typeof principal !== "string") {
    throw new TypeError(`authorize returned a principal that is ${kind(principal)}; it has to be a string`);
  }
  return {
    principal: principal?.toWellFormed() ?? undefined,
    values: identityValues("authorize returned a value", values ?? {}),
    scopes: [...(scopes ?? [])].map((scope) => {
      if (typeof scope !== "string") throw new TypeError(`authorize returned a scope that is ${kind(scope)}; scopes are strings`);
      return scope.toWellFormed();
    }),
    expiresAt: identityTime("authorize returned an expiresAt that", expiresAt),
  };
}

/** A time as milliseconds since 1970, or undefined. `what` begins the error. */
export function identityTime(what, written) {
  const time = written instanceof Date ? written.getTime() : (written ?? undefined);
  if (time !== undefined && !(Number.isSafeInteger(time) && time >= 0)) {
    const found = typeof written === "number" || written instanceof Date ? String(written) : kind(written);
    throw new TypeError(`${what} is ${found}; it has to be a Date, or whole milliseconds since 1970`);
  }
  return time;
}

const TAGS = { string: "text", number: "number", boolean: "flag" };

/** The values of a client as the contract's. `what` begins the error. */
export function identityValues(what, values) {
  const given = Object.entries(values).filter(([, val]) => val !== undefined);
  return given.map(([name, val]) => {
    const tag = TAGS[typeof val];
    if (tag === undefined) throw new TypeError(`${what} "${name}" that is ${kind(val)}; values are strings, numbers and booleans`);
    return [name.toWellFormed(), { tag, val: tag === "text" ? val.toWellFormed() : val }];
  });
}

/** A thrown value as the contract's refusal, with the error to log if it is no decision of the handler. */
export function refusal(thrown) {
  if (!(thrown instanceof Refusal)) return { status: 500, message: undefined, cause: thrown };
  const { status, text, cause } = thrown;
  if (!Number.isInteger(status) || status < 300 || status > 599) {
    const wrong = new TypeError(`a Refusal has the status ${typeof status === "number" ? status : kind(status)}; it has to be 300 to 599`);
    return { status: 500, message: undefined, cause: wrong };
  }
  if (text !== undefined && text !== null && typeof text !== "string") {
    return { status: 500, message: undefined, cause: new TypeError(`a Refusal has the message ${kind(text)}; it has to be a string`) };
  }
  // A gateway with `compat = "aws"` takes a refusal with 500 and without a text for an error: this one is meant.
  return { status, message: text?.toWellFormed() ?? (status === 500 ? "Internal Server Error" : undefined), cause };
}

/** The answer of `message` as the contract's optional message. */
export function reply(answer) {
  return answer === undefined || answer === null ? undefined : toContract(answer, "message: the returned value");
}
