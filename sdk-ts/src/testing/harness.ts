// AgentHarness: one agent at work without sockets and without an engine, with everything it does open to inspection.

import { create } from "@bufbuild/protobuf";
import type { AgentSpec } from "../agent-spec.js";
import { type Duration, milliseconds } from "../authoring/durations.js";
import { type EventOptions, makeEvent } from "../authoring/effects.js";
import type { Memories } from "../authoring/memory/instance.js";
import { plainCopy } from "../authoring/memory/tracked.js";
import { AgentReference, Message, type MessageOptions, outgoing } from "../authoring/message.js";
import { encodePayload } from "../authoring/payload.js";
import { decodeReply } from "../authoring/result.js";
import { specOf } from "../engine/spec-of.js";
import { AmxError, Code } from "../errors.js";
import type { ScheduleDefinition } from "../gen/amx/v1/agent_pb.js";
import type { Payload } from "../gen/amx/v1/common_pb.js";
import { type Call, type Effects, type Invoke, InvokeSchema } from "../gen/amx/v1/link_pb.js";
import {
  EventSchema,
  MessageSchema,
  type Message as ProtoMessage,
  type Subscription,
} from "../gen/amx/v1/message_pb.js";
import { Link } from "../host/link.js";
import { errorFromFailure } from "../protocol/failures.js";
import { SOFTWARE } from "../version.js";
import { incoming, incomingEvent, protoMessage, wireFailure, wirePayload } from "./convert.js";
import { EngineEnd } from "./engine-end.js";
import { KeptMemory } from "./kept-memory.js";
import { StillEnvironment } from "./still.js";

/** What one message led to: what the handler returned, and what it staged, committed with it. */
export interface Outcome<T = unknown> {
  readonly value: T;
  readonly sent: readonly Message[];
  readonly published: readonly Message[];
  readonly schedules: readonly ScheduleDefinition[];
  readonly memoryChanged: boolean;
}

/** How a message is handed over. */
export interface RunOptions extends Omit<MessageOptions, "delay" | "ttl"> {
  /** 1 for the first. */
  attempt?: number;
  /** On the harness's clock; 30 s unless given. */
  timeout?: Duration;
}

const MAX_STEPS = 100; // of one advance

interface Instance {
  epoch: bigint;
  readonly memory: KeptMemory;
  /** Version that the link holds; -1: none. */
  held: number;
  turn: Promise<unknown>;
}

/** What another agent answers: a value, an error, or a function of the message. */
export type Answer = unknown | Error | ((message: Message) => unknown);

/**
 * Runs an agent as an engine would: one message at a time per key, memory kept from one to the next, changes of failed
 * messages undone.
 *
 *     const agent = await AgentHarness.start(Greeter);
 *     expect(await agent.request({ name: "Ada" })).toBe("Hello, Ada");
 *     expect(agent.memory()).toEqual({ greeted: ["Ada"] });
 *     await agent.stop();
 *
 * Its clock stands still until `advance` moves it. There are no retries, routers or other agents: see `replyTo`.
 */
export class AgentHarness {
  /** Messages of all handlers so far, staged or sent at once. */
  readonly sent: Message[] = [];
  /** Events of all handlers so far. */
  readonly published: Message[] = [];
  /** Schedules that handlers set, by `key/name`. */
  readonly timers = new Map<string, ScheduleDefinition>();
  /** Subscriptions that handlers made. */
  subscriptions: Subscription[] = [];

  private readonly spec: AgentSpec;
  private readonly environment = new StillEnvironment((level, message, error) => {
    if (level === "error") {
      console.error(`amx: ${message}`, ...(error === undefined ? [] : [error]));
    }
  });
  private readonly end = new EngineEnd((call) => this.called(call));
  private readonly link: Link;
  private readonly instances = new Map<string, Instance>();
  private readonly replies = new Map<string, Answer>();
  private ids = 0n;
  private epochs = 0n;

  private constructor(agent: object, config: Readonly<Record<string, unknown>>) {
    this.spec = specOf(agent);
    this.link = new Link({
      connector: this.end,
      environment: this.environment,
      software: SOFTWARE,
      agents: [this.spec],
      concurrency: 1024,
      config,
    });
  }

