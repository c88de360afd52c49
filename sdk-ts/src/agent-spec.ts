// A compiled agent: the interface between writing agents (decorators, defineAgent, memories, contexts) and hosting them.
// Authoring makes an AgentSpec; the host runs handlers on it and knows nothing of classes, schemas or tracked memory.
// Nothing here needs Node.

import type { AgentDefinition } from "./gen/amx/v1/agent_pb.js";
import type {
  IncomingMessage,
  OutgoingEvent,
  OutgoingMessage,
  WireAccepted,
  WireBroadcastResult,
  WireEffects,
  WireMemoryChange,
  WireMemoryImage,
  WireMemoryOperation,
  WireMemoryResult,
  WirePayload,
  WirePublished,
  WireScope,
  WireSubscription,
} from "./protocol/wire.js";

/** An agent, compiled: what the engine is told of it, and what runs it. Immutable; one for each class or definition. */
export interface AgentSpec {
  /**
   * Complete: what Hello carries, made with `create(AgentDefinitionSchema, …)` of the stubs. Routers, monitors and
   * pipelines are agents of that kind whose `route`, `on_message_processed` and `run` are handlers like any other.
   */
  readonly definition: AgentDefinition;
  /** By name; exactly the handlers of the definition. The host chooses among them by the definition's rules. */
  readonly handlers: ReadonlyMap<string, HandlerSpec>;
  /**
   * A new instance for this key, made when its first message comes. What it throws fails the message.
   * now: the clock that memory expires by, in milliseconds from an arbitrary beginning; never jumps. In tests it stands
   * still until it is moved.
   */
  createInstance(key: string, now: () => number): AgentInstance;
  /** Closes what instances share: capabilities that were built. Called once, when the agent is no longer hosted. */
  close?(): Promise<void>;
}

/** One instance in this process. Opaque to the host but for its memory. */
export interface AgentInstance {
  /** undefined: the agent has no memories; nothing is ever loaded or committed then. */
  readonly memory: InstanceMemory | undefined;
}

/**
 * The memories of one instance, tracked. Versions are counted by the host, which calls `load` first, then, after each
 * handler that ran alone, either `collect` (it succeeded) or `rollback` (it failed) if `changed`.
 */
export interface InstanceMemory {
  /**
   * Forgets everything, and begins with this image; a memory that the image lacks is empty or has its initial value.
   * The arrays inside may be views of a received frame: decode or copy them before returning.
   * version: of the image; 0: the instance has never remembered anything, so every memory has its initial value.
   */
  load(image: readonly WireMemoryImage[], version: number): void;
  /**
   * Whether there may be anything to collect: something was written or removed, or was handed out and is no longer what it
   * was. Asked after every run, while no handler runs that may change memory; must be cheap.
   */
  readonly changed: boolean;
  /**
   * Appends what changed since `load`, the last `collect` or the last `rollback`, in order, and takes that for
   * committed. May append nothing. Throws AmxError (INVALID_MEMORY_CHANGE, INVALID_OUTPUT) if a value has no JSON form;
   * the memory is dropped then: `load` comes next.
   */
  collect(changes: WireMemoryChange[]): void;
  /** Undoes what changed since then. Returns false if it cannot: the memory is dropped, and `load` comes next. */
  rollback(): boolean;
}

/** One handler. `Input` is whatever `decode` makes of a message and `call` takes. */
export interface HandlerSpec<Input = unknown> {
  readonly name: string;
  /** `call` returns an async iterable (usually an async generator) of chunks. */
  readonly streaming: boolean;
  /** Runs beside other handlers of its instance, and must not change memory: the host refuses that. */
  readonly concurrent: boolean;
  /**
   * Message to input. Called once for each invocation, and once for each Deliver, however many targets it has: they
   * share the input. Throws AmxError INVALID_INPUT with `metadata.field`. May be asynchronous (schemas may be), but
   * should not return a promise where there is nothing to wait for.
   */
  decode(message: IncomingMessage): Input | PromiseLike<Input>;
  /**
   * Runs the handler. May return a value, a promise of one, or (streaming) an async iterable; may throw anything.
   * `run` lives until that has ended.
   */
  call(instance: AgentInstance, input: Input, run: HandlerRun): unknown;
  /** What the handler returned, as it travels; EMPTY for none. Throws AmxError INVALID_OUTPUT. As `decode` otherwise. */
  encode(value: unknown): WirePayload | PromiseLike<WirePayload>;
  /** One chunk of a streaming handler, as it travels. As `encode`. */
  encodeChunk(value: unknown): WirePayload | PromiseLike<WirePayload>;
}

