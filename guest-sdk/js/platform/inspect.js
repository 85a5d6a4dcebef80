// Values as Node shows them in its log: `{ name: 'ada', rooms: [ 'lobby' ] }`.

const MAX_DEPTH = 2;
const MAX_ITEMS = 100;
const LINE = 72;
const NAME = /^[A-Za-z_$][\w$]*$/;

export function inspect(value, { depth = MAX_DEPTH } = {}) {
  try {
    return show(value, depth ?? Infinity, []);
  } catch (error) {
    return `[a value that cannot be shown: ${error}]`;
  }
}

function show(value, depth, above) {
  switch (typeof value) {
    case "string":
      return quote(value);
    case "bigint":
      return `${value}n`;
    case "symbol":
      return value.toString();
    case "function":
      return functionTitle(value);
    case "object":
      return value === null ? "null" : showObject(value, depth, above);
    default:
      return Object.is(value, -0) ? "-0" : String(value);
  }
}

function showObject(value, depth, above) {
  if (above.includes(value)) return "[Circular]";
  const custom = value[Symbol.for("nodejs.util.inspect.custom")];
  if (typeof custom === "function") {
    const shown = custom.call(value, depth, {}, inspect);
    if (shown !== value) return typeof shown === "string" ? shown : show(shown, depth, above);
  }
  if (value instanceof Error) return showError(value, depth, above);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  if (value instanceof RegExp) return String(value);
  if (value instanceof Number || value instanceof String || value instanceof Boolean) {
    return `[${value.constructor.name}: ${show(value.valueOf(), depth, above)}]`;
  }
  const name = className(value);
  if (depth < 0) return Array.isArray(value) ? "[Array]" : `[${name || "Object"}]`;
  const inside = (item) => show(item, depth - 1, [...above, value]);

  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    if (value instanceof DataView) return `DataView(${value.byteLength})`;
    const items = Array.from(value.length > MAX_ITEMS ? value.slice(0, MAX_ITEMS) : value, inside);
    const title = name === "Array" ? "" : `${name}(${value.length}) `;
    return title + wrap("[", [...items, ...more(value.length), ...(Array.isArray(value) ? keys(value, inside, true) : [])], "]");
  }
  if (value instanceof Map) {
    const items = Array.from(value, ([key, item]) => `${inside(key)} => ${inside(item)}`);
    return `Map(${value.size}) ${wrap("{", limit(items), "}")}`;
  }
  if (value instanceof Set) return `Set(${value.size}) ${wrap("{", limit(Array.from(value, inside)), "}")}`;
  if (value instanceof ArrayBuffer) return `ArrayBuffer { byteLength: ${value.byteLength} }`;
  if (name === "Promise") return "Promise {}";
  const title = name === "Object" ? "" : `${name || "[Object: null prototype]"} `;
  return title + wrap("{", limit(keys(value, inside, false)), "}");
}

function showError(error, depth, above) {
  const stack = typeof error.stack === "string" ? error.stack.trimEnd() : "";
  const title = String(error);
  const text = stack === "" || stack.startsWith(title) ? stack || title : `${title}\n${stack}`;
  const inside = (item) => show(item, depth - 1, [...above, error]);
  const fields = depth < 0 ? [] : keys(error, inside, false);
  if (error.cause !== undefined && depth >= 0) fields.push(`[cause]: ${inside(error.cause)}`);
  if (error instanceof AggregateError && depth >= 0) fields.push(`[errors]: ${inside(error.errors)}`);
  return fields.length === 0 ? text : `${text} ${wrap("{", fields, "}")}`;
}

/** The fields of an object; of an array those that are no elements. */
function keys(value, inside, ofArray) {
  const found = [];
  for (const key of Reflect.ownKeys(value)) {
    const { enumerable, get, set } = Object.getOwnPropertyDescriptor(value, key) ?? {};
    if (!enumerable || (ofArray && typeof key === "string" && /^\d+$/.test(key))) continue;
    if (key === "stack" && value instanceof Error) continue;
    const accessor = get && set ? "[Getter/Setter]" : get ? "[Getter]" : set ? "[Setter]" : undefined;
    const name = typeof key === "symbol" ? `[${key.toString()}]` : NAME.test(key) ? key : quote(key);
    found.push(`${name}: ${accessor ?? inside(value[key])}`);
  }
  return found;
}

function limit(items) {
  return items.length <= MAX_ITEMS ? items : [...items.slice(0, MAX_ITEMS), ...more(items.length)];
}

function more(length) {
  return length > MAX_ITEMS ? [`... ${length - MAX_ITEMS} more items`] : [];
}

function wrap(open, items, close) {
  if (items.length === 0) return open + close;
  const line = `${open} ${items.join(", ")} ${close}`;
  if (line.length <= LINE && !line.includes("\n")) return line;
  return `${open}\n  ${items.map((item) => item.replaceAll("\n", "\n  ")).join(",\n  ")}\n${close}`;
}

function quote(text) {
  const mark = !text.includes("'") ? "'" : !text.includes('"') ? '"' : !text.includes("`") ? "`" : "'";
  const escaped = JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"');
  return mark + (mark === "'" ? escaped.replaceAll("'", "\\'") : escaped) + mark;
}

function functionTitle(value) {
  const kind = /^class\b/.test(Function.prototype.toString.call(value)) ? "class" : "Function";
  if (kind === "class") return `[class ${value.name || "(anonymous)"}]`;
  return value.name ? `[Function: ${value.name}]` : "[Function (anonymous)]";
}

function className(value) {
  const prototype = Object.getPrototypeOf(value);
  return prototype === null ? "" : (prototype.constructor?.name ?? "Object");
}

/** Formats as `console.log` does: `%s`, `%d`, `%i`, `%f`, `%j`, `%o`, `%O`, `%c` and `%%`, then the rest. */
export function format(first, ...rest) {
  const plain = (value) => (typeof value === "string" ? value : inspect(value));
  if (typeof first !== "string" || rest.length === 0) return [first, ...rest].map(plain).join(" ");
  const text = first.replace(/%([sdifjoOc%])/g, (written, kind) => {
    if (kind === "%") return "%";
    if (rest.length === 0) return written;
    const value = rest.shift();
    switch (kind) {
      case "s":
        return typeof value === "object" && value !== null ? inspect(value, { depth: 0 }) : plain(value);
      case "d":
        return typeof value === "bigint" ? `${value}n` : String(Number(value));
      case "i":
        return typeof value === "bigint" ? `${value}n` : String(Number.parseInt(value, 10));
      case "f":
        return String(Number.parseFloat(value));
      case "j":
        return json(value);
      case "c":
        return "";
      default:
        return inspect(value, { depth: 4 });
    }
  });
  return [text, ...rest.map(plain)].join(" ");
}

function json(value) {
  try {
    return JSON.stringify(value);
  } catch {
    return "[Circular]";
  }
}
