// The state of a gateway for tests: connections, groups, and the calls of the handler.

import { Buffer } from "node:buffer";

import { GatewayError } from "../errors.js";
import { fromContract } from "../message.js";

// The gateway's defaults, as in `lockgate config schema`.
const ATTRIBUTES = 4 << 10;
const GROUPS = 64;
export const MESSAGE = 128 << 10;
const POSTS = 256;
const DEADLINE = 3_000;

// Limits that no configuration changes.
const GROUP_NAME = 128;
const PAGE = 1_000;
const REASON = 123;
const IDENTITY = 8 << 10;
/** Bytes that a value counts beside its texts. */
const VALUE = 32;
/** A packet has no room for more. The gateway finds out how much the client's network takes, 1,100 bytes at least. */
const DATAGRAM = 1_200;

/** The time before the first event: the clock of a test advances only by a millisecond an event. */
const FIRST = 1_700_000_000_000;

export const size = (data) => (typeof data === "string" ? Buffer.byteLength(data) : data.byteLength);

const byName = ([left], [right]) => (left < right ? -1 : 1);

const invalid = (reason) => new GatewayError("invalid", reason);

/** The beginning of the names of the groups that have the connections of a principal. */
const PRINCIPAL = "$principal/";

/** Checks that connections join and leave the group by themselves. */
function checkChosen(group) {
  if (group.startsWith(PRINCIPAL)) throw invalid("a connection is in the group of its principal as long as it is open");
}

const numbered = (name, number) => `${name}-${String(number).padStart(4, "0")}`;

export class State {
  connections = new Map();
  stageVariables = new Map();
  /** Who the clients to come are. */
  identity = { principal: undefined, values: {} };
  /** Whether they take datagrams, and the stage too. */
  takesDatagrams = false;
  /** Whether the message under way came as a datagram. */
  datagram = false;
  calls = [];
  /** The connection of the event under way. */
  own = undefined;
  events = 0;
  postsLeft = 0;
  messageId = undefined;

  // What the test does.

  /** Adds the connection of a client that asks to be let in. */
  open(handshake) {
    const id = numbered("connection", this.connections.size + 1);
    const now = FIRST + this.events + 1;
    this.connections.set(id, {
      life: "opening",
      identity: this.identity,
      takesDatagrams: this.takesDatagrams,
      datagrams: [],
      info: {
        connectedAt: now,
        lastActiveAt: now,
        sourceIp: handshake.sourceIp,
        userAgent: handshake.header("user-agent"),
        domainName: handshake.domainName,
        subprotocol: undefined,
      },
      attributes: new Map(),
      groups: new Set(),
      received: [],
      closing: undefined,
      fails: undefined,
    });
    return id;
  }

  letIn(id, subprotocol) {
    const connection = this.expect(id);
    connection.life = "open";
    connection.info.subprotocol = subprotocol;
  }

  /** Removes the connection of a refused client, and with it all effects of the handler. */
  turnAway(id) {
    this.connections.delete(id);
  }

  end(id) {
    const connection = this.expect(id);
    connection.life = "ended";
    connection.groups.clear();
  }

  begin(id, routeKey, datagram) {
    this.datagram = datagram;
    this.own = id;
    this.events += 1;
    this.postsLeft = POSTS;
    const isMessage = routeKey !== "$connect" && routeKey !== "$disconnect";
    this.messageId = isMessage ? numbered("message", this.events) : undefined;
    this.expect(id).info.lastActiveAt = FIRST + this.events;
  }

  expect(id) {
    const connection = this.connections.get(id);
    if (connection === undefined) throw new Error(`there is no connection ${id}: Gateway.connect gives the ids of those there are`);
    return connection;
  }

  expectOpen(id) {
    if (this.expect(id).life !== "open") throw new Error(`the connection ${id} has ended: it has no events any more`);
  }

  expectDatagrams(id) {
    if (!this.expect(id).takesDatagrams) throw new Error(`the client of ${id} takes no datagrams: call Gateway.takeDatagrams before it connects`);
  }

  /** The members of a group, ordered by id: of a principal's group its connections. */
  membersOf(group) {
    const principal = group.startsWith(PRINCIPAL) ? group.slice(PRINCIPAL.length) : undefined;
    const isMember = ({ groups, identity }) => (principal === undefined ? groups.has(group) : identity.principal === principal);
    const found = [...this.connections].filter(([, connection]) => connection.life === "open" && isMember(connection));
    return found.map(([id]) => id).sort();
  }

  // What the handler calls.

  /** The event's own connection in any state, or an open one. */
  reachable(id) {
    const connection = this.connections.get(id);
    if (connection === undefined || (id !== this.own && connection.life !== "open")) throw new GatewayError("gone");
    return connection;
  }

  takePost() {
    if (this.postsLeft === 0) throw new GatewayError("busy");
    this.postsLeft -= 1;
  }

  send(to, packed) {
    const message = fromContract(packed);
    this.calls.push({ call: "send", to, message });
    const connection = this.reachable(to);
    this.takePost();
    checkLength(message);
    take(connection, message);
  }

