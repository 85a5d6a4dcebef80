// What handlers' modules export, found without running them.

import { readFile } from "node:fs/promises";
import { relative, resolve } from "node:path";

import * as esbuild from "esbuild";

/**
 * The settings whose module has no such export, each with what to say. It is certain for an ES module, and for CommonJS
 * that gives its exports their names one by one; other CommonJS only seems to lack a name that its bundle never mentions.
 */
export async function missing(handlers, options) {
  const project = options.absWorkingDir;
  const files = [...new Set(handlers.map(({ file }) => file))];
  const entryPoints = files.map((file, number) => ({ in: file, out: String(number) }));
  const { metafile, outputFiles } = await bundles({ ...options, entryPoints, outdir: "exports" });
  if (metafile === undefined) return [];
  const found = [];
  for (const { file, path, written, key } of handlers) {
    const name = path.split(".")[0];
    const out = `exports/${files.indexOf(file)}.js`;
    const module = relative(project, file);
    const { exports } = metafile.outputs[out];
    const format = Object.entries(metafile.inputs).find(([input]) => resolve(project, input) === file)?.[1].format;
    const say = (isCertain, exported) => {
      const has = exported.length === 0 ? "" : `: it exports ${exported.join(", ")}`;
      found.push({ isCertain, said: `lockgate.${key} in package.json names "${written}", and ${module} ${isCertain ? "does not export" : "does not seem to export"} "${name}"${has}` });
    };
    if (format !== "cjs") {
      // A function may be in the object that is the default export.
      if (!exports.includes(name) && !exports.includes("default")) say(true, exports);
      continue;
    }
    const text = await readFile(file, "utf8");
    const { names, isWhole } = named(text);
    const mentioned = outputFiles.find((output) => resolve(project, out) === output.path).text.match(/[\w$]+/g);
    if (!names.includes(name) && (isWhole || !mentioned.includes(name))) say(isWhole, names);
  }
  return found;
}

/** Bundles; nothing where that fails, since the bundle of the plugin says why. */
async function bundles(options) {
  try {
    return await esbuild.build(options);
  } catch {
    return {};
  }
}

/** The names that CommonJS gives its exports as `exports.NAME`, and whether it does nothing else with them. */
function named(text) {
  const code = text.replace(/Object\.defineProperty\(exports, ["']__esModule["'], \{ value: true \}\)/, "");
  const names = [...code.matchAll(/\bexports\s*\.\s*([\w$]+)/g)].map(([, name]) => name);
  const isWhole = names.length > 0 && !/\bexports\b(?!\s*\.)|\bmodule\b(?!\s*\.\s*exports\s*\.)|\bthis\b/.test(code);
  return { names: [...new Set(names)], isWhole };
}
