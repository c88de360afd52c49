// Runs handlers: takes invocations and deliveries from the link, answers with what became of them.
// A handler is started where its message arrives and most end right there; only those that wait for something are kept
// track of. How chunks are streamed is stream.ts's.

import type { AgentInstance, AgentSpec, EngineCalls, HandlerSpec } from "../agent-spec.js";
import { AmxError, Code } from "../errors.js";
import type { Id } from "../protocol/bytes.js";
import {
  Item,
  type WireActivate,
  type WireDeliver,
  type WireInvoke,
  writeEffects,
  writeFailure,
  writePayload,
} from "../protocol/codec.js";
import type { Deadlines } from "../protocol/deadlines.js";
import type { Environment } from "../protocol/environment.js";
import { failureFromError, plainFailure } from "../protocol/failures.js";
import type { Host, LinkProtocol } from "../protocol/link-protocol.js";
import type { WireEffects, WireFailure, WirePayload } from "../protocol/wire.js";
import { Activation } from "./activation.js";
import { Delivery, hasEffects, Invocation, noEffects, type Run, Target } from "./runs.js";
import { runStream } from "./stream.js";
import { LoopWatch, stopwatch } from "./watch.js";

const COMPLETE = Item.COMPLETE * 8 + 2;
const DELIVERED = Item.DELIVERED * 8 + 2;
const SLICE_MS = 2; // how long one delivery works before the event loop breathes
const SLICE_TARGETS = 64; // between looks at the clock
// The engine enforces deadlines; if its Cancel does not come, the handler is stopped here.
const GRACE_MS = 150;
/** How long a handler that was asked to stop may take to do so. After that it is left alone, with the object it has. */
export const STOP_MS = 1000;

export interface AgentHostOptions {
  /** By name; may change. */
  agents: Map<string, AgentSpec>;
  environment: Environment;
  deadlines: Deadlines;
  /** Invocations and deliveries at a time, as granted to the engine. */
  concurrency: number;
  /** Given to contexts. */
  config: Readonly<Record<string, unknown>>;
}

/** The agents of this process at work. */
export class AgentHost implements Host {
  readonly agents: Map<string, AgentSpec>;
  readonly config: Readonly<Record<string, unknown>>;
  readonly watch: LoopWatch;
  readonly environment: Environment;
  /** Set by the owner before anything arrives. */
  protocol!: LinkProtocol;
  calls!: EngineCalls;

  private readonly deadlines: Deadlines;
  private readonly concurrency: number;
  private activations = new Map<Id, Activation>();
  private jobs = new Map<Id, Invocation | Delivery>();
  private readonly under = new Set<Run>(); // suspended
  private held: Delivery[] = []; // they wait for suspended targets to end
  private delivering = 0; // suspended targets
  private readonly passing = new Set<Activation>(); // whose waiting runs are being started
  private empty: (() => void)[] = [];

  readonly now: () => number;

  constructor(options: AgentHostOptions) {
    this.agents = options.agents;
    this.config = options.config;
    this.environment = options.environment;
    this.deadlines = options.deadlines;
    this.concurrency = options.concurrency;
    this.watch = new LoopWatch((level, message, error) => options.environment.log(level, message, error));
    this.now = () => options.environment.now();
  }

  // What the link asks for

  invoke(id: Id, invoke: WireInvoke): void {
    let activation = this.activations.get(invoke.epoch);
    if (activation === undefined) {
      const { agent: name, key } = invoke.message;
      const agent = this.agents.get(name);
      if (agent === undefined) {
        this.complete(id, invoke, agentUnknown(name));
        return;
      }
      activation = new Activation(agent, key || "default", invoke.epoch, this.now);
      this.activations.set(invoke.epoch, activation);
    }
    const run = new Invocation(this, id, activation, invoke);
    this.jobs.set(id, run);
    this.beginInvocation(run);
  }

