// Calls a handler as Lambda's Node.js runtime does: it answers by a promise, by the callback or by the context.

import { fulfilledValue } from "../platform/promise.js";
import { timeLeft } from "../src/context.js";

import { idle } from "#gateway/idle";
import { environment } from "#host/environment";

/** Calls a handler, and gives what `finish` makes of its answer: null when it has nothing left to do and gave none. */
export function invoke(handler, event, finish) {
  const call = new Call();
  const context = contextOf(event.requestContext, call);
  const returned = handler(event, context, (error, result) => call.back(error, result, context.callbackWaitsForEmptyEventLoop));
  const isPromise = typeof returned?.then === "function";
  // Without a callback only the promise can be the end, and a second one would cost time.
  if (isPromise && handler.length < 3) {
    const result = fulfilledValue(returned);
    // Most handlers that await nothing have their answer already.
    return result === returned ? returned.then((result) => finish(call.answer(result))) : finish(call.answer(result));
  }
  if (isPromise) returned.then((result) => call.end(null, result), (error) => call.end(error ?? "handled"));
  else void idle().then(() => call.end(null, call.last ?? plainObject(returned)));
  return call.ended().then(() => finish(call.answer()));
}

/** Lambda's context. The call does not refer to it: circles wait for the engine's collector, which stops everything. */
function contextOf({ requestId, apiId }, call) {
  const { functionName, functionVersion, invokedFunctionArn, memoryLimitInMB, logGroupName, logStreamName } = functionFacts(apiId);
  return {
    functionName,
    functionVersion,
    invokedFunctionArn,
    memoryLimitInMB,
    logGroupName,
    logStreamName,
    awsRequestId: requestId,
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: timeLeft,
    done: (error, result) => call.end(error, result),
    succeed: (result) => call.end(null, result),
    fail: (error) => call.end(error ?? "handled"),
  };
}

/** A call of a handler. Its first end counts. */
class Call {
  /** What the last callback gave, which counts when nothing is left to do. */
  last = null;
  #end;
  #whenEnded;

  end(error, result) {
    this.#end ??= { error, result };
    this.#whenEnded?.();
  }

  back(error, result, waits) {
    if (!waits || (error !== undefined && error !== null)) return this.end(error, result);
    this.last = result;
    return void idle().then(() => this.end(null, this.last));
  }

  ended() {
    return new Promise((resolve) => {
      if (this.#end) return resolve();
      this.#whenEnded = resolve;
    });
  }

  /** The answer, or `result` if the handler has not ended in another way. */
  answer(result) {
    if (this.#end === undefined) return result;
    const { error } = this.#end;
    if (error !== undefined && error !== null) throw asError(error);
    return this.#end.result;
  }
}

/** The facts about the function of an API, once an instance has made them. */
let facts;

/** What Lambda's context says of the function, from the gateway and from the variables that Lambda sets. */
function functionFacts(api) {
  if (facts?.api === api) return facts.context;
  const env = Object.fromEntries(environment());
  const functionName = env.AWS_LAMBDA_FUNCTION_NAME ?? api;
  const functionVersion = env.AWS_LAMBDA_FUNCTION_VERSION ?? "$LATEST";
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

/** Any value may be thrown or given to the callback: a text is the message, as in Lambda. */
export function asError(error) {
  return error instanceof Error ? error : new Error(typeof error === "string" ? error : (JSON.stringify(error) ?? String(error)));
}
