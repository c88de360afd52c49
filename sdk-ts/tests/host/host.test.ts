// Handlers at work: invocations, memory, cancellation, streams and deliveries, with a test in the engine's place.

import { describe, expect, it } from "vitest";
import type { HandlerRun } from "../../src/agent-spec.js";
import { AmxError, HandlerError } from "../../src/errors.js";
import { STOP_MS } from "../../src/host/host.js";
import { gate, TestAgent } from "../support/agents.js";
import { Scripted } from "../support/scripted.js";
import { body, type ItemInit, json, value } from "../support/wire.js";

const remembered = (
  total: number,
): { memories: { name: string; entries: { id: string; value: Uint8Array<ArrayBuffer> }[] }[] } => ({
  memories: [{ name: "total", entries: [{ id: "", value: json(total).data }] }],
});

describe("an invocation", () => {
  it("ends with what the handler returns, at once or later", async () => {
    const agent = new TestAgent().on("now", (input) => input).on("later", async (input) => ({ got: input }));
    const engine = new Scripted([agent]);
    await engine.open();
    engine.invoke({ agent: "Test", handler: "now", content: [1, "two"], attempt: 3, epoch: 7n });
    const now = await engine.completed();
    expect([now.attempt, now.epoch, now.memoryDropped]).toEqual([3, 7n, false]);
    expect(value(now.outcome.value as never)).toEqual([1, "two"]);
    engine.invoke({ agent: "Test", handler: "later", content: 5, epoch: 7n });
    expect(value((await engine.completed()).outcome.value as never)).toEqual({ got: 5 });
    expect(agent.instances).toHaveLength(1);
  });

  it("that returns nothing has an empty result, not none", async () => {
    const engine = new Scripted([new TestAgent().on("nothing", () => undefined)]);
    await engine.open();
    engine.invoke({ agent: "Test", handler: "nothing" });
    expect((await engine.completed()).outcome).toMatchObject({ case: "result", value: { contentType: "" } });
  });

  it("finds its handler by name, by type, by default, or because there is only one", async () => {
    const name = (_: unknown, run: HandlerRun): string => run.handler;
    const several = new TestAgent("Several", false, {
      handlers: [{ name: "typed", messageTypes: ["greeting"] }, { name: "other" }],
      defaultHandler: "other",
    });
    several.on("typed", name).on("other", name);
    const unclear = new TestAgent("Unclear").on("a", name).on("b", name);
    const engine = new Scripted([several, new TestAgent("Only").on("one", name), unclear]);
    await engine.open();
    const ask = async (agent: string, epoch: bigint, handler = "", type = ""): Promise<unknown> => {
      engine.invoke({ agent, handler, type, epoch });
      const { outcome } = await engine.completed();
      return outcome.case === "failure" ? outcome.value.reason : value(outcome.value);
    };
    expect(await ask("Several", 1n, "typed")).toBe("typed");
    expect(await ask("Several", 1n, "", "greeting")).toBe("typed");
    expect(await ask("Several", 1n, "", "unknown")).toBe("other");
    expect(await ask("Only", 2n)).toBe("one");
    expect(await ask("Unclear", 3n)).toBe("HANDLER_AMBIGUOUS");
    expect(await ask("Several", 1n, "missing")).toBe("HANDLER_UNKNOWN");
    expect(await ask("Nobody", 4n)).toBe("AGENT_UNKNOWN");
  });

  it("sees its message, its instance and its time", async () => {
    let seen: HandlerRun | undefined;
    const engine = new Scripted([
      new TestAgent().on("look", (_, run) => {
        seen = run;
        return [run.agent, run.key, run.handler, run.attempt, run.remainingMs, run.streaming, run.config, run.ended];
      }),
    ]);
    await engine.open();
    engine.invoke({ agent: "Test", key: "k", handler: "look", attempt: 2, timeoutMs: 500n });
    const expected = ["Test", "k", "look", 2, 500, false, { section: { name: "value" } }, false];
    expect(value((await engine.completed()).outcome.value as never)).toEqual(expected);
    expect(seen?.ended).toBe(true);
  });

  it("fails with the reason, facts, stack and causes of what was thrown", async () => {
    const agent = new TestAgent()
      .on("own", () => {
        const cause = new TypeError("no such seat");
        throw new HandlerError("seat 4A is taken", {
          reason: "SEAT_TAKEN",
          code: 6,
          retryable: true,
          retryDelayMs: 50,
          metadata: { seat: "4A" },
          details: [{ seat: 4 }],
          cause,
        });
      })
      .on("plain", async () => {
        throw new RangeError("out of range");
      })
      .on("odd", () => {
        throw { reason: "ODD_THING", message: "thrown as is" };
      })
      .on("text", () => Promise.reject("only text"));
    const engine = new Scripted([agent]);
    await engine.open();
    const fail = async (handler: string) => {
      engine.invoke({ agent: "Test", key: "k", handler });
      const { outcome } = await engine.completed();
      if (outcome.case !== "failure") throw new Error("it did not fail");
      return outcome.value;
    };
    const own = await fail("own");
    expect(own).toMatchObject({
      code: 6,
      reason: "SEAT_TAKEN",
      message: "seat 4A is taken",
      retryable: true,
      retryDelayMs: 50n,
      metadata: { seat: "4A" },
      source: "Test/k#own",
      cause: { reason: "HANDLER_FAILED", message: "no such seat", metadata: { exception: "TypeError" } },
    });
    expect(own.details.map((detail) => value(detail))).toEqual([{ seat: 4 }]);
    expect(own.stackTrace).toContain("host.test.ts");
    expect(await fail("plain")).toMatchObject({
      code: 2,
      reason: "HANDLER_FAILED",
      message: "out of range",
      retryable: true,
      metadata: { exception: "RangeError" },
    });
    expect(await fail("odd")).toMatchObject({ reason: "ODD_THING", retryable: false });
    expect(await fail("text")).toMatchObject({ reason: "HANDLER_FAILED", message: "only text" });
  });

  it("whose result is too large fails at its sender", async () => {
    const engine = new Scripted([new TestAgent().on("large", () => "x".repeat(5000))]);
    await engine.open({ limits: { maxItemBytes: 4000 } });
    engine.invoke({ agent: "Test", handler: "large" });
    expect((await engine.completed()).outcome.value).toMatchObject({ reason: "ITEM_TOO_LARGE" });
  });

  it("decodes and encodes asynchronously where schemas are", async () => {
    const agent = new TestAgent().on("ask", (input) => input, {
      decode: async (message) => [value(message.payload), "decoded"],
      encode: async (result) => json([result, "encoded"]),
    });
    const engine = new Scripted([agent]);
    await engine.open();
    engine.invoke({ agent: "Test", handler: "ask", content: 1 });
    expect(value((await engine.completed()).outcome.value as never)).toEqual([[1, "decoded"], "encoded"]);
  });
});

