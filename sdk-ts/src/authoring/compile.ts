// Compiles what was said of an agent, by decorators or defineAgent, into what the engine is told and what the host runs.

import { create } from "@bufbuild/protobuf";
import { type AgentInstance, type AgentSpec, EMPTY, type HandlerRun, type HandlerSpec } from "../agent-spec.js";
import { AmxError, Code, DefinitionError, InvalidInput } from "../errors.js";
import {
  type AgentDefinition,
  AgentDefinitionSchema,
  AgentKind,
  type HandlerDefinition,
  HandlerDefinitionSchema,
  HandlerExecution,
  MemoryDefinitionSchema,
  type MissedRuns,
  ScheduleDefinitionSchema,
} from "../gen/amx/v1/agent_pb.js";
import { Durability } from "../gen/amx/v1/common_pb.js";
import { type IncomingMessage, MEMORY_KIND, type WirePayload } from "../protocol/wire.js";
import { Context } from "./context.js";
import { milliseconds, positiveMilliseconds } from "./durations.js";
import { makeSchedule } from "./effects.js";
import type { Json } from "./json.js";
import { Codec } from "./memory/codec.js";
import { kindOf, Memories, type MemorySpec, register } from "./memory/instance.js";
import { Message, texts } from "./message.js";
import {
  type AgentOptions,
  type HandlerOptions,
  type Kind,
  list,
  type MemoryOptions,
  type ScheduleOptions,
} from "./notes.js";
import { encodePayload, isPayloadSource, jsonPayload } from "./payload.js";
import { type Converter, compileSchema } from "./schema.js";
import { supervisorPolicy } from "./supervision.js";
import { encodeJson } from "./values.js";

/** What is handed from `decode` to `call`: a message and its content. Shared by the targets of one event. */
export interface Received {
  readonly message: Message;
  readonly content: unknown;
}

/** One handler, as it was said. */
export interface HandlerPlan {
  readonly name: string;
  readonly options: HandlerOptions;
  /** Of its class, and its own. */
  readonly permissions: readonly string[];
  readonly subscriptions: readonly { readonly pattern: string; readonly filter: string }[];
  readonly schedules: readonly ScheduleOptions[];
  readonly streaming: boolean;
  /** Never the default handler by itself. */
  readonly hidden?: boolean;
  call(self: object, content: unknown, context: Context): unknown;
  /** In place of the usual encoding of results. */
  encode?(value: unknown): WirePayload;
}

/** An object of an agent, before its memories are attached. */
export interface Made {
  readonly self: object;
  readonly initial: ReadonlyMap<string, unknown>;
  /** Gives it its memories. */
  attach(memories: Memories, record: object): void;
}

/** An agent, as it was said. */
export interface Plan {
  readonly kind: Kind;
  /** For error messages. */
  readonly where: string;
  readonly options: AgentOptions & { readonly name: string };
  readonly handlers: readonly HandlerPlan[];
  readonly memories: ReadonlyMap<string, MemoryOptions>;
  /** Initial values to learn the kinds of memories from. */
  readonly samples: ReadonlyMap<string, unknown>;
  readonly capabilities: readonly string[];
  make(key: string): Made;
  close?(): Promise<void>;
}

const NAME = /^[A-Za-z0-9._-]{1,128}$/;
const VERSION = /^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?$/;
const PERMISSION = /^[A-Za-z0-9_.*-]+(?::[A-Za-z0-9_.*-]+)*$/;
const KINDS: Readonly<Record<Kind, AgentKind>> = {
  agent: AgentKind.AGENT,
  router: AgentKind.ROUTER,
  monitor: AgentKind.MONITOR,
  pipeline: AgentKind.PIPELINE,
};

/** The agent. Throws DefinitionError naming the culprit and the cure. */
export function compile(plan: Plan): AgentSpec {
  try {
    return new CompiledAgent(plan);
  } catch (error) {
    if (error instanceof InvalidInput) {
      throw new DefinitionError(`${plan.where}: ${error.message}`);
    }
    throw error;
  }
}

class CompiledAgent implements AgentSpec {
  readonly definition: AgentDefinition;
  readonly handlers: ReadonlyMap<string, HandlerSpec>;
  private readonly memories: ReadonlyMap<string, MemorySpec>;
  readonly close?: () => Promise<void>;

