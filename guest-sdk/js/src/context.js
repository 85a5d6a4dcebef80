// The circumstances of the present invocation. Every plugin has this module.

import * as contract from "#gateway/context";
import { u64 } from "#gateway/u64";

import { identityTime, identityValues } from "./answers.js";
import { call, optional, text } from "./call.js";

export function current() {
  const { requestId, api, stage, requestedAt, messageId } = contract.current();
  return { requestId, api, stage, requestedAt: Number(requestedAt), messageId: optional(messageId) };
}

export function timeLeft() {
  return contract.timeLeft();
}

export function isDatagram() {
  return contract.isDatagram();
}

export function principal() {
  return optional(contract.principal());
}

export function authorizer() {
  const values = contract.authorizer();
  return values.length === 0 ? {} : Object.fromEntries(values.map(([name, value]) => [name, value.val]));
}

export function renew(expiresAt, values) {
  const time = identityTime("context.renew: the time", expiresAt);
  if (time === undefined) throw new TypeError("context.renew: the time is missing; it has to be a Date, or whole milliseconds since 1970");
  const having = values === undefined ? undefined : identityValues("context.renew: a value", values);
  return call(() => contract.renew(u64(time), having));
}

export function variables() {
  const values = contract.variables();
  return values.length === 0 ? {} : Object.fromEntries(values);
}

export function variable(name) {
  text("context.variable", "the name", name);
  return contract.variables().find(([key]) => key === name)?.[1];
}
