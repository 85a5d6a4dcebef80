// The parts of the AWS SDK for JavaScript v2 that every service has: requests that run by `.promise()`, by `.send()` or
// by a callback, and errors with `code` and `statusCode`.

import * as context from "../../src/context.js";

import { ServiceFault, operations, run } from "./operations.js";

export class Service {
  constructor(options = {}) {
    this.config = { ...config, ...options };
    this.endpoint = options.endpoint;
  }

  makeRequest(operation, params, callback) {
    const name = operation.charAt(0).toUpperCase() + operation.slice(1);
    const known = this.operations[name];
    if (!known) throw new Error(`${this.constructor.name}.${operation} is not there; there are ${Object.keys(this.operations).join(", ")}`);
    const input = typeof params === "function" ? {} : (params ?? {});
    const request = new Request(name, input, () => {
      const missing = known.required.find((key) => input[key] === undefined);
      if (missing) throw new ServiceFault("MissingRequiredParameter", undefined, `Missing required key '${missing}' in params`);
      return this.perform(known, input);
    });
    const done = typeof params === "function" ? params : callback;
    if (done) request.send(done);
    return request;
  }

  perform(operation, input) {
    return run(operation, input);
  }

  setEndpoint(endpoint) {
    this.endpoint = endpoint;
  }
}

/** Gives a service a method for each of its operations, by the SDK's names for them. */
export function withMethods(Class, methods) {
  for (const [method, operation] of Object.entries(methods)) {
    Class.prototype[method] = function (params, callback) {
      return this.makeRequest(operation, params, callback);
    };
  }
  return Class;
}

export class ApiGatewayManagementApi extends Service {
  operations = operations;
}

withMethods(ApiGatewayManagementApi, {
  postToConnection: "PostToConnection",
  getConnection: "GetConnection",
  deleteConnection: "DeleteConnection",
});

/** The module `aws-sdk`, with the services that a plugin has. Any other is an error when it is used. */
export function sdk(services) {
  const all = { ApiGatewayManagementApi, Endpoint, Service, config, ...services };
  return new Proxy(all, {
    get(target, name) {
      if (typeof name !== "string" || name in target || !/^[A-Z]/.test(name)) return target[name];
      throw new Error(
        `AWS.${name} of aws-sdk needs the network, which a plugin has not; here are ${Object.keys(services).concat("ApiGatewayManagementApi").join(", ")}` +
          (name === "DynamoDB" ? `. If the table only says who is connected, add "connectionTable": "connectionId", the name of its key, to "lockgate" in package.json` : ""),
      );
    },
  });
}

/** Every endpoint, region and credential is taken, and none is used. */
const config = {
  update(options) {
    Object.assign(config, options);
  },
  getCredentials: (done) => done(null),
  setPromisesDependency() {},
};

class Endpoint {
  constructor(address) {
    this.href = String(address);
  }
}

class Request {
  #run;
  #listeners = [];

  constructor(operation, params, run) {
    Object.assign(this, { operation, params });
    this.#run = run;
  }

  on(event, listener) {
    this.#listeners.push({ event, listener });
    return this;
  }

  abort() {}

  promise() {
    return this.#answer();
  }

  send(callback = () => {}) {
    this.#answer().then(
      (data) => callback.call({ request: this, data, error: null }, null, data),
      (error) => callback.call({ request: this, data: null, error }, error, null),
    );
  }

  async #answer() {
    const requestId = context.current().requestId;
    try {
      const data = this.#run();
      this.#tell({ request: this, data, error: null, requestId });
      return data;
    } catch (cause) {
      const error = cause instanceof ServiceFault ? serviceError(cause, requestId) : cause;
      this.#tell({ request: this, data: null, error, requestId });
      throw error;
    }
  }

  #tell(response) {
    for (const { event, listener } of this.#listeners) {
      if (event === "complete" || (event === "success" && !response.error)) listener.call(response, response);
      else if (event === "error" && response.error) listener.call(response, response.error, response);
    }
  }
}

function serviceError({ code, status, message, cause }, requestId) {
  const error = new Error(message, { cause });
  return Object.assign(error, { name: code, code, statusCode: status, requestId, time: new Date(), retryable: status === 429 || status >= 500 });
}
