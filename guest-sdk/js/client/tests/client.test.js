import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { afterEach, beforeEach, mock, test } from "node:test";

import { buildSync } from "esbuild";

import { page, reset, sessions, settle, sockets } from "./browser.js";

const { connect } = await import("../index.js");

beforeEach(() => {
  reset();
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_800_000_000_000 });
});

const begun = [];
afterEach(async () => {
  for (const connection of begun.splice(0)) connection.close();
  await settle();
});

/** A connection, and its events as they come. */
function begin(...words) {
  const connection = connect(...words);
  begun.push(connection);
  const events = [];
  for (const type of ["open", "message", "error", "close"]) {
    connection.addEventListener(type, (event) => events.push(event));
  }
  return { connection, events, kinds: () => events.map(({ type }) => type).join(" ") };
}

/** A connection that is open over a session. */
async function beginSession(options) {
  const opened = begin("/prod", [], options);
  await settle();
  sessions.at(-1).open();
  await settle();
  return { ...opened, session: sessions.at(-1) };
}

/** A connection that is open over a WebSocket. */
async function beginSocket(options) {
  const opened = begin("/prod", [], { webTransport: false, ...options });
  await settle();
  sockets.at(-1).open();
  return { ...opened, socket: sockets.at(-1) };
}

async function pass(time) {
  mock.timers.tick(time);
  await settle();
}

const HEADS = [
  [0, [0]],
  [125, [125]],
  [126, [126, 0, 126]],
  [65_535, [126, 0xff, 0xff]],
  [65_536, [127, 0, 0, 0, 0, 0, 1, 0, 0]],
];

test("session is opened first, with the page's own host, and tells what it is", async () => {
  const digest = [...Array(32).keys()];
  const hashes = [{ algorithm: "sha-256", value: digest }];
  const { connection, kinds } = begin("/prod?a=b", ["v1", "v2"], { serverCertificateHashes: hashes });
  assert.equal(connection.url, "wss://gateway.example/prod?a=b");
  assert.equal(connection.readyState, connection.CONNECTING);
  await settle();
  const [session] = sessions;
  assert.equal(session.url, "https://gateway.example/prod?a=b");
  assert.deepEqual(session.options.protocols, ["v1", "v2"]);
  assert.deepEqual(session.options.serverCertificateHashes, [{ algorithm: "sha-256", value: Uint8Array.from(digest) }]);
  session.open("v2");
  await settle();
  assert.equal(connection.readyState, connection.OPEN);
  assert.deepEqual([connection.protocol, connection.transport, kinds()], ["v2", "webtransport", "open"]);
  assert.equal(sockets.length, 0);
});

test("messages are framed as the gateway frames them", async () => {
  const { connection, session } = await beginSession();
  for (const [length, head] of HEADS) {
    session.written.length = 0;
    connection.send("x".repeat(length));
    connection.send(new Uint8Array(length).fill(7));
    await settle();
    const binary = [head[0] | 128, ...head.slice(1)];
    const expected = [...head, ...Array(length).fill(120), ...binary, ...Array(length).fill(7)];
    assert.deepEqual(Buffer.from(session.written).compare(Buffer.from(expected)), 0, String(length));
  }
  session.written.length = 0;
  const all = Uint8Array.from([1, 2, 3, 4]);
  connection.send(new DataView(all.buffer, 1, 2));
  connection.send(all.buffer);
  all.fill(9);
  connection.send("é\ud800");
  await settle();
  assert.deepEqual(session.written, [130, 2, 3, 132, 1, 2, 3, 4, 5, 0xc3, 0xa9, 0xef, 0xbf, 0xbd]);
});

test("frames are read in any pieces", async () => {
  const { connection, events, session } = await beginSession();
  connection.binaryType = "arraybuffer";
  for (const [length, head] of HEADS) {
    events.length = 0;
    const frames = [...head, ...Array(length).fill(120), head[0] | 128, ...head.slice(1), ...Array(length).fill(7)];
    session.receive(frames);
    session.receive(...frames.slice(0, 20).map((byte) => [byte]), frames.slice(20));
    session.receive(frames.slice(0, 2), [...frames.slice(2), ...frames.slice(0, 2)], frames.slice(2));
    await settle();
    const texts = events.map(({ data }) => (typeof data === "string" ? data : new Uint8Array(data)));
    assert.equal(texts.length, 8, String(length));
    for (const [index, data] of texts.entries()) {
      if (index % 2 === 0) assert.equal(data, "x".repeat(length));
      else assert.equal(Buffer.from(data).compare(Buffer.alloc(length, 7)), 0);
    }
  }
  events.length = 0;
  session.receive([5, 0xef, 0xbb, 0xbf, 0xc3, 0xa9]);
  await settle();
  assert.equal(events[0].data, "\ufeffé");
  assert.equal(events[0].origin, "wss://gateway.example");
});

