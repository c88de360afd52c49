// An environment whose time stands still until it is moved, for tests.

import type { Environment, LogLevel, Timer } from "../../src/protocol/environment.js";

/** One line of the log. */
export interface LogLine {
  readonly level: LogLevel;
  readonly message: string;
}

/** Time, timers and the log of a test. Waits of real time stand still, too: they are moved by `pass`. */
export class TestEnvironment implements Environment {
  readonly host = "test:1";
  readonly language = "typescript test";
  readonly lines: LogLine[] = [];
  private time = 1_000;
  private real = 0;
  private ids = 0;
  private timers: { at: number; callback: () => void; real: boolean }[] = [];
  private soon: (() => void)[] = [];

  now(): number {
    return this.time;
  }

  callAt(at: number, callback: () => void): Timer {
    return this.timer(at, callback, false);
  }

  wait(ms: number, callback: () => void): Timer {
    return this.timer(this.real + ms, callback, true);
  }

  defer(callback: () => void): void {
    this.soon.push(callback);
  }

  randomId(): string {
    this.ids++;
    return this.ids.toString(16).padStart(32, "0");
  }

  log(level: LogLevel, message: string): void {
    this.lines.push({ level, message });
  }

  /** Moves the protocol's clock, and calls what becomes due, in order. */
  advance(ms: number): void {
    this.time = this.fire(this.time + ms, false);
  }

  /** Moves the clock without anybody being called: as if the event loop were blocked. */
  block(ms: number): void {
    this.time += ms;
  }

  /** Lets waits of real time pass. */
  pass(ms: number): void {
    this.real = this.fire(this.real + ms, true);
  }

  /** Runs what was deferred, and promises, until nothing is left to do. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 3; quiet++) {
      await new Promise((resolve) => setImmediate(resolve));
      const due = this.soon;
      this.soon = [];
      if (due.length) quiet = -1;
      for (const callback of due) callback();
    }
  }

  private timer(at: number, callback: () => void, real: boolean): Timer {
    const timer = { at, callback, real };
    this.timers.push(timer);
    return {
      cancel: () => {
        this.timers = this.timers.filter((other) => other !== timer);
      },
    };
  }

  private fire(until: number, real: boolean): number {
    for (;;) {
      const due = this.timers
        .filter((timer) => timer.real === real && timer.at <= until)
        .sort((a, b) => a.at - b.at)[0];
      if (due === undefined) return until;
      this.timers = this.timers.filter((timer) => timer !== due);
      if (real) this.real = Math.max(this.real, due.at);
      else this.time = Math.max(this.time, due.at);
      due.callback();
    }
  }
}
