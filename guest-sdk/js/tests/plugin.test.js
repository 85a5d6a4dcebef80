// `define`, the answers of a handler, and the gateway for tests.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connections, context, define, GatewayError, groups, json, parseJson, Refusal } from "../src/index.js";
import { describe } from "../platform/log.js";
import { acceptance, identity, identityValues, refusal, reply } from "../src/answers.js";
import { Gateway } from "../src/testing/index.js";

test("define takes the three events and nothing else", () => {
  assert.throws(() => define(), /define takes an object/);
  assert.throws(() => define({ onMessage() {} }), /there is no event "onMessage"; the events are connect, message, disconnect/);
  assert.throws(() => define({ message: "hi" }), /message is string and not a function/);
  assert.throws(() => new Gateway({ message() {} }), /has to export default define/);
});

test("a wrong answer says what was returned and what is expected", () => {
  for (const [answer, said] of [
    [7, "message: the returned value is a number; a message is a string or a Uint8Array"],
    [{ a: 1 }, "message: the returned value is an object; a message is a string or a Uint8Array; send an object as json(value)"],
    [[1], "is an array"],
    [new Map(), "is an object of Map"],
    [() => {}, "is a function"],
    [true, "is a boolean"],
  ]) {
    assert.throws(() => reply(answer), ({ message }) => message.includes(said), said);
  }
  for (const [answer, said] of [
    ["yes", "connect returned a string; connect returns nothing, { subprotocol, headers } or a Refusal"],
    [{ status: 200 }, 'connect returned an object with "status"'],
    [{ subprotocol: 7 }, "a subprotocol that is a number"],
    [{ headers: { a: null } }, 'a header "a" that is null'],
    [{ headers: ["a"] }, "a header that is a string"],
  ]) {
    assert.throws(() => acceptance(answer), ({ message }) => message.includes(said), said);
  }
});

test("messages may be bytes in any form", () => {
  const bytes = new Uint8Array([1, 2, 3]);
  for (const form of [bytes, bytes.buffer, Buffer.from(bytes), new DataView(bytes.buffer), new Uint16Array([513]).subarray(0, 1)]) {
    assert.equal(reply(form).tag, "binary");
  }
  assert.deepEqual([...reply(new DataView(bytes.buffer, 1)).val], [2, 3]);
  assert.equal(reply(undefined), undefined);
  assert.equal(reply(null), undefined);
});

test("a refusal has its status and text, and any other throw is 500 and logged", () => {
  assert.deepEqual(refusal(new Refusal(403, "no")), { status: 403, message: "no", cause: undefined });
  assert.deepEqual(refusal(new Refusal(401)), { status: 401, message: undefined, cause: undefined });
  const error = new Error("x");
  assert.deepEqual(refusal(error), { status: 500, message: undefined, cause: error });
  assert.equal(refusal(new Refusal(200)).status, 500);
  assert.equal(refusal(new Refusal(200)).message, undefined);
  // It is told from an error by its text.
  assert.equal(refusal(new Refusal(500)).message, "Internal Server Error");
  assert.match(refusal(new Refusal(200)).cause.message, /has to be 300 to 599/);
  assert.match(refusal(new Refusal("403")).cause.message, /status a string/);
});

test("json and parseJson refuse what is no JSON", () => {
  assert.equal(json({ a: 1 }), '{"a":1}');
  assert.throws(() => json(undefined), /undefined has no JSON/);
  assert.deepEqual(parseJson("[1]"), [1]);
  assert.throws(() => parseJson(new Uint8Array(1)), /the message is binary/);
});

/** A plugin that does what a message says, as `[function, …arguments]`. */
const commands = define({
  connect({ connectionId }, handshake) {
    if (handshake.queryParameter("refuse")) throw new Refusal(403, "not you", { cause: "why" });
    groups.join("all", connectionId);
    connections.send(connectionId, "welcome");
    return { subprotocol: handshake.subprotocols[0] };
  },
  async message(event, message) {
    await null;
    const [name, ...words] = parseJson(message);
    const all = { ...connections, ...groups, ...context, event: () => event };
    const found = all[name](...words.map((word) => (word === "me" ? event.connectionId : word)));
    return found === undefined ? undefined : json(found);
  },
  disconnect({ connectionId }) {
    for (const id of groups.members("all")) connections.send(id, `${connectionId} left as ${connections.attribute(connectionId, "name")}`);
  },
});

