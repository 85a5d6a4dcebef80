// The npm package `ws` against a gateway that echoes: node ws.cjs URL, where URL names the stage.
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { WebSocket } = require("ws");

const url = process.argv[2];
const options = { rejectUnauthorized: false };

async function echoes() {
  const socket = new WebSocket(url, options);
  await once(socket, "open");
  assert.equal(socket.extensions, "", "no compression");
  assert.equal(socket.protocol, "");
  for (const text of ["", "hello", "κόσμε 🦀", "x".repeat(100_000)]) {
    socket.send(text);
    const [data, isBinary] = await once(socket, "message");
    assert.equal(isBinary, false);
    assert.equal(data.toString(), text);
  }
  const bytes = Buffer.from([0, 1, 254, 255]);
  socket.send(bytes);
  const [data, isBinary] = await once(socket, "message");
  assert.equal(isBinary, true);
  assert.deepEqual(data, bytes);

  // Fragments, with a ping between them.
  socket.send("frag", { fin: false });
  socket.ping("still there?");
  socket.send("ments", { fin: true });
  const [[pong], [joined]] = await Promise.all([once(socket, "pong"), once(socket, "message")]);
  assert.equal(pong.toString(), "still there?");
  assert.equal(joined.toString(), "fragments");

  socket.close(4001, "enough");
  const [code, reason] = await once(socket, "close");
  assert.equal(code, 4001);
  assert.equal(reason.toString(), "enough");
}

async function manyInOrder() {
  const socket = new WebSocket(url, options);
  await once(socket, "open");
  const received = [];
  const done = new Promise((resolve) => {
    socket.on("message", (data) => {
      received.push(Number(data));
      if (received.length === 1000) resolve();
    });
  });
  for (let number = 0; number < 1000; number += 1) socket.send(String(number));
  await done;
  assert.deepEqual(received, [...Array(1000).keys()]);
  socket.close();
  const [code] = await once(socket, "close");
  assert.equal(code, 1005);
}

async function tooLarge() {
  const socket = new WebSocket(url, options);
  await once(socket, "open");
  socket.on("error", () => {});
  socket.send("x".repeat(128 * 1024 + 1));
  const [code] = await once(socket, "close");
  assert.equal(code, 1009);
}

async function refused() {
  const elsewhere = new URL(url);
  elsewhere.pathname = "/unknown";
  const socket = new WebSocket(elsewhere, options);
  const [error] = await once(socket, "error");
  assert.match(error.message, /Unexpected server response: 403/);
}

(async () => {
  for (const test of [echoes, manyInOrder, tooLarge, refused]) {
    await test();
    console.log(`ok ${test.name}`);
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
