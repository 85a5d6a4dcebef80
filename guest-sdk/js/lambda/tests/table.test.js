// Connection tables: DynamoDB's clients over groups and attributes.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Gateway } from "../../src/testing/index.js";
import { adapt } from "../adapter.js";
import * as typed from "../aws/client-dynamodb.js";
import { setTableKey } from "../aws/key.js";
import * as lib from "../aws/lib-dynamodb.js";
import { DynamoDB } from "../aws/v2-dynamodb.js";
import { sdk } from "../aws/v2.js";

setTableKey("connectionId");
const AWS = sdk({ DynamoDB });
const TableName = "connections";
const documents = lib.DynamoDBDocumentClient.from(new typed.DynamoDBClient({}));

/** Runs `act` in the handlers of a connection; gives what it returned for the last event. */
function acting(act) {
  let result;
  const run = async (event) => {
    result = await act(event.requestContext.connectionId, event);
    return { statusCode: 200 };
  };
  const gateway = new Gateway(adapt(run));
  return { gateway, result: () => result };
}

/** The result of `act` in a message of the first of three connections, of which each has a row with its number. */
async function withRows(act) {
  let step = 0;
  const { gateway, result } = acting(async (id, event) => {
    if (event.requestContext.eventType !== "CONNECT") return act(id, event);
    step += 1;
    return documents.send(new lib.PutCommand({ TableName, Item: { connectionId: id, number: step, room: step < 3 ? "a" : "b" } }));
  });
  const ids = [await gateway.connect(), await gateway.connect(), await gateway.connect()];
  await gateway.message(ids[0], "x");
  return { gateway, ids, result: result() };
}

const send = (Command, input) => documents.send(new Command({ TableName, ...input }));

const failure = (promise) => promise.then(() => assert.fail("it has to fail"), (error) => `${error.name}: ${error.message}`);

test("row is put, got, scanned and deleted, and goes with its connection", async () => {
  const { gateway, ids, result } = await withRows(async (id) => {
    const { Item } = await send(lib.GetCommand, { Key: { connectionId: id } });
    const scan = await send(lib.ScanCommand, {});
    return { Item, scan };
  });
  assert.deepEqual(result.Item, { connectionId: ids[0], number: 1, room: "a" });
  assert.deepEqual(result.scan.Items.map((item) => item.number), [1, 2, 3]);
  assert.deepEqual([result.scan.Count, result.scan.ScannedCount, "LastEvaluatedKey" in result.scan], [3, 3, false]);
  assert.deepEqual(gateway.members("table:connections"), ids);
  await gateway.disconnect(ids[1]);
  assert.deepEqual(gateway.members("table:connections"), [ids[0], ids[2]]);
});

test("row is still read and deleted in $disconnect", async () => {
  let seen;
  const { gateway } = acting(async (id, { requestContext: { eventType } }) => {
    if (eventType === "CONNECT") return send(lib.PutCommand, { Item: { connectionId: id, name: "ann" } });
    seen = await send(lib.DeleteCommand, { Key: { connectionId: id }, ReturnValues: "ALL_OLD" });
  });
  const id = await gateway.connect();
  await gateway.disconnect(id);
  assert.deepEqual(seen.Attributes, { connectionId: id, name: "ann" });
});

test("put replaces a row whole, and gives the old one when asked", async () => {
  const { result } = await withRows(async (id) => {
    const old = await send(lib.PutCommand, { Item: { connectionId: id, other: true }, ReturnValues: "ALL_OLD" });
    const { Item } = await send(lib.GetCommand, { Key: { connectionId: id } });
    return { old: old.Attributes.number, Item: { ...Item, connectionId: undefined } };
  });
  assert.deepEqual(result, { old: 1, Item: { connectionId: undefined, other: true } });
});

test("delete of a row that is not there is no error, and get gives none", async () => {
  const { result } = await withRows(async (id) => {
    await send(lib.DeleteCommand, { Key: { connectionId: id } });
    const again = await send(lib.DeleteCommand, { Key: { connectionId: id }, ReturnValues: "ALL_OLD" });
    const unknown = await send(lib.DeleteCommand, { Key: { connectionId: "unknown" } });
    return [again.Attributes, unknown.Attributes, (await send(lib.GetCommand, { Key: { connectionId: id } })).Item, (await send(lib.ScanCommand, {})).Count];
  });
  assert.deepEqual(result, [undefined, undefined, undefined, 2]);
});

test("scan filters, projects, counts and pages", async () => {
  const { ids, result } = await withRows(async (id) => {
    const filter = { FilterExpression: "room = :room AND connectionId <> :me", ExpressionAttributeValues: { ":room": "a", ":me": id } };
    const filtered = await send(lib.ScanCommand, { ...filter, ProjectionExpression: "connectionId, #n", ExpressionAttributeNames: { "#n": "number" } });
    const count = await send(lib.ScanCommand, { ...filter, Select: "COUNT" });
    const first = await send(lib.ScanCommand, { Limit: 2 });
    const second = await send(lib.ScanCommand, { Limit: 2, ExclusiveStartKey: first.LastEvaluatedKey });
    const paged = [];
    for await (const { Items } of lib.paginateScan({ client: documents, pageSize: 2 }, { TableName })) paged.push(Items.length);
    assert.deepEqual(paged, [2, 1]);
    return { filtered: filtered.Items, count: [count.Items, count.Count, count.ScannedCount], pages: [first, second].map(({ Items, LastEvaluatedKey }) => [Items.length, LastEvaluatedKey]) };
  });
  assert.deepEqual(result, {
    filtered: [{ connectionId: ids[1], number: 2 }],
    count: [undefined, 1, 3],
    pages: [[2, { connectionId: ids[1] }], [1, undefined]],
  });
});

