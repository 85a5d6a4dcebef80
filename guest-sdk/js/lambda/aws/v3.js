// The parts of the AWS SDK for JavaScript v3 that every client has: `send` by promise and by callback, commands, and
// exceptions as classes.

import * as context from "../../src/context.js";

import { ServiceFault, run } from "./operations.js";

export class ServiceException extends Error {
  constructor({ name, $fault = "client", $metadata = {}, message, ...rest } = {}) {
    super(message);
    Object.assign(this, rest);
    this.name = name;
    this.$fault = $fault;
    this.$metadata = $metadata;
  }
}

/** A class for an exception that the service's model names. */
export function exception(name, Base, fault = "client") {
  const Exception = class extends Base {
    constructor(options = {}) {
      super({ name, $fault: fault, ...options });
    }
  };
  return Object.defineProperty(Exception, "name", { value: name });
}

export class Command {
  constructor(input = {}) {
    this.input = input;
    this.middlewareStack = middlewareStack();
  }
}

export class Client {
  /** The commands of the client's service, and its exceptions by name. */
  static commands = [];
  static exceptions = {};
  static Exception = ServiceException;

  constructor(config = {}) {
    this.config = { ...config, region: async () => config.region ?? "us-east-1" };
    this.middlewareStack = middlewareStack();
  }

  send(command, options, callback) {
    const done = typeof options === "function" ? options : callback;
    const output = this.#run(command, typeof options === "object" ? options : undefined);
    if (!done) return output;
    return void output.then((result) => done(null, result), done);
  }

  destroy() {}

  perform(operation, input) {
    return run(operation, input);
  }

  async #run(command, options) {
    const { commands, exceptions, Exception } = this.constructor;
    const operation = commands.find((known) => command instanceof known)?.operation;
    if (!operation) throw new TypeError(`${this.constructor.name}.send takes a command of this client, and not ${command?.constructor?.name ?? typeof command}`);
    if (options?.abortSignal?.aborted) throw Object.assign(new Error("Request aborted"), { name: "AbortError" });
    const metadata = (httpStatusCode) => ({ httpStatusCode, requestId: context.current().requestId, attempts: 1, totalRetryDelay: 0 });
    for (const name of operation.required) {
      if (command.input[name] === undefined) throw new Error(`${command.constructor.name} has no ${name} in its input`);
    }
    try {
      return { $metadata: metadata(operation.status), ...this.perform(operation, command.input) };
    } catch (error) {
      if (!(error instanceof ServiceFault)) throw error;
      const { code: name, status, message, cause } = error;
      const Known = exceptions[name] ?? Exception;
      const thrown = new Known({ name, $fault: status < 500 ? "client" : "server", $metadata: metadata(status), message });
      throw Object.assign(thrown, cause && { cause });
    }
  }
}

/** A client with a method for each of its commands. */
export function aggregated(Base) {
  const Aggregated = class extends Base {};
  for (const Command of Base.commands) {
    const name = Command.name.replace(/Command$/, "");
    Aggregated.prototype[name.charAt(0).toLowerCase() + name.slice(1)] = function (input, ...rest) {
      return this.send(new Command(input), ...rest);
    };
  }
  return Aggregated;
}

/** Makes the paginator of a command that gives a `LastEvaluatedKey` while there is more. */
export function paginator(Command) {
  return async function* ({ client, pageSize, startingToken }, input, ...rest) {
    let key = startingToken ?? input.ExclusiveStartKey;
    do {
      const page = await client.send(new Command({ ...input, ExclusiveStartKey: key, Limit: pageSize ?? input.Limit }), ...rest);
      yield page;
      key = page.LastEvaluatedKey;
    } while (key);
  };
}

/** A command that connection tables do not have: making one says so. */
export function absent(name) {
  const Absent = class {
    constructor() {
      throw new Error(`${name} is not there: a connection table has put, get, delete and scan`);
    }
  };
  return Object.defineProperty(Absent, "name", { value: name });
}

/** Middleware works on HTTP requests, and there are none. */
function middlewareStack() {
  const ignore = () => {
    console.warn("a middleware of the AWS SDK is ignored: the gateway's calls are no HTTP requests");
  };
  return { add: ignore, addRelativeTo: ignore, use: ignore, remove: () => false, removeByTag: () => false, identify: () => [] };
}
