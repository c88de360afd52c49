// What a handler may ask about its invocation and do besides returning: stage effects, or call the engine at once.
// Staged effects are committed with the handler's result or not at all.

import type { CallOptions, EngineCalls, HandlerRun } from "../agent-spec.js";
import { RemoteMemory } from "../engine/memory.js";
import { Subscription } from "../engine/subscription.js";
import { AmxError, Code } from "../errors.js";
import type { OutgoingMessage } from "../protocol/wire.js";
import { type Duration, milliseconds } from "./durations.js";
import {
  type BroadcastOutcome,
  broadcastOutcome,
  type EventOptions,
  makeEvent,
  makeSchedule,
  type Scope,
  type Timing,
} from "./effects.js";
import { type Logger, loggerFor } from "./logger.js";
import { AgentReference, Message, type MessageOptions, outgoing } from "./message.js";
import { decodeReply } from "./result.js";

/** How a call of a handler is made. It ends at the earliest of `timeout`, the handler's own deadline, and `signal`. */
export interface CallLimits {
  timeout?: Duration;
  signal?: AbortSignal;
}

/** What a send of the engine says. */
export interface Receipt {
  readonly messageId: string;
  /** It was there already. */
  readonly duplicate: boolean;
}

/** What a publish of the engine says. */
export interface Publication {
  readonly eventId: string;
  /** Subscribers it goes to. */
  readonly subscribers: number;
}

/** One invocation, as its handler sees it. Valid until the handler has ended. */
export class Context<Memory = Readonly<Record<string, unknown>>> {
  private held: Message | undefined;
  private heldLogger: Logger | undefined;

  /** For the SDK. memory: the instance's memories by name. */
  constructor(
    private readonly run: HandlerRun,
    readonly memory: Memory,
    message?: Message,
  ) {
    this.held = message;
  }

  /** What is handled. */
  get message(): Message {
    this.held ??= Message.received(this.run.message);
    return this.held;
  }

  /** Headers of the message. */
  get headers(): Readonly<Record<string, string>> {
    return this.run.message.headers;
  }

  /** Name of the agent. */
  get agent(): string {
    return this.run.agent;
  }

  /** Key of the instance. */
  get key(): string {
    return this.run.key;
  }

  /** Name of the handler. */
  get handler(): string {
    return this.run.handler;
  }

  /** The instance: `agent/key`. */
  get address(): AgentReference {
    return new AgentReference(this.run.agent, this.run.key);
  }

  /** Number of the invocation on this link. */
  get invocationId(): number | bigint {
    return this.run.invocationId;
  }

  /** 1 for the first. */
  get attempt(): number {
    return this.run.attempt;
  }

  /** W3C trace context of the sender, or empty. */
  get traceparent(): string {
    return this.run.message.traceparent;
  }

  /** Milliseconds until the deadline, at least 0; undefined without one. */
  get remainingMs(): number | undefined {
    return this.run.remainingMs;
  }

  /** When it must have ended; undefined: there is no deadline. */
  get deadline(): Date | undefined {
    const remaining = this.run.remainingMs;
    return remaining === undefined ? undefined : new Date(Date.now() + remaining);
  }

  /** Aborted when the engine cancels, the deadline passes, or the session is lost. Hand it to fetch and the like. */
  get signal(): AbortSignal {
    return this.run.signal;
  }

  /** The caller reads chunks. */
  get streaming(): boolean {
    return this.run.streaming;
  }

  /** What `withConfig` was given. */
  get config(): Readonly<Record<string, unknown>> {
    return this.run.config;
  }

  /** Logs with the name of this instance and handler. */
  get logger(): Logger {
    this.heldLogger ??= loggerFor(`${this.run.agent}/${this.run.key}#${this.run.handler}`, this.run.config);
    return this.heldLogger;
  }

  /** Stages a one-way message: sent when this invocation commits, never if it fails. */
  send(agent: string | AgentReference, content?: unknown, options?: MessageOptions): void {
    this.live("send");
    this.run.effects.messages.push(outgoing(agent, content, options));
  }

  /** As `send`. */
  emit(agent: string | AgentReference, content?: unknown, options?: MessageOptions): void {
    this.send(agent, content, options);
  }

  /** Stages an event: published when this invocation commits, never if it fails. */
  publish(topic: string, content?: unknown, options?: EventOptions): void {
    this.live("publish");
    this.run.effects.events.push(makeEvent(topic, content, options));
  }

  /** Stages a timer of this instance, replacing the one of that name. Exactly one timing is given. */
  schedule(name: string, handler: string, timing: Timing, content?: unknown): void {
    this.live("schedule");
    const schedule = makeSchedule(name, handler, timing, content);
    schedule.key = this.run.key;
    this.run.effects.schedules.push(schedule);
  }

