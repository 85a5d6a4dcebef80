// The globals and the modules of Node that a plugin has beside the language's own.

interface Timeout {
  ref(): this;
  unref(): this;
  hasRef(): boolean;
  refresh(): this;
  close(): this;
  [Symbol.toPrimitive](): number;
}

declare function setTimeout(run: (_: void) => void, delay?: number): Timeout;
declare function setTimeout<A extends unknown[]>(run: (...words: A) => void, delay?: number, ...words: A): Timeout;
declare function setInterval(run: (_: void) => void, delay?: number): Timeout;
declare function setInterval<A extends unknown[]>(run: (...words: A) => void, delay?: number, ...words: A): Timeout;
declare function setImmediate(run: (_: void) => void): Timeout;
declare function setImmediate<A extends unknown[]>(run: (...words: A) => void, ...words: A): Timeout;
declare function clearTimeout(timeout: Timeout | number | undefined | null): void;
declare function clearInterval(timeout: Timeout | number | undefined | null): void;
declare function clearImmediate(timeout: Timeout | number | undefined | null): void;
declare function queueMicrotask(job: () => void): void;
declare function structuredClone<T>(value: T): T;
declare function atob(data: string): string;
declare function btoa(data: string): string;

declare var global: typeof globalThis;
declare var self: typeof globalThis;

interface Console {
  /** A line of the gateway's log with the level `info`. */
  log(...words: unknown[]): void;
  info(...words: unknown[]): void;
  /** With the level `debug`, which the gateway's log leaves out unless `log.level` asks for it. */
  debug(...words: unknown[]): void;
  warn(...words: unknown[]): void;
  error(...words: unknown[]): void;
  trace(...words: unknown[]): void;
  assert(condition?: unknown, ...words: unknown[]): void;
  dir(value: unknown, options?: { depth?: number | null }): void;
  dirxml(...words: unknown[]): void;
  table(value: unknown): void;
  count(label?: string): void;
  countReset(label?: string): void;
  time(label?: string): void;
  timeEnd(label?: string): void;
  timeLog(label?: string, ...words: unknown[]): void;
  group(...words: unknown[]): void;
  groupCollapsed(...words: unknown[]): void;
  groupEnd(): void;
}
declare var console: Console;

interface Performance {
  now(): number;
  readonly timeOrigin: number;
  toJSON(): unknown;
}
declare var performance: Performance;

declare class TextEncoder {
  readonly encoding: "utf-8";
  encode(text?: string): Uint8Array;
  encodeInto(text: string, into: Uint8Array): { read: number; written: number };
}

/** Decodes UTF-8 and UTF-16. */
declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
  readonly encoding: string;
  readonly fatal: boolean;
  readonly ignoreBOM: boolean;
  decode(data?: ArrayBuffer | ArrayBufferView, options?: { stream?: boolean }): string;
}

declare class URL {
  constructor(url: string | URL, base?: string | URL);
  static canParse(url: string | URL, base?: string | URL): boolean;
  static parse(url: string | URL, base?: string | URL): URL | null;
  hash: string;
  host: string;
  hostname: string;
  href: string;
  readonly origin: string;
  password: string;
  pathname: string;
  port: string;
  protocol: string;
  search: string;
  readonly searchParams: URLSearchParams;
  username: string;
  toString(): string;
  toJSON(): string;
}

declare class URLSearchParams {
  constructor(init?: string | Record<string, string> | Iterable<[string, string]> | URLSearchParams);
  readonly size: number;
  append(name: string, value: string): void;
  delete(name: string, value?: string): void;
  get(name: string): string | null;
  getAll(name: string): string[];
  has(name: string, value?: string): boolean;
  set(name: string, value: string): void;
  sort(): void;
  forEach(visit: (value: string, name: string, params: URLSearchParams) => void, self?: unknown): void;
  entries(): IterableIterator<[string, string]>;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  [Symbol.iterator](): IterableIterator<[string, string]>;
  toString(): string;
}

declare class DOMException extends Error {
  constructor(message?: string, name?: string);
  readonly code: number;
}