  /** A harness at work. agent: a decorated class, an object of one, a definition. Throws DefinitionError. */
  static async start(
    agent: object,
    options: { config?: Readonly<Record<string, unknown>> } = {},
  ): Promise<AgentHarness> {
    const harness = new AgentHarness(agent, options.config ?? {});
    await harness.link.open(0);
    return harness;
  }

  /** Ends it. Handlers that run are cancelled; capabilities that were built are disposed of. */
  async stop(): Promise<void> {
    await this.link.close(0);
    await this.spec.close?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** What the handler returns. Rejects with AmxError if it fails. */
  async request<T = unknown>(content?: unknown, options: RunOptions = {}): Promise<T> {
    return (await this.run<T>(content, options)).value;
  }

  /**
   * Hands one message to the agent, and resolves with what it led to. Rejects with AmxError if the handler fails.
   * content: a value, or a Message. Without a handler it is chosen as the engine would, by type or default.
   */
  run<T = unknown>(content?: unknown, options: RunOptions = {}): Promise<Outcome<T>> {
    return this.invoke<T>(this.message(content, options), options, undefined);
  }

  /** Yields what a streaming handler yields. Leaving the loop cancels it. */
  async *stream<T = unknown>(content?: unknown, options: RunOptions = {}): AsyncGenerator<T, void, undefined> {
    const chunks: Payload[] = [];
    let changed = (): void => {};
    let done: { error?: unknown } | undefined;
    let id = 0n;
    const running = this.invoke(this.message(content, options), options, (payload, invocation) => {
      id = invocation;
      chunks.push(payload);
      changed();
    }).then(
      () => {
        done = {};
        changed();
      },
      (error: unknown) => {
        done = { error };
        changed();
      },
    );
    try {
      for (;;) {
        const chunk = chunks.shift();
        if (chunk !== undefined) {
          this.end.say({ id, item: { case: "credit", value: { chunks: 1 } } });
          yield decodeReply(wirePayload(chunk)) as T;
        } else if (done !== undefined) {
          if ("error" in done) {
            throw done.error;
          }
          return;
        } else {
          await new Promise<void>((resolve) => {
            changed = resolve;
          });
        }
      }
    } finally {
      this.end.cancel(id, "the reader left");
      await running;
    }
  }

  /**
   * Hands an event to the handlers subscribed to its topic, or to `handler`; resolves with what it led to at each.
   * Filters of subscriptions are the engine's business and not looked at. Rejects with AmxError if one of them fails,
   * NO_SUBSCRIBER if there is none.
   */
  async deliver(
    topic: string,
    content?: unknown,
    options: Pick<EventOptions, "attributes" | "key"> & { handler?: string } = {},
  ): Promise<Outcome[]> {
    const { name } = this.spec.definition;
    const { key = "default", handler, ...rest } = options;
    const names = handler === undefined ? this.subscribed(topic) : [handler];
    if (names.length === 0) {
      throw new AmxError(
        Code.NOT_FOUND,
        "NO_SUBSCRIBER",
        `no handler of '${name}' subscribes to a pattern for '${topic}'`,
      );
    }
    const event = create(EventSchema, makeEvent(topic, content, { key, ...rest }) as object);
    const outcomes: Outcome[] = [];
    for (const one of names) {
      outcomes.push(
        await this.inTurn(key, async (instance) => {
          if (instance.held !== instance.memory.version) {
            const place = { instance: { agent: name, key }, epoch: instance.epoch };
            const memory = { memoryVersion: BigInt(instance.memory.version), memory: instance.memory.image() };
            this.end.say({ item: { case: "activate", value: { ...place, ...memory } } });
            instance.held = instance.memory.version;
          }
          const deliver = { event, agent: name, handler: one, epochs: [instance.epoch] };
          const delivered = await this.end.deliver(this.nextId(), { item: { case: "deliver", value: deliver } });
          const target = delivered.targets[0];
          if (target?.failure !== undefined) {
            if (target.memoryDropped) {
              instance.held = -1;
            }
            throw errorFromFailure(wireFailure(target.failure));
          }
          return this.commit(key, instance, target?.effects, undefined);
        }),
      );
    }
    return outcomes;
  }

  /** Runs a schedule of the agent, or a timer that one of its handlers set, now. Rejects if there is none. */
  async fire(name: string, options: { key?: string } = {}): Promise<Outcome> {
    const { key = "default" } = options;
    const own = this.spec.definition.schedules;
    const schedule = this.timers.get(`${key}/${name}`) ?? own.find((one) => one.name === name);
    if (schedule === undefined) {
      const known = [...own.map((one) => one.name), ...[...this.timers.values()].map((one) => one.name)];
      throw new AmxError(
        Code.NOT_FOUND,
        "SCHEDULE_UNKNOWN",
        `there is no schedule '${name}'; there are: ${known.join(", ") || "none"}`,
      );
    }
    if (schedule.timing.case === "onceAfterMs") {
      this.timers.delete(`${key}/${name}`);
    }
    const { handler, payload } = schedule;
    const message = create(MessageSchema, { agent: this.spec.definition.name, key, handler });
    if (payload !== undefined) {
      message.payload = payload;
    }
    return this.invoke(message, {}, undefined);
  }

  /**
   * What another agent answers when this one asks it: a value; an error, which is thrown at the caller; or a function of
   * the Message, which may be asynchronous.
   */
  replyTo(agent: string, reply: Answer, options: { handler?: string } = {}): void {
    this.replies.set(`${agent}#${options.handler ?? ""}`, reply);
  }

  /** What an instance remembers, as plain Maps, Sets, lists and values by name. */
  memory(key = "default"): Record<string, unknown> {
    const kept = this.instance(key).memory;
    const memories = this.spec.createInstance(key, () => this.environment.now()).memory as Memories | undefined;
    memories?.load(kept.images(), kept.version);
    return Object.fromEntries(this.spec.definition.memories.map(({ name }) => [name, plainCopy(memories?.read(name))]));
  }

  /** Forgets the object, not the memory, as the engine does with idle instances. */
  hibernate(key = "default"): Promise<void> {
    return this.inTurn(key, async (instance) => {
      this.end.say({ item: { case: "deactivate", value: { epochs: [instance.epoch] } } });
      instance.epoch = ++this.epochs;
      instance.held = -1;
    });
  }

  /** Moves the clock that deadlines and memory expire by. Schedules do not run by themselves here: see `fire`. */
  async advance(duration: Duration): Promise<void> {
    const total = milliseconds(duration, "duration");
    const step = Math.max(1000, total / MAX_STEPS);
    for (let moved = 0; moved < total; moved += step) {
      await this.environment.jump(Math.min(step, total - moved));
    }
  }

  // Inside

  private nextId(): bigint {
    this.ids += 1n;
    return this.ids;
  }

  private instance(key: string): Instance {
    let instance = this.instances.get(key);
    if (instance === undefined) {
      this.epochs += 1n;
      const memory = new KeptMemory(() => this.environment.now());
      instance = { epoch: this.epochs, memory, held: -1, turn: Promise.resolve() };
      this.instances.set(key, instance);
    }
    return instance;
  }

  private inTurn<T>(key: string, work: (instance: Instance) => Promise<T>): Promise<T> {
    const instance = this.instance(key);
    const done = instance.turn.then(() => work(instance));
    instance.turn = done.catch(() => {});
    return done;
  }

  private message(content: unknown, options: RunOptions): ProtoMessage {
    const { attempt: _attempt, timeout: _timeout, key = "default", ...rest } = options;
    return protoMessage(outgoing(new AgentReference(this.spec.definition.name, key), content, rest));
  }

  private subscribed(topic: string): string[] {
    const own = this.spec.definition.handlers;
    const names = own
      .filter((one) => one.subscriptions.some((said) => matches(said.pattern, topic)))
      .map((one) => one.name);
    const made = this.subscriptions.filter((said) => matches(said.pattern, topic)).map((said) => said.handler);
    return [...new Set([...names, ...made])];
  }

  private invoke<T>(
    message: ProtoMessage,
    options: RunOptions,
    chunk: ((payload: Payload, id: bigint) => void) | undefined,
  ): Promise<Outcome<T>> {
    const key = message.key || "default";
    return this.inTurn(key, async (instance) => {
      const invoke: Invoke = create(InvokeSchema, {
        message,
        attempt: options.attempt ?? 1,
        epoch: instance.epoch,
        timeoutMs: BigInt(milliseconds(options.timeout ?? "30s", "timeout")),
        memoryVersion: BigInt(instance.memory.version),
        streaming: chunk !== undefined,
      });
      if (instance.held !== instance.memory.version) {
        invoke.memory = instance.memory.image();
        instance.held = instance.memory.version;
      }
      const id = this.nextId();
      const complete = await this.end.invoke(id, invoke, chunk === undefined ? undefined : (one) => chunk(one, id));
      if (complete.memoryDropped) {
        instance.held = -1;
      }
      if (complete.outcome.case === "failure") {
        throw errorFromFailure(wireFailure(complete.outcome.value));
      }
      return this.commit<T>(key, instance, complete.effects, complete.outcome.value);
    });
  }

  private commit<T>(
    key: string,
    instance: Instance,
    effects: Effects | undefined,
    result: Payload | undefined,
  ): Outcome<T> {
    const memoryChanged = instance.memory.apply(effects?.memory ?? []);
    if (memoryChanged && instance.held >= 0) {
      instance.held = instance.memory.version;
    }
    const sent = (effects?.messages ?? []).map((one) => Message.received(incoming(one)));
    const published = (effects?.events ?? []).map((one) => Message.received(incomingEvent(one)));
    this.sent.push(...sent);
    this.published.push(...published);
    for (const schedule of effects?.schedules ?? []) {
      this.timers.set(`${key}/${schedule.name}`, schedule);
    }
    for (const name of effects?.cancelledSchedules ?? []) {
      this.timers.delete(`${key}/${name}`);
    }
    const gone = new Set(effects?.cancelledSubscriptions);
    this.subscriptions = [...this.subscriptions, ...(effects?.subscriptions ?? [])].filter(
      (one) => !gone.has(one.pattern),
    );
    const value = (result === undefined ? undefined : decodeReply(wirePayload(result))) as T;
    return { value, sent, published, schedules: effects?.schedules ?? [], memoryChanged };
  }

  /** Answers what the agent asks of its engine while it runs. */
  private async called(call: Call): ReturnType<ConstructorParameters<typeof EngineEnd>[0]> {
    const { operation } = call;
    switch (operation.case) {
      case "send":
        this.sent.push(Message.received(incoming(operation.value)));
        return { case: "accepted", value: { messageId: operation.value.messageId || `harness-${this.nextId()}` } };
      case "publish":
        this.published.push(Message.received(incomingEvent(operation.value)));
        return { case: "published", value: { eventId: operation.value.eventId || `harness-${this.nextId()}` } };
      case "request":
      case "stream":
        return { case: "result", value: { ...encodePayload(await this.answer(operation.value)) } };
      default:
        throw new AmxError(
          Code.UNIMPLEMENTED,
          "UNSUPPORTED_ITEM",
          `the harness has no answer to '${operation.case}'; test this agent with an engine: startEngine()`,
        );
    }
  }

  private async answer(message: ProtoMessage): Promise<unknown> {
    const { agent, handler } = message;
    const name = [`${agent}#${handler}`, `${agent}#`].find((one) => this.replies.has(one));
    if (name === undefined) {
      throw new AmxError(
        Code.NOT_FOUND,
        "AGENT_UNKNOWN",
        `the agent asks '${agent}', which is not here; say what it answers: harness.replyTo("${agent}", …)`,
      );
    }
    const answer = this.replies.get(name);
    if (answer instanceof Error) {
      throw answer;
    }
    return typeof answer === "function" ? await answer(Message.received(incoming(message))) : answer;
  }
}

/** Whether a topic pattern (`*`: one segment; `**`, or a last `>`: any number) matches a topic. */
export function matches(pattern: string, topic: string): boolean {
  const match = (wanted: readonly string[], found: readonly string[]): boolean => {
    const [head, ...rest] = wanted;
    if (head === undefined) {
      return found.length === 0;
    }
    if (head === "**") {
      return Array.from({ length: found.length + 1 }).some((_, skip) => match(rest, found.slice(skip)));
    }
    if (head === ">" && rest.length === 0) {
      return found.length > 0;
    }
    return found.length > 0 && (head === "*" || head === found[0]) && match(rest, found.slice(1));
  };
  return match(pattern.split("."), topic.split("."));
}
