import assert from "node:assert/strict";
import { test } from "node:test";

import { Gateway } from "@lockgate/sdk/testing";

import plugin from "../src/plugin.ts";

test("a message comes back", async () => {
  const gateway = new Gateway(plugin);
  const client = await gateway.connect();
  for (const message of ["hello", new Uint8Array([0, 255])]) {
    assert.deepEqual(await gateway.message(client, message), message);
  }
});