describe("turns", () => {
  it("of an instance are taken one after the other, but for concurrent handlers", async () => {
    const started: string[] = [];
    const gates = [gate(), gate()];
    const agent = new TestAgent()
      .on("wait", async (input) => {
        started.push(`wait ${input}`);
        await gates[input as number]?.promise;
        return input;
      })
      .on(
        "beside",
        () => {
          started.push("beside");
        },
        { concurrent: true },
      );
    const engine = new Scripted([agent]);
    await engine.open();
    engine.invoke({ agent: "Test", handler: "wait", content: 0 });
    engine.invoke({ agent: "Test", handler: "wait", content: 1 });
    engine.invoke({ agent: "Test", handler: "beside" });
    engine.invoke({ agent: "Test", handler: "wait", content: 1, epoch: 2n });
    expect(started).toEqual(["wait 0", "beside", "wait 1"]);
    gates[0]?.open();
    await engine.environment.settle();
    expect(started).toEqual(["wait 0", "beside", "wait 1", "wait 1"]);
    gates[1]?.open();
    const ended = (await engine.said()).map((item) => Number(item.id));
    expect(ended.sort()).toEqual([1, 2, 3, 4]);
    expect(engine.link.host.slotsInUse).toBe(0);
  });
});

describe("memory", () => {
  function counter(): TestAgent {
    return new TestAgent("Counter", true)
      .on("add", (input, _, instance) => {
        if (instance.memory) instance.memory.total += Number(input ?? 1);
        return instance.memory?.total;
      })
      .on("add_and_fail", (_, __, instance) => {
        if (instance.memory) instance.memory.total += 100;
        throw new Error("after a change");
      })
      .on("peek", (_, __, instance) => instance.memory?.total, { concurrent: true })
      .on(
        "add_beside",
        (_, __, instance) => {
          if (instance.memory) instance.memory.total += 1;
        },
        { concurrent: true },
      );
  }

  it("is loaded, counted up by changes only, and committed with the result", async () => {
    const agent = counter();
    const engine = new Scripted([agent]);
    await engine.open();
    engine.invoke({ agent: "Counter", handler: "add", content: 5, memoryVersion: 3n, memory: remembered(10) });
    const first = await engine.completed();
    expect(value(first.outcome.value as never)).toBe(15);
    expect(first.effects?.memory.map((change) => [change.name, change.change.case])).toEqual([["total", "put"]]);
    engine.invoke({ agent: "Counter", handler: "add", content: 0, memoryVersion: 4n });
    expect((await engine.completed()).effects).toBeUndefined();
    engine.invoke({ agent: "Counter", handler: "add", content: 1, memoryVersion: 4n });
    expect(value((await engine.completed()).outcome.value as never)).toBe(16);
    expect(agent.instances[0]?.memory?.loads).toBe(1);
  });

  it("that was never written need not be brought", async () => {
    const engine = new Scripted([counter()]);
    await engine.open();
    engine.invoke({ agent: "Counter", handler: "add", content: 5 });
    expect(value((await engine.completed()).outcome.value as never)).toBe(5);
  });

  it("of another version than is held is asked for", async () => {
    const engine = new Scripted([counter()]);
    await engine.open();
    engine.invoke({ agent: "Counter", handler: "add", memoryVersion: 3n });
    const asked = await engine.completed();
    expect(asked.outcome.value).toMatchObject({ reason: "MEMORY_NOT_HELD", retryable: true });
    expect(asked.memoryDropped).toBe(true);
    engine.invoke({ agent: "Counter", handler: "add", memoryVersion: 3n, memory: remembered(1) });
    expect(value((await engine.completed()).outcome.value as never)).toBe(2);
  });

  it("that is held, but of another version, is dropped and asked for", async () => {
    const engine = new Scripted([counter()]);
    await engine.open();
    engine.invoke({ agent: "Counter", handler: "add", memoryVersion: 3n, memory: remembered(1) });
    await engine.completed();
    engine.invoke({ agent: "Counter", handler: "add", memoryVersion: 9n });
    const asked = await engine.completed();
    expect([asked.outcome.value, asked.memoryDropped]).toMatchObject([{ reason: "MEMORY_NOT_HELD" }, true]);
    engine.invoke({ agent: "Counter", handler: "add", memoryVersion: 4n });
    expect((await engine.completed()).outcome.value).toMatchObject({ reason: "MEMORY_NOT_HELD" });
  });

  it("whose changes do not fit an item is dropped with them", async () => {
    const agent = counter().on("add_too_much", (_, run, instance) => {
      if (instance.memory) instance.memory.total += 1;
      run.effects.cancelledSchedules.push("x".repeat(5000));
    });
    const engine = new Scripted([agent]);
    await engine.open({ limits: { maxItemBytes: 4000 } });
    engine.invoke({ agent: "Counter", handler: "add_too_much", memoryVersion: 3n, memory: remembered(1) });
    const failed = await engine.completed();
    expect([failed.outcome.value, failed.memoryDropped]).toMatchObject([{ reason: "ITEM_TOO_LARGE" }, true]);
    engine.invoke({ agent: "Counter", handler: "peek", memoryVersion: 3n, memory: remembered(1) });
    expect(value((await engine.completed()).outcome.value as never)).toBe(1);
  });

  it("is as it was after a failed handler, or dropped if that cannot be", async () => {
    const agent = counter();
    const engine = new Scripted([agent]);
    await engine.open();
    engine.invoke({ agent: "Counter", handler: "add", memoryVersion: 3n, memory: remembered(1) });
    await engine.completed();
    engine.invoke({ agent: "Counter", handler: "add_and_fail", memoryVersion: 4n });
    const failed = await engine.completed();
    expect([failed.outcome.case, failed.memoryDropped, failed.effects]).toEqual(["failure", false, undefined]);
    engine.invoke({ agent: "Counter", handler: "peek", memoryVersion: 4n });
    expect(value((await engine.completed()).outcome.value as never)).toBe(2);
    const memory = agent.instances[0]?.memory;
    if (memory) memory.canRollBack = false;
    engine.invoke({ agent: "Counter", handler: "add_and_fail", memoryVersion: 4n });
    expect((await engine.completed()).memoryDropped).toBe(true);
    engine.invoke({ agent: "Counter", handler: "add", memoryVersion: 4n });
    expect((await engine.completed()).outcome.value).toMatchObject({ reason: "MEMORY_NOT_HELD" });
  });

  it("may not be changed by a concurrent handler", async () => {
    const engine = new Scripted([counter()]);
    await engine.open();
    engine.invoke({ agent: "Counter", handler: "add_beside" });
    expect((await engine.completed()).outcome.value).toMatchObject({ reason: "CONCURRENT_MEMORY_CHANGE" });
    engine.invoke({ agent: "Counter", handler: "peek" });
    expect(value((await engine.completed()).outcome.value as never)).toBe(0);
  });

  it("of an activation that ended is forgotten", async () => {
    const agent = counter();
    const engine = new Scripted([agent]);
    await engine.open();
    engine.invoke({ agent: "Counter", handler: "add" });
    await engine.completed();
    engine.wire.say({ item: { case: "deactivate", value: { epochs: [1n] } } } as ItemInit);
    engine.invoke({ agent: "Counter", handler: "add", epoch: 2n, memoryVersion: 1n, memory: remembered(1) });
    await engine.completed();
    expect(agent.instances).toHaveLength(2);
  });
});

