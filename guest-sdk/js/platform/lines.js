// The author's files and lines in place of the bundle's. The build writes the table (build/lines.js): for each line of the
// bundle the file and the line that it comes from, as the differences to the line before, in base 64 VLQ.

/** The table of this bundle. Where Node runs the platform's tests, and in the build, there is none. */
const OWN = typeof LOCKGATE_LINES === "undefined" ? { sources: [], piece: 1, pieces: [] } : LOCKGATE_LINES;

/** A place in the bundle: in QuickJS the file has the first name, in StarlingMonkey the other. */
const PLACE = /\(?(?:componentize-qjs:user\.js|[^\s(@]*lockgate-plugin\.js):(\d+):\d+\)?/g;

/** A frame as StarlingMonkey writes it: `function@file:line:column`. */
const MONKEY = /^([^\n@]*)@(\S*lockgate-plugin\.js:\d+:\d+)$/gm;

/** A frame of the SDK, the bundler or the engine. */
const OTHERS = /\n *at [^\n]*\((lockgate|native)\)(?=\n|$)/g;

/** The name of a function that is a module's path: the bundler makes one of a CommonJS module. */
const MODULE = /(\n *at )\S*\/\S* (?=\()/g;

/** Replaces the places of the bundle in a text, such as an error's stack. Frames that are not the author's are left out. */
export function located(text, table = OWN) {
  if (table.pieces.length === 0 || !text.includes(".js:")) return text;
  const framed = text.replace(MONKEY, (_, name, place) => `    at ${name || "<anonymous>"} (${place})`);
  const places = framed.replace(PLACE, (_, line) => `(${origin(Number(line), table) ?? "lockgate"})`);
  return places.replace(OTHERS, "").replace(MODULE, "$1");
}

/** The author's frames of a stack, as `at function (file:line)`. */
export function frames(stack, table = OWN) {
  return located(`\n${stack}`, table)
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.startsWith("at "));
}

/** The origin of a line of the bundle; none for the SDK's own code and the bundler's. */
function origin(number, { sources, piece, pieces }) {
  const lines = pieces[Math.floor((number - 1) / piece)]?.split(";") ?? [];
  let [source, line] = [0, 0];
  for (const text of lines.slice(0, ((number - 1) % piece) + 1)) {
    if (text === "") continue;
    const [bySource, byLine] = decode(text);
    source += bySource;
    line += byLine;
  }
  const own = lines[(number - 1) % piece] ?? "";
  return own === "" || sources[source] === null ? undefined : `${sources[source]}:${line}`;
}

/** The two numbers of a line. */
function decode(text) {
  const numbers = [];
  let value = 0;
  let shift = 0;
  for (const character of text) {
    const digit = DIGITS.indexOf(character);
    value |= (digit & 31) << shift;
    shift += 5;
    if ((digit & 32) !== 0) continue;
    numbers.push(value & 1 ? -(value >> 1) : value >> 1);
    value = shift = 0;
  }
  return numbers;
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
