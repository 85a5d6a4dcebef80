// Builds a plugin: `node build.js PROJECT [--out FILE]`. `lockgate build` runs it.
//
// Standard output gets one line of JSON: the component, and the files that it was built from. Messages about the author's
// code go to standard error, as esbuild writes them.

import { randomUUID } from "node:crypto";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { bundle, checkHandlers, LOADS } from "./bundle.js";
import { componentize } from "./engine.js";
import { Mistake, read } from "./settings.js";
import { mistypes } from "./types.js";

async function main() {
  const { positionals, values } = parseArgs({ allowPositionals: true, options: { out: { type: "string" } } });
  const project = resolve(positionals[0] ?? ".");
  const settings = await read(project);
  const out = resolve(values.out ?? join(project, "dist", "plugin.wasm"));
  const types = mistypes(project);
  let files, said;
  try {
    files = await write(settings, out);
  } finally {
    // Also after a failure, which has been told: the compiler would go on after the command, and say what nobody asks for.
    said = await types;
  }
  if (said !== "") process.stderr.write(`${said}note: types do not agree; the plugin is built all the same\n`);
  process.stdout.write(`${JSON.stringify({ component: out, files })}\n`);
}

/** Writes the component, and gives the files that it was built from. */
async function write(settings, out) {
  const { bytes, files } = await build(settings);
  await mkdir(dirname(out), { recursive: true });
  // The gateway may be reading the old one, and another build may be writing its own.
  const unfinished = `${out}.${randomUUID()}.new`;
  try {
    await writeFile(unfinished, bytes);
    await rename(unfinished, out);
  } finally {
    await rm(unfinished, { force: true });
  }
  return files;
}

/** Builds with the modules loaded as early as they can be. */
async function build(settings) {
  let packages;
  for (const load of LOADS) {
    const built = await bundle(settings, { load, packages });
    const { bytes, needs } = await componentize(settings, built);
    if (bytes !== undefined) return { bytes, files: built.files };
    // The adapter of Lambda handlers, which says what is missing, is loaded at the first event now.
    if (load === LOADS[0]) for (const note of await checkHandlers(settings)) process.stderr.write(`note: ${note}\n`);
    packages = built.packages;
    const waits = load === LOADS[0] ? "the project's own modules" : "all modules";
    process.stderr.write(`note: ${needs}: a module asks for it when it is loaded; so each instance loads ${waits} at its first event\n`);
  }
  throw new Mistake(`${settings.project}: no instance could load its modules`);
}

main().catch((error) => {
  if (!(error instanceof Mistake)) throw error;
  process.stderr.write(`${error.message}\n`);
  // An engine that never ends would keep this process.
  process.exit(1);
});