test("binary messages are what binaryType says", async () => {
  for (const beginOne of [beginSession, beginSocket]) {
    const { connection, events, session, socket } = await beginOne();
    const receive = async () => {
      session ? session.receive([129, 7]) : socket.receive(Uint8Array.from([7]).buffer);
      await settle();
    };
    await receive();
    connection.binaryType = "arraybuffer";
    await receive();
    const [blob, buffer] = events.slice(1).map(({ data }) => data);
    assert.deepEqual(new Uint8Array(await blob.arrayBuffer()), Uint8Array.from([7]));
    assert.deepEqual(new Uint8Array(buffer), Uint8Array.from([7]));
  }
});

test("WebSocket is opened where a session is refused, and remembered", async () => {
  for (const round of [1, 2]) {
    const { connection, kinds } = begin("wss://other.example/prod");
    await settle();
    assert.equal(sessions.length, 1);
    if (round === 1) {
      sessions[0].refuse();
      await settle();
    }
    sockets.at(-1).open("v1");
    assert.deepEqual([connection.transport, connection.protocol, kinds()], ["websocket", "v1", "open"]);
  }
  begin("wss://another.example/prod");
  await settle();
  assert.equal(sessions.length, 2);
  mock.timers.tick(600_001);
  begin("wss://other.example/prod");
  await settle();
  assert.equal(sessions.length, 3);
});

test("host that is refused by both is not remembered", async () => {
  begin("/prod");
  await settle();
  sessions[0].refuse();
  await settle();
  sockets[0].end(1006);
  await settle();
  await pass(1_000);
  assert.equal(sessions.length, 2);
});

test("session that does not open in two seconds is given up", async () => {
  const { kinds } = begin("/prod");
  await settle();
  await pass(1_999);
  assert.equal(sockets.length, 0);
  await pass(1);
  assert.equal(sockets.length, 1);
  assert.ok(sessions[0].info);
  sockets[0].open();
  assert.equal(kinds(), "open");
});

test("session is not tried where it could not serve", async () => {
  begin("ws://gateway.example/prod");
  begin("/prod", [], { webTransport: false });
  const { protocol } = Object.getOwnPropertyDescriptors(WebTransport.prototype);
  delete WebTransport.prototype.protocol;
  begin("/prod", "v1");
  await settle();
  Object.defineProperty(WebTransport.prototype, "protocol", protocol);
  assert.deepEqual(sockets.map(({ url }) => url), ["ws://gateway.example/prod", "wss://gateway.example/prod", "wss://gateway.example/prod"]);
  assert.deepEqual(sockets[2].protocols, ["v1"]);
  WebTransport.isAllowed = false;
  begin("/prod");
  await settle();
  WebTransport.isAllowed = true;
  assert.deepEqual([sessions.length, sockets.length], [0, 4]);
  const { WebTransport: all } = globalThis;
  delete globalThis.WebTransport;
  begin("/prod");
  await settle();
  globalThis.WebTransport = all;
  assert.equal(sockets.length, 5);
});

