// A gateway for the tests of a plugin: it runs the handler where the test runs, without a component, a socket or a
// configuration. testing.d.ts describes it.

import { acceptance, Handshake, identity, refusal, reply } from "../answers.js";
import { checkPlugin } from "../define.js";
import { GatewayError, Refusal } from "../errors.js";
import { fromContract, toContract } from "../message.js";
import { answeredBy } from "./calls/gateway.js";
import { MESSAGE, size, State } from "./state.js";

export class Gateway {
  #plugin;
  #state = new State();
  /** The end of the last event: one comes after the other. */
  #last = Promise.resolve();

  constructor(plugin) {
    this.#plugin = checkPlugin(plugin);
  }

  variable(name, value) {
    this.#state.stageVariables.set(name, value);
    return this;
  }

  identify(principal, values = {}) {
    this.#state.identity = { principal, values };
    return this;
  }

  takeDatagrams() {
    this.#state.takesDatagrams = true;
  }

  authorize(request = {}) {
    return this.#event(async () => {
      const { authorize } = this.#plugin;
      if (authorize === undefined) throw new Error("the plugin's define has no authorize");
      const handshake = handshakeOf(request);
      const id = this.#state.open(handshake);
      this.#state.expect(id).identity = { principal: undefined, values: {} };
      try {
        const { principal, values, scopes, expiresAt } = identity(await this.#run(id, "$connect", () => authorize(id, handshake)));
        return { principal, values: Object.fromEntries(values.map(([name, { val }]) => [name, val])), scopes, expiresAt };
      } catch (thrown) {
        const { status, message, cause } = refusal(thrown);
        throw new Refusal(status, message, { cause });
      } finally {
        this.#state.turnAway(id);
      }
    });
  }

  connect(request = {}) {
    return this.#event(async () => {
      const handshake = handshakeOf(request);
      const id = this.#state.open(handshake);
      try {
        const answer = await this.#run(id, "$connect", (event) => this.#plugin.connect?.(event, handshake));
        const { subprotocol, headers } = acceptance(answer);
        checkAcceptance(subprotocol, headers, handshake.subprotocols);
        this.#state.letIn(id, subprotocol);
        return id;
      } catch (thrown) {
        this.#state.turnAway(id);
        const { status, message, cause } = refusal(thrown);
        throw new Refusal(status, message, { cause });
      }
    });
  }

  message(id, message) {
    return this.messageOn("$default", id, message);
  }

  messageOn(routeKey, id, message) {
    return this.#deliver(routeKey, id, message, false);
  }

  datagram(id, payload) {
    return this.datagramOn("$default", id, payload);
  }

  datagramOn(routeKey, id, payload) {
    return this.#deliver(routeKey, id, payload, true);
  }

  #deliver(routeKey, id, message, datagram) {
    return this.#event(async () => {
      this.#state.expectOpen(id);
      if (datagram) this.#state.expectDatagrams(id);
      const sent = fromContract(toContract(message, "Gateway.message: the message"));
      if (size(sent) > MESSAGE) {
        await this.#disconnect(id, { code: 1009, reason: "message too big" });
        throw new Error("the client's message is over limits.message_kib: it was closed with 1009");
      }
      const answer = reply(await this.#run(id, routeKey, (event) => this.#plugin.message?.(event, sent), datagram));
      if (answer === undefined) return undefined;
      const replied = fromContract(answer);
      if (size(replied) > MESSAGE) throw new Error("the handler's reply is over limits.message_kib and is not sent");
      return replied;
    });
  }

  disconnect(id, closing) {
    return this.#event(() => {
      this.#state.expectOpen(id);
      return this.#disconnect(id, closing ?? this.#state.expect(id).closing ?? {});
    });
  }

  received(id) {
    return this.#state.expect(id).received.splice(0);
  }

  receivedDatagrams(id) {
    return this.#state.expect(id).datagrams.splice(0);
  }

  calls() {
    return this.#state.calls.splice(0);
  }

  closing(id) {
    return this.#state.expect(id).closing;
  }

  fail(id, code, reason) {
    this.#state.expect(id).fails = code === undefined ? undefined : new GatewayError(code, reason);
  }

  members(group) {
    return this.#state.membersOf(group);
  }

  expiresAt(id) {
    return this.#state.expect(id).identity.expiresAt;
  }

  attributes(id) {
    return Object.fromEntries([...this.#state.expect(id).attributes].sort());
  }

  async #disconnect(id, { code = 1000, reason = "" }) {
    this.#state.end(id);
    await this.#run(id, "$disconnect", (event) => this.#plugin.disconnect?.(event, { code, reason }));
  }

  /** Runs an event after those before it. */
  #event(handle) {
    const result = this.#last.then(handle);
    this.#last = result.catch(() => {});
    return result;
  }

  #run(id, routeKey, handle, datagram = false) {
    this.#state.begin(id, routeKey, datagram);
    return answeredBy(this.#state, async () => handle({ connectionId: id, routeKey }));
  }
}

/** The request of a plain client, with the fields that a test gives. */
function handshakeOf({ query = [], headers = {}, ...rest }) {
  const pairs = (fields) => (Array.isArray(fields) ? fields : Object.entries(fields));
  const given = pairs(headers).map(([name, value]) => [name.toLowerCase(), value]);
  const plain = [["host", "gateway.example"], ["user-agent", "test"]];
  return new Handshake({
    subprotocols: [],
    sourceIp: "203.0.113.7",
    domainName: "gateway.example",
    path: "/stage",
    httpVersion: "1.1",
    secure: true,
    ...rest,
    query: pairs(query),
    headers: [...plain.filter(([name]) => !given.some(([other]) => other === name)), ...given],
  });
}

/** The headers that the gateway writes itself. */
const OURS = ["connection", "upgrade", "content-length", "transfer-encoding"];

/** Refuses an answer of `connect` that the gateway cannot send, as it does. */
function checkAcceptance(subprotocol, headers, offered) {
  if (subprotocol !== undefined && !offered.includes(subprotocol)) {
    throw bad(`the subprotocol ${JSON.stringify(subprotocol)}, which the client does not offer`);
  }
  for (const [name, value] of headers) {
    const lower = name.toLowerCase();
    const allowed = /^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/.test(name) && !OURS.includes(lower) && !lower.startsWith("sec-websocket-");
    if (!allowed || !/^[\t -~]*$/.test(value)) throw bad(`the header ${JSON.stringify(name)}, which it may not set or which is malformed`);
  }
}

const bad = (what) => new Refusal(502, undefined, { cause: new Error(`the $connect handler answered what cannot be sent: ${what}`) });
