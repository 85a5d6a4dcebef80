// A connection from a page to a Lockgate gateway: the interface of a WebSocket, over a WebTransport session where one opens
// and over a WebSocket otherwise, and opened again when it is lost. index.d.ts says what each part does. Pages load this
// file, so it is kept small.

const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

/** Time for a session to open: a network that drops UDP gives no answer. */
const PATIENCE_MS = 2_000;

/** Time for the last messages to arrive before a close. */
const CLOSE_MS = 10_000;

/** The first and the longest pause before another attempt; it doubles with each failure. */
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 30_000;

/** The life of a connection after which the pauses begin anew. */
const STABLE_MS = 10_000;

/** Pause between two looks at what is still to be sent: a WebSocket has no event for it. */
const LOOK_MS = 20;

/**
 * Code and reason after which another attempt would end in the same way, and codes from 3000: the application's. What let the
 * client in may have expired, which is no verdict on the page: it comes again with what is newer.
 */
const FINAL = /^(100[02379]|1008(?!authorization expired$)|1010|[3-9])/;

/** The end of a connection that did not open, or was lost. */
const LOST = { code: 1006, reason: "", wasClean: false };

/** Time for which a host is remembered where a WebSocket opened after a session had not, and where it is. */
const REMEMBER_MS = 600_000;
const KEY = "lockgate-tcp ";
let memory = {};
try {
  memory = sessionStorage;
} catch {
  // A worker has none, nor have some pages.
}

const isText = (value) => typeof value === "string";
const isFunction = (value) => typeof value === "function";

/** Gives the value, or what a function gives for it now. */
const ask = (value) => (isFunction(value) ? value() : value);

export function connect(url, protocols = [], options = {}) {
  const { reconnect = ({ code, reason }) => !FINAL.test(code + reason), webTransport = true, serverCertificateHashes = [] } = options;
  let state = CONNECTING;
  let openedAt;
  /** The WebSocket, or what stands for a session. */
  let link;
  /** Ends the pause before an attempt. */
  let wake;
  const retry = () => wake?.();

  const connection = new (class extends EventTarget {
    CONNECTING = CONNECTING;
    OPEN = OPEN;
    CLOSING = CLOSING;
    CLOSED = CLOSED;
    binaryType = "blob";
    url = isFunction(url) ? "" : parse(url).href;
    protocol = "";
    transport = "";
    retry = retry;

    get readyState() {
      return state;
    }

    get bufferedAmount() {
      return link?.bufferedAmount ?? 0;
    }

    send(data) {
      if (state !== OPEN) throw new DOMException("not open", "InvalidStateError");
      if (!isText(data) && data.byteLength === undefined) throw new TypeError("neither text nor bytes");
      link.send(data);
    }

    async drained(bytes = 0) {
      while (state === OPEN && link.bufferedAmount > bytes) await new Promise((look) => setTimeout(look, LOOK_MS));
    }

    close(code, reason) {
      const isAllowed = code === undefined || code === 1000 || (code >= 3000 && code < 5000);
      if (!isAllowed) throw new DOMException("code", "InvalidAccessError");
      if (state >= CLOSING) return;
      // A WebSocket refuses a reason that is too long.
      link?.close(code, reason);
      state = CLOSING;
      retry();
    }
  })();

  const tell = (event) => {
    const own = connection[`on${event.type}`];
    if (own) connection.addEventListener(event.type, own, { once: true });
    connection.dispatchEvent(event);
  };
  const tellEnd = (end, retryIn) => {
    if (!end.wasClean) tell(new Event("error"));
    tell(Object.assign(new CloseEvent("close", end), { retryIn }));
  };

  /** Opens a session or a WebSocket. Gives its end. */
  const once = async () => {
    const target = parse(await ask(url));
    const offered = [await ask(protocols)].flat();
    const key = KEY + target.host;
    let hasTried = false;
    const attempt = (start) =>
      new Promise((ended) => {
        const opened = (protocol, transport) => {
          if (state === CLOSING) return;
          state = OPEN;
          openedAt = Date.now();
          Object.assign(connection, { protocol, transport });
          tell(new Event("open"));
          if (hasTried) memory[key] = openedAt + REMEMBER_MS;
        };
        const received = (data) => {
          if (!isText(data) && connection.binaryType === "blob") data = new Blob([data]);
          tell(new MessageEvent("message", { data, origin: target.origin }));
        };
        link = start(target, offered, opened, received, ended, serverCertificateHashes);
        if (state === CLOSING) link.close();
      });
    connection.url = target.href;
    const { WebTransport } = globalThis;
    // A session that cannot ask for a subprotocol would open without.
    const isAble = WebTransport && (!offered[0] || "protocol" in WebTransport.prototype);
    if (isAble && webTransport && target.protocol === "wss:" && !(memory[key] > Date.now())) {
      const end = await attempt(openSession).catch(() => {});
      if (openedAt || state === CLOSING) return end;
      hasTried = true;
    }
    return attempt(openSocket);
  };

  const run = async () => {
    let end;
    for (let failures = 1; ; failures += 1) {
      openedAt = 0;
      // Only what a function gives may be better the next time.
      end = await once().catch((error) => ({ ...LOST, reason: String(error), isLast: !isFunction(url) && !isFunction(protocols) }));
      if (state === CLOSING || end.isLast || !reconnect || !reconnect(end)) break;
      if (openedAt && Date.now() - openedAt > STABLE_MS) failures = 1;
      state = CONNECTING;
      const retryIn = pauseBefore(failures, end);
      const paused = new Promise((resolve) => setTimeout((wake = resolve), retryIn));
      tellEnd(end, retryIn);
      await paused;
      end = { code: 1005, wasClean: true };
      if (state === CLOSING) break;
    }
    state = CLOSED;
    removeEventListener("online", retry);
    tellEnd(end, null);
  };
  addEventListener("online", retry);
  run();
  return connection;
}

