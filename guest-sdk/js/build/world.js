// The world of a component: the interfaces that its bundle imports, and no other. Each import of the contract asks for a
// grant, and an echo should ask for none.

import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { SDK } from "./platform.js";

/** The name of the world. */
export const WORLD = "plugin";

/** Calls `use` with a folder of WIT whose world imports these interfaces, and exports the handler, and the authorizer if asked. */
export async function withWorld(imports, authorizer, use) {
  const folder = await mkdtemp(join(tmpdir(), "lockgate-wit-"));
  try {
    const exports = authorizer ? ["handler", "authorizer"] : ["handler"];
    const lines = [...imports.map((name) => `  import ${name};\n`), ...exports.map((name) => `  export lockgate:plugin/${name}@0.1.0;\n`)].join("");
    await writeFile(join(folder, "world.wit"), `package lockgate:javascript;\n\nworld ${WORLD} {\n${lines}}\n`);
    await cp(join(SDK, "wit"), join(folder, "deps/lockgate"), { recursive: true, dereference: true, filter: (file) => !file.endsWith(".md") });
    const wasi = join(SDK, "build/wasi");
    for (const file of await readdir(wasi)) {
      const package_ = join(folder, "deps", file.replace(/\.wit$/, ""));
      await mkdir(package_);
      await writeFile(join(package_, file), await readFile(join(wasi, file)));
    }
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
