// A page in a headless Chromium that presents a token: node token.cjs CHROMIUM SOCKET PAGE TOKEN, where SOCKET is the
// WebSocket's URL and PAGE that of a page of the same site, which comes from this script. The output is one JSON object
// with what the page sees of each attempt: the subprotocol and the answer, or the code of the close.
"use strict";

const { mkdtemp, rm } = require("node:fs/promises");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { chromium } = require("playwright-core");

const [executablePath, socket, page, token] = process.argv.slice(2);
const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
];

/** Opens the socket with these subprotocols, asks who the client is, and tells what the page sees. */
function attempt([url, protocols]) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => socket.send('[{"do":"who"}]');
    socket.onmessage = ({ data }) => resolve(`${socket.protocol || "none"} ${JSON.parse(data)[0].principal}`);
    socket.onclose = ({ code }) => resolve(`closed with ${code}`);
  });
}

async function main() {
  const profile = await mkdtemp(join(tmpdir(), "lockgate-token-"));
  const browser = await chromium.launchPersistentContext(profile, { executablePath, args, headless: true });
  try {
    const tab = await browser.newPage();
    const content = { contentType: "text/html", body: "<!doctype html><title>a page</title>" };
    await tab.route("**/*", (route) => route.fulfill(content));
    await tab.goto(page);
    const seen = {};
    seen.nothing = await tab.evaluate(attempt, [socket, []]);
    seen.subprotocol = await tab.evaluate(attempt, [socket, ["bearer", token]]);
    seen.beside = await tab.evaluate(attempt, [socket, ["chat.v2", "bearer", token]]);
    seen.forged = await tab.evaluate(attempt, [socket, ["bearer", `${token}A`]]);
    // As a sign-in sets it: no script can read it.
    const session = { name: "session", value: token, url: page, httpOnly: true, sameSite: "Strict" };
    await browser.addCookies([session]);
    seen.cookie = await tab.evaluate(attempt, [socket, []]);
    await browser.clearCookies();
    seen.signedOut = await tab.evaluate(attempt, [socket, []]);
    console.log(JSON.stringify(seen));
  } finally {
    await browser.close();
    await rm(profile, { recursive: true, force: true });
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
