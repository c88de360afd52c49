// The decorators: standard (TC39) ones, each usable bare and with options. They take notes; see notes.ts.

import { AGENT_SPEC, type AgentSpec } from "../agent-spec.js";
import { DefinitionError } from "../errors.js";
import { accessorFor } from "./attach.js";
import { sharedCapability } from "./capability.js";
import type { Context } from "./context.js";
import type { Duration } from "./durations.js";
import {
  type AgentOptions,
  type HandlerOptions,
  type Kind,
  list,
  type MemoryNote,
  type MemoryOptions,
  type MethodNote,
  methodNote,
  notesIn,
  requireMember,
  type ScheduleOptions,
} from "./notes.js";
import type { Infer, Schema } from "./schema-types.js";
import { agentSpecOf } from "./spec.js";

// biome-ignore lint/suspicious/noExplicitAny: decorators must take methods of any class, with any parameters
type AnyMethod = (this: any, ...given: any[]) => unknown;
// biome-ignore lint/suspicious/noExplicitAny: as above
type AnyClass = abstract new (...given: any[]) => any;

function compiledSpec(this: object): AgentSpec {
  return agentSpecOf(this);
}

/** Makes a class something the engine hosts. Bare, or with options. */
export interface ClassDecorator {
  <C extends AnyClass>(target: C, context: ClassDecoratorContext<C>): void;
  (options?: AgentOptions): <C extends AnyClass>(target: C, context: ClassDecoratorContext<C>) => void;
}

function classDecorator(kind: Kind, decorator: string): ClassDecorator {
  const note = (options: AgentOptions, target: AnyClass, context: ClassDecoratorContext): void => {
    if (typeof target !== "function" || context?.kind !== "class") {
      throw new DefinitionError(
        `@${decorator} goes on a class, as a standard decorator; turn experimentalDecorators off in tsconfig.json`,
      );
    }
    const name = options.name ?? context.name ?? "";
    notesIn(context.metadata, decorator).agent = { kind, decorator, options: { ...options, name } };
    for (const holder of [target, target.prototype] as object[]) {
      Object.defineProperty(holder, AGENT_SPEC, { value: compiledSpec, configurable: true });
    }
  };
  return ((first?: AnyClass | AgentOptions, context?: ClassDecoratorContext) => {
    if (typeof first === "function") {
      note({}, first, context as ClassDecoratorContext);
      return undefined;
    }
    return (target: AnyClass, given: ClassDecoratorContext) => note(first ?? {}, target, given);
  }) as ClassDecorator;
}

/** An agent: `@Agent({ name: "Cart", version: "1.0.0" })`. */
export const Agent = classDecorator("agent", "Agent");
/** A pipeline: its methods decorated with `@stage` run in order within one invocation. */
export const Pipeline = classDecorator("pipeline", "Pipeline");
/** A message router: extends BaseMessageRouter, and chooses the agent of messages that name none. */
export const MessageRouter = classDecorator("router", "MessageRouter");
/** A performance monitor: extends BasePerformanceMonitor, and is told of every processed message. */
export const PerformanceMonitor = classDecorator("monitor", "PerformanceMonitor");
export const pipeline = Pipeline;
export const messageRouter = MessageRouter;
export const performanceMonitor = PerformanceMonitor;

/** A decorator of methods whose first parameter takes `Input`. */
type MethodDecorator_<Input> = <
  // biome-ignore lint/suspicious/noExplicitAny: contexts and instances of any agent
  F extends (this: any, input: Input, context: Context<any>) => unknown,
>(
  method: F,
  context: ClassMethodDecoratorContext,
) => void;

type InputOf<Options> = Options extends { readonly input: infer S extends Schema } ? Infer<S> : never;

/**
 * Makes a method receive messages. It is called with the content and the Context; what it returns, or resolves with, is
 * the result; an async generator streams. With `input`, the content is what the schema makes of it.
 */
