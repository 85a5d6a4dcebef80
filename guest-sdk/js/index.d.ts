/**
 * Write [Lockgate](https://github.com/lockgate/lockgate) plugins in JavaScript and TypeScript.
 *
 * A plugin handles the events of WebSocket connections: a client connects, sends messages, is gone. The default export of
 * its module is what {@link define} returns:
 *
 * ```ts
 * import { define } from "@lockgate/sdk";
 *
 * export default define({
 *   message(event, message) {
 *     if (typeof message !== "string") throw new Error("expected text");
 *     return message.toUpperCase();
 *   },
 * });
 * ```
 *
 * {@link connections} sends to a connection by its id, closes it, and keeps its attributes. {@link groups} sends to many
 * at once. {@link context} has the place and time of an event. A plugin that calls a function of `connections` or of
 * `groups` needs the operator's grant for it.
 */

/** The name of one open connection: opaque, unguessable, safe in a URL, and never used again once the connection has ended. */
export type ConnectionId = string;

/** One WebSocket message, whole: a text is a string, a binary message its bytes. */
export type Message = string | Uint8Array;

/** A message to send: bytes in any of the language's forms. */
export type Sendable = string | ArrayBuffer | ArrayBufferView;

/** Names with values, in order; a name may occur more than once. Header names are lower case. */
export type Fields = [name: string, value: string][];

/** The values that come with every event. */
export interface Event {
  /** The connection that the event belongs to. */
  readonly connectionId: ConnectionId;
  /** The key of the route that was selected: `$connect`, `$disconnect`, `$default`, or a key of the configuration. */
  readonly routeKey: string;
}

/** The client's request to connect. */
export interface Handshake {
  /** The query string's parameters, percent-decoded, in order. */
  readonly query: Fields;
  /** The request's headers, with names in lower case: `host` first; the headers that only open a WebSocket are left out. */
  readonly headers: Fields;
  /** The subprotocols that the client offers, most wanted first. */
  readonly subprotocols: string[];
  /** The address that the client connects from, without port. Do not read it from a header: anyone can write one. */
  readonly sourceIp: string;
  /** The host of the request, in lower case, without port. */
  readonly domainName: string;
  /** The path of the request as the client wrote it, without the query. */
  readonly path: string;
  /** The version of HTTP that the client speaks: `1.1`, `2` or `3`. */
  readonly httpVersion: string;
  /** Whether the client connects over TLS. */
  readonly secure: boolean;
  /** The subject of the client's certificate (RFC 4514), when the listener asks for one and the client has it. */
  readonly certificateSubject: string | undefined;
  /** The value of a parameter of the query string, the first if there are several. */
  queryParameter(name: string): string | undefined;
  /** The value of a header, the first if there are several. The case of `name` does not matter. */
  header(name: string): string | undefined;
}

/** Lets the client in. */
export interface Acceptance {
  /** One of the subprotocols that the client offered. */
  subprotocol?: string | undefined;
  /** Headers to add to the `101` response, at most 64. */
  headers?: Record<string, string> | Iterable<[name: string, value: string]> | undefined;
}

/** How a connection ended. */
export interface Closing {
  /** The close code: the client's own, the gateway's, 1005 when the client sent none, 1006 when the connection was lost. */
  readonly code: number;
  /** The reason that came with the code; may be empty. */
  readonly reason: string;
}

type Awaitable<T> = T | PromiseLike<T>;

/**
 * The functions of a plugin, one for each kind of event of a connection. Each may be left out, and each may be async: the
 * invocation ends when the promise is settled. Jobs and timers that are left then are dropped.
 *
 * The gateway decides which instance of the plugin gets an event. A variable of the module is right for a cache that may be
 * lost and that every client may share. A connection's state goes into its attributes.
 */
export interface Handlers {
  /**
   * Lets a new client in or refuses it: the route `$connect`. Return nothing or an {@link Acceptance}; return or throw a
   * {@link Refusal}. Any other error refuses with 500, and goes to the log.
   *
   * The connection does not exist for anyone else yet. Attributes, groups and messages take effect when the client is let in.
   */
  connect?(event: Event, handshake: Handshake): Awaitable<Acceptance | Refusal | undefined | null | void>;
  /**
   * Handles one message: the route `$default`, or a route with a key of your own. A two-way route sends the returned message
   * to the client, a one-way route drops it. An error sends the client an error frame and goes to the log.
   */
  message?(event: Event, message: Message): Awaitable<Sendable | undefined | null | void>;
  /** Handles the end of a connection, once for each client that was let in. Its attributes and its info can still be read. */
  disconnect?(event: Event, closing: Closing): Awaitable<void>;
  /**
   * Decides who may connect, before `connect`, for the APIs whose configuration names the plugin as their authorizer; with
   * `"lockgate": { "authorizer": true }` in package.json. Return the client's name or an {@link Identity}; return or throw a
   * {@link Refusal}. Any other error, and nothing, refuses with 500, and goes to the log.
   *
   * @param id The connection that the client will have if it is let in; it does not exist yet.
   */
  authorize?(id: ConnectionId, request: Handshake): Awaitable<string | Identity | Refusal>;
}

