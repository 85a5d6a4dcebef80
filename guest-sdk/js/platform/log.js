// Lines for the gateway's log, each with its level.

import { write } from "#host/output";

import { inspect } from "./inspect.js";
import { frames, located } from "./lines.js";
import { utf8 } from "#host/utf8";

/** The levels, by the numbers of syslog (RFC 5424): a line of output begins with `<NUMBER>`. */
export const ERROR = 3;
export const WARNING = 4;
export const INFO = 6;
export const DEBUG = 7;

export function log(level, text) {
  const prefix = `<${level}>`;
  write(utf8(`${prefix}${located(text).replaceAll("\n", `\n${prefix}`)}\n`));
}

/** Characters of a description: the gateway's log cuts a line after 8 KiB. */
const MAX_TEXT = 8 << 10;

/** Errors of a description, counting causes, and the errors that one gathers: they may go round in a circle. */
const MAX_ERRORS = 8;

/** Describes an error, or any other thrown value, in one line with the author's places. */
export function describe(error) {
  const left = { errors: MAX_ERRORS };
  const text = described(error, left).toWellFormed();
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT).toWellFormed()}…` : text;
}

function described(error, left) {
  left.errors -= 1;
  if (left.errors < 0) return "…";
  try {
    if (typeof error === "string") return error;
    if (!(error instanceof Error)) return `thrown: ${inspect(error)}`;
    const places = frames(error.stack).slice(0, 5);
    const more = [
      ...(error.cause === undefined ? [] : [`; the cause: ${described(error.cause, left)}`]),
      ...(error instanceof AggregateError ? Array.from(error.errors).slice(0, MAX_ERRORS) : []).map((one) => `; one of its errors: ${described(one, left)}`),
    ];
    return [title(error), ...places].join(" ") + more.join("");
  } catch {
    return "an error that cannot be shown";
  }
}

function title(error) {
  try {
    return String(error);
  } catch {
    return "an error that cannot be shown";
  }
}
