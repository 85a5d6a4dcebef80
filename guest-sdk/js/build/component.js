// Edits of the component that componentize-qjs makes, so that a gateway takes it as it is.
//
// It wraps the plugin's component into another one, with a stub for the loader of modules that only the build uses; and
// the engine's runtime imports a file system, which no gateway gives and the runtime never asks for in a plugin. Here the
// plugin's component becomes the whole, and each such import a function that traps.
//
// The sections are read by the component model's binary format, as far as wit-component writes it.

/** Imports that become traps: whole interfaces. */
const REMOVED = /^(local:init\/module-loader|wasi:filesystem\/)/;

const CUSTOM = 0;
const CORE_INSTANCE = 2;
const COMPONENT = 4;
const INSTANCE = 5;
const ALIAS = 6;
const TYPE = 7;
const CANON = 8;
const IMPORT = 10;
const EXPORT = 11;

/** The first byte of an alias or of an export: the index space that it is about. */
const SORT_CORE = 0;
const SORT_FUNC = 1;
const SORT_TYPE = 3;
const SORT_INSTANCE = 5;

/** Sections of their own in place of entries: an instance without exports, a resource type. */
const EMPTY_INSTANCE = [INSTANCE, 3, 1, 1, 0];
const RESOURCE_TYPE = [TYPE, 4, 1, 0x3f, 0x7f, 0];

/** Takes the plugin's component out of the one around it. */
export function unwrap(bytes) {
  const inner = sections(bytes).find(({ id }) => id === COMPONENT);
  if (inner === undefined) throw new Error("componentize-qjs made a component of another shape than this SDK knows");
  return bytes.subarray(inner.start, inner.end);
}

/** Makes traps of the imports that no plugin needs. */
export function simplify(bytes) {
  return edit(bytes, survey(bytes));
}

/**
 * Adds what the component is made with, as the tool conventions of WebAssembly write it: of each field, such as
 * `language`, the names with their versions.
 */
export function withProducers(bytes, fields) {
  const field = ([key, tools]) => [...name(key), ...number(tools.length), ...tools.flatMap((tool) => tool.flatMap(name))];
  const content = [...name("producers"), ...number(Object.keys(fields).length), ...Object.entries(fields).flatMap(field)];
  return Buffer.concat([bytes, Buffer.from(section(CUSTOM, content))]);
}

class Reader {
  constructor(bytes, at, end) {
    Object.assign(this, { bytes, at, end });
  }

  byte() {
    if (this.at >= this.end) throw new Error("a section of the component ends early");
    this.at += 1;
    return this.bytes[this.at - 1];
  }

  number() {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  }

  name() {
    const length = this.number();
    this.at += length;
    return Buffer.from(this.bytes.subarray(this.at - length, this.at)).toString();
  }

  /** Reads a vector: calls `read` for each of its entries, with where it begins. */
  each(read) {
    for (let left = this.number(); left > 0; left -= 1) read(this.at);
  }
}

function number(value) {
  const bytes = [];
  do {
    const rest = Math.floor(value / 128);
    bytes.push((value % 128) + (rest > 0 ? 128 : 0));
    value = rest;
  } while (value > 0);
  return bytes;
}

const name = (text) => [...number(Buffer.byteLength(text)), ...Buffer.from(text)];

const section = (id, content) => [id, ...number(content.length), ...content];

function sections(bytes) {
  const found = [];
  const reader = new Reader(bytes, 8, bytes.length);
  while (reader.at < bytes.length) {
    const begin = reader.at;
    const id = reader.byte();
    const length = reader.number();
    found.push({ id, begin, start: reader.at, end: reader.at + length });
    reader.at += length;
  }
  return found;
}

/** Calls `visit` for each entry of a section that matters here. */
function entries(bytes, { id, start, end }, visit) {
  const reader = new Reader(bytes, start, end);
  const read = READERS[id];
  if (read === undefined) return;
  reader.each((begin) => visit({ ...read(reader), begin, end: reader.at }));
}

const READERS = {
  [IMPORT](reader) {
    return { name: externName(reader), ...description(reader) };
  },

  [INSTANCE](reader) {
    if (reader.byte() === 0) {
      reader.number();
      reader.each(() => (reader.name(), sort(reader), reader.number()));
    } else {
      reader.each(() => (externName(reader), sort(reader), reader.number()));
    }
    return { sort: SORT_INSTANCE };
  },

  [ALIAS](reader) {
    const { sort: of, core } = sort(reader);
    const kind = reader.byte();
    if (kind === 2) return { sort: of, core, outer: [reader.number(), reader.number()] };
    return { sort: of, core, coreInstance: kind === 1, instance: reader.number(), name: reader.name() };
  },

  [CANON](reader) {
    const kind = reader.byte();
    if (kind > 1) return { kind, sort: SORT_CORE, core: 0, type: reader.number() };
    reader.byte();
    const func = reader.number();
    reader.each(() => {
      if (reader.byte() > 2) reader.number();
    });
    if (kind === 1) return { kind, sort: SORT_CORE, core: 0, func };
    reader.number();
    return { kind, sort: SORT_FUNC };
  },

  [CORE_INSTANCE](reader) {
    const exports = [];
    if (reader.byte() === 0) {
      reader.number();
      reader.each(() => (reader.name(), reader.byte(), reader.number()));
    } else {
      reader.each(() => exports.push({ name: reader.name(), core: reader.byte(), index: reader.number() }));
    }
    return { exports };
  },

  [EXPORT](reader) {
    externName(reader);
    const { sort: of, core } = sort(reader);
    reader.number();
    if (reader.byte() === 1) description(reader);
    return { sort: of, core };
  },
};

