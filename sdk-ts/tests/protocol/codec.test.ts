// The hand-written codec says and reads what the generated stubs do.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  CompleteSchema,
  EffectsSchema,
  LinkFrameSchema,
  type LinkItemSchema,
  ReplySchema,
} from "../../src/gen/amx/v1/link_pb.js";
import { EventSchema, MessageSchema } from "../../src/gen/amx/v1/message_pb.js";
import { Malformed, Reader, Writer } from "../../src/protocol/bytes.js";
import {
  decodeFrame,
  Item,
  type WireActivate,
  type WireDeliver,
  type WireInvoke,
  type WireReply,
  writeEffects,
  writeEvent,
  writeFailure,
  writeMemoryOperation,
  writeMessage,
  writeScope,
} from "../../src/protocol/codec.js";
import type { WireFailure } from "../../src/protocol/wire.js";

const text = fc.oneof(fc.string({ unit: "grapheme", maxLength: 80 }), fc.string({ maxLength: 8 }));
const bytes = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.constant(new Uint8Array(200).fill(7)));
const count = fc.oneof(fc.nat(), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }), fc.constantFrom(0, 127, 128));
const pairs = fc.dictionary(
  text.filter((name) => name !== "__proto__"),
  text,
  { maxKeys: 4, noNullPrototype: true },
);
const payload = fc.record({ contentType: fc.constantFrom("", "text/plain"), data: bytes });

const message = fc.record({
  agent: text,
  key: text,
  handler: text,
  type: text,
  payload,
  headers: pairs,
  priority: fc.integer({ min: 0, max: 5 }),
  messageId: text,
  idempotencyKey: text,
  ttlMs: count,
  source: text,
  traceparent: text,
  durability: fc.integer({ min: 0, max: 2 }),
  delayMs: count,
  sentAtMs: count,
});

const failure: fc.Arbitrary<WireFailure> = fc.letrec<{ failure: WireFailure }>((tie) => ({
  failure: fc.record(
    {
      code: fc.integer({ min: -5, max: 20 }),
      reason: text,
      message: text,
      retryable: fc.boolean(),
      retryDelayMs: count,
      metadata: pairs,
      details: fc.array(payload, { maxLength: 2 }),
      stackTrace: text,
      source: text,
      cause: fc.option(tie("failure"), { nil: undefined, maxDepth: 3 }) as fc.Arbitrary<WireFailure>,
    },
    {
      requiredKeys: [
        "code",
        "reason",
        "message",
        "retryable",
        "retryDelayMs",
        "metadata",
        "details",
        "stackTrace",
        "source",
      ],
    },
  ) as fc.Arbitrary<WireFailure>,
})).failure;