declare class Event {
  constructor(type: string, options?: { bubbles?: boolean; cancelable?: boolean; composed?: boolean });
  readonly type: string;
  readonly target: EventTarget | null;
  readonly currentTarget: EventTarget | null;
  readonly bubbles: boolean;
  readonly cancelable: boolean;
  readonly composed: boolean;
  readonly defaultPrevented: boolean;
  readonly eventPhase: number;
  readonly isTrusted: boolean;
  composedPath(): EventTarget[];
  preventDefault(): void;
  stopPropagation(): void;
  stopImmediatePropagation(): void;
}

declare class CustomEvent<T = any> extends Event {
  constructor(type: string, options?: { detail?: T; bubbles?: boolean; cancelable?: boolean; composed?: boolean });
  readonly detail: T;
}

type EventListener = ((event: any) => void) | { handleEvent(event: any): void };

declare class EventTarget {
  addEventListener(
    type: string,
    listener: EventListener | null,
    options?: boolean | { capture?: boolean; once?: boolean; passive?: boolean; signal?: AbortSignal },
  ): void;
  removeEventListener(type: string, listener: EventListener | null, options?: boolean | { capture?: boolean }): void;
  dispatchEvent(event: Event): boolean;
}

declare class AbortSignal extends EventTarget {
  private constructor();
  static abort(reason?: unknown): AbortSignal;
  static any(signals: Iterable<AbortSignal>): AbortSignal;
  static timeout(ms: number): AbortSignal;
  readonly aborted: boolean;
  readonly reason: any;
  onabort: ((event: Event) => void) | null;
  throwIfAborted(): void;
}

declare class AbortController {
  readonly signal: AbortSignal;
  abort(reason?: unknown): void;
}

interface CryptoKey {
  readonly type: string;
  readonly extractable: boolean;
  readonly algorithm: { name: string; hash: { name: string } };
  readonly usages: string[];
}

interface Crypto {
  getRandomValues<T extends ArrayBufferView>(array: T): T;
  randomUUID(): `${string}-${string}-${string}-${string}-${string}`;
  /** Digests (SHA-1 and SHA-2) and HMAC. */
  readonly subtle: {
    digest(algorithm: string | { name: string }, data: ArrayBuffer | ArrayBufferView): Promise<ArrayBuffer>;
    importKey(
      format: "raw",
      data: ArrayBuffer | ArrayBufferView,
      algorithm: { name: "HMAC"; hash: string | { name: string } },
      extractable: boolean,
      usages: Iterable<"sign" | "verify">,
    ): Promise<CryptoKey>;
    sign(algorithm: string | { name: string }, key: CryptoKey, data: ArrayBuffer | ArrayBufferView): Promise<ArrayBuffer>;
    verify(
      algorithm: string | { name: string },
      key: CryptoKey,
      signature: ArrayBuffer | ArrayBufferView,
      data: ArrayBuffer | ArrayBufferView,
    ): Promise<boolean>;
  };
}
declare var crypto: Crypto;

interface Process {
  /** The plugin's `environment` in the gateway's configuration. */
  readonly env: Record<string, string | undefined>;
  readonly argv: string[];
  readonly platform: string;
  readonly version: string;
  readonly versions: Record<string, string>;
  cwd(): string;
  nextTick<A extends unknown[]>(run: (...words: A) => void, ...words: A): void;
  hrtime: { (before?: [number, number]): [number, number]; bigint(): bigint };
  uptime(): number;
  emitWarning(warning: string | Error): void;
  readonly stdout: { write(text: string | Uint8Array): boolean };
  readonly stderr: { write(text: string | Uint8Array): boolean };
}
declare var process: Process;

type BufferEncoding = "utf8" | "utf-8" | "hex" | "base64" | "latin1" | "binary" | "ascii" | "ucs2" | "utf16le";

