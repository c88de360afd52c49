// The protocol core without a transport: what it says to what it is told, frame by frame.

import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { AmxError } from "../../src/errors.js";
import type { LinkFrame } from "../../src/gen/amx/v1/link_pb.js";
import type { WireReply } from "../../src/protocol/codec.js";
import { Deadlines } from "../../src/protocol/deadlines.js";
import {
  type CallFacts,
  type Host,
  type LinkEvents,
  LinkProtocol,
  PendingCall,
  ProtocolViolation,
} from "../../src/protocol/link-protocol.js";
import { TestEnvironment } from "../support/clock.js";
import { body, frame, type ItemInit, json, parsed, type WelcomeFields, welcome } from "../support/wire.js";

class Recorder implements Host, LinkEvents {
  readonly calls: string[] = [];
  wakes = 0;
  rejection: AmxError | undefined;

  invoke(id: number): void {
    this.calls.push(`invoke ${id}`);
    if (id === 666) throw new Error("one that cannot be taken");
  }
  deliver(id: number): void {
    this.calls.push(`deliver ${id}`);
  }
  activate(): void {
    this.calls.push("activate");
  }
  deactivate(epochs: readonly number[]): void {
    this.calls.push(`deactivate ${epochs.join(" ")}`);
  }
  cancel(id: number, reason: string): void {
    this.calls.push(`cancel ${id} ${reason}`);
  }
  grantChunks(id: number, chunks: number): void {
    this.calls.push(`grant ${id} ${chunks}`);
  }
  abandon(): void {
    this.calls.push("abandon");
  }
  wake(): void {
    this.wakes++;
  }
  opened(resumed: boolean): void {
    this.calls.push(resumed ? "resumed" : "opened");
  }
  redirected(engines: readonly string[]): void {
    this.calls.push(`redirected ${engines.join(" ")}`);
  }
  rejected(error: AmxError): void {
    this.rejection = error;
  }
  goAway(reason: string, ms: number): void {
    this.calls.push(`go away ${reason} ${ms}`);
  }
}

class Call extends PendingCall {
  replies: WireReply[] = [];
  error: AmxError | undefined;

  override replied(reply: WireReply): void {
    this.replies.push(reply);
  }
  override failed(error: AmxError): void {
    this.error = error;
  }
}

const ONCE: CallFacts = { timeoutMs: 0, invocationId: 0, repeatable: false };
const AGAIN: CallFacts = { ...ONCE, repeatable: true };

let environment: TestEnvironment;
let heard: Recorder;
let protocol: LinkProtocol;

beforeEach(() => {
  environment = new TestEnvironment();
  heard = new Recorder();
  protocol = new LinkProtocol({
    linkId: "link-1",
    host: heard,
    events: heard,
    deadlines: new Deadlines(environment),
    environment,
    software: { name: "test", version: "1.2.3" },
    credit: 8,
  });
});

function open(fields: WelcomeFields = {}): void {
  protocol.hello();
  protocol.receive(frame([welcome(fields)]));
}

function reopen(fields: WelcomeFields = {}): void {
  protocol.disconnected();
  open(fields);
}

function frames(): LinkFrame[] {
  const found: LinkFrame[] = [];
  for (let data = protocol.nextFrame(); data !== undefined; data = protocol.nextFrame()) found.push(parsed(data));
  return found;
}

function kinds(): (string | undefined)[] {
  return frames().flatMap((one) => one.items.map((item) => item.item.case));
}

function request(facts = ONCE, content = "x"): Call {
  const call = new Call();
  protocol.callMessage(call, 4, { agent: "A", payload: json(content) }, facts);
  return call;
}

function tick(facts: { slotsInUse?: number; lagMs?: number; deafMs?: number } = {}): boolean {
  return protocol.tick({ slotsInUse: 0, lagMs: 0, deafMs: 0, ...facts });
}

