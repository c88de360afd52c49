// Where handlers log: the console, with the name of what runs, down to the level that the configuration says.

const LEVELS = ["debug", "info", "warn", "error"] as const;

/** Severities, least first. */
export type LogLevel = (typeof LEVELS)[number];

/** What handlers log with. Anything with these four methods will do in place of the console. */
export interface Logger {
  debug(...what: unknown[]): void;
  info(...what: unknown[]): void;
  warn(...what: unknown[]): void;
  error(...what: unknown[]): void;
}

/** A logger that puts `name` first. config: its section `logging` has `level` and may have `logger`. */
export function loggerFor(name: string, config: Readonly<Record<string, unknown>>): Logger {
  const section = (config["logging"] ?? {}) as { level?: unknown; logger?: Logger };
  const target = section.logger ?? console;
  const level = String(section.level ?? "info").toLowerCase();
  const lowest = Math.max(0, LEVELS.indexOf((level === "warning" ? "warn" : level) as LogLevel));
  const at = (rank: number, method: LogLevel) =>
    rank < lowest ? () => {} : (...what: unknown[]) => target[method](`[${name}]`, ...what);
  return { debug: at(0, "debug"), info: at(1, "info"), warn: at(2, "warn"), error: at(3, "error") };
}
