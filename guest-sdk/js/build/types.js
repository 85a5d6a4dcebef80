// The types of a project in TypeScript, checked by its own compiler while the component is built: a bundler only drops them.
// What it finds is said and stops no build, since a plugin can be tried before its types agree.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

/** Checks the types. Gives what the compiler says of mistakes; nothing if there are none, or no compiler, or no `tsconfig.json`. */
export async function mistypes(project) {
  const compiler = join(project, "node_modules", ".bin", "tsc");
  if (!existsSync(compiler) || !existsSync(join(project, "tsconfig.json"))) return "";
  const pretty = process.stderr.isTTY === true ? ["--pretty"] : [];
  const child = spawn(compiler, ["--noEmit", ...pretty], { cwd: project, stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (said += text));
  const code = await new Promise((resolve) => child.on("close", resolve).on("error", () => resolve(0)));
  return code === 0 ? "" : said;
}