test("lost connection is opened again after a pause that grows, and at random", async () => {
  const { connection, events, kinds } = begin("/prod", [], { webTransport: false });
  await settle();
  const longest = [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
  for (const [index, limit] of longest.entries()) {
    sockets.at(-1).end(1006);
    await settle();
    const { retryIn } = events.at(-1);
    assert.ok(retryIn >= limit / 2 && retryIn <= limit, `${index}: ${retryIn}`);
    assert.equal(connection.readyState, connection.CONNECTING);
    await pass(retryIn - 1);
    assert.equal(sockets.length, index + 1);
    await pass(1);
    assert.equal(sockets.length, index + 2);
  }
  assert.match(kinds(), /^(error close ?){7}$/);
  sockets.at(-1).open();
  mock.timers.tick(10_001);
  sockets.at(-1).end(1001);
  await settle();
  assert.ok(events.at(-1).retryIn <= 1_000);
  assert.deepEqual(events.slice(-2).map(({ type }) => type), ["open", "close"]);
});

test("pause is the one that the gateway advises", async () => {
  for (const random of [0, 0.999]) {
    const { events, socket } = await beginSocket();
    const stub = mock.method(Math, "random", () => random);
    socket.end(1012, "Service restart; reconnect in 0-30 s");
    await settle();
    stub.mock.restore();
    assert.equal(events.at(-1).retryIn, random * 30_000);
  }
  const { events, socket } = await beginSocket();
  socket.end(1013, "slow consumer");
  await settle();
  assert.ok(events.at(-1).retryIn >= 2_000);
});

test("connection is not opened again after a code that speaks against it", async () => {
  for (const [code, isAgain] of [
    [1000, false],
    [1001, true],
    [1002, false],
    [1003, false],
    [1005, true],
    [1006, true],
    [1007, false],
    [1008, false],
    [1009, false],
    [1010, false],
    [1011, true],
    [1012, true],
    [1013, true],
    [3000, false],
    [4999, false],
  ]) {
    const { connection, events, socket } = await beginSocket();
    socket.end(code, "why");
    await settle();
    const { code: told, reason, retryIn } = events.at(-1);
    assert.deepEqual([told, reason, retryIn !== null], [code, "why", isAgain]);
    assert.equal(connection.readyState, isAgain ? connection.CONNECTING : connection.CLOSED);
  }
  const off = await beginSocket({ reconnect: false });
  off.socket.end(1006);
  await settle();
  assert.equal(off.events.at(-1).retryIn, null);
  const own = await beginSocket({ reconnect: ({ code, reason }) => code === 4001 && reason === "later" });
  own.socket.end(4001, "later");
  await settle();
  assert.notEqual(own.events.at(-1).retryIn, null);
});

test("connection that has expired is opened again, and backs off while it expires at once", async () => {
  const { connection, events, session } = await beginSession();
  session.end(1008, "authorization expired");
  await settle();
  for (const limit of [1_000, 2_000, 4_000]) {
    const { code, retryIn } = events.at(-1);
    assert.equal(code, 1008);
    assert.ok(retryIn >= limit / 2 && retryIn <= limit, `${limit}: ${retryIn}`);
    assert.equal(connection.readyState, connection.CONNECTING);
    await pass(retryIn);
    sessions.at(-1).open();
    await settle();
    assert.equal(connection.readyState, connection.OPEN);
    sessions.at(-1).end(1008, "authorization expired");
    await settle();
  }
  for (const reason of ["too many fragments", "authorization expired, says a handler"]) {
    const { events, socket } = await beginSocket();
    socket.end(1008, reason);
    await settle();
    assert.equal(events.at(-1).retryIn, null, reason);
  }
});

test("network that is back and a call of retry end the pause", async () => {
  const { connection, socket } = await beginSocket();
  socket.end(1006);
  await settle();
  page.dispatchEvent(new Event("online"));
  await settle();
  assert.equal(sockets.length, 2);
  sockets[1].end(1006);
  await settle();
  connection.retry();
  await settle();
  assert.equal(sockets.length, 3);
  // While there is no pause, it changes nothing.
  connection.retry();
  await settle();
  assert.equal(sockets.length, 3);
});

test("message is sent on one connection and never again", async () => {
  const { connection, events, session } = await beginSession();
  session.isStalled = true;
  connection.send("first");
  connection.send("second");
  await settle();
  assert.equal(connection.bufferedAmount, 11);
  session.taking.shift()();
  await settle();
  assert.equal(connection.bufferedAmount, 6);
  session.lose();
  await settle();
  const close = events.at(-1);
  assert.deepEqual([close.type, close.code, close.wasClean], ["close", 1006, false]);
  assert.equal(connection.bufferedAmount, 6);
  assert.throws(() => connection.send("third"), { name: "InvalidStateError" });
  await pass(close.retryIn);
  sessions[1].open();
  await settle();
  assert.equal(connection.bufferedAmount, 0);
  assert.deepEqual(sessions[1].written, []);
});

test("wait for room ends when there is some, or the connection is lost", async () => {
  const { connection, socket } = await beginSocket();
  socket.bufferedAmount = 100;
  let drained = 0;
  connection.drained(50).then(() => (drained += 1));
  connection.drained().then(() => (drained += 1));
  await pass(20);
  assert.equal(drained, 0);
  socket.bufferedAmount = 50;
  await pass(20);
  assert.equal(drained, 1);
  socket.end(1006);
  await settle();
  await pass(20);
  assert.equal(drained, 2);
});

test("what is neither text nor bytes is not sent", async () => {
  const { connection, socket } = await beginSocket();
  for (const data of [new Blob(["x"]), 5, {}]) assert.throws(() => connection.send(data), TypeError);
  connection.send("");
  assert.deepEqual(socket.sent, [""]);
});

test("close follows the last messages and is the last event", async () => {
  const { connection, events, session } = await beginSession();
  connection.send("last");
  connection.close(4_001, "enough");
  assert.equal(connection.readyState, connection.CLOSING);
  await settle();
  assert.deepEqual(session.info, { closeCode: 4_001, reason: "enough", wasFinished: true });
  const { code, reason, wasClean, retryIn } = events.at(-1);
  assert.deepEqual([code, reason, wasClean, retryIn], [4_001, "enough", true, null]);
  assert.equal(connection.readyState, connection.CLOSED);
  connection.close();
  await pass(60_000);
  assert.equal(sessions.length, 1);
});

test("close waits ten seconds for a gateway that takes nothing", async () => {
  const { connection, events, session } = await beginSession();
  session.isStalled = true;
  connection.send("stuck");
  connection.close();
  await pass(9_999);
  assert.equal(session.info, undefined);
  await pass(1);
  assert.deepEqual(session.info, { closeCode: 0, reason: "", wasFinished: false });
  assert.equal(events.at(-1).code, 1005);
});

test("close ends an attempt and a pause", async () => {
  for (const webTransport of [true, false]) {
    const { connection, events } = begin("/prod", [], { webTransport });
    await settle();
    connection.close();
    await settle();
    assert.equal(events.at(-1).retryIn, null);
    assert.equal(connection.readyState, connection.CLOSED);
  }
  const at_once = begin("/prod");
  at_once.connection.close();
  await settle();
  assert.equal(at_once.connection.readyState, at_once.connection.CLOSED);

  const { connection, events, socket } = await beginSocket();
  socket.end(1006);
  await settle();
  connection.close();
  await settle();
  assert.deepEqual([events.at(-1).code, events.at(-1).retryIn], [1005, null]);
  await pass(60_000);
  assert.equal(sockets.length, 2);
});

test("close of the gateway has its code and reason, and none is 1005", async () => {
  for (const [closeCode, code] of [
    [4_002, 4_002],
    [0, 1005],
  ]) {
    const { events, session } = await beginSession();
    session.end(closeCode, "why");
    await settle();
    assert.deepEqual([events.at(-1).code, events.at(-1).reason, events.at(-1).wasClean], [code, "why", true]);
  }
});

test("address of a function is asked for before each attempt", async () => {
  let asked = 0;
  const address = async () => {
    asked += 1;
    if (asked === 2) throw new Error("no token now");
    return `/prod?token=${asked}`;
  };
  const { connection, events } = begin(address, [], { webTransport: false });
  assert.equal(connection.url, "");
  await settle();
  sockets[0].end(1006);
  await settle();
  await pass(1_000);
  assert.equal(events.at(-1).reason, "Error: no token now");
  await pass(events.at(-1).retryIn);
  assert.equal(sockets[1].url, "wss://gateway.example/prod?token=3");
  assert.equal(connection.url, "wss://gateway.example/prod?token=3");
});

test("subprotocols of a function are asked for before each attempt", async () => {
  let asked = 0;
  const protocols = async () => {
    asked += 1;
    if (asked === 2) throw new Error("no token now");
    return ["bearer", `token-${asked}`];
  };
  const { events } = begin("/prod", protocols);
  await settle();
  assert.deepEqual(sessions[0].options.protocols, ["bearer", "token-1"]);
  sessions[0].refuse();
  await settle();
  // The WebSocket belongs to the same attempt.
  assert.deepEqual(sockets[0].protocols, ["bearer", "token-1"]);
  sockets[0].open("bearer");
  sockets[0].end(1008, "authorization expired");
  await settle();
  await pass(1_000);
  assert.equal(events.at(-1).reason, "Error: no token now");
  await pass(events.at(-1).retryIn);
  assert.deepEqual([asked, sockets[1].protocols], [3, ["bearer", "token-3"]]);
  begin("/prod", () => "v1", { webTransport: false });
  await settle();
  assert.deepEqual(sockets[2].protocols, ["v1"]);
});

test("mistake in a call is said and not tried again", async () => {
  assert.throws(() => connect("https://"), TypeError);
  const { connection, events } = begin("/prod", "not a token", { webTransport: false });
  await settle();
  assert.match(events.at(-1).reason, /SyntaxError/);
  assert.equal(connection.readyState, connection.CLOSED);
  const open = await beginSocket();
  for (const code of [1001, 2999, 5000]) {
    assert.throws(() => open.connection.close(code), { name: "InvalidAccessError" });
  }
  assert.equal(open.connection.readyState, open.connection.OPEN);
});

test("handlers are called as listeners are", async () => {
  const { connection, socket } = await beginSocket();
  const called = [];
  connection.onmessage = ({ data }) => called.push(data);
  connection.onclose = ({ code }) => called.push(code);
  socket.receive("one");
  socket.receive("two");
  socket.end(4_000);
  await settle();
  assert.deepEqual(called, ["one", "two", 4_000]);
});

test("module is small and needs nothing else", async () => {
  const file = new URL("../index.js", import.meta.url);
  const { outputFiles } = buildSync({ entryPoints: [file.pathname], bundle: true, minify: true, format: "esm", write: false });
  assert.ok(outputFiles[0].contents.length <= 4_096, `${outputFiles[0].contents.length} bytes`);
  assert.doesNotMatch(await readFile(file, "utf8"), /\bimport\b/);
});
