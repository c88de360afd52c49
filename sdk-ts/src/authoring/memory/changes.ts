// What changed in a memory since its last commit, and what it takes to undo that. Containers report here.

import { Expiry } from "./expiry.js";
import type { Recency } from "./recency.js";

/** One entry of a memory. */
export class Entry {
  /** When it expires, on the memory's clock; undefined: without end. */
  deadline: number | undefined = undefined;
  /** Removed since the last commit. */
  dead = false;
  /** What was last committed; known of values that can change without telling, once they were handed out. */
  encoded: Uint8Array | undefined = undefined;

  /**
   * log: where its changes are noted; undefined once it is gone for good. key: mapping key, set member or list ordinal.
   * id: its id on the wire.
   */
  constructor(
    public log: ChangeLog | undefined,
    readonly key: unknown,
    readonly id: string,
  ) {}
}

/** The value and deadline that an entry had at the last commit. */
interface Saved {
  readonly value: unknown;
  readonly deadline: number | undefined;
}

/** The changes of one memory. */
export class ChangeLog {
  /** There may be something to commit. */
  active = false;
  /** Everything was removed, before what `removed` and `dirty` say. */
  cleared = false;
  /** Entries to write. */
  dirty = new Set<Entry>();
  /** Ids to remove. */
  removed = new Set<string>();
  /** Entries removed since. */
  gone: Entry[] = [];
  /** What changed entries were. */
  saved = new Map<Entry, Saved>();
  /** Contents that changed containers inside values had at the last commit. */
  snapshots = new Map<object, object>();
  /** Entries of the initial value that were never committed. */
  initial = new Set<Entry>();
  /** Entries that were handed out and whose values can change without telling. */
  suspects = new Set<Entry>();
  readonly expiring = new Expiry();

  /** ttl: milliseconds that entries live; undefined: without end. recency: where the least recently used go first. */
  constructor(
    private readonly onChange: () => void,
    private readonly now: () => number,
    private readonly ttl: number | undefined,
    readonly recency: Recency | undefined,
  ) {}

  /** Whether something was written or removed; what was only handed out is not known. */
  get certain(): boolean {
    return this.dirty.size > 0 || this.removed.size > 0 || this.cleared || this.gone.length > 0;
  }

  /** Everything is committed, or undone. */
  reset(): void {
    this.active = false;
    this.cleared = false;
    this.dirty = new Set();
    this.removed = new Set();
    this.gone = [];
    this.saved = new Map();
    this.snapshots = new Map();
    this.suspects = new Set();
  }

  /** Everything since the last commit is undone; these entries are left. */
  undone(alive: ReadonlySet<Entry>): void {
    this.reset();
    this.recency?.undo(alive);
    this.expiring.expectOnly(alive);
  }

  /** There is something to commit. */
  activate(): void {
    if (!this.active) {
      this.active = true;
      this.onChange();
    }
  }

  /** `entry` is new, or has a new value; it lives as long as the memory says. */
  wrote(entry: Entry): void {
    this.dirty.add(entry);
    if (this.ttl !== undefined) {
      this.livesUntil(entry, this.now() + this.ttl);
    } else if (entry.deadline !== undefined) {
      entry.deadline = undefined;
      this.expiring.discard(entry);
    }
    this.recency?.use(entry);
    this.activate();
  }

  /** The entries to write. */
  writes(): Set<Entry> {
    if (this.initial.size === 0) {
      return this.dirty;
    }
    return new Set([...this.initial, ...this.dirty].filter((entry) => !entry.dead));
  }

  /** `entry`, which was just written, has a lifetime of its own. */
  livesFor(entry: Entry, millis: number): void {
    this.livesUntil(entry, this.now() + millis);
  }

  /** `entry`, which was just written, expires at `deadline`. */
  livesUntil(entry: Entry, deadline: number): void {
    entry.deadline = deadline;
    this.expiring.expect(entry, deadline);
  }

  /** Whether writing the same value again would change the lifetime of `entry`. */
  renews(entry: Entry): boolean {
    return this.ttl !== undefined || entry.deadline !== undefined;
  }

  /** `entry` gets another value than `old`. */
  replacing(entry: Entry, old: unknown): void {
    if (!this.saved.has(entry)) {
      this.saved.set(entry, { value: old, deadline: entry.deadline });
    }
    this.wrote(entry);
  }

  /** `entry` is removed; `old` was its value. */
  took(entry: Entry, old: unknown): void {
    if (!this.saved.has(entry)) {
      this.saved.set(entry, { value: old, deadline: entry.deadline });
    }
    entry.dead = true;
    this.gone.push(entry);
    this.dirty.delete(entry);
    this.suspects.delete(entry);
    this.expiring.discard(entry);
    this.removed.add(entry.id);
    this.activate();
  }

  /** Everything was removed, each entry by `took`. */
  tookAll(): void {
    this.cleared = true;
    this.removed = new Set();
  }

  /** A container inside the value of `entry`, which is `value`, is about to change. */
  beforeNestedChange(entry: Entry, value: unknown, container: object): void {
    if (!this.snapshots.has(container)) {
      this.snapshots.set(container, Array.isArray(container) ? container.slice() : { ...container });
    }
    if (!this.saved.has(entry)) {
      this.saved.set(entry, { value, deadline: entry.deadline });
    }
    if (!entry.dead) {
      const deadline = entry.deadline;
      this.wrote(entry);
      if (deadline !== undefined && this.ttl === undefined) {
        this.livesUntil(entry, deadline); // an entry with an end does not lose it by a detail
      }
    }
  }

  /** `entry` was read, and is recently used by that. */
  touched(entry: Entry): void {
    this.recency?.use(entry);
  }
}