describe("effects", () => {
  it("travel with the result, and are forgotten with a failure", async () => {
    const stage = (_: unknown, run: HandlerRun): void => {
      run.effects.messages.push({ agent: "Other", key: "k", payload: json(1) });
      run.effects.events.push({ topic: "a.b" });
      run.effects.schedules.push({ name: "later", handler: "h", onceAfterMs: 5 });
      run.effects.cancelledSchedules.push("old");
      run.effects.subscriptions.push({ pattern: "a.*", handler: "h" });
      run.effects.cancelledSubscriptions.push("b.*");
    };
    const agent = new TestAgent().on("stage", stage).on("stage_and_fail", (input, run) => {
      stage(input, run);
      throw new Error("no");
    });
    const engine = new Scripted([agent]);
    await engine.open();
    engine.invoke({ agent: "Test", handler: "stage" });
    const { effects } = await engine.completed();
    expect(effects).toMatchObject({
      messages: [{ agent: "Other", key: "k" }],
      events: [{ topic: "a.b" }],
      schedules: [{ name: "later", timing: { case: "onceAfterMs", value: 5n } }],
      cancelledSchedules: ["old"],
      subscriptions: [{ pattern: "a.*" }],
      cancelledSubscriptions: ["b.*"],
    });
    engine.invoke({ agent: "Test", handler: "stage_and_fail" });
    expect((await engine.completed()).effects).toBeUndefined();
  });

  it("that exceed a limit fail the handler", async () => {
    const agent = new TestAgent().on("stage", (input, run) => {
      run.effects.messages.push({ agent: "A", key: "k".repeat(Number(input)), type: "t".repeat(Number(input)) });
    });
    const engine = new Scripted([agent]);
    await engine.open({ limits: { maxItemBytes: 2000 } });
    engine.invoke({ agent: "Test", handler: "stage", content: 600 });
    expect((await engine.completed()).outcome.value).toMatchObject({ reason: "KEY_TOO_LONG" });
    const large = new TestAgent("Large").on("stage", (_, run) => {
      for (let index = 0; index < 30; index++) run.effects.messages.push({ agent: "A", type: "t".repeat(100) });
    });
    await engine.link.host.agents.set("Large", large);
    engine.invoke({ agent: "Large", handler: "stage", epoch: 2n });
    expect((await engine.completed()).outcome.value).toMatchObject({ reason: "ITEM_TOO_LARGE" });
  });
});