  constructor(private readonly plan: Plan) {
    const { options, where } = plan;
    check(NAME, options.name, `${where}: the name`, "1 to 128 letters, digits, dots, underscores and hyphens");
    const version = options.version ?? "1.0.0";
    check(VERSION, version, `${where}: the version`, "a semantic version such as 1.0.0");
    this.memories = new Map([...plan.memories].map(([name, said]) => [name, memorySpec(plan, name, said)]));
    const handlers = new Map<string, HandlerSpec>();
    const definitions: HandlerDefinition[] = [];
    for (const one of plan.handlers) {
      check(NAME, one.name, `${where}: the handler's name`, "letters, digits, dots, _ and -");
      if (handlers.has(one.name)) {
        throw new DefinitionError(`${where}: there are two handlers '${one.name}'; give one of them another name`);
      }
      const at = `${where}.${one.name}`;
      const input = one.options.input === undefined ? undefined : compileSchema(one.options.input, `${at} input`);
      const output = one.options.output === undefined ? undefined : compileSchema(one.options.output, `${at} output`);
      handlers.set(one.name, new CompiledHandler(one, input, output) as HandlerSpec);
      definitions.push(handlerDefinition(one, input, output, at));
    }
    if (handlers.size === 0) {
      throw new DefinitionError(`${where} has no handlers; decorate a method with @handler`);
    }
    this.handlers = handlers;
    this.definition = create(AgentDefinitionSchema, {
      name: options.name,
      version,
      kind: KINDS[plan.kind],
      description: options.description ?? "",
      handlers: definitions,
      memories: [...this.memories.values()].map((spec) =>
        create(MemoryDefinitionSchema, {
          name: spec.name,
          kind: spec.kind,
          persistent: spec.persistent,
          ttlMs: BigInt(spec.ttlMs),
          maxEntries: spec.maxEntries,
          description: spec.description,
        }),
      ),
      schedules: plan.handlers.flatMap((one) => one.schedules.map((said) => scheduleDefinition(one, said))),
      groups: [...list(options.groups)],
      labels: { ...texts(options.labels ?? {}, "labels") },
      idleTimeoutMs: BigInt(options.idleTimeout === undefined ? 0 : milliseconds(options.idleTimeout, "idleTimeout")),
      mailboxCapacity: options.mailboxCapacity ?? 0,
      capabilities: [...plan.capabilities],
      defaultHandler: defaultHandler(plan),
      order: options.order ?? 0,
      ...(options.supervisor === undefined ? {} : { supervisor: supervisorPolicy(options.supervisor, where) }),
    });
    if (plan.close !== undefined) {
      this.close = plan.close.bind(plan);
    }
  }

  createInstance(key: string, now: () => number): AgentInstance {
    const made = this.plan.make(key);
    return new Instance(made, this.memories, now);
  }
}

/** One instance: the application's object, its memories, and the record of them that contexts have. */
class Instance implements AgentInstance {
  readonly self: object;
  readonly memory: Memories | undefined;
  readonly record: Readonly<Record<string, unknown>>;

  constructor(made: Made, specs: ReadonlyMap<string, MemorySpec>, now: () => number) {
    this.self = made.self;
    const record: Record<string, unknown> = {};
    this.record = record;
    if (specs.size === 0) {
      this.memory = undefined;
      made.attach(new Memories(specs, () => undefined, now), record);
      return;
    }
    const memories = new Memories(specs, (name) => made.initial.get(name), now);
    this.memory = memories;
    for (const name of specs.keys()) {
      Object.defineProperty(record, name, {
        get: () => memories.read(name),
        set: (value: unknown) => memories.assign(name, value),
        enumerable: true,
      });
    }
    register(record, memories);
    made.attach(memories, record);
  }
}

class CompiledHandler implements HandlerSpec<Received> {
  readonly name: string;
  readonly streaming: boolean;
  readonly concurrent: boolean;

  constructor(
    private readonly plan: HandlerPlan,
    private readonly input: Converter | undefined,
    private readonly output: Converter | undefined,
  ) {
    this.name = plan.name;
    this.streaming = plan.streaming;
    this.concurrent = plan.options.concurrent ?? false;
  }

