// The globals and modules of the platform beside Node's own.

import assert from "node:assert/strict";
import * as nodeCrypto from "node:crypto";
import { test } from "node:test";
import { format as nodeFormat, inspect as nodeInspect } from "node:util";

import { crypto } from "../platform/crypto.js";
import * as events from "../platform/events.js";
import { format, inspect } from "../platform/inspect.js";
import { isTooDeep } from "../platform/json.js";
import { frames, located } from "../platform/lines.js";
import { phase } from "../platform/phase.js";
import { utf8 } from "../platform/host/utf8.js";
import ourCrypto from "../platform/node/crypto.js";
import { AsyncLocalStorage } from "../platform/node/async_hooks.js";
import { encode } from "../build/lines.js";

phase.loading = false;

test("values are shown as Node shows them", () => {
  const circular = { name: "me" };
  circular.self = circular;
  class Member { id = 1; }
  const values = [
    "text", 7, -0, 10n, null, undefined, true, Symbol("s"), [1, "a", [2]], {}, [], { a: 1, "b-c": "it's", nested: { deep: { deeper: { deepest: 1 } } } },
    new Map([["a", { b: 1 }]]), new Set([1, "x"]), new Member(), new Date(0), /x/g, new Uint8Array([1, 2]), Object.create(null), () => {}, class A {}, function named() {},
    "a\nb", { get x() { return 1; } }, [undefined, null], "x".repeat(200), Array.from({ length: 3 }, (_, at) => ({ at })),
  ];
  for (const value of values) assert.equal(inspect(value), nodeInspect(value));
  assert.match(inspect(circular), /Circular/);
});

test("console's formats are Node's", () => {
  for (const words of [["%s is %d years and %i days, %j", "ada", 36, 3.7, { a: 1 }], ["100%", 1], ["%%s", 1], ["a", { b: 1 }, "c"], ["%o"], ["%c css", "x"], [1, "a"]]) {
    assert.equal(format(...words), nodeFormat(...words));
  }
});

test("only JSON that is nested deep is too deep", () => {
  const open = (count) => "[".repeat(count);
  for (const [text, tooDeep] of [
    ["", false],
    [open(1000) + "]".repeat(1000), false],
    [open(1001), true],
    ['{"a":'.repeat(600) + open(600), true],
    [`["${open(5000)}"]`, false],
    [`["\\"${open(5000)}"]`, false],
    [`[${"[],".repeat(5000)}[]]`, false],
  ]) {
    assert.equal(isTooDeep(text), tooDeep, text.slice(0, 20));
  }
});

test("UTF-8 is as it has to be", () => {
  // Node 20 does not have it.
  Uint8Array.fromBase64 ??= (text) => new Uint8Array(Buffer.from(text, "base64"));
  for (const text of ["", "plain", "héllo", "€", "🎉🎉", "\u0000", "a\ud800b", "\udc00"]) {
    assert.deepEqual(Buffer.from(utf8(text)), Buffer.from(text.toWellFormed?.() ?? text));
  }
});

test("digests, HMAC and derived keys are Node's", async () => {
  for (const name of ["md5", "sha1", "sha256", "sha384", "sha512", "SHA-256"]) {
    const theirs = nodeCrypto.createHash(name.replace("SHA-256", "sha256")).update("hello").update(Buffer.from([1, 2])).digest("hex");
    assert.equal(ourCrypto.createHash(name).update("hello").update(Buffer.from([1, 2])).digest("hex"), theirs);
  }
  for (const encoding of ["hex", "base64", "base64url"]) {
    assert.equal(ourCrypto.createHmac("sha256", "key").update("data").digest(encoding), nodeCrypto.createHmac("sha256", "key").update("data").digest(encoding));
  }
  assert.deepEqual(ourCrypto.pbkdf2Sync("p", "s", 3, 20, "sha256").toString("hex"), nodeCrypto.pbkdf2Sync("p", "s", 3, 20, "sha256").toString("hex"));
  assert.deepEqual(ourCrypto.hkdfSync("sha256", "k", "s", "i", 20), nodeCrypto.hkdfSync("sha256", "k", "s", "i", 20));
  const key = await crypto.subtle.importKey("raw", Buffer.from("key"), { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]);
  const signature = await crypto.subtle.sign("HMAC", key, Buffer.from("data"));
  assert.equal(Buffer.from(signature).toString("hex"), nodeCrypto.createHmac("sha256", "key").update("data").digest("hex"));
  assert.equal(await crypto.subtle.verify("HMAC", key, signature, Buffer.from("data")), true);
  assert.equal(await crypto.subtle.verify("HMAC", key, signature, Buffer.from("datb")), false);
  assert.equal(Buffer.from(await crypto.subtle.digest("SHA-1", Buffer.from("x"))).toString("hex"), nodeCrypto.createHash("sha1").update("x").digest("hex"));
  assert.throws(() => ourCrypto.createHash("whirlpool"), /no hash "whirlpool" in a plugin; it has md5/);
});

