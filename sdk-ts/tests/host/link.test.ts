// A link over the connections it takes: handshake, batching, loss, refusal, leaving; and calls made on it.

import { describe, expect, it } from "vitest";
import { AmxError } from "../../src/errors.js";
import { SUBSCRIPTION_BUFFER } from "../../src/host/calls.js";
import { ConnectionLost } from "../../src/transport/connection.js";
import { gate, TestAgent } from "../support/agents.js";
import { Scripted } from "../support/scripted.js";
import { body, type ItemInit, json, value, welcome } from "../support/wire.js";

function reply(id: bigint, outcome: unknown): ItemInit {
  return { id, item: { case: "reply", value: { outcome } } } as ItemInit;
}

function result(id: bigint, content: unknown): ItemInit {
  return reply(id, { case: "result", value: json(content) });
}

describe("opening", () => {
  it("says Hello when the connection is there, and is open with Welcome", async () => {
    const engine = new Scripted([new TestAgent().on("a", () => 1)]);
    const opened = engine.link.open(0);
    expect(engine.wire.items).toEqual([]);
    engine.wire.events.opened();
    const hello = body(engine.wire.items[0], "hello");
    expect([hello.agents.map((agent) => agent.name), hello.credit]).toEqual([["Test"], 64]);
    engine.wire.sayRaw(welcome());
    await opened;
    expect(engine.link.connected).toBe(true);
  });

  it("gives up at once on an engine that is not there, unless it is to be patient", async () => {
    const engine = new Scripted();
    const opened = engine.link.open(0);
    engine.wire.events.lost(new ConnectionLost("connection refused"));
    await expect(opened).rejects.toMatchObject({ reason: "ENGINE_UNREACHABLE" });
    const patient = new Scripted();
    const later = patient.link.open(60_000);
    patient.wire.events.lost(new ConnectionLost("connection refused"));
    patient.environment.pass(200);
    patient.wire.events.opened();
    patient.wire.sayRaw(welcome());
    await later;
    expect(patient.wires).toHaveLength(2);
  });

  it("fails with the engine's reason if it refuses", async () => {
    const engine = new Scripted();
    const opened = engine.link.open(60_000);
    engine.wire.events.opened();
    const failure = { code: 9, reason: "DEFINITION_CHANGED", message: "it changed" };
    engine.wire.sayRaw({ item: { case: "rejected", value: { failure } } } as ItemInit);
    await expect(opened).rejects.toMatchObject({ reason: "DEFINITION_CHANGED", message: "it changed" });
    expect(engine.wire.closed).toBe(true);
  });

  it("tries again if the engine refuses for now", async () => {
    const engine = new Scripted();
    const opened = engine.link.open(60_000);
    engine.wire.events.opened();
    const failure = { code: 14, reason: "LINK_LIMIT", message: "full", retryable: true, retryDelayMs: 5000n };
    engine.wire.sayRaw({ item: { case: "rejected", value: { failure } } } as ItemInit);
    engine.environment.pass(2000);
    expect(engine.wires).toHaveLength(1);
    engine.environment.pass(3000);
    expect(engine.wires).toHaveLength(2);
    engine.wire.events.opened();
    engine.wire.sayRaw(welcome());
    await opened;
  });

  it("gives a connection up whose engine says nothing", async () => {
    const engine = new Scripted();
    const opened = engine.link.open(0);
    engine.wire.events.opened();
    engine.environment.pass(10_000);
    await expect(opened).rejects.toMatchObject({ reason: "ENGINE_UNREACHABLE" });
    expect(engine.wire.closed).toBe(true);
  });
});

describe("sending", () => {
  it("never waits to fill a frame, and fills it with what came while the last one was on its way", async () => {
    const engine = new Scripted();
    await engine.open();
    const ask = (): void => void engine.link.calls.request({ agent: "A" });
    engine.wire.holding = true;
    ask();
    await engine.environment.settle();
    expect(engine.wire.frames.at(-1)?.items).toHaveLength(1);
    for (let index = 0; index < 5; index++) ask();
    await engine.environment.settle();
    expect(engine.wire.frames.at(-1)?.items).toHaveLength(1);
    engine.wire.release();
    expect(engine.wire.frames.at(-1)?.items).toHaveLength(5);
  });
});

