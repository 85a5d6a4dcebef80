// The AWS SDK for JavaScript (v3) against the connections API: node connections_api.cjs ENDPOINT ID, where ENDPOINT names
// the stage and ID an open connection. The secret is in the environment, as a backend has it.
"use strict";

const assert = require("node:assert/strict");
const {
  ApiGatewayManagementApiClient,
  DeleteConnectionCommand,
  ForbiddenException,
  GetConnectionCommand,
  GoneException,
  PayloadTooLargeException,
  PostToConnectionCommand,
} = require("@aws-sdk/client-apigatewaymanagementapi");

const [endpoint, ConnectionId] = process.argv.slice(2);
const client = new ApiGatewayManagementApiClient({ endpoint, maxAttempts: 1 });
const unknown = "AAAAAAAAAAAAAAAA";

async function posts() {
  for (const Data of ["from the SDK for JavaScript", Buffer.from([0, 255])]) {
    const posted = await client.send(new PostToConnectionCommand({ ConnectionId, Data }));
    assert.equal(posted.$metadata.httpStatusCode, 200);
  }
}

async function describes() {
  const got = await client.send(new GetConnectionCommand({ ConnectionId }));
  assert.equal(got.Identity.SourceIp, "127.0.0.1");
  assert.ok(got.ConnectedAt instanceof Date && got.LastActiveAt instanceof Date);
}

async function throwsWhatTheModelNames() {
  const gone = new PostToConnectionCommand({ ConnectionId: unknown, Data: "x" });
  await assert.rejects(client.send(gone), GoneException);
  const large = new PostToConnectionCommand({ ConnectionId, Data: "x".repeat((64 << 10) + 1) });
  await assert.rejects(client.send(large), PayloadTooLargeException);
  const elsewhere = new ApiGatewayManagementApiClient({ endpoint: `${endpoint}x`, maxAttempts: 1 });
  await assert.rejects(elsewhere.send(new GetConnectionCommand({ ConnectionId })), ForbiddenException);
}

async function deletes() {
  const deleted = await client.send(new DeleteConnectionCommand({ ConnectionId }));
  assert.equal(deleted.$metadata.httpStatusCode, 204);
  await assert.rejects(client.send(new GetConnectionCommand({ ConnectionId })), GoneException);
}

(async () => {
  for (const test of [posts, describes, throwsWhatTheModelNames, deletes]) {
    await test();
    console.log("ok", test.name);
  }
})();
