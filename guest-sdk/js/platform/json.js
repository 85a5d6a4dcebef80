// JSON.parse with a bound: the engine parses by recursion, and a client's message with thousands of `[` would use up the
// stack and end the instance.

/** The depth that is parsed: a value in nobody's data is deeper, and the stack has room for more. */
const MAX_DEPTH = 1000;

/** Whether a text has so many of a character that with as many of the other it could be too deep. */
function hasMany(text, character) {
  let at = -1;
  for (let count = 0; count < MAX_DEPTH / 2; count += 1) {
    at = text.indexOf(character, at + 1);
    if (at < 0) return false;
  }
  return true;
}

/** Whether a text opens more than `MAX_DEPTH` arrays and objects within each other. */
export function isTooDeep(text) {
  if (!hasMany(text, "[") && !hasMany(text, "{")) return false;
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === '"') {
      at += 1;
      while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
    } else if (character === "[" || character === "{") {
      depth += 1;
      if (depth > MAX_DEPTH) return true;
    } else if (character === "]" || character === "}") {
      depth -= 1;
    }
  }
  return false;
}

export function install() {
  const { parse } = JSON;
  JSON.parse = (value, reviver) => {
    const text = typeof value === "string" ? value : String(value);
    if (isTooDeep(text)) throw new SyntaxError(`JSON is nested more than ${MAX_DEPTH} deep`);
    return parse(text, reviver);
  };
}