  sendDatagram(to, payload) {
    this.calls.push({ call: "sendDatagram", to, payload });
    const connection = this.reachable(to);
    this.takePost();
    if (!this.takesDatagrams) throw new GatewayError("denied");
    if (!connection.takesDatagrams) throw invalid("the client takes no datagrams");
    if (connection.closing !== undefined || connection.life === "ended") throw new GatewayError("gone");
    if (size(payload) > DATAGRAM) throw new GatewayError("too-large");
    if (connection.fails !== undefined) throw connection.fails;
    if (connection.life === "open") connection.datagrams.push(payload);
  }

  close(id, code, reason) {
    this.calls.push({ call: "close", id, code, reason });
    const allowed = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
    if (!allowed) throw invalid(`no endpoint may send the close code ${code}`);
    if (size(reason) > REASON) throw invalid(`a reason has at most ${REASON} bytes`);
    const connection = this.reachable(id);
    if (connection.closing !== undefined || connection.life === "ended") throw new GatewayError("gone");
    connection.closing = { code, reason };
  }

  info(id) {
    return { ...this.reachable(id).info };
  }

  attribute(id, name) {
    return this.reachable(id).attributes.get(name);
  }

  attributes(id) {
    return [...this.reachable(id).attributes].sort(byName);
  }

  setAttribute(id, name, value) {
    const { attributes } = this.reachable(id);
    if (name === "") throw invalid("an attribute's name is empty");
    if (value === undefined) {
      attributes.delete(name);
      return;
    }
    let held = 8 + size(name) + size(value);
    for (const [other, text] of attributes) if (other !== name) held += 8 + size(other) + size(text);
    if (held > ATTRIBUTES) throw new GatewayError("too-large");
    attributes.set(name, value);
  }

  join(group, id) {
    checkChosen(group);
    if (size(group) < 1 || size(group) > GROUP_NAME) throw invalid(`a group's name has 1 to ${GROUP_NAME} bytes`);
    const connection = this.reachable(id);
    if (connection.life === "ended") throw new GatewayError("gone");
    if (!connection.groups.has(group) && connection.groups.size >= GROUPS) throw new GatewayError("busy");
    connection.groups.add(group);
  }

  leave(group, id) {
    checkChosen(group);
    this.reachable(id).groups.delete(group);
  }

  publish(group, packed, exclude) {
    const message = fromContract(packed);
    this.calls.push({ call: "publish", group, message, exclude });
    this.takePost();
    checkLength(message);
    let reached = 0;
    for (const id of this.membersOf(group)) {
      if (id === exclude) continue;
      const member = this.expect(id);
      try {
        take(member, message);
        reached += 1;
      } catch (error) {
        if (error.code === "busy") member.closing = { code: 1013, reason: "slow consumer" };
        else if (error.code !== "gone") throw error;
      }
    }
    return reached;
  }

  members(group, after, limit) {
    if (limit < 1 || limit > PAGE) throw invalid(`limit is 1 to ${PAGE}`);
    return this.membersOf(group)
      .filter((id) => after === undefined || id > after)
      .slice(0, limit);
  }

  count(group) {
    return this.membersOf(group).length;
  }

  current() {
    const { events, messageId } = this;
    return { requestId: numbered("request", events), api: "api", stage: "stage", requestedAt: FIRST + events, messageId };
  }

  /** The default limit: the clock of a test stands still during an event. */
  timeLeft() {
    return DEADLINE;
  }

  isDatagram() {
    return this.datagram;
  }

  principal() {
    return this.expect(this.own).identity.principal;
  }

  authorizer() {
    const tags = { string: "text", number: "number", boolean: "flag" };
    return Object.entries(this.expect(this.own).identity.values)
      .sort(byName)
      .map(([name, val]) => [name, { tag: tags[typeof val], val }]);
  }

  renew(time, values) {
    const connection = this.reachable(this.own);
    const { identity } = connection;
    if (this.messageId === undefined || identity.principal === undefined) throw new GatewayError("denied");
    if (values !== undefined) checkValues(identity.principal, values);
    if (time <= FIRST + this.events) throw invalid("the time until which it holds has passed; it is in milliseconds since 1970-01-01 UTC");
    if (connection.closing !== undefined) throw new GatewayError("gone");
    const having = values === undefined ? identity.values : Object.fromEntries(values.map(([name, { val }]) => [name, val]));
    connection.identity = { ...identity, values: having, expiresAt: time };
  }

  variables() {
    return [...this.stageVariables].sort(byName);
  }
}

/** Queues a message for a client, unless the test makes it fail. */
function take(connection, message) {
  if (connection.closing !== undefined || connection.life === "ended") throw new GatewayError("gone");
  if (connection.fails !== undefined) throw connection.fails;
  connection.received.push(message);
}

/** Checks the values that a client is to have. */
function checkValues(principal, values) {
  let bytes = size(principal);
  for (const [name, { tag, val }] of values) {
    if (name === "") throw invalid("a value or a scope has no name");
    if (tag === "number" && !Number.isFinite(val)) throw invalid(`the value ${JSON.stringify(name)} is not a finite number`);
    bytes += VALUE + size(name) + (tag === "text" ? size(val) : 0);
  }
  if (bytes > IDENTITY) throw new GatewayError("too-large");
}

function checkLength(message) {
  if (size(message) > MESSAGE) throw new GatewayError("too-large");
}