/** One run of a handler: what a context is made of. Cheap to make: what is expensive is made when it is asked for. */
export interface HandlerRun {
  readonly agent: string;
  readonly key: string;
  readonly handler: string;
  /** What is handled. For a delivered event: topic, attributes as headers, publisher as sender. */
  readonly message: IncomingMessage;
  /** Its number on this link; calls made for it name it. */
  readonly invocationId: number | bigint;
  /** 1 for the first. */
  readonly attempt: number;
  /** Milliseconds until it must end, at least 0; undefined without a deadline. */
  readonly remainingMs: number | undefined;
  /** The caller reads chunks. */
  readonly streaming: boolean;
  /**
   * Aborted when the engine cancels, the deadline passes, or the link's session is lost; `signal.reason` is an AmxError
   * (CANCELLED, DEADLINE_EXCEEDED). Made at first use. The outcome of a run that was aborted is the abort's failure,
   * whatever the handler does after it.
   */
  readonly signal: AbortSignal;
  /** The handler has ended: a context that outlives it refuses to stage or call (NO_CONTEXT). */
  readonly ended: boolean;
  /**
   * What is staged so far; made at first use. Push to its lists: messages, events, schedules and so on. They are
   * committed with the result, and forgotten with a failure. `memory` is the host's.
   */
  readonly effects: WireEffects;
  /** The engine. Calls name this invocation when `invocationId` of CallOptions says so. */
  readonly calls: EngineCalls;
  /** What `withConfig` was given, all sections. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** How a call is made. */
export interface CallOptions {
  /** Milliseconds until it must have an outcome; 0 or absent: the engine's default. */
  timeoutMs?: number;
  /** On whose behalf; 0 or absent: nobody's. */
  invocationId?: number | bigint;
  /** Gives the call up when it aborts: the promise rejects with the signal's reason, and the engine is told. */
  signal?: AbortSignal;
}

/**
 * The engine, as handlers and applications call it. Everything rejects with AmxError and the engine's reason; limits
 * (ITEM_TOO_LARGE, HEADERS_TOO_LARGE, KEY_TOO_LONG, CALLS_IN_FLIGHT) are checked before anything is sent.
 */
export interface EngineCalls {
  /** Sends one way; resolves when the engine has it. */
  send(message: OutgoingMessage, options?: CallOptions): Promise<WireAccepted>;
  /** Sends and resolves with the reply. */
  request(message: OutgoingMessage, options?: CallOptions): Promise<WirePayload>;
  /** Sends and yields the chunks of the reply; leaving the loop cancels the handler. A plain result is the one chunk. */
  stream(message: OutgoingMessage, options?: CallOptions): AsyncGenerator<WirePayload, void, undefined>;
  /** Publishes; resolves when the engine has it. */
  publish(event: OutgoingEvent, options?: CallOptions): Promise<WirePublished>;
  /** Sends to many; resolves with what became of it at each. The message's agent and key are ignored. */
  broadcast(scope: WireScope, message: OutgoingMessage, options?: CallOptions): Promise<WireBroadcastResult>;
  /** Resolves when the subscription is in force. */
  subscribe(subscription: WireSubscription, options?: CallOptions): Promise<EventSource>;
  /** Reads or writes an instance's memory from outside. */
  memory(operation: WireMemoryOperation, options?: CallOptions): Promise<WireMemoryResult>;
}

/** A subscription in force: events as they come, until it is closed. A reader too far behind loses the oldest. */
export interface EventSource extends AsyncIterable<IncomingMessage> {
  /** Events lost because they were not read in time. */
  readonly dropped: number;
  /** Ends it. What has arrived can still be read. Leaving a `for await` loop over it closes it, too. */
  close(): void;
}

/** No value. */
export const EMPTY: WirePayload = Object.freeze({ contentType: "", data: new Uint8Array(0) });

/**
 * Where decorated classes, their objects and definitions keep their spec, or a function that makes it: `withAgent` takes
 * whatever has one, and AgentSpecs themselves.
 */
export const AGENT_SPEC: unique symbol = Symbol.for("@aimatrix/amx-engine-ts:agent-spec");

/** Something that can be hosted. */
export interface HasAgentSpec {
  readonly [AGENT_SPEC]: AgentSpec | (() => AgentSpec);
}
