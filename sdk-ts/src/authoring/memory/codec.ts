// How values of a memory are stored: by schema, or without one exactly what JSON holds and gives back unchanged.

import { DefinitionError } from "../../errors.js";
import { InvalidValue, join, MAX_DEPTH, parseJson } from "../json.js";
import { type Converter, compileSchema } from "../schema.js";
import type { Schema } from "../schema-types.js";
import { encodeCanonical, encodeJson, toPlain } from "../values.js";

/** Converts values and keys of one memory. */
export class Codec {
  private readonly item: Converter | undefined;
  private readonly key: Converter | undefined;
  /** Dates become text at the commit, because nothing would bring them back. */
  readonly datesToText: boolean;

  /** item: schema of values (of members, for a set). key: schema of a map's keys. */
  constructor(item: Schema | undefined, key: Schema | undefined, where: string) {
    this.item = item === undefined ? undefined : compileSchema(item, where);
    this.key = key === undefined ? undefined : compileSchema(key, `${where} keys`);
    this.datesToText = this.item === undefined;
  }

  /** Throws InvalidInput (of which InvalidValue is one) naming the place. */
  encode(value: unknown, pointer: string): Uint8Array {
    if (value === undefined) {
      throw new InvalidValue(`memory ${pointer}: undefined has no JSON form; use null, or remove the entry`, pointer);
    }
    if (this.item !== undefined) {
      return encodeJson(immediate(this.item.encode(value, pointer), pointer), pointer);
    }
    requireStorable(value, pointer, 0);
    return encodeJson(value, pointer);
  }

  decode(data: Uint8Array, pointer: string): unknown {
    const value = parseJson(data);
    return this.item === undefined ? value : immediate(this.item.decode(value, pointer), pointer);
  }

  /** Entry id of a map's key or set's member. */
  keyId(key: unknown, pointer: string): string {
    if (typeof key === "string" && this.key === undefined) {
      return encodeCanonical(key, pointer);
    }
    if (key === undefined) {
      throw new InvalidValue(`memory ${pointer}: undefined is no key`, pointer);
    }
    if (this.key !== undefined) {
      return encodeCanonical(immediate(this.key.encode(key, pointer), pointer), pointer);
    }
    if (typeof key === "bigint") {
      return key.toString(); // identities may be integers of any size
    }
    requireStorable(key, pointer, 0);
    return encodeCanonical(key, pointer);
  }

  /** Map key or set member of an entry id. */
  keyOf(id: string): unknown {
    if (this.key === undefined && /^-?\d{16,}$/.test(id) && !Number.isSafeInteger(Number(id))) {
      return BigInt(id);
    }
    const value = parseJson(id);
    return deepFreeze(this.key === undefined ? value : immediate(this.key.decode(value, "key"), "key"));
  }

  /** A key or member as it is kept: a frozen copy, if it is an object, for it must not change. */
  keptKey(key: unknown, id: string): unknown {
    return typeof key === "object" && key !== null ? this.keyOf(id) : key;
  }

  /** Whether the value is one that a memory without a schema would not give back; throws InvalidValue then. */
  check(value: unknown, pointer: string): void {
    if (this.item === undefined) {
      requireStorable(toPlain(value), pointer, 0);
    }
  }
}

function immediate<T>(value: T | Promise<T>, pointer: string): T {
  if (value instanceof Promise) {
    value.catch(() => {});
    throw new DefinitionError(`memory ${pointer}: its schema is asynchronous, and those of memories must not be`);
  }
  return value;
}

/** Throws InvalidValue unless `value` comes back from JSON as what it is (dates as text). */
function requireStorable(value: unknown, pointer: string, depth: number): void {
  if (typeof value !== "object" || value === null) {
    if (typeof value === "bigint") {
      throw new InvalidValue(
        `memory ${pointer}: a bigint does not come back from JSON as one; give the memory a schema with format: int64`,
        pointer,
      );
    }
    return; // what else has no JSON form is found when it is encoded
  }
  if (depth > MAX_DEPTH) {
    throw new InvalidValue(`memory ${pointer}: is nested too deeply, or contains itself`, pointer);
  }
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index += 1) {
      requireStorable(value[index], `${pointer}[${index}]`, depth + 1);
    }
    return;
  }
  const prototype = Object.getPrototypeOf(value) as { constructor?: { name?: string } } | null;
  if (prototype !== Object.prototype && prototype !== null) {
    if (value instanceof Date) {
      return;
    }
    const name = prototype.constructor?.name ?? "object of a class";
    throw new InvalidValue(
      `memory ${pointer}: a ${name} does not come back from JSON as one; give the memory a schema, or store text,` +
        " numbers, lists and plain objects",
      pointer,
    );
  }
  for (const key of Object.keys(value)) {
    requireStorable((value as Record<string, unknown>)[key], join(pointer, key), depth + 1);
  }
}

/** Freezes a value and everything in it. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !ArrayBuffer.isView(value)) {
    for (const item of Object.values(value)) {
      deepFreeze(item);
    }
    Object.freeze(value);
  }
  return value;
}
