// The chat page in two tabs of one Chromium, the first by WebTransport and the second by WebSocket, with a third member who
// is called eve: node mixed_chat.cjs CHROMIUM URL [FLAG …]. The last line of the output has the protocol of the page and
// the transport of each tab.
"use strict";

const { mkdtemp, rm } = require("node:fs/promises");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { chromium } = require("playwright-core");

const [executablePath, url, ...flags] = process.argv.slice(2);
const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  ...flags,
];

async function open(browser, name, prepare) {
  const tab = await browser.newPage();
  if (prepare) await tab.addInitScript(prepare);
  await tab.goto(url);
  await tab.waitForSelector("#state[data-state=open]");
  await tab.fill("#name", name);
  await tab.press("#name", "Enter");
  await tab.waitForSelector(`#members button[data-name="${name}"]`);
  const page = await tab.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
  return { tab, page, transport: await tab.getAttribute("#state", "data-transport") };
}

async function say(tab, text) {
  await tab.fill("#text", text);
  await tab.click("#send");
}

async function said(text, ...tabs) {
  const line = `#messages li[data-event=said]:has-text(${JSON.stringify(text)})`;
  await Promise.all(tabs.map((tab) => tab.waitForSelector(line)));
}

async function talk(browser) {
  const ada = await open(browser, "ada");
  const bob = await open(browser, "bob", () => delete window.WebTransport);
  await Promise.all([ada, bob].map(({ tab }) => tab.waitForSelector('#members button[data-name="eve"]')));
  await say(ada.tab, "by WebTransport");
  await said("by WebTransport", ada.tab, bob.tab);
  await say(bob.tab, "by WebSocket");
  await said("by WebSocket", ada.tab, bob.tab);
  await said("by aioquic", ada.tab, bob.tab);
  console.log(JSON.stringify({ page: ada.page, transports: [ada.transport, bob.transport] }));
}

async function main() {
  const profile = await mkdtemp(join(tmpdir(), "lockgate-chat-"));
  const browser = await chromium.launchPersistentContext(profile, { executablePath, args, headless: true });
  try {
    browser.setDefaultTimeout(60_000);
    await talk(browser);
  } finally {
    await browser.close();
    await rm(profile, { recursive: true, force: true });
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