describe("stopping", () => {
  const untilAborted = (run: HandlerRun): Promise<never> =>
    new Promise((_, reject) => run.signal.addEventListener("abort", () => reject(run.signal.reason)));

  it("reaches the handler as an aborted signal, and its outcome says why", async () => {
    let reason: unknown;
    const agent = new TestAgent().on("wait", async (_, run) => {
      await untilAborted(run).catch((error: unknown) => {
        reason = error;
      });
      return "as if nothing had happened";
    });
    const engine = new Scripted([agent]);
    await engine.open();
    const id = engine.invoke({ agent: "Test", handler: "wait" });
    expect(await engine.said()).toEqual([]);
    engine.wire.say({ id, item: { case: "cancel", value: { reason: "no longer needed" } } } as ItemInit);
    const { outcome } = await engine.completed();
    expect(outcome.value).toMatchObject({ code: 1, reason: "CANCELLED", message: "cancelled: no longer needed" });
    expect(reason).toBeInstanceOf(AmxError);
  });

  it("happens by itself a little after the deadline", async () => {
    const engine = new Scripted([new TestAgent().on("wait", (_, run) => untilAborted(run))]);
    await engine.open();
    engine.invoke({ agent: "Test", handler: "wait", timeoutMs: 1000n });
    engine.environment.advance(1100);
    expect(await engine.said()).toEqual([]);
    engine.environment.advance(100);
    expect((await engine.completed()).outcome.value).toMatchObject({ code: 4, reason: "DEADLINE_EXCEEDED" });
  });

  it("does not wait long for a handler that goes on: it is left alone, with the object it has", async () => {
    const forever = gate<string>();
    const agent = new TestAgent("Test", true)
      .on("ignore", () => forever.promise)
      .on("who", (_, __, instance) => agent.instances.indexOf(instance));
    const engine = new Scripted([agent]);
    await engine.open();
    const id = engine.invoke({ agent: "Test", handler: "ignore" });
    engine.wire.say({ id, item: { case: "cancel", value: {} } } as ItemInit);
    expect(await engine.said()).toEqual([]);
    engine.environment.advance(STOP_MS + 100);
    const given = await engine.completed();
    expect([given.outcome.value, given.memoryDropped]).toMatchObject([{ reason: "CANCELLED" }, true]);
    forever.open("too late");
    expect(await engine.said()).toEqual([]);
    engine.invoke({ agent: "Test", handler: "who", memoryVersion: 2n, memory: remembered(1) });
    expect(value((await engine.completed()).outcome.value as never)).toBe(1);
    expect(engine.environment.lines.map((line) => line.message).join()).toContain("asked to stop and goes on");
  });

  it("of a message that still waits for its turn needs no handler", async () => {
    const first = gate();
    let calls = 0;
    const agent = new TestAgent().on("wait", async () => {
      calls++;
      await first.promise;
    });
    const engine = new Scripted([agent]);
    await engine.open();
    engine.invoke({ agent: "Test", handler: "wait" });
    const second = engine.invoke({ agent: "Test", handler: "wait" });
    engine.wire.say({ id: second, item: { case: "cancel", value: {} } } as ItemInit);
    first.open();
    const outcomes = (await engine.said()).map((item) => body(item, "complete").outcome.case);
    expect(outcomes).toEqual(["result", "failure"]);
    expect(calls).toBe(1);
  });

  it("comes with the loss of the session, whose handlers answer nothing", async () => {
    let stopped = 0;
    const agent = new TestAgent().on("wait", (_, run) => untilAborted(run).catch(() => stopped++));
    const engine = new Scripted([agent]);
    await engine.open();
    engine.invoke({ agent: "Test", handler: "wait" });
    const wire = await engine.reconnect();
    wire.sayRaw({ item: { case: "welcome", value: { protocol: 1, resumeToken: "t" } } } as ItemInit);
    expect((await engine.said()).filter((item) => item.item.case !== "hello")).toEqual([]);
    expect(stopped).toBe(1);
    expect(engine.link.host.slotsInUse).toBe(0);
  });

  it("does not come with the loss of a connection that is resumed", async () => {
    const answer = gate<string>();
    const engine = new Scripted([new TestAgent().on("wait", () => answer.promise)]);
    const before = await engine.open();
    engine.invoke({ agent: "Test", handler: "wait" });
    const wire = await engine.reconnect();
    wire.continue(before);
    wire.sayRaw({ item: { case: "welcome", value: { protocol: 1, resumed: true, resumeToken: "t" } } } as ItemInit);
    wire.take();
    answer.open("here I am");
    expect(value((await engine.completed()).outcome.value as never)).toBe("here I am");
  });
});

