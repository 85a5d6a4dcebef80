// Open connections of the same API and stage. Needs the grant `connections`.

import * as contract from "#gateway/connections";

import { call, number, optional, text } from "./call.js";
import { toContract } from "./message.js";

export function send(id, message) {
  text("connections.send", "the connection id", id);
  const packed = toContract(message, "connections.send: the message");
  return call(() => contract.send(id, packed));
}

export function close(id, code = 1000, reason = "") {
  text("connections.close", "the connection id", id);
  number("connections.close", "the code", code, 65_535);
  text("connections.close", "the reason", reason);
  return call(() => contract.close(id, code, reason));
}

export function info(id) {
  text("connections.info", "the connection id", id);
  const found = call(() => contract.info(id));
  return {
    connectedAt: Number(found.connectedAt),
    lastActiveAt: Number(found.lastActiveAt),
    sourceIp: found.sourceIp,
    userAgent: optional(found.userAgent),
    domainName: found.domainName,
    subprotocol: optional(found.subprotocol),
  };
}

export function attribute(id, name) {
  text("connections.attribute", "the connection id", id);
  text("connections.attribute", "the name", name);
  return optional(call(() => contract.attribute(id, name)));
}

export function attributes(id) {
  text("connections.attributes", "the connection id", id);
  return Object.fromEntries(call(() => contract.attributes(id)));
}

export function setAttribute(id, name, value) {
  text("connections.setAttribute", "the connection id", id);
  text("connections.setAttribute", "the name", name);
  text("connections.setAttribute", "the value", value);
  return call(() => contract.setAttribute(id, name, value));
}

export function removeAttribute(id, name) {
  text("connections.removeAttribute", "the connection id", id);
  text("connections.removeAttribute", "the name", name);
  return call(() => contract.setAttribute(id, name, undefined));
}
