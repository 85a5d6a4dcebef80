// Lambda authorizers of the type REQUEST, as API Gateway runs them .

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Gateway } from "../../src/testing/index.js";
import { adapt } from "../adapter.js";
import { allows } from "../policy.js";

const ARN = "arn:aws:execute-api:us-east-1:000000000000:api/stage/$connect";

const policy = (Effect, Resource, Action = "execute-api:Invoke") => ({ Version: "2012-10-17", Statement: [{ Action, Effect, Resource }] });

const gatewayOf = (authorizer) => new Gateway(adapt({}, authorizer));

const decided = (answer) => gatewayOf(async () => answer).authorize();

test("event: has the fields of an authorizer's request", async () => {
  let event;
  const gateway = gatewayOf(async (given) => {
    event = given;
    return { principalId: "ada", policyDocument: policy("Allow", given.methodArn) };
  });
  gateway.variable("colour", "blue");
  await gateway.authorize({ query: { token: "t" }, headers: { authorization: "Bearer t" } });
  assert.deepEqual(Object.keys(event).sort(), [
    "headers", "methodArn", "multiValueHeaders", "multiValueQueryStringParameters", "queryStringParameters", "requestContext", "stageVariables", "type",
  ]);
  assert.equal(event.type, "REQUEST");
  assert.equal(event.methodArn, ARN);
  assert.equal(event.headers.Authorization, "Bearer t");
  assert.deepEqual(event.queryStringParameters, { token: "t" });
  assert.deepEqual(event.stageVariables, { colour: "blue" });
  assert.equal(event.requestContext.routeKey, "$connect");
  assert.equal(event.requestContext.authorizer, undefined);
});

test("allowed: principal and context reach every event", async () => {
  const answer = { principalId: "ada", policyDocument: policy("Allow", "*"), context: { plan: "gold", age: 36, staff: true } };
  assert.deepEqual(await decided(answer), { principal: "ada", values: { plan: "gold", age: 36, staff: true }, scopes: [], expiresAt: undefined });
});

test("usageIdentifierKey: is a value, for the API key of the stage", async () => {
  const answer = { principalId: "ada", policyDocument: policy("Allow", "*"), usageIdentifierKey: "prefix.secret" };
  assert.deepEqual((await decided(answer)).values, { usageIdentifierKey: "prefix.secret" });
  assert.deepEqual((await decided({ ...answer, usageIdentifierKey: null })).values, {});
});

test("policy: is evaluated against the stage's $connect", async () => {
  const allow = (document) => decided({ principalId: "a", policyDocument: document });
  for (const resource of [ARN, "*", "arn:aws:execute-api:*:*:*", "arn:aws:execute-api:us-east-1:123456789012:api/stage/*", "arn:aws:execute-api:eu-west-1:1:api/*/$connect", "arn:*:execute-api:::api/stage/$conn?ct"]) {
    await assert.doesNotReject(allow(policy("Allow", resource)), resource);
  }
  for (const resource of ["arn:aws:execute-api:us-east-1:1:api/stage/*/*", "arn:aws:execute-api:us-east-1:1:other/stage/*", "arn:aws:s3:::api/stage/$connect", []]) {
    await assert.rejects(allow(policy("Allow", resource)), { status: 403 }, String(resource));
  }
  await assert.rejects(allow(policy("Deny", "*")), { status: 403 });
  await assert.rejects(allow(policy("Allow", "*", "s3:Get")), { status: 403 });
  await assert.doesNotReject(allow(policy("Allow", ["arn:aws:s3:::x", "*"], ["s3:Get", "Execute-API:*"])));
  const both = { Statement: [...policy("Allow", "*").Statement, ...policy("Deny", ARN).Statement] };
  await assert.rejects(allow(both), { status: 403 });
  await assert.rejects(allow({ Statement: [] }), { status: 403 });
});

// The cases are those of the SDK for Go, too: the client 203.0.113.7, over TLS, on 14 November 2023 at 22:13:20 UTC.
for (const { case: name, status, sourceIp, policy: policyDocument } of JSON.parse(readFileSync(new URL("../../../tests/policies.json", import.meta.url)))) {
  test(`policy: ${name} gives ${status === 0 ? "a connection" : status}`, async () => {
    const asked = gatewayOf(async () => ({ principalId: "a", policyDocument })).authorize(sourceIp === undefined ? {} : { sourceIp });
    await (status === 0 ? assert.doesNotReject(asked) : assert.rejects(asked, { status }));
  });
}

test("policy: members that are undefined are none", async () => {
  const statement = { ...policy("Allow", "*").Statement[0], Condition: undefined };
  await assert.doesNotReject(decided({ principalId: "a", policyDocument: { Version: undefined, Statement: [statement] } }));
});

test("policy: a mistake is named by its place and its remedy", () => {
  const asked = { arn: ARN, sourceIp: "203.0.113.7", secure: true, at: 0 };
  const Statement = { ...policy("Allow", "*").Statement[0], Condition: { StringLike: { "aws:UserAgent": "x" } } };
  assert.throws(() => allows({ Statement }, asked), /Statement\[0\]\.Condition\.StringLike\.aws:UserAgent is not understood; evaluated are IpAddress/);
  const incomplete = policy("Deny", ["*", "arn:aws:execute-api:us-east-1"]);
  assert.throws(() => allows(incomplete, asked), /Statement\[0\]\.Resource is not understood; "arn:aws:execute-api:us-east-1" is no whole ARN; write ARNs whole/);
});

test("error Unauthorized: is 401, in each form; any other error is 500", async () => {
  for (const authorizer of [
    async () => { throw new Error("Unauthorized"); },
    async () => { throw "Unauthorized"; },
    () => { throw "Unauthorized"; },
    () => Promise.reject("Unauthorized"),
    async (event, context, callback) => { throw "Unauthorized"; },
    (event, context, callback) => callback("Unauthorized"),
    (event, context, callback) => callback(new Error("Unauthorized")),
    (event, context) => context.fail("Unauthorized"),
  ]) {
    await assert.rejects(gatewayOf(authorizer).authorize(), { status: 401 });
  }
  for (const other of [new Error("unauthorized, or so"), "unauthorized", { message: "Unauthorized" }, ["Unauthorized"], null, undefined, 401]) {
    await assert.rejects(gatewayOf(async () => { throw other; }).authorize(), { status: 500 }, String(other));
    if (other) await assert.rejects(gatewayOf((event, context, callback) => callback(other)).authorize(), { status: 500 }, String(other));
  }
});

test("malformed answer: is 500", async () => {
  const policyDocument = policy("Allow", "*");
  for (const answer of [
    undefined, null, "ada", [], {}, { policyDocument }, { principalId: "", policyDocument }, { principalId: "a" }, { principalId: "a", policyDocument: {} },
    { principalid: "a", policyDocument }, { principalId: "a", POLICYDOCUMENT: policyDocument }, { principalId: "a", policyDocument, context: "ab" }, { principalId: "a", policyDocument, context: ["b"] },
    { principalId: "a", policyDocument, usageIdentifierKey: 7 },
    { principalId: "a", policyDocument, context: { nested: {} } }, { principalId: "a", policyDocument, context: { long: "x".repeat(9000) } }, { isAuthorized: true },
  ]) {
    await assert.rejects(decided(answer), { status: 500 }, JSON.stringify(answer)?.slice(0, 80));
  }
});
