// A component of a bundle and a JavaScript engine, whose memory is kept as it is once the bundle is loaded.

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

import { frames, located } from "../platform/lines.js";
import { NEEDS_INSTANCE } from "../platform/phase.js";
import { simplify, unwrap, withProducers } from "./component.js";
import { Mistake } from "./settings.js";
import { WORLD, withWorld } from "./world.js";

/** This package, as its manifest names it. */
const SDK = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));

/**
 * Makes the component. Returns its bytes, or `needs`: what a module asks for when it is loaded that only an instance has,
 * and where.
 */
export async function componentize({ engine, project, authorizer }, { code, imports, table, language }) {
  try {
    const bytes = await ENGINES[engine]({ code, imports, project, authorizer });
    return { bytes: withProducers(bytes, { language: [[language, ""]], sdk: [[SDK.name, SDK.version]] }) };
  } catch (error) {
    if (error instanceof Mistake) throw error;
    const [, module, called] = CALL.exec(error.message) ?? [];
    if (called !== undefined) {
      const name = `${module}.${called.replace(/-(.)/g, (_, letter) => letter.toUpperCase())}`;
      throw new Mistake(`${project}: the plugin fails when its modules are loaded: they call ${name}, and there is no gateway yet; call it in a handler`);
    }
    const text = error.message.replace(/^.*JavaScript module evaluation: /s, "").trim();
    const [place] = frames(text, table).filter((frame) => !frame.includes("(node_modules/@lockgate"));
    const needed = new RegExp(`${NEEDS_INSTANCE}: ([^\\n]*)`).exec(text)?.[1];
    if (needed !== undefined) return { needs: place === undefined ? needed : `${needed} ${place}` };
    throw new Mistake(`${project}: the plugin fails when its modules are loaded: ${located(text, table)}`);
  }
}

/** What an engine says of a call of the gateway while it loads the modules. */
const CALL = /unknown import: `lockgate:plugin\/([\w-]+)@[\d.]+#([\w-]+)` has not been defined/;

/** Seconds of processor time for the modules to load. Most need a tenth of one. */
const LOADING_S = 20;

/** The pause between two looks at the time. */
const LOOK_MS = 200;

/** Gives up modules that never end. A busy machine may take its time. */
export async function inTime(project, loading, seconds = LOADING_S) {
  const began = process.cpuUsage();
  let timer;
  const late = new Promise((_, reject) => {
    timer = setInterval(() => {
      const { user, system } = process.cpuUsage(began);
      if (user + system < seconds * 1e6) return;
      reject(new Mistake(`${project}: the plugin's modules are not loaded after ${seconds} s of processor time: look for a loop without an end outside of the handlers, and compute less there`));
    }, LOOK_MS);
  });
  try {
    return await Promise.race([loading, late]);
  } finally {
    clearInterval(timer);
  }
}

const ENGINES = {
  async quickjs({ code, imports, project, authorizer }) {
    const { componentize } = await import("componentize-qjs");
    const made = await withWorld(imports, authorizer, (witPath) => inTime(project, componentize({ witPath, world: WORLD, jsSource: code, sync: true })));
    return simplify(unwrap(made.component));
  },

  async starlingmonkey({ code, imports, project, authorizer }) {
    const { componentize } = await starlingmonkey(project);
    const folder = await mkdtemp(join(tmpdir(), "lockgate-js-"));
    try {
      const sourcePath = join(folder, "lockgate-plugin.js");
      await writeFile(sourcePath, code);
      const made = await withWorld(imports, authorizer, (witPath) => componentize({ sourcePath, witPath, worldName: WORLD, disableFeatures: ["http", "fetch-event"] }));
      return simplify(Buffer.from(made.component));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};

const STARLINGMONKEY = "@bytecodealliance/componentize-js";

/** The package, and one that it imports and does not ask for. */
const STARLINGMONKEY_PACKAGES = [`${STARLINGMONKEY}@0.23.0`, "@bytecodealliance/preview2-shim@0.17.4"];

/** The package of the engine, which is large: npm installs it once a project asks for it. */
async function starlingmonkey(project) {
  let folder = installed(project);
  if (folder === undefined) {
    process.stderr.write(`installing ${STARLINGMONKEY}, the engine that package.json asks for\n`);
    const words = ["install", "--save-dev", "--save-exact", "--no-audit", "--no-fund", "--loglevel=error", ...STARLINGMONKEY_PACKAGES];
    const { status } = spawnSync("npm", words, { cwd: project, stdio: ["ignore", 2, 2] });
    folder = installed(project);
    if (status !== 0 || folder === undefined) throw new Mistake(`${project}: npm could not install ${STARLINGMONKEY}; correct what npm says above`);
  }
  const manifest = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  return import(pathToFileURL(join(folder, manifest.exports.import)));
}

/** The folder of the package. It has no file that `require` resolves. */
function installed(project) {
  for (let folder = project; ; folder = dirname(folder)) {
    const found = join(folder, "node_modules", STARLINGMONKEY);
    if (existsSync(found)) return found;
    if (folder === dirname(folder)) return undefined;
  }
}
