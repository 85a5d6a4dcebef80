// The platform's Promise and event loop beside Node's own.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

import { transformSync } from "esbuild";

import { withAsyncHelper } from "../build/async.js";
import { forget, idle, setInterval, toEnd, setTimeout, clearTimeout } from "../platform/loop.js";
import { phase } from "../platform/phase.js";
import { asyncContext, PlatformPromise, runAsync } from "../platform/promise.js";

/** The source of a function with its `async` and `await` lowered, as the build does it. */
function lowered(run) {
  const { code } = transformSync(`return (${run})();`.replace(/^return /, "const result = "), {
    supported: { "async-await": false, "async-generator": false, "for-await": false },
    target: "esnext",
  });
  return withAsyncHelper(code);
}

/** What a program prints with the platform's promises. */
function withPlatform(run) {
  const printed = [];
  const names = ["Promise", "setTimeout", "setInterval", "clearTimeout", "queueMicrotask", "print", "lockgateAsync"];
  const micro = (job) => void new PlatformPromise((resolve) => resolve()).then(() => job());
  const program = new Function(...names, `${lowered(run)}; return result;`);
  const values = [PlatformPromise, setTimeout, setInterval, clearTimeout, micro, (text) => printed.push(String(text)), runAsync];
  runToEnd(() => program(...values), (error) => printed.push(`unhandled ${error.message}`));
  return printed;
}

/** What it prints in Node. */
function withNode(run) {
  const script = `const print = (text) => console.log(String(text)); await (${run})();`;
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  assert.equal(stderr, "");
  return stdout.trimEnd().split("\n");
}

const PROGRAMS = {
  "jobs run in order"() {
    return (async () => {
      print("start");
      queueMicrotask(() => print("micro"));
      Promise.resolve().then(() => print("then 1")).then(() => print("then 2"));
      const inner = (async () => { print("inner"); await null; print("inner 2"); await undefined; print("inner 3"); })();
      print("sync");
      await inner;
      print("end");
    })();
  },
  "a returned promise takes two more jobs"() {
    return (async () => {
      const slow = Promise.resolve().then(() => Promise.resolve("slow")).then(print);
      const fast = Promise.resolve().then(() => print(1)).then(() => print(2)).then(() => print(3)).then(() => print(4));
      await Promise.all([slow, fast]);
    })();
  },
  "thenables are followed"() {
    return (async () => {
      print(await { then: (resolve) => resolve("thenable") });
      try { await { then: (_, reject) => reject(new Error("no")) }; } catch (error) { print(error.message); }
      try { await { get then() { throw new Error("getter"); } }; } catch (error) { print(error.message); }
    })();
  },
  "all, allSettled, any and race agree"() {
    return (async () => {
      const wait = (ms, value, fails) => new Promise((resolve, reject) => setTimeout(() => (fails ? reject(new Error(value)) : resolve(value)), ms));
      print(await Promise.all([wait(4, "a"), wait(2, "b"), "c"]));
      print(JSON.stringify(await Promise.allSettled([wait(3, "a"), wait(1, "b", true).catch((e) => { throw e.message; })])));
      print(await Promise.any([wait(1, "a", true), wait(3, "b")]));
      print(await Promise.race([wait(9, "a"), wait(1, "b")]));
      print(await Promise.all([]));
      try { await Promise.any([wait(1, "x", true)]); } catch (error) { print(`${error.constructor.name} ${error.errors[0].message}`); }
      try { await Promise.all([wait(5, "a"), wait(1, "bad", true)]); } catch (error) { print(error.message); }
    })();
  },
  "finally passes on and can fail"() {
    return (async () => {
      print(await Promise.resolve(1).finally(() => 2));
      print(await Promise.reject(new Error("kept")).finally(() => {}).catch((error) => error.message));
      print(await Promise.resolve(1).finally(() => { throw new Error("new"); }).catch((error) => error.message));
    })();
  },
  "for await, async generators and withResolvers"() {
    return (async () => {
      async function* numbers() { for (let at = 0; at < 3; at += 1) { await null; yield at; } }
      for await (const number of numbers()) print(number);
      for await (const value of [Promise.resolve("p"), "q"]) print(value);
      const { promise, resolve } = Promise.withResolvers?.() ?? (() => { let r; const p = new Promise((x) => (r = x)); return { promise: p, resolve: r }; })();
      setTimeout(() => resolve("later"), 2);
      print(await promise);
    })();
  },
  "timers fire by time, then by age"() {
    return (async () => {
      await new Promise((resolve) => {
        setTimeout(() => print("200"), 200);
        setTimeout(() => print("10"), 10);
        setTimeout(() => print("10 too"), 10);
        clearTimeout(setTimeout(() => print("never"), 5));
        let ticks = 0;
        const interval = setInterval(() => { ticks += 1; print(`tick ${ticks}`); if (ticks === 2) { clearInterval(interval); } }, 50);
        setTimeout(resolve, 250);
      });
    })();
  },
  "a subclass stays one"() {
    return (async () => {
      class Mine extends Promise {}
      const mine = Mine.resolve(1).then((value) => value + 1);
      print(mine instanceof Mine);
      print(await mine);
      print(Object.prototype.toString.call(mine));
    })();
  },
};

