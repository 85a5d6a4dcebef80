// The two phases of a component: its modules are loaded once, when it is built, and the engine's memory is kept as it is
// then. A value that the gateway gives would be frozen in it, the same in every instance: it is refused here, and the
// build begins again with modules that each instance loads at its first event.

import { frames } from "./lines.js";

/** The text by which the build knows such an error. */
export const NEEDS_INSTANCE = "LOCKGATE-NEEDS-INSTANCE";

export const phase = { loading: true, needed: undefined };

/** Refuses what only a running instance has. */
export function needInstance(what) {
  if (!phase.loading || isHarmless(what)) return;
  // With the stack, in which the build finds the author's line.
  phase.needed ??= `${what}\n${new Error().stack}`;
  throw new Error(`${NEEDS_INSTANCE}: ${phase.needed}`);
}

/** Packages that ask for the time when they are loaded, and keep nothing of it: lodash looks for functions that run hot. */
const HARMLESS = /\(node_modules\/lodash(-es)?\//;

function isHarmless(what) {
  return what === "the time" && HARMLESS.test(frames(new Error().stack)[0] ?? "");
}

/** Ends the loading at build time. Code may have caught the error of `needInstance`. */
export function endLoading() {
  if (phase.needed !== undefined) throw new Error(`${NEEDS_INSTANCE}: ${phase.needed}`);
}
