// The SDK on Node: everything of core, and engines reached over gRPC.

export * from "./agent-spec.js";
export * from "./authoring/index.js";
export type {
  AskOptions,
  EngineParts,
  TypedAskOptions,
} from "./engine/engine.js";
export { type MemorySnapshot, type PutOptions, RemoteMemory } from "./engine/memory.js";
export { AmxEngine, AmxEngineBuilder, DEFAULT_ADDRESS } from "./engine/node.js";
export { Subscription } from "./engine/subscription.js";
export * from "./errors.js";
export type { Environment, LogLevel as EnvironmentLogLevel, Timer } from "./protocol/environment.js";
export * from "./protocol/wire.js";
export { Threads, type ThreadsOptions } from "./threads/threads.js";
export { type Connection, type ConnectionEvents, ConnectionLost, type Connector } from "./transport/connection.js";
export { GrpcConnector, readTls, type TlsFiles, type TlsOptions } from "./transport/grpc.js";
export { consoleLog, type LogSink, nodeEnvironment } from "./transport/node.js";
export { SOFTWARE } from "./version.js";