phase.loading = false;

/** Runs a handler as a component does. */
function runToEnd(handle, report) {
  try {
    return toEnd(handle(), report);
  } finally {
    forget(report);
  }
}

for (const [name, run] of Object.entries(PROGRAMS)) {
  test(`${name}, as in Node`, () => {
    const source = `function ${run.toString().replace(/^"[^"]*"/, "program")}`.replaceAll("clearInterval", "clearTimeout");
    assert.deepEqual(withPlatform(source), withNode(source));
  });
}

const fails = (handle) => {
  try {
    runToEnd(handle, () => {});
  } catch (error) {
    return error;
  }
  return undefined;
};

test("a promise that nothing settles is a failure that says so", () => {
  assert.match(fails(() => new PlatformPromise(() => {})).message, /never settled/);
});

test("the reason of a rejection is thrown as it is", () => {
  assert.equal(fails(() => PlatformPromise.reject("a text")), "a text");
  assert.equal(fails(() => { throw 7; }), 7);
});

test("a rejection that nobody handles is reported, and the others are not", () => {
  const reported = [];
  const lost = new Error("lost");
  const result = runToEnd(() => {
    PlatformPromise.reject(lost);
    PlatformPromise.reject(new Error("found")).catch(() => {});
    return PlatformPromise.resolve("done");
  }, (error) => reported.push(error));
  assert.equal(result, "done");
  assert.deepEqual(reported, [lost]);
});

test("jobs and timers that are left run in no later event", () => {
  let ran = 0;
  runToEnd(() => { setTimeout(() => (ran += 1), 1); }, () => {});
  runToEnd(() => new PlatformPromise((resolve) => setTimeout(resolve, 5)), () => {});
  assert.equal(ran, 0);
});

test("idle waits for the timers, and then goes on", () => {
  let ran = 0;
  runToEnd(() => {
    setTimeout(() => (ran += 1), 3);
    return idle().then(() => assert.equal(ran, 1));
  }, () => {});
});

test("20,000 awaits in a row take no stack", () => {
  const program = new Function("lockgateAsync", `${lowered("async () => { let sum = 0; for (let at = 0; at < 20000; at += 1) sum += await at; return sum; }")}; return result;`);
  assert.equal(runToEnd(() => program(runAsync), () => {}), 199_990_000);
});

test("an async context follows jobs and timers", () => {
  const seen = [];
  runToEnd(() => {
    asyncContext.current = "mine";
    const job = PlatformPromise.resolve().then(() => seen.push(asyncContext.current));
    const timer = new PlatformPromise((resolve) => setTimeout(() => resolve(seen.push(asyncContext.current)), 1));
    asyncContext.current = undefined;
    return PlatformPromise.all([job, timer]);
  }, () => {});
  assert.deepEqual(seen, ["mine", "mine"]);
});
