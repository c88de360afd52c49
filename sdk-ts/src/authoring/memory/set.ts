// A memory that is a Set. Members are anything with a JSON form; equal objects are one member, and frozen.

import { InvalidInput } from "../../errors.js";
import { type Duration, positiveMilliseconds } from "../durations.js";
import { type ChangeLog, Entry } from "./changes.js";
import type { Codec } from "./codec.js";
import { Root, rootOf, type Stored, slotOf } from "./root.js";

const rawAdd = Set.prototype.add;
const rawDelete = Set.prototype.delete;
const NOTHING = new Uint8Array(0);

/** What an agent sees: a Set in every respect, whose changes are noticed. */
export class MemorySet<T = unknown> extends Set<T> {
  readonly #root: SetRoot;

  /** For the SDK. */
  constructor(root: SetRoot) {
    super();
    this.#root = root;
  }

  override has(member: T): boolean {
    return this.#root.has(member);
  }

  override add(member: T): this {
    this.#root.add(member);
    return this;
  }

  override delete(member: T): boolean {
    return this.#root.delete(member);
  }

  override clear(): void {
    this.#root.clear();
  }

  /** Of a plain Set, so that copies are plain. */
  static override get [Symbol.species](): SetConstructor {
    return Set;
  }
}

/** The memory behind a MemorySet. */
export class SetRoot extends Root {
  private readonly set: MemorySet;
  private readonly slots = new Map<unknown, Entry>();
  private undo = new Map<unknown, Entry | undefined>();

  constructor(name: string, log: ChangeLog, codec: Codec) {
    super(name, log, codec);
    this.set = new MemorySet(this);
    rootOf.set(this.set, this);
  }

  view(): MemorySet {
    return this.set;
  }

  has(member: unknown): boolean {
    const entry = this.slots.get(this.slot(member));
    if (entry === undefined) {
      return false;
    }
    this.log.touched(entry);
    return true;
  }

  add(member: unknown): Entry {
    const slot = this.slot(member);
    const known = this.slots.get(slot);
    if (known !== undefined) {
      this.log.touched(known);
      if (this.log.renews(known)) {
        this.log.replacing(known, undefined); // written again: its lifetime starts anew
      }
      return known;
    }
    const id = this.codec.keyId(member, `${this.name} member`);
    const entry = new Entry(this.log, this.codec.keptKey(member, id), id);
    rawAdd.call(this.set, entry.key);
    this.slots.set(slot, entry);
    if (!this.undo.has(slot)) {
      this.undo.set(slot, undefined);
    }
    this.log.removed.delete(id);
    this.log.wrote(entry);
    return entry;
  }

  delete(member: unknown): boolean {
    const slot = this.slot(member);
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
    const entry = this.slots.get(this.slot(item));
    if (entry === undefined) {
      throw new InvalidInput(`memory '${this.name}' has no member ${JSON.stringify(item)}`, "item");
    }
    this.log.replacing(entry, undefined);
    this.log.livesFor(entry, millis);
  }

  entries(): Iterable<Entry> {
    return this.slots.values();
  }

  rawOf(): unknown {
    return undefined;
  }

  override encode(): Map<Entry, Uint8Array> {
    return new Map([...this.log.writes()].map((entry) => [entry, NOTHING]));
  }

  protected keep(): void {}

  protected undoStructure(): void {
    for (const [slot, entry] of this.undo) {
      const present = this.slots.get(slot);
      if (present === entry) {
        continue;
      }
      if (present !== undefined) {
        rawDelete.call(this.set, present.key);
        this.slots.delete(slot);
      }
      if (entry !== undefined) {
        this.slots.set(slot, entry);
        rawAdd.call(this.set, entry.key);
      }
    }
    this.undo.clear();
  }

  protected settleStructure(): void {
    this.undo.clear();
  }

  forget(entry: Entry): void {
    rawDelete.call(this.set, entry.key);
    this.slots.delete(this.slot(entry.key));
    entry.log = undefined;
  }

  evict(limit: number): void {
    for (const entry of this.log.recency?.oldest(this.slots.size - limit) ?? []) {
      this.take(this.slot(entry.key), entry);
    }
  }

  load(items: readonly Stored[]): void {
    for (const { id, deadline } of items) {
      const entry = new Entry(this.log, this.codec.keyOf(id), id);
      entry.deadline = deadline;
      this.slots.set(this.slot(entry.key), entry);
      rawAdd.call(this.set, entry.key);
    }
  }

  assign(value: unknown): void {
    if (value === this.set) {
      return;
    }
    if (!(value instanceof Set)) {
      throw this.wrongKind(value, "Set");
    }
    const members = [...(value as Set<unknown>)];
    const wanted = new Set(members.map((member) => this.slot(member)));
    for (const [slot, entry] of [...this.slots]) {
      if (!wanted.has(slot)) {
        this.take(slot, entry);
      }
    }
    for (const member of members) {
      this.add(member);
    }
  }

  private take(slot: unknown, entry: Entry): void {
    rawDelete.call(this.set, entry.key);
    this.slots.delete(slot);
    if (!this.undo.has(slot)) {
      this.undo.set(slot, entry);
    }
    this.log.took(entry, undefined);
  }

  private slot(member: unknown): unknown {
    return slotOf(member, this.codec, this.name);
  }
}
