// Node as the SDK's environment, but for its clock, which stands still until it is moved.

import type { Environment, Timer } from "../src/protocol/environment.js";
import { consoleLog, nodeEnvironment } from "../src/transport/node.js";

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

  constructor() {
    const node = nodeEnvironment(consoleLog);
    this.host = node.host;
    this.language = node.language;
    this.randomId = node.randomId;
  }

  readonly randomId: () => string;
  readonly log = consoleLog;

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
    setImmediate(callback);
  }

  /** Resolves when nothing is left to do without further input or time. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < QUIET_ROUNDS; ) {
      const before = this.noticed;
      await new Promise((resolve) => setImmediate(resolve));
      quiet = this.noticed === before ? quiet + 1 : 0;
    }
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
