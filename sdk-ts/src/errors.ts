// The errors of the SDK. A reason and a message survive every hop; causes become `cause` again on the other side.

/** google.rpc.Code numbers. */
export const Code = {
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

/** What an AmxError may say besides code, reason and message. */
export interface AmxErrorOptions {
  retryable?: boolean;
  retryDelayMs?: number;
  metadata?: Readonly<Record<string, string>>;
  /** Values with a JSON form, for whoever catches it. */
  details?: readonly unknown[];
  cause?: unknown;
  /** Stack trace of the process the error came from, in the format of its language. */
  remoteStack?: string;
  source?: string;
}

/**
 * Something did not happen, and this is why.
 *
 * `code` is a google.rpc.Code number; `reason` is UPPER_SNAKE and stable across releases and languages; `message` is
 * one sentence for a person. `retryable`: the same call may succeed later unchanged; `retryDelayMs` advises when (0: no
 * advice). `metadata` holds facts for programs, `details` values the application attached. `remoteStack` is the stack
 * trace of the process it came from, or empty; `source` where it failed (`engine`, or `agent/key#handler`), or empty.
 */
export class AmxError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly retryable: boolean;
  readonly retryDelayMs: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly details: readonly unknown[];
  readonly remoteStack: string;
  readonly source: string;

  constructor(code: number, reason: string, message: string, options: AmxErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.reason = reason;
    this.retryable = options.retryable ?? false;
    this.retryDelayMs = options.retryDelayMs ?? 0;
    this.metadata = options.metadata ?? {};
    this.details = options.details ?? [];
    this.remoteStack = options.remoteStack ?? "";
    this.source = options.source ?? "";
  }

  override get name(): string {
    return "AmxError";
  }
}

/** What a HandlerError may say besides its message. */
export interface HandlerErrorOptions extends AmxErrorOptions {
  reason?: string;
  code?: number;
}

/**
 * Thrown by a handler to fail its message with a reason of its own:
 * `throw new HandlerError("seat 4A is taken", { reason: "SEAT_TAKEN" })` reaches the caller, in any language, with that
 * reason and message. Not retried unless `retryable` is true.
 */
export class HandlerError extends AmxError {
  constructor(message: string, options: HandlerErrorOptions = {}) {
    super(options.code ?? Code.UNKNOWN, options.reason ?? "HANDLER_FAILED", message, options);
  }

  override get name(): string {
    return "HandlerError";
  }
}

/** A class or definition cannot become an agent; the message names the culprit and the cure. */
export class DefinitionError extends AmxError {
  constructor(message: string, reason = "INVALID_DEFINITION") {
    super(Code.INVALID_ARGUMENT, reason, message);
  }

  override get name(): string {
    return "DefinitionError";
  }
}

/** A value does not fit what is declared. `pointer` names the place, e.g. `order.items[2].price`. */
export class InvalidInput extends AmxError {
  readonly pointer: string;

  constructor(message: string, pointer = "", reason = "INVALID_INPUT") {
    super(Code.INVALID_ARGUMENT, reason, message, pointer ? { metadata: { field: pointer } } : {});
    this.pointer = pointer;
  }

  override get name(): string {
    return "InvalidInput";
  }
}