  deliver(id: Id, deliver: WireDeliver): void {
    const agent = this.agents.get(deliver.agent);
    const handler = agent?.handlers.get(deliver.handler);
    if (agent === undefined || handler === undefined) {
      const failure = plainFailure(
        agent === undefined ? agentUnknown(deliver.agent) : handlerUnknown(agent, deliver.handler),
      );
      const writer = this.protocol.begin(id, deliver.epochs.length * 128);
      writer.varint(DELIVERED);
      const start = writer.begin(deliver.epochs.length * 128);
      for (let index = 0; index < deliver.epochs.length; index++) {
        writer.varint(10);
        const target = writer.begin(128);
        writer.uint(8, index);
        writeFailure(writer, 18, failure);
        writer.end(target, 128);
      }
      writer.end(start, deliver.epochs.length * 128);
      this.protocol.end();
      return;
    }
    const delivery = new Delivery(this, id, deliver, handler);
    this.jobs.set(id, delivery);
    if (deliver.epochs.length) this.pump(delivery);
    else this.sayDelivered(delivery);
  }

  activate(activate: WireActivate): void {
    let activation = this.activations.get(activate.epoch);
    if (activation === undefined) {
      const agent = this.agents.get(activate.agent);
      if (agent === undefined) {
        this.environment.log("warn", `the engine activated ${activate.agent}, which is not hosted here`);
        return;
      }
      activation = new Activation(agent, activate.key || "default", activate.epoch, this.now);
      this.activations.set(activate.epoch, activation);
    }
    activation.hold(activate.memory, activate.memoryVersion);
  }

  deactivate(epochs: readonly Id[]): void {
    for (const epoch of epochs) this.activations.delete(epoch);
  }

  cancel(id: Id, reason: string): void {
    this.jobs.get(id)?.stop(new AmxError(Code.CANCELLED, "CANCELLED", `cancelled: ${reason || "no reason given"}`));
  }

  grantChunks(id: Id, chunks: number): void {
    const job = this.jobs.get(id);
    if (!(job instanceof Invocation)) return;
    job.window += chunks;
    job.reader?.();
  }

  abandon(): void {
    const jobs = this.jobs;
    this.jobs = new Map();
    this.held = [];
    this.activations = new Map();
    const why = new AmxError(Code.CANCELLED, "CANCELLED", "the session with the engine was lost");
    for (const job of jobs.values()) {
      job.discarded = true;
      if (job instanceof Delivery) for (const target of job.suspended) target.discarded = true;
      job.stop(why);
    }
    this.reportEmpty();
  }

  // What the owner asks for

  /** Invocations and deliveries that have not ended. */
  get slotsInUse(): number {
    return this.jobs.size;
  }

  /** Names of the handlers that wait for something. */
  *suspendedHandlers(): Generator<string> {
    for (const run of this.under) yield `${run.agent}#${run.handler}`;
  }

  /** Resolves when no invocation or delivery is left. */
  waitEmpty(): Promise<void> {
    return this.jobs.size ? new Promise((resolve) => this.empty.push(resolve)) : Promise.resolve();
  }

  // Running

