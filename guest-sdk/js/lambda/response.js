// The proxy response of a Lambda handler, judged as API Gateway judges it.

import { Refusal } from "../src/errors.js";

import { decodeBase64 } from "./base64.js";

const KEYS = new Set(["statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"]);

/** Headers of the 101 that are the gateway's own. A Lambda that sets them for every answer is let in all the same. */
const GATEWAYS = /^(connection|upgrade|content-length|transfer-encoding|sec-websocket-.*)$/;

/** Gives the answer to `$connect`. A status that is not 2xx refuses the client. */
export function acceptance(response) {
  if (response === null || response === undefined) throw malformed("nothing", "return { statusCode: 200 } to let the client in");
  const { statusCode, headers } = checkResponse(response);
  if (statusCode < 200 || statusCode > 599) throw malformed(`the status ${statusCode}`, "2xx lets the client in, 300 to 599 refuses it");
  if (statusCode > 299) throw new Refusal(statusCode, messageOf(response));
  const subprotocol = headers.find(([name]) => name === "sec-websocket-protocol")?.[1];
  return { subprotocol, headers: headers.filter(([name]) => !GATEWAYS.test(name)) };
}

/** Gives the message for the client of a two-way route, whatever the status. */
export function reply(response) {
  if (isPlainText(response)) return response.body;
  const { body, isBase64Encoded } = checkResponse(response);
  if (!isBase64Encoded || body === undefined) return body;
  const bytes = decodeBase64(body);
  if (bytes === undefined) throw malformed("a body that is not base64", "isBase64Encoded is true");
  return bytes;
}

/** Whether it is the usual response, `{ statusCode: 200, body: "…" }`, in which nothing is to be found wrong. */
function isPlainText(response) {
  if (typeof response?.body !== "string" || response.statusCode !== 200) return false;
  for (const key in response) if (key !== "statusCode" && key !== "body") return false;
  return true;
}

/** Checks the response to any event. Nothing at all is one, but for `$connect`. */
export function checkResponse(response) {
  if (response === null || response === undefined) return { statusCode: 200, headers: [] };
  if (typeof response !== "object" || Array.isArray(response)) {
    throw malformed(Array.isArray(response) ? "an array" : `a ${typeof response}`, "it has to be an object");
  }
  const { statusCode = 200, body, isBase64Encoded = false } = response;
  for (const key of Object.keys(response)) {
    if (!KEYS.has(key) && response[key] !== undefined) throw malformed(`an object with "${key}"`, `it has no keys but ${[...KEYS].join(", ")}`);
  }
  const status = typeof statusCode === "string" && /^\d{3}$/.test(statusCode) ? Number(statusCode) : statusCode;
  if (!Number.isInteger(status)) throw malformed(`the status ${JSON.stringify(statusCode)}`, "it has to be a whole number");
  if (body !== undefined && body !== null && typeof body !== "string") {
    throw malformed(`a body that is ${Array.isArray(body) ? "an array" : `of the type ${typeof body}`}`, "it has to be a string: JSON.stringify makes one");
  }
  if (typeof isBase64Encoded !== "boolean") throw malformed("an isBase64Encoded that is no boolean", "it is true or false");
  return { statusCode: status, headers: headersOf(response), body: body ?? undefined, isBase64Encoded };
}

/** The headers as pairs, with names in lower case. A name with several values is in `multiValueHeaders`, which counts. */
function headersOf({ headers, multiValueHeaders }) {
  if (headers === undefined && multiValueHeaders === undefined) return [];
  const several = entries(multiValueHeaders, "multiValueHeaders").flatMap(([name, values]) => {
    if (!Array.isArray(values)) throw malformed(`multiValueHeaders with "${name}", which is no array`, "each has an array of values");
    return values.map((value) => [name, value]);
  });
  const single = entries(headers, "headers").filter(([name]) => !several.some(([other]) => other === name));
  return [...single, ...several].map(([name, value]) => {
    if (!["string", "number", "boolean"].includes(typeof value)) throw malformed(`the header "${name}", which is no text`, "values are strings");
    return [name, String(value)];
  });
}

function entries(headers, key) {
  if (headers === undefined || headers === null) return [];
  if (typeof headers !== "object" || Array.isArray(headers)) throw malformed(`${key} that are no object`, "write { name: value }");
  return Object.entries(headers)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => [name.toLowerCase(), value]);
}

/** The text of a refusal: the gateway wraps it as `{"message": …}`, which many handlers have done already. */
function messageOf({ body }) {
  if (!body) return undefined;
  try {
    const { message } = JSON.parse(body);
    if (typeof message === "string") return message;
  } catch {
    // A text, then.
  }
  return body;
}

function malformed(found, expected) {
  return new Error(`malformed Lambda proxy response: the handler answered with ${found}; ${expected}`);
}
