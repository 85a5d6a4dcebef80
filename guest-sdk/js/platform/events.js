// Event, EventTarget, AbortController and AbortSignal, as the DOM standard describes them for what has no tree.

import { setTimeout } from "./loop.js";

const fields = (event) => event.__fields;

export class Event {
  constructor(type, { bubbles = false, cancelable = false, composed = false } = {}) {
    if (arguments.length === 0) throw new TypeError("Event takes a type");
    Object.defineProperty(this, "__fields", {
      value: {
        type: String(type),
        bubbles: Boolean(bubbles),
        cancelable: Boolean(cancelable),
        composed: Boolean(composed),
        target: null,
        current: null,
        stopped: false,
        prevented: false,
        passive: false,
        dispatched: false,
      },
    });
  }

  get type() {
    return fields(this).type;
  }

  get target() {
    return fields(this).target;
  }

  get srcElement() {
    return fields(this).target;
  }

  get currentTarget() {
    return fields(this).current;
  }

  get bubbles() {
    return fields(this).bubbles;
  }

  get cancelable() {
    return fields(this).cancelable;
  }

  get composed() {
    return fields(this).composed;
  }

  get defaultPrevented() {
    return fields(this).prevented;
  }

  get eventPhase() {
    return fields(this).current === null ? 0 : 2;
  }

  get isTrusted() {
    return false;
  }

  composedPath() {
    return fields(this).current === null ? [] : [fields(this).current];
  }

  preventDefault() {
    if (this.cancelable && !fields(this).passive) fields(this).prevented = true;
  }

  // The target has no parents: nothing else could hear the event.
  stopPropagation() {}

  stopImmediatePropagation() {
    fields(this).stopped = true;
  }

  get [Symbol.toStringTag]() {
    return this.constructor.name;
  }
}

export class CustomEvent extends Event {
  constructor(type, options = {}) {
    super(type, options);
    Object.defineProperty(this, "detail", { value: options.detail ?? null, enumerable: true });
  }
}

export class EventTarget {
  constructor() {
    Object.defineProperty(this, "__listeners", { value: [], writable: true });
  }

  addEventListener(type, callback, options) {
    if (callback === null || callback === undefined) return;
    const { capture = false, once = false, passive = false, signal } = typeof options === "object" && options !== null ? options : { capture: Boolean(options) };
    if (signal?.aborted) return;
    const same = (listener) => listener.type === String(type) && listener.callback === callback && listener.capture === Boolean(capture);
    if (this.__listeners.some(same)) return;
    const listener = { type: String(type), callback, capture: Boolean(capture), once, passive, removed: false };
    this.__listeners = [...this.__listeners, listener];
    signal?.addEventListener("abort", () => this.removeEventListener(type, callback, options), { once: true });
  }

  removeEventListener(type, callback, options) {
    const capture = Boolean(typeof options === "object" && options !== null ? options.capture : options);
    this.__listeners = this.__listeners.filter((listener) => {
      const same = listener.type === String(type) && listener.callback === callback && listener.capture === capture;
      if (same) listener.removed = true;
      return !same;
    });
  }

  dispatchEvent(event) {
    const inside = fields(event);
    if (inside.dispatched) throw new DOMException("The event is already being dispatched", "InvalidStateError");
    Object.assign(inside, { dispatched: true, target: this, current: this });
    for (const listener of this.__listeners) {
      if (listener.type !== inside.type || listener.removed) continue;
      if (listener.once) this.removeEventListener(listener.type, listener.callback, listener.capture);
      inside.passive = listener.passive;
      call(this, listener.callback, event);
      inside.passive = false;
      if (inside.stopped) break;
    }
    Object.assign(inside, { dispatched: false, current: null, stopped: false });
    return !inside.prevented;
  }

  get [Symbol.toStringTag]() {
    return this.constructor.name;
  }
}

/** A listener's error is no dispatcher's: it is reported as a rejection that nobody handles. */
function call(target, callback, event) {
  try {
    if (typeof callback === "function") callback.call(target, event);
    else callback.handleEvent(event);
  } catch (error) {
    Promise.reject(error);
  }
}

/** Lets `make` construct a signal: programs may not. */
const OURS = Symbol("AbortSignal");

export class AbortSignal extends EventTarget {
  constructor(key) {
    if (key !== OURS) throw new TypeError("Illegal constructor");
    super();
    Object.defineProperties(this, {
      __state: { value: { aborted: false, reason: undefined, dependents: [] } },
      onabort: { value: null, writable: true },
    });
  }

  get aborted() {
    return this.__state.aborted;
  }

  get reason() {
    return this.__state.reason;
  }

  throwIfAborted() {
    if (this.aborted) throw this.reason;
  }

  static abort(reason) {
    const signal = new AbortSignal(OURS);
    abort(signal, reason);
    return signal;
  }

  static timeout(ms) {
    const signal = new AbortSignal(OURS);
    setTimeout(() => abort(signal, new DOMException("The operation was aborted due to timeout", "TimeoutError")), ms);
    return signal;
  }

  static any(signals) {
    const signal = new AbortSignal(OURS);
    const all = [...signals];
    const aborted = all.find((source) => source.aborted);
    if (aborted !== undefined) abort(signal, aborted.reason);
    else for (const source of all) source.__state.dependents.push(signal);
    return signal;
  }
}

function abort(signal, reason = new DOMException("This operation was aborted", "AbortError")) {
  if (signal.aborted) return;
  signal.__state.aborted = true;
  signal.__state.reason = reason;
  const event = new Event("abort");
  signal.dispatchEvent(event);
  if (typeof signal.onabort === "function") call(signal, signal.onabort, event);
  for (const dependent of signal.__state.dependents) abort(dependent, reason);
}

export class AbortController {
  constructor() {
    Object.defineProperty(this, "__signal", { value: new AbortSignal(OURS) });
  }

  get signal() {
    return this.__signal;
  }

  abort(reason) {
    abort(this.__signal, reason);
  }

  get [Symbol.toStringTag]() {
    return "AbortController";
  }
}