function openSocket(target, protocols, opened, received, ended) {
  const socket = new WebSocket(target, protocols);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => opened(socket.protocol, "websocket");
  socket.onmessage = ({ data }) => received(data);
  socket.onclose = ended;
  return socket;
}

/** Opens a session with its stream for messages. Gives the part of a WebSocket's interface that is used here. */
function openSession(target, protocols, opened, received, ended, hashes) {
  const serverCertificateHashes = hashes.map((hash) => ({ ...hash, value: new Uint8Array(hash.value) }));
  const session = new WebTransport(target.href.replace("ws", "http"), { protocols, serverCertificateHashes });
  let writer;
  const abandon = () => {
    ended(LOST);
    session.close();
  };
  const timer = setTimeout(abandon, PATIENCE_MS);
  session.closed.then(({ closeCode, reason }) => ended({ code: closeCode || 1005, reason, wasClean: true }), abandon);
  const serve = async () => {
    await session.ready;
    const { readable, writable } = await session.createBidirectionalStream();
    clearTimeout(timer);
    writer = writable.getWriter();
    opened(session.protocol ?? "", "webtransport");
    await readFrames(readable.getReader(), received);
  };
  serve().catch(abandon);
  const link = {
    bufferedAmount: 0,
    send(data) {
      const body = bytesOf(data);
      link.bufferedAmount += body.length;
      // Bytes that are not taken stay in the amount. The end of the session is told by itself.
      writer.write(frame(body, isText(data) ? 0 : 128)).then(() => (link.bufferedAmount -= body.length), () => {});
    },
    close(closeCode, reason) {
      if (!writer) return abandon();
      const close = () => session.close({ closeCode, reason });
      // A close must not overtake the last messages.
      setTimeout(close, CLOSE_MS);
      writer.close().then(close, close);
    },
  };
  return link;
}

/** Reads messages to the end of the stream. */
async function readFrames(reader, received) {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let parts = [];
  let length = 0;
  let wanted = 1;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    parts.push(value);
    length += value.length;
    // The parts of a large message are joined once.
    if (length < wanted) continue;
    let bytes = new Uint8Array(length);
    length = 0;
    for (const part of parts) {
      bytes.set(part, length);
      length += part.length;
    }
    for (;;) {
      const short = bytes[0] & 127;
      const head = short < 126 ? 1 : short < 127 ? 3 : 9;
      wanted = head;
      if (bytes.length >= head) {
        const view = new DataView(bytes.buffer, bytes.byteOffset);
        wanted += head < 3 ? short : head < 9 ? view.getUint16(1) : view.getUint32(5);
      }
      if (bytes.length < wanted) break;
      const body = bytes.slice(head, wanted);
      received(bytes[0] > 127 ? body.buffer : decoder.decode(body));
      bytes = bytes.subarray(wanted);
    }
    parts = [bytes];
    length = bytes.length;
  }
}

/**
 * Frames a message as the gateway does: a byte and the payload. The byte's highest bit says binary, the others are the length,
 * which goes on in two bytes after 126 and in eight after 127, of which a message needs four.
 */
function frame(body, kind) {
  const { length } = body;
  const head = length < 126 ? 1 : length < 65_536 ? 3 : 9;
  const framed = new Uint8Array(head + length);
  const view = new DataView(framed.buffer);
  framed[0] = kind | (head < 3 ? length : head < 9 ? 126 : 127);
  if (head === 3) view.setUint16(1, length);
  if (head === 9) view.setUint32(5, length);
  framed.set(body, head);
  return framed;
}

function bytesOf(data) {
  return isText(data) ? new TextEncoder().encode(data) : new Uint8Array(data.buffer ?? data, data.byteOffset, data.byteLength);
}

function parse(url) {
  const target = new URL(url, location);
  target.protocol = target.protocol.replace("http", "ws");
  return target;
}

/**
 * Chooses the pause before an attempt: by the gateway's advice, or by the failures in a row. It is random, so that clients
 * that were lost together do not come back together.
 */
function pauseBefore(failures, { code, reason }) {
  const advice = /reconnect in (\d+)-(\d+) s/.exec(reason);
  // 1013: the client was too slow for what it was sent, and would be again.
  const limit = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** (failures - (code === 1013 ? -1 : 1)));
  const [least, most] = advice ? [advice[1] * 1000, advice[2] * 1000] : [limit / 2, limit];
  return least + Math.random() * (most - least);
}
