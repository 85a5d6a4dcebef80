// A Promise whose queue of jobs is the platform's own. The exports of a plugin are synchronous, and no engine runs its
// own jobs inside a synchronous export: with this class a handler may be async all the same. The build lowers `async`
// and `await` to generators that use it.

const PENDING = 0;
const FULFILLED = 1;
const REJECTED = 2;

/** Jobs in order: function, argument, the async context that it was queued in. */
const jobs = [];
let next = 0;

/** Rejected promises that nobody has asked about yet. */
const unhandled = new Set();

/** The value that `node:async_hooks` carries along; undefined without it. */
export const asyncContext = { current: undefined };

/** Whether the present event has left anything to run, to report or to forget: most leave nothing. */
export const activity = { any: false };

function queue(job, argument, context = asyncContext.current) {
  activity.any = true;
  jobs.push(job, argument, context);
}

/** Runs all jobs, and those that they queue. */
export function runJobs() {
  while (next < jobs.length) {
    const job = jobs[next];
    const argument = jobs[next + 1];
    asyncContext.current = jobs[next + 2];
    jobs[next] = jobs[next + 1] = jobs[next + 2] = undefined;
    next += 3;
    if (next > 3072) {
      jobs.splice(0, next);
      next = 0;
    }
    job(argument);
  }
  jobs.length = next = 0;
  asyncContext.current = undefined;
}

/** Forgets the jobs that are left over. */
export function dropJobs() {
  jobs.length = next = 0;
  unhandled.clear();
  asyncContext.current = undefined;
}

/** Takes the reasons of the rejections that no code has handled. */
export function takeUnhandled() {
  if (unhandled.size === 0) return [];
  const reasons = [...unhandled].map((promise) => promise[VALUE]);
  unhandled.clear();
  return reasons;
}

/** The state of a promise: undefined while it is pending. */
export function outcome(promise) {
  switch (promise[STATE]) {
    case FULFILLED:
      return { value: promise[VALUE] };
    case REJECTED:
      unhandled.delete(promise);
      return { reason: promise[VALUE] };
    default:
      return undefined;
  }
}

/** The value of a promise that is fulfilled already; any other value as it is. */
export function fulfilledValue(value) {
  return value instanceof PlatformPromise && value[STATE] === FULFILLED ? value[VALUE] : value;
}

// Plain properties by symbols: QuickJS makes them faster than private ones, and than ones that are not enumerable.
const STATE = Symbol("state");
const VALUE = Symbol("value");
const REACTIONS = Symbol("reactions");

/** In place of an executor: the promise of a reaction, which settles it. */
const DERIVED = Symbol("derived");

class PlatformPromise {
  constructor(executor) {
    if (executor === DERIVED) return;
    if (typeof executor !== "function") throw new TypeError("Promise resolver is not a function");
    const { resolve, reject } = resolvers(this);
    try {
      executor(resolve, reject);
    } catch (error) {
      reject(error);
    }
  }

  then(onFulfilled, onRejected) {
    const Species = this.constructor?.[Symbol.species] ?? PlatformPromise;
    const reaction = { run, promise: this, onFulfilled, onRejected, resolve: undefined, reject: undefined, derived: undefined, context: asyncContext.current };
    const derived =
      Species === PlatformPromise
        ? (reaction.derived = new PlatformPromise(DERIVED))
        : new Species((resolve, reject) => {
            reaction.resolve = resolve;
            reaction.reject = reject;
          });
    observe(this, reaction);
    return derived;
  }

  catch(onRejected) {
    return this.then(undefined, onRejected);
  }

  finally(action) {
    if (typeof action !== "function") return this.then(action, action);
    const Species = this.constructor?.[Symbol.species] ?? PlatformPromise;
    return this.then(
      (value) => Species.resolve(action()).then(() => value),
      (reason) =>
        Species.resolve(action()).then(() => {
          throw reason;
        }),
    );
  }

  get [Symbol.toStringTag]() {
    return "Promise";
  }

  static get [Symbol.species]() {
    return this;
  }

  static resolve(value) {
    if (value instanceof PlatformPromise && value.constructor === this) return value;
    if (this !== PlatformPromise) return new this((resolve) => resolve(value));
    const promise = new PlatformPromise(DERIVED);
    resolve(promise, value);
    return promise;
  }

  static reject(reason) {
    return new this((_, reject) => reject(reason));
  }

  static withResolvers() {
    let resolve, reject;
    const promise = new this((resolves, rejects) => {
      resolve = resolves;
      reject = rejects;
    });
    return { promise, resolve, reject };
  }

  static try(action, ...words) {
    return new this((resolve) => resolve(action(...words)));
  }

  static all(promises) {
    return gather(this, promises, (values, place, finish, settleAll, fail) => [
      (value) => {
        values[place] = value;
        finish();
      },
      fail,
    ]);
  }

  static allSettled(promises) {
    return gather(this, promises, (values, place, finish) => [
      (value) => {
        values[place] = { status: "fulfilled", value };
        finish();
      },
      (reason) => {
        values[place] = { status: "rejected", reason };
        finish();
      },
    ]);
  }

  static any(promises) {
    const reversed = gather(this, promises, (reasons, place, finish, settleAll) => [
      (value) => settleAll({ value }),
      (reason) => {
        reasons[place] = reason;
        finish();
      },
    ]);
    return reversed.then((result) => {
      if (!Array.isArray(result)) return result.value;
      throw new AggregateError(result, "All promises were rejected");
    });
  }

  static race(promises) {
    return new this((resolve, reject) => {
      for (const promise of promises) this.resolve(promise).then(resolve, reject);
    });
  }
}