export function handler<F extends AnyMethod>(method: F, context: ClassMethodDecoratorContext): void;
export function handler<const Options extends HandlerOptions>(
  options: Options,
): MethodDecorator_<[InputOf<Options>] extends [never] ? never : InputOf<Options>>;
export function handler(first?: AnyMethod | HandlerOptions, context?: ClassMethodDecoratorContext): unknown {
  const note = (options: HandlerOptions, given: ClassMethodDecoratorContext): void => {
    const said = methodNote(given, "handler");
    said.handler = true;
    said.options = { ...said.options, ...options };
  };
  if (typeof first === "function") {
    note({}, context as ClassMethodDecoratorContext);
    return undefined;
  }
  refuseLegacy(context, "handler");
  return (_: AnyMethod, given: ClassMethodDecoratorContext) => note(first ?? {}, given);
}

/**
 * Makes a method receive events: `@subscribe("orders.*", { filter: "region = eu" })`. It is a handler by that.
 * `*` is one segment of a topic, `**` any number.
 */
export function subscribe(
  topics: string | readonly string[],
  options: { filter?: string } = {},
): MethodDecorator_<never> {
  const patterns = list(topics);
  if (patterns.length === 0 || !patterns.every((topic) => typeof topic === "string" && topic !== "")) {
    throw new DefinitionError('@subscribe needs a topic pattern: @subscribe("orders.*")');
  }
  return (_, context) => {
    const said = methodNote(context, "subscribe");
    said.handler = true;
    said.subscriptions.push(...patterns.map((pattern) => ({ pattern, filter: options.filter ?? "" })));
  };
}

/**
 * Runs a method by itself, at exactly one of `fixedRate`, `fixedDelay` (after the end of each run), `cron` and `after`.
 * Bare, it runs once a minute. May be there several times.
 */
export function scheduled<F extends AnyMethod>(method: F, context: ClassMethodDecoratorContext): void;
export function scheduled(options: ScheduleOptions): MethodDecorator_<never>;
export function scheduled(first: AnyMethod | ScheduleOptions, context?: ClassMethodDecoratorContext): unknown {
  const note = (options: ScheduleOptions, given: ClassMethodDecoratorContext): void => {
    const said = methodNote(given, "scheduled");
    said.handler = true;
    said.schedules.unshift({ ...options, name: options.name ?? String(given.name) }); // decorators apply upwards
  };
  if (typeof first === "function") {
    note({ fixedRate: "1m" }, context as ClassMethodDecoratorContext);
    return undefined;
  }
  refuseLegacy(context, "scheduled");
  return (_: AnyMethod, given: ClassMethodDecoratorContext) => note(first, given);
}

/** Demands permissions of the caller of a handler, or of every handler of a class: all of them, as `area:action`. */
export function requiresPermission(
  ...permissions: string[]
): (target: AnyMethod | AnyClass, context: ClassMethodDecoratorContext | ClassDecoratorContext) => void {
  if (permissions.length === 0 || !permissions.every((permission) => typeof permission === "string")) {
    throw new DefinitionError('@requiresPermission needs permissions: @requiresPermission("orders:write")');
  }
  return (_, context) => {
    if (context?.kind === "class") {
      notesIn(context.metadata, "requiresPermission").permissions.push(...permissions);
    } else {
      methodNote(context, "requiresPermission").permissions.push(...permissions);
    }
  };
}

/** Makes a method a stage of a pipeline. Lower orders run first; without one, stages run as they are written. */
export function stage<F extends AnyMethod>(method: F, context: ClassMethodDecoratorContext): void;
export function stage(options: { order?: number; timeout?: Duration }): MethodDecorator_<never>;
export function stage(
  first: AnyMethod | { order?: number; timeout?: Duration },
  context?: ClassMethodDecoratorContext,
): unknown {
  const note = (options: { order?: number; timeout?: Duration }, given: ClassMethodDecoratorContext): void => {
    methodNote(given, "stage").stage = { order: options.order, timeout: options.timeout };
  };
  if (typeof first === "function") {
    note({}, context as ClassMethodDecoratorContext);
    return undefined;
  }
  refuseLegacy(context, "stage");
  return (_: AnyMethod, given: ClassMethodDecoratorContext) => note(first, given);
}

/** Makes a method `(context, error)` decide what a failed pipeline returns. Bare, or called without arguments. */
export function errorHandler<F extends AnyMethod>(method: F, context: ClassMethodDecoratorContext): void;
export function errorHandler(): MethodDecorator_<never>;
export function errorHandler(first?: AnyMethod, context?: ClassMethodDecoratorContext): unknown {
  const note = (given: ClassMethodDecoratorContext): MethodNote => {
    const said = methodNote(given, "errorHandler");
    said.errorHandler = true;
    return said;
  };
  if (typeof first === "function") {
    note(context as ClassMethodDecoratorContext);
    return undefined;
  }
  return (_: AnyMethod, given: ClassMethodDecoratorContext) => void note(given);
}

