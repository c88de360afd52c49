// AmxEngine against a real engine over gRPC: everything an application does, and what it survives.

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import {
  AmxEngine,
  AmxError,
  defineAgent,
  HandlerError,
  type LogSink,
  Message,
  nodeEnvironment,
  ProcessingResult,
  remember,
  Scope,
} from "../../src/index.js";
import { Cable, EngineProcess, engineInstalled, until } from "../support/engine-process.js";

const lines: string[] = [];
const log: LogSink = (level, message) => lines.push(`${level} ${message}`);
const open: AmxEngine[] = [];

/** An engine that is stopped after the test. */
async function connected(address: string, ...agents: object[]): Promise<AmxEngine> {
  const builder = AmxEngine.builder().withAddress(address).withEnvironment(nodeEnvironment(log));
  for (const agent of agents) builder.withAgent(agent);
  const engine = builder.build();
  open.push(engine);
  await engine.start();
  return engine;
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((engine) => engine.stop({ deadline: "1s" })));
  lines.length = 0;
});

const Echo = defineAgent({
  name: "Echo",
  groups: ["talkers"],
  handlers: (on) => ({
    echo: on({ default: true }, (content) => content),
    shout: on({ input: z.string(), output: z.string() }, async (text) => text.toUpperCase()),
    result: on((content) => ProcessingResult.warning("look at this", content)),
    refuse: on(() => {
      throw new HandlerError("seat 4A is taken", { reason: "SEAT_TAKEN", cause: new TypeError("deeper") });
    }),
    count: on(async function* (to) {
      for (let number = 0; number < Number(to); number++) yield number;
    }),
  }),
});

const Counter = defineAgent({
  name: "Counter",
  memory: {
    totals: remember(() => new Map<string, number>(), { persistent: true }),
  },
  handlers: (on) => ({
    add: on({ input: z.string(), default: true }, (name, { memory }) => {
      const total = (memory.totals.get(name) ?? 0) + 1;
      memory.totals.set(name, total);
      return total;
    }),
    add_and_fail: on({ input: z.string(), retry: { attempts: 1 } }, (name, { memory }) => {
      memory.totals.set(name, 1000);
      throw new HandlerError("no", { reason: "OOPS" });
    }),
  }),
});