describe("a connection", () => {
  it("that breaks the protocol is ended, and taken up again", async () => {
    const engine = new Scripted();
    const wire = await engine.open();
    wire.events.received(new Uint8Array([0xff]));
    expect(wire.closed).toBe(true);
    engine.environment.pass(1000);
    engine.wire.events.opened();
    expect(body(engine.wire.items[0], "hello").resumeToken).toBe("token-1");
  });

  it("that is silent for two heartbeats is ended", async () => {
    const engine = new Scripted();
    const wire = await engine.open();
    engine.environment.advance(20_000);
    expect(wire.closed).toBe(false);
    engine.environment.advance(1000);
    expect(wire.closed).toBe(true);
  });

  it("that is lost again and again is tried ever more slowly", async () => {
    const engine = new Scripted();
    await engine.open();
    const waits: number[] = [];
    for (let attempt = 0; attempt < 12; attempt++) {
      const before = engine.wires.length;
      engine.wire.events.lost(new ConnectionLost("gone"));
      let waited = 0;
      while (engine.wires.length === before) {
        engine.environment.pass(50);
        waited += 50;
      }
      waits.push(waited);
    }
    expect(waits[0]).toBeLessThanOrEqual(100);
    expect(Math.max(...waits)).toBeGreaterThanOrEqual(15_000);
    expect(Math.max(...waits)).toBeLessThanOrEqual(30_050);
  });

  it("whose engine will not have the link back is the last", async () => {
    const engine = new Scripted();
    await engine.open();
    const pending = engine.link.calls.request({ agent: "A" });
    engine.wire.events.lost(new ConnectionLost("no", new AmxError(16, "UNAUTHENTICATED", "who are you")));
    await expect(pending).rejects.toMatchObject({ reason: "UNAUTHENTICATED" });
    await expect(engine.link.ended).rejects.toMatchObject({ reason: "UNAUTHENTICATED" });
    await expect(engine.link.calls.request({ agent: "A" })).rejects.toMatchObject({ reason: "UNAUTHENTICATED" });
  });
});

describe("leaving", () => {
  it("drains, lets handlers end, says so, and waits for the engine to hang up", async () => {
    const answer = gate<string>();
    const engine = new Scripted([new TestAgent().on("wait", () => answer.promise)]);
    await engine.open();
    engine.invoke({ agent: "Test", handler: "wait" });
    let left = false;
    const closed = engine.link.close(30_000).then(() => {
      left = true;
    });
    expect((await engine.said()).map((item) => item.item.case)).toEqual(["drain"]);
    answer.open("done");
    expect((await engine.said()).map((item) => item.item.case)).toEqual(["complete", "drained"]);
    expect(left).toBe(false);
    engine.wire.events.lost(new ConnectionLost("goodbye"));
    await closed;
    await engine.link.ended;
    expect(engine.wires).toHaveLength(1);
  });

  it("stops what does not end in time", async () => {
    let stopped = false;
    const agent = new TestAgent().on(
      "wait",
      (_, run) =>
        new Promise((resolve) =>
          run.signal.addEventListener("abort", () => {
            stopped = true;
            resolve(undefined);
          }),
        ),
    );
    const engine = new Scripted([agent]);
    await engine.open();
    engine.invoke({ agent: "Test", handler: "wait" });
    const closed = engine.link.close(5000);
    await engine.environment.settle();
    engine.environment.pass(5000);
    await engine.environment.settle();
    engine.wire.events.lost(new ConnectionLost("goodbye"));
    await closed;
    expect(stopped).toBe(true);
  });

  it("fails calls that are still under way, and later ones", async () => {
    const engine = new Scripted();
    await engine.open();
    const pending = engine.link.calls.request({ agent: "A" });
    const closed = engine.link.close(0);
    await engine.environment.settle();
    engine.environment.pass(2000);
    await expect(pending).rejects.toMatchObject({ reason: "SHUTTING_DOWN" });
    await closed;
    await expect(engine.link.calls.request({ agent: "A" })).rejects.toMatchObject({ reason: "SHUTTING_DOWN" });
  });
});

