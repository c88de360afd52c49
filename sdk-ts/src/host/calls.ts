// Calls on their way, and the engine as handlers and applications call it. What they mean on the wire is the protocol's.

import type { CallOptions, EngineCalls, EventSource } from "../agent-spec.js";
import { AmxError, Code } from "../errors.js";
import {
  sizedTag,
  type WireReply,
  writeEvent,
  writeMemoryOperation,
  writeMessage,
  writeScope,
  writeSubscription,
} from "../protocol/codec.js";
import type { Environment } from "../protocol/environment.js";
import { errorFromFailure } from "../protocol/failures.js";
import { type CallFacts, type LinkProtocol, PendingCall } from "../protocol/link-protocol.js";
import type {
  IncomingMessage,
  OutgoingEvent,
  OutgoingMessage,
  WireAccepted,
  WireBroadcastResult,
  WireMemoryOperation,
  WireMemoryResult,
  WirePayload,
  WirePublished,
  WireScope,
  WireSubscription,
} from "../protocol/wire.js";

/** Events a subscriber may be behind; the engine does not wait for slow readers. */
export const SUBSCRIPTION_BUFFER = 4096;

const NO_OPTIONS: CallOptions = {};

type Field = Exclude<keyof WireReply, "failure" | "subscribed">;

/** Waits for one outcome: the field of the Reply that answers its kind of call. */
class ReplyCall<F extends Field | undefined> extends PendingCall {
  private readonly field: F;
  private readonly resolve: (value: never) => void;
  private readonly reject: (error: unknown) => void;

  constructor(field: F, resolve: (value: never) => void, reject: (error: unknown) => void) {
    super();
    this.field = field;
    this.resolve = resolve;
    this.reject = reject;
  }

  override replied(reply: WireReply): void {
    if (reply.failure !== undefined) {
      this.reject(errorFromFailure(reply.failure));
      return;
    }
    const field = this.field;
    const value = field === undefined ? undefined : reply[field];
    if (field !== undefined && value === undefined) this.reject(incomplete(this.operation));
    else this.resolve(value as never);
  }

  override failed(error: unknown): void {
    this.reject(error);
  }
}

/** Waits for many things, one after the other. */
abstract class Buffered extends PendingCall {
  done = false;
  error: unknown;
  private waiter: (() => void) | undefined;

  /** Resolves when something has changed. */
  changed(): Promise<void> {
    return new Promise((resolve) => {
      const before = this.waiter;
      this.waiter = () => {
        before?.();
        resolve();
      };
    });
  }

  override failed(error: unknown): void {
    if (this.done) return;
    this.error = error;
    this.end();
  }

  /** Nothing more comes, or is wanted. */
  end(): void {
    this.done = true;
    this.notify();
  }

  protected notify(): void {
    const waiter = this.waiter;
    this.waiter = undefined;
    waiter?.();
  }
}

/** Waits for chunks, then the end. The window that its reader grants bounds what can be waiting. */
class StreamCall extends Buffered {
  readonly chunks: WirePayload[] = [];

  override chunk(payload: WirePayload): void {
    this.chunks.push(payload);
    this.notify();
  }

  override replied(reply: WireReply): void {
    if (reply.failure !== undefined) {
      this.failed(errorFromFailure(reply.failure));
      return;
    }
    const result = reply.result;
    // A handler that does not stream: its result is all there is.
    if (result !== undefined && (result.data.length || result.contentType)) this.chunks.push(result);
    this.end();
  }
}

/** Waits for events, until it is given up. A reader that falls too far behind loses the oldest ones. */
class SubscriptionCall extends Buffered {
  readonly events: IncomingMessage[] = [];
  dropped = 0;
  inForce = false;
  private readonly log: Environment["log"];

  constructor(log: Environment["log"]) {
    super();
    this.log = log;
  }

  override replied(reply: WireReply): void {
    if (reply.failure !== undefined) {
      this.failed(errorFromFailure(reply.failure));
      return;
    }
    this.inForce = true;
    this.notify();
  }

