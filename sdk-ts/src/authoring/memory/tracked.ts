// Objects and lists inside the entries of a memory, watched: what is read from a memory reports before it changes.

import { formatInstant } from "../values.js";
import type { ChangeLog, Entry } from "./changes.js";
import type { Root } from "./root.js";

/** The containers that are watched; everything else is a value by itself. */
type Container = Record<PropertyKey, unknown> | unknown[];

// Container -> the entry it belongs to since a commit. Never handed out bare from then on.
const owners = new WeakMap<object, Entry>();
// Container -> what watches it.
const watchers = new WeakMap<object, Watcher>();
// Proxy -> what it stands for.
const watcherOf = new WeakMap<object, Watcher>();

/** Whether a value is a plain object or a list. */
export function isContainer(value: unknown): value is Container {
  if (typeof value !== "object" || value === null) {
    return false;
  }
  if (Array.isArray(value)) {
    return true;
  }
  const prototype = Object.getPrototypeOf(value) as unknown;
  return prototype === Object.prototype || prototype === null;
}

/** One watched container. `raw` is what it is now: a commit may put a copy of the memory's own in its place. */
class Watcher implements ProxyHandler<Container> {
  readonly proxy: object;

  constructor(
    public raw: Container,
    readonly root: Root,
    readonly entry: Entry,
  ) {
    this.proxy = new Proxy(raw, this);
    watcherOf.set(this.proxy, this);
  }

  get(_: Container, key: PropertyKey): unknown {
    const value = (this.raw as Record<PropertyKey, unknown>)[key];
    return typeof value === "object" && value !== null ? watched(value, this.root, this.entry) : value;
  }

  set(_: Container, key: PropertyKey, value: unknown): boolean {
    this.change();
    return Reflect.set(this.raw, key, bare(value));
  }

  deleteProperty(_: Container, key: PropertyKey): boolean {
    this.change();
    return Reflect.deleteProperty(this.raw, key);
  }

  defineProperty(_: Container, key: PropertyKey, descriptor: PropertyDescriptor): boolean {
    this.change();
    const made = "value" in descriptor ? { ...descriptor, value: bare(descriptor.value) } : descriptor;
    return Reflect.defineProperty(this.raw, key, made);
  }

  has(_: Container, key: PropertyKey): boolean {
    return Reflect.has(this.raw, key);
  }

  ownKeys(): (string | symbol)[] {
    return Reflect.ownKeys(this.raw);
  }

  getOwnPropertyDescriptor(_: Container, key: PropertyKey): PropertyDescriptor | undefined {
    const descriptor = Reflect.getOwnPropertyDescriptor(this.raw, key);
    if (descriptor !== undefined && "value" in descriptor && !(Array.isArray(this.raw) && key === "length")) {
      descriptor.value = this.get(this.raw, key);
    }
    return descriptor;
  }

  preventExtensions(): boolean {
    return false; // a frozen object could not be kept
  }

  private change(): void {
    const log = this.entry.log;
    if (log !== undefined) {
      log.beforeNestedChange(this.entry, this.root.rawOf(this.entry), this.raw);
    }
  }
}

/** What a memory hands out in place of `value`. */
export function watched(value: unknown, root: Root, entry: Entry): unknown {
  if (typeof value !== "object" || value === null || watcherOf.has(value)) {
    return value;
  }
  if (!isContainer(value)) {
    root.handedOut(entry); // a date, bytes, an object of a class: it can change without telling
    return value;
  }
  if (!Object.isExtensible(value)) {
    return value;
  }
  const known = watchers.get(value);
  if (known !== undefined && known.entry === entry) {
    return known.proxy;
  }
  const made = new Watcher(value, root, entry);
  watchers.set(value, made);
  return made.proxy;
}

/** What a watched container stands for; anything else as it is. */
export function bare<T>(value: T): T {
  if (typeof value !== "object" || value === null) {
    return value;
  }
  const watcher = watcherOf.get(value);
  return watcher === undefined ? value : (watcher.raw as T);
}

/**
 * `value` as it is kept in `entry` from a commit on: made of containers that are nobody else's. Dates become text where
 * no schema brings them back.
 */
export function adopt(value: unknown, entry: Entry, datesToText: boolean): unknown {
  if (typeof value !== "object" || value === null) {
    return value;
  }
  const raw = bare(value) as object;
  if (!isContainer(raw)) {
    return datesToText && raw instanceof Date ? formatInstant(raw) : raw;
  }
  if (owners.get(raw) === entry) {
    if (Array.isArray(raw)) {
      for (let index = 0; index < raw.length; index += 1) {
        const item: unknown = raw[index];
        if (typeof item === "object" && item !== null) {
          raw[index] = adopt(item, entry, datesToText);
        }
      }
    } else {
      for (const key of Object.keys(raw)) {
        const item = raw[key];
        if (typeof item === "object" && item !== null) {
          raw[key] = adopt(item, entry, datesToText);
        } else if (item === undefined) {
          delete raw[key];
        }
      }
    }
    return raw;
  }
  const copy: Container = Array.isArray(raw)
    ? raw.map((item) => adopt(item, entry, datesToText))
    : Object.fromEntries(
        Object.keys(raw)
          .filter((key) => raw[key] !== undefined)
          .map((key) => [key, adopt(raw[key], entry, datesToText)]),
      );
  owners.set(copy, entry);
  const watcher = watchers.get(raw);
  if (watcher !== undefined && watcher.entry === entry) {
    watcher.raw = copy; // who holds on to it sees, and changes, what the memory has
    watchers.set(copy, watcher);
  }
  return copy;
}

/** Makes the containers that changed since the last commit what they were. */
export function restore(log: ChangeLog): void {
  for (const [container, content] of log.snapshots) {
    if (Array.isArray(container)) {
      container.length = 0;
      for (const item of content as unknown[]) {
        container.push(item);
      }
    } else {
      const members = container as Record<string, unknown>;
      for (const key of Object.keys(members)) {
        delete members[key];
      }
      Object.assign(members, content);
    }
  }
}

/** A deep copy of a value read from a memory that belongs to no memory: what `structuredClone` would be. */
export function plainCopy<T>(value: T): T {
  const raw: unknown = bare(value);
  if (raw instanceof Map) {
    return new Map([...raw].map(([key, item]) => [plainCopy(key), plainCopy(item)])) as T;
  }
  if (raw instanceof Set) {
    return new Set([...raw].map(plainCopy)) as T;
  }
  if (Array.isArray(raw)) {
    return raw.map(plainCopy) as T;
  }
  if (isContainer(raw)) {
    const members = raw as Record<string, unknown>;
    return Object.fromEntries(Object.keys(members).map((key) => [key, plainCopy(members[key])])) as T;
  }
  return raw instanceof Date || ArrayBuffer.isView(raw) ? (structuredClone(raw) as T) : (raw as T);
}
