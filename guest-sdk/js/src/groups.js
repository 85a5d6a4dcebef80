// Named sets of connections of the same API and stage. Needs the grant `groups`.

import * as contract from "#gateway/groups";

import { call, number, text } from "./call.js";
import { toContract } from "./message.js";

/** Members that a page has unless another limit is asked for. */
const PAGE = 1000;

export function ofPrincipal(principal) {
  return "$principal/" + text("groups.ofPrincipal", "the principal", principal);
}

export function join(group, id) {
  const name = text("groups.join", "the group", group);
  const whose = text("groups.join", "the connection id", id);
  return call(() => contract.join(name, whose));
}

export function leave(group, id) {
  const name = text("groups.leave", "the group", group);
  const whose = text("groups.leave", "the connection id", id);
  return call(() => contract.leave(name, whose));
}

export function publish(group, message, { exclude } = {}) {
  const name = text("groups.publish", "the group", group);
  const except = exclude === undefined ? undefined : text("groups.publish", "exclude", exclude);
  const packed = toContract(message, "groups.publish: the message");
  return call(() => contract.publish(name, packed, except));
}

export function members(group, { after, limit = PAGE } = {}) {
  const name = text("groups.members", "the group", group);
  const from = after === undefined ? undefined : text("groups.members", "after", after);
  number("groups.members", "limit", limit, 2 ** 32 - 1);
  return call(() => contract.members(name, from, limit));
}

export function count(group) {
  const name = text("groups.count", "the group", group);
  return call(() => contract.count(name));
}
