// A page in a headless Chromium: node shown.cjs CHROMIUM URL LINES. It ends once the page shows these lines in order.
"use strict";

const { mkdtemp, rm } = require("node:fs/promises");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { chromium } = require("playwright-core");

const [executablePath, url, lines] = process.argv.slice(2);
const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--ignore-certificate-errors",
];

async function main() {
  const profile = await mkdtemp(join(tmpdir(), "lockgate-shown-"));
  const browser = await chromium.launchPersistentContext(profile, { executablePath, args, headless: true });
  try {
    const tab = await browser.newPage();
    await tab.goto(url);
    const shows = (wanted) => document.body.innerText.includes(wanted);
    await tab.waitForFunction(shows, lines, { timeout: 60_000 }).catch(async (error) => {
      throw new Error(`${error.message}: the page shows ${await tab.evaluate(() => document.body.innerText)}`);
    });
  } finally {
    await browser.close();
    await rm(profile, { recursive: true, force: true });
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
