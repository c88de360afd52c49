// defineAgent: an agent without a class and without decorators, with every type inferred.

import { AGENT_SPEC, type AgentSpec } from "../agent-spec.js";
import { DefinitionError } from "../errors.js";
import { compile, type HandlerPlan } from "./compile.js";
import type { Context } from "./context.js";
import { type AgentOptions, type HandlerOptions, list, type MemoryOptions } from "./notes.js";
import type { Infer, Schema } from "./schema-types.js";
import { isAsyncGenerator, schedulesOf } from "./spec-options.js";

/** A memory of a defined agent: what it holds at first, and its options. Made by `remember`. */
export interface Remembered<T> {
  readonly initial: () => T;
  readonly options: MemoryOptions;
}

/**
 * Declares a memory: `counts: remember(() => new Map<string, number>(), { persistent: true })`. What the function
 * returns says whether it is a Map, a Set, a list or a single value.
 */
export function remember<T>(initial: () => T, options: MemoryOptions = {}): Remembered<T> {
  if (typeof initial !== "function") {
    throw new DefinitionError("remember() takes a function that returns the initial value: remember(() => new Map())");
  }
  return { initial, options };
}

/** The memories of a defined agent, as its handlers see them: `context.memory`. */
export type MemoryOf<M> = { -readonly [Name in keyof M]: M[Name] extends Remembered<infer T> ? T : never };

/** A handler of a defined agent, with its types. Made by the `on` that `handlers` gets. */
export interface DefinedHandler<Input, Output> {
  readonly options: HandlerOptions;
  // biome-ignore lint/suspicious/noExplicitAny: the types are those of the interface
  readonly run: (input: any, context: Context<any>) => unknown;
  readonly types?: { readonly input: Input; readonly output: Output };
}

/** What a handler gives: of a streaming one, its chunks. */
type Given<O> = O extends AsyncIterable<infer Chunk> ? Chunk : Awaited<O>;

/** Makes handlers: of a function `(input, context)`, or of options and one. */
export interface On<M> {
  <Input, Output>(run: (input: Input, context: Context<MemoryOf<M>>) => Output): DefinedHandler<Input, Given<Output>>;
  <const S extends Schema, Output>(
    options: HandlerOptions & { readonly input: S },
    run: (input: Infer<S>, context: Context<MemoryOf<M>>) => Output,
  ): DefinedHandler<Infer<S>, Given<Output>>;
  <Input, Output>(
    options: HandlerOptions & { readonly input?: undefined },
    run: (input: Input, context: Context<MemoryOf<M>>) => Output,
  ): DefinedHandler<Input, Given<Output>>;
}

/** What defineAgent takes. */
export interface AgentParts<M, H> extends AgentOptions {
  readonly name: string;
  /** What every instance remembers, by name. */
  readonly memory?: M;
  /** Its handlers, by name. */
  readonly handlers: (on: On<M>) => H;
}

/** What defineAgent made: hand it to `withAgent`. Its types are those of its handlers. */
export class DefinedAgent<M = unknown, H = unknown> {
  /** Only types. */
  declare readonly handlers: H;
  declare readonly memory: MemoryOf<M>;

  readonly [AGENT_SPEC]: AgentSpec;

  constructor(
    readonly name: string,
    spec: AgentSpec,
  ) {
    this[AGENT_SPEC] = spec;
  }
}

/** What a handler of a defined agent takes. */
export type InputOf<A extends DefinedAgent, Name extends keyof A["handlers"]> =
  A["handlers"][Name] extends DefinedHandler<infer Input, unknown> ? Input : never;

/** What a handler of a defined agent gives; of a streaming one, each chunk. */
export type OutputOf<A extends DefinedAgent, Name extends keyof A["handlers"]> =
  A["handlers"][Name] extends DefinedHandler<infer _Input, infer Output> ? Output : never;

/**
 * An agent:
 *
 *     const Greeter = defineAgent({
 *       name: "Greeter",
 *       memory: { counts: remember(() => new Map<string, number>(), { persistent: true }) },
 *       handlers: (on) => ({
 *         greet: on({ input: z.string() }, async (name, { memory }) => {
 *           memory.counts.set(name, (memory.counts.get(name) ?? 0) + 1);
 *           return `Hello, ${name}!`;
 *         }),
 *       }),
 *     });
 *
 * Throws DefinitionError naming the culprit and the cure.
 */
export function defineAgent<
  // biome-ignore lint/suspicious/noExplicitAny: memories and handlers of any types
  M extends Readonly<Record<string, Remembered<any>>> = Record<never, never>,
  // biome-ignore lint/suspicious/noExplicitAny: as above
  H extends Readonly<Record<string, DefinedHandler<any, any>>> = Record<never, never>,
>(parts: AgentParts<M, H>): DefinedAgent<M, H> {
  const { memory, handlers, ...options } = parts;
  const memories: [string, Remembered<unknown>][] = Object.entries(memory ?? {});
  const initial = () => new Map(memories.map(([name, one]) => [name, one.initial()]));
  const spec = compile({
    kind: "agent",
    where: parts.name,
    options,
    handlers: Object.entries(handlers(on as On<M>)).map(([name, one]) => planOf(name, one)),
    memories: new Map(memories.map(([name, one]) => [name, one.options])),
    samples: initial(),
    capabilities: [],
    make: () => ({ self: {}, initial: initial(), attach: () => {} }),
  });
  return new DefinedAgent<M, H>(parts.name, spec);
}

type Run = DefinedHandler<unknown, unknown>["run"];

function on(first: HandlerOptions | Run, second?: Run): DefinedHandler<unknown, unknown> {
  const [options, run] = typeof first === "function" ? [{}, first] : [first, second];
  if (typeof run !== "function") {
    throw new DefinitionError(
      "on() takes a function, or options and a function: on({ input: schema }, async (input) => …)",
    );
  }
  return { options, run };
}

function planOf(name: string, one: DefinedHandler<unknown, unknown>): HandlerPlan {
  const { options, run } = one;
  const filter = options.filter ?? "";
  return {
    name: options.name ?? name,
    options,
    permissions: list(options.permissions),
    subscriptions: list(options.topics).map((pattern) => ({ pattern, filter })),
    schedules: schedulesOf(options, name),
    streaming: options.streaming ?? isAsyncGenerator(run),
    call: (_, content, context) => run(content, context),
  };
}