describe("calls", () => {
  it("resolve with what the engine says of each kind", async () => {
    const engine = new Scripted();
    await engine.open();
    const { calls } = engine.link;
    const all = Promise.all([
      calls.request({ agent: "A" }),
      calls.send({ agent: "A" }),
      calls.publish({ topic: "t" }),
      calls.broadcast({ group: "g" }, { payload: json(1) }),
      calls.memory({ agent: "A", name: "m", get: "" }),
    ]);
    const said = await engine.said();
    expect(said.map((item) => body(item, "call").operation.case)).toEqual([
      "request",
      "send",
      "publish",
      "broadcast",
      "memory",
    ]);
    engine.wire.say(
      result(1n, "r"),
      reply(2n, { case: "accepted", value: { messageId: "m", duplicate: true } }),
      reply(3n, { case: "published", value: { eventId: "e", subscribers: 2 } }),
      reply(4n, { case: "broadcast", value: { messageId: "b", succeeded: 1 } }),
      reply(5n, { case: "memory", value: { version: 3n, found: true } }),
    );
    const [asked, sent, published, broadcast, memory] = await all;
    expect(value(asked)).toBe("r");
    expect(sent).toEqual({ messageId: "m", duplicate: true });
    expect(published).toEqual({ eventId: "e", subscribers: 2 });
    expect(broadcast).toMatchObject({ messageId: "b", succeeded: 1 });
    expect(memory).toMatchObject({ version: 3, found: true });
  });

  it("reject with the failure, its cause and its stack", async () => {
    const engine = new Scripted();
    await engine.open();
    const asked = engine.link.calls.request({ agent: "A" });
    const failure = {
      code: 5,
      reason: "SEAT_UNKNOWN",
      message: "no such seat",
      metadata: { seat: "4A" },
      stackTrace: "Traceback",
      source: "A/k#h",
      cause: { code: 2, reason: "HANDLER_FAILED", message: "deeper" },
    };
    engine.wire.say(reply(1n, { case: "failure", value: failure }));
    const error = await asked.catch((one: unknown) => one as AmxError);
    expect(error).toBeInstanceOf(AmxError);
    expect(error).toMatchObject({
      code: 5,
      reason: "SEAT_UNKNOWN",
      metadata: { seat: "4A" },
      remoteStack: "Traceback",
      source: "A/k#h",
    });
    expect((error as AmxError).cause).toMatchObject({ reason: "HANDLER_FAILED", message: "deeper" });
  });

  it("are given up when their signal aborts", async () => {
    const engine = new Scripted();
    await engine.open();
    const controller = new AbortController();
    const asked = engine.link.calls.request({ agent: "A" }, { signal: controller.signal });
    await engine.said();
    controller.abort(new Error("changed my mind"));
    await expect(asked).rejects.toThrow("changed my mind");
    expect((await engine.said()).map((item) => item.item.case)).toEqual(["cancel"]);
    await expect(engine.link.calls.request({ agent: "A" }, { signal: controller.signal })).rejects.toThrow("changed");
    expect(await engine.said()).toEqual([]);
  });
});

describe("a stream that is read", () => {
  it("yields chunks, grants more, and ends with the reply", async () => {
    const engine = new Scripted();
    await engine.open({ limits: { streamWindow: 4 } });
    const chunks = engine.link.calls.stream({ agent: "A" });
    const first = chunks.next();
    await engine.said();
    const chunk = (content: unknown): ItemInit =>
      ({ id: 1n, item: { case: "chunk", value: { payload: json(content) } } }) as ItemInit;
    engine.wire.say(chunk(1), chunk(2), chunk(3));
    expect(value((await first).value as never)).toBe(1);
    expect(value((await chunks.next()).value as never)).toBe(2);
    expect((await engine.said()).map((item) => body(item, "credit").chunks)).toEqual([2]);
    engine.wire.say(reply(1n, { case: "result", value: {} }));
    expect(value((await chunks.next()).value as never)).toBe(3);
    expect((await chunks.next()).done).toBe(true);
    expect(await engine.said()).toEqual([]);
  });

  it("is one chunk, if the handler does not stream", async () => {
    const engine = new Scripted();
    await engine.open();
    const chunks = engine.link.calls.stream({ agent: "A" });
    const first = chunks.next();
    await engine.said();
    engine.wire.say(result(1n, "all there is"));
    expect(value((await first).value as never)).toBe("all there is");
    expect((await chunks.next()).done).toBe(true);
  });

  it("is cancelled when its reader leaves, and fails where the handler fails", async () => {
    const engine = new Scripted();
    await engine.open();
    const left = engine.link.calls.stream({ agent: "A" });
    const first = left.next();
    await engine.said();
    engine.wire.say({ id: 1n, item: { case: "chunk", value: { payload: json(1) } } } as ItemInit);
    await first;
    await left.return();
    expect((await engine.said()).map((item) => item.item.case)).toEqual(["cancel"]);
    const failing = engine.link.calls.stream({ agent: "A" }).next();
    await engine.said();
    engine.wire.say(reply(2n, { case: "failure", value: { code: 2, reason: "BROKEN" } }));
    await expect(failing).rejects.toMatchObject({ reason: "BROKEN" });
  });
});

