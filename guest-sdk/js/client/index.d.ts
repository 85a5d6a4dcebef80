/** What a connection is opened with. All may be left out. */
export interface ConnectOptions {
  /**
   * Whether a lost connection is opened again: never, or as a function of its close says. By default it is, unless the code
   * says that another attempt would end in the same way (1000, 1002, 1003, 1007 to 1010) or is the application's own (from 3000).
   * A token or certificate that has expired says no such thing: after 1008 `authorization expired` it is opened again.
   */
  reconnect?: false | ((close: { readonly code: number; readonly reason: string; readonly wasClean: boolean }) => boolean);
  /** False for WebSockets alone. Default: true. */
  webTransport?: boolean;
  /**
   * The SHA-256 digests of certificates that no authority has signed, for development: the option of `WebTransport`, where a
   * digest may be a list of numbers. `lockgate dev` gives those of its own certificates at `/lockgate-dev.json`.
   */
  serverCertificateHashes?: readonly { algorithm: string; value: ArrayBuffer | Uint8Array | readonly number[] }[];
}

/** The `close` event: the end of a connection that was open, or of an attempt. */
export interface ConnectionCloseEvent extends CloseEvent {
  /** Milliseconds until the next attempt; null if there is none, and this is the last event. */
  readonly retryIn: number | null;
}

export interface ConnectionEvents {
  /** The connection is open: for the first time, or again. */
  open: Event;
  /** A message: a string, or what `binaryType` says. */
  message: MessageEvent;
  /** Stands before a `close` that is not clean. */
  error: Event;
  close: ConnectionCloseEvent;
}

/**
 * A connection with the interface of a WebSocket. It differs in what a lost connection needs:
 *
 * - `open` and `close` come for each connection. Between them `readyState` is `CONNECTING`, and the last `close` has no `retryIn`.
 * - `send` throws unless the connection is open, also after its end. A message belongs to the connection that it was sent on, and
 *   is never sent again on another one: the gateway may have it already. Of a lost connection, `bufferedAmount` tells in the
 *   `close` event how many bytes have certainly not arrived; the messages shortly before may have arrived or not.
 */
export interface Connection extends EventTarget {
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;
  readonly readyState: 0 | 1 | 2 | 3;
  /** The address, with `wss` or `ws`; an empty string until a function has given the first one. */
  readonly url: string;
  /** The subprotocol that the gateway has chosen, or an empty string. */
  readonly protocol: string;
  /** What carries the newest connection; an empty string before the first one. */
  readonly transport: "webtransport" | "websocket" | "";
  /** Bytes of messages that the browser has not taken yet. */
  readonly bufferedAmount: number;
  /** How binary messages are given. Default: "blob". */
  binaryType: "blob" | "arraybuffer";

  onopen: ((event: Event) => unknown) | null;
  onmessage: ((event: MessageEvent) => unknown) | null;
  onerror: ((event: Event) => unknown) | null;
  onclose: ((event: ConnectionCloseEvent) => unknown) | null;

  /** Sends a message. Throws `InvalidStateError` unless the connection is open, and `TypeError` for a Blob. */
  send(data: string | BufferSource): void;
  /** Waits until at most so many bytes wait, 0 by default, or the connection is lost. */
  drained(bytes?: number): Promise<void>;
  /** Closes for good, behind the messages that wait. The code is 1000 or one from 3000 to 4999, the reason at most 123 bytes. */
  close(code?: number, reason?: string): void;
  /** Makes the next attempt at once, if it waits for one. */
  retry(): void;

  addEventListener<K extends keyof ConnectionEvents>(
    type: K,
    listener: (event: ConnectionEvents[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof ConnectionEvents>(
    type: K,
    listener: (event: ConnectionEvents[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}

/**
 * Opens a connection to a stage of a gateway. A WebTransport session is tried first where the browser has them and the address is
 * secure, for two seconds; then a WebSocket. A host where only the WebSocket opened is remembered for ten minutes in this tab.
 *
 * @param url The address, such as `wss://api.example/prod?token=…`, or a path on the page's own host; `https` stands for `wss`. A
 * function is asked before each attempt: for a token that expires.
 * @param protocols The subprotocols that the gateway may choose from, or `["bearer", token]`. A function is asked before each
 * attempt, too, once there is an address.
 * @throws SyntaxError, TypeError: the address is none.
 */
export function connect(
  url: string | URL | (() => string | URL | Promise<string | URL>),
  protocols?: string | string[] | (() => string | string[] | Promise<string | string[]>),
  options?: ConnectOptions,
): Connection;
