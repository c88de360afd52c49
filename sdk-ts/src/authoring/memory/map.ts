// A memory that is a Map. Keys are anything with a JSON form: 1 and "1" are two keys, equal objects are one.

import { InvalidInput } from "../../errors.js";
import { type Duration, positiveMilliseconds } from "../durations.js";
import { type ChangeLog, Entry } from "./changes.js";
import type { Codec } from "./codec.js";
import { Root, rootOf, type Stored, slotOf } from "./root.js";
import { bare, watched } from "./tracked.js";

const rawGet = Map.prototype.get;
const rawSet = Map.prototype.set;
const rawDelete = Map.prototype.delete;

/** What an agent sees: a Map in every respect, whose changes are noticed. Values that are objects are watched, too. */
export class MemoryMap<K = unknown, V = unknown> extends Map<K, V> {
  readonly #root: MapRoot;

  /** For the SDK. */
  constructor(root: MapRoot) {
    super();
    this.#root = root;
  }

  override get(key: K): V | undefined {
    return this.#root.get(key) as V | undefined;
  }

  override has(key: K): boolean {
    return this.#root.find(key) !== undefined;
  }

  override set(key: K, value: V): this {
    this.#root.set(key, value);
    return this;
  }

  override delete(key: K): boolean {
    return this.#root.delete(key);
  }

  override clear(): void {
    this.#root.clear();
  }

  override forEach(callback: (value: V, key: K, map: Map<K, V>) => void, thisArg?: unknown): void {
    for (const [key, value] of this.entries()) {
      callback.call(thisArg, value, key, this);
    }
  }

  override *values(): MapIterator<V> {
    for (const [, value] of this.entries()) {
      yield value;
    }
  }

  override *entries(): MapIterator<[K, V]> {
    for (const [key, value] of super.entries()) {
      yield [key, this.#root.peek(key, value) as V];
    }
  }

  override [Symbol.iterator](): MapIterator<[K, V]> {
    return this.entries();
  }

  /** Of a plain Map, so that copies are plain. */
  static override get [Symbol.species](): MapConstructor {
    return Map;
  }
}

/** The memory behind a MemoryMap. */
export class MapRoot extends Root {
  private readonly map: MemoryMap;
  private readonly slots = new Map<unknown, Entry>();
  /** Slot -> its entry at the last commit, undefined if it had none; of those that came or went since. */
  private undo = new Map<unknown, Entry | undefined>();

  constructor(name: string, log: ChangeLog, codec: Codec) {
    super(name, log, codec);
    this.map = new MemoryMap(this);
    rootOf.set(this.map, this);
  }

  view(): MemoryMap {
    return this.map;
  }

  find(key: unknown): Entry | undefined {
    return this.slots.get(this.slot(key));
  }

  get(key: unknown): unknown {
    const entry = this.find(key);
    if (entry === undefined) {
      return undefined;
    }
    this.log.touched(entry);
    return watched(this.rawOf(entry), this, entry);
  }

  /** The value at `key`, without using it. */
  peek(key: unknown, value: unknown): unknown {
    const entry = this.find(key);
    return entry === undefined ? value : watched(value, this, entry);
  }

  set(key: unknown, value: unknown): Entry {
    const slot = this.slot(key);
    let entry = this.slots.get(slot);
    if (entry === undefined) {
      const id = this.codec.keyId(key, `${this.name} key`);
      entry = new Entry(this.log, this.codec.keptKey(key, id), id);
      this.slots.set(slot, entry);
      if (!this.undo.has(slot)) {
        this.undo.set(slot, undefined);
      }
    } else {
      this.log.replacing(entry, this.rawOf(entry));
    }
    this.log.removed.delete(entry.id);
    rawSet.call(this.map, entry.key, bare(value));
    this.log.wrote(entry);
    return entry;
  }

  delete(key: unknown): boolean {
    const slot = this.slot(key);
    const entry = this.slots.get(slot);
    if (entry === undefined) {
      return false;
    }
    this.take(slot, entry);
    return true;
  }

  clear(): void {
    if (this.slots.size === 0) {
      return;
    }
    for (const [slot, entry] of [...this.slots]) {
      this.take(slot, entry);
    }
    if (this.log.initial.size === 0) {
      this.log.tookAll();
    }
  }

  expire(item: unknown, ttl: Duration): void {
    const millis = positiveMilliseconds(ttl, "ttl");
    const entry = this.find(item);
    if (entry === undefined) {
      throw new InvalidInput(`memory '${this.name}' has no entry ${JSON.stringify(item)}`, "item");
    }
    this.log.replacing(entry, this.rawOf(entry));
    this.log.livesFor(entry, millis);
  }

  entries(): Iterable<Entry> {
    return this.slots.values();
  }

  rawOf(entry: Entry): unknown {
    return rawGet.call(this.map, entry.key);
  }

  protected keep(entry: Entry, value: unknown): void {
    rawSet.call(this.map, entry.key, value);
  }

  protected undoStructure(): void {
    for (const [slot, entry] of this.undo) {
      const present = this.slots.get(slot);
      if (present === entry) {
        continue;
      }
      if (present !== undefined) {
        rawDelete.call(this.map, present.key);
        this.slots.delete(slot);
      }
      if (entry !== undefined) {
        this.slots.set(slot, entry);
        rawSet.call(this.map, entry.key, this.log.saved.get(entry)?.value);
      }
    }
    this.undo.clear();
  }

  protected settleStructure(): void {
    this.undo.clear();
  }

  forget(entry: Entry): void {
    rawDelete.call(this.map, entry.key);
    this.slots.delete(this.slot(entry.key));
    entry.log = undefined;
  }

  evict(limit: number): void {
    for (const entry of this.log.recency?.oldest(this.slots.size - limit) ?? []) {
      this.take(this.slot(entry.key), entry);
    }
  }

  load(items: readonly Stored[]): void {
    for (const { id, value, deadline } of items) {
      const entry = new Entry(this.log, this.codec.keyOf(id), id);
      entry.deadline = deadline;
      this.slots.set(this.slot(entry.key), entry);
      rawSet.call(this.map, entry.key, this.codec.decode(value, this.place(entry)));
    }
  }

  assign(value: unknown): void {
    if (value === this.map) {
      return;
    }
    if (!(value instanceof Map)) {
      throw this.wrongKind(value, "Map");
    }
    const wanted = new Map(
      [...(value as Map<unknown, unknown>)].map(([key, item]) => [this.slot(key), [key, item] as const]),
    );
    for (const [slot, entry] of [...this.slots]) {
      if (!wanted.has(slot)) {
        this.take(slot, entry);
      }
    }
    for (const [key, item] of wanted.values()) {
      this.set(key, item);
    }
  }

  private take(slot: unknown, entry: Entry): void {
    const value = this.rawOf(entry);
    rawDelete.call(this.map, entry.key);
    this.slots.delete(slot);
    if (!this.undo.has(slot)) {
      this.undo.set(slot, entry);
    }
    this.log.took(entry, value);
  }

  private slot(key: unknown): unknown {
    return slotOf(key, this.codec, this.name);
  }
}
