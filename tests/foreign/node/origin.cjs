// A page of another site in a headless Chromium: node origin.cjs CHROMIUM SOCKET OWN FOREIGN …, where SOCKET is the
// WebSocket's URL, OWN the URL of a page that may open it, and each FOREIGN one of a page that may not. The pages come
// from this script and not from any server. The output is one JSON object with the result of each page.
"use strict";

const { mkdtemp, rm } = require("node:fs/promises");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { chromium } = require("playwright-core");

const [executablePath, socket, ...pages] = process.argv.slice(2);
const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--ignore-certificate-errors",
  // The test judges the gateway, and so the browser's own protection of this machine is off.
  "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
];

/** Opens the socket from a page, and tells what the page sees. */
function attempt(url) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.onopen = () => socket.send("hello");
    socket.onmessage = ({ data }) => resolve(`${location.origin} got ${data}`);
    socket.onclose = ({ code }) => resolve(`${location.origin} closed with ${code}`);
  });
}

async function main() {
  const profile = await mkdtemp(join(tmpdir(), "lockgate-origin-"));
  const browser = await chromium.launchPersistentContext(profile, { executablePath, args, headless: true });
  try {
    const seen = {};
    for (const url of pages) {
      const tab = await browser.newPage();
      const content = { contentType: "text/html", body: "<!doctype html><title>a page</title>" };
      await tab.route("**/*", (route) => route.fulfill(content));
      await tab.goto(url);
      seen[url] = await tab.evaluate(attempt, socket);
      await tab.close();
    }
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
