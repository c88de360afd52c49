// Who keeps the event loop from everyone else: measured where handlers run, said in the log and to the engine.

import type { Environment } from "../protocol/environment.js";

/** A stretch of work without a pause that is worth a warning, in milliseconds. */
export const BLOCKING_MS = 500;
const WARN_EVERY_MS = 60_000;
const MOST_NAMES = 5;

/** Real milliseconds from an arbitrary beginning, for measuring how long something took. */
export const stopwatch: () => number = () => performance.now();

/** Watches how long handlers run without a pause. */
export class LoopWatch {
  private readonly log: Environment["log"];
  private longest = 0;
  private explained = 0;
  private readonly warned = new Map<string, number>();

  constructor(log: Environment["log"]) {
    this.log = log;
  }

  /** A handler has run for `ms` without a pause. */
  ran(name: string, ms: number): void {
    if (ms > this.longest) this.longest = ms;
    if (ms < BLOCKING_MS) return;
    this.explained += ms;
    this.warn(
      name,
      `handler ${name} blocked the event loop for ${seconds(ms)} s: nothing else could run, heartbeats included; ` +
        "move the slow part into a worker thread, or make it pause",
    );
  }

  /**
   * A timer came `ms` late. suspended: names of the handlers that were under way: one of them may have blocked after it
   * had waited for something, where nobody sees its name.
   */
  late(ms: number, suspended: () => Iterable<string>): void {
    const unexplained = ms - this.explained;
    this.explained = 0;
    if (unexplained < BLOCKING_MS) return;
    const names = [...new Set(suspended())];
    const whom = names.length
      ? `these handlers were under way: ${names.slice(0, MOST_NAMES).join(", ")}${names.length > MOST_NAMES ? ", …" : ""}`
      : "no handler was under way";
    this.warn("", `the event loop was blocked for ${seconds(ms)} s, heartbeats included; ${whom}`);
  }

  /** The longest stretch since the last call of this, in milliseconds. */
  takeLongest(): number {
    const longest = this.longest;
    this.longest = 0;
    return longest;
  }

  private warn(name: string, text: string): void {
    const now = stopwatch();
    if (now - (this.warned.get(name) ?? Number.NEGATIVE_INFINITY) < WARN_EVERY_MS) return;
    this.warned.set(name, now);
    this.log("warn", text);
  }
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(2);
}