describe("a subscription", () => {
  const event = (topic: string): ItemInit => ({ id: 1n, item: { case: "event", value: { topic } } }) as ItemInit;

  it("yields events until it is left, and outlives a restart of the engine", async () => {
    const engine = new Scripted();
    await engine.open();
    const opening = engine.link.calls.subscribe({ pattern: "a.*", filter: "x = 1" });
    expect(body((await engine.said())[0], "call").operation.value).toMatchObject({ pattern: "a.*", filter: "x = 1" });
    engine.wire.say(reply(1n, { case: "subscribed", value: { subscriptionId: 1n } }));
    const events = await opening;
    engine.wire.say(event("a.1"), event("a.2"));
    const wire = await engine.reconnect();
    wire.sayRaw(welcome());
    expect((await engine.said()).map((item) => item.item.case)).toEqual(["hello", "call"]);
    wire.say(reply(1n, { case: "subscribed", value: { subscriptionId: 1n } }), event("a.3"));
    const topics: string[] = [];
    for await (const one of events) {
      topics.push(one.topic);
      if (topics.length === 3) break;
    }
    expect(topics).toEqual(["a.1", "a.2", "a.3"]);
    expect((await engine.said()).map((item) => item.item.case)).toEqual(["cancel"]);
  });

  it("that is refused or ended by the engine rejects", async () => {
    const engine = new Scripted();
    await engine.open();
    const refused = engine.link.calls.subscribe({ pattern: "[" });
    await engine.said();
    engine.wire.say(reply(1n, { case: "failure", value: { code: 3, reason: "INVALID_PATTERN" } }));
    await expect(refused).rejects.toMatchObject({ reason: "INVALID_PATTERN" });
  });

  it("whose reader is too slow loses the oldest events, and says so", async () => {
    const engine = new Scripted();
    await engine.open();
    const opening = engine.link.calls.subscribe({ pattern: "a" });
    await engine.said();
    engine.wire.say(reply(1n, { case: "subscribed", value: {} }));
    const events = await opening;
    const all = Array.from({ length: SUBSCRIPTION_BUFFER + 2 }, (_, index) => event(String(index)));
    engine.wire.say(...all);
    expect(events.dropped).toBe(2);
    const first = await events[Symbol.asyncIterator]().next();
    expect(first.value.topic).toBe("2");
  });
});

describe("hosting more", () => {
  it("is over when the engine has agreed, and undone when it refuses", async () => {
    const engine = new Scripted([new TestAgent("Old").on("a", () => "old")]);
    await engine.open();
    const joined = engine.link.register([new TestAgent("New").on("a", () => "new")], ["Old"]);
    const registration = body((await engine.said())[0], "register");
    expect([registration.agents.map((agent) => agent.name), registration.removed]).toEqual([["New"], ["Old"]]);
    engine.wire.say(reply(1n, { case: undefined }));
    await joined;
    expect([...engine.link.protocol.agents.keys()]).toEqual(["New"]);
    const refused = engine.link.register([new TestAgent("Bad").on("a", () => 1)], []);
    await engine.said();
    engine.wire.say(reply(2n, { case: "failure", value: { code: 9, reason: "DEFINITION_CHANGED" } }));
    await expect(refused).rejects.toMatchObject({ reason: "DEFINITION_CHANGED" });
    expect([...engine.link.host.agents.keys()]).toEqual(["New"]);
  });
});