/** Who a client is. Principal, values and scopes have 8 KiB together. */
export interface Identity {
  /** The client's name: {@link context.principal} of every event, and a field of log lines. */
  principal?: string | undefined;
  /** What else handlers are to know: {@link context.authorizer} of every event. */
  values?: Record<string, string | number | boolean> | undefined;
  /** What the client may do: routes of the configuration may ask for scopes. */
  scopes?: Iterable<string> | undefined;
  /** When this no longer holds: a time, or milliseconds since 1970-01-01 UTC. */
  expiresAt?: Date | number | undefined;
}

/** A plugin, as {@link define} makes it. */
export interface Plugin {
  readonly connect: Handlers["connect"];
  readonly message: Handlers["message"];
  readonly disconnect: Handlers["disconnect"];
  readonly authorize: Handlers["authorize"];
}

/** Makes a plugin of its handlers, for `export default`. */
export function define(handlers: Handlers): Plugin;

/** A refusal of a client: `throw new Refusal(403, "members only")`. */
export class Refusal extends Error {
  /**
   * @param status The HTTP status of the response, 300 to 599.
   * @param message The text for the client in the body, as `{"message": …}`. Without it the client gets the status's own phrase.
   * @param options `cause` goes to the gateway's log; the client never gets it.
   */
  constructor(status: number, message?: string, options?: { cause?: unknown });
  readonly status: number;
}

/** What the gateway says why it did not do a call, and what a handler can do next. */
export type ErrorCode =
  /** No such connection, or not any more. Forget the id. */
  | "gone"
  /** There is no room now. Drop the message, or try again in a later invocation. The gateway's log names the limit. */
  | "busy"
  /** The message or the value is over its limit. Send less. */
  | "too-large"
  /** The operator's configuration does not allow it. */
  | "denied"
  /** Another node of the cluster did not answer. A gateway that is alone never says this. */
  | "unreachable"
  /** An argument that can never be right: `reason` says why. */
  | "invalid";

/** The reason why the gateway did not do a call. */
export class GatewayError extends Error {
  constructor(code: ErrorCode, reason?: string);
  readonly code: ErrorCode;
  /** With the code `invalid`: why. */
  readonly reason?: string;
}

/** A value as JSON, to send or to return. */
export function json(value: unknown): string;

/** The value of a JSON message. Throws for a binary message and for what is no JSON. */
export function parseJson<T = any>(message: Message): T;

/** Facts about a connection. */
export interface ConnectionInfo {
  /** When the client was let in, in milliseconds since 1970-01-01 UTC. */
  readonly connectedAt: number;
  /** When the last message went either way, in milliseconds since 1970-01-01 UTC. */
  readonly lastActiveAt: number;
  /** The address that the client connects from, without port. */
  readonly sourceIp: string;
  /** The `User-Agent` of the client's request, if it sent one. */
  readonly userAgent: string | undefined;
  /** The host of the client's request, in lower case, without port. */
  readonly domainName: string;
  /** The subprotocol that the handler chose, if any. */
  readonly subprotocol: string | undefined;
}

/**
 * Open connections of the same API and stage. Needs the grant `connections`.
 *
 * Every function takes the id of any connection of the stage. All are synchronous, and throw a {@link GatewayError}.
 */
