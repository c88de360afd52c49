// Lengths of time, as people write them.

import { InvalidInput } from "../errors.js";

/** Milliseconds, or text such as `250ms`, `30s`, `10m`, `24h`, `7d`. */
export type Duration = number | string;

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Whole milliseconds, at least 1 for anything above zero. Throws InvalidInput naming `what` if it is none. */
export function milliseconds(value: Duration, what: string): number {
  const millis = typeof value === "number" ? value : parse(value);
  if (millis === undefined || !(millis >= 0 && millis <= Number.MAX_SAFE_INTEGER)) {
    throw new InvalidInput(
      `${what} is ${JSON.stringify(value)}; expected milliseconds, or text such as 250ms, 30s, 10m, 24h, 7d`,
      what,
    );
  }
  return millis > 0 ? Math.max(1, Math.round(millis)) : 0;
}

/** As `milliseconds`, but more than zero. */
export function positiveMilliseconds(value: Duration, what: string): number {
  const millis = milliseconds(value, what);
  if (millis === 0) {
    throw new InvalidInput(`${what} is ${JSON.stringify(value)}; expected a positive length of time`, what);
  }
  return millis;
}

function parse(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*$/.exec(text);
  return match === null ? undefined : Number(match[1]) * (UNITS[match[2] as string] as number);
}
