// A memory that is one value, read and assigned as a property.

import type { Duration } from "../durations.js";
import { positiveMilliseconds } from "../durations.js";
import { type ChangeLog, Entry } from "./changes.js";
import type { Codec } from "./codec.js";
import { Root, type Stored } from "./root.js";
import { bare, watched } from "./tracked.js";

/** One value. Where the initial one is `undefined`, assigning that removes the entry; elsewhere it has no JSON form. */
export class ValueRoot extends Root {
  private readonly entry: Entry;
  private value: unknown;

  /** absent: the initial value is undefined, which is what removing the entry gives back. */
  constructor(
    name: string,
    log: ChangeLog,
    codec: Codec,
    private readonly absent: boolean,
  ) {
    super(name, log, codec);
    this.entry = new Entry(log, null, "");
  }

  view(): unknown {
    const value = this.value;
    return typeof value === "object" && value !== null ? watched(value, this, this.entry) : value;
  }

  assign(value: unknown): void {
    this.log.replacing(this.entry, this.value);
    this.value = bare(value);
    if (value === undefined && this.absent) {
      this.log.dirty.delete(this.entry);
      this.log.suspects.delete(this.entry);
      this.log.removed.add("");
    } else {
      this.log.removed.delete("");
    }
  }

  expire(_: unknown, ttl: Duration): void {
    const millis = positiveMilliseconds(ttl, "ttl");
    this.log.replacing(this.entry, this.value);
    this.log.livesFor(this.entry, millis);
  }

  /** The initial value is what absence means; it is not stored. */
  override fill(value: unknown): void {
    this.value = value;
    this.entry.deadline = undefined;
  }

  entries(): Iterable<Entry> {
    return [this.entry];
  }

  rawOf(): unknown {
    return this.value;
  }

  protected keep(_: Entry, value: unknown): void {
    this.value = value;
  }

  protected undoStructure(): void {}

  protected settleStructure(): void {}

  forget(): void {
    throw new Error("an expired value becomes the initial one");
  }

  evict(): void {}

  load(items: readonly Stored[]): void {
    for (const { value, deadline } of items) {
      this.fill(this.codec.decode(value, this.name));
      this.entry.deadline = deadline;
    }
  }
}
