// The testing kit under test: an agent without an engine, and with one.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import {
  Agent,
  BaseMessageRouter,
  BasePerformanceMonitor,
  type Context,
  errorHandler,
  expire,
  handler,
  type Message,
  MessageRouter,
  memory,
  PerformanceMonitor,
  Pipeline,
  type PipelineContext,
  type ProcessingResult,
  scheduled,
  stage,
  subscribe,
} from "../authoring/index.js";
import { AmxEngine } from "../engine/node.js";
import { HandlerError } from "../errors.js";
import { AgentHarness, EngineProcess } from "./index.js";

@Agent
class Reminder {
  @memory({ persistent: true }) reminded: string[] = [];
  @memory({ persistent: true, ttl: "1h" }) seen = new Map<string, number>();

  @handler({ default: true })
  async remember(what: string, context: Context): Promise<string> {
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1);
    context.schedule(what, "remind", { after: "1h" }, what);
    context.publish("reminders.set", { what });
    return `I shall remind you of ${what}`;
  }

  @handler
  remind(what: string): void {
    this.reminded.push(what);
    if (what === "bad") {
      throw new HandlerError("cannot", { reason: "BAD", details: [{ what }] });
    }
  }

  @scheduled({ fixedRate: "1d" })
  daily(): number {
    return this.reminded.length;
  }

  @subscribe("orders.*")
  order(order: { id: string }, context: Context): void {
    this.reminded.push(`${context.message.topic} ${order.id} ${context.headers["region"]}`);
  }

  @handler
  async ask(question: string, context: Context): Promise<unknown> {
    await context.sendNow("Log", question);
    return context.request("Oracle", question, { handler: "answer" });
  }

  @handler
  async *count(to: number): AsyncGenerator<number> {
    for (let i = 0; i < to; i += 1) {
      yield i;
    }
  }

  @handler({ concurrent: true })
  wait(_: unknown, { signal }: Context): Promise<void> {
    return new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  }

  @handler
  shorten(what: string): void {
    expire(this.seen, what, "1m");
  }
}

let harness: AgentHarness | undefined;

afterEach(async () => {
  await harness?.stop();
  harness = undefined;
});

async function start(agent: object): Promise<AgentHarness> {
  harness = await AgentHarness.start(agent);
  return harness;
}

describe("AgentHarness", () => {
  test("shows what a message led to, and keeps memory from one to the next", async () => {
    const agent = await start(Reminder);
    const outcome = await agent.run("tea");
    expect(outcome.value).toBe("I shall remind you of tea");
    expect(outcome.schedules.map((timer) => timer.name)).toEqual(["tea"]);
    expect(outcome.published.map((event) => [event.topic, event.content])).toEqual([
      ["reminders.set", { what: "tea" }],
    ]);
    expect(outcome.memoryChanged).toBe(true);
    await agent.fire("tea");
    expect(agent.memory()).toEqual({ reminded: ["tea"], seen: new Map([["tea", 1]]) });
    expect(agent.timers.size).toBe(0);
    await agent.hibernate();
    await agent.run("tea");
    expect(agent.memory()["seen"]).toEqual(new Map([["tea", 2]]));
    expect(agent.memory("other")).toEqual({ reminded: [], seen: new Map() });
    expect((await agent.fire("daily")).value).toBe(1);
  });

  test("undoes what failed, and rejects with its reason", async () => {
    const agent = await start(Reminder);
    await expect(agent.request("bad", { handler: "remind" })).rejects.toMatchObject({
      reason: "BAD",
      source: "Reminder/default#remind",
      details: [{ what: "bad" }],
    });
    expect(agent.memory()["reminded"]).toEqual([]);
    await expect(agent.request("x", { handler: "none" })).rejects.toMatchObject({ reason: "HANDLER_UNKNOWN" });
  });

  test("moves the clock that memory expires by", async () => {
    const agent = await start(Reminder);
    await agent.run("tea");
    await agent.run("cake");
    await agent.run("tea", { handler: "shorten" });
    await agent.advance("2m");
    expect(agent.memory()["seen"]).toEqual(new Map([["cake", 1]]));
    await agent.advance("7d");
    expect(agent.memory()["seen"]).toEqual(new Map());
  });

  test("delivers events, answers for other agents, and collects what is sent at once", async () => {
    const agent = await start(Reminder);
    await agent.deliver("orders.new", { id: "7" }, { attributes: { region: "eu" } });
    expect(agent.memory()["reminded"]).toEqual(["orders.new 7 eu"]);
    await expect(agent.deliver("nobody.cares")).rejects.toMatchObject({ reason: "NO_SUBSCRIBER" });
    agent.replyTo("Oracle", (message: Message) => `${message.content}? ${message.handler}!`);
    expect(await agent.request("why", { handler: "ask" })).toBe("why? answer!");
    expect(agent.sent.map((message) => [message.agent, message.content])).toEqual([["Log", "why"]]);
    agent.replyTo("Oracle", new HandlerError("silent", { reason: "SILENT" }));
    await expect(agent.request("why", { handler: "ask" })).rejects.toMatchObject({ reason: "SILENT" });
  });

  test("streams, and ends what takes too long", async () => {
    const agent = await start(Reminder);
    const chunks: number[] = [];
    for await (const chunk of agent.stream<number>(3, { handler: "count" })) {
      chunks.push(chunk);
    }
    expect(chunks).toEqual([0, 1, 2]);
    for await (const chunk of agent.stream<number>(1_000_000, { handler: "count" })) {
      if (chunk === 100) {
        break;
      }
    }
    const waiting = agent.request(undefined, { handler: "wait", timeout: "5s" });
    const failed = expect(waiting).rejects.toMatchObject({ reason: "DEADLINE_EXCEEDED" });
    await agent.advance("10s");
    await failed;
  });
});

