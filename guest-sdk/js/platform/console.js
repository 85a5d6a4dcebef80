// `console`: each call is a line of the gateway's log, or several, with the level of its name.

import { steadyTime } from "#host/clock";

import { format, inspect } from "./inspect.js";
import { DEBUG, ERROR, INFO, log, WARNING } from "./log.js";

const counts = new Map();
const timers = new Map();
let indent = "";

function print(level, words) {
  const text = format(...words);
  log(level, indent === "" ? text : indent + text.replaceAll("\n", `\n${indent}`));
}

const at = (level) => (...words) => print(level, words);

function time(label) {
  const began = timers.get(label);
  if (began === undefined) {
    print(WARNING, [`console: there is no timer '${label}'`]);
    return undefined;
  }
  return `${label}: ${(steadyTime() - began).toFixed(3)}ms`;
}

export const console = {
  log: at(INFO),
  info: at(INFO),
  debug: at(DEBUG),
  warn: at(WARNING),
  error: at(ERROR),
  trace(...words) {
    const places = (new Error().stack ?? "").split("\n").slice(1).join("\n");
    print(DEBUG, [`Trace: ${format(...words)}\n${places}`]);
  },
  dir: (value, options) => print(INFO, [inspect(value, options)]),
  table: (value) => print(INFO, [inspect(value)]),
  assert(condition, ...words) {
    if (condition) return;
    const [first, ...rest] = words;
    print(ERROR, typeof first === "string" ? [`Assertion failed: ${first}`, ...rest] : ["Assertion failed", ...words]);
  },
  count(label = "default") {
    const count = (counts.get(label) ?? 0) + 1;
    counts.set(label, count);
    print(INFO, [`${label}: ${count}`]);
  },
  countReset: (label = "default") => counts.delete(label),
  time: (label = "default") => timers.set(label, steadyTime()),
  timeEnd(label = "default") {
    const text = time(label);
    timers.delete(label);
    if (text !== undefined) print(INFO, [text]);
  },
  timeLog(label = "default", ...words) {
    const text = time(label);
    if (text !== undefined) print(INFO, [text, ...words]);
  },
  group(...words) {
    if (words.length > 0) print(INFO, words);
    indent += "  ";
  },
  groupEnd() {
    indent = indent.slice(2);
  },
};
console.groupCollapsed = console.group;
console.dirxml = console.log;