describe.skipIf(!engineInstalled)("with a real engine", () => {
  let process: EngineProcess;
  beforeAll(async () => {
    process = await EngineProcess.start({ links: { heartbeat_interval: "1s", resume_window: "10s" } });
  });
  afterAll(() => process.stop());

  it("an agent is asked, by whatever means", async () => {
    const worker = await connected(process.address, Echo);
    const client = await connected(process.address);
    const content = { text: "héllo ✓", list: [1, 2.5, null, true], nested: { deep: "x".repeat(100_000) } };
    expect(await client.request("Echo", content)).toEqual(content);
    expect(await worker.request("Echo/other", "from the worker itself")).toBe("from the worker itself");
    expect(await client.request("Echo", "quiet", { handler: "shout" })).toBe("QUIET");
    expect(await client.request("Echo", new Message("typed", { handler: "shout" }))).toBe("TYPED");
    const typed: string = await client.request("Echo", "x", { output: z.string() });
    expect(typed).toBe("x");
    const bytes = await client.requestBytes("Echo", new TextEncoder().encode('{"raw":1}'));
    expect(new TextDecoder().decode(bytes)).toBe('{"raw":1}');
    expect(await client.sendMessage("Echo", 5)).toBe(5);
    expect(await client.sendMessage("Echo", 5, { handler: "result" })).toMatchObject({
      isWarning: true,
      message: "look at this",
      data: 5,
    });
    const outcome = await client.broadcast(Scope.agent("Echo"), "all", { handler: "shout" });
    expect(outcome.recipients.map((one) => one.value)).toEqual(outcome.recipients.map(() => "ALL"));
    expect(outcome.succeeded).toBeGreaterThanOrEqual(2);
  });

  it("failures arrive with their reason, their cause and their stack", async () => {
    await connected(process.address, Echo);
    const client = await connected(process.address);
    const error = await client.request("Echo", null, { handler: "refuse" }).catch((one: unknown) => one as AmxError);
    expect(error).toBeInstanceOf(AmxError);
    expect(error).toMatchObject({ reason: "SEAT_TAKEN", message: "seat 4A is taken", source: "Echo/default#refuse" });
    expect((error as AmxError).remoteStack).toContain("engine.test.ts");
    expect((error as AmxError).cause).toMatchObject({ reason: "HANDLER_FAILED", message: "deeper" });
    await expect(client.request("Echo", 5, { handler: "shout" })).rejects.toMatchObject({ reason: "INVALID_INPUT" });
    await expect(client.request("Nobody", 5)).rejects.toMatchObject({ reason: "AGENT_UNKNOWN" });
    await expect(client.request("Echo", 5, { key: "k".repeat(600) })).rejects.toMatchObject({ reason: "KEY_TOO_LONG" });
    await expect(client.request("Echo", "x".repeat(5_000_000))).rejects.toMatchObject({ reason: "ITEM_TOO_LARGE" });
  });

  it("streams flow no faster than they are read, and stop when their reader leaves", async () => {
    let made = 0;
    let ended = false;
    const Endless = defineAgent({
      name: "Endless",
      handlers: (on) => ({
        numbers: on(async function* () {
          try {
            for (;;) yield made++;
          } finally {
            ended = true;
          }
        }),
      }),
    });
    await connected(process.address, Echo, Endless);
    const client = await connected(process.address);
    const chunks: unknown[] = [];
    for await (const chunk of client.stream("Echo", 500, { handler: "count" })) chunks.push(chunk);
    expect(chunks).toEqual([...Array(500).keys()]);
    for await (const number of client.stream<number>("Endless")) if (number === 99) break;
    await until(() => ended, "the generator's finally block");
    expect(made).toBeLessThan(1000);
    const whole: unknown[] = [];
    for await (const chunk of client.stream("Echo", "one")) whole.push(chunk);
    expect(whole).toEqual(["one"]);
    expect(await client.request("Echo", 3, { handler: "count" })).toEqual([0, 1, 2]);
  });

  it("memory is committed with the result, undone with a failure, and read from outside", async () => {
    const first = await connected(process.address, Counter);
    const client = await connected(process.address);
    expect(await client.request("Counter/c", "a")).toBe(1);
    expect(await client.request("Counter/c", "a")).toBe(2);
    await expect(client.request("Counter/c", "a", { handler: "add_and_fail" })).rejects.toMatchObject({
      reason: "OOPS",
    });
    await first.stop();
    await connected(process.address, Counter);
    expect(await client.request("Counter/c", "a")).toBe(3);
    const memory = client.memory("Counter/c");
    expect(await memory.get("totals", "a")).toBe(3);
    expect(await memory.has("totals", "b")).toBe(false);
    await memory.put("totals", 40, { item: "b" });
    expect((await memory.read("totals")).value).toEqual(
      new Map([
        ["a", 3],
        ["b", 40],
      ]),
    );
    expect(await client.request("Counter/c", "b")).toBe(41);
    await expect(memory.put("totals", 1, { item: "b", ifVersion: 1 })).rejects.toMatchObject({
      reason: "MEMORY_VERSION_MISMATCH",
    });
    expect(await memory.delete("totals", "b")).toBe(true);
    expect(await memory.list("totals")).toEqual(["a"]);
  });

  it("what a handler stages happens with its commit; events reach subscribers", async () => {
    const seen: unknown[] = [];
    const Inbox = defineAgent({
      name: "Inbox",
      handlers: (on) => ({
        receive: on({ default: true }, (content) => void seen.push(content)),
        hear: on({ topics: "news.*", filter: "level = high" }, (content, { message }) => {
          seen.push([message.topic, message.headers["level"], content]);
        }),
      }),
    });
    const Sender = defineAgent({
      name: "Sender",
      handlers: (on) => ({
        go: on({ default: true, retry: { attempts: 1 } }, (fail, context) => {
          context.send("Inbox", "sent");
          context.publish("news.local", "published", { attributes: { level: "high" } });
          if (fail) throw new HandlerError("no", { reason: "NO" });
        }),
        ask: on(async (content, context) => context.request("Echo", content)),
      }),
    });
    await connected(process.address, Inbox, Sender, Echo);
    const client = await connected(process.address);
    const events = await client.subscribe("news.**").ready();
    await expect(client.request("Sender", true)).rejects.toMatchObject({ reason: "NO" });
    await client.request("Sender", false);
    await until(() => seen.length === 2, "both effects");
    expect(seen).toContain("sent");
    expect(seen).toContainEqual(["news.local", "high", "published"]);
    expect(await client.request("Sender", { nested: 1 }, { handler: "ask" })).toEqual({ nested: 1 });
    expect((await client.publish("news.other", 7, { attributes: { level: "low" } })).subscribers).toBeGreaterThan(0);
    const topics: string[] = [];
    for await (const event of events) {
      topics.push(event.topic);
      if (topics.length === 2) break;
    }
    expect(topics).toEqual(["news.local", "news.other"]);
    const receipt = await client.send("Inbox", "letter", { id: "letter-1" });
    expect(await client.send("Inbox", "letter", { id: "letter-1" })).toEqual({ ...receipt, duplicate: true });
  });

  it("a caller that gives up, or is out of time, stops the handler", async () => {
    const reasons: unknown[] = [];
    let running = 0;
    const Slow = defineAgent({
      name: "Slow",
      handlers: (on) => ({
        wait: on({ concurrent: true }, (_, { signal }) => {
          running++;
          return new Promise((_resolve, reject) => {
            signal.addEventListener("abort", () => {
              reasons.push((signal.reason as AmxError).reason);
              reject(signal.reason);
            });
          });
        }),
      }),
    });
    await connected(process.address, Slow);
    const client = await connected(process.address);
    await expect(client.request("Slow", null, { timeout: 100 })).rejects.toMatchObject({ reason: "DEADLINE_EXCEEDED" });
    const controller = new AbortController();
    const asked = client.request("Slow", null, { signal: controller.signal });
    await until(() => running === 2, "the second call");
    controller.abort(new Error("never mind"));
    await expect(asked).rejects.toThrow("never mind");
    await until(() => reasons.length === 2, "both handlers stopped");
    expect(reasons[1]).toBe("CANCELLED");
  });

  it("a lost connection is taken up again, and handlers never notice", async () => {
    let release = (): void => undefined;
    let runs = 0;
    const Patient = defineAgent({
      name: "Patient",
      handlers: (on) => ({
        wait: on({ default: true }, async () => {
          runs++;
          await new Promise<void>((resolve) => {
            release = resolve;
          });
          return "still here";
        }),
      }),
    });
    const cable = await Cable.to(process.address);
    try {
      await connected(cable.address, Patient);
      const client = await connected(process.address);
      const asked = client.request("Patient");
      await until(() => runs === 1, "the handler runs");
      cable.cut();
      await until(() => lines.some((line) => line.includes("resumed link")), "the link is resumed");
      release();
      expect(await asked).toBe("still here");
      expect(runs).toBe(1);
    } finally {
      cable.close();
    }
  });

  it("a handler that blocks the event loop is named, and its link goes on", async () => {
    const Blocking = defineAgent({
      name: "Blocking",
      handlers: (on) => ({
        block: on({ default: true }, (ms) => {
          const end = Date.now() + Number(ms);
          while (Date.now() < end);
          return "done";
        }),
      }),
    });
    await connected(process.address, Blocking);
    const client = await connected(process.address);
    // Longer than the engine waits for a sign of life: it hangs up, and has the link back.
    expect(await client.request("Blocking", 3000)).toBe("done");
    expect(await client.request("Blocking", 1)).toBe("done");
    expect(lines.filter((line) => line.includes("blocked the event loop"))).toEqual([
      expect.stringMatching(/^warn handler Blocking#block blocked the event loop for \d+\.\d\d s/),
    ]);
    expect(lines.filter((line) => line.includes("nothing was heard"))).toEqual([]);
  });

  it("stops politely: what runs ends, and others take over", async () => {
    let release = (): void => undefined;
    let started = false;
    const Last = defineAgent({
      name: "Last",
      handlers: (on) => ({
        wait: on({ default: true }, async () => {
          started = true;
          await new Promise<void>((resolve) => {
            release = resolve;
          });
          return "the last word";
        }),
      }),
    });
    const worker = await connected(process.address, Last);
    const client = await connected(process.address);
    const asked = client.request("Last");
    await until(() => started, "the handler runs");
    const stopped = worker.stop();
    release();
    expect(await asked).toBe("the last word");
    await stopped;
    expect(worker.connected).toBe(false);
  });

  it("hosts more agents while it runs", async () => {
    const worker = await connected(process.address, Echo);
    const Late = defineAgent({ name: "Late", handlers: (on) => ({ hello: on(() => "better than never") }) });
    await worker.host(Late);
    expect(await worker.request("Late")).toBe("better than never");
  });
});

describe.skipIf(!engineInstalled)("with an engine that dies", () => {
  it("calls it can recognise are repeated, others fail, subscriptions are renewed", async () => {
    const process = await EngineProcess.start({ links: { resume_window: "10s" } });
    try {
      // It calls what it hosts: that is there again when its calls are.
      const client = await connected(process.address, Echo, Counter);
      expect(await client.request("Counter", "a")).toBe(1);
      const events = await client.subscribe("news").ready();
      await process.kill();
      const unknown = client.request("Echo", 1).catch((error: unknown) => (error as AmxError).reason);
      const known = client.request("Counter", "a", { idempotencyKey: "once" });
      await process.run();
      expect(await known).toBe(2);
      expect([1, "ENGINE_RESTARTED"]).toContain(await unknown);
      const next = events[Symbol.asyncIterator]().next();
      // In force again as soon as the engine counts it.
      let subscribers = 0;
      while (!subscribers) ({ subscribers } = await client.publish("news", "again"));
      expect((await next).value).toMatchObject({ topic: "news", content: "again" });
    } finally {
      await Promise.all(open.splice(0).map((engine) => engine.stop({ deadline: 0 })));
      await process.stop();
    }
  });
});

describe("without an engine", () => {
  it("a start says so, and what to do", async () => {
    const engine = AmxEngine.builder().withAddress("127.0.0.1:1").withEnvironment(nodeEnvironment(log)).build();
    await expect(engine.start({ patience: 0 })).rejects.toMatchObject({
      reason: "ENGINE_UNREACHABLE",
      message: expect.stringContaining("amx dev"),
    });
    await expect(engine.request("Echo")).rejects.toMatchObject({ reason: "NOT_STARTED" });
  });
});

describe.skipIf(!engineInstalled)("with an engine that asks who is there", () => {
  it("a wrong token is refused at once, the right one taken", async () => {
    const process = await EngineProcess.start({
      security: { require_token: true, tokens: [{ token: "right", subject: "test", roles: ["worker", "client"] }] },
    });
    try {
      const builder = (): ReturnType<typeof AmxEngine.builder> =>
        AmxEngine.builder().withAddress(process.address).withEnvironment(nodeEnvironment(log));
      await expect(builder().withToken("wrong").build().start()).rejects.toMatchObject({ reason: "UNAUTHENTICATED" });
      const engine = builder()
        .withConfig({ engine: { token: "right" } })
        .withAgent(Echo)
        .build();
      open.push(engine);
      await engine.start();
      expect(await engine.request("Echo", 1)).toBe(1);
    } finally {
      await Promise.all(open.splice(0).map((engine) => engine.stop({ deadline: 0 })));
      await process.stop();
    }
  });
});
