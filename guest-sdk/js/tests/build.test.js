// The build of a plugin, as far as it needs no engine.

import assert from "node:assert/strict";
import { test } from "node:test";

import { inTime } from "../build/engine.js";
import { checkPlugin } from "../src/define.js";

test("modules that never end loading are given up by processor time", async () => {
  const busy = setInterval(() => {
    for (const end = performance.now() + 20; performance.now() < end; );
  }, 0);
  await assert.rejects(inTime("app", new Promise(() => {}), 0.3), /^Error: app: the plugin's modules are not loaded after 0.3 s|Mistake: app: the plugin's modules are not loaded/);
  clearInterval(busy);
  assert.equal(await inTime("app", Promise.resolve("made")), "made");
  await assert.rejects(inTime("app", Promise.reject(new Error("broken"))), /broken/);
});

test("default export that is no plugin is told for what it is", () => {
  for (const [exported, told] of [
    [undefined, /it has no default export$/],
    [{}, /it has no default export$/],
    [null, /its default export is null that/],
    [{ message() {} }, /its default export is an object that define has not made$/],
    [() => {}, /its default export is a function that define has not made$/],
  ]) {
    assert.throws(() => checkPlugin(exported), ({ message }) => message.includes("export default define({") && told.test(message), String(told));
  }
});
