// The event loop of one event: jobs first, then timers in order of time, until the handler's promise is settled.

import { sleep, steadyTime } from "#host/clock";

import { activity, asyncContext, dropJobs, outcome, PlatformPromise, runJobs, takeUnhandled } from "./promise.js";
import { phase } from "./phase.js";

/** Rejections of one event that are reported each by itself. */
const MAX_REPORTS = 16;

/** Timers by id. */
const timers = new Map();
let lastId = 0;

class Timeout {
  constructor(run, delay, repeats) {
    lastId += 1;
    this.id = lastId;
    this.run = run;
    this.delay = delay >= 1 ? Math.min(delay, 2 ** 31 - 1) : 1;
    this.repeats = repeats;
    this.context = asyncContext.current;
    this.refresh();
  }

  // Node's methods: between events nothing runs, so a timer keeps nothing alive.
  ref() {
    return this;
  }

  unref() {
    return this;
  }

  hasRef() {
    return timers.has(this.id);
  }

  refresh() {
    // Between events nothing runs: a timer of a module that is being loaded never fires.
    if (phase.loading) return this;
    this.at = steadyTime() + this.delay;
    timers.set(this.id, this);
    activity.any = true;
    return this;
  }

  close() {
    timers.delete(this.id);
    return this;
  }

  [Symbol.toPrimitive]() {
    return this.id;
  }
}

function timer(name, repeats) {
  return (run, delay, ...words) => {
    if (typeof run !== "function") throw new TypeError(`${name} takes a function`);
    return new Timeout(words.length === 0 ? run : () => run(...words), Number(delay), repeats);
  };
}

export const setTimeout = timer("setTimeout", false);
export const setInterval = timer("setInterval", true);
export const setImmediate = (run, ...words) => setTimeout(run, 0, ...words);

export function clearTimeout(timeout) {
  timers.delete(typeof timeout === "object" ? timeout?.id : Number(timeout));
}

export { clearTimeout as clearInterval, clearTimeout as clearImmediate };

/** Those that wait until nothing else is left to run. */
let idlers = [];

/** Resolves when no job is left and no timer. */
export function idle() {
  activity.any = true;
  return new PlatformPromise((resolve) => idlers.push(resolve));
}

/** Finds the timer that is due first. */
function nextTimer() {
  let first;
  for (const timer of timers.values()) if (first === undefined || timer.at < first.at) first = timer;
  return first;
}

/**
 * Runs what a handler has begun to its end: returns the value of its result, or throws the reason. `report` gets the errors
 * that no code has handled.
 */
export function toEnd(result, report) {
  try {
    const value = isThenable(result) ? settled(PlatformPromise.resolve(result), report) : result;
    runJobs();
    return value;
  } finally {
    forget(report);
  }
}

/** Forgets what is left of an event: the instance's next one may be another client's, and nothing of this one runs in it. */
export function forget(report) {
  if (!activity.any) return;
  const reasons = takeUnhandled();
  for (const reason of reasons.slice(0, MAX_REPORTS)) report(reason);
  if (reasons.length > MAX_REPORTS) report(`${reasons.length - MAX_REPORTS} more rejections that no code handles`);
  timers.clear();
  idlers = [];
  dropJobs();
  activity.any = false;
}

function settled(promise, report) {
  for (;;) {
    runJobs();
    const end = outcome(promise);
    if (end !== undefined) {
      if ("reason" in end) throw end.reason;
      return end.value;
    }
    const timer = nextTimer();
    if (timer === undefined && idlers.length > 0) {
      for (const resolve of idlers.splice(0)) resolve();
      continue;
    }
    if (timer === undefined) {
      throw new Error(
        "the handler's promise is never settled: no timer and no job is left that could do it; look for a promise whose " +
          "resolve is never called",
      );
    }
    const wait = timer.at - steadyTime();
    if (wait > 0) sleep(wait);
    if (timer.repeats) timer.refresh();
    else timers.delete(timer.id);
    asyncContext.current = timer.context;
    try {
      timer.run();
    } catch (error) {
      report(error);
    }
    asyncContext.current = undefined;
  }
}

function isThenable(value) {
  return value !== null && (typeof value === "object" || typeof value === "function") && typeof value.then === "function";
}

/** Puts the timers into the global object. */
export function install() {
  Object.assign(globalThis, { setTimeout, setInterval, setImmediate, clearTimeout, clearInterval: clearTimeout, clearImmediate: clearTimeout });
}