describe("a stream", () => {
  async function* numbers(input: unknown): AsyncGenerator<number> {
    for (let number = 0; number < Number(input); number++) yield number;
  }

  it("sends chunks as far as its reader's window goes, then an empty result", async () => {
    const engine = new Scripted([new TestAgent().on("count", numbers, { streaming: true })]);
    await engine.open({ limits: { streamWindow: 3 } });
    const id = engine.invoke({ agent: "Test", handler: "count", content: 5, streaming: true });
    const chunks = (items: Awaited<ReturnType<Scripted["said"]>>): unknown[] =>
      items.map((item) => (item.item.case === "chunk" ? value(item.item.value.payload) : item.item.case));
    expect(chunks(await engine.said())).toEqual([0, 1, 2]);
    engine.wire.say({ id, item: { case: "credit", value: { chunks: 1 } } } as ItemInit);
    expect(chunks(await engine.said())).toEqual([3]);
    engine.wire.say({ id, item: { case: "credit", value: { chunks: 9 } } } as ItemInit);
    expect(chunks(await engine.said())).toEqual([4, "complete"]);
  });

  it("that nobody reads is one JSON array", async () => {
    const engine = new Scripted([new TestAgent().on("count", numbers, { streaming: true })]);
    await engine.open();
    engine.invoke({ agent: "Test", handler: "count", content: 300 });
    expect(value((await engine.completed()).outcome.value as never)).toEqual([...Array(300).keys()]);
  });

  it("fails where its handler throws, after the chunks before", async () => {
    const agent = new TestAgent().on(
      "broken",
      async function* () {
        yield 1;
        throw new HandlerError("broken", { reason: "BROKEN" });
      },
      { streaming: true },
    );
    const engine = new Scripted([agent]);
    await engine.open();
    engine.invoke({ agent: "Test", handler: "broken", streaming: true });
    const items = await engine.said();
    expect(items.map((item) => item.item.case)).toEqual(["chunk", "complete"]);
    expect(body(items[1], "complete").outcome.value).toMatchObject({ reason: "BROKEN" });
  });

  it("that is cancelled runs its handler's finally blocks", async () => {
    let cleaned = false;
    const agent = new TestAgent().on(
      "endless",
      async function* () {
        try {
          for (let number = 0; ; number++) yield number;
        } finally {
          cleaned = true;
        }
      },
      { streaming: true },
    );
    const engine = new Scripted([agent]);
    await engine.open({ limits: { streamWindow: 2 } });
    const id = engine.invoke({ agent: "Test", handler: "endless", streaming: true });
    expect(await engine.said()).toHaveLength(2);
    engine.wire.say({ id, item: { case: "cancel", value: { reason: "the reader left" } } } as ItemInit);
    expect((await engine.completed()).outcome.value).toMatchObject({ reason: "CANCELLED" });
    expect(cleaned).toBe(true);
  });
});