describe("the handshake", () => {
  it("begins with a Hello of everything, without a number", () => {
    const said = parsed(protocol.hello());
    expect([said.seq, said.ack]).toEqual([0n, 0n]);
    expect(body(said.items[0], "hello")).toMatchObject({
      linkId: "link-1",
      sdk: { name: "test", version: "1.2.3", language: "typescript test" },
      protocolMin: 1,
      protocolMax: 1,
      features: ["resume", "engines"],
      credit: 8,
      resumeToken: "",
      host: "test:1",
    });
  });

  it("takes a Welcome without limits for one with the usual ones, and says nothing more", () => {
    open();
    expect(protocol.open).toBe(true);
    expect(protocol.limits).toMatchObject({ maxItemBytes: 4 * 1024 * 1024, maxFrameItems: 128, streamWindow: 64 });
    expect(frames()).toEqual([]);
  });

  it("is told where several engines are, and is of no more use then", () => {
    protocol.receive(frame([welcome({ engines: [":9091", ":9092"] })]));
    expect(heard.calls).toEqual(["redirected :9091 :9092"]);
    expect(protocol.open).toBe(false);
  });

  it("passes on why it was refused", () => {
    protocol.hello();
    const failure = {
      code: 9,
      reason: "DEFINITION_CHANGED",
      message: "it changed",
      retryable: true,
      retryDelayMs: 70n,
    };
    protocol.receive(frame([{ item: { case: "rejected", value: { failure } } } as ItemInit]));
    expect(protocol.open).toBe(false);
    expect(heard.rejection).toMatchObject({ code: 9, reason: "DEFINITION_CHANGED", retryable: true, retryDelayMs: 70 });
  });

  it.each([
    ["another version", [welcome({ protocol: 2 })], 0],
    ["an item before Welcome", [{ id: 1n, item: { case: "invoke", value: {} } } as ItemInit], 0],
    ["a numbered frame before Welcome", [], 1],
    ["two Welcomes", [welcome(), welcome()], 0],
  ])("ends with %s", (_what, items, seq) => {
    protocol.hello();
    expect(() => protocol.receive(frame(items, seq))).toThrow(ProtocolViolation);
  });

  it("said again ends the link, and nothing of that frame is done", () => {
    open();
    const invoke = { id: 1n, item: { case: "invoke", value: {} } } as ItemInit;
    expect(() => protocol.receive(frame([invoke, welcome()], 1))).toThrow(ProtocolViolation);
    expect(heard.calls).toEqual(["abandon", "opened"]);
  });

  it("ends with a Welcome that is not one", () => {
    protocol.hello();
    expect(() => protocol.receive(new Uint8Array([0x0a, 0x04, 0x1a, 0x02, 0xff, 0xff]))).toThrow(ProtocolViolation);
  });
});

describe("frames", () => {
  it("are numbered from 1 and acknowledge what was received", () => {
    open();
    request();
    expect(frames().map((one) => [one.seq, one.ack])).toEqual([[1n, 0n]]);
    protocol.receive(frame([{ item: { case: "ping", value: { nonce: 5n } } } as ItemInit], 1, 1));
    const [pong] = frames();
    expect([pong?.seq, pong?.ack]).toEqual([2n, 1n]);
    expect(body(pong?.items[0], "pong").nonce).toBe(5n);
  });

  it("seen before are dropped whole; a missing one ends the link", () => {
    open();
    const invoke = { id: 4n, item: { case: "invoke", value: { epoch: 1n } } } as ItemInit;
    protocol.receive(frame([invoke], 1));
    protocol.receive(frame([invoke], 1));
    expect(heard.calls.filter((call) => call === "invoke 4")).toHaveLength(1);
    expect(() => protocol.receive(frame([invoke], 3))).toThrow(/frame 3 where frame 2 was due/);
  });

  it("hold at most as many items and bytes as allowed, unless one item is larger", () => {
    open({ limits: { maxFrameItems: 3, maxFrameBytes: 4000 } });
    for (let index = 0; index < 7; index++) request();
    expect(frames().map((one) => one.items.length)).toEqual([3, 3, 1]);
    for (let index = 0; index < 3; index++) request(ONCE, "y".repeat(1800));
    request(ONCE, "z".repeat(10_000));
    request();
    const sent = frames();
    expect(sent.map((one) => one.items.length)).toEqual([2, 1, 1, 1]);
    expect(sent.map((one) => one.seq)).toEqual([4n, 5n, 6n, 7n]);
  });

  it("are acknowledged with an empty one after 32, or at the next tick", () => {
    open();
    expect(frames()).toEqual([]);
    const pong = { item: { case: "pong", value: {} } } as ItemInit;
    for (let seq = 1; seq <= 31; seq++) protocol.receive(frame([pong], seq));
    expect(frames()).toEqual([]);
    protocol.receive(frame([pong], 32));
    expect(heard.wakes).toBe(1);
    expect(frames().map((one) => [one.seq, one.ack, one.items.length])).toEqual([[0n, 32n, 0]]);
    protocol.receive(frame([pong], 33));
    expect(tick()).toBe(true);
    expect(frames().map((one) => one.ack)).toEqual([33n]);
    expect(tick()).toBe(true);
    expect(frames()).toEqual([]);
  });

  it("wake the sender once, when there is something to say again", () => {
    open();
    frames();
    request();
    request();
    expect(heard.wakes).toBe(1);
  });
});