  /** Stages the removal of a timer of this instance; an unknown name does nothing. */
  unschedule(name: string): void {
    this.live("unschedule");
    this.run.effects.cancelledSchedules.push(name);
  }

  /** Stages a subscription of this instance to events on matching topics. */
  subscribe(pattern: string, handler: string, filter = ""): void {
    this.live("subscribe");
    this.run.effects.subscriptions.push({ pattern, handler, filter });
  }

  /** Stages the end of this instance's subscription to `pattern`. */
  unsubscribe(pattern: string): void {
    this.live("unsubscribe");
    this.run.effects.cancelledSubscriptions.push(pattern);
  }

  /** Asks another agent now; resolves with its value (a ProcessingResult if it returned one). Rejects with AmxError. */
  async request<Reply = unknown>(
    agent: string | AgentReference,
    content?: unknown,
    options: MessageOptions & CallLimits = {},
  ): Promise<Reply> {
    const message = this.outgoing("request", agent, content, options);
    return decodeReply(await this.run.calls.request(message, this.limits(options))) as Reply;
  }

  /** Asks a streaming handler now, and yields its chunks as they come. Leaving the loop cancels it. */
  async *stream<Chunk = unknown>(
    agent: string | AgentReference,
    content?: unknown,
    options: MessageOptions & CallLimits = {},
  ): AsyncGenerator<Chunk, void, undefined> {
    const message = this.outgoing("stream", agent, content, options);
    for await (const chunk of this.run.calls.stream(message, this.limits(options))) {
      yield decodeReply(chunk) as Chunk;
    }
  }

  /** Sends at once, whether or not this invocation succeeds; resolves when the engine has it. */
  async sendNow(
    agent: string | AgentReference,
    content?: unknown,
    options: MessageOptions & CallLimits = {},
  ): Promise<Receipt> {
    const message = this.outgoing("sendNow", agent, content, options);
    return this.run.calls.send(message, this.limits(options));
  }

  /** Publishes at once, whether or not this invocation succeeds; resolves when the engine has it. */
  async publishNow(topic: string, content?: unknown, options: EventOptions & CallLimits = {}): Promise<Publication> {
    this.live("publishNow");
    const event = makeEvent(topic, content, options);
    event.traceparent = this.traceparent;
    return this.run.calls.publish(event, this.limits(options));
  }

  /** Sends to many at once, whether or not this invocation succeeds; resolves with what became of it at each. */
  async broadcast(
    scope: Scope,
    content?: unknown,
    options: MessageOptions & CallLimits = {},
  ): Promise<BroadcastOutcome> {
    const message = this.outgoing("broadcast", "", content, options);
    return broadcastOutcome(await this.run.calls.broadcast(scope.wire, message, this.limits(options)));
  }

  /**
   * Events on topics that match, for a handler that waits for something. Unlike `subscribe` it ends with this
   * invocation, and what it reads is nobody else's.
   */
  events<T = unknown>(pattern: string, filter = ""): Subscription<T> {
    this.live("events");
    const options = { invocationId: this.run.invocationId, signal: this.run.signal };
    return new Subscription<T>(() => this.run.calls.subscribe({ pattern, filter }, options));
  }

  /** The memory of another instance, as it is committed. What this one remembers is on `this`, and in `memory`. */
  memoryOf(agent: string | AgentReference, key?: string): RemoteMemory {
    const reference = typeof agent === "string" ? AgentReference.parse(agent) : agent;
    const memory: EngineCalls["memory"] = (operation) => {
      this.live("memoryOf");
      return this.run.calls.memory(operation, this.limits({}));
    };
    return new RemoteMemory({ memory }, reference.name, key ?? reference.key);
  }

  private outgoing(
    operation: string,
    agent: string | AgentReference,
    content: unknown,
    options: MessageOptions,
  ): OutgoingMessage {
    this.live(operation);
    const message = outgoing(agent, content, options);
    message.traceparent ||= this.traceparent;
    return message;
  }

  private limits(options: CallLimits): CallOptions {
    const remaining = this.run.remainingMs;
    const wanted = options.timeout === undefined ? undefined : milliseconds(options.timeout, "timeout");
    const shortest = Math.min(remaining ?? Number.POSITIVE_INFINITY, wanted ?? Number.POSITIVE_INFINITY);
    const signal = options.signal === undefined ? this.run.signal : AbortSignal.any([this.run.signal, options.signal]);
    return {
      timeoutMs: Number.isFinite(shortest) ? Math.max(1, Math.floor(shortest)) : 0,
      invocationId: this.run.invocationId,
      signal,
    };
  }

  private live(operation: string): void {
    if (this.run.ended) {
      throw new AmxError(
        Code.FAILED_PRECONDITION,
        "NO_CONTEXT",
        `context.${operation}: the handler ${this.run.agent}#${this.run.handler} has ended; await what it starts`,
      );
    }
  }
}
