// A page of the gateway's own origin in a headless Chromium: node page.cjs CHROMIUM ORIGIN CLIENT CERTIFICATE [FLAG …], where
// CLIENT is the module @lockgate/client and CERTIFICATE the gateway's, as DER in Base64. Each line of the input is a
// JavaScript expression: the page awaits it, and the output is a line of JSON with its value. The page has `begin`, which
// calls `connect` and notes the events in `seen`.
"use strict";

const { X509Certificate, createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { mkdtemp, rm } = require("node:fs/promises");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { createInterface } = require("node:readline");
const { chromium } = require("playwright-core");

const [executablePath, origin, client, certificate, ...flags] = process.argv.slice(2);
const der = Buffer.from(certificate, "base64");
const sha256 = (bytes) => createHash("sha256").update(bytes).digest();
const key = new X509Certificate(der).publicKey.export({ type: "spki", format: "der" });
const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
  `--ignore-certificate-errors-spki-list=${sha256(key).toString("base64")}`,
  ...flags,
];

const script = `
import { connect } from "./client.js";
window.hashes = [{ algorithm: "sha-256", value: ${JSON.stringify([...sha256(der)])} }];
window.seen = [];
window.begin = (url, options, protocols = []) => {
  window.connection = connect(url, protocols, { serverCertificateHashes: window.hashes, ...options });
  window.connection.binaryType = "arraybuffer";
  window.connection.onopen = () => window.seen.push("open " + window.connection.transport);
  window.connection.onmessage = ({ data }) =>
    window.seen.push(typeof data === "string" ? data : [...new Uint8Array(data)].join());
  window.connection.onclose = ({ code, reason, wasClean, retryIn }) =>
    window.seen.push("close " + [code, reason, wasClean, retryIn === null ? "last" : "again"].join(" "));
};
/** Waits until an event is there, and gives those up to it. */
window.until = async (text) => {
  for (;;) {
    const at = window.seen.findIndex((event) => event.startsWith(text));
    if (at >= 0) return window.seen.splice(0, at + 1);
    await new Promise((look) => setTimeout(look, 10));
  }
};
document.title = "ready";
`;

async function main() {
  const profile = await mkdtemp(join(tmpdir(), "lockgate-page-"));
  const browser = await chromium.launchPersistentContext(profile, { executablePath, args, headless: true });
  try {
    const tab = await browser.newPage();
    const serve = (path, contentType, body) => tab.route(origin + path, (route) => route.fulfill({ contentType, body }));
    await serve("/", "text/html", '<!doctype html><script src="page.js" type="module"></script>');
    await serve("/page.js", "text/javascript", script);
    await serve("/client.js", "text/javascript", readFileSync(client, "utf8"));
    await tab.goto(`${origin}/`);
    await tab.waitForFunction(() => document.title === "ready");
    for await (const line of createInterface({ input: process.stdin })) {
      console.log(JSON.stringify((await tab.evaluate(line)) ?? null));
    }
  } finally {
    await browser.close();
    await rm(profile, { recursive: true, force: true });
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
