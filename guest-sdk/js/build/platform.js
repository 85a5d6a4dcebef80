// The globals and the modules of Node that a plugin can have beside the language's own.

import { builtinModules, createRequire } from "node:module";
import { fileURLToPath } from "node:url";

export const SDK = fileURLToPath(new URL("..", import.meta.url));

const require = createRequire(import.meta.url);
const platform = (file) => fileURLToPath(new URL(`../platform/${file}`, import.meta.url));
/** A library that has the name of a module of Node: the slash leads to the library. */
const library = (name) => require.resolve(`${name}/`);

/** The globals, by the module of `platform/globals` that has them; in the order in which they are loaded. */
export const GLOBALS = {
  "console": ["console"],
  "performance": ["performance"],
  "process": ["process"],
  "encoding": ["TextDecoder", "TextEncoder"],
  "events": ["CustomEvent", "Event", "EventTarget"],
  "abort": ["AbortController", "AbortSignal"],
  "buffer": ["Buffer"],
  "crypto": ["crypto"],
  "url": ["URL", "URLSearchParams"],
  "structured-clone": ["structuredClone"],
};

/** The modules of Node, and the files that take their place. */
export const MODULES = {
  "async_hooks": platform("node/async_hooks.js"),
  "buffer": library("buffer"),
  "crypto": platform("node/crypto.js"),
  "events": library("events"),
  "perf_hooks": platform("node/perf_hooks.js"),
  "process": platform("node/process.js"),
  "stream": library("readable-stream"),
  "stream/promises": platform("node/stream_promises.js"),
  "stream/web": require.resolve("web-streams-polyfill"),
  "string_decoder": library("string_decoder"),
  "timers": platform("node/timers.js"),
  "timers/promises": platform("node/timers_promises.js"),
  "url": platform("node/url.js"),
  "util": library("util"),
};

/** The name of a module of Node without its prefix; none for any other module. */
export function nodeModule(path) {
  const name = path.replace(/^node:/, "").replace(/\/$/, "");
  return path.startsWith("node:") || builtinModules.includes(name) ? name : undefined;
}
