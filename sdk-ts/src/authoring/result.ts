// ProcessingResult: the outcome an agent reports as a value. Throwing is the other way to fail; see errors.ts.

import type { WirePayload } from "../protocol/wire.js";
import { InvalidValue, parseJson } from "./json.js";
import { decodePayload, RESULT_TYPE } from "./payload.js";
import { encodeJson } from "./values.js";

/** What became of a message. */
export type Status = "success" | "warning" | "error";

/** What a ProcessingResult may say besides its data and message. */
export interface ResultOptions<T = unknown> {
  data?: T | undefined;
  message?: string;
  metadata?: Record<string, unknown>;
}

const STATUSES: readonly unknown[] = ["success", "warning", "error"];

/**
 * What became of a message: a status, data, a text for people, and metadata. An `error` result is still a result: it
 * is committed and not retried. Throw to fail the message.
 */
export class ProcessingResult<T = unknown> {
  readonly data: T | undefined;
  readonly message: string;
  readonly metadata: Readonly<Record<string, unknown>>;

  constructor(
    readonly status: Status,
    options: ResultOptions<T> = {},
  ) {
    if (!STATUSES.includes(status)) {
      throw new InvalidValue(`status is ${JSON.stringify(status)}; expected one of ${STATUSES.join(", ")}`, "status");
    }
    this.data = options.data;
    this.message = options.message ?? "";
    this.metadata = options.metadata ?? {};
  }

  /** It worked. */
  static success<T>(data?: T, message = "", metadata: Record<string, unknown> = {}): ProcessingResult<T> {
    return new ProcessingResult<T>("success", { ...(data === undefined ? {} : { data }), message, metadata });
  }

  /** It worked, but someone should know something. */
  static warning<T>(message: string, data?: T, metadata: Record<string, unknown> = {}): ProcessingResult<T> {
    return new ProcessingResult<T>("warning", { ...(data === undefined ? {} : { data }), message, metadata });
  }

  /** It did not work, for a reason that repeating would not change. */
  static error<T>(
    message: string,
    options: { data?: T; errorType?: string; metadata?: Record<string, unknown> } = {},
  ): ProcessingResult<T> {
    const metadata = { error_type: options.errorType ?? "PROCESSING_ERROR", ...options.metadata };
    return new ProcessingResult<T>("error", {
      ...(options.data === undefined ? {} : { data: options.data }),
      message,
      metadata,
    });
  }

  /** Whether the status is not `error`; a warning is a success. */
  get isSuccess(): boolean {
    return this.status !== "error";
  }

  get isWarning(): boolean {
    return this.status === "warning";
  }

  get isError(): boolean {
    return this.status === "error";
  }

  /** UPPER_SNAKE kind of the error, or undefined. */
  get errorType(): string | undefined {
    const kind = this.metadata["error_type"];
    return typeof kind === "string" ? kind : undefined;
  }

  /** As it travels. Throws InvalidValue if the data has no JSON form. */
  toPayload(): WirePayload {
    const data = this.data === undefined ? null : this.data;
    const fields = { status: this.status, data, message: this.message, metadata: this.metadata };
    return { contentType: RESULT_TYPE, data: encodeJson(fields) };
  }

  /** The result in a reply. Any other value becomes the data of a success. */
  static fromPayload(payload: WirePayload): ProcessingResult {
    if (payload.contentType !== RESULT_TYPE) {
      return ProcessingResult.success(decodePayload(payload));
    }
    const fields = parseJson(payload.data);
    if (
      typeof fields !== "object" ||
      fields === null ||
      Array.isArray(fields) ||
      !STATUSES.includes(fields["status"])
    ) {
      throw new InvalidValue("the reply claims to be a processing result but has no valid status", "status");
    }
    const metadata = fields["metadata"];
    return new ProcessingResult(fields["status"] as Status, {
      data: fields["data"],
      message: typeof fields["message"] === "string" ? fields["message"] : "",
      metadata: typeof metadata === "object" && metadata !== null && !Array.isArray(metadata) ? metadata : {},
    });
  }
}

/** The value of a reply or chunk; a ProcessingResult if that is what was returned; undefined for no value. */
export function decodeReply(payload: WirePayload): unknown {
  return payload.contentType === RESULT_TYPE ? ProcessingResult.fromPayload(payload) : decodePayload(payload);
}