  decode(incoming: IncomingMessage): Received | Promise<Received> {
    const message = Message.received(incoming);
    try {
      const content = message.content;
      if (this.input === undefined) {
        return { message, content };
      }
      const decoded = this.input.decode(content as Json | undefined, "");
      if (decoded instanceof Promise) {
        return decoded.then(
          (value) => ({ message, content: value }),
          (error) => {
            throw this.invalid("", error);
          },
        );
      }
      return { message, content: decoded };
    } catch (error) {
      throw this.invalid("", error);
    }
  }

  call(instance: AgentInstance, input: Received, run: HandlerRun): unknown {
    const { self, record } = instance as Instance;
    return this.plan.call(self, input.content, new Context(run, record, input.message));
  }

  encode(value: unknown): WirePayload | Promise<WirePayload> {
    try {
      if (this.plan.encode !== undefined) {
        return this.plan.encode(value);
      }
      if (value === undefined && (this.output === undefined || this.streaming)) {
        return EMPTY;
      }
      return this.encodeValue(value);
    } catch (error) {
      throw this.invalid("INVALID_OUTPUT", error);
    }
  }

  encodeChunk(value: unknown): WirePayload | Promise<WirePayload> {
    try {
      return this.encodeValue(value);
    } catch (error) {
      throw this.invalid("INVALID_OUTPUT", error);
    }
  }

  private encodeValue(value: unknown): WirePayload | Promise<WirePayload> {
    if (this.output === undefined || isPayloadSource(value)) {
      return encodePayload(value);
    }
    const encoded = this.output.encode(value, "");
    if (encoded instanceof Promise) {
      return encoded.then(
        (json) => jsonPayload(encodeJson(json)),
        (error) => {
          throw this.invalid("INVALID_OUTPUT", error);
        },
      );
    }
    return jsonPayload(encodeJson(encoded));
  }

  /** reason: in place of the error's own, INVALID_INPUT or (for what is not JSON) INVALID_VALUE. */
  private invalid(reason: string, error: unknown): unknown {
    if (!(error instanceof InvalidInput)) {
      return error;
    }
    const what = reason === "" ? "input" : "result";
    const field = error.pointer === "" ? {} : { field: error.pointer };
    return new AmxError(
      Code.INVALID_ARGUMENT,
      reason || error.reason,
      `${what} of handler '${this.name}': ${error.message}`,
      {
        metadata: { handler: this.name, ...field },
      },
    );
  }
}

function handlerDefinition(
  plan: HandlerPlan,
  input: Converter | undefined,
  output: Converter | undefined,
  where: string,
): HandlerDefinition {
  const { options } = plan;
  const definition = create(HandlerDefinitionSchema, {
    name: plan.name,
    description: options.description ?? "",
    inputSchema: input?.text.input ?? "",
    outputSchema: output?.text.output ?? "",
    streaming: plan.streaming,
    concurrent: options.concurrent ?? false,
    timeoutMs: BigInt(options.timeout === undefined ? 0 : milliseconds(options.timeout, `${where} timeout`)),
    messageTypes: [...list(options.messageTypes)],
  });
  if (options.durable !== undefined) {
    definition.durability = options.durable ? Durability.DURABLE : Durability.VOLATILE;
  }
  const retry = typeof options.retry === "number" ? { attempts: options.retry } : options.retry;
  if (retry !== undefined) {
    const { attempts, multiplier } = retry;
    if (attempts !== undefined && !(Number.isInteger(attempts) && attempts >= 1)) {
      throw new DefinitionError(`${where}: retry of ${attempts} attempts; at least 1 is made, which means no repeats`);
    }
    if (multiplier !== undefined && !(multiplier >= 1)) {
      throw new DefinitionError(`${where}: retry multiplier ${multiplier}: waits cannot shrink; use 1 or more`);
    }
    definition.retry = {
      $typeName: "amx.v1.RetryPolicy",
      maxAttempts: attempts ?? 0,
      initialBackoffMs: BigInt(retry.initial === undefined ? 0 : milliseconds(retry.initial, "retry.initial")),
      multiplier: multiplier ?? 0,
      maxBackoffMs: BigInt(retry.maximum === undefined ? 0 : milliseconds(retry.maximum, "retry.maximum")),
      retryableReasons: [...(retry.only ?? [])],
      nonRetryableReasons: [...(retry.never ?? [])],
    };
  }
  const breaker = options.circuitBreaker;
  if (breaker !== undefined) {
    const said = typeof breaker === "boolean" ? {} : breaker;
    definition.circuitBreaker = {
      $typeName: "amx.v1.CircuitBreakerPolicy",
      failureThreshold: said.failures ?? 0,
      openMs: BigInt(said.rest === undefined ? 0 : milliseconds(said.rest, "circuitBreaker.rest")),
      disabled: breaker === false,
    };
  }
  if (options.execution !== undefined) {
    if (options.execution !== "loop") {
      throw new DefinitionError(
        `${where}: execution ${JSON.stringify(options.execution)}: a handler of JavaScript cannot leave the event loop;` +
          " put what computes into a function of a module and await it with Threads, or leave execution out",
      );
    }
    definition.execution = HandlerExecution.LOOP;
  }
  for (const permission of new Set(plan.permissions)) {
    check(PERMISSION, permission, `${where}: the permission`, "the form area:action");
    definition.permissions.push(permission);
  }
  for (const { pattern, filter } of plan.subscriptions) {
    definition.subscriptions.push({ $typeName: "amx.v1.Subscription", pattern, filter, handler: plan.name });
  }
  return definition;
}