/** A decorator that takes options, and got what a legacy decorator gets. */
function refuseLegacy(context: unknown, decorator: string): void {
  if (context !== undefined) {
    requireMember(context, decorator, "method");
  }
}

/** A decorator of fields, and of accessors (`@memory accessor total = 0`). */
export interface FieldDecorator {
  <This extends object, Value>(value: undefined, context: ClassFieldDecoratorContext<This, Value>): void;
  <This extends object, Value>(
    value: ClassAccessorDecoratorTarget<This, Value>,
    context: ClassAccessorDecoratorContext<This, Value>,
  ): ClassAccessorDecoratorResult<This, Value>;
}

/**
 * Declares what every instance of an agent remembers:
 *
 *     @memory({ persistent: true, ttl: "24h" })
 *     private history: Map<string, Conversation> = new Map();
 *
 * The initial value says what it is: a Map, a Set, a list, or a single value. Changes are noticed as they happen, also
 * deep inside, and are committed with the handler's result, or undone if it fails. Entries live `ttl` long since they
 * were last written; `maxSize` bounds them. Values are what JSON holds; others need a `schema`.
 */
export function memory<This extends object, Value>(
  value: undefined,
  context: ClassFieldDecoratorContext<This, Value>,
): void;
export function memory<This extends object, Value>(
  value: ClassAccessorDecoratorTarget<This, Value>,
  context: ClassAccessorDecoratorContext<This, Value>,
): ClassAccessorDecoratorResult<This, Value>;
export function memory(options?: MemoryOptions): FieldDecorator;
export function memory(first?: unknown, context?: unknown): unknown {
  if (isContext(context)) {
    return noteMemory({}, first, context);
  }
  return (value: unknown, given: unknown) => noteMemory((first ?? {}) as MemoryOptions, value, given);
}

function isContext(context: unknown): context is ClassFieldDecoratorContext | ClassAccessorDecoratorContext {
  return context !== undefined;
}

function noteMemory(options: MemoryOptions, value: unknown, context: unknown): unknown {
  requireMember(context, "memory", "field");
  const given = context as ClassFieldDecoratorContext<object> | ClassAccessorDecoratorContext<object>;
  const name = String(given.name).replace(/^#/, "");
  const note: MemoryNote = {
    options,
    accessor: given.kind === "accessor",
    access: given.private && given.kind === "field" ? given.access : undefined,
  };
  notesIn(given.metadata, "memory").memories.set(name, note);
  return given.kind === "accessor"
    ? accessorFor(name, value as ClassAccessorDecoratorTarget<object, unknown>)
    : undefined;
}

/**
 * Makes a method without parameters, or a getter, build a dependency at first use: once for each process and class, shared
 * by all instances. What it builds is disposed of when the agent stops being hosted; see capability.ts.
 */
export function capability<F extends AnyMethod>(
  build: F,
  context: ClassMethodDecoratorContext | ClassGetterDecoratorContext,
): F;
export function capability(): <F extends AnyMethod>(
  build: F,
  context: ClassMethodDecoratorContext | ClassGetterDecoratorContext,
) => F;
export function capability(
  first?: AnyMethod,
  context?: ClassMethodDecoratorContext | ClassGetterDecoratorContext,
): unknown {
  const note = (build: AnyMethod, given: ClassMethodDecoratorContext | ClassGetterDecoratorContext): AnyMethod => {
    if (given?.kind !== "getter") {
      requireMember(given, "capability", "method");
    }
    if (given.kind === "method" && build.length > 0) {
      throw new DefinitionError(`@capability ${String(given.name)} takes parameters; what is shared cannot`);
    }
    const name = String(given.name);
    notesIn(given.metadata, "capability").capabilities.add(name);
    return sharedCapability(name, build);
  };
  return typeof first === "function"
    ? note(first, context as ClassMethodDecoratorContext)
    : (build: AnyMethod, given: ClassMethodDecoratorContext) => note(build, given);
}
