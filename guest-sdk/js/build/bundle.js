// One file of the author's modules, their dependencies and the platform, by esbuild.

import { isAbsolute, join, relative, resolve } from "node:path";

import * as esbuild from "esbuild";

import { withAsyncHelper } from "./async.js";
import { encode } from "./lines.js";
import { GLOBALS, MODULES, nodeModule, SDK } from "./platform.js";
import { Mistake } from "./settings.js";

/** Features that the bundle must not use: the platform's promises take their place (platform/promise.js). */
const LOWERED = { "async-await": false, "async-generator": false, "for-await": false, "using": false };

/**
 * When modules are loaded, the best first: all when the plugin is built; the author's at an instance's first event, and
 * the packages that they import when it is built; all at the first event.
 */
export const LOADS = ["build", "packages", "event"];

/**
 * Bundles a project. `packages` are the files of packages that a bundle before has found.
 *
 * Returns the code, its language, the interfaces that it imports, the files that were read, and the packages.
 */
export async function bundle(settings, { load = LOADS[0], packages = [] } = {}) {
  const author = await authorModule(settings);
  const globals = new Set();
  const context = await esbuild.context({
    ...options(settings, author, globals),
    stdin: { contents: entry(settings, load, packages), resolveDir: settings.project, sourcefile: "lockgate:entry" },
    sourcemap: "external",
    outfile: "lockgate-plugin.js",
  });
  try {
    for (;;) {
      const built = await rebuild(context);
      if (addGlobals(globals, built.outputFiles)) continue;
      if (built.warnings.length > 0 && load === LOADS[0]) process.stderr.write(await shown(built.warnings, "warning"));
      return finish(settings, built, author);
    }
  } finally {
    await context.dispose();
  }
}

/** The options of esbuild by which the modules of a plugin are found and read. */
function options(settings, author, globals) {
  return {
    absWorkingDir: settings.project,
    bundle: true,
    write: false,
    metafile: true,
    format: "esm",
    platform: "neutral",
    target: "esnext",
    supported: LOWERED,
    mainFields: ["browser", "module", "main"],
    conditions: ["lockgate", "worker", "browser"],
    loader: { ".txt": "text", ".bin": "binary", ".node": "empty" },
    legalComments: "none",
    keepNames: false,
    logLevel: "silent",
    // A module without a default export: the component says so when it is loaded.
    logOverride: { "import-is-undefined": "silent" },
    define: {
      "process.env.NODE_ENV": '"production"',
      "process.env.NODE_DEBUG": "undefined",
      "process.env.READABLE_STREAM": "undefined",
      "LOCKGATE_BIGINT": String(settings.engine === "starlingmonkey"),
      "LOCKGATE_LINES": JSON.stringify(LINES),
    },
    plugins: [...author.plugins, plugin(settings, author, globals)],
  };
}

/**
 * Refuses a setting of a Lambda handler whose module does not export it, as far as that shows without running the module;
 * gives a note for each where it only seems so.
 */
export async function checkHandlers(settings) {
  const author = await authorModule(settings);
  if (author.handlers === undefined) return [];
  const { missing } = await import("../lambda/exports.js");
  const found = await missing(author.handlers, options(settings, author, new Set()));
  const [certain] = found.filter(({ isCertain }) => isCertain);
  if (certain !== undefined) throw new Mistake(`${settings.file}: ${certain.said}`);
  return found.map(({ said }) => said);
}

/** The interfaces of the gateway: the contract and WASI. */
const GATEWAY = /^(lockgate:plugin\/|wasi:)/;

/** A text that stands for the table of lines until the bundle is there. */
const LINES = "lockgate:lines";

function entry({ authorizer, mayDecide }, load, packages) {
  const names = authorizer ? "handler, authorizer" : "handler";
  const start = `
    import ${JSON.stringify(join(SDK, "platform/start.js"))};
    import "lockgate:globals";
    import ${JSON.stringify(join(SDK, "platform/random.js"))};
    import { exported, loaded } from ${JSON.stringify(join(SDK, "src/component/handler.js"))};
  `;
  if (load === LOADS[0]) {
    return `${start}
      import * as author from "lockgate:author";
      export const { ${names} } = exported(() => author.default, ${mayDecide});
      loaded(author.default, ${mayDecide});
    `;
  }
  const early = load === LOADS[1] ? packages : [];
  return `${start}
    ${early.map((file) => `import ${JSON.stringify(PACKAGE + file)};`).join("\n")}
    import { endLoading } from ${JSON.stringify(join(SDK, "platform/phase.js"))};
    export const { ${names} } = exported(() => {
      const author = require("lockgate:author");
      return "default" in author ? author.default : author;
    }, ${mayDecide});
    endLoading();
  `;
}

/** The prefix of a package's file that the entry loads. */
const PACKAGE = "lockgate:package:";

/** The module whose default export is the plugin: the author's own, or the adapter's for a Lambda handler. */
async function authorModule(settings) {
  if (settings.lambda === undefined && settings.lambdaAuthorizer === undefined) return { path: settings.entry, plugins: [] };
  const { lambda } = await import("../lambda/build.js");
  try {
    const { contents, resolveDir, plugins = [], handlers } = await lambda({ project: settings.project, setting: settings.lambda, authorizer: settings.lambdaAuthorizer, connectionTable: settings.connectionTable });
    return { contents, resolveDir, plugins, handlers };
  } catch (error) {
    throw new Mistake(`${settings.file}: ${error.message}`);
  }
}

