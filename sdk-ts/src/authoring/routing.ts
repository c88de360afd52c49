// Base classes of message routers and performance monitors, and the metrics and alerts that monitors have.

import type { Context } from "./context.js";
import { InvalidValue, type Json } from "./json.js";
import { AgentReference, Message, type Priority } from "./message.js";
import { ProcessingResult, type Status } from "./result.js";

const WINDOW = 1024;
const MAX_AGENTS = 10_000;
const MAX_REASONS = 100;

/** What a router answers: an address, `name/key`, or nothing, which leaves the message to the next router. */
export type Route = AgentReference | string | null | undefined;

/** Chooses the agent of messages that name none. Extend, decorate with `@MessageRouter`, and write `route`. */
export abstract class BaseMessageRouter {
  /** The agent that gets `message`. */
  abstract route(message: Message, context: Context): Route | Promise<Route>;

  /** The address `name/key`, and a handler for messages that name none. Whether somebody hosts it is found out later. */
  findAgent(name: string, key = "default", handler = ""): AgentReference {
    const parsed = AgentReference.parse(name);
    return new AgentReference(parsed.name, name.includes("/") ? parsed.key : key, handler);
  }
}

/** A router's answer as it travels. Throws InvalidValue if it is none. */
export function routeAnswer(answer: unknown): Json {
  if (answer === null || answer === undefined) {
    return null;
  }
  const route = typeof answer === "string" ? AgentReference.parse(answer) : answer;
  if (!(route instanceof AgentReference)) {
    throw new InvalidValue("a router answers an AgentReference, text or null; use findAgent");
  }
  const { name, key, handler } = route;
  return handler === "" ? { agent: name, key } : { agent: name, key, handler };
}

/** Is told of every processed message. Extend, decorate with `@PerformanceMonitor`, write `onMessageProcessed`. */
export abstract class BasePerformanceMonitor {
  private static readonly shared = new WeakMap<object, Metrics>();
  private running: Context | undefined;

  /** Called after each message, in no guaranteed order. duration: milliseconds. */
  abstract onMessageProcessed(
    agentName: string,
    message: Message,
    result: ProcessingResult,
    durationMs: number,
    context: Context,
  ): void | Promise<void>;

  /** Counts and durations per agent, shared by the instances of the class in this process. */
  get metrics(): Metrics {
    let found = BasePerformanceMonitor.shared.get(this.constructor);
    if (found === undefined) {
      found = new Metrics();
      BasePerformanceMonitor.shared.set(this.constructor, found);
    }
    return found;
  }

  /** Tells people, with the commit of what runs. */
  get alerts(): Alerts {
    return new Alerts(this.constructor.name, this.running);
  }

  /** For the SDK: what runs now. */
  static enter(monitor: object, context: Context): void {
    if (monitor instanceof BasePerformanceMonitor) {
      monitor.running = context;
    }
  }
}

/** What was recorded of one agent since the process started, in milliseconds; quantiles are of the last 1,024 messages. */
export interface AgentMetrics {
  readonly processed: number;
  readonly errors: Readonly<Record<string, number>>;
  readonly totalMs: number;
  readonly longestMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

interface Recorded {
  processed: number;
  errors: Map<string, number>;
  totalMs: number;
  longestMs: number;
  recent: number[];
}

/** Counts and durations per agent, for at most 10,000 agents. */
export class Metrics {
  private readonly records = new Map<string, Recorded>();

  /** One message of the agent took so long. */
  recordProcessingTime(agentName: string, durationMs: number): void {
    const record = this.record(agentName);
    record.recent[record.processed % WINDOW] = durationMs;
    record.processed += 1;
    record.totalMs += durationMs;
    record.longestMs = Math.max(record.longestMs, durationMs);
  }

  /** One message of the agent failed, with this reason. */
  incrementErrorCount(agentName: string, errorType = "UNKNOWN"): void {
    const { errors } = this.record(agentName);
    const kind = errors.has(errorType) || errors.size < MAX_REASONS ? errorType : "OTHER";
    errors.set(kind, (errors.get(kind) ?? 0) + 1);
  }

