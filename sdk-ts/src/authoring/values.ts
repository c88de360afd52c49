// What JavaScript values become on their way to JSON, without a schema: dates RFC 3339, bytes base64, sets lists, maps
// with text keys objects. Conversion by schema is in schema.ts.

import {
  canonicalJson,
  hasKeyOrder,
  InvalidValue,
  isWellFormed,
  type Json,
  join,
  MAX_DEPTH,
  utf8,
  writeJson,
} from "./json.js";

/** `value` as compact JSON. Throws InvalidValue naming the place of what has no JSON form. */
export function encodeJson(value: unknown, pointer = ""): Uint8Array {
  return utf8(encodeJsonText(value, pointer));
}

/** As encodeJson, as text. */
export function encodeJsonText(value: unknown, pointer = ""): string {
  if (typeof value === "string") {
    return JSON.stringify(text(value, pointer));
  }
  const walk = new Walk();
  const plain = walk.plain(value, pointer, 0);
  return walk.special ? writeJson(plain) : JSON.stringify(plain);
}

/** `value` made of what JSON holds only; the same object if it is that already. Throws InvalidValue naming the place. */
export function toPlain(value: unknown, pointer = ""): Json {
  return new Walk().plain(value, pointer, 0);
}

/** `value` as JSON text with sorted keys, so that equal values have equal text. */
export function encodeCanonical(value: unknown, pointer = ""): string {
  if (typeof value === "string") {
    return JSON.stringify(text(value, pointer));
  }
  return canonicalJson(toPlain(value, pointer));
}

class Walk {
  /** JSON.stringify would not do: key order, or -0. */
  special = false;

  plain(value: unknown, pointer: string, depth: number): Json {
    switch (typeof value) {
      case "string":
        return text(value, pointer);
      case "boolean":
        return value;
      case "number":
        if (!Number.isFinite(value)) {
          throw new InvalidValue(
            `${at(pointer)}${value} is not a finite number, which JSON cannot hold; use null`,
            pointer,
          );
        }
        if (value === 0 && Object.is(value, -0)) {
          this.special = true;
        }
        return value;
      case "bigint":
        return safeInteger(value, pointer);
      case "object":
        if (value === null) {
          return null;
        }
        if (depth > MAX_DEPTH) {
          throw new InvalidValue(`${at(pointer)}value is nested too deeply, or contains itself`, pointer);
        }
        return this.object(value, pointer, depth);
      case "undefined":
        throw new InvalidValue(`${at(pointer)}undefined has no JSON form here; use null, or leave it out`, pointer);
      default:
        throw new InvalidValue(`${at(pointer)}a ${typeof value} has no JSON form`, pointer);
    }
  }

  private object(value: object, pointer: string, depth: number): Json {
    if (Array.isArray(value)) {
      return this.list(value, pointer, depth);
    }
    const prototype = Object.getPrototypeOf(value) as object | null;
    const special = prototype !== Object.prototype && prototype !== null;
    if (special || typeof (value as { toJSON?: unknown }).toJSON === "function") {
      const converted = this.builtIn(value, pointer, depth);
      if (converted !== undefined) {
        return converted;
      }
    }
    if (hasKeyOrder(value)) {
      this.special = true;
    }
    return this.members(value as Record<string, unknown>, pointer, depth);
  }

  private list(value: readonly unknown[], pointer: string, depth: number): Json[] {
    let changed: Json[] | undefined;
    for (let index = 0; index < value.length; index += 1) {
      const item = value[index];
      const plain = this.plain(item, `${pointer}[${index}]`, depth + 1);
      if (changed !== undefined) {
        changed.push(plain);
      } else if (plain !== item) {
        changed = [...(value.slice(0, index) as Json[]), plain];
      }
    }
    return changed ?? (value as Json[]);
  }

  private members(value: Record<string, unknown>, pointer: string, depth: number): Json {
    const keys = Object.keys(value);
    let changed = false;
    const plains: [string, Json][] = [];
    for (const key of keys) {
      const item = value[key];
      if (item === undefined) {
        changed = true; // absent
        continue;
      }
      text(key, pointer);
      const plain = this.plain(item, join(pointer, key), depth + 1);
      changed ||= plain !== item;
      plains.push([key, plain]);
    }
    if (!changed) {
      return value as { [key: string]: Json };
    }
    return Object.fromEntries(plains);
  }

