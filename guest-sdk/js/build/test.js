#!/usr/bin/env node
// Runs a project's tests, in TypeScript too: `lockgate-test [FILE…]`. Node runs them once esbuild has bundled them; the
// packages that they import stay as they are.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join, relative, resolve } from "node:path";

import * as esbuild from "esbuild";

const FOLDERS = ["tests", "test", "src"];
const OUT = join("node_modules", ".lockgate-tests");

function found() {
  const all = FOLDERS.filter((folder) => existsSync(folder)).flatMap((folder) =>
    readdirSync(folder, { recursive: true }).map((file) => join(folder, file)),
  );
  return all.filter((file) => /\.test\.[cm]?[jt]sx?$/.test(file));
}

const files = process.argv.length > 2 ? process.argv.slice(2).map((file) => relative("", resolve(file))) : found();
if (files.length === 0) {
  process.stderr.write(`there is no test: write ${FOLDERS[0]}/NAME.test.js or NAME.test.ts\n`);
  process.exit(1);
}
rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });
try {
  await esbuild.build({
    entryPoints: files,
    outdir: OUT,
    outbase: ".",
    outExtension: { ".js": ".mjs" },
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: "inline",
  });
} catch {
  // esbuild has said why.
  process.exit(1);
}
const built = files.map((file) => join(OUT, file.replace(/\.[cm]?[jt]sx?$/, ".mjs")));
const node = spawn(process.execPath, ["--enable-source-maps", "--test", ...built], { stdio: "inherit" });
node.on("exit", (code) => process.exit(code ?? 1));