  /** What was recorded of the agent; zeros if nothing was. */
  of(agentName: string): AgentMetrics {
    return snapshot(this.records.get(agentName) ?? empty());
  }

  /** What was recorded, by agent. */
  all(): Record<string, AgentMetrics> {
    return Object.fromEntries([...this.records].map(([name, record]) => [name, snapshot(record)]));
  }

  private record(agentName: string): Recorded {
    let record = this.records.get(agentName);
    if (record === undefined) {
      const oldest = this.records.keys().next();
      if (this.records.size >= MAX_AGENTS && oldest.done !== true) {
        this.records.delete(oldest.value);
      }
      record = empty();
      this.records.set(agentName, record);
    }
    return record;
  }
}

function empty(): Recorded {
  return { processed: 0, errors: new Map(), totalMs: 0, longestMs: 0, recent: [] };
}

function snapshot(record: Recorded): AgentMetrics {
  const ordered = [...record.recent].sort((left, right) => left - right);
  const quantile = (share: number) => ordered[Math.max(0, Math.ceil(share * ordered.length) - 1)] ?? 0;
  return {
    processed: record.processed,
    errors: Object.fromEntries(record.errors),
    totalMs: record.totalMs,
    longestMs: record.longestMs,
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
  };
}

/** Tells people: an alert is an event on `alerts.<channel>`, published with the commit, and a line in the log. */
export class Alerts {
  constructor(
    private readonly monitor: string,
    private readonly context: Context | undefined,
  ) {}

  /** Outside of a handler it only logs. */
  sendAlert(channel: string, message: string, severity = "info"): void {
    this.context?.publish(
      `alerts.${channel}`,
      { channel, message, severity, source: this.monitor },
      { attributes: { severity, source: this.monitor } },
    );
    (this.context?.logger ?? console).warn(`alert on ${channel} (${severity}): ${message}`);
  }

  /** An alert on the channel `performance`: the agent took this long for the message. */
  sendSlowProcessingAlert(agentName: string, message: Message, durationMs: number): void {
    const text = `${agentName} took ${(durationMs / 1000).toFixed(3)} s for message ${message.id || "?"}`;
    this.sendAlert("performance", text, "high");
  }
}

/** What a monitor is told, taken apart. Throws InvalidValue if it is incomplete. */
export function processedReport(content: unknown): [string, Message, ProcessingResult, number] {
  const seen = content as Record<string, unknown>;
  const result = seen?.["result"] as Record<string, unknown> | undefined;
  const durationMs = Number(seen?.["duration_ms"]);
  if (typeof seen?.["agent_name"] !== "string" || typeof result !== "object" || Number.isNaN(durationMs)) {
    throw new InvalidValue("the engine's report is incomplete");
  }
  const errorType = result["error_type"];
  const outcome = new ProcessingResult(result["status"] as Status, {
    data: result["data"],
    message: text(result["message"]),
    metadata: typeof errorType === "string" && errorType !== "" ? { error_type: errorType } : {},
  });
  return [seen["agent_name"], seenMessage(seen["message"], text(seen["handler"])), outcome, durationMs];
}

/** The message that a router or monitor is told of. */
export function seenMessage(fields: unknown, handler = ""): Message {
  if (typeof fields !== "object" || fields === null || Array.isArray(fields)) {
    throw new InvalidValue("message: expected an object", "message");
  }
  const seen = fields as Record<string, unknown>;
  const headers = Object.entries((seen["headers"] ?? {}) as object).map(([name, value]) => [name, String(value)]);
  const options = {
    agent: text(seen["agent"]),
    key: text(seen["key"]),
    handler: text(seen["handler"]) || handler,
    type: text(seen["type"]),
    priority: (text(seen["priority"]) || "normal") as Priority,
    headers: Object.fromEntries(headers) as Record<string, string>,
    source: text(seen["source"]),
    id: text(seen["id"]),
  };
  return Message.seen(seen["content"], options, text(seen["sender"]));
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