  override event(event: IncomingMessage): void {
    if (this.events.length >= SUBSCRIPTION_BUFFER) {
      this.events.shift();
      if (!this.dropped) {
        this.log(
          "warn",
          `a subscriber is ${SUBSCRIPTION_BUFFER} events behind: the oldest are dropped; read faster, or subscribe an agent`,
        );
      }
      this.dropped++;
    }
    // A copy, else every event would keep the whole frame it came in.
    const { contentType, data } = event.payload;
    this.events.push({ ...event, payload: { contentType, data: data.slice() } });
    this.notify();
  }
}

/** A subscription in force. */
class Events implements EventSource {
  private readonly call: SubscriptionCall;
  private readonly protocol: LinkProtocol;

  constructor(call: SubscriptionCall, protocol: LinkProtocol) {
    this.call = call;
    this.protocol = protocol;
  }

  get dropped(): number {
    return this.call.dropped;
  }

  close(): void {
    if (this.call.done) return;
    this.protocol.cancel(this.call, "unsubscribed");
    this.call.end();
  }

  [Symbol.asyncIterator](): AsyncIterator<IncomingMessage> {
    const { call } = this;
    return {
      next: async () => {
        for (;;) {
          const value = call.events.shift();
          if (value !== undefined) return { done: false, value };
          if (call.error !== undefined) throw call.error;
          if (call.done) return { done: true, value: undefined };
          await call.changed();
        }
      },
      return: async () => {
        this.close();
        return { done: true, value: undefined };
      },
    };
  }
}

/** The engine at the other end of a link. */
export class LinkCalls implements EngineCalls {
  private readonly protocol: LinkProtocol;
  private readonly log: Environment["log"];

  constructor(protocol: LinkProtocol, log: Environment["log"]) {
    this.protocol = protocol;
    this.log = log;
  }

  send(message: OutgoingMessage, options: CallOptions = NO_OPTIONS): Promise<WireAccepted> {
    return this.ask("accepted", options, (call) =>
      this.protocol.callMessage(call, 3, message, facts(options, Boolean(message.messageId))),
    );
  }

  request(message: OutgoingMessage, options: CallOptions = NO_OPTIONS): Promise<WirePayload> {
    return this.ask("result", options, (call) =>
      this.protocol.callMessage(call, 4, message, facts(options, Boolean(message.idempotencyKey))),
    );
  }

  publish(event: OutgoingEvent, options: CallOptions = NO_OPTIONS): Promise<WirePublished> {
    return this.ask("published", options, (call) =>
      this.protocol.call(
        call,
        "publish",
        event.payload?.data.length ?? 0,
        facts(options, Boolean(event.eventId)),
        (writer) => writeEvent(writer, sizedTag(6), event),
      ),
    );
  }

  broadcast(
    scope: WireScope,
    message: OutgoingMessage,
    options: CallOptions = NO_OPTIONS,
  ): Promise<WireBroadcastResult> {
    return this.ask("broadcast", options, (call) => {
      this.protocol.checkMessage(message);
      const size = message.payload?.data.length ?? 0;
      this.protocol.call(call, "broadcast", size, facts(options, false), (writer) => {
        writer.varint(sizedTag(8));
        const start = writer.begin(size + 128);
        writeScope(writer, 10, scope);
        writeMessage(writer, 18, message);
        writer.end(start, size + 128);
      });
    });
  }

  memory(operation: WireMemoryOperation, options: CallOptions = NO_OPTIONS): Promise<WireMemoryResult> {
    const reads = operation.get !== undefined || operation.list !== undefined;
    return this.ask("memory", options, (call) =>
      this.protocol.call(call, "memory", operation.put?.value.length ?? 0, facts(options, reads), (writer) =>
        writeMemoryOperation(writer, sizedTag(9), operation),
      ),
    );
  }

