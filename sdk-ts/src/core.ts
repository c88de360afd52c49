// Everything that needs no Node: for browsers, other runtimes, and tests. How an engine is reached is up to the caller.

export * from "./agent-spec.js";
export * from "./authoring/index.js";
export { EngineBuilder } from "./engine/builder.js";
export { AmxEngine, type AskOptions, type EngineParts, type TypedAskOptions } from "./engine/engine.js";
export { type MemorySnapshot, type PutOptions, RemoteMemory } from "./engine/memory.js";
export { Subscription } from "./engine/subscription.js";
export * from "./errors.js";
export type { Environment, LogLevel as EnvironmentLogLevel, Timer } from "./protocol/environment.js";
export * from "./protocol/wire.js";
export { type Connection, type ConnectionEvents, ConnectionLost, type Connector } from "./transport/connection.js";
export { SOFTWARE } from "./version.js";
