// The engine's end of a harness's link: just enough of the protocol to hand over one thing at a time.

import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AmxError } from "../errors.js";
import type { Payload } from "../gen/amx/v1/common_pb.js";
import {
  type Call,
  type Complete,
  type Delivered,
  type Invoke,
  LinkFrameSchema,
  type LinkItem,
  LinkItemSchema,
  type Reply,
  ReplySchema,
} from "../gen/amx/v1/link_pb.js";
import { failureFromError } from "../protocol/failures.js";
import type { Connection, ConnectionEvents, Connector } from "../transport/connection.js";
import { failureMessage } from "./convert.js";

type Item = MessageInitShape<typeof LinkItemSchema>;
type Outcome = NonNullable<MessageInitShape<typeof ReplySchema>["outcome"]>;

const NEVER_MS = 2 ** 31 - 1; // time is the test's, and jumps

interface Waiting<T> {
  resolve(value: T): void;
  chunk?(payload: Payload): void;
}

/** Connects without sockets, and answers with what `called` gives. */
export class EngineEnd implements Connector {
  readonly address = "the harness";
  private events: ConnectionEvents | undefined;
  private seq = 0n;
  private received = 0n;
  private readonly invocations = new Map<bigint, Waiting<Complete>>();
  private readonly deliveries = new Map<bigint, Waiting<Delivered>>();

  constructor(private readonly called: (call: Call) => Promise<Outcome>) {}

  connect(events: ConnectionEvents): Connection {
    this.events = events;
    queueMicrotask(() => events.opened());
    return {
      send: (frame, taken) => {
        this.feed(frame);
        queueMicrotask(taken);
      },
      close: () => {
        this.events = undefined;
      },
    };
  }

  /** Runs a handler; resolves with its one outcome. Each chunk is shown to `chunk` first. */
  invoke(id: bigint, invoke: Invoke, chunk?: (payload: Payload) => void): Promise<Complete> {
    return new Promise((resolve) => {
      this.invocations.set(id, chunk === undefined ? { resolve } : { resolve, chunk });
      this.say({ id, item: { case: "invoke", value: invoke } });
    });
  }

  /** Stops a handler. */
  cancel(id: bigint, reason: string): void {
    if (this.invocations.has(id)) {
      this.say({ id, item: { case: "cancel", value: { reason } } });
    }
  }

  /** Says an item that has no answer, or whose answer `deliver` waits for. */
  say(item: Item): void {
    this.seq += 1n;
    this.put(create(LinkFrameSchema, { items: [create(LinkItemSchema, item)], seq: this.seq, ack: this.received }));
  }

  /** Delivers an event; resolves with what came of it. */
  deliver(id: bigint, item: Item): Promise<Delivered> {
    return new Promise((resolve) => {
      this.deliveries.set(id, { resolve });
      this.say({ ...item, id });
    });
  }

  private feed(data: Uint8Array): void {
    const frame = fromBinary(LinkFrameSchema, data);
    if (frame.seq > this.received) {
      this.received = frame.seq;
    }
    for (const item of frame.items) {
      this.take(item);
    }
  }

  private take({ id, item }: LinkItem): void {
    switch (item.case) {
      case "hello":
        this.put(
          create(LinkFrameSchema, {
            items: [
              {
                item: {
                  case: "welcome",
                  value: {
                    protocol: item.value.protocolMax,
                    sessionId: "harness",
                    heartbeatIntervalMs: NEVER_MS,
                    engine: { name: "AgentHarness", version: "", language: "typescript" },
                  },
                },
              },
            ],
          }),
        );
        break;
      case "complete":
        this.invocations.get(id)?.resolve(item.value);
        this.invocations.delete(id);
        break;
      case "delivered":
        this.deliveries.get(id)?.resolve(item.value);
        this.deliveries.delete(id);
        break;
      case "chunk":
        if (item.value.payload !== undefined) {
          this.invocations.get(id)?.chunk?.(item.value.payload);
        }
        break;
      case "call":
        void this.answer(id, item.value);
        break;
      case "ping":
        this.say({ item: { case: "pong", value: { nonce: item.value.nonce } } });
        break;
      case "drained":
        this.events?.lost(new Error("the harness has ended") as never);
        break;
      default:
    }
  }

  private async answer(id: bigint, call: Call): Promise<void> {
    let outcome: Outcome;
    try {
      outcome = await this.called(call);
    } catch (error) {
      outcome = {
        case: "failure",
        value: failureMessage(failureFromError(error, error instanceof AmxError ? error.source : "harness")),
      };
    }
    const reply: Reply = create(ReplySchema, { outcome });
    this.say({ id, item: { case: "reply", value: reply } });
  }

  private put(frame: MessageInitShape<typeof LinkFrameSchema>): void {
    const data = toBinary(LinkFrameSchema, create(LinkFrameSchema, frame));
    queueMicrotask(() => this.events?.received(data));
  }
}
