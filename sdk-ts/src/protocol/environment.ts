// What the SDK needs of whatever runs it: time, timers, and a place for its logs. Node's is in transport/node.ts.

/** How important a line of the log is. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** A timer that was set. */
export interface Timer {
  cancel(): void;
}

/** Where the SDK runs. Timers keep the process alive. */
export interface Environment {
  /**
   * The clock of heartbeats, deadlines and the lifetimes of what is remembered: milliseconds from an arbitrary
   * beginning; never jumps. In tests it stands still until it is moved.
   */
  now(): number;
  /** Calls back once, when `now()` has reached `at` or later. */
  callAt(at: number, callback: () => void): Timer;
  /** Calls back once, after so many milliseconds of real time: waits that are no part of the protocol. */
  wait(ms: number, callback: () => void): Timer;
  /** Calls back soon, once everything that is due now has run: what is said until then leaves together. */
  defer(callback: () => void): void;
  /** A random text of 32 hexadecimal digits. */
  randomId(): string;
  /** Writes a line of the log. */
  log(level: LogLevel, message: string, error?: unknown): void;
  /** Where this is, for people: host name and process id. */
  readonly host: string;
  /** Language and runtime, e.g. `typescript node 20.11.0`. */
  readonly language: string;
}
