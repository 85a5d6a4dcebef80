// A Lambda authorizer of the type REQUEST: its policy decides as API Gateway evaluates it.

import { Refusal } from "../src/errors.js";

import { authorizerEvent } from "./event.js";
import { invoke } from "./invoke.js";

/** Bytes of an answer, as in API Gateway. */
const MAX_ANSWER = 8 << 10;

/** The error by which an authorizer says that the client has not said who it is. */
const UNAUTHORIZED = "Unauthorized";

/** Asks the authorizer about a client. */
export async function authorize(authorizer, connectionId, request) {
  const event = authorizerEvent(connectionId, request);
  let answer;
  try {
    answer = await invoke(authorizer, event, (result) => result);
  } catch (error) {
    if (error?.message === UNAUTHORIZED) throw new Refusal(401);
    throw error;
  }
  const { principalId, policyDocument, context, usageIdentifierKey } = checkAnswer(answer);
  if (!allows(policyDocument, event.methodArn)) throw new Refusal(403);
  // A stage's `api_key` may look for it among the values.
  const key = typeof usageIdentifierKey === "string" ? { usageIdentifierKey } : {};
  return { principal: principalId, values: { ...context, ...key } };
}

function checkAnswer(answer) {
  if (answer === null || typeof answer !== "object" || Array.isArray(answer)) throw malformed("no object", "return { principalId, policyDocument }");
  if (new TextEncoder().encode(JSON.stringify(answer)).length > MAX_ANSWER) throw malformed("more than 8 KB", "return less context");
  const { principalId, policyDocument, context } = answer;
  if (principalId === undefined || principalId === null) throw malformed("no principalId", "return { principalId, policyDocument }");
  if (typeof principalId !== "string") throw malformed(`the principalId is a ${typeof principalId}`, "it has to be a string");
  if (principalId === "") throw malformed("the principalId is empty", "it has to name the client");
  const statements = policyDocument?.Statement;
  if (statements === null || typeof statements !== "object") throw malformed("no policyDocument with a Statement", "IAM policies have one");
  for (const [name, value] of Object.entries(context ?? {})) {
    if (!["string", "number", "boolean"].includes(typeof value)) throw malformed(`the context value "${name}", which is no string, number or boolean`, "context is flat");
  }
  return answer;
}

/** Whether a statement allows the handshake and none denies it. */
function allows({ Statement }, arn) {
  const fits = ({ Action, Resource }) => list(Action).some((action) => matches(action, "execute-api:Invoke", true)) && list(Resource).some((resource) => matches(resource, arn));
  const effects = list(Statement).filter((statement) => statement !== null && typeof statement === "object" && fits(statement)).map(({ Effect }) => Effect);
  return effects.includes("Allow") && !effects.includes("Deny");
}

const list = (value) => (Array.isArray(value) ? value : value === undefined ? [] : [value]);

/**
 * Whether a pattern of a policy fits: `*` stands for any run of characters and `?` for one. Of an ARN, region and account
 * are not looked at: a gateway has neither, and policies that were written for AWS name its own.
 */
function matches(pattern, text, ignoreCase) {
  if (typeof pattern !== "string") return false;
  const parts = pattern.split(":");
  const wanted = text.startsWith("arn:") && parts.length >= 6 && parts[0] === "arn" ? ["arn", parts[1], parts[2], ...text.split(":").slice(3, 5), ...parts.slice(5)].join(":") : pattern;
  return glob(ignoreCase ? wanted.toLowerCase() : wanted, ignoreCase ? text.toLowerCase() : text);
}

/** In linear time for one star, and never worse than the product of both lengths. */
function glob(pattern, text) {
  let [at, star, mark] = [0, -1, 0];
  for (let place = 0; place < text.length; ) {
    if (at < pattern.length && (pattern[at] === "?" || (pattern[at] === text[place] && pattern[at] !== "*"))) {
      at += 1;
      place += 1;
    } else if (pattern[at] === "*") {
      star = at;
      mark = place;
      at += 1;
    } else if (star >= 0) {
      at = star + 1;
      mark += 1;
      place = mark;
    } else {
      return false;
    }
  }
  while (pattern[at] === "*") at += 1;
  return at === pattern.length;
}

const malformed = (found, expected) => new Error(`malformed answer of the Lambda authorizer: ${found}; ${expected}`);
