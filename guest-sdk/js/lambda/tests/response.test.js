// The answers of a handler and their effect, as API Gateway judges a proxy response (docs/api-gateway.md).

import assert from "node:assert/strict";
import { test } from "node:test";

import { Gateway } from "../../src/testing/index.js";
import { adapt } from "../adapter.js";

/** A gateway whose `$connect` lets everyone in, and whose other routes answer so. */
function answering(answer) {
  return new Gateway(adapt(async (event) => (event.requestContext.eventType === "CONNECT" ? { statusCode: 200 } : answer)));
}

/** What `$connect` does with a client when the handler answers so. */
async function connectWith(answer, request = {}) {
  return new Gateway(adapt(async () => answer)).connect(request);
}

async function replyTo(answer) {
  const gateway = answering(answer);
  return gateway.message(await gateway.connect(), "x");
}

const refused = (status, text) => (error) => {
  assert.equal(error.status, status);
  assert.equal(error.text, text);
  return true;
};

for (const answer of [{ statusCode: 200 }, { statusCode: 201 }, {}, { statusCode: "200" }, { statusCode: 204, body: "" }, { statusCode: 200, body: null, headers: undefined }]) {
  test(`$connect: ${JSON.stringify(answer)} lets the client in`, async () => {
    assert.match(await connectWith(answer), /^connection-/);
  });
}

for (const [answer, status, text] of [
  [{ statusCode: 401 }, 401, undefined],
  [{ statusCode: 403, body: "not you" }, 403, "not you"],
  [{ statusCode: 501, body: '{"message":"later"}' }, 501, "later"],
  [{ statusCode: 400, body: '{"error":"x"}' }, 400, '{"error":"x"}'],
  [{ statusCode: 301 }, 301, undefined],
  // Malformed, and so 502.
  [undefined, 502, "Internal server error"],
  [null, 502, "Internal server error"],
  ["ok", 502, "Internal server error"],
  [[], 502, "Internal server error"],
  [{ statusCode: 200, ok: true }, 502, "Internal server error"],
  [{ statusCode: 100 }, 502, "Internal server error"],
  [{ statusCode: 700 }, 502, "Internal server error"],
  [{ statusCode: 200, body: {} }, 502, "Internal server error"],
  [{ statusCode: 200, headers: [] }, 502, "Internal server error"],
]) {
  test(`$connect: ${JSON.stringify(answer)} refuses the client with ${status}`, async () => {
    await assert.rejects(connectWith(answer), refused(status, text));
  });
}

test("$connect: a throw is 502, and the client learns nothing of it", async () => {
  const gateway = new Gateway(adapt(async () => { throw new Error("secret"); }));
  await assert.rejects(gateway.connect(), (error) => error.status === 502 && error.text === "Internal server error" && error.cause.message === "secret");
});

test("$connect: the subprotocol of the headers is chosen, and headers that are the gateway's own are left out", async () => {
  const answer = { statusCode: 200, headers: { "sec-websocket-protocol": "two", "Content-Length": 0, "Connection": "close", "X-Room": 7 } };
  const gateway = new Gateway(adapt(async () => answer));
  const id = await gateway.connect({ subprotocols: ["one", "two"] });
  assert.match(id, /^connection-/);
  await assert.rejects(connectWith(answer, { subprotocols: ["one"] }), refused(502, undefined));
});

test("$connect: a name in multiValueHeaders counts before the one in headers", async () => {
  const answer = { statusCode: 200, headers: { "Sec-WebSocket-Protocol": "one" }, multiValueHeaders: { "Sec-WebSocket-Protocol": ["two"] } };
  assert.match(await connectWith(answer, { subprotocols: ["two"] }), /^connection-/);
});

test("two-way: the body is the reply, whatever the status", async () => {
  assert.equal(await replyTo({ statusCode: 200, body: "hello" }), "hello");
  assert.equal(await replyTo({ statusCode: 500, body: "still sent" }), "still sent");
  assert.equal(await replyTo({ body: "" }), "");
});

test("two-way: base64 becomes a binary message", async () => {
  assert.deepEqual(await replyTo({ statusCode: 200, body: "AAH/", isBase64Encoded: true }), Uint8Array.of(0, 1, 255));
});

test("message: nothing to say is no error", async () => {
  for (const answer of [undefined, null, { statusCode: 200 }, { statusCode: 200, body: null }, {}]) assert.equal(await replyTo(answer), undefined);
});

for (const [answer, reason] of [
  ["text", /answered with a string; it has to be an object/],
  [[1], /an array/],
  [{ ConnectionId: "x", Data: "y" }, /an object with "ConnectionId"; it has no keys but statusCode/],
  [{ statusCode: 200, body: { a: 1 } }, /a body that is of the type object; it has to be a string: JSON.stringify/],
  [{ statusCode: 200, body: 7 }, /of the type number/],
  [{ statusCode: "ok" }, /the status "ok"/],
  [{ statusCode: 200, body: "?", isBase64Encoded: true }, /not base64/],
  [{ statusCode: 200, isBase64Encoded: "true" }, /isBase64Encoded/],
]) {
  test(`message: ${JSON.stringify(answer)} is malformed, which is a failure`, async () => {
    await assert.rejects(replyTo(answer), reason);
  });
}

test("$disconnect: a malformed answer and a throw are failures for the log", async () => {
  const gateway = answering({ wrong: 1 });
  const id = await gateway.connect();
  await assert.rejects(gateway.disconnect(id), /malformed/);
});

test("routes: each has its handler; without one for $connect and $disconnect clients come and go", async () => {
  const gateway = new Gateway(adapt({ "$default": async () => ({ body: "default" }), "join": async () => ({ body: "join" }) }));
  const id = await gateway.connect();
  assert.equal(await gateway.message(id, "x"), "default");
  assert.equal(await gateway.messageOn("join", id, "x"), "join");
  await assert.rejects(gateway.messageOn("leave", id, "x"), /no handler for the route "leave": package.json names those of \$default, join/);
  await gateway.disconnect(id);
});