function resolvers(promise) {
  let done = false;
  return {
    resolve(value) {
      if (done) return;
      done = true;
      resolve(promise, value);
    },
    reject(reason) {
      if (done) return;
      done = true;
      settle(promise, REJECTED, reason);
    },
  };
}

function resolve(promise, value) {
  if (isPlain(value)) {
    settle(promise, FULFILLED, value);
    return;
  }
  if (value === promise) {
    settle(promise, REJECTED, new TypeError("Chaining cycle detected for promise #<Promise>"));
    return;
  }
  let then;
  try {
    then = value.then;
  } catch (error) {
    settle(promise, REJECTED, error);
    return;
  }
  if (typeof then !== "function") {
    settle(promise, FULFILLED, value);
    return;
  }
  queue(() => {
    const { resolve, reject } = resolvers(promise);
    try {
      then.call(value, resolve, reject);
    } catch (error) {
      reject(error);
    }
  });
}

/** Whether a value can have no `then`. */
function isPlain(value) {
  return value === null || (typeof value !== "object" && typeof value !== "function");
}

function settle(promise, state, value) {
  const reactions = promise[REACTIONS];
  promise[STATE] = state;
  promise[VALUE] = value;
  if (reactions !== undefined) {
    promise[REACTIONS] = undefined;
    for (const reaction of reactions) queue(reaction.run, reaction, reaction.context);
  } else if (state === REJECTED) {
    unhandled.add(promise);
    activity.any = true;
  }
}

/** Has a reaction follow a promise, once it is settled. */
function observe(promise, reaction) {
  if (promise[STATE] === PENDING) {
    if (promise[REACTIONS] === undefined) promise[REACTIONS] = [reaction];
    else promise[REACTIONS].push(reaction);
    return;
  }
  if (promise[STATE] === REJECTED) unhandled.delete(promise);
  queue(reaction.run, reaction, reaction.context);
}

/** The reaction of `then`. */
function run(reaction) {
  const { promise } = reaction;
  const fulfilled = promise[STATE] === FULFILLED;
  const handler = fulfilled ? reaction.onFulfilled : reaction.onRejected;
  let value = promise[VALUE];
  let ok = fulfilled;
  if (typeof handler === "function") {
    try {
      value = handler(value);
      ok = true;
    } catch (error) {
      value = error;
      ok = false;
    }
  }
  if (reaction.derived === undefined) (ok ? reaction.resolve : reaction.reject)(value);
  else if (ok) resolve(reaction.derived, value);
  else settle(reaction.derived, REJECTED, value);
}

/**
 * Calls an async function, which the build has lowered to a generator: each `yield` is an `await`. It makes no closures, and
 * no promise but its own.
 */
export function runAsync(self, words, generator) {
  const promise = new PlatformPromise(DERIVED);
  try {
    const running = generator.apply(self, words);
    advance(promise, running, running.next());
  } catch (error) {
    settle(promise, REJECTED, error);
  }
  return promise;
}

/** Goes on with such a function where it awaits a value that is none to wait for. */
function proceed({ derived, running, value }) {
  try {
    advance(derived, running, running.next(value));
  } catch (error) {
    settle(derived, REJECTED, error);
  }
}

/** The reaction of `await`. */
function resume({ promise, running, derived }) {
  try {
    const value = promise[VALUE];
    advance(derived, running, promise[STATE] === REJECTED ? running.throw(value) : running.next(value));
  } catch (error) {
    settle(derived, REJECTED, error);
  }
}

/** Has such a function wait, or end. */
function advance(derived, running, { done, value }) {
  if (done) {
    resolve(derived, value);
  } else if (isPlain(value)) {
    queue(proceed, { derived, running, value });
  } else {
    const promise = PlatformPromise.resolve(value);
    observe(promise, { run: resume, promise, running, derived, context: asyncContext.current });
  }
}

/** The common part of `all`, `allSettled` and `any`: a place for each promise, and the end once all are filled. */
function gather(Class, promises, reactions) {
  return new Class((resolve, reject) => {
    const values = [];
    let left = 1;
    const finish = () => {
      left -= 1;
      if (left === 0) resolve(values);
    };
    let place = 0;
    for (const promise of promises) {
      left += 1;
      Class.resolve(promise).then(...reactions(values, place, finish, resolve, reject));
      place += 1;
    }
    finish();
  });
}

// A promise has these by itself once they differ.
Object.assign(PlatformPromise.prototype, { [STATE]: PENDING, [VALUE]: undefined, [REACTIONS]: undefined });
Object.defineProperty(PlatformPromise, "name", { value: "Promise" });

/** Array.fromAsync with the platform's promises: an engine's own would use the engine's. */
async function fromAsync(items, map, self) {
  const found = [];
  const add = async (item) => {
    found.push(map === undefined ? item : await map.call(self, item, found.length));
  };
  if (items[Symbol.asyncIterator] !== undefined || items[Symbol.iterator] !== undefined) {
    for await (const item of items) await add(item);
  } else {
    for (let place = 0; place < items.length; place += 1) await add(await items[place]);
  }
  return found;
}

/** Puts the class into the place of the engine's. */
export function install() {
  globalThis.Promise = PlatformPromise;
  // For the build's helper (build/async.js).
  Object.defineProperty(globalThis, "lockgateAsync", { value: runAsync });
  globalThis.queueMicrotask = (job) => {
    if (typeof job !== "function") throw new TypeError("queueMicrotask takes a function");
    // A rejection nobody handles reports what it throws.
    new PlatformPromise((resolve) => resolve()).then(() => job());
  };
  Object.defineProperty(Array, "fromAsync", { value: fromAsync, writable: true, configurable: true });
}

export { PlatformPromise };
