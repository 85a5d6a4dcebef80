import assert from "node:assert/strict";
import { test } from "node:test";

import { Gateway } from "@lockgate/sdk/testing";

import plugin from "../src/plugin.js";

/**
 * The events of a client since the last call.
 *
 * @param {Gateway} gateway
 * @param {string} id
 */
const heard = (gateway, id) => gateway.received(id).map((message) => JSON.parse(String(message)));

/**
 * The answer to an action of a client.
 *
 * @param {Gateway} gateway
 * @param {string} id
 * @param {object} action
 */
const ask = async (gateway, id, action) => JSON.parse(String(await gateway.message(id, JSON.stringify(action))));

test("a text said in a room reaches its members", async () => {
  const gateway = new Gateway(plugin);
  const ada = await gateway.connect({ query: { name: "ada" } });
  const bob = await gateway.connect({ query: { name: "bob" } });
  const join = { action: "join", room: "lobby" };
  await ask(gateway, ada, join);
  assert.equal((await ask(gateway, bob, join)).count, 2);
  heard(gateway, ada);

  const said = await ask(gateway, bob, { action: "say", room: "lobby", text: "hi" });
  assert.deepEqual([said.event, said.name], ["said", "bob"]);
  assert.deepEqual(heard(gateway, ada), [said]);

  await gateway.disconnect(bob);
  assert.deepEqual(heard(gateway, ada), [{ event: "left", room: "lobby", id: bob, name: "bob" }]);
});

test("a whisper to a client that is gone gets the reason", async () => {
  const gateway = new Gateway(plugin);
  const ada = await gateway.connect();
  const bob = await gateway.connect();
  gateway.fail(bob, "gone");
  const answer = await ask(gateway, ada, { action: "whisper", to: bob, text: "psst" });
  assert.deepEqual(answer, { event: "error", text: "That person is not here any more." });
});
