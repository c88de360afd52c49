// Entries of a memory by when they expire.

import type { Entry } from "./changes.js";

interface Expected {
  readonly at: number;
  readonly entry: Entry;
}

/**
 * Entries with a deadline, soonest first. What is expected may be earlier than an entry's deadline, which is looked at
 * when its time comes: rewriting an entry, which puts its deadline off, therefore costs nothing here.
 */
export class Expiry {
  private readonly due = new Map<Entry, number>();
  private heap: Expected[] = []; // those of `due`, and some that no longer count

  /** Whether anything expires at all. */
  get any(): boolean {
    return this.due.size > 0;
  }

  /** `entry` expires at `deadline` now. */
  expect(entry: Entry, deadline: number): void {
    const known = this.due.get(entry);
    if (known !== undefined && known <= deadline) {
      return;
    }
    this.due.set(entry, deadline);
    this.push({ at: deadline, entry });
    if (this.heap.length > 2 * this.due.size + 64) {
      this.rebuild();
    }
  }

  /** These entries expire at their deadlines, and no others. */
  expectOnly(entries: Iterable<Entry>): void {
    this.due.clear();
    for (const entry of entries) {
      if (entry.deadline !== undefined) {
        this.due.set(entry, entry.deadline);
      }
    }
    this.rebuild();
  }

  /** `entry` is gone, or lives without end. */
  discard(entry: Entry): void {
    this.due.delete(entry);
  }

  /** Takes out the entries that are over at `now`, and returns them. */
  take(now: number): Entry[] {
    const over: Entry[] = [];
    for (let first = this.heap[0]; first !== undefined && first.at <= now; first = this.heap[0]) {
      this.pop();
      if (this.due.get(first.entry) !== first.at) {
        continue;
      }
      this.due.delete(first.entry);
      const deadline = first.entry.deadline;
      if (deadline !== undefined && deadline > now) {
        this.expect(first.entry, deadline);
      } else {
        over.push(first.entry);
      }
    }
    return over;
  }

  private rebuild(): void {
    this.heap = [...this.due].map(([entry, at]) => ({ at, entry })).sort((left, right) => left.at - right.at);
  }

  private push(one: Expected): void {
    const heap = this.heap;
    let at = heap.length;
    heap.push(one);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((heap[parent] as Expected).at <= one.at) {
        break;
      }
      heap[at] = heap[parent] as Expected;
      at = parent;
    }
    heap[at] = one;
  }

  private pop(): void {
    const heap = this.heap;
    const last = heap.pop() as Expected;
    if (heap.length === 0) {
      return;
    }
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) {
        break;
      }
      if (child + 1 < heap.length && (heap[child + 1] as Expected).at < (heap[child] as Expected).at) {
        child += 1;
      }
      if ((heap[child] as Expected).at >= last.at) {
        break;
      }
      heap[at] = heap[child] as Expected;
      at = child;
    }
    heap[at] = last;
  }
}
