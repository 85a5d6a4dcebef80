// The helper that async functions become in a bundle.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as esbuild from "esbuild";

import { withAsyncHelper } from "../build/async.js";
import { setTimeout, toEnd } from "../platform/loop.js";
import { phase } from "../platform/phase.js";
import { PlatformPromise, runAsync } from "../platform/promise.js";

const SOURCE = `
  const later = (value) => new Promise((resolve) => setTimeout(resolve, 1, value));
  const thenable = { then: (resolve) => resolve("thenable") };
  return {
    async sum(...numbers) { let all = this?.first ?? 0; for (const number of numbers) all += await later(number); return all; },
    async caught() { try { await Promise.reject(new Error("a")); } catch (error) { return error.message; } finally { await later(); } },
    async thrown() { await later(); throw new Error("b"); },
    async early() { throw new Error("c"); },
    async parameters({ wrong } = null) { return wrong; },
    async getter() { try { await { get then() { throw new Error("d"); } }; } catch (error) { return error.message; } },
    nested: async (sum) => (await Promise.all([sum(1), sum(2, 3)])).concat(await thenable),
  };
`;

phase.loading = false;

test("async functions do what they say, by the bundle's own helper, on unchanged lines", async () => {
  const built = await esbuild.transform(`(() => {${SOURCE}})()`, { supported: { "async-await": false }, target: "esnext" });
  const code = withAsyncHelper(built.code);
  assert.notEqual(code, built.code, "esbuild writes another helper now");
  assert.ok(!code.includes("fulfilled"));
  assert.equal(code.split("\n").length, built.code.split("\n").length);

  const lines = code.replace("(() => {\n  const later", "return (() => {\n  const later");
  const made = new Function("Promise", "setTimeout", "lockgateAsync", lines)(PlatformPromise, setTimeout, runAsync);
  const end = (promise) => toEnd(promise, (error) => assert.fail(error));
  assert.equal(end(made.sum(1, 2, 3)), 6);
  assert.equal(end(made.sum.call({ first: 10 }, 1)), 11);
  assert.equal(end(made.caught()), "a");
  assert.throws(() => end(made.thrown()), /b/);
  assert.throws(() => end(made.early()), /c/);
  assert.throws(() => end(made.parameters()), TypeError);
  assert.equal(end(made.getter()), "d");
  assert.deepEqual(end(made.nested(made.sum)), [1, 5, "thenable"]);
});
