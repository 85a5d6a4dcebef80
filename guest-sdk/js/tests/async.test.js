// The helper that async functions become in a bundle.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as esbuild from "esbuild";

import { withAsyncHelper } from "../build/async.js";

const SOURCE = `
  const later = (value) => new Promise((resolve) => setImmediate(resolve, value));
  export async function sum(...numbers) { let all = this?.first ?? 0; for (const number of numbers) all += await later(number); return all; }
  export async function caught() { try { await Promise.reject(new Error("a")); } catch (error) { return error.message; } finally { await later(); } }
  export async function thrown() { await later(); throw new Error("b"); }
  export async function early() { throw new Error("c"); }
  export const nested = async () => (await Promise.all([sum(1), sum(2, 3)])).concat(await { then: (resolve) => resolve("thenable") });
`;

test("async functions do what they say, by the bundle's own helper, on unchanged lines", async () => {
  const built = await esbuild.transform(SOURCE, { supported: { "async-await": false }, format: "esm", target: "esnext" });
  const code = withAsyncHelper(built.code);
  assert.notEqual(code, built.code, "esbuild writes another helper now");
  assert.ok(!code.includes("fulfilled"));
  assert.equal(code.split("\n").length, built.code.split("\n").length);
  const module = await import(`data:text/javascript,${encodeURIComponent(code)}`);
  assert.equal(await module.sum(1, 2, 3), 6);
  assert.equal(await module.sum.call({ first: 10 }, 1), 11);
  assert.equal(await module.caught(), "a");
  await assert.rejects(module.thrown(), /b/);
  await assert.rejects(module.early(), /c/);
  assert.deepEqual(await module.nested(), [1, 5, "thenable"]);
});