/** Numbers in place of bigints, no type names, no absent fields: generated messages as plain objects. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (value instanceof Uint8Array) return [...value];
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(
    ([name, item]) => name !== "$typeName" && name !== "$unknown" && item !== undefined,
  );
  return Object.fromEntries(kept.map(([name, item]) => [name, plain(item)]));
}

function big<T extends Record<string, unknown>>(value: T, ...names: (keyof T)[]): T {
  const copy: Record<keyof T, unknown> = { ...value };
  for (const name of names) copy[name] = BigInt(value[name] as number);
  return copy as T;
}

function written(write: (writer: Writer) => void): Reader {
  const writer = new Writer(16);
  write(writer);
  const reader = new Reader(writer.copy());
  reader.tag();
  return reader;
}

describe("what is written", () => {
  it("is a Message to the stubs", () => {
    fc.assert(
      fc.property(message, (said) => {
        const read = fromBinary(MessageSchema, written((writer) => writeMessage(writer, 10, said)).bytes());
        expect(plain(read)).toEqual(plain({ ...said, sender: "", topic: "" }));
      }),
    );
  });

  it("is an Event to the stubs", () => {
    const event = fc.record({ topic: text, payload, attributes: pairs, eventId: text, key: text, traceparent: text });
    fc.assert(
      fc.property(event, (said) => {
        const read = fromBinary(EventSchema, written((writer) => writeEvent(writer, 10, said)).bytes());
        expect(plain(read)).toEqual(plain({ ...said, durability: 0, publisher: "", priority: 0 }));
      }),
    );
  });

  it("is a Failure to the stubs, causes included", () => {
    fc.assert(
      fc.property(failure, (said) => {
        const writer = new Writer(16);
        writeFailure(writer, 34, said);
        const read = fromBinary(CompleteSchema, writer.copy());
        expect(plain(read.outcome.value)).toEqual(plain(said));
      }),
    );
  });

  it("is Effects to the stubs", () => {
    const entry = fc.record({ id: text, value: bytes, expiresInMs: count });
    const change = fc.oneof(
      fc.record({ name: text, put: entry }),
      fc.record({ name: text, remove: text }),
      fc.record({ name: text, clear: fc.constant(true as const) }),
      fc.record({ name: text, touch: text }),
    );
    const timing = fc.oneof(
      fc.record({ fixedDelayMs: count }),
      fc.record({ fixedRateMs: count }),
      fc.record({ cron: text }),
      fc.record({ onceAfterMs: count }),
    );
    const schedule = fc.tuple(timing, fc.record({ name: text, handler: text, timeZone: text, missed: fc.nat(3) }));
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 3 }),
        fc.array(message, { maxLength: 2 }),
        fc.array(schedule, { maxLength: 2 }),
        fc.array(text, { maxLength: 2 }),
        (memory, messages, schedules, names) => {
          const effects = {
            memory,
            messages,
            events: [{ topic: "a.b" }],
            schedules: schedules.map(([when, rest]) => ({ ...rest, ...when })),
            cancelledSchedules: names,
            subscriptions: [{ pattern: "a.*", filter: "x = 1", handler: "h" }],
            cancelledSubscriptions: names,
          };
          const read = fromBinary(EffectsSchema, written((writer) => writeEffects(writer, 10, effects)).bytes());
          const changed = read.memory.map(({ name, change: { case: kind, value } }) => ({
            name,
            [kind as string]: value,
          }));
          expect(plain(changed)).toEqual(plain(memory));
          expect(plain(read.messages)).toEqual(plain(messages.map((one) => ({ ...one, sender: "", topic: "" }))));
          expect(
            plain(
              read.schedules.map(({ timing: { case: kind, value }, name, handler, timeZone, missed }) => ({
                name,
                handler,
                timeZone,
                missed,
                [kind as string]: value,
              })),
            ),
          ).toEqual(plain(effects.schedules));
          expect(read.cancelledSchedules).toEqual(names);
          expect(read.cancelledSubscriptions).toEqual(names);
          expect(plain(read.subscriptions)).toEqual(effects.subscriptions);
        },
      ),
    );
  });

  it.each([100, 127, 128, 16_000, 16_383, 17_000, 70_000, 2_100_000])("may have %i bytes", (size) => {
    const said = { agent: "A", payload: { contentType: "", data: new Uint8Array(size).fill(7) }, key: "é".repeat(90) };
    const read = fromBinary(MessageSchema, written((writer) => writeMessage(writer, 10, said)).bytes());
    expect([read.agent, read.key, read.payload?.data.length]).toEqual(["A", said.key, size]);
    expect(read.payload?.data.every((byte) => byte === 7)).toBe(true);
  });

  it("keeps which member of a oneof was meant, even if it is empty", () => {
    const scope = written((writer) => writeScope(writer, 10, { labels: "" })).bytes();
    expect([...scope]).toEqual([34, 0]);
    const operation = written((writer) => writeMemoryOperation(writer, 10, { agent: "A", name: "m", get: "" })).bytes();
    expect([...operation.slice(-2)]).toEqual([26, 0]);
  });

  it("refuses text with half a surrogate pair", () => {
    expect(() => new Writer().string(10, "\ud800")).toThrow(expect.objectContaining({ reason: "INVALID_VALUE" }));
  });
});

function received(item: Parameters<typeof create<typeof LinkItemSchema>>[1]): {
  id: number;
  kind: number;
  body: unknown;
} {
  const data = toBinary(LinkFrameSchema, create(LinkFrameSchema, { items: [item as never], seq: 3n, ack: 300n }));
  const frame = decodeFrame(data);
  expect([frame.seq, frame.ack, frame.items.length]).toEqual([3, 300, 1]);
  return frame.items[0] as never;
}

describe("what is read", () => {
  it("is the Invoke that the stubs wrote", () => {
    fc.assert(
      fc.property(message, count, count, fc.boolean(), (said, epoch, version, streaming) => {
        const item = received({
          id: 7n,
          item: {
            case: "invoke",
            value: {
              message: { ...big(said, "ttlMs", "delayMs", "sentAtMs"), sender: "A/b", topic: "t" } as never,
              attempt: 2,
              epoch: BigInt(epoch),
              timeoutMs: BigInt(version),
              memoryVersion: BigInt(version),
              memory: {
                memories: [{ name: "m", entries: [{ id: "1", value: new Uint8Array([49]), expiresInMs: 5n }] }],
              },
              streaming,
            },
          },
        } as never);
        expect(item).toMatchObject({ id: 7, kind: Item.INVOKE });
        const body = item.body as WireInvoke;
        expect(plain(body.message)).toEqual(plain({ ...said, sender: "A/b", topic: "t" }));
        expect(body).toMatchObject({ attempt: 2, epoch, timeoutMs: version, memoryVersion: version, streaming });
        expect(plain(body.memory)).toEqual([{ name: "m", entries: [{ id: "1", value: [49], expiresInMs: 5 }] }]);
      }),
    );
  });

  it("is the Deliver and the Activate that the stubs wrote", () => {
    fc.assert(
      fc.property(fc.array(count, { maxLength: 200 }), pairs, (epochs, attributes) => {
        const deliver = received({
          item: {
            case: "deliver",
            value: {
              event: {
                topic: "a.b",
                attributes,
                eventId: "e",
                key: "k",
                publisher: "P/q",
                payload: { data: new Uint8Array([1]) },
              },
              agent: "A",
              handler: "h",
              epochs: epochs.map(BigInt),
            },
          },
        } as never).body as WireDeliver;
        expect(deliver.epochs).toEqual(epochs);
        expect(plain(deliver.event)).toMatchObject({
          topic: "a.b",
          headers: attributes,
          messageId: "e",
          key: "k",
          sender: "P/q",
        });
      }),
    );
    const activate = received({
      item: { case: "activate", value: { instance: { agent: "A", key: "k" }, epoch: 5n, memoryVersion: 9n } },
    } as never).body as WireActivate;
    expect(activate).toEqual({ agent: "A", key: "k", epoch: 5, memoryVersion: 9, memory: [] });
  });

  it("is the Reply that the stubs wrote, whichever it is", () => {
    fc.assert(
      fc.property(failure, (said) => {
        const convert = (one: WireFailure): object => ({
          ...one,
          retryDelayMs: BigInt(one.retryDelayMs),
          ...(one.cause === undefined ? {} : { cause: convert(one.cause) }),
        });
        const reply = received({
          item: { case: "reply", value: { outcome: { case: "failure", value: convert(said) } } },
        } as never).body as WireReply;
        expect(plain(reply.failure)).toEqual(plain(said));
      }),
    );
    const outcomes = [
      ["accepted", { messageId: "m", duplicate: true }],
      ["published", { eventId: "e", subscribers: 3 }],
      ["subscribed", { subscriptionId: 4n }],
      [
        "memory",
        { entries: [{ id: "1", value: new Uint8Array([50]), expiresInMs: 1n }], version: 4n, kind: 2, found: true },
      ],
      [
        "broadcast",
        {
          messageId: "m",
          recipients: [
            { instance: { agent: "A", key: "k" }, outcome: { case: "failure", value: { code: 5, reason: "R" } } },
          ],
          succeeded: 1,
          failed: 2,
        },
      ],
    ] as const;
    const read = outcomes.map(([kind, value]) => {
      const data = toBinary(ReplySchema, create(ReplySchema, { outcome: { case: kind, value } } as never));
      const frame = toBinary(
        LinkFrameSchema,
        create(LinkFrameSchema, { items: [{ id: 1n, item: { case: "reply", value: fromBinary(ReplySchema, data) } }] }),
      );
      return decodeFrame(frame).items[0]?.body;
    });
    expect(plain(read)).toEqual([
      { accepted: { messageId: "m", duplicate: true } },
      { published: { eventId: "e", subscribers: 3 } },
      { subscribed: true },
      {
        memory: {
          entries: [{ id: "1", value: [50], expiresInMs: 1 }],
          version: 4,
          kind: 2,
          truncated: false,
          found: true,
        },
      },
      {
        broadcast: {
          messageId: "m",
          recipients: [{ agent: "A", key: "k", failure: expect.objectContaining({ code: 5, reason: "R" }) }],
          succeeded: 1,
          failed: 2,
        },
      },
    ]);
  });

  it("passes over fields and items that are newer than it", () => {
    // An item with field 99, and within the frame a field 50 of every wire type.
    const unknown = [0x0a, 0x05, 0x08, 0x09, 0x9a, 0x06, 0x00];
    const fields = [0x90, 0x03, 0x05, 0x91, 0x03, 1, 2, 3, 4, 5, 6, 7, 8, 0x95, 0x03, 1, 2, 3, 4, 0x92, 0x03, 1, 65];
    const group = [0x93, 0x03, 0x08, 0x01, 0x94, 0x03];
    const frame = decodeFrame(new Uint8Array([...unknown, ...fields, ...group, 0x10, 0x02]));
    expect(frame).toMatchObject({ seq: 2, items: [{ id: 9, kind: Item.UNKNOWN }] });
  });

  it("is refused with Malformed, never with anything else, if it is not a frame", () => {
    const whole = toBinary(
      LinkFrameSchema,
      create(LinkFrameSchema, {
        seq: 1n,
        items: [
          { id: 1n, item: { case: "invoke", value: { message: { agent: "Aé", headers: { a: "b" } }, epoch: 4n } } },
          { id: 2n, item: { case: "deliver", value: { agent: "A", epochs: [1n, 300n] } } },
        ],
      }),
    );
    const mutation = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    const tryToRead = (data: Uint8Array): void => {
      try {
        decodeFrame(data);
      } catch (error) {
        expect(error).toBeInstanceOf(Malformed);
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), tryToRead), { numRuns: 2000 });
    fc.assert(
      fc.property(mutation, fc.nat(whole.length), (changes, length) => {
        const data = whole.slice(0, length);
        for (const [at, byte] of changes) data[at] = byte;
        tryToRead(data);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("numbers", () => {
  it("survive, up to 2^53 and below zero", () => {
    for (const value of [0, 1, 127, 128, 2 ** 28 - 1, 2 ** 28, 2 ** 31, 2 ** 32, 2 ** 35, Number.MAX_SAFE_INTEGER]) {
      const writer = new Writer(1);
      writer.varint(value);
      expect(new Reader(writer.copy()).varint()).toBe(value);
    }
    const minusOne = new Uint8Array([255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    expect(new Reader(minusOne).varint()).toBe(-1);
    expect(() => new Reader(minusOne).count()).toThrow(Malformed);
  });

  it("that name something are exact up to 2^64", () => {
    for (const value of [0, 5, Number.MAX_SAFE_INTEGER, 2n ** 53n, 2n ** 53n + 3n, 2n ** 63n, 2n ** 64n - 1n]) {
      const writer = new Writer(1);
      writer.uint(8, value);
      const reader = new Reader(writer.copy());
      expect(reader.tag()).toBe(value === 0 ? 0 : 8);
      if (value !== 0) expect(reader.id()).toBe(value);
    }
  });
});