const call = async (gateway, id, ...words) => {
  const answer = await gateway.message(id, JSON.stringify(words));
  return answer === undefined ? undefined : JSON.parse(answer);
};

test("half a surrogate pair is replaced wherever a text goes to the gateway", async () => {
  const gateway = new Gateway(commands);
  const ada = await gateway.connect();
  gateway.received(ada);
  await call(gateway, ada, "setAttribute", "me", "n\ud800", "v\udc00");
  assert.deepEqual(gateway.attributes(ada), { "n\ufffd": "v\ufffd" });
  await call(gateway, ada, "join", "g\ud800", "me");
  assert.equal(await call(gateway, ada, "count", "g\ufffd"), 1);
  await call(gateway, ada, "publish", "all", "t\ud800");
  assert.deepEqual(gateway.received(ada), ["t\ufffd"]);
});

test("half a surrogate pair is replaced in every answer of a handler", () => {
  const half = "x\ud800";
  for (const [name, answer] of Object.entries({
    subprotocol: acceptance({ subprotocol: half }),
    headers: acceptance({ headers: { [half]: half } }),
    pairs: acceptance({ headers: [[half, half]] }),
    refusal: refusal(new Refusal(403, half)).message,
    reply: reply(half),
    name: identity(half),
    identity: identity({ principal: half, values: { [half]: half }, scopes: [half] }),
    values: identityValues("a value", { [half]: half }),
    failure: describe(new Error(half)),
    thrown: describe(half),
  })) {
    const told = JSON.stringify(answer);
    assert.ok(told.includes("x\ufffd") && !told.includes("\\ud800"), `${name}: ${told}`);
  }
});

test("an error is described in a few lines, whatever it is", () => {
  const round = new Error("round");
  round.cause = round;
  assert.equal(describe(round).split("the cause").length, 8 + 1);
  const wide = new AggregateError(Array(1000).fill(new AggregateError(Array(1000).fill("x"), "in")), "out");
  assert.ok(describe(wide).length < 8192);
  const long = describe(new Error(`${"x".repeat(8191 - "Error: ".length)}🎉`));
  assert.ok(long.isWellFormed?.() ?? true);
  assert.equal(long.length, 8193);
  assert.equal(describe(Object.defineProperty(new Error("x"), "stack", { get() { throw 3; } })), "an error that cannot be shown");
});

test("the gateway for tests answers as the real one under its defaults", async () => {
  const gateway = new Gateway(commands).variable("colour", "red");
  const ada = await gateway.connect({ subprotocols: ["v2"] });
  const bob = await gateway.identify("bob", { seats: 3, admin: true, team: "x" }).connect();
  assert.deepEqual(gateway.received(ada), ["welcome"]);
  assert.deepEqual(await call(gateway, ada, "members", "all"), [ada, bob]);
  assert.deepEqual(await call(gateway, ada, "members", "all", { after: ada, limit: 1 }), [bob]);
  assert.equal(await call(gateway, ada, "publish", "all", "hi", { exclude: ada }), 1);
  assert.deepEqual(gateway.received(bob), ["welcome", "hi"]);
  assert.equal(await call(gateway, ada, "count", "none"), 0);
  await call(gateway, ada, "setAttribute", "me", "name", "ada");
  assert.equal(await call(gateway, ada, "attribute", "me", "name"), "ada");
  assert.deepEqual(gateway.attributes(ada), { name: "ada" });
  assert.equal((await call(gateway, ada, "info", "me")).subprotocol, "v2");
  assert.deepEqual(await call(gateway, bob, "authorizer"), { admin: true, seats: 3, team: "x" });
  assert.equal(await call(gateway, bob, "principal"), "bob");
  assert.equal(await call(gateway, ada, "principal"), undefined);
  assert.deepEqual(await call(gateway, ada, "variables"), { colour: "red" });
  assert.match((await call(gateway, ada, "current")).messageId, /^message-/);
  assert.equal(await call(gateway, ada, "timeLeft"), 3000);
  await gateway.disconnect(ada);
  assert.deepEqual(gateway.received(bob), [`${ada} left as ada`]);
  await assert.rejects(gateway.message(ada, "[]"), /has ended/);
});

