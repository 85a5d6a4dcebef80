// A plugin that decides who may connect.

import assert from "node:assert/strict";
import { test } from "node:test";

import { context, define, Refusal } from "../src/index.js";
import { Gateway } from "../src/testing/index.js";

const decided = (answer) => new Gateway(define({ authorize: () => answer })).authorize();

test("authorize: gives an identity, whole or by its name", async () => {
  const none = { principal: undefined, values: {}, scopes: [], expiresAt: undefined };
  assert.deepEqual(await decided("ada"), { ...none, principal: "ada" });
  assert.deepEqual(await decided({}), none);
  const whole = { principal: "ada", values: { plan: "gold", age: 36.5, staff: true }, scopes: ["write"], expiresAt: 1_700_000_000_000 };
  assert.deepEqual(await decided(whole), whole);
  assert.deepEqual(await decided({ ...whole, scopes: new Set(["write"]), expiresAt: new Date(whole.expiresAt) }), whole);
});

test("authorize: sees the request and its circumstances, and is awaited", async () => {
  const gateway = new Gateway(
    define({
      async authorize(id, request) {
        if (request.queryParameter("ticket") !== "swordfish") throw new Refusal(401);
        return { principal: id, values: { stage: context.current().stage, known: context.principal() !== undefined } };
      },
    }),
  );
  const { principal, values } = await gateway.authorize({ query: { ticket: "swordfish" } });
  assert.match(principal, /^connection-/);
  assert.deepEqual(values, { stage: "stage", known: false });
  await assert.rejects(gateway.authorize(), { status: 401 });
});

test("authorize: an answer that is none refuses with 500 and says why", async () => {
  for (const [answer, why] of [
    [undefined, /returned/], [null, /returned/], [true, /returned/], [["ada"], /returned/], [{ name: "ada" }, /"name"/], [{ principal: 7 }, /principal/],
    [{ values: { a: {} } }, /value "a"/], [{ scopes: [1] }, /scope/], [{ expiresAt: "soon" }, /expiresAt/], [{ expiresAt: -1 }, /expiresAt that is -1;/], [{ expiresAt: new Date(NaN) }, /expiresAt that is Invalid Date;/],
  ]) {
    await assert.rejects(decided(answer), ({ status, cause }) => status === 500 && why.test(cause.message), JSON.stringify(answer));
  }
  await assert.rejects(decided(new Refusal(403, "not you")), { status: 403, message: "not you" });
});

test("authorize: is optional, and a gateway without it says so", async () => {
  await assert.rejects(new Gateway(define({})).authorize(), /no authorize/);
});

const FAR = 253_402_300_800_000;

test("renew: renews what let the client in, and tells of what is none", async () => {
  let renewing = () => context.renew(FAR);
  const gateway = new Gateway(define({ message: () => renewing(), connect: (event, { query }) => (query.length > 0 ? renewing() : undefined) }));
  const anyone = await gateway.connect();
  await assert.rejects(gateway.message(anyone, ""), { code: "denied" });
  gateway.identify("ada", { plan: "gold" });
  await assert.rejects(gateway.connect({ query: { early: "" } }), ({ cause }) => cause.code === "denied");
  const ada = await gateway.connect();
  for (const [words, error] of [
    [[1_700_000_000], { code: "invalid", reason: /milliseconds/ }], [[FAR, { "": 1 }], { code: "invalid", reason: /no name/ }],
    [[FAR, { a: NaN }], { code: "invalid", reason: /finite/ }], [[FAR, { a: "x".repeat(8 << 10) }], { code: "too-large" }],
    [[], /the time is missing/], [["soon"], /the time is/], [[2 ** 53], /the time is/], [[FAR, { a: [] }], /value "a" that is/],
  ]) {
    renewing = () => context.renew(...words);
    await assert.rejects(gateway.message(ada, ""), error);
  }
  assert.equal(gateway.expiresAt(ada), undefined);
  renewing = () => JSON.stringify([context.renew(new Date(FAR)) ?? null, context.authorizer()]);
  assert.equal(await gateway.message(ada, ""), '[null,{"plan":"gold"}]');
  renewing = () => JSON.stringify([context.renew(FAR - 1, { age: 36.5 }) ?? null, context.authorizer(), context.principal()]);
  assert.equal(await gateway.message(ada, ""), '[null,{"age":36.5},"ada"]');
  assert.equal(gateway.expiresAt(ada), FAR - 1);
});
