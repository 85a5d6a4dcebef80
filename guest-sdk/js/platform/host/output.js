import { getStderr } from "wasi:cli/stderr@0.2.0";

import { phase } from "../phase.js";

/** Bytes of one call. WASI allows no more. */
const MAX = 4096;

/** Output of the modules' loading. There is no log at build time: each instance logs it at its first event. */
const early = [];
let stream;

export function write(bytes) {
  if (phase.loading) {
    early.push(bytes);
    return;
  }
  while (early.length > 0) out(early.shift());
  out(bytes);
}

function out(bytes) {
  stream ??= getStderr();
  for (let at = 0; at < bytes.length; at += MAX) stream.blockingWriteAndFlush(bytes.subarray(at, at + MAX));
}

export function writeEarly() {
  while (early.length > 0) out(early.shift());
}
