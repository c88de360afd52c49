// Errors as the fixtures throw and show them.

import { AmxError, HandlerError, type HandlerErrorOptions } from "../src/index.js";

/** What `Failing.fail` and the operation `raise` are asked for. */
export interface Asked {
  readonly reason?: string;
  readonly message?: string;
  readonly code?: number;
  readonly retryable?: boolean;
  readonly metadata?: Record<string, string>;
  readonly details?: unknown[];
  readonly cause?: Asked;
}

/** The error that is asked for, with its cause. */
export function thrown(asked: Asked): Error {
  const { reason, message = "", cause, ...rest } = asked;
  if (!reason) {
    return cause ? new Error(message, { cause: thrown(cause) }) : new Error(message);
  }
  const options: HandlerErrorOptions = { reason };
  for (const name of ["code", "retryable", "metadata", "details"] as const) {
    if (rest[name] !== undefined) {
      Object.assign(options, { [name]: rest[name] });
    }
  }
  return new HandlerError(message, cause ? { ...options, cause: thrown(cause) } : options);
}

/** An error as the Interpreter shows it, without what is empty. */
export function shown(error: unknown): Record<string, unknown> {
  const fields: Record<string, unknown> =
    error instanceof AmxError
      ? {
          code: error.code,
          reason: error.reason,
          message: error.message,
          retryable: error.retryable,
          metadata: { ...error.metadata },
          details: [...error.details],
          source: error.source,
        }
      : {
          code: 2,
          reason: "HANDLER_FAILED",
          message: error instanceof Error ? error.message || error.name : String(error),
          retryable: true,
        };
  const cause = error instanceof Error ? error.cause : undefined;
  if (cause !== undefined) {
    fields["cause"] = shown(cause);
  }
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => !isEmpty(value)));
}

function isEmpty(value: unknown): boolean {
  if (value === "" || value === false || value === undefined || value === null) {
    return true;
  }
  return typeof value === "object" && Object.keys(value).length === 0;
}
