// The SDK beside the contract: every function, field and error of `wit/` is in the modules and in the declarations.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as sdk from "../src/index.js";
import * as fakes from "../src/testing/calls/context.js";
import * as fakeConnections from "../src/testing/calls/connections.js";
import * as fakeGroups from "../src/testing/calls/groups.js";

const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");
const wit = (name) => read(`../wit/${name}.wit`).replace(/\/\/\/.*$/gm, "");
const camel = (name) => name.replace(/-(.)/g, (_, letter) => letter.toUpperCase());

/** The names of the functions of an interface. */
const functions = (text) => [...text.matchAll(/^ {2}([a-z-]+): func/gm)].map(([, name]) => camel(name));

/** The names of the fields of a record, or of the cases of a variant. */
function parts(text, kind, name) {
  const body = new RegExp(`${kind} ${name} \\{([^}]*)\\}`).exec(text)?.[1];
  assert.ok(body, `there is no ${kind} ${name}`);
  return [...body.matchAll(/^ *([a-z-]+)[:,(]/gm)].map(([, part]) => part);
}

const declarations = read("../index.d.ts");

/** The body of an interface or of a namespace in the declarations. */
function declared(kind, name) {
  const body = new RegExp(`export ${kind} ${name} \\{([\\s\\S]*?)\\n\\}`).exec(declarations)?.[1];
  assert.ok(body, `index.d.ts has no ${kind} ${name}`);
  return body;
}

for (const [name, fake] of Object.entries({ connections: fakeConnections, groups: fakeGroups, context: fakes })) {
  test(`every function of ${name} is in the SDK, its declarations, its component and its gateway for tests`, () => {
    const all = functions(wit(name));
    assert.ok(all.length > 3, all.join());
    const component = /\{([^}]*)\}/.exec(read(`../src/component/${name}.js`))[1].split(",").map((part) => part.trim());
    assert.deepEqual(component, [...all].sort());
    assert.deepEqual(Object.keys(fake).sort(), [...all].sort());
    for (const each of all) {
      assert.equal(typeof sdk[name][each], "function", each);
      assert.match(declared("namespace", name), new RegExp(`function ${each}\\(`), each);
    }
    for (const each of Object.keys(sdk[name])) assert.match(declared("namespace", name), new RegExp(`function ${each}\\(`), each);
  });
}

test("every field of the records is declared", () => {
  const records = [
    ["handler", "event", "Event"],
    ["handler", "handshake", "Handshake"],
    ["handler", "acceptance", "Acceptance"],
    ["handler", "closing", "Closing"],
    ["connections", "connection-info", "ConnectionInfo"],
    ["context", "invocation", "Invocation"],
  ];
  for (const [file, record, type] of records) {
    for (const field of parts(wit(file), "record", record)) assert.match(declared("interface", type), new RegExp(`\\b${camel(field)}\\??:`), `${type}.${camel(field)}`);
  }
});

test("every error is declared and has a text", () => {
  for (const code of parts(wit("types"), "variant", "error")) {
    assert.ok(declarations.includes(`| "${code}"`), code);
    assert.ok(new sdk.GatewayError(code, "why").message, code);
  }
});

test("every handler is one of define", () => {
  assert.deepEqual(functions(wit("handler")), ["onConnect", "onMessage", "onDisconnect"]);
});