describe("a lost link", () => {
  it("that is resumed sends again what the engine has not received, as it was", () => {
    open();
    request();
    const [first] = frames();
    const call = request();
    const [second] = frames();
    expect(first?.seq).toBe(1n);
    protocol.receive(frame([{ item: { case: "pong", value: {} } } as ItemInit], 1, 0));
    protocol.disconnected();
    request(); // between connections
    const hello = body(parsed(protocol.hello()).items[0], "hello");
    expect([hello.resumeToken, hello.receivedSeq]).toEqual(["token-1", 1n]);
    protocol.receive(frame([welcome({ resumed: true, receivedSeq: 1n })]));
    const sent = frames();
    expect(sent[0]).toEqual(second);
    expect(sent.map((one) => one.seq)).toEqual([2n, 3n]);
    expect(heard.calls).toEqual(["abandon", "opened", "resumed"]);
    protocol.receive(
      frame(
        [
          {
            id: BigInt(call.id),
            item: { case: "reply", value: { outcome: { case: "result", value: json(1) } } },
          } as ItemInit,
        ],
        2,
      ),
    );
    expect(call.replies).toHaveLength(1);
  });

  it("does not send again what was acknowledged", () => {
    open();
    request();
    frames();
    protocol.receive(frame([], 0, 1));
    reopen({ resumed: true, receivedSeq: 0n });
    expect(frames()).toEqual([]);
  });

  it("that is not resumed begins anew: calls fail, unless the engine recognises them or has not heard of them", () => {
    open();
    const plain = request();
    const known = request(AGAIN);
    const ofHandler = request({ ...AGAIN, invocationId: 9 });
    frames();
    const unsent = request();
    const unsentOfHandler = request({ ...ONCE, invocationId: 9 });
    protocol.receive(frame([], 0, 1));
    reopen();
    expect(heard.calls).toEqual(["abandon", "opened", "abandon", "opened"]);
    for (const call of [plain, ofHandler, unsentOfHandler]) expect(call.error?.reason).toBe("ENGINE_RESTARTED");
    const sent = frames();
    expect(sent.map((one) => one.seq)).toEqual([1n]);
    expect(sent[0]?.items.map((item) => Number(item.id))).toEqual([known.id, unsent.id]);
    expect(body(sent[0]?.items[0], "call").operation.case).toBe("request");
  });

  it("to an engine that said it leaves says again what that had not taken", () => {
    open();
    const taken = request();
    frames();
    const notTaken = request();
    const ofHandler = request({ ...ONCE, invocationId: 9 });
    frames();
    protocol.receive(frame([{ item: { case: "goAway", value: { reason: "update" } } } as ItemInit], 1, 1));
    reopen();
    for (const call of [taken, ofHandler]) expect(call.error?.reason).toBe("ENGINE_RESTARTED");
    expect(frames().flatMap((one) => one.items.map((item) => Number(item.id)))).toEqual([notTaken.id]);
    reopen(); // this time without a word: it may have happened
    expect(notTaken.error?.reason).toBe("ENGINE_RESTARTED");
  });

  it("that begins anew twice in a row says nothing twice", () => {
    open();
    const known = request(AGAIN);
    frames();
    reopen();
    reopen();
    expect(frames().flatMap((one) => one.items.map((item) => Number(item.id)))).toEqual([known.id]);
  });

  it("takes a registration for done, as Hello said it, and drains again", () => {
    open();
    const registration = new Call();
    protocol.register(registration, [], ["Gone"]);
    protocol.drain();
    frames();
    reopen();
    expect(registration.replies).toEqual([{}]);
    expect(kinds()).toEqual(["drain"]);
  });

  it("for good fails every call, now and later", () => {
    open();
    const call = request();
    protocol.close(new AmxError(14, "SHUTTING_DOWN", "over"));
    expect(call.error?.reason).toBe("SHUTTING_DOWN");
    expect(() => request()).toThrow("over");
  });
});

