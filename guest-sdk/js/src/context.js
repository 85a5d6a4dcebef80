// The circumstances of the present invocation. Every plugin has this module.

import * as contract from "#gateway/context";

import { optional, text } from "./call.js";

export function current() {
  const { requestId, api, stage, requestedAt, messageId } = contract.current();
  return { requestId, api, stage, requestedAt: Number(requestedAt), messageId: optional(messageId) };
}

export function timeLeft() {
  return contract.timeLeft();
}

export function principal() {
  return optional(contract.principal());
}

export function authorizer() {
  const values = contract.authorizer();
  return values.length === 0 ? {} : Object.fromEntries(values.map(([name, value]) => [name, value.val]));
}

export function variables() {
  const values = contract.variables();
  return values.length === 0 ? {} : Object.fromEntries(values);
}

export function variable(name) {
  text("context.variable", "the name", name);
  return contract.variables().find(([key]) => key === name)?.[1];
}
