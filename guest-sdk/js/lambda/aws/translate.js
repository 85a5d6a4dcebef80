// Items of callers and typed items, around an operation on a table.

import { decodeBase64, encodeBase64 } from "../base64.js";

import { marshallItem, unmarshallItem, wireItem } from "./attribute-value.js";
import { run } from "./operations.js";

const INPUTS = ["Item", "Key", "ExclusiveStartKey", "ExpressionAttributeValues"];

const OUTPUTS = ["Item", "Attributes", "LastEvaluatedKey"];

/** Runs an operation for a document client: items are JavaScript values. */
export function runWithDocuments(operation, input, options) {
  return translated(operation, input, (item) => marshallItem(item, options), unmarshallItem);
}

/** Runs an operation for a plain client: items are typed, and bytes are bytes. */
export function runWithTyped(operation, input) {
  return translated(operation, input, (item) => wireItem(item, encodeBase64), (item) => wireItem(item, decodeBase64));
}

function translated(operation, input, toTyped, fromTyped) {
  const typed = { ...input };
  for (const name of INPUTS) if (typed[name] !== undefined) typed[name] = toTyped(typed[name]);
  const output = run(operation, typed);
  for (const name of OUTPUTS) if (output[name] !== undefined) output[name] = fromTyped(output[name]);
  if (output.Items) output.Items = output.Items.map(fromTyped);
  return output;
}