test("expressions compare as DynamoDB does", async () => {
  const { result } = await withRows(async () => {
    const count = async (FilterExpression, values) => (await send(lib.ScanCommand, { FilterExpression, ExpressionAttributeValues: values })).Count;
    return [
      await count("number > :n", { ":n": 1 }),
      await count("number <= :n", { ":n": 1 }),
      await count("number > :n", { ":n": "1" }),
      await count("attribute_exists(room)"),
      await count("attribute_not_exists(nothing)"),
      await count("begins_with(room, :r)", { ":r": "b" }),
      await count("contains(room, :r)", { ":r": "a" }),
      await count("nothing <> :n", { ":n": 1 }),
      await count("nothing = :n", { ":n": 1 }),
    ];
  });
  assert.deepEqual(result, [2, 1, 0, 3, 3, 1, 2, 3, 0]);
});

test("condition of a put that does not hold changes nothing", async () => {
  const { result } = await withRows(async (id) => {
    const said = await failure(send(lib.PutCommand, { Item: { connectionId: id }, ConditionExpression: "attribute_not_exists(connectionId)" }));
    return [said, (await send(lib.GetCommand, { Key: { connectionId: id } })).Item.number];
  });
  assert.deepEqual(result, ["ConditionalCheckFailedException: The conditional request failed", 1]);
});

test("values of every type come back as they were", async () => {
  const item = { text: "ä", number: -1.5, big: 12345678901234567890n, yes: true, nothing: null, list: [1, "a", [null]], map: { a: { b: [] } }, bytes: Uint8Array.of(0, 255), set: new Set(["a", "b"]), numbers: new Set([1, 2]) };
  const { result } = await withRows(async (id) => {
    await send(lib.PutCommand, { Item: { connectionId: id, ...item } });
    return (await send(lib.GetCommand, { Key: { connectionId: id } })).Item;
  });
  const { connectionId, ...rest } = result;
  assert.deepEqual(rest, item);
});

test("whatever a connection table cannot keep is refused, and says why", async () => {
  const { result } = await withRows(async (id) => [
    await failure(send(lib.PutCommand, { Item: { userId: "u1" } })),
    await failure(send(lib.PutCommand, { Item: { connectionId: "user#1" } })),
    await failure(send(lib.PutCommand, { Item: { connectionId: id, text: "x".repeat(5000) } })),
    await failure(send(lib.ScanCommand, { IndexName: "by-room" })),
    await failure(send(lib.ScanCommand, { FilterExpression: "a = :a OR b = :b", ExpressionAttributeValues: { ":a": 1, ":b": 2 } })),
    await failure(send(lib.ScanCommand, { FilterExpression: "a.b = :a", ExpressionAttributeValues: { ":a": 1 } })),
    await failure(send(lib.PutCommand, { Item: { connectionId: id, gap: undefined } })),
    await failure(send(lib.PutCommand, { Item: { connectionId: id, date: new Date() } })),
    await failure(documents.send(new lib.PutCommand({ Item: { connectionId: id } }))),
  ]);
  const expected = [
    /^ValidationException: .*rows have the key "connectionId", a connection's id, and this one has userId/,
    /^ValidationException: there is no open connection "user#1"/,
    /^ValidationException: Item size has exceeded .*limits\.attributes_kib/,
    /^ValidationException: a connection table has no IndexName/,
    /^ValidationException: a connection table does not know "a = :a OR b = :b"/,
    /^ValidationException: a connection table does not know "a\.b = :a"/,
    /^Error: "gap" is undefined\. Pass options\.removeUndefinedValues=true/,
    /^Error: Unsupported type passed: Date/,
    /^Error: PutCommand has no TableName in its input/,
  ];
  for (const [index, reason] of expected.entries()) assert.match(result[index], reason);
  assert.throws(() => new lib.QueryCommand({}), /QueryCommand is not there: a connection table has put, get, delete and scan/);
});

test("row that does not fit leaves the old one", async () => {
  const { result } = await withRows(async (id) => {
    await failure(send(lib.PutCommand, { Item: { connectionId: id, text: "x".repeat(5000) } }));
    return (await send(lib.GetCommand, { Key: { connectionId: id } })).Item.number;
  });
  assert.equal(result, 1);
});

test("plain client of v3 and both of v2 see the same rows", async () => {
  const plain = new typed.DynamoDB({});
  const [v2, v2documents] = [new AWS.DynamoDB(), new AWS.DynamoDB.DocumentClient()];
  const { ids, result } = await withRows(async (id) => {
    await plain.putItem({ TableName, Item: { connectionId: { S: id }, bytes: { B: Uint8Array.of(1, 2) }, number: { N: "7" } } });
    const { Item } = await plain.getItem({ TableName, Key: { connectionId: { S: id } } });
    const rows = await v2documents.scan({ TableName, ProjectionExpression: "connectionId" }).promise();
    const byCallback = await new Promise((resolve) => v2.getItem({ TableName, Key: { connectionId: { S: id } } }, (error, data) => resolve(data)));
    await v2documents.delete({ TableName, Key: { connectionId: id } }).promise();
    return { bytes: Item.bytes.B, number: byCallback.Item.number, rows: rows.Items, left: (await v2.scan({ TableName }).promise()).Count };
  });
  assert.deepEqual(result, { bytes: Uint8Array.of(1, 2), number: { N: "7" }, rows: ids.map((connectionId) => ({ connectionId })), left: 2 });
});
