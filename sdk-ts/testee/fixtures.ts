// The fixtures of conformance/README.md, but for the Interpreter, as agents of the TypeScript SDK.

import {
  Agent,
  AgentReference,
  BaseMessageRouter,
  BasePerformanceMonitor,
  type Context,
  HandlerError,
  handler,
  type Infer,
  type Message,
  MessageRouter,
  memory,
  PerformanceMonitor,
  ProcessingResult,
  requiresPermission,
  type Status,
  scheduled,
  subscribe,
} from "../src/index.js";
import { named } from "./arguments.js";
import { type Asked, thrown } from "./failures.js";
import { cancelledCount, releaseAll, waitFor } from "./waiting.js";

const TYPED = {
  type: "object",
  properties: {
    text: { type: "string" },
    flag: { type: "boolean" },
    small: { type: "integer", format: "int32" },
    large: { type: ["integer", "string"], format: "int64" },
    ratio: { type: "number" },
    amount: { type: "string", format: "decimal" },
    data: { type: "string", contentEncoding: "base64" },
    at: { type: "string", format: "date-time" },
    on: { type: "string", format: "date" },
    lasting: { type: "string", format: "duration" },
    color: { enum: ["RED", "GREEN", "BLUE"] },
    tags: { type: "array", items: { type: "string" } },
    scores: { type: "object", additionalProperties: { type: "integer" } },
    nested: { type: "object", properties: { name: { type: "string" }, depth: { type: "integer" } } },
    maybe: { type: ["string", "null"] },
  },
} as const;

const NUMBER = { type: ["integer", "null"] } as const;

@Agent({ name: named("Echo") })
export class Echo {
  @handler({ default: true })
  echo(content: unknown): unknown {
    return content;
  }

  @handler({ input: TYPED, output: TYPED })
  typed(value: Infer<typeof TYPED>): Infer<typeof TYPED> {
    return value;
  }

  @handler
  describe(content: unknown, { agent, key, message, attempt }: Context): Record<string, unknown> {
    return {
      agent,
      key,
      handler: message.handler,
      type: message.type,
      headers: message.headers,
      source: message.source,
      sender: message.sender,
      priority: message.priority.toUpperCase(),
      message_id: message.id,
      attempt,
      traceparent: message.traceparent,
      content: content ?? null,
    };
  }

  @handler
  nothing(): void {}

  @handler
  @requiresPermission("conformance.guard")
  guarded(): string {
    return "open";
  }
}

@Agent({ name: named("Counter") })
export class Counter {
  @memory({ persistent: true })
  total = 0;

  @handler({ input: NUMBER })
  increment(n?: number | null): number {
    this.total += n ?? 1;
    return this.total;
  }

  @handler({ name: "total", default: true })
  readTotal(): number {
    return this.total;
  }

  @handler({ name: "fail_after_increment", input: NUMBER })
  failAfterIncrement(n?: number | null): void {
    this.total += n ?? 1;
    throw new HandlerError("failed after the increment, as it was asked to", { reason: "OOPS" });
  }
}

@Agent({ name: named("Failing") })
export class Failing {
  @handler({ default: true })
  fail(what: Asked): void {
    throw thrown(what);
  }

  @handler
  result(what: {
    status: Status;
    data?: unknown;
    message?: string;
    metadata?: Record<string, unknown>;
  }): ProcessingResult {
    return new ProcessingResult(what.status, what);
  }
}

@Agent({ name: named("Slow") })
export class Slow {
  @handler({ default: true })
  wait(_: unknown, { signal }: Context): Promise<string> {
    return waitFor(signal);
  }

  @handler({ concurrent: true })
  hold(_: unknown, { signal }: Context): Promise<string> {
    return waitFor(signal);
  }

  @handler({ concurrent: true })
  release(): number {
    return releaseAll();
  }

  @handler({ concurrent: true })
  cancelled(): number {
    return cancelledCount();
  }
}

@Agent({ name: named("Stream") })
export class Stream {
  @handler({ default: true, streaming: true })
  async *count({ to, fail_at: failAt }: { to: number; fail_at?: number }): AsyncGenerator<number> {
    for (let i = 0; i < to; i += 1) {
      if (i === failAt) {
        throw new HandlerError(`failed in place of chunk ${i}, as it was asked to`, { reason: "BROKEN" });
      }
      yield i;
    }
  }

  @handler({ streaming: true })
  async *endless(): AsyncGenerator<number> {
    for (let i = 0; ; i += 1) {
      yield i;
    }
  }
}

@Agent({ name: named("Blocking") })
export class Blocking {
  @handler({ default: true })
  block({ ms }: { ms: number }): string {
    return keepBusy(ms);
  }

  @handler({ name: "block_loop", execution: "loop" })
  async blockLoop({ ms }: { ms: number }): Promise<string> {
    return keepBusy(ms);
  }
}

function keepBusy(ms: number): string {
  const end = performance.now() + ms;
  while (performance.now() < end) {
    // that is the point of it
  }
  return "done";
}

@Agent({
  name: named("Overseer"),
  supervisor: {
    children: [
      { agent: "Ward" },
      { agent: "Orderly", key: "*", restart: "transient", onRestart: "report" },
      { agent: "Visitor", key: "guest", restart: "temporary" },
    ],
    strategy: "rest_for_one",
    maxRestarts: 5,
    within: "10s",
    maxBackoff: "2s",
  },
})
export class Overseer {
  @handler
  watch(): string {
    return "watching";
  }
}

@Agent({ name: named("Scheduled") })
export class Scheduled {
  @memory({ persistent: true })
  ticks = 0;

  @scheduled({ name: "every-minute", fixedRate: 60_000 })
  @scheduled({ name: "after-rest", fixedDelay: 30_000, initialDelay: 5000 })
  @scheduled({ name: "mornings", cron: "0 30 6 * * MON-FRI", zone: "Europe/Berlin", missed: "skip" })
  tick(): number {
    this.ticks += 1;
    return this.ticks;
  }

  @handler({ name: "ticks", default: true })
  readTicks(): number {
    return this.ticks;
  }
}

@MessageRouter({ name: named("Router"), order: 10 })
export class Router extends BaseMessageRouter {
  async route(message: Message): Promise<AgentReference | null> {
    if (message.type !== "conformance.route") {
      return null;
    }
    const where = message.content as { agent: string; key?: string; handler?: string };
    return new AgentReference(where.agent, where.key, where.handler);
  }
}

const observed: string[][] = [];

@PerformanceMonitor({ name: named("Monitor") })
export class Monitor extends BasePerformanceMonitor {
  async onMessageProcessed(agentName: string, message: Message, result: ProcessingResult): Promise<void> {
    if (agentName.endsWith("Echo")) {
      observed.push([agentName, message.handler, result.status]);
    }
  }
}

@Agent({ name: named("Listener"), groups: "conformance", labels: { tier: "gold" } })
export class Listener {
  @memory({ persistent: true })
  seen: unknown[] = [];

  @handler({ name: "on_event" })
  @subscribe("conformance.events.*", { filter: "level in (high, critical)" })
  onEvent(content: unknown): void {
    if (content === "fail") {
      throw new HandlerError("refused, as it was asked to", { reason: "REFUSED" });
    }
    this.seen.push(content);
  }

  @handler({ name: "seen", default: true })
  readSeen(): unknown[] {
    return this.seen;
  }

  @handler
  observed(): string[][] {
    return observed;
  }
}
