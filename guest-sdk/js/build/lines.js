// The table of lines that a bundle carries (platform/lines.js reads it): for each of its lines the source and the line
// that it comes from. A whole source map would be ten times as large, and columns say little more. The table is cut into
// pieces, so that a handler that fails reads one of them and not all.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** Lines of a piece. */
const PIECE = 32;

/** Makes the table of a source map. `nameOf` gives the name of a source, null for one whose lines are not shown. */
export function encode({ sources, mappings }, nameOf) {
  const names = sources.map(nameOf);
  let source = 0;
  let line = 0;
  let column = 0;
  let [lastSource, lastLine] = [0, 0];
  const lines = mappings.split(";").map((segments, at) => {
    if (at % PIECE === 0) [lastSource, lastLine] = [0, 0];
    let first;
    for (const segment of segments.split(",")) {
      const numbers = decode(segment);
      if (numbers.length < 4) continue;
      source += numbers[1];
      line += numbers[2];
      column += numbers[3];
      // The author's line rather than a helper's, where both are on one line.
      if (first === undefined || (names[first.source] === null && names[source] !== null)) first = { source, line };
    }
    if (first === undefined) return "";
    const text = digits(first.source - lastSource) + digits(first.line + 1 - lastLine);
    [lastSource, lastLine] = [first.source, first.line + 1];
    return text;
  });
  const pieces = [];
  for (let at = 0; at < lines.length; at += PIECE) pieces.push(lines.slice(at, at + PIECE).join(";"));
  return { sources: names, piece: PIECE, pieces };
}

function decode(segment) {
  const numbers = [];
  let value = 0;
  let shift = 0;
  for (const character of segment) {
    const digit = DIGITS.indexOf(character);
    value += (digit & 31) * 2 ** shift;
    shift += 5;
    if ((digit & 32) !== 0) continue;
    numbers.push(value % 2 === 1 ? -Math.floor(value / 2) : value / 2);
    value = shift = 0;
  }
  return numbers;
}

function digits(number) {
  let rest = number < 0 ? -number * 2 + 1 : number * 2;
  let text = "";
  do {
    const digit = rest % 32;
    rest = Math.floor(rest / 32);
    text += DIGITS[rest > 0 ? digit + 32 : digit];
  } while (rest > 0);
  return text;
}
