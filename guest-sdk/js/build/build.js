// Builds a plugin: `node build.js PROJECT [--out FILE]`. `lockgate build` runs it.
//
// Standard output gets one line of JSON: the component, and the files that it was built from. Messages about the author's
// code go to standard error, as esbuild writes them.

import { mkdir, rename, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { bundle } from "./bundle.js";
import { componentize } from "./engine.js";
import { Mistake, read } from "./settings.js";

async function main() {
  const { positionals, values } = parseArgs({ allowPositionals: true, options: { out: { type: "string" } } });
  const project = resolve(positionals[0] ?? ".");
  const settings = await read(project);
  const out = resolve(values.out ?? join(project, "dist", "plugin.wasm"));
  let built = await bundle(settings, { lazy: false });
  let component = await componentize(settings, built);
  if (component.needs !== undefined) {
    process.stderr.write(`note: ${component.needs}: a module asks for it when it is loaded, so each instance loads the modules at its first event\n`);
    built = await bundle(settings, { lazy: true });
    component = await componentize(settings, built);
  }
  await mkdir(dirname(out), { recursive: true });
  // The gateway may be reading the old one.
  await writeFile(`${out}.new`, component.bytes);
  await rename(`${out}.new`, out);
  process.stdout.write(`${JSON.stringify({ component: out, files: built.files })}\n`);
}

main().catch((error) => {
  if (!(error instanceof Mistake)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
