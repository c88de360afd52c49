// What decorators note on classes, and where. They only take notes; blueprint.ts and spec.ts make agents of them.

import { DefinitionError } from "../errors.js";
import type { Duration } from "./durations.js";
import type { Timing } from "./effects.js";
import type { Schema } from "./schema-types.js";
import type { Supervisor } from "./supervision.js";

// Standard decorators hand notes over in the class's metadata, whose key not every runtime has yet.
(Symbol as { metadata?: symbol }).metadata ??= Symbol.for("Symbol.metadata");
const METADATA = (Symbol as unknown as { metadata: symbol }).metadata;
const NOTES = Symbol.for("@aimatrix/amx-engine-ts/notes");

/** How often and how fast a failed message is repeated. What is absent is the engine's default. */
export interface Retry {
  /** In all, the first included; 1: never again. */
  attempts?: number;
  /** First wait. */
  initial?: Duration;
  /** Growth of the wait. */
  multiplier?: number;
  /** Longest wait. */
  maximum?: Duration;
  /** Only these reasons are repeated. */
  only?: readonly string[];
  /** These reasons are never repeated. */
  never?: readonly string[];
}

/** When a failing handler is given a rest: after so many failures in a row, for so long. */
export interface CircuitBreaker {
  failures?: number;
  rest?: Duration;
}

/** When a handler runs by itself: a timing, and where. */
export interface ScheduleOptions extends Timing {
  /** The method's name unless given. */
  name?: string;
  /** Key of the instance that runs it; `default` unless given. */
  key?: string;
}

/** What may be said of a handler. */
export interface HandlerOptions {
  /** The method's name unless given. */
  name?: string;
  /** One paragraph for people. */
  description?: string;
  /** It receives messages that name no handler and fit no type. */
  default?: boolean;
  /** Message types it receives where no handler is named. */
  messageTypes?: string | readonly string[];
  /** It yields chunks. Known by itself of async generators. */
  streaming?: boolean;
  /** It runs beside other messages of its instance, and must not change memory. */
  concurrent?: boolean;
  /** Whether messages that do not say are stored first. */
  durable?: boolean;
  /** Longest run. */
  timeout?: Duration;
  /** A policy, or the number of attempts. */
  retry?: Retry | number;
  /** What the caller must hold, all of them. */
  permissions?: string | readonly string[];
  /** When it is given a rest; false: never. */
  circuitBreaker?: CircuitBreaker | boolean;
  /** Topics whose events it receives. */
  topics?: string | readonly string[];
  /** Which of those events, by their attributes. */
  filter?: string;
  /** When it runs by itself. */
  scheduled?: ScheduleOptions | readonly ScheduleOptions[];
  /** Where it runs: on the event loop, said or not. What computes for long is a function for `Threads`. */
  execution?: "loop";
  /** Schema of the content. What does not fit is refused with INVALID_INPUT naming the field. */
  input?: Schema;
  /** Schema of the result, or of each chunk. */
  output?: Schema;
}

/** What may be said of a memory. */
export interface MemoryOptions {
  /** Survives hibernation and restarts. */
  persistent?: boolean;
  /** Lifetime of an entry since it was last written. */
  ttl?: Duration;
  /** Most entries that are kept: the least recently used go first; of a list, the front. */
  maxSize?: number;
  /** One paragraph for people. */
  description?: string;
  /** Schema of its values: of a single value, of a Map's values, a Set's members, a list's items. */
  schema?: Schema;
  /** Schema of a Map's keys. */
  keys?: Schema;
}

/** What may be said of an agent. */
export interface AgentOptions {
  /** Unique in the namespace; the class's name unless given. */
  name?: string;
  /** Semantic version, 1.0.0 unless given. The highest connected one takes new messages. */
  version?: string;
  /** One paragraph for people. */
  description?: string;
  /** For broadcasts. */
  groups?: string | readonly string[];
  /** For broadcasts. */
  labels?: Readonly<Record<string, string>>;
  /** Idle time before an instance hibernates. */
  idleTimeout?: Duration;
  /** Messages that may wait for each instance. */
  mailboxCapacity?: number;
  /** Routers and monitors with higher ones are asked first. */
  order?: number;
  /** Whom it keeps running. */
  supervisor?: Supervisor;
}

/** What an agent is to the engine. */
export type Kind = "agent" | "router" | "monitor" | "pipeline";