interface Buffer extends Uint8Array {
  toString(encoding?: BufferEncoding, from?: number, to?: number): string;
  toJSON(): { type: "Buffer"; data: number[] };
  equals(other: Uint8Array): boolean;
  compare(other: Uint8Array): number;
  copy(target: Uint8Array, targetStart?: number, sourceStart?: number, sourceEnd?: number): number;
  write(text: string, offset?: number, length?: number, encoding?: BufferEncoding): number;
  readUInt8(offset?: number): number;
  readUInt16BE(offset?: number): number;
  readUInt16LE(offset?: number): number;
  readUInt32BE(offset?: number): number;
  readUInt32LE(offset?: number): number;
  readInt8(offset?: number): number;
  readInt16BE(offset?: number): number;
  readInt16LE(offset?: number): number;
  readInt32BE(offset?: number): number;
  readInt32LE(offset?: number): number;
  readBigUInt64BE(offset?: number): bigint;
  readBigUInt64LE(offset?: number): bigint;
  readDoubleBE(offset?: number): number;
  readDoubleLE(offset?: number): number;
  readFloatBE(offset?: number): number;
  readFloatLE(offset?: number): number;
  writeUInt8(value: number, offset?: number): number;
  writeUInt16BE(value: number, offset?: number): number;
  writeUInt16LE(value: number, offset?: number): number;
  writeUInt32BE(value: number, offset?: number): number;
  writeUInt32LE(value: number, offset?: number): number;
  writeInt32BE(value: number, offset?: number): number;
  writeInt32LE(value: number, offset?: number): number;
  writeBigUInt64BE(value: bigint, offset?: number): number;
  writeBigUInt64LE(value: bigint, offset?: number): number;
  writeDoubleBE(value: number, offset?: number): number;
  writeDoubleLE(value: number, offset?: number): number;
}
declare var Buffer: {
  from(text: string, encoding?: BufferEncoding): Buffer;
  from(data: ArrayBuffer | ArrayLike<number>, offset?: number, length?: number): Buffer;
  alloc(size: number, fill?: string | number | Uint8Array): Buffer;
  allocUnsafe(size: number): Buffer;
  concat(parts: readonly Uint8Array[], length?: number): Buffer;
  byteLength(data: string | ArrayBuffer | ArrayBufferView, encoding?: BufferEncoding): number;
  compare(left: Uint8Array, right: Uint8Array): number;
  isBuffer(value: unknown): value is Buffer;
  isEncoding(name: string): name is BufferEncoding;
  readonly prototype: Buffer;
};

declare module "node:buffer" {
  const buffer: typeof globalThis.Buffer;
  export { buffer as Buffer };
}

declare module "node:process" {
  const process: Process;
  export default process;
  export const env: Process["env"];
  export const nextTick: Process["nextTick"];
}

declare module "node:events" {
  type Listener = (...words: any[]) => void;
  export class EventEmitter {
    static defaultMaxListeners: number;
    on(event: string | symbol, listener: Listener): this;
    once(event: string | symbol, listener: Listener): this;
    off(event: string | symbol, listener: Listener): this;
    addListener(event: string | symbol, listener: Listener): this;
    removeListener(event: string | symbol, listener: Listener): this;
    removeAllListeners(event?: string | symbol): this;
    prependListener(event: string | symbol, listener: Listener): this;
    emit(event: string | symbol, ...words: any[]): boolean;
    listenerCount(event: string | symbol): number;
    listeners(event: string | symbol): Listener[];
    eventNames(): (string | symbol)[];
    setMaxListeners(count: number): this;
  }
  export function once(emitter: EventEmitter, event: string | symbol): Promise<any[]>;
  export default EventEmitter;
}

declare module "node:util" {
  export function inspect(value: unknown, options?: { depth?: number | null }): string;
  export function format(text: unknown, ...words: unknown[]): string;
  export function promisify(run: (...words: any[]) => void): (...words: any[]) => Promise<any>;
  export function callbackify(run: (...words: any[]) => Promise<any>): (...words: any[]) => void;
  export function inherits(constructor: Function, parent: Function): void;
  export function deprecate<T extends Function>(run: T, message: string): T;
  export const types: Record<string, (value: unknown) => boolean>;
}