  private beginInvocation(run: Invocation): void {
    const began = stopwatch();
    run.started = began;
    const { activation, invoke } = run;
    try {
      const { handler: name, type } = invoke.message;
      const handler = activation.agent.handlers.get(name) ?? choose(activation.agent, name, type);
      run.spec = handler;
      if (activation.busy && !handler.concurrent) {
        activation.waiting.push(run);
        return;
      }
      if (run.stopped !== undefined) throw run.stopped;
      if (run.deadline && this.now() > run.deadline) {
        throw new AmxError(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", `${run.source} was not reached in time`, {
          retryable: true,
        });
      }
      const version = invoke.memoryVersion;
      let instance = activation.instance;
      if (invoke.memory !== undefined && !activation.busy) {
        activation.hold(invoke.memory, version);
        instance = activation.prepare(version);
      } else if (
        instance === undefined ||
        !activation.current ||
        (instance.memory !== undefined && activation.version !== version && !handler.concurrent)
      ) {
        instance = activation.prepare(version);
      }
      run.instance = instance;
      const input = handler.decode(run.message);
      if (isThenable(input)) {
        this.suspend(run);
        input.then(
          (value) => this.call(run, handler, instance, value),
          (error: unknown) => this.failed(run, error),
        );
        return;
      }
      this.call(run, handler, instance, input);
    } catch (error) {
      this.failed(run, error);
    }
    this.measure(run, began);
  }

  private call(run: Run, handler: HandlerSpec, instance: AgentInstance, input: unknown): void {
    if (run.ended) return;
    let value: unknown;
    try {
      if (run.stopped !== undefined) throw run.stopped;
      value = handler.call(instance, input, run);
    } catch (error) {
      this.failed(run, error);
      return;
    }
    if (handler.streaming) {
      this.suspend(run);
      runStream(this, run, handler, value).then(
        (payload) => this.succeeded(run, payload),
        (error: unknown) => this.failed(run, error),
      );
    } else if (isThenable(value)) {
      this.suspend(run);
      value.then(
        (result) => this.returned(run, handler, result),
        (error: unknown) => this.failed(run, error),
      );
    } else {
      this.returned(run, handler, value);
    }
  }

  /** The handler has returned `value`. */
  private returned(run: Run, handler: HandlerSpec, value: unknown): void {
    if (run.ended) return;
    if (run instanceof Target) {
      this.succeeded(run, undefined);
      return;
    }
    try {
      const payload = handler.encode(value);
      if (isThenable(payload)) {
        this.suspend(run);
        payload.then(
          (encoded) => this.succeeded(run, encoded),
          (error: unknown) => this.failed(run, error),
        );
        return;
      }
      this.succeeded(run, payload);
    } catch (error) {
      this.failed(run, error);
    }
  }

  /** It waits for something: its instance is held for it, and its deadline watched. */
  private suspend(run: Run): void {
    if (run.suspended || run.ended) return;
    run.suspended = true;
    this.under.add(run);
    if (!run.spec?.concurrent) run.activation.busy = true;
    if (run instanceof Target) {
      this.delivering++;
      run.delivery.suspended.add(run);
    }
    if (run.stopped !== undefined) this.stopping(run);
    else if (run.deadline) run.bucket = this.deadlines.add(run, Math.max(0, run.deadline - this.now()) + GRACE_MS);
  }

  /** It was asked to stop, and has some time to do so. */
  stopping(run: Run): void {
    run.bucket?.delete(run);
    run.bucket = this.deadlines.add(run, STOP_MS);
  }

  /** It did not stop in that time: it keeps the object it has, and its instance gets a new one. */
  giveUp(run: Run): void {
    if (run.ended) return;
    if (!run.discarded) {
      this.environment.log(
        "warn",
        `${run.source} was asked to stop and goes on; its outcome is dropped: let it watch context.signal`,
      );
    }
    if (!run.spec?.concurrent) run.activation.abandon();
    this.failed(run, run.stopped);
  }

  /** It has ended, one way or the other: its instance is free. */
  private finish(run: Run): void {
    run.ended = true;
    run.bucket?.delete(run);
    if (!run.suspended) return;
    run.suspended = false;
    this.under.delete(run);
    if (!run.spec?.concurrent) run.activation.busy = false;
    if (run instanceof Target) {
      this.delivering--;
      run.delivery.suspended.delete(run);
      const held = this.held.shift();
      if (held !== undefined) this.environment.defer(() => this.pump(held));
    }
  }

  /** Starts what waits for this instance, one after the other. */
  private passOn(activation: Activation): void {
    const { waiting } = activation;
    if (!waiting.length || activation.busy || this.passing.has(activation)) return;
    this.passing.add(activation);
    try {
      while (waiting.length && !activation.busy) {
        const run = waiting.shift();
        if (run === undefined || run.discarded) continue;
        if (run instanceof Target) this.beginTarget(run);
        else this.beginInvocation(run as Invocation);
      }
    } finally {
      this.passing.delete(activation);
    }
  }

  private measure(run: Run, began: number): void {
    const took = stopwatch() - began;
    if (took > 1) this.watch.ran(`${run.agent}#${run.handler}`, took);
  }

  // Outcomes

  private succeeded(run: Run, payload: WirePayload | undefined): void {
    if (run.ended) return;
    if (run.discarded || run.stopped !== undefined) {
      this.failed(run, run.stopped);
      return;
    }
    this.finish(run);
    const { activation } = run;
    let collected = false;
    try {
      const effects = this.effectsOf(run);
      collected = effects !== undefined && effects.memory.length > 0;
      if (run instanceof Target) this.reportEffects(run, effects);
      else this.sayResult(run as Invocation, payload as WirePayload, effects);
      if (collected) activation.version++;
    } catch (error) {
      if (collected) activation.drop(); // the changes are gone from here, and not at the engine either
      this.outcomeFailed(run, error);
      return;
    }
    this.ended(run);
  }

  private failed(run: Run, error: unknown): void {
    if (run.ended) return;
    this.finish(run);
    this.outcomeFailed(run, run.stopped ?? error);
  }

  private outcomeFailed(run: Run, error: unknown): void {
    const dropped = this.undo(run) || !run.activation.current;
    if (!run.discarded) {
      this.environment.log("debug", `${run.source} failed`, error);
      const failure = failureFromError(error, run.source);
      if (run instanceof Target) this.reportFailure(run.delivery, run.index, failure, dropped);
      else this.sayFailure(run as Invocation, failure, dropped);
    }
    this.ended(run);
  }

  /** Everything about it is said. */
  private ended(run: Run): void {
    if (!run.discarded) {
      if (run instanceof Target) this.targetsEnded(run.delivery, 1);
      else this.jobEnded(run.invocationId);
    }
    this.passOn(run.activation);
  }

  private jobEnded(id: Id): void {
    this.jobs.delete(id);
    if (this.empty.length) this.reportEmpty();
  }

  private reportEmpty(): void {
    if (this.jobs.size) return;
    const waiting = this.empty;
    this.empty = [];
    for (const resolve of waiting) resolve();
  }

  /** What a run that succeeded did; undefined if that is nothing. */
  private effectsOf(run: Run): WireEffects | undefined {
    const { activation, instance } = run;
    const memory = instance?.memory;
    let effects = run.staged;
    if (!activation.busy && instance === activation.instance && memory?.changed) {
      if (run.spec?.concurrent) {
        throw new AmxError(
          Code.FAILED_PRECONDITION,
          "CONCURRENT_MEMORY_CHANGE",
          `${run.source} is concurrent and changed the memory of its instance; do not declare it concurrent`,
        );
      }
      effects ??= noEffects();
      effects.memory = [];
      try {
        memory.collect(effects.memory);
      } catch (error) {
        activation.drop();
        throw error;
      }
    }
    if (effects === undefined || !hasEffects(effects)) return undefined;
    for (const message of effects.messages) this.protocol.checkMessage(message);
    return effects;
  }

  /** Takes a failed run's changes to memory back. Returns whether the memory is lost with them. */
  private undo(run: Run): boolean {
    const { activation, instance } = run;
    const memory = instance?.memory;
    if (memory === undefined || instance !== activation.instance || !activation.current) return false;
    if (activation.busy || !memory.changed) return false;
    try {
      if (memory.rollback()) return false;
    } catch (error) {
      this.environment.log("error", `the memory of ${run.source} could not be rolled back`, error);
    }
    activation.drop();
    return true;
  }

  private sayResult(run: Invocation, payload: WirePayload, effects: WireEffects | undefined): void {
    const { protocol } = this;
    const { attempt, epoch } = run.invoke;
    const size = payload.data.length;
    if (size > protocol.limits.maxItemBytes) protocol.checkSize(size, `result of ${run.source}`);
    const writer = protocol.begin(run.invocationId, size + 64);
    try {
      writer.varint(COMPLETE);
      const start = writer.begin(size + 56);
      writer.uint(8, attempt);
      writer.uint(16, epoch);
      writePayload(writer, 26, payload);
      if (effects !== undefined) writeEffects(writer, 42, effects);
      writer.uint(48, Math.round((stopwatch() - run.started) * 1000));
      writer.end(start, size + 56);
    } catch (error) {
      protocol.takeBack();
      throw error;
    }
    if (protocol.itemSize > protocol.limits.maxItemBytes) {
      protocol.checkItem(`result of ${run.source}${effects === undefined ? "" : " with its effects"}`);
    }
    protocol.end();
  }

  private sayFailure(run: Invocation, failure: WireFailure, dropped: boolean): void {
    this.complete(run.invocationId, run.invoke, failure, dropped, Math.round((stopwatch() - run.started) * 1000));
  }

  private complete(id: Id, invoke: WireInvoke, failure: WireFailure | AmxError, dropped = false, duration = 0): void {
    const writer = this.protocol.begin(id, 512);
    writer.varint(COMPLETE);
    const start = writer.begin(512);
    writer.uint(8, invoke.attempt);
    writer.uint(16, invoke.epoch);
    writeFailure(writer, 34, failure instanceof AmxError ? plainFailure(failure) : failure);
    writer.uint(48, duration);
    writer.bool(56, dropped);
    writer.end(start, 512);
    this.protocol.end();
  }

  // Deliveries

  /** Starts targets until all have been, too many wait for something, or the time slice is over. */
  private pump(delivery: Delivery): void {
    if (delivery.discarded) return;
    const { epochs } = delivery.deliver;
    const began = stopwatch();
    let ended = 0;
    while (delivery.next < epochs.length) {
      if (this.delivering >= this.concurrency) {
        this.held.push(delivery);
        break;
      }
      const index = delivery.next;
      if (index % SLICE_TARGETS === SLICE_TARGETS - 1 && stopwatch() - began > SLICE_MS) {
        this.environment.defer(() => this.pump(delivery)); // with a slice of its own
        break;
      }
      delivery.next++;
      const activation = this.activations.get(epochs[index] as Id);
      if (activation === undefined || delivery.stopped !== undefined) {
        const error = delivery.stopped ?? notHere();
        this.reportFailure(delivery, index, plainFailure(error), activation === undefined);
        ended++;
        continue;
      }
      const target = new Target(delivery, index, activation);
      if (activation.busy && !delivery.handler.concurrent) activation.waiting.push(target);
      else this.beginTarget(target);
    }
    if (ended) this.targetsEnded(delivery, ended);
  }

  private beginTarget(target: Target): void {
    const { delivery, activation } = target;
    const { handler } = delivery;
    const began = stopwatch();
    try {
      if (delivery.stopped !== undefined) throw delivery.stopped;
      let instance = activation.instance;
      if (instance === undefined || !activation.current) instance = activation.prepare(undefined);
      target.instance = instance;
      delivery.input ??= decodeOnce(handler, target);
      if ("error" in delivery.input) throw delivery.input.error;
      const input = delivery.input.value;
      if (isThenable(input)) {
        const ready = instance;
        this.suspend(target);
        input.then(
          (value) => this.call(target, handler, ready, value),
          (error: unknown) => this.failed(target, error),
        );
      } else {
        this.call(target, handler, instance, input);
      }
    } catch (error) {
      this.failed(target, error);
    }
    this.measure(target, began);
  }

  private reportEffects(target: Target, effects: WireEffects | undefined): void {
    if (effects === undefined) return;
    const writer = target.delivery.report();
    const before = writer.pos;
    try {
      writer.varint(10);
      const start = writer.begin(64);
      writer.uint(8, target.index);
      writeEffects(writer, 26, effects);
      writer.end(start, 64);
      this.protocol.checkSize(writer.pos + 64, "outcome of a delivery");
    } catch (error) {
      writer.pos = before;
      throw error;
    }
  }

  private reportFailure(delivery: Delivery, index: number, failure: WireFailure, dropped: boolean): void {
    const writer = delivery.report();
    const before = writer.pos;
    const write = (said: WireFailure): void => {
      writer.varint(10);
      const start = writer.begin(512);
      writer.uint(8, index);
      writeFailure(writer, 18, said);
      writer.bool(32, dropped);
      writer.end(start, 512);
    };
    write(failure);
    if (writer.pos * 2 > this.protocol.limits.maxItemBytes) {
      // Many targets, many failures: the reason matters more than where it happened.
      writer.pos = before;
      const { code, reason, retryable, retryDelayMs } = failure;
      write({
        code,
        reason,
        message: "",
        retryable,
        retryDelayMs,
        metadata: {},
        details: [],
        stackTrace: "",
        source: "",
      });
    }
  }

  /** That many more targets have ended. */
  private targetsEnded(delivery: Delivery, count: number): void {
    delivery.remaining -= count;
    if (!delivery.remaining && !delivery.discarded) this.sayDelivered(delivery);
  }

  private sayDelivered(delivery: Delivery): void {
    const reports = delivery.reports;
    const size = reports?.pos ?? 0;
    const writer = this.protocol.begin(delivery.id, size + 8);
    writer.varint(DELIVERED);
    writer.varint(size);
    if (reports !== undefined) writer.raw(reports.buffer.subarray(0, size));
    this.protocol.end();
    this.jobEnded(delivery.id);
  }
}

