// Which entries of a bounded memory were used last. The engine learns it with each commit, and agrees.

import type { Entry } from "./changes.js";

/** Entries in order of use. What a handler that failed has read stays used. */
export class Recency {
  // As of the last commit. Removed entries keep their place until the next one, for the case that they come back.
  private order = new Set<Entry>();
  /** Read or written since the last commit, in the order of their last use. */
  private used = new Set<Entry>();

  /** Begins with these entries, least recently used first. */
  load(entries: Iterable<Entry>): void {
    this.order = new Set(entries);
    this.used = new Set();
  }

  /** `entry` was read or written. */
  use(entry: Entry): void {
    this.used.delete(entry);
    this.used.add(entry);
  }

  /** Whether anything was used since the last commit. */
  get any(): boolean {
    return this.used.size > 0;
  }

  /** The least recently used entries, at most `count`. */
  oldest(count: number): Entry[] {
    this.settle();
    const found: Entry[] = [];
    for (const entry of this.order) {
      if (found.length >= count) {
        break;
      }
      if (!entry.dead) {
        found.push(entry);
      }
    }
    return found;
  }

  /** Entries to be written, with their data, and entries only read, in order of use: as the engine is told. */
  steps(encoded: ReadonlyMap<Entry, Uint8Array>): [Entry, Uint8Array | undefined][] {
    for (const entry of encoded.keys()) {
      this.used.add(entry); // changed without telling
    }
    this.settle();
    const steps: [Entry, Uint8Array | undefined][] = [];
    for (const entry of this.used) {
      if (!entry.dead) {
        steps.push([entry, encoded.get(entry)]);
      }
    }
    return steps;
  }

  /** The engine has been told; `gone` were removed. */
  commit(gone: Iterable<Entry>): void {
    for (const entry of gone) {
      this.order.delete(entry);
    }
    this.used = new Set();
  }

  /** Changes since the last commit are undone; `alive` are left. */
  undo(alive: ReadonlySet<Entry>): void {
    this.order = new Set([...this.order].filter((entry) => alive.has(entry)));
    this.used = new Set([...this.used].filter((entry) => alive.has(entry)));
  }

  /** `entry` expired. */
  forget(entry: Entry): void {
    this.order.delete(entry);
    this.used.delete(entry);
  }

  private settle(): void {
    for (const entry of this.used) {
      this.order.delete(entry);
      this.order.add(entry);
    }
  }
}