describe("a pipeline", () => {
  @Pipeline({ name: "Import" })
  class Import {
    @stage({ order: 2 })
    total(context: PipelineContext): number {
      return (context.previousResult as number[]).reduce((sum, one) => sum + one, 0);
    }

    @stage({ order: 1, timeout: "1m" })
    async parse(context: PipelineContext<string>): Promise<number[]> {
      if (context.input === "") {
        throw new Error("empty");
      }
      return context.input.split(",").map(Number);
    }

    @errorHandler
    async failed(context: PipelineContext, error: Error): Promise<unknown> {
      return { at: context.currentStage, done: context.partialResults, why: error.message };
    }
  }

  test("carries a value through its stages, in order", async () => {
    const agent = await start(Import);
    expect(await agent.request("1,2,3")).toBe(6);
    expect(await agent.request("")).toEqual({ at: "parse", why: "empty" });
  });

  test("without an error handler fails with the stage's reason", async () => {
    @Pipeline
    class Strict {
      @stage
      first(): void {
        throw new Error("broken");
      }
    }
    const agent = await start(Strict);
    await expect(agent.request(1)).rejects.toMatchObject({
      reason: "PIPELINE_STAGE_FAILED",
      metadata: { pipeline: "Strict", stage: "first" },
      cause: { message: "broken" },
    });
  });
});

test("a router chooses, a monitor is told", async () => {
  @MessageRouter({ order: 10 })
  class Inquiries extends BaseMessageRouter {
    async route(message: Message) {
      return message.type === "inquiry" ? this.findAgent("Support", String(message.content)) : null;
    }
  }
  const router = await start(Inquiries);
  expect(await router.request({ type: "inquiry", content: "ada", headers: {} })).toEqual({
    agent: "Support",
    key: "ada",
  });
  expect(await router.request({ type: "other" })).toBeNull();
  await router.stop();

  @PerformanceMonitor
  class Slow extends BasePerformanceMonitor {
    async onMessageProcessed(agent: string, message: Message, result: ProcessingResult, durationMs: number) {
      this.metrics.recordProcessingTime(agent, durationMs);
      if (result.isError) {
        this.metrics.incrementErrorCount(agent, result.errorType);
      }
      if (durationMs > 5000) {
        this.alerts.sendSlowProcessingAlert(agent, message, durationMs);
      }
    }
  }
  const monitor = await start(Slow);
  const outcome = await monitor.run({
    agent_name: "Support",
    instance: "Support/ada",
    handler: "help",
    message: { id: "m1" },
    result: { status: "error", error_type: "OOPS" },
    duration_ms: 6000.5,
  });
  expect(outcome.published.map((event) => event.topic)).toEqual(["alerts.performance"]);
  expect(new Slow().metrics.of("Support")).toMatchObject({ processed: 1, errors: { OOPS: 1 }, longestMs: 6000.5 });
});

const amx = join(dirname(fileURLToPath(import.meta.url)), "../../../.venv/bin/amx");

describe.skipIf(!existsSync(amx))("EngineProcess", () => {
  test("is a real engine that an agent's memory survives with", async () => {
    const process = await EngineProcess.start({ command: [amx] });
    try {
      const engine = AmxEngine.builder().withAddress(process.address).withAgent(Reminder).build();
      await engine.start();
      expect(await engine.request("Reminder/ada", "tea")).toBe("I shall remind you of tea");
      await engine.request("Reminder/ada", "cake", { handler: "remind" });
      expect(await engine.memory("Reminder/ada").get("reminded")).toEqual(["cake"]);
      const counted: number[] = [];
      for await (const chunk of engine.stream<number>("Reminder", 3, { handler: "count" })) {
        counted.push(chunk);
      }
      expect(counted).toEqual([0, 1, 2]);
      await engine.stop();
    } finally {
      await process.stop();
    }
  });
});
