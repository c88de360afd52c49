// Records of what runs: one handler at one message, one event at many targets. host.ts moves them along.

import type { AgentInstance, EngineCalls, HandlerRun, HandlerSpec } from "../agent-spec.js";
import { AmxError, Code } from "../errors.js";
import type { Id } from "../protocol/bytes.js";
import { Writer } from "../protocol/bytes.js";
import type { WireDeliver, WireInvoke } from "../protocol/codec.js";
import type { Bucket, Expiring } from "../protocol/deadlines.js";
import type { IncomingMessage, WireEffects } from "../protocol/wire.js";
import type { Activation } from "./activation.js";
import type { AgentHost } from "./host.js";

/** One handler at work on one message. */
export abstract class Run implements HandlerRun, Expiring {
  readonly host: AgentHost;
  readonly invocationId: Id;
  readonly message: IncomingMessage;
  activation: Activation;
  spec: HandlerSpec | undefined; // not chosen yet
  instance: AgentInstance | undefined;
  /** On the host's clock; 0: none. */
  deadline = 0;
  bucket: Bucket | undefined;
  /** Why it was stopped. */
  stopped: AmxError | undefined;
  /** Nobody wants its outcome. */
  discarded = false;
  /** The handler has ended, or was given up. */
  ended = false;
  /** It waits for something, and holds its instance if it is not concurrent. */
  suspended = false;
  staged: WireEffects | undefined;
  private controller: AbortController | undefined;

  constructor(host: AgentHost, id: Id, activation: Activation, message: IncomingMessage) {
    this.host = host;
    this.invocationId = id;
    this.activation = activation;
    this.message = message;
  }

  abstract get attempt(): number;
  abstract get streaming(): boolean;

  get agent(): string {
    return this.activation.agent.definition.name;
  }

  get key(): string {
    return this.activation.key;
  }

  get handler(): string {
    return this.spec?.name ?? "";
  }

  /** Where it happens: `agent/key#handler`. */
  get source(): string {
    return `${this.agent}/${this.key}${this.spec === undefined ? "" : `#${this.spec.name}`}`;
  }

  get remainingMs(): number | undefined {
    return this.deadline ? Math.max(0, this.deadline - this.host.now()) : undefined;
  }

  get signal(): AbortSignal {
    if (this.controller === undefined) {
      this.controller = new AbortController();
      if (this.stopped !== undefined) this.controller.abort(this.stopped);
    }
    return this.controller.signal;
  }

  get effects(): WireEffects {
    this.staged ??= noEffects();
    return this.staged;
  }

  get calls(): EngineCalls {
    return this.host.calls;
  }

  get config(): Readonly<Record<string, unknown>> {
    return this.host.config;
  }

  /** Its deadline has passed and the engine did not cancel it, or it does not stop though it was asked to. */
  expire(): void {
    this.bucket = undefined;
    if (this.stopped !== undefined) {
      this.host.giveUp(this);
      return;
    }
    this.stop(
      new AmxError(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", `${this.source} did not end in time`, {
        retryable: true,
      }),
    );
  }

  /** Asks it to end, for this reason. */
  stop(why: AmxError): void {
    if (this.stopped !== undefined || this.ended) return;
    this.stopped = why;
    if (this.suspended) this.host.stopping(this);
    this.controller?.abort(why);
  }
}

/** An Invoke at work. */
export class Invocation extends Run {
  readonly invoke: WireInvoke;
  /** Real milliseconds at which its turn came. */
  started = 0;
  /** Chunks that its reader takes. */
  window = 0;
  /** Wakes the handler's stream when the window opens, or it is stopped. */
  reader: (() => void) | undefined;

  constructor(host: AgentHost, id: Id, activation: Activation, invoke: WireInvoke) {
    super(host, id, activation, invoke.message);
    this.invoke = invoke;
    if (invoke.timeoutMs) this.deadline = host.now() + invoke.timeoutMs;
  }

  override get attempt(): number {
    return this.invoke.attempt;
  }

  override get streaming(): boolean {
    return this.invoke.streaming;
  }

  override stop(why: AmxError): void {
    super.stop(why);
    this.reader?.();
  }
}

/** A delivered event at work at one of its targets. */
export class Target extends Run {
  readonly delivery: Delivery;
  readonly index: number;

  constructor(delivery: Delivery, index: number, activation: Activation) {
    super(delivery.host, delivery.id, activation, delivery.deliver.event);
    this.delivery = delivery;
    this.index = index;
    this.spec = delivery.handler;
  }

  override get attempt(): number {
    return 1;
  }

  override get streaming(): boolean {
    return false;
  }
}

/** A Deliver at work: a position in its list of targets, and what became of those before it. */
export class Delivery {
  readonly host: AgentHost;
  readonly id: Id;
  readonly deliver: WireDeliver;
  readonly handler: HandlerSpec;
  /** What the handler decoded the event to, or why it could not. */
  input: { readonly value: unknown } | { readonly error: unknown } | undefined;
  next = 0;
  remaining: number;
  readonly suspended = new Set<Target>();
  stopped: AmxError | undefined;
  discarded = false;
  /** DeliveredTargets, written; most deliveries have nothing to report. */
  reports: Writer | undefined;

  constructor(host: AgentHost, id: Id, deliver: WireDeliver, handler: HandlerSpec) {
    this.host = host;
    this.id = id;
    this.deliver = deliver;
    this.handler = handler;
    this.remaining = deliver.epochs.length;
  }

  /** Where reports are written. */
  report(): Writer {
    this.reports ??= new Writer(512);
    return this.reports;
  }

  stop(why: AmxError): void {
    this.stopped ??= why;
    for (const target of [...this.suspended]) target.stop(why);
  }
}

/** Nothing done yet. */
export function noEffects(): WireEffects {
  return {
    memory: [],
    messages: [],
    events: [],
    schedules: [],
    cancelledSchedules: [],
    subscriptions: [],
    cancelledSubscriptions: [],
  };
}

/** Whether anything was done. */
export function hasEffects(effects: WireEffects): boolean {
  return (
    effects.memory.length > 0 ||
    effects.messages.length > 0 ||
    effects.events.length > 0 ||
    effects.schedules.length > 0 ||
    effects.cancelledSchedules.length > 0 ||
    effects.subscriptions.length > 0 ||
    effects.cancelledSubscriptions.length > 0
  );
}
