// Errors as failures and back: what one process throws, another throws with the same reason, message and causes.

import { encodePayload } from "../authoring/payload.js";
import { decodeReply } from "../authoring/result.js";
import { AmxError, Code } from "../errors.js";
import type { WireFailure, WirePayload } from "./wire.js";

const REASON = /^[A-Z][A-Z0-9_]{0,62}$/;

// Bounds on what one error may put on the wire, in bytes of UTF-8.
const MAX_MESSAGE = 4096;
const MAX_STACK = 16384;
const MAX_CAUSES = 8;
const MAX_METADATA = 32;
const MAX_DETAILS = 65536; // of all

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * The failure that tells another process of `error`, which may be anything that was thrown.
 *
 * Errors with an UPPER_SNAKE `reason` keep it; others get HANDLER_FAILED, are retryable, and name their type in
 * `metadata.exception`. Causes travel up to 8 deep; message and stack are cut to 4 KiB and 16 KiB; of the details those
 * travel that have a JSON form and fit into 64 KiB together. Never throws.
 */
export function failureFromError(error: unknown, source: string): WireFailure {
  const seen = new Set<unknown>();
  const failure = describe(error, source);
  let target = failure;
  let current = error;
  for (;;) {
    seen.add(current);
    const cause = causeOf(current);
    if (cause === undefined || cause === null || seen.has(cause) || seen.size >= MAX_CAUSES) return failure;
    target.cause = describe(cause, source);
    target = target.cause;
    current = cause;
  }
}

/** The error that `failure` describes, with its causes. Never throws. */
export function errorFromFailure(failure: WireFailure): AmxError {
  const chain = [failure];
  for (let cause = failure.cause; cause !== undefined && chain.length < MAX_CAUSES; cause = cause.cause) {
    chain.push(cause);
  }
  let error: AmxError | undefined;
  for (const link of chain.reverse()) {
    error = new AmxError(link.code || Code.UNKNOWN, link.reason || "UNKNOWN", link.message, {
      retryable: link.retryable,
      retryDelayMs: link.retryDelayMs,
      metadata: { ...link.metadata },
      details: link.details.map(detail),
      cause: error,
      remoteStack: link.stackTrace,
      source: link.source,
    });
  }
  return error as AmxError;
}

/** A failure without a stack: of something that happened before any handler ran. */
export function plainFailure(error: AmxError): WireFailure {
  return {
    code: error.code,
    reason: error.reason,
    message: error.message,
    retryable: error.retryable,
    retryDelayMs: error.retryDelayMs,
    metadata: { ...error.metadata },
    details: [],
    stackTrace: "",
    source: error.source,
  };
}

function describe(error: unknown, source: string): WireFailure {
  try {
    return described(error, source);
  } catch {
    // A getter of the error threw.
    return {
      code: Code.UNKNOWN,
      reason: "HANDLER_FAILED",
      message: "an error that cannot be described was thrown",
      retryable: true,
      retryDelayMs: 0,
      metadata: {},
      details: [],
      stackTrace: "",
      source: text(source, 1024),
    };
  }
}

function described(error: unknown, source: string): WireFailure {
  const said = (typeof error === "object" && error !== null ? error : {}) as Record<string, unknown>;
  const named = typeof said["reason"] === "string" && REASON.test(said["reason"]);
  const reason = named ? (said["reason"] as string) : "HANDLER_FAILED";
  const own = error instanceof AmxError;
  const code = own || named ? said["code"] : undefined;
  const metadata: Record<string, string> = {};
  if (typeof said["metadata"] === "object" && said["metadata"] !== null) {
    for (const [name, value] of Object.entries(said["metadata"]).slice(0, MAX_METADATA)) {
      metadata[text(name, 256)] = text(String(value), 1024);
    }
  }
  if (!own) metadata["exception"] = text(typeOf(error), 256);
  const delay = said["retryDelayMs"];
  const message = error instanceof Error ? error.message || error.name : shown(error);
  return {
    code: typeof code === "number" && Number.isInteger(code) && code > 0 && code <= 16 ? code : Code.UNKNOWN,
    reason,
    message: text(message, MAX_MESSAGE),
    // An error nobody classified may be a passing trouble: whether it is repeated is the retry policy's decision.
    retryable: typeof said["retryable"] === "boolean" ? said["retryable"] : !named,
    retryDelayMs: typeof delay === "number" && delay > 0 && delay < 2 ** 53 ? Math.floor(delay) : 0,
    metadata,
    details: own ? detailsOf(error.details) : [],
    stackTrace: text((own && error.remoteStack) || (error instanceof Error ? (error.stack ?? "") : ""), MAX_STACK),
    source: text((own && error.source) || source, 1024),
  };
}

function detailsOf(values: readonly unknown[]): WirePayload[] {
  const details: WirePayload[] = [];
  let room = MAX_DETAILS;
  for (const value of values) {
    try {
      const payload = encodePayload(value);
      room -= payload.data.length + 16;
      if (room < 0) break;
      details.push(payload);
    } catch {
      // What has no JSON form stays here.
    }
  }
  return details;
}

function detail(payload: WirePayload): unknown {
  try {
    return decodeReply(payload);
  } catch {
    return payload.data.slice();
  }
}

function causeOf(error: unknown): unknown {
  try {
    return error instanceof Error ? error.cause : undefined;
  } catch {
    return undefined;
  }
}

function typeOf(error: unknown): string {
  if (error instanceof Error) return error.constructor?.name || error.name || "Error";
  return error === null ? "null" : typeof error;
}

function shown(error: unknown): string {
  if (typeof error === "string") return error || "an empty text was thrown";
  try {
    return JSON.stringify(error) ?? String(error);
  } catch {
    return String(error);
  }
}

/** At most `limit` bytes of well-formed text, marked where something was cut. */
function text(value: string, limit: number): string {
  const whole = (typeof value === "string" ? value : String(value)).toWellFormed();
  if (whole.length * 3 <= limit) return whole;
  const data = encoder.encode(whole);
  if (data.length <= limit) return whole;
  let end = limit - 8;
  while (end > 0 && ((data[end] ?? 0) & 0xc0) === 0x80) end--; // not in the middle of a character
  return `${decoder.decode(data.subarray(0, end))} [cut]`;
}