test("the gateway for tests fails as the real one", async () => {
  const gateway = new Gateway(commands);
  await assert.rejects(gateway.connect({ query: { refuse: "1" } }), (error) => error instanceof Refusal && error.status === 403 && error.cause === "why");
  const ada = await gateway.connect();
  const bob = await gateway.connect();
  const fails = (code, ...words) => assert.rejects(call(gateway, ada, ...words), (error) => error instanceof GatewayError && error.code === code, `${words}`);
  await fails("gone", "send", "nobody", "x");
  await fails("invalid", "close", bob, 1005);
  await fails("invalid", "close", bob, 1000, "x".repeat(124));
  await fails("invalid", "setAttribute", "me", "", "x");
  await fails("too-large", "setAttribute", "me", "a", "x".repeat(4096));
  await fails("invalid", "join", "", "me");
  await fails("invalid", "members", "all", { limit: 1001 });
  const eve = await gateway.connect();
  await assert.rejects(gateway.message(eve, "x".repeat(131_073)), /closed with 1009/);
  gateway.fail(bob, "busy");
  await fails("busy", "send", bob, "x");
  assert.equal(await call(gateway, ada, "publish", "all", "x"), 1);
  assert.deepEqual(gateway.closing(bob), { code: 1013, reason: "slow consumer" });
  await assert.rejects(call(gateway, ada, "send", 7, "x"), /connections.send: the connection id is a number; it has to be a string/);
  await assert.rejects(call(gateway, ada, "send", bob, { a: 1 }), /connections.send: the message is an object/);
  await assert.rejects(call(gateway, ada, "close", bob, "1000"), /the code is a string/);
  assert.throws(() => connections.send("x", "y"), /connections.send was called where no gateway is/);
});

test("two gateways run at the same time, each with its own state", async () => {
  const gateways = [new Gateway(commands), new Gateway(commands)];
  const ids = await Promise.all(gateways.map((gateway) => gateway.connect()));
  await Promise.all(gateways.map((gateway, at) => call(gateway, ids[at], "setAttribute", "me", "at", String(at))));
  assert.deepEqual(gateways.map((gateway, at) => gateway.attributes(ids[at])), [{ at: "0" }, { at: "1" }]);
});

test("the group of a principal has its connections, and nobody joins or leaves it", async () => {
  const plugin = define({
    message(event, message) {
      const group = groups.ofPrincipal(context.principal());
      for (const act of [groups.join, groups.leave]) assert.throws(() => act(group, event.connectionId), ({ code }) => code === "invalid");
      return String(groups.publish(group, message));
    },
  });
  const gateway = new Gateway(plugin);
  gateway.identify("ada");
  const own = [await gateway.connect(), await gateway.connect()];
  gateway.identify("bob");
  const bob = await gateway.connect();
  assert.equal(await gateway.message(own[0], "hello"), "2");
  assert.deepEqual(gateway.received(own[1]), ["hello"]);
  assert.deepEqual(gateway.received(bob), []);
});

test("a datagram is a message that says so and waits nowhere", async () => {
  const gateway = new Gateway(
    define({
      connect({ connectionId }) {
        try {
          connections.sendDatagram(connectionId, new Uint8Array([0]));
        } catch (error) {
          assert.equal(error.code, "denied");
        }
      },
      message({ connectionId }, message) {
        connections.sendDatagram(connectionId, message);
        return String(context.isDatagram());
      },
    }),
  );
  const bytes = new Uint8Array([1, 2, 3]);
  const ada = await gateway.connect();
  await assert.rejects(gateway.message(ada, bytes), { code: "denied" });
  gateway.takeDatagrams();
  await assert.rejects(gateway.message(ada, bytes), { code: "invalid", reason: /no datagrams/ });
  const bob = await gateway.connect();
  assert.equal(await gateway.datagram(bob, bytes.buffer), "true");
  assert.equal(await gateway.message(bob, bytes), "false");
  assert.deepEqual(gateway.receivedDatagrams(bob), [bytes, bytes]);
  assert.deepEqual(gateway.received(bob), []);
  await assert.rejects(gateway.message(bob, new Uint8Array(1_201)), { code: "too-large" });
  await assert.rejects(gateway.message(bob, "text"), /a datagram has bytes/);
  assert.deepEqual(gateway.calls()[0], { call: "sendDatagram", to: ada, payload: new Uint8Array([0]) });
  await assert.rejects(gateway.datagram(ada, bytes), /takeDatagrams/);
});
