// What agents are written with. Needs no Node.

export { replaceCapability } from "./capability.js";
export { type CallLimits, Context, type Publication, type Receipt } from "./context.js";
export {
  Agent,
  capability,
  errorHandler,
  handler,
  MessageRouter,
  memory,
  messageRouter,
  PerformanceMonitor,
  Pipeline,
  performanceMonitor,
  pipeline,
  requiresPermission,
  scheduled,
  stage,
  subscribe,
} from "./decorators.js";
export {
  type AgentParts,
  DefinedAgent,
  type DefinedHandler,
  defineAgent,
  type InputOf,
  type MemoryOf,
  type On,
  type OutputOf,
  type Remembered,
  remember,
} from "./define.js";
export type { Duration } from "./durations.js";
export {
  type BroadcastOutcome,
  type EventOptions,
  type Missed,
  type RecipientOutcome,
  Scope,
  type Timing,
} from "./effects.js";
export { InvalidValue, type Json } from "./json.js";
export type { Logger, LogLevel } from "./logger.js";
export { expire } from "./memory/instance.js";
export { plainCopy } from "./memory/tracked.js";
export { AgentReference, Message, type MessageOptions, Priority } from "./message.js";
export type { AgentOptions, CircuitBreaker, HandlerOptions, MemoryOptions, Retry, ScheduleOptions } from "./notes.js";
export { Payload } from "./payload.js";
export { type Alert, NotificationService, PipelineContext } from "./pipeline.js";
export { ProcessingResult, type ResultOptions, type Status } from "./result.js";
export {
  type AgentMetrics,
  Alerts,
  BaseMessageRouter,
  BasePerformanceMonitor,
  Metrics,
  type Route,
} from "./routing.js";
export type { FromJsonSchema, Infer, JsonSchema, Schema } from "./schema-types.js";
export { agentSpecOf } from "./spec.js";
export type { StandardIssue, StandardResult, StandardSchema } from "./standard-schema.js";
export type { Child, Supervisor } from "./supervision.js";