export namespace connections {
  /** Queues a message for a connection. Throws `gone`, `busy` or `too-large`. Messages arrive in the order in which they were sent. */
  function send(id: ConnectionId, message: Sendable): void;
  /**
   * Sends a datagram to a client that speaks WebTransport. It may be lost, or overtake others and messages; one for which
   * there is no room is dropped, and so is one to a client that has not been let in yet. Throws `gone`; `busy`, when this
   * invocation has used up its sends; `denied`, when the stage's `datagrams` is off; `invalid`, when the client takes no
   * datagrams, as a WebSocket does not; and `too-large`: 1,100 bytes always fit.
   */
  function sendDatagram(id: ConnectionId, payload: ArrayBuffer | ArrayBufferView): void;
  /**
   * Closes a connection after the messages queued for it. `code` is 1000 (the default), 1001 to 1003, 1007 to 1014, or 3000
   * to 4999; `reason` has at most 123 bytes. Throws `invalid` for any other, and `gone`.
   */
  function close(id: ConnectionId, code?: number, reason?: string): void;
  /** The facts about a connection. Throws `gone`. */
  function info(id: ConnectionId): ConnectionInfo;
  /**
   * The value of an attribute of a connection. Throws `gone`. Attributes are small texts, such as a name, a room or a
   * tenant. They live as long as the connection, and every handler of the stage sees them.
   */
  function attribute(id: ConnectionId, name: string): string | undefined;
  /** All attributes of a connection. Throws `gone`. */
  function attributes(id: ConnectionId): Record<string, string>;
  /** Sets an attribute of a connection. Throws `gone`, `invalid` (the name is empty) or `too-large` (4 KiB in all unless configured; each counts 8 bytes beside its texts). */
  function setAttribute(id: ConnectionId, name: string, value: string): void;
  /** Removes an attribute of a connection, if it is set. Throws `gone`. */
  function removeAttribute(id: ConnectionId, name: string): void;
}

/**
 * Named sets of connections of the same API and stage. Needs the grant `groups`.
 *
 * A group exists while it has members. A connection leaves its groups when it ends. All functions are synchronous, and throw
 * a {@link GatewayError}.
 */
export namespace groups {
  /**
   * Returns the name of the group that has the connections of a principal, as the API's authorizer names it, for as long as each is
   * open: publish to it, list it, count it. No connection joins or leaves it by itself.
   */
  function ofPrincipal(principal: string): string;
  /** Adds a connection to a group. Throws `gone`, `invalid` (a name has 1 to 128 bytes) or `busy` (64 groups unless configured). */
  function join(group: string, id: ConnectionId): void;
  /** Takes a connection out of a group, if it is in it. Throws `gone`. */
  function leave(group: string, id: ConnectionId): void;
  /**
   * Queues a message for every member of a group but `exclude`. Returns the number of members that it was queued for. A member
   * whose queue is full is closed with 1013 and not counted. Throws `too-large` or `busy`.
   */
  function publish(group: string, message: Sendable, options?: { exclude?: ConnectionId }): number;
  /** The members of a group, ordered by id: at most `limit` of them (1 to 1,000, the default), after the id `after`. */
  function members(group: string, options?: { after?: ConnectionId; limit?: number }): ConnectionId[];
  /** The number of members of a group; 0 when there is no such group. */
  function count(group: string): number;
}

/** The place and time of an event. */
export interface Invocation {
  /** The id of this invocation in the gateway's log and in error frames. */
  readonly requestId: string;
  /** The API's name in the configuration. */
  readonly api: string;
  /** The stage's name in the configuration. */
  readonly stage: string;
  /** When the event arrived, in milliseconds since 1970-01-01 UTC. */
  readonly requestedAt: number;
  /** The id of the message, for a message. */
  readonly messageId: string | undefined;
}

/** The circumstances of the present invocation. Every plugin has it. */
export namespace context {
  /** The present invocation. */
  function current(): Invocation;
  /** How long the present invocation may compute and wait, in milliseconds; the gateway ends one that takes longer. */
  function timeLeft(): number;
  /**
   * Whether the message of the present invocation came as a datagram: it may have overtaken others, others may be lost, and
   * an answer goes the way of all messages. False for every other event.
   */
  function isDatagram(): boolean;
  /** Who the client is, as the API's authorizer says; undefined when the API has no authorizer. */
  function principal(): string | undefined;
  /** What the API's authorizer says about the client beside that. It stays the same until the client renews what let it in. */
  function authorizer(): Record<string, string | number | boolean>;
  /**
   * Renews what let the client of the present message in, by the handler's own judgement of what the client shows anew: it holds
   * until then (a time, or milliseconds since 1970-01-01 UTC), which may be sooner than before. With `values` the client has
   * these from now on. Principal and scopes stay.
   *
   * Throws a {@link GatewayError}: `denied`, unless the route's configuration says `renews = "handler"` and an authorizer has let
   * the client in; `gone`, when the connection is closed or closing; `invalid`, when the time has passed, a name is empty or a
   * number is not finite; `too-large`, when principal, values and scopes are over 8 KiB. The last of several calls holds, also
   * when the handler fails afterwards.
   */
  function renew(expiresAt: Date | number, values?: Record<string, string | number | boolean>): void;
  /** The stage's variables. */
  function variables(): Record<string, string>;
  /** The value of a variable of the stage. */
  function variable(name: string): string | undefined;
}
