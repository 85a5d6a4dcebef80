// A plugin that does what a test asks for: the message names a function of `behaviour`.

import { connections, context, define, GatewayError, groups, Refusal } from "@lockgate/sdk";

import { EventEmitter } from "node:events";
import { createHash } from "node:crypto";
import { format } from "node:util";
import { AsyncLocalStorage } from "node:async_hooks";
import { setTimeout as delay } from "node:timers/promises";

import { fail } from "./fail.js";

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const storage = new AsyncLocalStorage();

const behaviour = {
  random: () => [Math.random(), crypto.randomUUID(), crypto.getRandomValues(new Uint8Array(8)).join("-")].join(" "),

  time: () => String(Date.now() - new Date().getTime() < 1000 && performance.timeOrigin > Date.now() - 60_000 ? Date.now() : "wrong"),

  async wait() {
    const before = Date.now();
    await wait(60);
    return String(Date.now() - before);
  },

  async together() {
    const before = performance.now();
    const numbers = await Promise.all([1, 2, 3].map(async (number) => (await wait(40), number * 2)));
    return `${numbers} ${performance.now() - before < 110}`;
  },

  async throws() {
    await wait(1);
    fail("no such room");
  },

  throwsText() {
    throw "a text";
  },

  throwsObject() {
    throw { code: 7 };
  },

  throwsNull() {
    throw null;
  },

  throwsHalf() {
    throw new Error("half \ud83c of a pair");
  },

  throwsInACircle() {
    const error = new Error("round");
    error.cause = error;
    throw error;
  },

  throwsSeveral: () => Promise.any([Promise.reject(new Error("first")), Promise.reject("second")]),

  throwsTheUnreadable() {
    const error = new Error();
    Object.defineProperty(error, "stack", { get: () => fail("no stack") });
    throw error;
  },

  throwsMuch() {
    throw new Error("ü".repeat(1_000_000));
  },

  wrong: () => ({ an: "object" }),

  never: () => new Promise(() => {}),

  forgotten() {
    Promise.reject(new Error("nobody handles it"));
    return "answered";
  },

  log() {
    console.log("a line of %s", "text", { rooms: ["lobby"] });
    console.info("grüße 🎉, half \udc00 of a pair");
    console.warn("careful");
    console.info(`${"long ".repeat(2000)}end`);
    console.error(new Error("shown"));
    return "logged";
  },

  gone() {
    try {
      connections.send("nobody", "hello");
    } catch (error) {
      return `${error.name} ${error.code} ${error.message}`;
    }
    return "sent";
  },

  half(connectionId) {
    connections.setAttribute(connectionId, "half \ud800", "\udfff");
    connections.send(connectionId, JSON.stringify(connections.attributes(connectionId)));
    // Whatever else takes a text: the gateway may refuse it, and the instance goes on.
    for (const call of [
      () => connections.send("\ud800", "\ud800"),
      () => connections.sendDatagram("\ud800", new Uint8Array(1)),
      () => connections.close("\ud800", 4000, "\ud800"),
      () => connections.info("\ud800"),
      () => connections.attribute("\ud800", "\ud800"),
      () => connections.attributes("\ud800"),
      () => connections.removeAttribute(connectionId, "\ud800"),
      () => groups.join("\ud800", connectionId),
      () => groups.leave("\ud800", connectionId),
      () => groups.publish("\ud800", "\ud800", { exclude: "\ud800" }),
      () => groups.members("\ud800", { after: "\ud800" }),
      () => groups.count(groups.ofPrincipal("\ud800")),
      () => context.variable("\ud800"),
      () => console.log("\ud800"),
    ]) {
      try {
        call();
      } catch (error) {
        if (!(error instanceof GatewayError)) throw error;
      }
    }
    return "half \ud83c";
  },

  renew() {
    context.renew(Date.now() + 60_000);
    context.renew(new Date(Date.now() + 60_000), { "half \ud800": "\ud800", more: 1.5, yes: true });
    return behaviour.who();
  },

  who: () => JSON.stringify([context.principal(), context.authorizer()]),

  binary: () => new Uint8Array([1, 2, 3]),

  async platform() {
    const emitter = new EventEmitter();
    const heard = [];
    emitter.on("event", (value) => heard.push(value));
    emitter.emit("event", 1);
    const decoded = new TextDecoder().decode(new TextEncoder().encode("grüße 🎉"));
    const copy = structuredClone({ at: new Date(0), in: new Map([["a", new Set([1])]]) });
    const { signal } = new AbortController();
    const aborted = await new Promise((resolve) => AbortSignal.timeout(5).addEventListener("abort", ({ type }) => resolve(type)));
    return JSON.stringify([
      heard,
      decoded,
      copy.at.getTime() + copy.in.get("a").size,
      new URL("../b?c=1#d", "https://user@example.com:8443/a/x").href,
      [...new URLSearchParams("a=1&b=%C3%BC&a=2")].join(";"),
      atob(btoa("hi")),
      Buffer.from("hi").toString("hex"),
      createHash("sha256").update("hi").digest("hex").slice(0, 8),
      format("%s-%d", "a", 1),
      signal.aborted,
      aborted,
      await delay(2, "delayed"),
      await storage.run("store", async () => (await wait(1), storage.getStore())),
      await Array.fromAsync([Promise.resolve(1), 2]),
      typeof fetch,
    ]);
  },
};

export default define({
  authorize: () => ({ principal: "half \ud800", values: { "half \ud800": "\udc00" }, scopes: ["half \ud800"] }),
  connect(event, handshake) {
    if (handshake.queryParameter("refuse")) throw new Refusal(403, "members only", { cause: new Error("no ticket") });
    if (handshake.queryParameter("fail")) fail("no database");
    if (handshake.queryParameter("half")) throw new Refusal(403, "half \ud800");
    if (handshake.queryParameter("headers")) return { headers: { "x-half": "\ud800", "\ud800": "x" } };
    return { headers: { "x-version": handshake.httpVersion, "x-path": handshake.path } };
  },
  message: (event, message) => (behaviour[message] ?? behaviour[event.routeKey])(event.connectionId),
  disconnect(event, closing) {
    fail(`at the end, with ${closing.code}`);
  },
});
