// The build of a plugin, as far as it needs no engine.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

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

test("failed build ends after its type check, of which nothing is said", () => {
  const project = mkdtempSync(join(tmpdir(), "lockgate-build-"));
  try {
    mkdirSync(join(project, "node_modules", ".bin"), { recursive: true });
    writeFileSync(join(project, "package.json"), "{}");
    writeFileSync(join(project, "tsconfig.json"), "{}");
    writeFileSync(join(project, "plugin.ts"), 'import { x } from "./missing.js";\nexport default x;\n');
    // A compiler that takes longer than the bundler.
    writeFileSync(join(project, "node_modules", ".bin", "tsc"), "#!/bin/sh\nsleep 2\necho types\ntouch ended\nexit 1\n", { mode: 0o755 });
    const command = fileURLToPath(new URL("../build/build.js", import.meta.url));
    const { status, stderr } = spawnSync(process.execPath, [command, project], { encoding: "utf8" });
    assert.equal(status, 1, stderr);
    assert.match(stderr, /Could not resolve ".\/missing.js"/);
    assert.doesNotMatch(stderr, /types/);
    assert.ok(existsSync(join(project, "ended")));
  } finally {
    rmSync(project, { recursive: true });
  }
});
