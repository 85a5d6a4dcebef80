// What a browser gives a page, under the test's control: sockets, sessions, events of the window, storage.

export const sockets = [];
export const sessions = [];
export const page = new EventTarget();

class FakeSocket {
  bufferedAmount = 0;
  protocol = "";
  sent = [];

  constructor(url, protocols) {
    if (protocols.includes("not a token")) throw new DOMException("a protocol", "SyntaxError");
    Object.assign(this, { url: String(url), protocols });
    sockets.push(this);
  }

  open(protocol = "") {
    this.protocol = protocol;
    this.onopen();
  }

  send(data) {
    this.sent.push(data);
  }

  receive(data) {
    this.onmessage({ data });
  }

  close(code = 1005, reason = "") {
    if (this.isOver) return;
    this.asked = code;
    this.end(this.onopen && this.protocol !== undefined ? code : 1006, reason, true);
  }

  end(code, reason = "", wasClean = code !== 1006) {
    this.isOver = true;
    this.onclose(new CloseEvent("close", { code, reason, wasClean }));
  }
}

class FakeSession {
  static isAllowed = true;
  #settle = {};

  constructor(url, options) {
    if (!FakeSession.isAllowed) throw new DOMException("not here", "NotSupportedError");
    Object.assign(this, { url, options });
    for (const name of ["ready", "closed"]) {
      this[name] = new Promise((resolve, reject) => (this.#settle[name] = { resolve, reject }));
      this[name].catch(() => {});
    }
    sessions.push(this);
  }

  get protocol() {
    return this.chosen;
  }

  open(protocol) {
    this.chosen = protocol;
    this.#settle.ready.resolve();
  }

  refuse() {
    this.#settle.ready.reject(new Error("Opening handshake failed."));
    this.#settle.closed.reject(new Error("Opening handshake failed."));
  }

  async createBidirectionalStream() {
    const toPage = new TransformStream(undefined, undefined, { highWaterMark: 1000 });
    this.toPage = toPage.writable.getWriter();
    this.written = [];
    this.taking = [];
    const writable = new WritableStream({
      write: (chunk) =>
        this.isStalled ? new Promise((resolve) => this.taking.push(resolve)) : void this.written.push(...chunk),
      close: () => void (this.isFinished = true),
    });
    return { readable: toPage.readable, writable };
  }

  receive(...chunks) {
    for (const chunk of chunks) this.toPage.write(Uint8Array.from(chunk));
  }

  close(info = {}) {
    this.info ??= { closeCode: 0, reason: "", ...JSON.parse(JSON.stringify(info)), wasFinished: this.isFinished === true };
    this.#settle.ready.reject(new Error("closed"));
    this.#settle.closed.resolve(this.info);
  }

  end(closeCode, reason = "") {
    this.#settle.closed.resolve({ closeCode, reason });
  }

  lose() {
    this.#settle.closed.reject(new Error("Connection lost."));
    this.toPage.abort(new Error("Connection lost.")).catch(() => {});
  }
}

class FakeCloseEvent extends Event {
  constructor(type, { code = 0, reason = "", wasClean = false } = {}) {
    super(type);
    Object.assign(this, { code, reason, wasClean });
  }
}

Object.assign(globalThis, {
  CloseEvent: FakeCloseEvent,
  WebSocket: FakeSocket,
  WebTransport: FakeSession,
  addEventListener: page.addEventListener.bind(page),
  removeEventListener: page.removeEventListener.bind(page),
  location: { href: "https://gateway.example/page", toString: () => "https://gateway.example/page" },
  sessionStorage: {},
});

/** Lets promises that are settled go on. */
export async function settle() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Forgets what was opened, and the hosts without sessions. */
export function reset() {
  sockets.length = 0;
  sessions.length = 0;
  for (const key of Object.keys(sessionStorage)) delete sessionStorage[key];
}
