// Both generations of the AWS SDK's ApiGatewayManagementApi over the gateway's connections.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Gateway } from "../../src/testing/index.js";
import { adapt } from "../adapter.js";
import * as v3 from "../aws/client-apigatewaymanagementapi.js";
import { sdk } from "../aws/v2.js";

const AWS = sdk({});

/** Two connections, and what happens when the first one's handler runs `act` for the second. */
async function between(act, prepare = () => {}) {
  let result;
  const gateway = new Gateway(
    adapt({
      async $default(event) {
        result = await act(other, event);
      },
    }),
  );
  const self = await gateway.connect();
  const other = await gateway.connect({ headers: { "user-agent": "test/2" } });
  await prepare(gateway, other);
  await gateway.message(self, "x");
  return { gateway, self, other, result };
}

const client = new v3.ApiGatewayManagementApiClient({ endpoint: "https://anything.example/at/all", apiVersion: "2018-11-29", region: "eu-west-1" });

test("v3: PostToConnection of a string, of UTF-8 bytes and of a view is a text, of other bytes a binary message", async () => {
  const bytes = new TextEncoder().encode("grüße");
  const data = ["text", bytes, Buffer.from("buffer"), bytes.buffer, new DataView(bytes.buffer, 0, 2), Uint8Array.of(255, 0), ""];
  const { gateway, other, result } = await between(async (id) => {
    for (const Data of data) await client.send(new v3.PostToConnectionCommand({ ConnectionId: id, Data }));
    return client.send(new v3.PostToConnectionCommand({ ConnectionId: id, Data: "last" }));
  });
  assert.deepEqual(gateway.received(other), ["text", "grüße", "buffer", "grüße", "gr", Uint8Array.of(255, 0), "", "last"]);
  const { requestId, ...metadata } = result.$metadata;
  assert.deepEqual(metadata, { httpStatusCode: 200, attempts: 1, totalRetryDelay: 0 });
  assert.match(requestId, /^request-/);
});

test("v3: GetConnection tells what the gateway knows, as dates", async () => {
  const { result } = await between((id) => client.send(new v3.GetConnectionCommand({ ConnectionId: id })));
  assert.ok(result.ConnectedAt instanceof Date && result.LastActiveAt instanceof Date);
  assert.deepEqual(result.Identity, { SourceIp: "203.0.113.7", UserAgent: "test/2" });
});

test("v3: DeleteConnection closes as API Gateway does", async () => {
  const { gateway, other, result } = await between((id) => client.send(new v3.DeleteConnectionCommand({ ConnectionId: id })));
  assert.deepEqual(gateway.closing(other), { code: 1000, reason: "Connection Closed Normally" });
  assert.equal(result.$metadata.httpStatusCode, 204);
});

test("v3: callbacks get what promises give, with and without options", async () => {
  const { gateway, other, result } = await between(async (id) => {
    const command = new v3.PostToConnectionCommand({ ConnectionId: id, Data: "x" });
    const [first] = await new Promise((resolve) => client.send(command, (...words) => resolve(words)));
    const [second, output] = await new Promise((resolve) => client.send(command, {}, (...words) => resolve(words)));
    const gone = new v3.PostToConnectionCommand({ ConnectionId: "gone", Data: "x" });
    const [error] = await new Promise((resolve) => client.send(gone, (...words) => resolve(words)));
    return [first, second, output.$metadata.httpStatusCode, error.name];
  });
  assert.deepEqual(gateway.received(other), ["x", "x"]);
  assert.deepEqual(result, [null, null, 200, "GoneException"]);
});

test("v3: the aggregated client has a method for each command", async () => {
  const api = new v3.ApiGatewayManagementApi({ endpoint: "https://x" });
  const { gateway, other, result } = await between(async (id) => {
    await api.postToConnection({ ConnectionId: id, Data: "x" });
    await new Promise((resolve) => api.postToConnection({ ConnectionId: id, Data: "y" }, resolve));
    const { Identity } = await api.getConnection({ ConnectionId: id });
    await api.deleteConnection({ ConnectionId: id });
    return Identity.SourceIp;
  });
  assert.deepEqual(gateway.received(other), ["x", "y"]);
  assert.equal(result, "203.0.113.7");
  assert.equal(gateway.closing(other).code, 1000);
  assert.ok(api instanceof v3.ApiGatewayManagementApiClient);
});

