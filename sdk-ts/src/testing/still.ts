// An environment whose clock stands still until it is moved. Needs no Node.

import type { Environment, LogLevel, Timer } from "../protocol/environment.js";

const QUIET_ROUNDS = 4; // what is due runs in the round after the one that notices it

interface Due {
  readonly at: number;
  readonly callback: () => void;
}

/** The environment, and its clock. */
export class StillEnvironment implements Environment {
  readonly host: string;
  readonly language: string;
  private clock = 1_000_000;
  private readonly due = new Set<Due>();
  private noticed = 0; // what has happened so far

  /** log: where the SDK's lines go; nowhere unless given. */
  constructor(log: Environment["log"] = () => {}, place: { host?: string; language?: string } = {}) {
    this.log = log;
    this.host = place.host ?? "test";
    this.language = place.language ?? "typescript";
  }

  readonly log: (level: LogLevel, message: string, error?: unknown) => void;

  randomId(): string {
    return crypto.randomUUID().replaceAll("-", "");
  }

  now(): number {
    return this.clock;
  }

  callAt(at: number, callback: () => void): Timer {
    const due = { at, callback };
    this.due.add(due);
    this.noticed += 1;
    return { cancel: () => this.due.delete(due) };
  }

  wait(ms: number, callback: () => void): Timer {
    return this.callAt(this.clock + ms, callback);
  }

  defer(callback: () => void): void {
    this.noticed += 1;
    soon(callback);
  }

  /** Resolves when nothing is left to do without further input or time. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < QUIET_ROUNDS; ) {
      const before = this.noticed;
      await new Promise<void>((resolve) => soon(resolve));
      quiet = this.noticed === before ? quiet + 1 : 0;
    }
  }

  /** Moves the clock at once, and then does what fell due meanwhile. */
  async jump(ms: number): Promise<void> {
    this.clock += ms;
    for (const one of [...this.due].filter(({ at }) => at <= this.clock).sort((left, right) => left.at - right.at)) {
      if (this.due.delete(one)) {
        one.callback();
      }
    }
    await this.settle();
  }

  /** Moves the clock from one due time to the next, and lets everything happen at each. */
  async advance(ms: number): Promise<void> {
    await this.settle();
    const end = this.clock + ms;
    for (;;) {
      let next: Due | undefined;
      for (const one of this.due) {
        if (one.at <= end && (next === undefined || one.at < next.at)) {
          next = one;
        }
      }
      if (next === undefined) {
        break;
      }
      this.due.delete(next);
      this.clock = Math.max(this.clock, next.at);
      this.noticed += 1;
      next.callback();
      await this.settle();
    }
    this.clock = end;
    await this.settle();
  }
}

/** Calls back when what is ready now has run. */
const soon: (callback: () => void) => void =
  typeof setImmediate === "function"
    ? (callback) => void setImmediate(callback)
    : (callback) => void setTimeout(callback, 0);
