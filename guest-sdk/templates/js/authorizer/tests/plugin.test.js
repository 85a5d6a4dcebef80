import assert from "node:assert/strict";
import { test } from "node:test";

import { Gateway } from "@lockgate/sdk/testing";

import plugin from "../src/plugin.js";

// openssl signed it with the secret of these tests.
const OURS = "ada.gold.1767225660.7f75f0703c22b4e10892f25783d02c2cf45374debc69dc7fecc1ca645377fbee";

process.env["TICKET_SECRET"] = "for development only";

/** @param {string} ticket */
const decided = (ticket) => new Gateway(plugin).authorize({ query: { ticket } });

test("a ticket says who the client is", async () => {
  const expiresAt = 1_767_225_660_000;
  assert.deepEqual(await decided(OURS), { principal: "ada", values: { plan: "gold" }, scopes: [], expiresAt });
});

test("a client without a good ticket is refused", async () => {
  await assert.rejects(new Gateway(plugin).authorize(), { status: 401 });
  for (const ticket of ["", ".", OURS.replace("ada", "eve"), OURS.slice(0, -1), `${OURS}00`]) {
    await assert.rejects(decided(ticket), { status: 403 }, ticket);
  }
});

test("a client is told who it is", async () => {
  const gateway = new Gateway(plugin).identify("ada", { plan: "gold" });
  assert.equal(await gateway.message(await gateway.connect(), "who am I?"), "ada (gold)");
});
