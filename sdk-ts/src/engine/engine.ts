// AmxEngine: an application's way to an engine. Hosts agents, sends, requests, streams, publishes, subscribes.
// Nothing here needs Node; how an engine is reached is the builder's business.

/// <reference lib="esnext.disposable" preserve="true" />

import type { AgentSpec, CallOptions } from "../agent-spec.js";
import type { CallLimits, Publication, Receipt } from "../authoring/context.js";
import { type Duration, milliseconds } from "../authoring/durations.js";
import {
  type BroadcastOutcome,
  broadcastOutcome,
  type EventOptions,
  makeEvent,
  type Scope,
} from "../authoring/effects.js";
import { AgentReference, type Message, type MessageOptions, outgoing } from "../authoring/message.js";
import { decodePayload } from "../authoring/payload.js";
import { decodeReply, ProcessingResult } from "../authoring/result.js";
import { compileSchema } from "../authoring/schema.js";
import type { Infer, Schema } from "../authoring/schema-types.js";
import { AmxError, Code, InvalidInput } from "../errors.js";
import { EngineLinks } from "../host/engines.js";
import { Link } from "../host/link.js";
import type { Environment } from "../protocol/environment.js";
import type { Software } from "../protocol/link-protocol.js";
import { DURABILITY, type WirePayload } from "../protocol/wire.js";
import type { Connector } from "../transport/connection.js";
import { RemoteMemory } from "./memory.js";
import { specOf } from "./spec-of.js";
import { Subscription } from "./subscription.js";

const DEFAULT_TIMEOUT_MS = 30_000;
const DEFAULT_DRAIN_MS = 30_000;
const WELCOME_MS = 1000;

/** What an AmxEngine is made of. Made by builders. */
export interface EngineParts {
  agents: AgentSpec[];
  connector: Connector;
  environment: Environment;
  software: Software;
  concurrency: number;
  config: Readonly<Record<string, unknown>>;
  /** How long an engine that cannot be reached is tried again at the start, unless `start` says so. */
  patienceMs: number;
}

/** What else may be said of a call: when it must have ended (30 s unless given), and what gives it up. */
export interface AskOptions extends MessageOptions, CallLimits {}

/** A request whose reply is converted by a schema. */
export interface TypedAskOptions<S extends Schema> extends AskOptions {
  /** What the result is converted with: Standard Schema (zod, valibot, …) or JSON Schema. */
  output: S;
}

/**
 * An engine, as an application sees it.
 *
 *     const engine = AmxEngine.builder().withAgent(Greeter).build();
 *     await engine.start();
 *     console.log(await engine.request("Greeter", { name: "Ada" }));
 *     await engine.stop();
 *
 * Calls reject with AmxError and the engine's reason. While the link is lost they wait, until their timeouts.
 */
export class AmxEngine {
  private readonly parts: EngineParts;
  private agents: AgentSpec[];
  private link: Link | EngineLinks | undefined;
  private sent = 0;
  private readonly idPrefix: string;

  /** Use a builder. */
  constructor(parts: EngineParts) {
    this.parts = parts;
    this.agents = [...parts.agents];
    this.idPrefix = parts.environment.randomId().slice(0, 20);
  }

  // Life

  /** Where the engine is. */
  get address(): string {
    return this.parts.connector.address;
  }

  /** Whether there is a connection now. Calls may be made either way. */
  get connected(): boolean {
    return this.link?.connected ?? false;
  }

  /** Whether start() has been called, and stop() has not. */
  get started(): boolean {
    return this.link !== undefined;
  }

  /** What the builder was given. */
  get config(): Readonly<Record<string, unknown>> {
    return this.parts.config;
  }

  /**
   * Connects, and offers the agents to the engine.
   *
   * patience: how long an engine that cannot be reached is tried again; by default 10 s for an address that was given,
   * not at all for the default one. Rejects with AmxError ENGINE_UNREACHABLE, UNAUTHENTICATED, DEFINITION_CHANGED, or
   * whatever else the engine refuses the link for; nothing is left running then.
   */
  async start(options: { patience?: Duration } = {}): Promise<void> {
    if (this.link !== undefined) {
      throw new AmxError(Code.FAILED_PRECONDITION, "ALREADY_STARTED", "this AmxEngine is started; stop() it first");
    }
    const { patienceMs } = this.parts;
    const patience = options.patience === undefined ? patienceMs : milliseconds(options.patience, "patience");
    const link = new Link({ ...this.parts, agents: this.agents });
    this.link = link;
    try {
      await link.open(patience);
      if (link.engines.length) {
        await link.close(0);
        this.link = this.linksTo(link.engines, link.protocol.namespace);
        await this.link.open(Math.max(patience, WELCOME_MS));
      }
    } catch (error) {
      this.link = undefined;
      await link.close(0);
      throw error;
    }
  }

