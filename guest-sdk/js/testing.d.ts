import type { Closing, ConnectionId, ErrorCode, Fields, Message, Plugin, Sendable } from "@lockgate/sdk";

/** A client's request; what a test leaves out is that of a plain client. */
export interface Request {
  query?: Record<string, string> | Fields;
  headers?: Record<string, string> | Fields;
  subprotocols?: string[];
  sourceIp?: string;
  domainName?: string;
  path?: string;
  httpVersion?: string;
  secure?: boolean;
  certificateSubject?: string;
}

/** A call that a handler made to the gateway. */
export type Call =
  | { call: "send"; to: ConnectionId; message: Message }
  | { call: "sendDatagram"; to: ConnectionId; payload: Uint8Array }
  | { call: "close"; id: ConnectionId; code: number; reason: string }
  | { call: "publish"; group: string; message: Message; exclude: ConnectionId | undefined };

/**
 * A gateway for the tests of a plugin: it runs the handlers where the test runs (`node --test`, vitest), without a component,
 * a socket or a configuration, under the default limits.
 *
 * ```ts
 * import assert from "node:assert/strict";
 * import { test } from "node:test";
 * import { Gateway } from "@lockgate/sdk/testing";
 * import plugin from "../src/plugin.js";
 *
 * test("a message comes back", async () => {
 *   const gateway = new Gateway(plugin);
 *   const ada = await gateway.connect();
 *   assert.equal(await gateway.message(ada, "hello"), "hello");
 * });
 * ```
 *
 * It runs no two events at once, knows no routes but the ones that you name, interrupts no handler that takes too long, and
 * drops no answer.
 */
export class Gateway {
  constructor(plugin: Plugin);
  /** Gives the stage a variable. */
  variable(name: string, value: string): this;
  /** Makes the clients that connect from now on this principal, with these values of the authorizer. */
  identify(principal: string, values?: Record<string, string | number | boolean>): this;
  /**
   * Gives the stage `datagrams = true`, and makes the clients that connect from now on speak WebTransport and take them.
   * Without it, `connections.sendDatagram` throws `denied`.
   */
  takeDatagrams(): void;
  /** Asks the plugin's `authorize` about a client. Rejects with its `Refusal`; with 500 when its answer is no identity. */
  authorize(request?: Request): Promise<{
    principal: string | undefined;
    values: Record<string, string | number | boolean>;
    scopes: string[];
    expiresAt: number | undefined;
  }>;
  /** Connects a client. Rejects with the handler's `Refusal`; with 502 when its answer cannot be sent. */
  connect(request?: Request): Promise<ConnectionId>;
  /** Sends a message from a client to the route `$default`. Resolves to the handler's answer; rejects with its error. */
  message(id: ConnectionId, message: Sendable): Promise<Message | undefined>;
  /** As `message`, to the route with this key. */
  messageOn(routeKey: string, id: ConnectionId, message: Sendable): Promise<Message | undefined>;
  /** Sends a datagram from a client to the route `$default`: a message for which `context.isDatagram()` is true. */
  datagram(id: ConnectionId, payload: ArrayBuffer | ArrayBufferView): Promise<Message | undefined>;
  /** As `datagram`, to the route with this key. */
  datagramOn(routeKey: string, id: ConnectionId, payload: ArrayBuffer | ArrayBufferView): Promise<Message | undefined>;
  /** Ends a connection: with this code and reason, with those of the handler's close, or by its client with 1000. */
  disconnect(id: ConnectionId, closing?: Partial<Closing>): Promise<void>;
  /** The messages that the handler has sent and published to a client since the last such call. Answers are not among them. */
  received(id: ConnectionId): Message[];
  /** The datagrams that the handler has sent to a client since the last such call. */
  receivedDatagrams(id: ConnectionId): Uint8Array[];
  /** The handler's calls since the last such call: sends, publishes and closes, also those that failed. */
  calls(): Call[];
  /** The code and reason with which the handler has closed a connection, if it has. */
  closing(id: ConnectionId): Closing | undefined;
  /** Makes every further message to this connection fail with this error; without a code ends that. */
  fail(id: ConnectionId, code?: ErrorCode, reason?: string): void;
  /** The members of a group, ordered by id. */
  members(group: string): ConnectionId[];
  /**
   * Until when holds what let a client in, in milliseconds since 1970-01-01 UTC; undefined until a handler renews it with
   * `context.renew`, as a message of any route may here.
   */
  expiresAt(id: ConnectionId): number | undefined;
  /** The attributes of a connection; after its end, its last ones. */
  attributes(id: ConnectionId): Record<string, string>;
}
