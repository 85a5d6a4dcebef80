// A Lambda authorizer of the type REQUEST: its policy decides as API Gateway evaluates it.

import { Refusal } from "../src/errors.js";

import { authorizerEvent } from "./event.js";
import { asError, invoke } from "./invoke.js";
import { allows } from "./policy.js";

/** Bytes of an answer, as in API Gateway. */
const MAX_ANSWER = 8 << 10;

/** The error by which an authorizer says that the client has not said who it is. */
const UNAUTHORIZED = "Unauthorized";

/** Asks the authorizer about a client. */
export async function authorize(authorizer, connectionId, request) {
  const event = authorizerEvent(connectionId, request);
  // Before the handler has the event, which it may change.
  const asked = { arn: event.methodArn, sourceIp: request.sourceIp, secure: request.secure, at: event.requestContext.requestTimeEpoch };
  let answer;
  try {
    answer = await invoke(authorizer, event, (result) => result);
  } catch (error) {
    if (asError(error).message === UNAUTHORIZED) throw new Refusal(401);
    throw error;
  }
  const { principalId, policyDocument, context, usageIdentifierKey } = checkAnswer(answer);
  if (!allows(policyDocument, asked)) throw new Refusal(403);
  // A stage's `api_key` may look for it among the values.
  const key = usageIdentifierKey ? { usageIdentifierKey } : {};
  return { principal: principalId, values: { ...context, ...key } };
}

function checkAnswer(answer) {
  if (answer === null || typeof answer !== "object" || Array.isArray(answer)) throw malformed("no object", "return { principalId, policyDocument }");
  const text = JSON.stringify(answer);
  if (new TextEncoder().encode(text).length > MAX_ANSWER) throw malformed("more than 8 KB", "return less context");
  // As Lambda passes it on: without members that are undefined.
  const sent = JSON.parse(text);
  const { principalId, policyDocument, context, usageIdentifierKey } = sent;
  if (principalId === undefined || principalId === null) throw malformed("no principalId", "return { principalId, policyDocument }");
  if (typeof principalId !== "string") throw malformed(`the principalId is a ${typeof principalId}`, "it has to be a string");
  if (principalId === "") throw malformed("the principalId is empty", "it has to name the client");
  if (policyDocument?.Statement === undefined) throw malformed("no policyDocument with a Statement", "IAM policies have one");
  if (typeof (usageIdentifierKey ?? "") !== "string") throw malformed(`the usageIdentifierKey is a ${typeof usageIdentifierKey}`, "it has to be a string");
  if (typeof (context ?? {}) !== "object" || Array.isArray(context)) throw malformed("a context that is no object", "context has names and values");
  for (const [name, value] of Object.entries(context ?? {})) {
    if (!["string", "number", "boolean"].includes(typeof value)) throw malformed(`the context value "${name}", which is no string, number or boolean`, "context is flat");
  }
  return sent;
}

const malformed = (found, expected) => new Error(`malformed answer of the Lambda authorizer: ${found}; ${expected}`);