  /** Links to the engines that share the address. Each may run its part of `concurrency`. */
  private linksTo(engines: readonly string[], namespace: string): EngineLinks {
    const { connector } = this.parts;
    const concurrency = Math.max(1, Math.ceil(this.parts.concurrency / engines.length));
    const links = engines.map((engine) => {
      const way = connector.at?.(engine);
      if (way === undefined) {
        throw new AmxError(
          Code.FAILED_PRECONDITION,
          "ENGINES_CHANGED",
          `${engines.length} engines share ${connector.address}, and its connector leads to one only; give it at()`,
        );
      }
      return new Link({ ...this.parts, connector: way, agents: this.agents, concurrency, enginesKnown: true });
    });
    return new EngineLinks(links, namespace);
  }

  /**
   * Takes no new messages, lets handlers finish for up to `deadline` (30 s), then cancels them and disconnects. Does
   * nothing if it is not started.
   */
  async stop(options: { deadline?: Duration } = {}): Promise<void> {
    const { link } = this;
    if (link === undefined) return;
    await link.close(options.deadline === undefined ? DEFAULT_DRAIN_MS : milliseconds(options.deadline, "deadline"));
    if (this.link !== link) return; // stopped twice at once
    this.link = undefined;
    const closed = await Promise.allSettled(this.agents.map((agent) => agent.close?.()));
    const failed = closed.find((one) => one.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Resolves after stop(). Rejects with AmxError if the engine refused to have a lost link back. */
  async closed(): Promise<void> {
    await this.link?.ended;
  }

  /**
   * Hosts more agents, or newer versions, from now on; no longer those named in `removed`. Rejects with AmxError if the
   * engine refuses them; nothing has changed then.
   */
  async host(agents: object | readonly object[], removed: readonly string[] = []): Promise<void> {
    const joined = (Array.isArray(agents) ? agents : [agents]).map(specOf);
    await this.connectedLink().register(joined, removed);
    const gone = new Set([...removed, ...joined.map((agent) => agent.definition.name)]);
    const left = this.agents.filter((agent) => gone.has(agent.definition.name) && !joined.includes(agent));
    this.agents = [...this.agents.filter((agent) => !gone.has(agent.definition.name)), ...joined];
    await Promise.all(left.map((agent) => agent.close?.()));
  }

  // Messages

  /**
   * Sends a message and resolves with what its handler returned (a ProcessingResult if that is what was returned).
   * `message` is a Message, or its content.
   */
  // biome-ignore lint/suspicious/noExplicitAny: what the agent returns is its own business
  async sendMessage<T = any>(agent: string | AgentReference, message: unknown, options: AskOptions = {}): Promise<T> {
    return decodeReply(await this.ask(agent, message, options)) as T;
  }

  /**
   * Sends a message one way; resolves when the engine has it (stored, unless `durable` is false).
   *
   * `id` is its identity; two sends with the same are one message. Without one the SDK chooses one, so that a send that
   * a restart of the engine interrupts is repeated and still one message.
   */
  async send(agent: string | AgentReference, content?: unknown, options: AskOptions = {}): Promise<Receipt> {
    const message = outgoing(agent, content, options);
    if (!message.messageId && message.durability !== DURABILITY.VOLATILE)
      message.messageId = `${this.idPrefix}-${++this.sent}`;
    return this.connectedLink().calls.send(message, callOptions(options));
  }

  /**
   * Sends a message and resolves with what its handler returned: what JSON gives (a ProcessingResult if that is what was
   * returned), or what `output` makes of it. The handler is cancelled after `timeout`, and when `signal` aborts. A
   * repeat with the same `idempotencyKey` gets the first one's outcome.
   */
  async request<S extends Schema>(
    agent: string | AgentReference,
    content: unknown,
    options: TypedAskOptions<S>,
  ): Promise<Infer<S>>;
  async request<T = unknown>(agent: string | AgentReference, content?: unknown, options?: AskOptions): Promise<T>;
  async request(
    agent: string | AgentReference,
    content?: unknown,
    options: AskOptions & { output?: Schema } = {},
  ): Promise<unknown> {
    const payload = await this.ask(agent, content, options);
    return options.output === undefined ? decodeReply(payload) : converted(payload, options.output);
  }

  /** Sends bytes and resolves with the bytes of the reply, without looking at either: the fastest way to ask. */
  async requestBytes(
    agent: string | AgentReference,
    data: Uint8Array,
    options: AskOptions & { contentType?: string } = {},
  ): Promise<Uint8Array> {
    const message = outgoing(agent, undefined, options);
    message.payload = { contentType: options.contentType ?? "", data };
    return (await this.connectedLink().calls.request(message, callOptions(options))).data;
  }

  /**
   * Sends a message and yields what its handler yields. A handler that returns instead is a stream of one. The handler
   * waits for slow readers, and is cancelled if the reader leaves.
   */
  async *stream<T = unknown>(
    agent: string | AgentReference,
    content?: unknown,
    options: AskOptions = {},
  ): AsyncGenerator<T, void, undefined> {
    const message = outgoing(agent, content, options);
    for await (const payload of this.connectedLink().calls.stream(message, callOptions(options))) {
      yield decodeReply(payload) as T;
    }
  }

  /**
   * Publishes an event to whoever subscribed to its topic; resolves when the engine has it. `key`: instance at which
   * agents that subscribed by definition receive it. `durable`: stored per subscriber first.
   */
  async publish(topic: string, content?: unknown, options: EventOptions & CallLimits = {}): Promise<Publication> {
    return this.connectedLink().calls.publish(makeEvent(topic, content, options), callOptions(options));
  }

  /**
   * Events on topics that match, as Messages. pattern: `*` is one segment, `**` any number. filter: on attributes, e.g.
   * `severity in (high, critical)`.
   */
  subscribe<T = unknown>(pattern: string, options: { filter?: string; signal?: AbortSignal } = {}): Subscription<T> {
    const { calls } = this.connectedLink();
    const { filter, signal } = options;
    return new Subscription<T>(() =>
      calls.subscribe({ pattern, ...(filter ? { filter } : {}) }, signal === undefined ? {} : { signal }),
    );
  }

  /** Sends a message to many and resolves with what became of it at each. */
  async broadcast(scope: Scope, content?: unknown, options: AskOptions = {}): Promise<BroadcastOutcome> {
    const message = outgoing("", content, options);
    return broadcastOutcome(await this.connectedLink().calls.broadcast(scope.wire, message, callOptions(options)));
  }

  /** The memory of one instance, from outside. */
  memory(agent: string | AgentReference, key = ""): RemoteMemory {
    const reference = typeof agent === "string" ? AgentReference.parse(agent) : agent;
    return new RemoteMemory(this.connectedLink().calls, reference.name, key || reference.key);
  }

  private ask(agent: string | AgentReference, content: unknown, options: AskOptions): Promise<WirePayload> {
    return this.connectedLink().calls.request(outgoing(agent, content as Message, options), callOptions(options));
  }

  private connectedLink(): Link | EngineLinks {
    if (this.link !== undefined) return this.link;
    throw new AmxError(
      Code.FAILED_PRECONDITION,
      "NOT_STARTED",
      "this AmxEngine is not started; `await engine.start()` first",
    );
  }
}

function callOptions(limits: CallLimits): CallOptions {
  const { timeout, signal } = limits;
  const options: CallOptions = { timeoutMs: DEFAULT_TIMEOUT_MS };
  if (timeout !== undefined) {
    const ms = milliseconds(timeout, "timeout");
    if (ms <= 0 || ms >= 2 ** 41) {
      throw new AmxError(
        Code.INVALID_ARGUMENT,
        "INVALID_TIMEOUT",
        `timeout is ${JSON.stringify(timeout)}; give a positive length of time, e.g. 5000 or "5s"`,
      );
    }
    options.timeoutMs = ms;
  }
  if (signal !== undefined) options.signal = signal;
  return options;
}

function converted(payload: WirePayload, schema: Schema): unknown {
  const reply = decodeReply(payload);
  const value = reply instanceof ProcessingResult ? reply.data : decodePayload(payload);
  if (value !== undefined && (typeof value !== "object" || !(value instanceof Uint8Array))) {
    return compileSchema(schema, "output").decode(value as never, "");
  }
  throw new InvalidInput(`the reply is ${value === undefined ? "empty" : "no JSON"}, which the schema cannot convert`);
}