describe("calls", () => {
  it("end with their reply, once", () => {
    open();
    const call = request();
    const reply = {
      id: BigInt(call.id),
      item: { case: "reply", value: { outcome: { case: "result", value: json(1) } } },
    } as ItemInit;
    protocol.receive(frame([reply, reply], 1));
    expect(call.replies).toHaveLength(1);
    expect(protocol.callsInFlight).toBe(0);
  });

  it("that are given up are cancelled, and nothing more is heard of them", () => {
    open();
    const call = request();
    frames();
    protocol.cancel(call, "no longer");
    protocol.cancel(call, "no longer");
    const [said] = frames();
    expect(said?.items.map((item) => [Number(item.id), body(item, "cancel").reason])).toEqual([[call.id, "no longer"]]);
    protocol.receive(frame([{ id: BigInt(call.id), item: { case: "reply", value: {} } } as ItemInit], 1));
    expect(call.replies).toEqual([]);
  });

  it("that the engine leaves without an outcome end a little after their deadline", () => {
    open();
    const call = request({ ...ONCE, timeoutMs: 1000 });
    const [said] = frames();
    expect(body(said?.items[0], "call").timeoutMs).toBe(1000n);
    environment.advance(1100);
    expect(call.error).toBeUndefined();
    environment.advance(100);
    expect(call.error).toMatchObject({ reason: "DEADLINE_EXCEEDED", retryable: true });
    expect(kinds()).toEqual(["cancel"]);
  });

  it("beyond the limit are refused, and not said", () => {
    open({ limits: { maxCallsInFlight: 2 } });
    request();
    request();
    expect(() => request()).toThrow(expect.objectContaining({ reason: "CALLS_IN_FLIGHT", retryable: true }));
    expect(kinds()).toEqual(["call", "call"]);
  });

  it.each([
    ["ITEM_TOO_LARGE", { agent: "A", payload: json("x".repeat(2000)) }],
    ["ITEM_TOO_LARGE", { agent: "A", type: "x".repeat(1200) }],
    ["KEY_TOO_LONG", { agent: "A", key: "é".repeat(11) }],
    ["HEADERS_TOO_LARGE", { agent: "A", headers: { a: "b".repeat(50) } }],
    ["INVALID_VALUE", { agent: "A", type: "half \ud800" }],
  ])("that are too large or not text are refused with %s, and not said", (reason, message) => {
    open({ limits: { maxItemBytes: 1000, maxKeyBytes: 20, maxHeaderBytes: 50 } });
    request();
    expect(() => protocol.callMessage(new Call(), 4, message, ONCE)).toThrow(expect.objectContaining({ reason }));
    const fits = { agent: "A", key: "é".repeat(10), headers: { a: "b".repeat(49) } };
    protocol.callMessage(new Call(), 4, fits, ONCE);
    expect(protocol.callsInFlight).toBe(2);
    expect(frames()[0]?.items.map((item) => body(item, "call").operation.case)).toEqual(["request", "request"]);
  });
});