/** Everything that was said of one method. */
export interface MethodNote {
  handler: boolean;
  options: HandlerOptions;
  permissions: string[];
  subscriptions: { pattern: string; filter: string }[];
  schedules: ScheduleOptions[];
  stage: { order: number | undefined; timeout: Duration | undefined } | undefined;
  errorHandler: boolean;
}

/** Everything that was said of one field. `access` is there for #private ones, which only it can reach. */
export interface MemoryNote {
  options: MemoryOptions;
  accessor: boolean;
  access: { get(instance: object): unknown; set?(instance: object, value: unknown): void } | undefined;
}

/** Everything that was said of a class. */
export interface ClassNotes {
  agent: { kind: Kind; decorator: string; options: AgentOptions } | undefined;
  permissions: string[];
  methods: Map<string, MethodNote>;
  memories: Map<string, MemoryNote>;
  capabilities: Set<string>;
}

type Metadata = Record<PropertyKey, unknown> | undefined;

/** The notes of a class that is being decorated, with those of the classes it extends. */
export function notesIn(metadata: object | undefined, decorator: string): ClassNotes {
  const holder = metadata as Metadata;
  if (holder === undefined) {
    throw new DefinitionError(
      `@${decorator}: the compiler hands over no decorator metadata; use TypeScript 5.2 or newer, or esbuild 0.21 or newer`,
    );
  }
  if (!Object.hasOwn(holder, NOTES)) {
    const inherited = holder[NOTES] as ClassNotes | undefined;
    const notes: ClassNotes = {
      agent: undefined,
      permissions: [...(inherited?.permissions ?? [])],
      methods: new Map(inherited?.methods),
      memories: new Map(inherited?.memories),
      capabilities: new Set(inherited?.capabilities),
    };
    Object.defineProperty(holder, NOTES, { value: notes });
  }
  return holder[NOTES] as ClassNotes;
}

/** The notes of a class; undefined if nothing was noted on it. */
export function notesOf(cls: object): ClassNotes | undefined {
  const metadata = (cls as Record<symbol, unknown>)[METADATA] as Metadata;
  return metadata?.[NOTES] as ClassNotes | undefined;
}

/** Whether a class was decorated itself, not only one that it extends. */
export function isDecorated(cls: object): boolean {
  const metadata = Object.hasOwn(cls, METADATA) ? ((cls as Record<symbol, unknown>)[METADATA] as Metadata) : undefined;
  return (
    metadata !== undefined && Object.hasOwn(metadata, NOTES) && (metadata[NOTES] as ClassNotes).agent !== undefined
  );
}

/** The note of a method, made when it is first asked for. What a base class said of it no longer counts. */
export function methodNote(context: ClassMethodDecoratorContext, decorator: string): MethodNote {
  requireMember(context, decorator, "method");
  const notes = notesIn(context.metadata, decorator);
  const name = String(context.name);
  const own = ownMethods(notes);
  let note = own.has(name) ? notes.methods.get(name) : undefined;
  if (note === undefined) {
    note = {
      handler: false,
      options: {},
      permissions: [],
      subscriptions: [],
      schedules: [],
      stage: undefined,
      errorHandler: false,
    };
    notes.methods.set(name, note);
    own.add(name);
  }
  return note;
}

const OWN = new WeakMap<ClassNotes, Set<string>>();

function ownMethods(notes: ClassNotes): Set<string> {
  const known = OWN.get(notes) ?? new Set<string>();
  OWN.set(notes, known);
  return known;
}

/** Throws DefinitionError unless a decorator was put on an instance's member of this kind. */
export function requireMember(context: unknown, decorator: string, kind: "method" | "field"): void {
  const given = context as Partial<ClassMethodDecoratorContext> | undefined;
  if (typeof given !== "object" || given === null || typeof given.kind !== "string") {
    throw new DefinitionError(
      `@${decorator}: these are standard decorators; turn experimentalDecorators off in tsconfig.json`,
    );
  }
  const kinds: string[] = kind === "method" ? ["method"] : ["field", "accessor"];
  if (!kinds.includes(given.kind) || given.static === true || typeof given.name !== "string") {
    throw new DefinitionError(
      `@${decorator} goes on a ${kind} of an agent's class, and ${String(given.name)} is a` +
        ` ${given.static === true ? "static " : ""}${given.kind}`,
    );
  }
}

/** Text or texts, as texts. */
export function list(values: string | readonly string[] | undefined): readonly string[] {
  return values === undefined ? [] : typeof values === "string" ? [values] : values;
}
