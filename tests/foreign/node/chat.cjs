// The chat page in two tabs of one Chromium: node chat.cjs CHROMIUM URL [FLAG …], where URL is the page that
// `lockgate dev plugins/chat` serves and each FLAG is an extra one for Chromium. The last line of the output has the
// protocol of the page and the status of each tab's handshake.
"use strict";

const assert = require("node:assert/strict");
const { mkdtemp, rm } = require("node:fs/promises");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { chromium } = require("playwright-core");

const [executablePath, url, ...flags] = process.argv.slice(2);
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
  ...flags,
];

/** A tab with the page open and the chat's first room entered, and how its socket came to be. */
async function open(browser, name) {
  const tab = await browser.newPage();
  const problems = [];
  tab.on("pageerror", (error) => problems.push(String(error)));
  // The browser tells of each session that did not open: QUIC is switched off here.
  const isOfSession = (line) => /QUIC/.test(line.text());
  tab.on("console", (line) => line.type() === "error" && !isOfSession(line) && problems.push(line.text()));
  const network = await browser.newCDPSession(tab);
  await network.send("Network.enable");
  const handshake = new Promise((resolve) => {
    network.once("Network.webSocketHandshakeResponseReceived", ({ response }) => resolve(response));
  });
  await tab.goto(url);
  await tab.waitForSelector("#state[data-state=open]");
  await tab.fill("#name", name);
  await tab.press("#name", "Enter");
  await tab.waitForSelector(`#members button[data-name="${name}"]`);
  const page = await tab.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
  return { tab, problems, page, socket: await handshake };
}

async function said(tab, text) {
  await tab.waitForSelector(`#messages li[data-event=said]:has-text(${JSON.stringify(text)})`);
}

async function talk(browser) {
  const ada = await open(browser, "ada");
  const bob = await open(browser, "bob");
  // Presence: each tab sees the other.
  await ada.tab.waitForSelector('#members button[data-name="bob"]');
  await bob.tab.waitForSelector('#members button[data-name="ada"]');

  const markup = "hello <b>bob</b> & κόσμε";
  await ada.tab.fill("#text", markup);
  await ada.tab.click("#send");
  await Promise.all([said(ada.tab, markup), said(bob.tab, markup)]);
  await bob.tab.fill("#text", "hello ada");
  await bob.tab.click("#send");
  await Promise.all([said(ada.tab, "hello ada"), said(bob.tab, "hello ada")]);

  // A private message, by connection id.
  await bob.tab.click('#members button[data-name="ada"]');
  await bob.tab.fill("#text", "between us");
  await bob.tab.click("#send");
  await ada.tab.waitForSelector('#messages li[data-event=whispered]:has-text("between us")');

  // One tab closes, and the other gets the event.
  await bob.tab.close();
  await ada.tab.waitForSelector('#messages li[data-event=note]:has-text("bob left")');
  await ada.tab.waitForSelector('#members button[data-name="bob"]', { state: "detached" });
  assert.deepEqual(ada.problems, []);
  assert.deepEqual(bob.problems, []);
  console.log(JSON.stringify({ page: ada.page, sockets: [ada.socket.status, bob.socket.status] }));
}

(async () => {
  const profile = await mkdtemp(join(tmpdir(), "lockgate-chat-"));
  const browser = await chromium.launchPersistentContext(profile, { executablePath, args, headless: true });
  try {
    browser.setDefaultTimeout(60_000);
    await talk(browser);
  } finally {
    await browser.close();
    await rm(profile, { recursive: true, force: true });
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