  async *stream(
    message: OutgoingMessage,
    options: CallOptions = NO_OPTIONS,
  ): AsyncGenerator<WirePayload, void, undefined> {
    const { protocol } = this;
    const { signal } = options;
    signal?.throwIfAborted();
    const call = new StreamCall();
    protocol.callMessage(call, 5, message, facts(options, false));
    const window = protocol.limits.streamWindow;
    const aborted = (): void => call.failed(reasonOf(signal));
    signal?.addEventListener("abort", aborted);
    let taken = 0;
    try {
      for (;;) {
        if (signal?.aborted) throw reasonOf(signal);
        const chunk = call.chunks.shift();
        if (chunk !== undefined) {
          taken++;
          if (2 * taken >= window) {
            protocol.grant(call, taken);
            taken = 0;
          }
          yield chunk;
        } else if (call.error !== undefined) {
          throw call.error;
        } else if (call.done) {
          return;
        } else {
          await call.changed();
        }
      }
    } finally {
      signal?.removeEventListener("abort", aborted);
      protocol.cancel(call, "the reader left");
    }
  }

  async subscribe(subscription: WireSubscription, options: CallOptions = NO_OPTIONS): Promise<EventSource> {
    const { protocol } = this;
    const { signal } = options;
    signal?.throwIfAborted();
    const call = new SubscriptionCall(this.log);
    // Without a timeout: it would end the subscription, too.
    protocol.call(
      call,
      "subscribe",
      0,
      { timeoutMs: 0, invocationId: options.invocationId ?? 0, repeatable: true },
      (writer) => writeSubscription(writer, sizedTag(7), subscription),
    );
    const events = new Events(call, protocol);
    const aborted = (): void => {
      protocol.cancel(call, "the subscriber was cancelled");
      call.failed(reasonOf(signal));
    };
    signal?.addEventListener("abort", aborted, { once: true });
    while (!call.inForce && !call.done) await call.changed();
    if (call.error !== undefined) throw call.error;
    return events;
  }

  /** Waits for what `say` asked for. */
  private ask<F extends Field>(
    field: F,
    options: CallOptions,
    say: (call: PendingCall) => void,
  ): Promise<NonNullable<WireReply[F]>> {
    const { signal } = options;
    if (signal === undefined) {
      return new Promise((resolve, reject) => say(new ReplyCall(field, resolve, reject)));
    }
    if (signal.aborted) return Promise.reject(reasonOf(signal));
    return new Promise((resolve, reject) => {
      const done = (): void => signal.removeEventListener("abort", aborted);
      const call = new ReplyCall(
        field,
        (value) => {
          done();
          resolve(value);
        },
        (error) => {
          done();
          reject(error);
        },
      );
      const aborted = (): void => {
        done();
        this.protocol.cancel(call, "the caller gave up");
        reject(reasonOf(signal));
      };
      say(call);
      signal.addEventListener("abort", aborted);
    });
  }
}

/** Says that agents joined or left; resolves when the engine has agreed. */
export function register(
  protocol: LinkProtocol,
  agents: Parameters<LinkProtocol["register"]>[1],
  removed: readonly string[],
): Promise<void> {
  return new Promise((resolve, reject) => {
    protocol.register(new ReplyCall(undefined, resolve as (value: never) => void, reject), agents, removed);
  });
}

function facts(options: CallOptions, repeatable: boolean): CallFacts {
  const timeoutMs = options.timeoutMs ?? 0;
  return {
    timeoutMs: timeoutMs > 0 ? Math.max(1, Math.round(timeoutMs)) : 0,
    invocationId: options.invocationId ?? 0,
    repeatable,
  };
}

function reasonOf(signal: AbortSignal | undefined): unknown {
  const reason: unknown = signal?.reason;
  return reason ?? new AmxError(Code.CANCELLED, "CANCELLED", "the caller gave up");
}

function incomplete(operation: string): AmxError {
  return new AmxError(Code.INTERNAL, "PROTOCOL_VIOLATION", `the engine's reply to a ${operation} has no outcome`);
}
