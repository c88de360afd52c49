// Between the stubs' messages and the SDK's own view of what travels, for the engine's end of a harness.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Failure, Payload } from "../gen/amx/v1/common_pb.js";
import { FailureSchema } from "../gen/amx/v1/common_pb.js";
import { type Event, MessageSchema, type Message as ProtoMessage } from "../gen/amx/v1/message_pb.js";
import type { IncomingMessage, OutgoingEvent, OutgoingMessage, WireFailure, WirePayload } from "../protocol/wire.js";

/** A payload as the SDK sees it. */
export function wirePayload(payload: Payload | undefined): WirePayload {
  return { contentType: payload?.contentType ?? "", data: payload?.data ?? new Uint8Array(0) };
}

/** A failure as the SDK sees it. */
export function wireFailure(failure: Failure): WireFailure {
  const { code, reason, message, retryable, retryDelayMs, metadata, details, stackTrace, source, cause } = failure;
  return {
    code,
    reason,
    message,
    retryable,
    retryDelayMs: Number(retryDelayMs),
    metadata,
    details: details.map(wirePayload),
    stackTrace,
    source,
    ...(cause === undefined ? {} : { cause: wireFailure(cause) }),
  };
}

/** A failure as it travels. */
export function failureMessage(failure: WireFailure): Failure {
  const { retryDelayMs, details, cause, ...rest } = failure;
  return create(FailureSchema, {
    ...rest,
    retryDelayMs: BigInt(retryDelayMs),
    details: details.map((one) => ({ ...one })),
    ...(cause === undefined ? {} : { cause: failureMessage(cause) }),
  } as MessageInitShape<typeof FailureSchema>);
}

/** A message to send, as it travels. */
export function protoMessage(message: OutgoingMessage): ProtoMessage {
  const { ttlMs = 0, delayMs = 0, sentAtMs = 0, headers = {}, ...rest } = message;
  return create(MessageSchema, {
    ...rest,
    headers: { ...headers },
    ttlMs: BigInt(ttlMs),
    delayMs: BigInt(delayMs),
    sentAtMs: BigInt(sentAtMs),
  } as MessageInitShape<typeof MessageSchema>);
}

/** A message as it arrives. */
export function incoming(message: ProtoMessage): IncomingMessage {
  const { payload, ttlMs, delayMs, sentAtMs } = message;
  return {
    ...message,
    payload: wirePayload(payload),
    ttlMs: Number(ttlMs),
    delayMs: Number(delayMs),
    sentAtMs: Number(sentAtMs),
  } as unknown as IncomingMessage;
}

/** The message that a subscribed handler gets of an event. */
export function incomingEvent(event: Event | OutgoingEvent): IncomingMessage {
  const one = event as Partial<Event>;
  return {
    agent: "",
    key: one.key ?? "",
    handler: "",
    type: "",
    payload: wirePayload(one.payload),
    headers: one.attributes ?? {},
    priority: one.priority ?? 0,
    messageId: one.eventId ?? "",
    idempotencyKey: "",
    ttlMs: 0,
    source: "",
    sender: one.publisher ?? "",
    traceparent: one.traceparent ?? "",
    durability: one.durability ?? 0,
    delayMs: 0,
    sentAtMs: 0,
    topic: one.topic ?? "",
  };
}
