// A scripted engine in the place of a transport: a test says what the engine says, and sees what the SDK says.

import type { AgentSpec } from "../../src/agent-spec.js";
import type { Complete, LinkItem } from "../../src/gen/amx/v1/link_pb.js";
import { Link } from "../../src/host/link.js";
import {
  type Connection,
  type ConnectionEvents,
  ConnectionLost,
  type Connector,
} from "../../src/transport/connection.js";
import { TestEnvironment } from "./clock.js";
import { body, frame, type ItemInit, json, parsed, type WelcomeFields, welcome } from "./wire.js";

/** One connection, as the engine sees it. */
export class Wire implements Connection {
  readonly items: LinkItem[] = [];
  readonly frames: { seq: number; ack: number; items: LinkItem[]; data: Uint8Array }[] = [];
  closed = false;
  /** Frames are not taken before `release`. */
  holding = false;
  private held: (() => void)[] = [];
  private seq = 0;
  private received = 0;

  constructor(readonly events: ConnectionEvents) {}

  send(data: Uint8Array, taken: () => void): void {
    const said = parsed(data);
    this.frames.push({ seq: Number(said.seq), ack: Number(said.ack), items: said.items, data });
    this.items.push(...said.items);
    if (said.seq) this.received = Number(said.seq);
    if (this.holding) this.held.push(taken);
    else taken();
  }

  close(): void {
    this.closed = true;
  }

  /** Frames are taken again. */
  release(): void {
    this.holding = false;
    const held = this.held;
    this.held = [];
    for (const taken of held) taken();
  }

  /** Says items in one numbered frame. */
  say(...items: ItemInit[]): void {
    this.events.received(frame(items, ++this.seq, this.received));
  }

  /** Says items without a number. */
  sayRaw(...items: ItemInit[]): void {
    this.events.received(frame(items));
  }

  /** Goes on counting where another connection ended. */
  continue(other: Wire): void {
    this.seq = other.seq;
    this.received = other.received;
  }

  /** The items said since the last call of this, but for heartbeats. */
  take(): LinkItem[] {
    return this.items.splice(0).filter((item) => item.item.case !== "ping");
  }
}

/** What a test says in an Invoke. */
export interface InvokeFields {
  agent: string;
  key?: string;
  handler?: string;
  type?: string;
  content?: unknown;
  attempt?: number;
  epoch?: bigint;
  timeoutMs?: bigint;
  memoryVersion?: bigint;
  memory?: { memories: { name: string; entries: { id: string; value: Uint8Array<ArrayBuffer> }[] }[] };
  streaming?: boolean;
}

/** A link whose engine is the test. */
export class Scripted implements Connector {
  readonly address = "scripted";
  readonly environment = new TestEnvironment();
  readonly wires: Wire[] = [];
  readonly link: Link;
  private invocations = 0;

  constructor(agents: AgentSpec[] = [], concurrency = 64) {
    this.link = new Link({
      connector: this,
      environment: this.environment,
      software: { name: "test", version: "0.0.0" },
      agents,
      concurrency,
      config: { section: { name: "value" } },
    });
  }

  connect(events: ConnectionEvents): Connection {
    const wire = new Wire(events);
    this.wires.push(wire);
    return wire;
  }

  /** The current connection. */
  get wire(): Wire {
    return this.wires[this.wires.length - 1] as Wire;
  }

  /** Opens the link and says Welcome. */
  async open(fields: WelcomeFields = {}): Promise<Wire> {
    const opened = this.link.open(0);
    this.wire.events.opened();
    this.wire.sayRaw(welcome(fields));
    await opened;
    this.wire.take();
    return this.wire;
  }

  /** Loses the connection, and takes the next one up to its Hello. */
  async reconnect(): Promise<Wire> {
    const before = this.wires.length;
    this.wire.events.lost(new ConnectionLost("the test pulled the plug"));
    this.environment.pass(60_000);
    if (this.wires.length === before) throw new Error("the link did not connect again");
    this.wire.events.opened();
    await this.environment.settle();
    return this.wire;
  }

  /** Invokes a handler; returns the id of the invocation. */
  invoke(fields: InvokeFields): bigint {
    const { agent, key = "", handler = "", content, type = "", ...rest } = fields;
    const id = BigInt(++this.invocations);
    const payload = content === undefined ? {} : { payload: json(content) };
    this.wire.say({
      id,
      item: {
        case: "invoke",
        value: { attempt: 1, epoch: 1n, ...rest, message: { agent, key, handler, type, ...payload } },
      },
    } as ItemInit);
    return id;
  }

  /** What was said since the last call, once everything has come to rest. */
  async said(): Promise<LinkItem[]> {
    await this.environment.settle();
    return this.wire.take();
  }

  /** The only thing that was said: a Complete. */
  async completed(): Promise<Complete> {
    const items = await this.said();
    if (items.length !== 1)
      throw new Error(`expected one Complete, got ${items.map((item) => item.item.case).join(", ")}`);
    return body(items[0], "complete");
  }
}
