// Does what its client says: the plugin that README.md specifies, beside this folder.

import {
  type Acceptance,
  connections,
  context,
  define,
  type Event,
  GatewayError,
  groups,
  json,
  parseJson,
  Refusal,
} from "@lockgate/sdk";

export default define({
  connect(event, handshake): Acceptance {
    const id = event.connectionId;
    const parameter = (name: string) => handshake.queryParameter(name);
    const fail = parameter("fail");
    if (fail !== undefined) throw new Error(fail);
    const status = parameter("refuse");
    if (status !== undefined) throw new Refusal(Number(status), parameter("message"));
    const group = parameter("join");
    if (group !== undefined) groups.join(group, id);
    const name = parameter("name");
    if (name !== undefined) connections.setAttribute(id, "name", name);
    if (parameter("tell") !== undefined) {
      const { query, headers, subprotocols, sourceIp, domainName, path, httpVersion, secure } = handshake;
      const certificateSubject = handshake.certificateSubject ?? null;
      const seen = { query, headers, subprotocols, sourceIp, domainName, path, httpVersion, secure, certificateSubject };
      connections.send(id, json({ ...seen, route: event.routeKey }));
    }
    const headers = handshake.query.filter(([name]) => name === "header");
    return {
      subprotocol: parameter("subprotocol"),
      headers: headers.map(([, value]) => ["x-conformance", value]),
    };
  },

  async message(event, message) {
    if (typeof message !== "string") return message;
    const step = parseJson<Step>(message);
    switch (step.do) {
      case "reply":
        return step.text;
      case "silence":
        return undefined;
      case "fail":
        throw new Error(step.reason);
    }
    try {
      return json({ ok: (await act(event, step)) ?? null });
    } catch (error) {
      if (error instanceof GatewayError) return json({ error: error.code });
      throw error;
    }
  },

  disconnect(event, { code, reason }) {
    const name = connections.attribute(event.connectionId, "name") ?? null;
    const closed = { closed: event.connectionId, code, reason, route: event.routeKey, name };
    groups.publish("observers", json(closed));
    if (name === "crash") throw new TypeError("a mistake");
  },
});

interface Step {
  do: string;
  id?: string;
  text: string;
  reason: string;
  bytes: number[];
  times: number;
  code: number;
  name: string;
  value: string;
  group: string;
  exclude?: string;
  after?: string;
  limit: number;
  ms: number;
}

function act(event: Event, step: Step): unknown {
  const id = step.id ?? event.connectionId;
  switch (step.do) {
    case "event":
      return { connection: event.connectionId, route: event.routeKey };
    case "send":
      return connections.send(id, step.text);
    case "send bytes":
      return connections.send(id, new Uint8Array(step.bytes));
    case "send datagram":
      return connections.sendDatagram(id, new Uint8Array(step.bytes));
    case "is datagram":
      return context.isDatagram();
    case "send many":
      return sendMany(id, step.times);
    case "close":
      return connections.close(id, step.code, step.reason);
    case "info": {
      const { userAgent = null, subprotocol = null, ...info } = connections.info(id);
      return { ...info, userAgent, subprotocol };
    }
    case "attribute":
      return connections.attribute(id, step.name);
    case "attributes":
      return connections.attributes(id);
    case "set":
      return connections.setAttribute(id, step.name, step.value);
    case "remove":
      return connections.removeAttribute(id, step.name);
    case "join":
      return groups.join(step.group, id);
    case "leave":
      return groups.leave(step.group, id);
    case "publish":
      return step.exclude === undefined
        ? groups.publish(step.group, step.text)
        : groups.publish(step.group, step.text, { exclude: step.exclude });
    case "members":
      return step.after === undefined
        ? groups.members(step.group, { limit: step.limit })
        : groups.members(step.group, { after: step.after, limit: step.limit });
    case "count":
      return groups.count(step.group);
    case "context": {
      const { messageId = null, ...current } = context.current();
      return { ...current, messageId, principal: context.principal() ?? null, authorizer: context.authorizer() };
    }
    case "variables":
      return context.variables();
    case "environment":
      return process.env[step.name];
    case "clock":
      return Date.now();
    case "random":
      return random(id);
    case "print":
      return console.log(step.text);
    case "wait":
      return new Promise((resolve) => setTimeout(resolve, step.ms));
    case "spin":
      for (;;);
    case "crash":
      return (null as unknown as Step).text;
    default:
      throw new Error(`${step.do} is no step`);
  }
}

/** Sends until the first error, and counts. */
function sendMany(id: string, times: number): number {
  for (let sent = 0; sent < times; sent++) {
    try {
      connections.send(id, String(sent + 1));
    } catch (error) {
      if (error instanceof GatewayError) return sent;
      throw error;
    }
  }
  return times;
}

/** Whether random numbers differ from those that the connection has had. */
function random(id: string): boolean {
  const bytes = [...crypto.getRandomValues(new Uint8Array(16))];
  const numbers = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const before = connections.attribute(id, "random");
  connections.setAttribute(id, "random", numbers);
  return before !== numbers;
}
