// Named sets of connections of the same API and stage. Needs the grant `groups`.

import * as contract from "#gateway/groups";

import { call, number, text } from "./call.js";
import { toContract } from "./message.js";

/** Members that a page has unless another limit is asked for. */
const PAGE = 1000;

export function join(group, id) {
  text("groups.join", "the group", group);
  text("groups.join", "the connection id", id);
  return call(() => contract.join(group, id));
}

export function leave(group, id) {
  text("groups.leave", "the group", group);
  text("groups.leave", "the connection id", id);
  return call(() => contract.leave(group, id));
}

export function publish(group, message, { exclude } = {}) {
  text("groups.publish", "the group", group);
  if (exclude !== undefined) text("groups.publish", "exclude", exclude);
  const packed = toContract(message, "groups.publish: the message");
  return call(() => contract.publish(group, packed, exclude));
}

export function members(group, { after, limit = PAGE } = {}) {
  text("groups.members", "the group", group);
  if (after !== undefined) text("groups.members", "after", after);
  number("groups.members", "limit", limit, 2 ** 32 - 1);
  return call(() => contract.members(group, after, limit));
}

export function count(group) {
  text("groups.count", "the group", group);
  return call(() => contract.count(group));
}