test("random values differ and have the right form", () => {
  assert.match(crypto.randomUUID(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.notEqual(crypto.randomUUID(), crypto.randomUUID());
  const numbers = Array.from({ length: 2000 }, () => ourCrypto.randomInt(3, 6));
  assert.deepEqual([...new Set(numbers)].sort(), [3, 4, 5]);
  assert.throws(() => crypto.getRandomValues(new Float64Array(1)), { name: "TypeMismatchError" });
  assert.throws(() => crypto.getRandomValues(new Uint8Array(65_537)), { name: "QuotaExceededError" });
});

test("events reach listeners as the DOM has it", () => {
  const logs = [globalThis, events].map(({ Event, EventTarget, AbortController }) => {
    const log = [];
    const target = new EventTarget();
    const remove = (event) => log.push(`remove ${event.type}`);
    target.addEventListener("a", (event) => { log.push(`first ${event.target === target}`); target.removeEventListener("a", remove); });
    target.addEventListener("a", remove);
    target.addEventListener("a", { handleEvent: () => log.push("object") }, { once: true });
    const controller = new AbortController();
    target.addEventListener("a", () => log.push("signal"), { signal: controller.signal });
    target.addEventListener("a", (event) => { event.preventDefault(); event.stopImmediatePropagation(); log.push("stop"); });
    target.addEventListener("a", () => log.push("never"));
    log.push(target.dispatchEvent(new Event("a", { cancelable: true })));
    controller.abort();
    log.push(target.dispatchEvent(new Event("a")));
    return log;
  });
  assert.deepEqual(logs[1], logs[0]);
});

test("an aborted signal tells its listeners and its dependents, once", () => {
  const logs = [globalThis, events].map(({ AbortController, AbortSignal }) => {
    const log = [];
    const controller = new AbortController();
    const any = AbortSignal.any([new AbortController().signal, controller.signal]);
    any.addEventListener("abort", () => log.push(`any ${any.reason.message}`));
    controller.signal.onabort = ({ type }) => log.push(type);
    controller.abort(new Error("why"));
    controller.abort(new Error("again"));
    try { any.throwIfAborted(); } catch (error) { log.push(error.message); }
    log.push(AbortSignal.abort().reason.name);
    try { new AbortSignal(); } catch (error) { log.push(error.constructor.name); }
    return log;
  });
  assert.deepEqual(logs[1], logs[0]);
});

test("an AsyncLocalStorage has the store of its own call", () => {
  const storage = new AsyncLocalStorage();
  storage.run("outer", () => {
    storage.run("inner", () => assert.equal(storage.getStore(), "inner"));
    assert.equal(storage.getStore(), "outer");
    storage.exit(() => assert.equal(storage.getStore(), undefined));
  });
  assert.equal(storage.getStore(), undefined);
});

test("a place of the bundle becomes the author's, and other frames are left out", () => {
  // Two sources; line 1 of the bundle has none, 40 lines after it come from a.ts, then one from the SDK.
  const mappings = ["", ...Array.from({ length: 40 }, (_, at) => (at === 0 ? "AAAA" : "AACA")), "ACAA"].join(";");
  const table = encode({ sources: ["a.ts", "sdk.js"], mappings }, (name) => (name === "sdk.js" ? null : name));
  const stack = "Error: x\n    at f (componentize-qjs:user.js:2:7)\n    at g (componentize-qjs:user.js:41:1)\n    at next (native)\n    at run (componentize-qjs:user.js:42:3)\n    at <anonymous> (componentize-qjs:user.js:1:1)";
  assert.equal(located(stack, table), "Error: x\n    at f (a.ts:1)\n    at g (a.ts:40)");
  assert.deepEqual(frames(stack, table), ["at f (a.ts:1)", "at g (a.ts:40)"]);
});