function decodeOnce(handler: HandlerSpec, target: Target): { readonly value: unknown } | { readonly error: unknown } {
  try {
    return { value: handler.decode(target.message) };
  } catch (error) {
    return { error };
  }
}

/** The handler of a message that names none, or none that exists. */
function choose(agent: AgentSpec, name: string, type: string): HandlerSpec {
  if (name) throw handlerUnknown(agent, name);
  const { definition, handlers } = agent;
  let chosen: HandlerSpec | undefined;
  if (type) {
    const typed = definition.handlers.find((handler) => handler.messageTypes.includes(type));
    if (typed !== undefined) chosen = handlers.get(typed.name);
  }
  if (chosen === undefined && definition.defaultHandler) chosen = handlers.get(definition.defaultHandler);
  if (chosen === undefined && handlers.size === 1) chosen = handlers.values().next().value;
  if (chosen !== undefined) return chosen;
  throw new AmxError(
    Code.INVALID_ARGUMENT,
    "HANDLER_AMBIGUOUS",
    `the message names no handler and agent '${definition.name}' has several: ${[...handlers.keys()].sort().join(", ")}`,
  );
}

function agentUnknown(name: string): AmxError {
  return new AmxError(Code.NOT_FOUND, "AGENT_UNKNOWN", `agent '${name}' is not hosted by this process`);
}

function handlerUnknown(agent: AgentSpec, name: string): AmxError {
  const names = [...agent.handlers.keys()].sort().join(", ") || "none";
  return new AmxError(
    Code.NOT_FOUND,
    "HANDLER_UNKNOWN",
    `agent '${agent.definition.name}' has no handler '${name}'; it has: ${names}`,
  );
}

function notHere(): AmxError {
  return new AmxError(
    Code.FAILED_PRECONDITION,
    "MEMORY_NOT_HELD",
    "this process does not hold that activation; send it again",
    { retryable: true },
  );
}

/** Whether there is something to wait for. */
export function isThenable<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return (
    value !== null &&
    (typeof value === "object" || typeof value === "function") &&
    typeof (value as { then?: unknown }).then === "function"
  );
}
