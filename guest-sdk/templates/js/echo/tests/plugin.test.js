import assert from "node:assert/strict";
import { test } from "node:test";

import { Gateway } from "@lockgate/sdk/testing";

import plugin from "../src/plugin.js";

test("a message comes back", async () => {
  const gateway = new Gateway(plugin);
  const client = await gateway.connect();
  assert.equal(await gateway.message(client, "hello"), "hello");
});
