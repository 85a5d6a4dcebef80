import { now, subscribeDuration } from "wasi:clocks/monotonic-clock@0.2.0";
import { now as wallNow } from "wasi:clocks/wall-clock@0.2.0";

import { needInstance } from "../phase.js";

/** Milliseconds since 1970-01-01 UTC. */
export function wallTime() {
  needInstance("the time");
  const { seconds, nanoseconds } = wallNow();
  return Number(seconds) * 1000 + Math.floor(nanoseconds / 1e6);
}

/** Milliseconds since any moment; they never go back. */
export function steadyTime() {
  needInstance("the time");
  return Number(now()) / 1e6;
}

/** Waits. The gateway serves others meanwhile; the wait counts for the invocation's deadline. */
export function sleep(ms) {
  const nanoseconds = Math.ceil(ms * 1e6);
  const wait = subscribeDuration(LOCKGATE_BIGINT ? BigInt(nanoseconds) : nanoseconds);
  wait.block();
  wait[Symbol.dispose]?.();
}
