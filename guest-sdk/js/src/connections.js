// Open connections of the same API and stage. Needs the grant `connections`.

import * as contract from "#gateway/connections";

import { call, number, optional, text } from "./call.js";
import { toContract } from "./message.js";

export function send(id, message) {
  const to = text("connections.send", "the connection id", id);
  const packed = toContract(message, "connections.send: the message");
  return call(() => contract.send(to, packed));
}

export function sendDatagram(id, payload) {
  const to = text("connections.sendDatagram", "the connection id", id);
  const { tag, val } = toContract(payload, "connections.sendDatagram: the payload");
  if (tag !== "binary") throw new TypeError("connections.sendDatagram: the payload is a string; a datagram has bytes");
  return call(() => contract.sendDatagram(to, val));
}

export function close(id, code = 1000, reason = "") {
  const whose = text("connections.close", "the connection id", id);
  number("connections.close", "the code", code, 65_535);
  const why = text("connections.close", "the reason", reason);
  return call(() => contract.close(whose, code, why));
}

export function info(id) {
  const whose = text("connections.info", "the connection id", id);
  const found = call(() => contract.info(whose));
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
  const whose = text("connections.attribute", "the connection id", id);
  const called = text("connections.attribute", "the name", name);
  return optional(call(() => contract.attribute(whose, called)));
}

export function attributes(id) {
  const whose = text("connections.attributes", "the connection id", id);
  return Object.fromEntries(call(() => contract.attributes(whose)));
}

export function setAttribute(id, name, value) {
  const whose = text("connections.setAttribute", "the connection id", id);
  const called = text("connections.setAttribute", "the name", name);
  const to = text("connections.setAttribute", "the value", value);
  return call(() => contract.setAttribute(whose, called, to));
}

export function removeAttribute(id, name) {
  const whose = text("connections.removeAttribute", "the connection id", id);
  const called = text("connections.removeAttribute", "the name", name);
  return call(() => contract.setAttribute(whose, called, undefined));
}
