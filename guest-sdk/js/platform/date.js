// A Date that asks the gateway for the time. QuickJS's own would trap, as its runtime has no clock of its own.

import { wallTime } from "#host/clock";

export function install() {
  const Native = globalThis.Date;
  function Date(...words) {
    if (new.target === undefined) return new Native(wallTime()).toString();
    return Reflect.construct(Native, words.length === 0 ? [wallTime()] : words, new.target);
  }
  for (const name of ["UTC", "parse"]) define(Date, name, Native[name]);
  define(Date, "now", () => wallTime());
  define(Native.prototype, "constructor", Date);
  Object.defineProperty(Date, "prototype", { value: Native.prototype });
  Object.defineProperty(Date, "length", { value: 7 });
  globalThis.Date = Date;
}

function define(object, name, value) {
  Object.defineProperty(object, name, { value, writable: true, configurable: true });
}
