// The settings of a project: its package.json.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** A mistake of the author: the message says all. */
export class Mistake extends Error {}

export const ENGINES = ["quickjs", "starlingmonkey"];

/** Files that a plugin begins with, where package.json names none. */
const ENTRIES = ["src/plugin.ts", "src/plugin.js", "src/index.ts", "src/index.js", "plugin.ts", "plugin.js", "index.ts", "index.js"];

const KEYS = ["engine", "authorizer", "lambda", "lambdaAuthorizer", "connectionTable"];

export async function read(project) {
  const file = join(project, "package.json");
  let manifest;
  try {
    manifest = JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    throw new Mistake(`${file}: it cannot be read: ${error.message}`);
  }
  const lockgate = manifest.lockgate ?? {};
  if (typeof lockgate !== "object" || Array.isArray(lockgate)) {
    throw new Mistake(`${file}: "lockgate" is no object; write { "engine": "quickjs" }, or leave it out`);
  }
  for (const key of Object.keys(lockgate)) {
    if (!KEYS.includes(key)) throw new Mistake(`${file}: "lockgate" has no setting "${key}"; it has ${KEYS.map((key) => `"${key}"`).join(", ")}`);
  }
  const engine = lockgate.engine ?? ENGINES[0];
  if (!ENGINES.includes(engine)) throw new Mistake(`${file}: "lockgate.engine" is ${JSON.stringify(engine)}; it is "quickjs" (the default) or "starlingmonkey"`);
  const { lambda, lambdaAuthorizer, connectionTable } = lockgate;
  if (lockgate.authorizer !== undefined && typeof lockgate.authorizer !== "boolean") {
    throw new Mistake(`${file}: "lockgate.authorizer" is ${JSON.stringify(lockgate.authorizer)}; it is true for a plugin that decides who may connect`);
  }
  if (connectionTable !== undefined && lambda === undefined) throw new Mistake(`${file}: "lockgate.connectionTable" is for handlers of AWS Lambda; write "lambda" beside it, or leave it out`);
  const authorizer = lockgate.authorizer === true || lambdaAuthorizer !== undefined;
  // Without a word about it, a plugin that decides is taken for a mistake: nothing would ask it.
  const mayDecide = authorizer || lockgate.authorizer === false;
  const settings = { project, file, engine, authorizer, mayDecide, lambda, lambdaAuthorizer, connectionTable };
  if (lambda === undefined && lambdaAuthorizer === undefined) settings.entry = entry(project, file, manifest);
  return settings;
}

function entry(project, file, { main }) {
  if (main !== undefined) {
    const named = join(project, String(main));
    if (!existsSync(named)) throw new Mistake(`${file}: "main" is ${JSON.stringify(main)}, and there is no such file`);
    return named;
  }
  const found = ENTRIES.map((name) => join(project, name)).find(existsSync);
  if (found === undefined) throw new Mistake(`${file}: there is no "main", and none of ${ENTRIES.join(", ")}; write "main": "src/plugin.js"`);
  return found;
}
