// The SDK, on Node. What needs no Node is in core.ts.

export type {
  AgentInstance,
  AgentSpec,
  CallOptions,
  EngineCalls,
  EventSource,
  HandlerRun,
  HandlerSpec,
  InstanceMemory,
} from "./agent-spec.js";
export * from "./authoring/index.js";
export type { AskOptions, EngineParts, TypedAskOptions } from "./engine/engine.js";
export { type MemorySnapshot, type PutOptions, RemoteMemory } from "./engine/memory.js";
export { AmxEngine, AmxEngineBuilder, DEFAULT_ADDRESS } from "./engine/node.js";
export { Subscription } from "./engine/subscription.js";
export * from "./errors.js";