describe("a delivery", () => {
  const event = {
    topic: "orders.new",
    payload: json({ n: 1 }),
    attributes: { level: "high" },
    eventId: "e-1",
    publisher: "P/q",
  };

  async function withTargets(agent: TestAgent, count: number): Promise<Scripted> {
    const engine = new Scripted([agent]);
    await engine.open();
    for (let epoch = 1; epoch <= count; epoch++) {
      const instance = { agent: agent.name, key: `k${epoch}` };
      engine.wire.say({ item: { case: "activate", value: { instance, epoch: BigInt(epoch) } } } as ItemInit);
    }
    return engine;
  }

  function deliver(engine: Scripted, agent: string, handler: string, epochs: number[], id = 50n): void {
    engine.wire.say({
      id,
      item: { case: "deliver", value: { event, agent, handler, epochs: epochs.map(BigInt) } },
    } as ItemInit);
  }

  it("decodes its event once, reaches every target, and reports only what is worth it", async () => {
    let decoded = 0;
    const seen: unknown[] = [];
    const agent = new TestAgent("Listener", true).on(
      "on_event",
      (input, run, instance) => {
        seen.push([run.key, input, run.message.topic, run.message.headers["level"], run.message.sender]);
        if (run.key === "k2") throw new HandlerError("not me", { reason: "REFUSED" });
        if (run.key === "k3" && instance.memory) instance.memory.total = 9;
      },
      {
        decode: (message) => {
          decoded++;
          return value(message.payload);
        },
      },
    );
    const engine = await withTargets(agent, 4);
    deliver(engine, "Listener", "on_event", [1, 2, 3, 99]);
    const items = await engine.said();
    expect(items).toHaveLength(1);
    const { targets } = body(items[0], "delivered");
    expect(decoded).toBe(1);
    expect(seen[0]).toEqual(["k1", { n: 1 }, "orders.new", "high", "P/q"]);
    expect(
      targets
        .map((target) => [target.index, target.failure?.reason, target.effects?.memory.length, target.memoryDropped])
        .sort(),
    ).toEqual([
      [1, "REFUSED", undefined, false],
      [2, undefined, 1, false],
      [3, "MEMORY_NOT_HELD", undefined, true],
    ]);
  });

  it("to an unknown handler fails for every target", async () => {
    const engine = await withTargets(
      new TestAgent("Listener").on("other", () => 1),
      2,
    );
    deliver(engine, "Listener", "on_event", [1, 2]);
    const { targets } = body((await engine.said())[0], "delivered");
    expect(targets.map((target) => target.failure?.reason)).toEqual(["HANDLER_UNKNOWN", "HANDLER_UNKNOWN"]);
  });

  it("waits for its turn at an instance, in the order of arrival", async () => {
    const order: string[] = [];
    const gates = [gate(), gate()];
    const agent = new TestAgent("Listener").on("on_event", async (_, run) => {
      order.push(`${run.invocationId} ${run.key}`);
      if (run.invocationId === 50) await gates[0]?.promise;
      else await gates[1]?.promise;
    });
    const engine = await withTargets(agent, 2);
    deliver(engine, "Listener", "on_event", [1, 2], 50n);
    deliver(engine, "Listener", "on_event", [2, 1], 51n);
    expect(await engine.said()).toEqual([]);
    gates[0]?.open();
    expect((await engine.said()).map((item) => Number(item.id))).toEqual([50]);
    gates[1]?.open();
    expect((await engine.said()).map((item) => Number(item.id))).toEqual([51]);
    expect(order).toEqual(["50 k1", "50 k2", "51 k1", "51 k2"]);
    expect(engine.link.host.slotsInUse).toBe(0);
  });

  it("of many targets keeps no more of them waiting at a time than messages are taken", async () => {
    const all = gate();
    let most = 0;
    let now = 0;
    const agent = new TestAgent("Listener").on("on_event", async () => {
      now++;
      most = Math.max(most, now);
      await all.promise;
      now--;
    });
    const engine = await withTargets(agent, 200);
    deliver(
      engine,
      "Listener",
      "on_event",
      Array.from({ length: 200 }, (_, index) => index + 1),
    );
    await engine.environment.settle();
    expect(now).toBe(64);
    all.open();
    expect((await engine.said()).map((item) => item.item.case)).toEqual(["delivered"]);
    expect(most).toBe(64);
  });

  it("that is cancelled fails for those that have not ended", async () => {
    const agent = new TestAgent("Listener").on("on_event", (_, run) =>
      run.key === "k1"
        ? undefined
        : new Promise((_resolve, reject) => run.signal.addEventListener("abort", () => reject(run.signal.reason))),
    );
    const engine = await withTargets(agent, 2);
    deliver(engine, "Listener", "on_event", [1, 2]);
    engine.wire.say({ id: 50n, item: { case: "cancel", value: {} } } as ItemInit);
    const { targets } = body((await engine.said())[0], "delivered");
    expect(targets.map((target) => [target.index, target.failure?.reason])).toEqual([[1, "CANCELLED"]]);
  });
});

