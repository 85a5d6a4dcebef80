// A DynamoDB table that says who is connected, kept by the gateway: a row is an attribute of its connection, and the
// connections with a row are a group. So a row lives exactly as long as its connection, and anything else that a real
// table could hold is refused with a ValidationException: nothing is lost in silence.

import * as connections from "../../src/connections.js";
import * as groups from "../../src/groups.js";

import { condition, project } from "./expression.js";
import { tableKey } from "./key.js";
import { ServiceFault } from "./operations.js";

/** Parameters that change nothing here. */
const IGNORED = ["TableName", "ReturnConsumedCapacity", "ReturnItemCollectionMetrics", "ConsistentRead", "ReturnValuesOnConditionCheckFailure"];

const EXPRESSIONS = ["ExpressionAttributeNames", "ExpressionAttributeValues"];

/** The members of a group that one call gives. */
const PAGE = 1_000;

export const tableOperations = {
  PutItem: operation(["Item"], ["ConditionExpression", "ReturnValues", ...EXPRESSIONS], (input) => {
    const [table, id] = [tableOf(input), idIn(input.Item)];
    const old = row(table, id);
    check(input, old);
    const { [tableKey()]: _, ...rest } = input.Item;
    write(table, id, JSON.stringify(rest), old);
    return oldValues(input, old);
  }),
  GetItem: operation(["Key"], ["ProjectionExpression", "ExpressionAttributeNames"], (input) => {
    const item = row(tableOf(input), idIn(input.Key));
    return item ? { Item: project(item, input) } : {};
  }),
  DeleteItem: operation(["Key"], ["ConditionExpression", "ReturnValues", ...EXPRESSIONS], (input) => {
    const [table, id] = [tableOf(input), idIn(input.Key)];
    const old = row(table, id);
    check(input, old);
    remove(table, id);
    return oldValues(input, old);
  }),
  Scan: operation([], ["FilterExpression", "ProjectionExpression", "Limit", "ExclusiveStartKey", "Select", ...EXPRESSIONS], scan),
};

/** An operation that refuses each parameter that it does not know: ignoring one could change what the caller gets. */
function operation(required, known, run) {
  return {
    status: 200,
    required: ["TableName", ...required],
    run(input) {
      const unknown = Object.keys(input).filter((name) => input[name] !== undefined && ![...required, ...known, ...IGNORED].includes(name));
      if (unknown.length > 0) throw invalid(`a connection table has no ${unknown.join(", ")}`);
      return run(input);
    },
  };
}

function scan(input) {
  const { Limit = Infinity, ExclusiveStartKey, Select } = input;
  const table = tableOf(input);
  const isWanted = condition(input.FilterExpression, input);
  const items = [];
  let after = ExclusiveStartKey && idIn(ExclusiveStartKey);
  let scanned = 0;
  for (let more = true; more && scanned < Limit; ) {
    const ids = groups.members(table, { after, limit: Math.min(PAGE, Limit - scanned) });
    scanned += ids.length;
    after = ids.at(-1) ?? after;
    more = ids.length > 0;
    const rows = ids.map((id) => row(table, id)).filter((item) => item !== undefined);
    items.push(...rows.filter(isWanted).map((item) => project(item, input)));
  }
  const last = scanned === Limit && after !== undefined ? { LastEvaluatedKey: { [tableKey()]: { S: after } } } : {};
  return { ...(Select !== "COUNT" && { Items: items }), Count: items.length, ScannedCount: scanned, ...last };
}

/** The row of a connection; none when it has none, or has gone. In `$disconnect` the connection's own is still there. */
function row(table, id) {
  const text = unlessGone(() => connections.attribute(id, table));
  return text === undefined ? undefined : { [tableKey()]: { S: id }, ...JSON.parse(text) };
}

function write(table, id, text, old) {
  try {
    connections.setAttribute(id, table, text);
    if (!old) groups.join(table, id);
  } catch (error) {
    if (error.code === "gone") throw invalid(`there is no open connection ${JSON.stringify(id)}, and a connection table has rows of open connections only`);
    if (error.code === "too-large") throw invalid("Item size has exceeded the maximum allowed size: rows are attributes of their connections, and limits.attributes_kib of the stage bounds them");
    if (error.code === "busy") {
      connections.removeAttribute(id, table);
      throw new ServiceFault("ProvisionedThroughputExceededException", 400, "the connection is in as many groups as limits.groups of the stage allows");
    }
    throw error;
  }
}

/** A row of a connection that has gone has gone with it. */
function remove(table, id) {
  unlessGone(() => {
    connections.removeAttribute(id, table);
    groups.leave(table, id);
  });
}

function unlessGone(call) {
  try {
    return call();
  } catch (error) {
    if (error.code === "gone") return undefined;
    throw error;
  }
}

function check(input, item) {
  if (condition(input.ConditionExpression, input)(item ?? {})) return;
  throw new ServiceFault("ConditionalCheckFailedException", 400, "The conditional request failed");
}

function oldValues({ ReturnValues = "NONE" }, old) {
  if (!["NONE", "ALL_OLD"].includes(ReturnValues)) throw invalid("Return values set to invalid value");
  return ReturnValues === "ALL_OLD" && old ? { Attributes: old } : {};
}

function idIn(item) {
  const key = tableKey();
  const id = item[key]?.S;
  if (typeof id === "string" && id !== "") return id;
  const found = Object.keys(item).join(", ") || "nothing";
  throw invalid(`"connectionTable" in package.json says that rows have the key "${key}", a connection's id, and this one has ${found}`);
}

/** The name of the attribute and of the group. */
function tableOf({ TableName }) {
  return `table:${TableName}`;
}

function invalid(message) {
  return new ServiceFault("ValidationException", 400, message);
}
