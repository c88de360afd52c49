// Functions that the tests run on threads.

import { threadId } from "node:worker_threads";

export function shortest(stops) {
  return [...stops].sort((a, b) => a - b);
}

/** Computes, without a break, until the first number of a shared array is not 0. */
export function spin(flag) {
  while (Atomics.load(flag, 0) === 0);
  return threadId;
}

export function which() {
  return threadId;
}

export function fail() {
  throw Object.assign(new RangeError("no road leads there"), { reason: "NO_ROAD", from: ["A"] });
}

export function leave() {
  process.exit(3);
}

export function uncopied() {
  return () => undefined;
}
