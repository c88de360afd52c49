// What every memory offers to the instance it belongs to, and the commit and undoing that all of them share.

import type { Duration } from "../durations.js";
import { InvalidValue } from "../json.js";
import type { ChangeLog, Entry } from "./changes.js";
import type { Codec } from "./codec.js";
import { adopt, bare, restore } from "./tracked.js";

/** An entry as it was stored. */
export interface Stored {
  readonly id: string;
  readonly value: Uint8Array;
  /** On the memory's clock; undefined: without end. */
  readonly deadline: number | undefined;
}

/** One memory of one instance. The containers that agents see are made by its kinds: map, set, list, value. */
export abstract class Root {
  constructor(
    readonly name: string,
    readonly log: ChangeLog,
    readonly codec: Codec,
  ) {}

  /** What the agent reads. */
  abstract view(): unknown;
  /** Every entry. */
  abstract entries(): Iterable<Entry>;
  /** The bare value of a live entry. */
  abstract rawOf(entry: Entry): unknown;
  /** Puts an adopted value in place, unnoticed. */
  protected abstract keep(entry: Entry, value: unknown): void;
  /** Brings back the entries there were at the last commit; their values follow. */
  protected abstract undoStructure(): void;
  /** The structure is the new ground for undoing. */
  protected abstract settleStructure(): void;
  /** Drops an expired entry, unnoticed. */
  abstract forget(entry: Entry): void;
  /** Removes entries until `limit` are left, least recently used first. */
  abstract evict(limit: number): void;
  /** Takes stored entries, least recently used first, into an empty memory. */
  abstract load(items: readonly Stored[]): void;
  /** Makes the memory equal to `value`: what assigning to it does. Throws InvalidInput if it is of another kind. */
  abstract assign(value: unknown): void;
  /** Gives the entry of a key, a member or an index a lifetime that starts now. */
  abstract expire(item: unknown, ttl: Duration): void;

  /** The value of `entry`, which can change without telling, is handed out. */
  handedOut(entry: Entry): void {
    const log = this.log;
    if (log.suspects.has(entry) || entry.log === undefined || entry.dead) {
      return;
    }
    if (!log.dirty.has(entry)) {
      entry.encoded = this.codec.encode(this.rawOf(entry), this.place(entry));
    }
    log.suspects.add(entry);
    log.activate();
  }

  /** Whether there is anything to commit. What was handed out and is what it was is forgotten by that. */
  settled(): boolean {
    const log = this.log;
    if (!log.active) {
      return true;
    }
    if (log.certain) {
      return false;
    }
    for (const entry of log.suspects) {
      if (!sameBytes(this.codec.encode(this.rawOf(entry), this.place(entry)), entry.encoded)) {
        return false;
      }
    }
    log.suspects = new Set();
    log.active = false;
    return true;
  }

  /** Takes the initial value; stored with the first commit, and not a reason for one. */
  fill(value: unknown): void {
    this.assign(value);
    const log = this.log;
    log.initial = new Set(log.dirty);
    log.reset();
    this.settle([...log.initial]);
    this.settleStructure();
  }

  /** The entries to write, encoded. Changes nothing. Throws InvalidValue naming the entry. */
  encode(): Map<Entry, Uint8Array> {
    const encoded = new Map<Entry, Uint8Array>();
    const writes = this.log.writes();
    for (const entry of writes) {
      encoded.set(entry, this.codec.encode(this.rawOf(entry), this.place(entry)));
    }
    for (const entry of this.log.suspects) {
      if (!writes.has(entry)) {
        const data = this.codec.encode(this.rawOf(entry), this.place(entry));
        if (!sameBytes(data, entry.encoded)) {
          encoded.set(entry, data);
        }
      }
    }
    return encoded;
  }

  /** What `encode` gave is on its way: it is the new ground for changes and undoing. */
  commit(encoded: ReadonlyMap<Entry, Uint8Array>): void {
    const log = this.log;
    this.settle([...encoded.keys()]);
    for (const entry of log.gone) {
      entry.log = undefined;
    }
    log.recency?.commit(log.gone);
    log.initial = new Set();
    log.reset();
    this.settleStructure();
  }

  /** Undoes everything since the last commit. */
  rollback(): void {
    const log = this.log;
    for (const entry of log.gone) {
      entry.dead = false;
    }
    const suspects = [...log.suspects];
    restore(log);
    this.undoStructure();
    const alive = new Set(this.entries());
    for (const [entry, saved] of log.saved) {
      if (alive.has(entry)) {
        entry.deadline = saved.deadline;
        this.keep(entry, saved.value);
      }
    }
    for (const entry of suspects) {
      if (alive.has(entry) && entry.encoded !== undefined) {
        this.keep(entry, adopt(this.codec.decode(entry.encoded, this.place(entry)), entry, this.codec.datesToText));
      }
    }
    log.undone(alive);
  }

  protected place(entry: Entry): string {
    return entry.id === "" ? this.name : `${this.name}[${entry.id}]`;
  }

  private settle(written: readonly Entry[]): void {
    for (const entry of written) {
      const value = this.rawOf(entry);
      const adopted = adopt(value, entry, this.codec.datesToText);
      if (adopted !== value) {
        this.keep(entry, adopted);
      }
    }
  }

  protected wrongKind(value: unknown, expected: string): InvalidValue {
    const what =
      value === null ? "null" : typeof value === "object" ? (value.constructor?.name ?? "object") : typeof value;
    return new InvalidValue(`memory '${this.name}' is a ${expected}; it cannot become a ${what}`, this.name);
  }
}

function sameBytes(left: Uint8Array, right: Uint8Array | undefined): boolean {
  if (right === undefined || left.length !== right.length) {
    return false;
  }
  return left.every((byte, index) => byte === right[index]);
}

/** What tells keys apart: themselves, or their JSON, if they are objects. */
export function slotOf(key: unknown, codec: Codec, name: string): unknown {
  if (typeof key === "object" && key !== null) {
    return `\0${codec.keyId(bare(key), `${name} key`)}`;
  }
  return typeof key === "string" && key.startsWith("\0") ? `\0${JSON.stringify(key)}` : key;
}

/** The memory behind a container that an agent sees. */
export const rootOf = new WeakMap<object, Root>();