for (const [code, name, status, known] of [
  ["gone", "GoneException", 410, v3.GoneException],
  ["busy", "LimitExceededException", 429, v3.LimitExceededException],
  ["too-large", "PayloadTooLargeException", 413, v3.PayloadTooLargeException],
  ["denied", "ForbiddenException", 403, v3.ForbiddenException],
  ["invalid", "BadRequestException", 400, v3.ApiGatewayManagementApiServiceException],
  ["unreachable", "ServiceUnavailableException", 503, v3.ApiGatewayManagementApiServiceException],
]) {
  test(`error "${code}" is ${name} in v3, and its code in v2`, async () => {
    const fails = (gateway, other) => gateway.fail(other, code, "why");
    const { result: error } = await between((id) => client.send(new v3.PostToConnectionCommand({ ConnectionId: id, Data: "x" })).catch((error) => error), fails);
    assert.ok(error instanceof known && error instanceof v3.ApiGatewayManagementApiServiceException && error instanceof Error);
    assert.equal(error.name, name);
    assert.equal(error.$metadata.httpStatusCode, status);
    assert.equal(error.$fault, status < 500 ? "client" : "server");

    const api = new AWS.ApiGatewayManagementApi({ endpoint: "x/prod" });
    const { result: second } = await between((id) => api.postToConnection({ ConnectionId: id, Data: "x" }).promise().catch((error) => error), fails);
    assert.equal(second.code, name);
    assert.equal(second.name, name);
    assert.equal(second.statusCode, status);
    assert.equal(second.retryable, status === 429 || status === 503);
  });
}

test("v3: exceptions are classes that a test of the author's can make", () => {
  const error = new v3.GoneException({ message: "gone", $metadata: { httpStatusCode: 410 } });
  assert.deepEqual([error.name, error.message, error.$fault, error.constructor.name], ["GoneException", "gone", "client", "GoneException"]);
});

test("v3: a missing field, a foreign command and data of no kind are errors that say so", async () => {
  const { result } = await between(async (id) => {
    const said = [];
    for (const command of [new v3.PostToConnectionCommand({ Data: "x" }), new (class ListTablesCommand {})(), new v3.PostToConnectionCommand({ ConnectionId: id, Data: { a: 1 } })]) {
      said.push(await client.send(command).catch((error) => error.message));
    }
    return said;
  });
  assert.match(result[0], /PostToConnectionCommand has no ConnectionId/);
  assert.match(result[1], /takes a command of this client, and not ListTablesCommand/);
  assert.match(result[2], /Data has to be a string or bytes, and it is object/);
});

test("v2: a promise, a callback, send and events all run a request, once", async () => {
  const api = new AWS.ApiGatewayManagementApi({ apiVersion: "2018-11-29", endpoint: "x/prod" });
  const told = [];
  const { gateway, other } = await between(async (id) => {
    await api.postToConnection({ ConnectionId: id, Data: "promise" }).promise();
    await new Promise((resolve) => api.postToConnection({ ConnectionId: id, Data: "callback" }, resolve));
    await new Promise((resolve) => api.postToConnection({ ConnectionId: id, Data: "send" }).send(resolve));
    const request = api.postToConnection({ ConnectionId: id, Data: "events" });
    request.on("success", ({ data }) => told.push(["success", data])).on("complete", () => told.push(["complete"])).on("error", () => told.push(["error"]));
    await request.promise();
    api.postToConnection({ ConnectionId: id, Data: "never sent" });
    await api.deleteConnection({ ConnectionId: id }).promise();
  });
  assert.deepEqual(gateway.received(other), ["promise", "callback", "send", "events"]);
  assert.deepEqual(told, [["success", {}], ["complete"]]);
  assert.equal(gateway.closing(other).code, 1000);
});

test("v2: a callback gets the error, and a missing parameter is one", async () => {
  const api = new AWS.ApiGatewayManagementApi();
  const { result } = await between(async (id) => {
    const gone = await new Promise((resolve) => api.getConnection({ ConnectionId: "gone" }, resolve));
    const missing = await api.postToConnection({ ConnectionId: id }).promise().catch((error) => error);
    return [gone.code, gone.statusCode, missing.code, missing.message];
  });
  assert.deepEqual(result, ["GoneException", 410, "MissingRequiredParameter", "Missing required key 'Data' in params"]);
});

test("v2: configuration is taken, and a service that needs the network is an error that names it", () => {
  AWS.config.update({ region: "eu-west-1" });
  assert.equal(AWS.config.region, "eu-west-1");
  assert.equal(new AWS.ApiGatewayManagementApi({ endpoint: new AWS.Endpoint("x") }).config.endpoint.href, "x");
  assert.throws(() => new AWS.S3(), /AWS.S3 of aws-sdk needs the network, which a plugin has not; here are ApiGatewayManagementApi/);
  assert.throws(() => new AWS.DynamoDB.DocumentClient(), /"connectionTable": "connectionId"/);
});