describe("a handler that blocks the event loop", () => {
  it("is warned of by name, and its lag is reported", async () => {
    const agent = new TestAgent("Busy").on("block", () => {
      const until = performance.now() + 520;
      while (performance.now() < until);
    });
    const engine = new Scripted([agent]);
    await engine.open();
    engine.invoke({ agent: "Busy", handler: "block" });
    await engine.completed();
    expect(engine.environment.lines.filter((line) => line.level === "warn").map((line) => line.message)).toEqual([
      expect.stringMatching(/^handler Busy#block blocked the event loop for 0\.\d\d s/),
    ]);
    engine.environment.advance(10_000);
    const pings = engine.wire.items.concat(await engine.environment.settle().then(() => engine.wire.items));
    const ping = body(
      pings.find((item) => item.item.case === "ping"),
      "ping",
    );
    expect(Number(ping.eventLoopLagUs)).toBeGreaterThanOrEqual(500_000);
  });

  it("after it had waited is warned of with the names of those that were under way", async () => {
    const agent = new TestAgent("Busy").on("wait", () => new Promise(() => undefined));
    const engine = new Scripted([agent]);
    await engine.open();
    engine.invoke({ agent: "Busy", handler: "wait" });
    engine.environment.block(4000);
    engine.environment.advance(1);
    const warnings = engine.environment.lines.filter((line) => line.level === "warn").map((line) => line.message);
    expect(warnings.join()).toContain("these handlers were under way: Busy#wait");
  });
});
