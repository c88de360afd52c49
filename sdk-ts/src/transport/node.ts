// Node as the SDK's environment: its clock, its timers, its console.

import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { Environment, LogLevel, Timer } from "../protocol/environment.js";

const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** Writes lines of the log. */
export type LogSink = (level: LogLevel, message: string, error?: unknown) => void;

/** Writes warnings and errors to standard error; everything if AMX_LOG is `debug`, from info on if it is `info`. */
export const consoleLog: LogSink = (level, message, error) => {
  const wanted = process.env["AMX_LOG"]?.toLowerCase();
  if (level === "debug" && wanted !== "debug") return;
  if (level === "info" && wanted !== "info" && wanted !== "debug") return;
  const line = `${new Date().toISOString()} ${level.toUpperCase()} amx: ${message}`;
  if (error === undefined) console.error(line);
  else console.error(line, error);
};

/** Node, logging to `sink`. */
export function nodeEnvironment(sink: LogSink = consoleLog): Environment {
  const now = (): number => performance.now();
  const wait = (ms: number, callback: () => void): Timer => {
    const handle = setTimeout(callback, Math.min(Math.max(0, ms), LONGEST_TIMEOUT_MS));
    return { cancel: () => clearTimeout(handle) };
  };
  return {
    now,
    // Rounded up: a timer of 1.2 ms must not come after 1 ms.
    callAt: (at, callback) => wait(Math.ceil(at - now()), callback),
    wait,
    defer: (callback) => void setImmediate(callback),
    randomId: () => randomBytes(16).toString("hex"),
    log: sink,
    host: `${hostname()}:${process.pid}`,
    language: `typescript node ${process.versions.node}`,
  };
}
