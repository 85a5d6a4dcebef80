// `process` as far as packages ask it: the environment from the plugin's configuration, the next tick, the platform.

import { environment } from "#host/environment";
import { steadyTime } from "#host/clock";

import { utf8toStringLoose } from "@exodus/bytes/utf8.js";
import EventEmitter from "events";

import { INFO, log, WARNING } from "./log.js";
import { performance } from "./performance.js";

let variables;

function read() {
  variables ??= Object.fromEntries(environment());
  return variables;
}

const env = new Proxy(
  {},
  {
    get: (_, name) => (typeof name === "string" ? read()[name] : undefined),
    has: (_, name) => name in read(),
    set(_, name, value) {
      read()[name] = String(value);
      return true;
    },
    deleteProperty: (_, name) => delete read()[name],
    ownKeys: () => Reflect.ownKeys(read()),
    getOwnPropertyDescriptor(_, name) {
      const value = read()[name];
      return value === undefined ? undefined : { value, writable: true, enumerable: true, configurable: true };
    },
  },
);

const stream = (level) => ({
  isTTY: false,
  writable: true,
  write(data) {
    const text = typeof data === "string" ? data : utf8toStringLoose(data);
    log(level, text.replace(/\n$/, ""));
    return true;
  },
});

function hrtime(before) {
  const now = steadyTime();
  let seconds = Math.floor(now / 1000);
  let nanoseconds = Math.floor((now % 1000) * 1e6);
  if (before !== undefined) {
    seconds -= before[0];
    nanoseconds -= before[1];
    if (nanoseconds < 0) [seconds, nanoseconds] = [seconds - 1, nanoseconds + 1e9];
  }
  return [seconds, nanoseconds];
}
hrtime.bigint = () => BigInt(Math.floor(steadyTime() * 1e6));

export const process = Object.assign(new EventEmitter(), {
  env,
  title: "lockgate",
  argv: [],
  execArgv: [],
  pid: 1,
  platform: "wasi",
  arch: "wasm32",
  version: "",
  versions: {},
  release: { name: "lockgate" },
  exitCode: undefined,
  stdout: stream(INFO),
  stderr: stream(WARNING),
  browser: false,
  cwd: () => "/",
  nextTick: (run, ...words) => queueMicrotask(() => run(...words)),
  hrtime,
  uptime: () => performance.now() / 1000,
  emitWarning: (warning) => log(WARNING, String(warning)),
  exit() {
    throw new Error("process.exit: a plugin cannot end the gateway; return from the handler, or throw");
  },
});