declare module "node:crypto" {
  interface Hash {
    update(data: string | ArrayBufferView, encoding?: BufferEncoding): this;
    digest(): Buffer;
    digest(encoding: BufferEncoding | "base64url"): string;
    copy(): Hash;
  }
  export function createHash(name: string): Hash;
  export function createHmac(name: string, key: string | ArrayBufferView): Hash;
  export function hash(name: string, data: string | ArrayBufferView, encoding?: BufferEncoding | "base64url"): string;
  export function getHashes(): string[];
  export function getRandomValues<T extends ArrayBufferView>(array: T): T;
  export function randomBytes(length: number): Buffer;
  export function randomInt(max: number): number;
  export function randomInt(min: number, max: number): number;
  export function randomFillSync<T extends ArrayBufferView>(target: T, offset?: number, length?: number): T;
  export function randomUUID(): string;
  export function timingSafeEqual(left: ArrayBufferView, right: ArrayBufferView): boolean;
  export function pbkdf2Sync(password: string | ArrayBufferView, salt: string | ArrayBufferView, iterations: number, length: number, hash: string): Buffer;
  export function hkdfSync(hash: string, key: string | ArrayBufferView, salt: string | ArrayBufferView, info: string | ArrayBufferView, length: number): ArrayBuffer;
  export const webcrypto: Crypto;
  export const subtle: Crypto["subtle"];
}

declare module "node:timers" {
  export const setTimeout: typeof globalThis.setTimeout;
  export const setInterval: typeof globalThis.setInterval;
  export const setImmediate: typeof globalThis.setImmediate;
  export const clearTimeout: typeof globalThis.clearTimeout;
  export const clearInterval: typeof globalThis.clearInterval;
  export const clearImmediate: typeof globalThis.clearImmediate;
}

declare module "node:timers/promises" {
  export function setTimeout<T = void>(delay?: number, value?: T, options?: { signal?: AbortSignal }): Promise<T>;
  export function setImmediate<T = void>(value?: T, options?: { signal?: AbortSignal }): Promise<T>;
  export function setInterval<T = void>(delay?: number, value?: T, options?: { signal?: AbortSignal }): AsyncGenerator<T>;
  export const scheduler: { wait(delay: number, options?: { signal?: AbortSignal }): Promise<void>; yield(): Promise<void> };
}

declare module "node:async_hooks" {
  export class AsyncLocalStorage<T> {
    static bind<F extends (...words: any[]) => any>(run: F): F;
    static snapshot(): <R>(run: (...words: any[]) => R, ...words: any[]) => R;
    run<R>(store: T, run: (...words: any[]) => R, ...words: any[]): R;
    exit<R>(run: (...words: any[]) => R, ...words: any[]): R;
    enterWith(store: T): void;
    getStore(): T | undefined;
    disable(): void;
  }
  export class AsyncResource {
    static bind<F extends (...words: any[]) => any>(run: F): F;
    constructor(type: string);
    runInAsyncScope<R>(run: (...words: any[]) => R, self?: unknown, ...words: any[]): R;
    bind<F extends (...words: any[]) => any>(run: F): F;
    emitDestroy(): this;
  }
}

declare module "node:perf_hooks" {
  const measured: Performance;
  export { measured as performance };
}

declare module "node:url" {
  const url: typeof globalThis.URL;
  const params: typeof globalThis.URLSearchParams;
  export { url as URL, params as URLSearchParams };
}

declare module "node:string_decoder" {
  export class StringDecoder {
    constructor(encoding?: BufferEncoding);
    write(data: Uint8Array): string;
    end(data?: Uint8Array): string;
  }
}

declare module "node:stream" {
  export const Readable: any;
  export const Writable: any;
  export const Duplex: any;
  export const Transform: any;
  export const PassThrough: any;
  export const pipeline: any;
  export const finished: any;
}

declare module "node:stream/promises" {
  export function pipeline(...streams: any[]): Promise<void>;
  export function finished(stream: any): Promise<void>;
}