function scheduleDefinition(plan: HandlerPlan, said: ScheduleOptions) {
  const made = makeSchedule(said.name ?? plan.name, plan.name, said);
  const definition = create(ScheduleDefinitionSchema, {
    name: made.name,
    handler: made.handler,
    timeZone: made.timeZone ?? "",
    missed: made.missed as MissedRuns,
    initialDelayMs: BigInt(made.initialDelayMs ?? 0),
    key: said.key ?? "",
  });
  if (made.fixedRateMs !== undefined) {
    definition.timing = { case: "fixedRateMs", value: BigInt(made.fixedRateMs) };
  } else if (made.fixedDelayMs !== undefined) {
    definition.timing = { case: "fixedDelayMs", value: BigInt(made.fixedDelayMs) };
  } else if (made.cron !== undefined) {
    definition.timing = { case: "cron", value: made.cron };
  } else {
    definition.timing = { case: "onceAfterMs", value: BigInt(made.onceAfterMs ?? 0) };
  }
  return definition;
}

/** The handler of messages that name none: the one that says so, else the only one that is asked at all. */
function defaultHandler(plan: Plan): string {
  const said = plan.handlers.filter((one) => one.options.default === true);
  if (said.length > 1) {
    const names = said.map((one) => `'${one.name}'`).join(" and ");
    throw new DefinitionError(`${plan.where}: ${names} are both default: true; choose one`);
  }
  if (said[0] !== undefined) {
    return said[0].name;
  }
  if (plan.kind === "pipeline") {
    return "run";
  }
  // What runs by schedule or on events is rarely what a message without a handler's name is for.
  const asked = plan.handlers.filter(
    (one) => one.hidden !== true && one.schedules.length === 0 && one.subscriptions.length === 0,
  );
  return asked.length === 1 ? (asked[0] as HandlerPlan).name : "";
}

function memorySpec(plan: Plan, name: string, said: MemoryOptions): MemorySpec {
  const where = `${plan.where}.${name}`;
  const kind = kindOf(plan.samples.get(name));
  const maxEntries = said.maxSize ?? 0;
  if (!Number.isInteger(maxEntries) || maxEntries < 0) {
    throw new DefinitionError(`${where}: maxSize is ${maxEntries}; use a positive whole number, or leave it out`);
  }
  if (maxEntries > 0 && kind === MEMORY_KIND.VALUE) {
    throw new DefinitionError(`${where} is a single value; maxSize is for Maps, Sets and lists`);
  }
  if (said.keys !== undefined && kind !== MEMORY_KIND.MAP) {
    throw new DefinitionError(`${where} is no Map; keys are of Maps`);
  }
  const [item, key] = kind === MEMORY_KIND.SET ? [undefined, said.schema] : [said.schema, said.keys];
  return {
    name,
    kind,
    persistent: said.persistent ?? false,
    ttlMs: said.ttl === undefined ? 0 : positiveMilliseconds(said.ttl, "ttl"),
    maxEntries,
    description: said.description ?? "",
    codec: new Codec(item, key, where),
  };
}

function check(pattern: RegExp, value: unknown, what: string, rule: string): void {
  if (typeof value !== "string" || !pattern.test(value)) {
    throw new DefinitionError(`${what} ${JSON.stringify(value)} will not do; use ${rule}`);
  }
}
