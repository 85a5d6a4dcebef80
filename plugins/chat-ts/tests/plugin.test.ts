import assert from "node:assert/strict";
import { test } from "node:test";

import type { ConnectionId, ErrorCode } from "@lockgate/sdk";
import { Gateway } from "@lockgate/sdk/testing";

import plugin from "../src/plugin.ts";

/** The chat with ada and bob, after their welcomes. */
async function two() {
  const gateway = new Gateway(plugin);
  const enter = async (name: string) => {
    const id = await gateway.connect({ query: { name } });
    assert.deepEqual(heard(gateway, id), [{ event: "welcome", id, name }]);
    return id;
  };
  return { gateway, ada: await enter("ada"), bob: await enter("bob") };
}

/** The events of a client since the last call. */
function heard(gateway: Gateway, id: ConnectionId) {
  return gateway.received(id).map((message) => JSON.parse(message as string));
}

/** The answer to an action of a client. */
async function ask(gateway: Gateway, id: ConnectionId, action: object) {
  return JSON.parse((await gateway.message(id, JSON.stringify(action))) as string);
}

const join = { action: "join", room: "lobby" };

test("an invalid name makes a guest", async () => {
  const gateway = new Gateway(plugin);
  const id = await gateway.connect({ query: { name: "\n" } });
  const [welcome] = heard(gateway, id);
  assert.match(welcome.name, /^guest-\d{4}$/);
});

test("a text said in a room reaches its members", async () => {
  const { gateway, ada, bob } = await two();
  assert.equal((await ask(gateway, ada, join)).count, 1);
  const say = { action: "say", room: "lobby", text: "hi" };
  assert.equal((await ask(gateway, bob, say)).event, "error");
  const there = await ask(gateway, bob, join);
  assert.equal(there.count, 2);
  assert.deepEqual(there.members[1], { id: bob, name: "bob" });
  heard(gateway, ada);

  const said = await ask(gateway, bob, say);
  assert.deepEqual([said.event, said.name], ["said", "bob"]);
  assert.deepEqual(heard(gateway, ada), [said]);
});

test("a whisper reaches one member, or its sender gets the error", async () => {
  const { gateway, ada, bob } = await two();
  const whisper = { action: "whisper", to: bob, text: "psst" };
  const whispered = await ask(gateway, ada, whisper);
  assert.deepEqual(heard(gateway, bob), [whispered]);
  const texts: [ErrorCode, string][] = [
    ["gone", "That person is not here any more."],
    ["busy", "That person reads too slowly just now. Try again."],
    ["too-large", "That is too long."],
  ];
  for (const [code, text] of texts) {
    gateway.fail(bob, code);
    assert.deepEqual(await ask(gateway, ada, whisper), { event: "error", text });
  }
});

test("a room is told who left", async () => {
  const { gateway, ada, bob } = await two();
  await ask(gateway, ada, join);
  await ask(gateway, bob, join);
  heard(gateway, ada);
  await gateway.disconnect(bob);
  assert.deepEqual(heard(gateway, ada), [{ event: "left", room: "lobby", id: bob, name: "bob" }]);
  assert.deepEqual(gateway.members("lobby"), [ada]);
});

test("what is no action gets the reason", async () => {
  const { gateway, ada } = await two();
  const cases: [string | Uint8Array, string][] = [
    ["", "That is not JSON."],
    ["[]", "`action` is missing, or is not a text."],
    ['{"action":7}', "`action` is missing, or is not a text."],
    ['{"action":"fly"}', "An action is name, join, leave, say, whisper or who."],
    ['{"action":"join"}', "`room` is missing, or is not a text."],
    ['{"action":"join","room":"a b"}', "The name of a room has 1 to 32 letters, digits, `-` or `_`."],
    ['{"action":"name","name":"ad\\u200ba"}', "A name has 1 to 32 characters, all of them visible."],
    ['{"action":"whisper","text":"psst"}', "`to` is missing, or is not a text."],
    [new Uint8Array([1]), "Send JSON as a text message."],
  ];
  for (const [message, text] of cases) {
    assert.deepEqual(JSON.parse((await gateway.message(ada, message)) as string), { event: "error", text });
  }
});
