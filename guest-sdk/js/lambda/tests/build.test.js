// The build of a Lambda project: it finds handlers by their setting, and says what a plugin cannot have.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";

import * as esbuild from "esbuild";

import { lambda } from "../build.js";
import { missing } from "../exports.js";

const HANDLER = "exports.handler = async () => ({ statusCode: 200 });";

const projects = [];
after(() => projects.forEach((project) => rmSync(project, { recursive: true })));

/** A folder with these files. */
function project(files) {
  const folder = mkdtempSync(join(tmpdir(), "lambda-"));
  projects.push(folder);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

/** Bundles a project as the build of a plugin does, without the platform; gives the code or the errors. */
async function bundled(files, setting, connectionTable) {
  const { contents, resolveDir, plugins } = await lambda({ project: project(files), setting, connectionTable });
  try {
    const built = await esbuild.build({
      stdin: { contents, resolveDir },
      bundle: true,
      write: false,
      format: "esm",
      platform: "neutral",
      external: ["lockgate:*"],
      conditions: ["lockgate"],
      mainFields: ["module", "main"],
      logLevel: "silent",
      plugins: [...plugins, { name: "platform", setup: (build) => build.onResolve({ filter: /^#host/ }, ({ path }) => ({ path, external: true })) }],
    });
    return { code: built.outputFiles[0].text };
  } catch ({ errors }) {
    return { errors };
  }
}

for (const [setting, files] of [
  ["index.handler", { "index.js": HANDLER }],
  ["index.handler", { "index.mjs": "export const handler = async () => ({});" }],
  ["index.handler", { "index.ts": "export const handler = async (event: object): Promise<object> => event;" }],
  ["src/app/main.api.handler", { "src/app/main.cjs": "exports.api = { handler() {} };" }],
  [{ "$connect": "a.handler", "send it": "b.handler" }, { "a.js": HANDLER, "b.js": HANDLER }],
]) {
  test(`setting ${JSON.stringify(setting)} finds ${Object.keys(files).join(", ")}`, async () => {
    const { code, errors } = await bundled(files, setting);
    assert.deepEqual(errors, undefined);
    for (const file of Object.keys(files)) assert.ok(code.includes(file), file);
  });
}

test("source is taken before what a compiler made of it", async () => {
  const { code } = await bundled({ "index.ts": "export const handler = () => 'source';", "index.js": "exports.handler = () => 'stale';" }, "index.handler");
  assert.ok(code.includes("source") && !code.includes("stale"));
});

for (const [setting, reason] of [
  ["index", /says "index": "lambda" is "FILE.FUNCTION", such as "index.handler"/],
  ["absent.handler", /says "absent.handler", and there is no file absent in .* that ends in .ts, .mts, .cts, .js, .mjs, .cjs/],
  ["no/folder.handler", /there is no file no\/folder in/],
  [{}, /is not understood: "lambda" is "FILE.FUNCTION"/],
  [["index.handler"], /is not understood/],
  [{ "$connect": 7 }, /says 7/],
]) {
  test(`setting ${JSON.stringify(setting)} is refused with the reason`, async () => {
    await assert.rejects(lambda({ project: project({ "index.js": HANDLER }), setting }), reason);
  });
}

test("connectionTable that is no name is refused", async () => {
  await assert.rejects(lambda({ project: project({ "index.js": HANDLER }), setting: "index.handler", connectionTable: true }), /the name of the table's key/);
});

for (const [line, said] of [
  [`import { DynamoDBClient } from "@aws-sdk/client-dynamodb"; export const x = DynamoDBClient;`, /"@aws-sdk\/client-dynamodb" needs the network, which a plugin has not\. If its table only says who is connected, add "connectionTable": "connectionId"/],
  [`import * as lib from "@aws-sdk/lib-dynamodb"; export const x = lib;`, /"connectionTable"/],
  [`import { S3Client } from "@aws-sdk/client-s3"; export const x = S3Client;`, /"@aws-sdk\/client-s3" needs the network, which a plugin has not\. Here are "@aws-sdk\/client-apigatewaymanagementapi"/],
  [`const S3 = require("aws-sdk/clients/s3"); exports.x = S3;`, /"aws-sdk\/clients\/s3" needs the network/],
]) {
  test(`import is refused at its place: ${line.slice(0, 40)}`, async () => {
    const { errors } = await bundled({ "index.ts": `\n${line}\nexport const handler = () => {};` }, "index.handler");
    assert.match(errors[0].text, said);
    assert.match(errors[0].location.file, /index\.ts$/);
    assert.equal(errors[0].location.line, 2);
  });
}

test("command that connection tables lack is refused where it is imported", async () => {
  const { errors } = await bundled({ "index.js": `import { ListTablesCommand } from "@aws-sdk/client-dynamodb"; export const handler = () => ListTablesCommand;` }, "index.handler", "connectionId");
  assert.match(errors[0].text, /No matching export in .*client-dynamodb\.js" for import "ListTablesCommand"/);
});

test("groups are imported by a project with a table of connections alone", async () => {
  const files = { "index.js": `const AWS = require("aws-sdk"); new AWS.ApiGatewayManagementApi({}); ${HANDLER}` };
  const plain = await bundled(files, "index.handler");
  assert.ok(!plain.code.includes("lockgate:plugin/groups"));
  const table = await bundled(files, "index.handler", "connectionId");
  assert.ok(table.code.includes("lockgate:plugin/groups"));
});

/** What is said about the export `api` of a handler in this file. */
async function missed(file, text, more = {}) {
  const absWorkingDir = project({ [file]: text, ...more });
  const { handlers } = await lambda({ project: absWorkingDir, setting: `${file.split(".")[0]}.api.send` });
  return missing(handlers, { absWorkingDir, bundle: true, write: false, metafile: true, format: "esm", platform: "neutral", logLevel: "silent" });
}

for (const [said, file, text, more] of [
  ["does not export \"api\": it exports one, two", "index.ts", "export const one = 1; export * from './two'; export type api = {};", { "two.ts": "export const two = 2;" }],
  ["does not export \"api\"", "index.mjs", "console.log('api');"],
  ["does not export \"api\": it exports apis", "index.js", "Object.defineProperty(exports, '__esModule', { value: true }); exports.apis = 1;"],
  ["does not seem to export \"api\"", "index.cjs", "module.exports = { apis() {} };"],
]) {
  test(`export that is not there is named: ${file}: ${text.slice(0, 40)}`, async () => {
    const [{ isCertain, said: found }, ...others] = await missed(file, text, more);
    assert.deepEqual(others, []);
    assert.equal(isCertain, !said.includes("seem"));
    assert.ok(found.endsWith(said), found);
    assert.match(found, /^lockgate\.lambda in package\.json names "index\.api\.send", and index\.\w+ does/);
  });
}

for (const [file, text, more] of [
  ["index.ts", "export const api = { send() {} };"],
  ["index.ts", "export * from './two';", { "two.js": "export const api = 1;" }],
  ["index.js", "export default { api: {} };"],
  ["index.js", "exports.api = {};"],
  ["index.js", "exports.other = 1; for (const name of ['api']) exports[name] = {};"],
  ["index.js", "module.exports = require('./two');", { "two.js": "exports.api = {};" }],
]) {
  test(`export that may be there is left alone: ${file}: ${text.slice(0, 40)}`, async () => {
    assert.deepEqual(await missed(file, text, more), []);
  });
}