  /** What is no plain object or list. undefined: an object of a class of the application's, taken by its members. */
  private builtIn(value: object, pointer: string, depth: number): Json | undefined {
    if (value instanceof Date) {
      return formatInstant(value, pointer);
    }
    if (value instanceof Uint8Array) {
      return encodeBase64(value);
    }
    if (value instanceof ArrayBuffer) {
      return encodeBase64(new Uint8Array(value));
    }
    if (ArrayBuffer.isView(value)) {
      return encodeBase64(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
    }
    if (value instanceof Map) {
      const members: [string, Json][] = [];
      for (const [key, item] of value as Map<unknown, unknown>) {
        if (typeof key !== "string") {
          throw new InvalidValue(
            `${at(pointer)}the key ${String(key)} of a Map is not text, and keys of JSON objects are; convert it`,
            pointer,
          );
        }
        members.push([text(key, pointer), this.plain(item, join(pointer, key), depth + 1)]);
      }
      return Object.fromEntries(members);
    }
    if (value instanceof Set) {
      const members = [...(value as Set<unknown>)].map((member) => this.plain(member, pointer, depth + 1));
      return members
        .map((member): [string, Json] => [canonicalJson(member), member])
        .sort(([left], [right]) => (left < right ? -1 : left > right ? 1 : 0))
        .map(([, member]) => member);
    }
    const toJson = (value as { toJSON?: unknown }).toJSON;
    if (typeof toJson === "function") {
      return this.plain(toJson.call(value), pointer, depth + 1);
    }
    if (value instanceof Number || value instanceof String || value instanceof Boolean) {
      return this.plain(value.valueOf(), pointer, depth + 1);
    }
    const kind = Object.prototype.toString.call(value).slice(8, -1);
    if (kind !== "Object") {
      const hint = kind === "Promise" ? "; was it awaited?" : "; convert it";
      throw new InvalidValue(`${at(pointer)}a ${kind} has no JSON form${hint}`, pointer);
    }
    return undefined;
  }
}

function text(value: string, pointer: string): string {
  if (!isWellFormed(value)) {
    throw new InvalidValue(
      `${at(pointer)}text contains a lone surrogate, which has no UTF-8 form; clean it first`,
      pointer,
    );
  }
  return value;
}

function safeInteger(value: bigint, pointer: string): number {
  if (value > Number.MAX_SAFE_INTEGER || value < -Number.MAX_SAFE_INTEGER) {
    throw new InvalidValue(
      `${at(pointer)}the integer ${value} is beyond 2^53 - 1, which a JSON number does not hold exactly in every` +
        " language; declare a schema with format: int64",
      pointer,
    );
  }
  return Number(value);
}

function at(pointer: string): string {
  return pointer === "" ? "" : `${pointer}: `;
}

// What a Date has no room for: the digits beyond milliseconds that it came with, and the time they belong to.
const finer = new WeakMap<Date, { readonly millis: number; readonly digits: string }>();

/**
 * RFC 3339 in UTC, without zeros at the end of its fraction. A Date that came with more digits than it can hold, and
 * was not changed, has them again. Throws InvalidValue for an invalid date.
 */
export function formatInstant(value: Date, pointer = ""): string {
  const millis = value.getTime();
  if (Number.isNaN(millis)) {
    throw new InvalidValue(`${at(pointer)}an invalid Date has no JSON form`, pointer);
  }
  const written = value.toISOString();
  if (written.length !== 24) {
    throw new InvalidValue(`${at(pointer)}the year of ${written} is not one of RFC 3339's 0000 to 9999`, pointer);
  }
  const known = finer.get(value);
  const digits = written.slice(20, 23) + (known?.millis === millis ? known.digits : "");
  const [whole, fraction] = [written.slice(0, 19), digits.replace(/0+$/, "")];
  return `${whole}${fraction === "" ? "" : `.${fraction}`}Z`;
}

const INSTANT = /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})$/;

/** The Date of RFC 3339 text, which remembers digits beyond milliseconds. undefined if it is none. */
export function parseInstant(value: string): Date | undefined {
  const match = INSTANT.exec(value);
  if (match === null) {
    return undefined;
  }
  const [, year, month, day, hour, minute, second, fraction, zone] = match as unknown as string[];
  const millis = `${fraction ?? ""}000`.slice(0, 3);
  const written = `${year}-${month}-${day}T${hour}:${minute}:${second}.${millis}`;
  const local = new Date(`${written}Z`);
  if (Number.isNaN(local.getTime()) || local.toISOString() !== `${written}Z`) {
    return undefined; // 30 February and its like
  }
  const moment = zone === "Z" || zone === "z" ? local : new Date(`${written}${zone}`);
  if (fraction !== undefined && fraction.length > 3) {
    finer.set(moment, { millis: moment.getTime(), digits: fraction.slice(3) });
  }
  return moment;
}

/** Whether text is an ISO 8601 duration in weeks, days, hours, minutes and seconds. */
export function isDuration(value: string): boolean {
  return (
    /^[+-]?P(?:\d+W)?(?:\d+D)?(?:T(?:\d+H)?(?:\d+M)?(?:\d+(?:\.\d{1,9})?S)?)?$/.test(value) && !/[PT]$/.test(value)
  );
}

/** Whether text is a calendar date. */
export function isDate(value: string): boolean {
  return /^\d{4}-\d{2}-\d{2}$/.test(value) && parseInstant(`${value}T00:00:00Z`) !== undefined;
}

/** Base64 with padding. */
export function encodeBase64(data: Uint8Array): string {
  let binary = "";
  for (let start = 0; start < data.length; start += 8192) {
    binary += String.fromCharCode(...data.subarray(start, start + 8192));
  }
  return btoa(binary);
}

/** The bytes of padded base64, or undefined if it is none. */
export function decodeBase64(value: string): Uint8Array | undefined {
  if (value.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(value)) {
    return undefined;
  }
  const binary = atob(value);
  const data = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index += 1) {
    data[index] = binary.charCodeAt(index);
  }
  return data;
}