function externName(reader) {
  reader.byte();
  return reader.name();
}

function sort(reader) {
  const of = reader.byte();
  return of === SORT_CORE ? { sort: of, core: reader.byte() } : { sort: of };
}

function description(reader) {
  const of = reader.byte();
  if (of === SORT_CORE) reader.byte();
  // A type is bounded by another one, or is a new resource: then no index follows.
  if (of === SORT_TYPE && reader.byte() === 1) return { sort: of };
  reader.number();
  return { sort: of };
}

/** Finds what the edits need: the instances to remove, their functions, and the slots of the shim that lead to them. */
function survey(bytes) {
  const removed = new Set();
  const functions = new Set();
  const slots = new Map();
  let [instances, funcs, clock, shim] = [0, 0, undefined, undefined];
  for (const part of sections(bytes)) {
    entries(bytes, part, (entry) => {
      if (part.id === IMPORT && entry.sort === SORT_INSTANCE) {
        if (REMOVED.test(entry.name)) removed.add(instances);
        if (entry.name.startsWith("wasi:clocks/monotonic-clock@")) clock = instances;
      }
      if (part.id === ALIAS && entry.sort === SORT_FUNC && removed.has(entry.instance)) functions.add(funcs);
      if (part.id === ALIAS && entry.coreInstance && shim === undefined && /^\d+$/.test(entry.name)) shim = entry.instance;
      if (part.id === CORE_INSTANCE) {
        for (const { name: slot, core, index } of entry.exports) if (core === 0 && /^\d+$/.test(slot)) slots.set(index, slot);
      }
      if (entry.sort === SORT_INSTANCE) instances += 1;
      if (entry.sort === SORT_FUNC) funcs += 1;
    });
  }
  return { removed, functions, slots, clock, shim };
}

/** Writes the component anew. Every index stays as it is: an entry is replaced by one of the same sort. */
function edit(bytes, { removed, functions, slots, clock, shim }) {
  const parts = [bytes.subarray(0, 8)];
  let [instances, coreFuncs] = [0, 0];
  for (const part of sections(bytes)) {
    /** Sections in place of this one, if an entry of it is replaced. */
    const split = [];
    let kept = [];
    const flush = () => {
      if (kept.length > 0) split.push(Buffer.from(section(part.id, [...number(kept.length), ...kept.flatMap((entry) => [...entry])])));
      kept = [];
    };
    const replace = (by) => {
      flush();
      split.push(Buffer.from(by));
    };
    let replaced = false;
    entries(bytes, part, (entry) => {
      const by = replacement(part.id, entry, { removed, functions, slots, clock, shim, instances, coreFuncs });
      if (by === undefined) kept.push(bytes.subarray(entry.begin, entry.end));
      else replace(by);
      replaced ||= by !== undefined;
      if (entry.sort === SORT_INSTANCE) instances += 1;
      if (entry.sort === SORT_CORE && entry.core === 0) coreFuncs += 1;
    });
    flush();
    parts.push(...(replaced ? split : [bytes.subarray(part.begin, part.end)]));
  }
  return Buffer.concat(parts);
}

function replacement(id, entry, { removed, functions, slots, clock, shim, instances, coreFuncs }) {
  if (id === IMPORT && entry.sort === SORT_INSTANCE && removed.has(instances)) return EMPTY_INSTANCE;
  if (id === ALIAS && !entry.coreInstance && removed.has(entry.instance)) {
    if (entry.sort === SORT_TYPE) return RESOURCE_TYPE;
    // Any other function keeps the place: nothing calls it.
    if (entry.sort === SORT_FUNC) return section(ALIAS, [1, SORT_FUNC, 0, ...number(clock), ...name("now")]);
  }
  // The slot of the shim that would lead to the import leads to itself: calling it ends in a stack overflow.
  if (id === CANON && entry.kind === 1 && functions.has(entry.func)) {
    return section(ALIAS, [1, SORT_CORE, 0, 1, ...number(shim), ...name(slots.get(coreFuncs))]);
  }
  return undefined;
}
