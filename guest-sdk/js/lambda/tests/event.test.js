// The events that a handler gets, row by row against captures of API Gateway (docs/api-gateway.md).

import assert from "node:assert/strict";
import { test } from "node:test";

import { Gateway } from "../../src/testing/index.js";
import { adapt } from "../adapter.js";

/** A gateway whose handler keeps its events. */
function recording(answer = { statusCode: 200 }) {
  const events = [];
  const gateway = new Gateway(
    adapt(async (event) => {
      events.push(event);
      return answer;
    }),
  );
  return { gateway, events };
}

/** The event of a client's request. */
async function connected(request, prepare = () => {}) {
  const { gateway, events } = recording();
  prepare(gateway);
  await gateway.connect(request);
  return events[0];
}

const keys = (value) => Object.keys(value).sort();

test("CONNECT event: has the fields of a capture, and no others", async () => {
  const event = await connected({ query: { token: "t" } });
  assert.deepEqual(keys(event), ["headers", "isBase64Encoded", "multiValueHeaders", "multiValueQueryStringParameters", "queryStringParameters", "requestContext"]);
  assert.equal(event.isBase64Encoded, false);
  assert.deepEqual(keys(event.requestContext), [
    "apiId", "connectedAt", "connectionId", "domainName", "eventType", "extendedRequestId", "identity", "messageDirection", "requestId", "requestTime",
    "requestTimeEpoch", "routeKey", "stage",
  ]);
});

test("CONNECT event: requestContext comes from the contract", async () => {
  const { requestContext } = await connected({ sourceIp: "203.0.113.9", domainName: "chat.example.com" });
  const { requestTimeEpoch, connectedAt, ...rest } = requestContext;
  assert.equal(typeof connectedAt, "number");
  assert.equal(requestTimeEpoch, 1_700_000_000_001);
  assert.deepEqual(rest, {
    routeKey: "$connect",
    eventType: "CONNECT",
    extendedRequestId: "request-0001",
    requestTime: "14/Nov/2023:22:13:20 +0000",
    messageDirection: "IN",
    stage: "stage",
    identity: { userAgent: "test", sourceIp: "203.0.113.9" },
    requestId: "request-0001",
    domainName: "chat.example.com",
    connectionId: "connection-0001",
    apiId: "api",
  });
});

test("CONNECT event: queryStringParameters are absent without a query string", async () => {
  const event = await connected({});
  assert.equal("queryStringParameters" in event, false);
  assert.equal("multiValueQueryStringParameters" in event, false);
});

test("CONNECT event: of a repeated query key the last value is in the flat map, and all in the other", async () => {
  const event = await connected({ query: [["a", "1"], ["b", "2"], ["a", "3"]] });
  assert.deepEqual(event.queryStringParameters, { a: "3", b: "2" });
  assert.deepEqual(event.multiValueQueryStringParameters, { a: ["1", "3"], b: ["2"] });
});

test("CONNECT event: header names are written as browsers write them", async () => {
  const headers = { "origin": "https://a.b", "sec-websocket-version": "13", "user-agent": "x", "x-api-key": "k", "dnt": "1", "authorization": "Bearer t" };
  const event = await connected({ headers, subprotocols: ["chat1", "chat2"] });
  assert.deepEqual(keys(event.headers), [
    "Authorization", "DNT", "Host", "Origin", "Sec-WebSocket-Protocol", "Sec-WebSocket-Version", "User-Agent", "X-Api-Key", "X-Forwarded-For",
    "X-Forwarded-Port", "X-Forwarded-Proto",
  ]);
  assert.equal(event.headers["Sec-WebSocket-Protocol"], "chat1, chat2");
  assert.deepEqual(event.multiValueHeaders["X-Api-Key"], ["k"]);
});

test("CONNECT event: every spelling of a header finds it, and JSON has one", async () => {
  const event = await connected({ headers: { "x-api-key": "k", "authorization": "t" } });
  for (const name of ["x-api-key", "X-API-Key", "X-Api-Key"]) {
    assert.equal(event.headers[name], "k");
    assert.deepEqual(event.multiValueHeaders[name], ["k"]);
    assert.equal(name in event.headers, true);
  }
  assert.equal(event.headers.authorization, "t");
  assert.equal(event.headers.nothing, undefined);
  assert.equal(JSON.stringify(event.headers).match(/api-key/gi).length, 1);
  assert.equal(typeof event.headers.hasOwnProperty, "function");
  assert.deepEqual({ ...event.headers }["X-Api-Key"], "k");
});

