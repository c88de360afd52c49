// When waiting things expire: one coarse timer for all of them. What expiry means is the waiter's business.

import type { Environment, Timer } from "./environment.js";

const TICK_MS = 20; // things expire up to this much late, never early
const SWEEP_AT = 1024;

/** Something that waits with a deadline. */
export interface Expiring {
  /** Its time has come. Must not throw. */
  expire(): void;
}

export type Bucket = Set<Expiring>;

/** Waiters and their deadlines. Adding and discarding take about constant time, and keep nothing of what is discarded. */
export class Deadlines {
  private readonly environment: Pick<Environment, "now" | "callAt">;
  private buckets = new Map<number, Bucket>();
  private ticks: number[] = []; // sorted: the tick of every bucket
  private sweepAt = SWEEP_AT;
  private timer: Timer | undefined;
  private timerTick = 0;

  constructor(environment: Pick<Environment, "now" | "callAt">) {
    this.environment = environment;
  }

  /** `waiter.expire()` is called in `ms`, unless it is deleted from the bucket that this returns. */
  add(waiter: Expiring, ms: number): Bucket {
    const tick = Math.floor((this.environment.now() + ms) / TICK_MS) + 1;
    const bucket = this.buckets.get(tick) ?? this.open(tick);
    bucket.add(waiter);
    return bucket;
  }

  /** Forgets every waiter; nothing expires any more. */
  close(): void {
    this.timer?.cancel();
    this.timer = undefined;
    this.buckets.clear();
    this.ticks = [];
  }

  private open(tick: number): Bucket {
    if (this.buckets.size >= this.sweepAt) {
      // Most waiters are done long before their time; without this their empty buckets would pile up.
      this.buckets = new Map([...this.buckets].filter(([, bucket]) => bucket.size));
      this.ticks = [...this.buckets.keys()].sort((a, b) => a - b);
      this.sweepAt = Math.max(SWEEP_AT, 2 * this.buckets.size);
    }
    const bucket: Bucket = new Set();
    this.buckets.set(tick, bucket);
    // Timeouts are mostly alike, so that the newest deadline is mostly the last.
    let at = this.ticks.length;
    while (at > 0 && (this.ticks[at - 1] as number) > tick) at--;
    this.ticks.splice(at, 0, tick);
    if (this.timer === undefined || tick < this.timerTick) this.schedule();
    return bucket;
  }

  private schedule(): void {
    this.timer?.cancel();
    this.timerTick = this.ticks[0] as number;
    this.timer = this.environment.callAt(this.timerTick * TICK_MS, () => this.fire());
  }

  private fire(): void {
    this.timer = undefined;
    const now = Math.floor(this.environment.now() / TICK_MS);
    const due: Bucket[] = [];
    let passed = 0;
    for (const tick of this.ticks) {
      const bucket = this.buckets.get(tick) as Bucket;
      if (tick > now && bucket.size) break;
      passed++;
      this.buckets.delete(tick);
      if (bucket.size) due.push(bucket);
    }
    this.ticks.splice(0, passed);
    if (this.ticks.length) this.schedule();
    for (const bucket of due) {
      for (const waiter of bucket) {
        bucket.delete(waiter);
        waiter.expire();
      }
    }
  }
}