describe("liveness", () => {
  it("is asked for at the interval, with slots in use and the worst lag since the last ping", () => {
    open({ heartbeatIntervalMs: 4000 });
    for (let second = 0; second < 3; second++) {
      environment.advance(1000);
      tick({ lagMs: second === 1 ? 1500 : 1 });
    }
    expect(frames()).toEqual([]);
    environment.advance(1000);
    tick({ slotsInUse: 3, lagMs: 2 });
    const ping = body(frames()[0]?.items[0], "ping");
    expect([ping.nonce, ping.slotsInUse, ping.eventLoopLagUs]).toEqual([1n, 3, 1_500_000n]);
    environment.advance(4000);
    tick({ lagMs: 2 });
    expect(body(frames()[0]?.items[0], "ping").eventLoopLagUs).toBe(2000n);
  });

  it("ends after two intervals of silence; any frame is a sign of life", () => {
    open({ heartbeatIntervalMs: 4000 });
    environment.advance(8000);
    expect(tick()).toBe(true);
    protocol.receive(frame([]));
    environment.advance(8000);
    expect(tick()).toBe(true);
    environment.advance(8001);
    expect(tick()).toBe(false);
  });

  it("does not take our own deafness for the engine's silence", () => {
    open({ heartbeatIntervalMs: 4000 });
    environment.advance(20_000);
    expect(tick({ lagMs: 19_000, deafMs: 19_000 })).toBe(true);
    environment.advance(7000);
    expect(tick()).toBe(true);
    environment.advance(1001);
    expect(tick()).toBe(false);
  });
});

describe("items", () => {
  it("reach the host in their order", () => {
    open();
    protocol.receive(
      frame(
        [
          { item: { case: "activate", value: { epoch: 1n } } },
          { id: 2n, item: { case: "deliver", value: { epochs: [1n] } } },
          { id: 3n, item: { case: "invoke", value: {} } },
          { id: 3n, item: { case: "cancel", value: { reason: "why" } } },
          { id: 3n, item: { case: "credit", value: { chunks: 5 } } },
          { item: { case: "credit", value: { invocations: 5 } } },
          { item: { case: "deactivate", value: { epochs: [1n, 2n] } } },
          { item: { case: "goAway", value: { reason: "update", deadlineMs: 500n } } },
        ] as ItemInit[],
        1,
      ),
    );
    expect(heard.calls.slice(2)).toEqual([
      "activate",
      "deliver 2",
      "invoke 3",
      "cancel 3 why",
      "grant 3 5",
      "deactivate 1 2",
      "go away update 500",
    ]);
  });

  it("that are unknown are answered for their id, and end nothing", () => {
    open();
    // Items with a field that does not exist, with an id and without; and one that only SDKs say.
    const data = [0x0a, 0x05, 0x08, 0x09, 0x9a, 0x06, 0x00, 0x0a, 0x03, 0x9a, 0x06, 0x00, 0x10, 0x01];
    protocol.receive(new Uint8Array(data));
    protocol.receive(frame([{ id: 8n, item: { case: "drain", value: {} } } as ItemInit], 2));
    const items = frames().flatMap((one) => one.items);
    expect(items.map((item) => Number(item.id))).toEqual([9, 8]);
    for (const item of items) {
      expect(body(item, "complete").outcome.value).toMatchObject({ code: 12, reason: "UNSUPPORTED_ITEM" });
    }
  });

  it("that the host cannot take do not keep others from it", () => {
    open();
    const invoke = (id: bigint): ItemInit => ({ id, item: { case: "invoke", value: {} } }) as ItemInit;
    protocol.receive(frame([invoke(666n), invoke(4n)], 1));
    expect(heard.calls.slice(2)).toEqual(["invoke 666", "invoke 4"]);
    expect(environment.lines.map((line) => line.level)).toContain("error");
  });

  it("may be anything at all: only ProtocolViolation is ever thrown", () => {
    const invoke = { id: 1n, item: { case: "invoke", value: { message: { agent: "A" }, epoch: 3n } } } as ItemInit;
    const event = { id: 1n, item: { case: "event", value: { topic: "a" } } } as ItemInit;
    const whole = frame([invoke, event, { id: 1n, item: { case: "credit", value: { chunks: 1 } } } as ItemInit], 1, 9);
    const receive = (data: Uint8Array): void => {
      try {
        protocol.receive(data);
      } catch (error) {
        expect(error).toBeInstanceOf(ProtocolViolation);
      }
      frames();
    };
    open();
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), receive), { numRuns: 1000 });
    const change = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(change, (changes) => {
        const data = whole.slice();
        for (const [at, byte] of changes) data[at] = byte;
        receive(data);
      }),
      { numRuns: 2000 },
    );
  });
});