test("CONNECT event: a client's own X-Forwarded headers do not count", async () => {
  const headers = { "host": "a.example:8443", "x-forwarded-for": "1.2.3.4", "x-forwarded-proto": "ftp", "x-forwarded-host": "evil" };
  const event = await connected({ headers, sourceIp: "203.0.113.7", secure: false });
  assert.equal(event.headers["X-Forwarded-For"], "203.0.113.7");
  assert.equal(event.headers["X-Forwarded-Proto"], "http");
  assert.equal(event.headers["X-Forwarded-Port"], "8443");
  assert.equal(event.headers["X-Forwarded-Host"], undefined);
});

test("CONNECT event: identity has no userAgent if the client sent none", async () => {
  const event = await connected({ headers: [["user-agent", undefined]] });
  assert.deepEqual(event.requestContext.identity, { sourceIp: "203.0.113.7" });
});

test("CONNECT event: stageVariables are there when the stage has some", async () => {
  assert.equal("stageVariables" in (await connected({})), false);
  const event = await connected({}, (gateway) => gateway.variable("table", "rooms"));
  assert.deepEqual(event.stageVariables, { table: "rooms" });
});

test("MESSAGE event: has the raw text, a message id and no headers", async () => {
  const { gateway, events } = recording();
  const id = await gateway.connect();
  await gateway.messageOn("sendmessage", id, '{"action":"sendmessage"}');
  const event = events[1];
  assert.deepEqual(keys(event), ["body", "isBase64Encoded", "requestContext"]);
  assert.equal(event.body, '{"action":"sendmessage"}');
  assert.equal(event.isBase64Encoded, false);
  const { routeKey, eventType, messageId, requestId, extendedRequestId, connectionId } = event.requestContext;
  assert.deepEqual({ routeKey, eventType, connectionId }, { routeKey: "sendmessage", eventType: "MESSAGE", connectionId: id });
  assert.equal(requestId, extendedRequestId);
  assert.notEqual(messageId, requestId);
});

test("MESSAGE event: a binary message is base64", async () => {
  const { gateway, events } = recording();
  const id = await gateway.connect();
  const bytes = Uint8Array.from({ length: 70_000 }, (_, index) => index % 256);
  await gateway.message(id, bytes);
  assert.equal(events[1].isBase64Encoded, true);
  assert.equal(events[1].body, Buffer.from(bytes).toString("base64"));
});

test("DISCONNECT event: has code, reason and the minimal headers", async () => {
  const { gateway, events } = recording();
  const id = await gateway.connect({ domainName: "chat.example.com" });
  await gateway.disconnect(id, { code: 1005, reason: "Client-side close frame status not set" });
  const event = events[1];
  assert.deepEqual(event.headers, { "Host": "chat.example.com", "x-api-key": "", "X-Forwarded-For": "", "x-restapi": "" });
  assert.deepEqual(event.multiValueHeaders["x-api-key"], [""]);
  const { eventType, routeKey, disconnectStatusCode, disconnectReason } = event.requestContext;
  assert.deepEqual(
    { eventType, routeKey, disconnectStatusCode, disconnectReason },
    { eventType: "DISCONNECT", routeKey: "$disconnect", disconnectStatusCode: 1005, disconnectReason: "Client-side close frame status not set" },
  );
  assert.equal("body" in event, false);
});

test("authorizer: its values and the principal are in every event of the connection, and absent without one", async () => {
  const { gateway, events } = recording();
  gateway.identify("u1", { tenant: "t1", level: 3, admin: true });
  const id = await gateway.connect();
  await gateway.message(id, "x");
  await gateway.disconnect(id);
  for (const { requestContext } of events) assert.deepEqual(requestContext.authorizer, { tenant: "t1", level: 3, admin: true, principalId: "u1" });
  assert.equal("authorizer" in (await connected({})).requestContext, false);
});
