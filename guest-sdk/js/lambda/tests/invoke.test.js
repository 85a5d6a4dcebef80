// The ways in which a handler answers, as Lambda's Node.js runtime takes them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Gateway } from "../../src/testing/index.js";
import { adapt, handlerIn } from "../adapter.js";

async function replyOf(handler) {
  const gateway = new Gateway(adapt({ "$default": handler }));
  return gateway.message(await gateway.connect(), "x");
}

const OK = { statusCode: 200, body: "ok" };

const WAYS = {
  "a promise": async () => OK,
  "a thenable": () => ({ then: (resolve) => resolve(OK) }),
  "the callback": (event, context, callback) => callback(null, OK),
  "the callback, later": (event, context, callback) => void setImmediate(() => callback(null, OK)),
  "the callback, without waiting for what is left to do": (event, context, callback) => {
    context.callbackWaitsForEmptyEventLoop = false;
    callback(null, OK);
  },
  "the last of several callbacks": (event, context, callback) => {
    callback(null, { body: "first" });
    callback(null, OK);
  },
  "the callback of an async function": async (event, context, callback) => {
    callback(null, OK);
    return new Promise(() => {});
  },
  "context.succeed": (event, context) => context.succeed(OK),
  "context.done": (event, context) => context.done(null, OK),
  "context.done, before the callback": (event, context, callback) => {
    callback(null, { body: "callback" });
    context.done(null, OK);
  },
  "a plain object": () => OK,
};

for (const [way, handler] of Object.entries(WAYS)) {
  test(`handler that answers by ${way} is understood`, async () => {
    assert.equal(await replyOf(handler), "ok");
  });
}

const FAILURES = {
  "throws": () => { throw new Error("no"); },
  "rejects": async () => { throw new Error("no"); },
  "gives the callback an error": (event, context, callback) => callback(new Error("no")),
  "gives the callback a text": (event, context, callback) => callback("no"),
  "calls context.fail": (event, context) => context.fail(new Error("no")),
  "calls context.done with an error": (event, context) => context.done("no"),
};

for (const [what, handler] of Object.entries(FAILURES)) {
  test(`handler that ${what} fails`, async () => {
    await assert.rejects(replyOf(handler), /^Error: no$/);
  });
}

test("handler that returns and calls nothing answers nothing", async () => {
  assert.equal(await replyOf(() => {}), undefined);
  // As a request of the AWS SDK v2 is: an object of a class, and no promise.
  assert.equal(await replyOf(() => new (class Request {})()), undefined);
});

test("context has the fields of Lambda's", async () => {
  let context;
  let left;
  await replyOf(async (event, given) => {
    context = given;
    left = given.getRemainingTimeInMillis();
  });
  assert.match(context.awsRequestId, /^request-/);
  assert.equal(context.functionName, "api");
  assert.equal(context.functionVersion, "$LATEST");
  assert.match(context.invokedFunctionArn, /^arn:aws:lambda:us-east-1:000000000000:function:api$/);
  assert.equal(context.memoryLimitInMB, "64");
  assert.equal(context.callbackWaitsForEmptyEventLoop, true);
  assert.equal(left, 3_000);
});

test("setting names a function, nested ones too", () => {
  const handler = () => {};
  assert.equal(handlerIn({ handler }, "handler", "index.handler"), handler);
  assert.equal(handlerIn({ api: { handler } }, "api.handler", "index.api.handler"), handler);
  assert.equal(handlerIn({ default: { handler } }, "handler", "index.handler"), handler);
  assert.throws(() => handlerIn({ main: handler, default: {} }, "handler", "index.handler"), /names "index.handler", and the module exports main, but no function "handler"/);
});
