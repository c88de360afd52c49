// JSON with one meaning in every language. Strict both ways: no NaN, no duplicate keys, no lone surrogates, no integer
// that a JavaScript number would round. What values become on their way to JSON is in values.ts.

import { InvalidInput } from "../errors.js";

/** A value made of nothing but what JSON holds. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A value has no JSON form, or text is not JSON. `pointer` names the place inside the value. */
export class InvalidValue extends InvalidInput {
  constructor(message: string, pointer = "") {
    super(message, pointer, "INVALID_VALUE");
  }

  override get name(): string {
    return "InvalidValue";
  }
}

/** JSON nested deeper than this is refused. */
export const MAX_DEPTH = 512;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// JavaScript moves keys that look like array indexes to the front. What JSON said is remembered here.
const keyOrders = new WeakMap<object, readonly string[]>();
const INDEX_KEY = /"\d{1,10}"\s*:/;
const SURROGATE_ESCAPE = /\\u[dD][89a-fA-F]/;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Whether `text` is Unicode that has a UTF-8 form. */
export function isWellFormed(text: string): boolean {
  const native = (text as { isWellFormed?: () => boolean }).isWellFormed;
  return native === undefined ? !LONE_SURROGATE.test(text) : native.call(text);
}

/** `place.name`, or `name` alone at the top. */
export function join(pointer: string, name: string): string {
  return pointer === "" ? name : `${pointer}.${name}`;
}

/** The bytes of JSON text. */
export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** The text of UTF-8. Throws InvalidValue if it is none. */
export function textOf(data: Uint8Array, what = "JSON"): string {
  try {
    return decoder.decode(data);
  } catch {
    throw new InvalidValue(`${what} is not UTF-8`);
  }
}

/** The value of JSON text. Throws InvalidValue: not JSON, duplicate keys, lone surrogates, unsafe integers, not UTF-8. */
export function parseJson(data: Uint8Array | string): Json {
  const text = typeof data === "string" ? data : textOf(data);
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch (error) {
    throw new InvalidValue(`not JSON: ${(error as Error).message}`);
  }
  const counted: Count = { keys: 0, unsafe: false };
  if (typeof value === "number" || (typeof value === "object" && value !== null)) {
    count(value, counted, 0);
  }
  if (
    counted.unsafe ||
    SURROGATE_ESCAPE.test(text) ||
    (counted.keys > 0 && INDEX_KEY.test(text)) ||
    // As many keys were written as came out, unless some were the same.
    (text.includes("{") && keysWritten(text) !== counted.keys)
  ) {
    return new Parser(text).parse();
  }
  return value;
}

interface Count {
  keys: number;
  unsafe: boolean;
}

function count(value: Json, into: Count, depth: number): void {
  if (typeof value === "number") {
    // Zero may have been -0, and infinity a number that is out of range.
    if (!Number.isFinite(value) || value > Number.MAX_SAFE_INTEGER || value < -Number.MAX_SAFE_INTEGER) {
      into.unsafe = true;
    }
  } else if (typeof value === "object" && value !== null) {
    if (depth > MAX_DEPTH) {
      throw new InvalidValue("JSON is nested too deeply");
    }
    if (Array.isArray(value)) {
      for (const item of value) {
        count(item, into, depth + 1);
      }
    } else {
      for (const key of Object.keys(value)) {
        into.keys += 1;
        count(value[key] as Json, into, depth + 1);
      }
    }
  }
}

function keysWritten(text: string): number {
  // In valid JSON, a string that a colon follows is a key; `"a": "b:"` matches once, for strings are taken whole.
  let found = 0;
  const tokens = /"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?/gs;
  for (let match = tokens.exec(text); match !== null; match = tokens.exec(text)) {
    if (match[1] !== undefined) {
      found += 1;
    }
  }
  return found;
}

/** Parses text that JSON.parse has accepted, and looks at what it does not look at. */
class Parser {
  private at = 0;

  constructor(private readonly text: string) {}

  parse(): Json {
    this.space();
    return this.value("");
  }

  private value(pointer: string): Json {
    const first = this.text[this.at] as string;
    if (first === "{") {
      return this.object(pointer);
    }
    if (first === "[") {
      return this.array(pointer);
    }
    if (first === '"') {
      return this.string(pointer);
    }
    const end = this.endOfWord();
    const word = this.text.slice(this.at, end);
    this.at = end;
    if (word === "true" || word === "false") {
      return word === "true";
    }
    return word === "null" ? null : numberOf(word, pointer);
  }

