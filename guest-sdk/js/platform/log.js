// Lines for the gateway's log, each with its level.

import { write } from "#host/output";

import { inspect } from "./inspect.js";
import { frames, located } from "./lines.js";
import { utf8 } from "./utf8.js";

/** The levels, by the numbers of syslog (RFC 5424): a line of output begins with `<NUMBER>`. */
export const ERROR = 3;
export const WARNING = 4;
export const INFO = 6;
export const DEBUG = 7;

export function log(level, text) {
  const prefix = `<${level}>`;
  write(utf8(`${prefix}${located(text).replaceAll("\n", `\n${prefix}`)}\n`));
}

/** Describes an error, or any other thrown value, in one line with the author's places. */
export function describe(error) {
  if (!(error instanceof Error)) return typeof error === "string" ? error : `thrown: ${inspect(error)}`;
  const places = frames(error.stack).slice(0, 5);
  const cause = error.cause === undefined ? "" : `; the cause: ${describe(error.cause)}`;
  return [title(error), ...places].join(" ") + cause;
}

function title(error) {
  try {
    return String(error);
  } catch {
    return "an error that cannot be shown";
  }
}