function plugin(settings, author, globals) {
  return {
    name: "lockgate",
    setup(build) {
      build.onResolve({ filter: /^lockgate:author$/ }, () =>
        author.path === undefined ? { path: "author", namespace: "lockgate" } : { path: author.path },
      );
      build.onLoad({ filter: /^author$/, namespace: "lockgate" }, () => ({
        contents: author.contents,
        resolveDir: author.resolveDir ?? settings.project,
        loader: "ts",
      }));
      build.onResolve({ filter: /^lockgate:package:/ }, ({ path }) => ({ path: path.slice(PACKAGE.length), sideEffects: true }));
      build.onResolve({ filter: /^lockgate:globals$/ }, () => ({ path: "globals", namespace: "lockgate" }));
      build.onLoad({ filter: /^globals$/, namespace: "lockgate" }, () => ({ contents: installGlobals(globals), resolveDir: SDK, loader: "js" }));
      build.onResolve({ filter: GATEWAY }, ({ path }) => ({ path, external: true, sideEffects: false }));
      build.onResolve({ filter: /^(node:|[a-z_]+(\/[a-z]+)?\/?$)/ }, ({ path }) => {
        const file = MODULES[nodeModule(path)];
        return file === undefined ? undefined : { path: file };
      });
    },
  };
}

function installGlobals(globals) {
  const modules = Object.keys(GLOBALS).filter((name) => globals.has(name));
  const lines = modules.map((name) => {
    const names = GLOBALS[name].join(", ");
    return `import { ${names} } from ${JSON.stringify(join(SDK, `platform/globals/${name}.js`))};`;
  });
  const all = modules.flatMap((name) => GLOBALS[name]);
  return `${lines.join("\n")}
    for (const [name, value] of Object.entries({ ${all.join(", ")} })) {
      Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
    }
  `;
}

/** Adds the globals that the bundle names. Returns whether there are new ones. */
function addGlobals(globals, outputs) {
  // Without the comments that name the files of the bundle.
  const text = outputs.find(({ path }) => path.endsWith(".js")).text.replace(/^ *\/\/ .*$/gm, "");
  const before = globals.size;
  for (const [module, names] of Object.entries(GLOBALS)) {
    if (!globals.has(module) && new RegExp(`\\b(${names.join("|")})\\b`).test(text)) globals.add(module);
  }
  return globals.size > before;
}

async function rebuild(context) {
  try {
    return await context.rebuild();
  } catch (error) {
    if (error.errors === undefined) throw error;
    throw new Mistake((await shown(error.errors.map(explained), "error")).trimEnd());
  }
}

async function shown(messages, kind) {
  const texts = await esbuild.formatMessages(messages, { kind, color: process.stderr.isTTY === true });
  return texts.join("");
}

/** An esbuild error about what a plugin cannot have, in words about plugins. */
function explained(message) {
  const missing = /^Could not resolve "([^"]+)"$/.exec(message.text)?.[1];
  const name = missing === undefined ? undefined : nodeModule(missing);
  if (name !== undefined) {
    return {
      ...message,
      text: `"${missing}" is not there in a plugin`,
      notes: [{ text: `A plugin has no files, no network and no processes. Of Node's modules it has ${Object.keys(MODULES).join(", ")}.` }],
    };
  }
  // esbuild's own note advises to leave it out of the bundle, which no plugin can.
  if (missing !== undefined && !/^[./]/.test(missing)) return { ...message, notes: [{ text: `Is its package installed? npm install ${packageOf(missing)}` }] };
  if (message.text.startsWith("Top-level await")) {
    return { ...message, text: "a plugin has no top-level await", notes: [{ text: "Await inside a handler: a plugin's modules are loaded when it is built." }] };
  }
  return message;
}

/** The package of an import: `@scope/name/file` is in `@scope/name`. */
function packageOf(path) {
  return path.split("/").slice(0, path.startsWith("@") ? 2 : 1).join("/");
}

function finish(settings, built, author) {
  const file = (ending) => built.outputFiles.find(({ path }) => path.endsWith(ending));
  const { outputs, inputs } = built.metafile;
  const [output] = Object.values(outputs).filter(({ entryPoint }) => entryPoint !== undefined);
  const table = encode(JSON.parse(file(".js.map").text), (source) => nameOf(settings, source));
  const code = withAsyncHelper(file(".js").text).replaceAll(JSON.stringify(LINES), () => JSON.stringify(table));
  const sources = files(settings, inputs);
  return {
    code,
    table,
    language: sources.some((source) => /\.[mc]?tsx?$/.test(source)) ? "TypeScript" : "JavaScript",
    imports: output.imports.map(({ path }) => path).filter((path) => GATEWAY.test(path)),
    files: sources,
    packages: packages(settings, inputs),
  };
}

/** The name of a source in the log; null for the SDK's own. */
function nameOf(settings, source) {
  const path = resolve(settings.project, source);
  const isOurs = /^(src|platform|lambda)\/(?!tests\/)/.test(relative(SDK, path));
  if (source.includes("lockgate:") || isOurs) return null;
  const name = relative(settings.project, path);
  return name.replace(/^.*node_modules\//, "node_modules/");
}

/** The files that were read, of the project and of packages that are linked into it; not those that npm installed. */
function files(settings, inputs) {
  return Object.keys(inputs)
    .filter((input) => !/^(<|[a-z-]+:)/.test(input))
    .map((input) => (isAbsolute(input) ? input : resolve(settings.project, input)))
    .filter((input) => !input.includes("/node_modules/"));
}

/** The files of packages that the author's own files import. */
function packages(settings, inputs) {
  const isAuthors = (input) => !input.includes("node_modules/") && !input.startsWith("lockgate:") && !resolve(settings.project, input).startsWith(SDK);
  const imported = Object.entries(inputs).flatMap(([input, { imports }]) => (isAuthors(input) ? imports : []));
  const found = imported.filter(({ path, external }) => !external && path.includes("node_modules/"));
  return [...new Set(found.map(({ path }) => resolve(settings.project, path)))];
}