  private object(pointer: string): Json {
    const result: { [key: string]: Json } = {};
    const order: string[] = [];
    const seen = new Set<string>();
    let indexed = false;
    this.at += 1;
    this.space();
    while (this.text[this.at] !== "}") {
      const key = this.string(pointer);
      if (seen.has(key)) {
        throw new InvalidValue(`${at(pointer)}duplicate key ${JSON.stringify(key)}`, join(pointer, key));
      }
      seen.add(key);
      order.push(key);
      indexed ||= /^\d{1,10}$/.test(key);
      this.space();
      this.at += 1; // the colon
      this.space();
      const value = this.value(join(pointer, key));
      if (key === "__proto__") {
        Object.defineProperty(result, key, { value, writable: true, enumerable: true, configurable: true });
      } else {
        result[key] = value;
      }
      this.separator();
    }
    this.at += 1;
    if (indexed) {
      keyOrders.set(result, order);
    }
    return result;
  }

  private array(pointer: string): Json {
    const result: Json[] = [];
    this.at += 1;
    this.space();
    while (this.text[this.at] !== "]") {
      result.push(this.value(`${pointer}[${result.length}]`));
      this.separator();
    }
    this.at += 1;
    return result;
  }

  private string(pointer: string): string {
    let end = this.at + 1;
    while (this.text[end] !== '"') {
      end += this.text[end] === "\\" ? 2 : 1;
    }
    const value = JSON.parse(this.text.slice(this.at, end + 1)) as string;
    this.at = end + 1;
    if (!isWellFormed(value)) {
      throw new InvalidValue(`${at(pointer)}text contains a lone surrogate, which has no UTF-8 form`, pointer);
    }
    return value;
  }

  private separator(): void {
    this.space();
    if (this.text[this.at] === ",") {
      this.at += 1;
      this.space();
    }
  }

  private space(): void {
    while (this.at < this.text.length && " \t\n\r".includes(this.text[this.at] as string)) {
      this.at += 1;
    }
  }

  private endOfWord(): number {
    let end = this.at;
    while (end < this.text.length && !",]} \t\n\r".includes(this.text[end] as string)) {
      end += 1;
    }
    return end;
  }
}

function numberOf(word: string, pointer: string): number {
  const value = Number(word);
  if (!Number.isFinite(value)) {
    throw new InvalidValue(`${at(pointer)}number ${word.slice(0, 40)} is out of range`, pointer);
  }
  if (/^-?\d+$/.test(word) && !Number.isSafeInteger(value)) {
    throw new InvalidValue(
      `${at(pointer)}the integer ${word.slice(0, 40)} is beyond 2^53 - 1; send it as text, under a schema with` +
        " format: int64",
      pointer,
    );
  }
  return value;
}

function at(pointer: string): string {
  return pointer === "" ? "" : `${pointer}: `;
}

/** Keys of an object in the order JSON gave them, new ones last. */
export function orderedKeys(value: object): string[] {
  const keys = Object.keys(value);
  const known = keyOrders.get(value);
  if (known === undefined) {
    return keys;
  }
  const own = new Set(keys);
  const result = known.filter((key) => own.delete(key));
  return [...result, ...own];
}

/** Makes `to` list its keys as `from` does. */
export function keepKeyOrder(from: object, to: object): void {
  const order = keyOrders.get(from);
  if (order !== undefined) {
    keyOrders.set(to, order);
  }
}

/** Whether JSON.stringify would lose the order of keys that `value` came with. */
export function hasKeyOrder(value: object): boolean {
  return keyOrders.has(value);
}

/** Compact JSON text of a plain value: as JSON.stringify, but for -0 and for the order of keys. */
export function writeJson(value: Json): string {
  if (typeof value === "number") {
    return Object.is(value, -0) ? "-0" : JSON.stringify(value);
  }
  if (typeof value !== "object" || value === null) {
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) {
    return `[${value.map(writeJson).join(",")}]`;
  }
  const members = orderedKeys(value).map((key) => `${JSON.stringify(key)}:${writeJson(value[key] as Json)}`);
  return `{${members.join(",")}}`;
}

/** Compact JSON text with sorted keys, so that equal values have equal text. */
export function canonicalJson(value: Json): string {
  if (typeof value !== "object" || value === null) {
    return writeJson(value);
  }
  if (Array.isArray(value)) {
    return `[${value.map(canonicalJson).join(",")}]`;
  }
  const keys = Object.keys(value).sort(byCodePoint);
  return `{${keys.map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key] as Json)}`).join(",")}}`;
}

/** Orders text by code points, as every other language does; JavaScript's own order is by UTF-16 units. */
function byCodePoint(left: string, right: string): number {
  const a = left[Symbol.iterator]();
  const b = right[Symbol.iterator]();
  for (;;) {
    const one = a.next();
    const other = b.next();
    if (one.done === true || other.done === true) {
      return one.done === other.done ? 0 : one.done === true ? -1 : 1;
    }
    const difference = (one.value.codePointAt(0) as number) - (other.value.codePointAt(0) as number);
    if (difference !== 0) {
      return difference;
    }
  }
}
