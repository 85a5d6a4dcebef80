import { activity, asyncContext } from "../promise.js";

/** The stores of a context: a map that is never changed, only replaced. */
const stores = () => asyncContext.current ?? new Map();

function runIn(context, run, words) {
  const before = asyncContext.current;
  asyncContext.current = context;
  try {
    return run(...words);
  } finally {
    asyncContext.current = before;
  }
}

export class AsyncLocalStorage {
  run(store, run, ...words) {
    return runIn(new Map(stores()).set(this, store), run, words);
  }

  exit(run, ...words) {
    const without = new Map(stores());
    without.delete(this);
    return runIn(without, run, words);
  }

  enterWith(store) {
    activity.any = true;
    asyncContext.current = new Map(stores()).set(this, store);
  }

  disable() {
    const without = new Map(stores());
    without.delete(this);
    asyncContext.current = without;
  }

  getStore() {
    return asyncContext.current?.get(this);
  }

  static bind(run) {
    return AsyncResource.bind(run);
  }

  static snapshot() {
    const context = asyncContext.current;
    return (run, ...words) => runIn(context, run, words);
  }
}

export class AsyncResource {
  #context = asyncContext.current;

  constructor(type) {
    this.type = type;
  }

  runInAsyncScope(run, self, ...words) {
    return runIn(this.#context, run.bind(self), words);
  }

  bind(run) {
    return this.runInAsyncScope.bind(this, run, undefined);
  }

  emitDestroy() {
    return this;
  }

  static bind(run, type = run.name) {
    return new AsyncResource(type).bind(run);
  }
}

export default { AsyncLocalStorage, AsyncResource };
