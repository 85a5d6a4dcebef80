// Calls a handler as Lambda's Node.js runtime does: it answers by a promise, by the callback or by the context.

import { idle } from "#gateway/idle";
import { environment } from "#host/environment";

/** Milliseconds of `limits.deadline_ms` unless configured. */
const DEADLINE = 3_000;

/** Gives the handler's answer; null when it has nothing left to do and gave none. */
export function invoke(handler, event) {
  return new Promise((resolve, reject) => {
    let waits = true;
    let answer = null;
    const end = (error, result) => (error === undefined || error === null ? resolve(result) : reject(asError(error)));
    const callback = (error, result) => {
      if (!waits || (error !== undefined && error !== null)) return end(error, result);
      answer = result;
      return void idle().then(() => resolve(answer));
    };
    const fail = (error) => reject(asError(error ?? "handled"));
    const { requestId, requestTimeEpoch, apiId } = event.requestContext;
    const context = {
      ...functionFacts(apiId),
      awsRequestId: requestId,
      getRemainingTimeInMillis: () => Math.max(0, requestTimeEpoch + deadline - Date.now()),
      get callbackWaitsForEmptyEventLoop() {
        return waits;
      },
      set callbackWaitsForEmptyEventLoop(value) {
        waits = Boolean(value);
      },
      done: end,
      succeed: resolve,
      fail,
    };
    const returned = handler(event, context, callback);
    if (typeof returned?.then === "function") returned.then(resolve, fail);
    else void idle().then(() => resolve(answer ?? plainObject(returned)));
  });
}

/** The facts about the function of an API, once an instance has made them; and its deadline. */
let facts;
let deadline;

/** What Lambda's context says of the function, from the gateway and from the variables that Lambda sets. */
function functionFacts(api) {
  if (facts?.api === api) return facts.context;
  const env = Object.fromEntries(environment());
  const functionName = env.AWS_LAMBDA_FUNCTION_NAME ?? api;
  const functionVersion = env.AWS_LAMBDA_FUNCTION_VERSION ?? "$LATEST";
  deadline = Number(env.LOCKGATE_DEADLINE_MS) || DEADLINE;
  const context = {
    functionName,
    functionVersion,
    invokedFunctionArn: `arn:aws:lambda:${env.AWS_REGION ?? "us-east-1"}:000000000000:function:${functionName}`,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE ?? "64",
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME ?? `/aws/lambda/${functionName}`,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME ?? functionVersion,
  };
  facts = { api, context };
  return context;
}

/** Lambda drops what a handler returns that is no promise; here an answer counts. Requests of the AWS SDK do not. */
function plainObject(returned) {
  return returned && Object.getPrototypeOf(returned) === Object.prototype ? returned : null;
}

/** Any value may be thrown or given to the callback. */
function asError(error) {
  return error instanceof Error ? error : new Error(typeof error === "string" ? error : (JSON.stringify(error) ?? String(error)));
}
