// The SDK's side of the link protocol, sans I/O: frames in, method calls out; calls in, frames out.
// No sockets, no timers of its own, no promises. Whoever owns a LinkProtocol feeds it what arrived and sends what it has
// to say.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AmxError, Code } from "../errors.js";
import type { AgentDefinition } from "../gen/amx/v1/agent_pb.js";
import {
  HelloSchema,
  LinkFrameSchema,
  LinkItemSchema,
  RegisterSchema,
  RejectedSchema,
  type Welcome,
  WelcomeSchema,
} from "../gen/amx/v1/link_pb.js";
import type { Id } from "./bytes.js";
import { Malformed, Reader, Writer } from "./bytes.js";
import {
  decodeFrame,
  type IncomingFrame,
  type IncomingItem,
  Item,
  type WireActivate,
  type WireDeliver,
  type WireInvoke,
  type WireReply,
  writeFailure,
  writeMessage,
} from "./codec.js";
import type { Bucket, Deadlines } from "./deadlines.js";
import type { Environment } from "./environment.js";
import type { IncomingMessage, OutgoingMessage, WirePayload } from "./wire.js";

export const PROTOCOL_MIN = 1;
export const PROTOCOL_MAX = 1;
export const FEATURES: readonly string[] = ["resume", "engines"];

/** Bounds on what is said; these hold until Welcome says otherwise. */
export interface Limits {
  maxItemBytes: number;
  maxFrameBytes: number;
  maxFrameItems: number;
  maxHeaderBytes: number;
  maxKeyBytes: number;
  maxCalls: number;
  streamWindow: number;
}

export const DEFAULT_LIMITS: Readonly<Limits> = {
  maxItemBytes: 4 * 1024 * 1024,
  maxFrameBytes: 256 * 1024,
  maxFrameItems: 128,
  maxHeaderBytes: 8 * 1024,
  maxKeyBytes: 512,
  maxCalls: 4096,
  streamWindow: 64,
};

const ACK_EVERY = 32; // frames
const NUMBERS_ROOM = 24; // seq and ack with their tags
const MAX_REASON = 256;
// The engine enforces deadlines and says what happened; this side only makes sure that nothing waits without end.
const GRACE_MS = 150;

const encoder = new TextEncoder();

/** The engine said something that cannot be; the connection is of no further use. */
export class ProtocolViolation extends Error {}

/** Runs what the engine asks for. Called in the order things arrived; must not throw. */
export interface Host {
  /** Run a handler; answer with a Complete for `id`. */
  invoke(id: Id, invoke: WireInvoke): void;
  /** Hand one event to many activations; answer with a Delivered for `id`. */
  deliver(id: Id, deliver: WireDeliver): void;
  /** Prepare an activation for deliveries. */
  activate(activate: WireActivate): void;
  /** Forget activations. */
  deactivate(epochs: readonly Id[]): void;
  /** Stop an invocation or delivery. */
  cancel(id: Id, reason: string): void;
  /** The reader of an invocation's stream takes this many chunks more. */
  grantChunks(id: Id, chunks: number): void;
  /** The session is gone: stop everything, answer nothing. */
  abandon(): void;
}

/** What the owner of the protocol must know. */
export interface LinkEvents {
  /** `nextFrame` has something again, after it had returned undefined. */
  wake(): void;
  /** The engine said Welcome. */
  opened(resumed: boolean): void;
  /** The engine refused the link. */
  rejected(error: AmxError): void;
  /** The engine closes this connection in so many milliseconds. */
  goAway(reason: string, ms: number): void;
  /** Several engines share the address; here is where each of them is. Nothing more comes of this connection. */
  redirected(engines: readonly string[]): void;
}

/** Name and version of this software. */
export interface Software {
  readonly name: string;
  readonly version: string;
}

/** A call waiting for its outcome. Subclasses say what happens then. */
export abstract class PendingCall {
  id = 0;
  invocationId: Id = 0;
  operation = "";
  bucket: Bucket | undefined;
  /** The item as it was said, of calls that may be said again to an engine that forgot them. */
  said: Uint8Array | undefined;
  protocol: LinkProtocol | undefined;

  /** The outcome. For a subscription: it is in force; called again after the engine was restarted. */
  abstract replied(reply: WireReply): void;
  /** There will be no reply; this is why. */
  abstract failed(error: AmxError): void;
  /** A part of a streamed reply. */
  chunk(_payload: WirePayload): void {}
  /** An event for a subscription. */
  event(_event: IncomingMessage): void {}

  expire(): void {
    this.protocol?.expire(this);
  }
}

/** How a call is said. */
export interface CallFacts {
  /** 0: none on this side. */
  timeoutMs: number;
  /** 0: nobody's. */
  invocationId: Id;
  /** Said again to an engine that forgot it. */
  repeatable: boolean;
}

export interface LinkProtocolOptions {
  linkId: string;
  host: Host;
  events: LinkEvents;
  deadlines: Deadlines;
  environment: Environment;
  software: Software;
  agents?: Iterable<AgentDefinition>;
  /** Invocations and deliveries taken at a time. */
  credit?: number;
  /** The link is to one of several engines, of which all are known. */
  enginesKnown?: boolean;
}

interface ReadyFrame {
  readonly data: Uint8Array; // without its numbers
  readonly firstUnsent: number; // the first call that is in none of the frames up to this
}

/**
 * One link, over as many connections as it takes.
 *
 * Owner's side: `hello()` when a connection is there, `receive()` for each frame that arrives, `nextFrame()` until
 * undefined for what is to be sent, `tick()` about once a second, `disconnected()` when the connection is gone.
 * Everything said between connections is kept and sent on the next one; the number of calls and the credit bound it.
 */
export class LinkProtocol {
  readonly linkId: string;
  readonly agents: Map<string, AgentDefinition>;
  open = false;
  sessionId = "";
  namespace = "";
  engine = "";
  heartbeatMs = 10_000;
  resumeWindowMs = 0;
  limits: Limits = { ...DEFAULT_LIMITS };

  private readonly host: Host;
  private readonly events: LinkEvents;
  private readonly deadlines: Deadlines;
  private readonly environment: Environment;
  private readonly software: Software;
  private readonly credit: number;
  private readonly enginesKnown: boolean;

  private pending = new Map<Id, PendingCall>();
  private nextId = 1;
  private firstUnsent = 1;
  private draining = false;
  private over: AmxError | undefined;

  private resumeToken = "";
  private receivedSeq = 0;
  private unacknowledged = 0; // frames received since the last ack went out
  private ackDue = false;
  private sentSeq = 0;
  private retained: { readonly seq: number; readonly data: Uint8Array }[] = []; // sent, not acknowledged
  private engineLeft = false; // it has taken nothing of what it has not acknowledged
  private replay: Uint8Array[] = [];
  private ready: ReadyFrame[] = [];
  private readonly writer = new Writer(64 * 1024);
  private count = 0;
  private itemStart = 0; // of the item being written
  private itemBody = 0;
  private itemExpected = 0;
  private itemNextId = 0;
  private idle = false;

  private heard = false;
  private heardAt = 0;
  private pingedAt = 0;
  private nonce = 0;
  private worstLagMs = 0; // since the last ping

  constructor(options: LinkProtocolOptions) {
    this.linkId = options.linkId;
    this.host = options.host;
    this.events = options.events;
    this.deadlines = options.deadlines;
    this.environment = options.environment;
    this.software = options.software;
    this.credit = options.credit ?? 1024;
    this.enginesKnown = options.enginesKnown ?? false;
    this.agents = new Map();
    for (const agent of options.agents ?? []) this.agents.set(agent.name, agent);
  }

  // Connections

  /** The first frame of a new connection. */
  hello(): Uint8Array {
    this.open = false;
    this.replay = [];
    const hello = create(HelloSchema, {
      linkId: this.linkId,
      sdk: { ...this.software, language: this.environment.language },
      protocolMin: PROTOCOL_MIN,
      protocolMax: PROTOCOL_MAX,
      features: [...FEATURES],
      agents: [...this.agents.values()],
      credit: this.credit,
      host: this.environment.host,
      enginesKnown: this.enginesKnown,
    });
    if (this.resumeToken) {
      hello.resumeToken = this.resumeToken;
      hello.receivedSeq = BigInt(this.receivedSeq);
    }
    const item = create(LinkItemSchema, { item: { case: "hello", value: hello } });
    return toBinary(LinkFrameSchema, create(LinkFrameSchema, { items: [item] }));
  }

  /** The connection is gone. Calls wait for the next one until their deadlines. */
  disconnected(): void {
    this.open = false;
  }

  /** There will be no further connection: every call fails with `error`, now and later. */
  close(error: AmxError): void {
    this.open = false;
    this.over = error;
    const pending = this.pending;
    this.pending = new Map();
    for (const call of pending.values()) fail(call, error);
  }

  /** Takes a frame. Throws ProtocolViolation if it is not one, or if frames are missing before it. */
  receive(data: Uint8Array): void {
    let frame: IncomingFrame;
    try {
      frame = decodeFrame(data);
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      throw new ProtocolViolation(`the engine sent ${data.length} bytes that are not a frame: ${error.message}`);
    }
    this.checkHandshake(frame.items);
    this.heard = true;
    if (frame.ack) this.acknowledged(frame.ack);
    const seq = frame.seq;
    if (seq) {
      if (!this.open) throw new ProtocolViolation(`the engine sent frame ${seq} before its Welcome`);
      const expected = this.receivedSeq + 1;
      if (seq < expected) return; // replayed, and known
      if (seq > expected) throw new ProtocolViolation(`the engine sent frame ${seq} where frame ${expected} was due`);
      this.receivedSeq = seq;
      this.unacknowledged++;
      if (this.unacknowledged >= ACK_EVERY) {
        this.ackDue = true;
        this.wake();
      }
    }
    for (const item of frame.items) {
      try {
        this.take(item);
      } catch (error) {
        if (error instanceof ProtocolViolation) throw error;
        // One item's trouble is not the other items'.
        this.environment.log("error", `could not take item ${item.id} of kind ${item.kind}`, error);
      }
    }
  }

  /** The next frame to send; undefined if there is nothing to say: `wake` is called when there is. */
  nextFrame(): Uint8Array | undefined {
    if (!this.open) {
      this.idle = true;
      return undefined;
    }
    const replayed = this.replay.shift();
    if (replayed !== undefined) return replayed;
    const writer = this.writer;
    let data: Uint8Array;
    const ready = this.ready.shift();
    if (ready !== undefined) {
      this.firstUnsent = ready.firstUnsent;
      const numbers = new Writer(NUMBERS_ROOM);
      this.sentSeq++;
      numbers.uint(16, this.sentSeq);
      numbers.uint(24, this.receivedSeq);
      data = new Uint8Array(ready.data.length + numbers.pos);
      data.set(ready.data);
      data.set(numbers.buffer.subarray(0, numbers.pos), ready.data.length);
    } else if (this.count) {
      this.firstUnsent = this.nextId;
      this.sentSeq++;
      writer.uint(16, this.sentSeq);
      writer.uint(24, this.receivedSeq);
      data = writer.copy();
      writer.pos = 0;
      this.count = 0;
    } else if (this.ackDue) {
      this.unacknowledged = 0;
      this.ackDue = false;
      const numbers = new Writer(NUMBERS_ROOM);
      numbers.uint(24, this.receivedSeq);
      return numbers.copy();
    } else {
      this.idle = true;
      return undefined;
    }
    this.unacknowledged = 0;
    this.ackDue = false;
    this.retained.push({ seq: this.sentSeq, data });
    return data;
  }

  /**
   * Keeps the link alive: pings, acknowledges, listens. Call about once a second while connected.
   *
   * Returns false if nothing was heard for two heartbeat intervals: the connection is dead. lagMs: how late the event
   * loop runs, deafMs: for how long of the time since the last tick nothing could have been heard.
   */
  tick(facts: { slotsInUse: number; lagMs: number; deafMs: number }): boolean {
    if (!this.open) return true;
    const now = this.environment.now();
    this.worstLagMs = Math.max(this.worstLagMs, facts.lagMs);
    if (this.heard) {
      this.heard = false;
      this.heardAt = now;
    } else {
      // Silence while nobody could listen proves nothing.
      this.heardAt = Math.min(now, this.heardAt + facts.deafMs);
      if (now - this.heardAt > 2 * this.heartbeatMs) return false;
    }
    if (now - this.pingedAt >= this.heartbeatMs) {
      this.pingedAt = now;
      this.nonce++;
      const writer = this.begin(0, 32);
      writer.varint(Item.PING * 8 + 2);
      const start = writer.begin(24);
      writer.uint(8, this.nonce);
      writer.uint(16, facts.slotsInUse);
      writer.uint(24, Math.round(this.worstLagMs * 1000));
      writer.end(start, 24);
      this.end();
      this.worstLagMs = 0;
    }
    if (this.unacknowledged) {
      this.ackDue = true;
      this.wake();
    }
    return true;
  }

  // Saying things

  /**
   * Begins an item in the frame being built. The caller writes its one field and calls `end` or `takeBack`, at once.
   * size: about how many bytes it takes.
   */
  begin(id: Id, size: number): Writer {
    const writer = this.writer;
    this.itemStart = writer.pos;
    this.itemNextId = this.nextId;
    this.itemExpected = size + 16;
    writer.varint(10);
    this.itemBody = writer.begin(this.itemExpected);
    writer.uint(8, id);
    return writer;
  }

  /** Ends the item that `begin` began. */
  end(): void {
    const writer = this.writer;
    writer.end(this.itemBody, this.itemExpected);
    const { maxFrameItems, maxFrameBytes } = this.limits;
    if (this.count && (this.count >= maxFrameItems || writer.pos + NUMBERS_ROOM > maxFrameBytes)) {
      // The frame was full before this item, which begins the next one.
      const start = this.itemStart;
      this.ready.push({ data: writer.copy(0, start), firstUnsent: this.itemNextId });
      writer.buffer.copyWithin(0, start, writer.pos);
      writer.pos -= start;
      this.count = 0;
    }
    this.count++;
    if (this.idle) this.wake();
  }

  /** Forgets the item that `begin` began. */
  takeBack(): void {
    this.writer.pos = this.itemStart;
  }

  /** Bytes of the item being written, so far. */
  get itemSize(): number {
    return this.writer.pos - this.itemBody;
  }

  /** Takes the item being written back, and throws AmxError ITEM_TOO_LARGE, if it is larger than allowed. */
  checkItem(what: string): void {
    const size = this.itemSize;
    if (size > this.limits.maxItemBytes) {
      this.takeBack();
      this.checkSize(size, what);
    }
  }

  /** Throws AmxError ITEM_TOO_LARGE if `size` bytes do not fit an item. */
  checkSize(size: number, what: string): void {
    const limit = this.limits.maxItemBytes;
    if (size <= limit) return;
    throw new AmxError(
      Code.INVALID_ARGUMENT,
      "ITEM_TOO_LARGE",
      `the ${what} has ${size} bytes, the engine takes at most ${limit} (limits.max_item_bytes); send a smaller value, ` +
        "or store it and send where it is",
      { metadata: { bytes: String(size), limit: String(limit) } },
    );
  }

  /**
   * Says a send (3), request (4) or stream (5): the number is the field of Call. `pending` hears of its outcome.
   *
   * Throws AmxError ITEM_TOO_LARGE, HEADERS_TOO_LARGE, KEY_TOO_LONG, INVALID_VALUE, CALLS_IN_FLIGHT, or why the link is
   * over, in which case nothing was said.
   */
  callMessage(pending: PendingCall, operation: 3 | 4 | 5, message: OutgoingMessage, facts: CallFacts): void {
    this.checkMessage(message);
    const size = message.payload === undefined ? 0 : message.payload.data.length;
    this.call(pending, MESSAGE_CALLS[operation], size, facts, (writer) =>
      writeMessage(writer, operation * 8 + 2, message),
    );
  }

  /** Says a Call whose operation `write` writes; size: about how many bytes that takes. Throws as `callMessage`. */
  call(pending: PendingCall, operation: string, size: number, facts: CallFacts, write: (writer: Writer) => void): void {
    if (size > this.limits.maxItemBytes) this.checkSize(size, operation);
    this.checkCalls();
    const id = this.nextId;
    const writer = this.begin(id, size + 128);
    try {
      writer.varint(Item.CALL * 8 + 2);
      const start = writer.begin(size + 112);
      writer.uint(8, facts.invocationId);
      writer.uint(16, facts.timeoutMs);
      write(writer);
      writer.end(start, size + 112);
      if (this.itemSize > this.limits.maxItemBytes) this.checkItem(operation);
    } catch (error) {
      this.takeBack();
      throw error;
    }
    if (facts.repeatable && !facts.invocationId) pending.said = writer.copy(this.itemBody);
    pending.invocationId = facts.invocationId;
    this.expect(pending, id, operation, facts.timeoutMs);
    this.end();
  }

  /** Says that agents joined or left. Throws AmxError CALLS_IN_FLIGHT, ITEM_TOO_LARGE. */
  register(pending: PendingCall, agents: readonly AgentDefinition[], removed: readonly string[]): void {
    this.checkCalls();
    const id = this.nextId;
    const data = toBinary(RegisterSchema, create(RegisterSchema, { agents: [...agents], removed: [...removed] }));
    const writer = this.begin(id, data.length);
    writer.bytes(Item.REGISTER * 8 + 2, data);
    if (data.length === 0) {
      writer.varint(Item.REGISTER * 8 + 2);
      writer.varint(0);
    }
    this.checkItem("registration");
    this.expect(pending, id, "register", 0);
    this.end();
    for (const agent of agents) this.agents.set(agent.name, agent);
    for (const name of removed) this.agents.delete(name);
  }

  /** Gives a call up: nothing more is heard of it. Does nothing if its outcome is known. */
  cancel(pending: PendingCall, reason: string): void {
    if (this.forget(pending)) this.sayCancel(pending.id, reason);
  }

  /** The reader of a streamed reply takes this many chunks more. */
  grant(pending: PendingCall, chunks: number): void {
    if (!this.pending.has(pending.id)) return;
    const writer = this.begin(pending.id, 8);
    writer.varint(Item.CREDIT * 8 + 2);
    const start = writer.begin(8);
    writer.uint(16, chunks);
    writer.end(start, 8);
    this.end();
  }

  /** Replaces the number of invocations and deliveries that the engine may have outstanding here. */
  grantInvocations(credit: number): void {
    const writer = this.begin(0, 8);
    writer.varint(Item.CREDIT * 8 + 2);
    const start = writer.begin(8);
    writer.uint(8, credit);
    writer.end(start, 8);
    this.end();
  }

  /** Asks the engine to send no new invocations, on this and every later connection. */
  drain(): void {
    if (this.draining) return;
    this.draining = true;
    this.sayEmpty(Item.DRAIN);
  }

  /** Says that the last invocation has ended. */
  drained(): void {
    this.sayEmpty(Item.DRAINED);
  }

  /** The deadline of a call has passed. */
  expire(pending: PendingCall): void {
    if (!this.forget(pending)) return;
    this.sayCancel(pending.id, "DEADLINE_EXCEEDED");
    const where = this.open ? "" : ": there is no connection to the engine";
    pending.failed(
      new AmxError(
        Code.DEADLINE_EXCEEDED,
        "DEADLINE_EXCEEDED",
        `the ${pending.operation || "call"} had no outcome within its timeout${where}; give it more time or look at ` +
          "what its target is doing",
        { retryable: true },
      ),
    );
  }

  /** Calls without an outcome. */
  get callsInFlight(): number {
    return this.pending.size;
  }

  // Inside

  private wake(): void {
    if (this.idle) {
      this.idle = false;
      this.events.wake();
    }
  }

  private acknowledged(ack: number): void {
    const retained = this.retained;
    let gone = 0;
    while (gone < retained.length && (retained[gone] as { seq: number }).seq <= ack) gone++;
    if (gone) retained.splice(0, gone);
  }

  private expect(pending: PendingCall, id: number, operation: string, timeoutMs: number): void {
    pending.id = id;
    pending.operation = operation;
    this.nextId = id + 1;
    this.pending.set(id, pending);
    if (timeoutMs) {
      pending.protocol = this;
      pending.bucket = this.deadlines.add(pending, timeoutMs + GRACE_MS);
    }
  }

  private forget(pending: PendingCall): boolean {
    if (this.pending.get(pending.id) !== pending) return false;
    this.pending.delete(pending.id);
    pending.bucket?.delete(pending);
    return true;
  }

  private sayCancel(id: number, reason: string): void {
    const text = reason.slice(0, MAX_REASON).toWellFormed();
    const writer = this.begin(id, text.length);
    writer.varint(Item.CANCEL * 8 + 2);
    const start = writer.begin(text.length);
    writer.string(10, text);
    writer.end(start, text.length);
    this.end();
  }

  private sayEmpty(kind: number): void {
    const writer = this.begin(0, 8);
    writer.varint(kind * 8 + 2);
    writer.varint(0);
    this.end();
  }

  private checkCalls(): void {
    if (this.over !== undefined) throw this.over;
    const limit = this.limits.maxCalls;
    if (this.pending.size < limit) return;
    throw new AmxError(
      Code.RESOURCE_EXHAUSTED,
      "CALLS_IN_FLIGHT",
      `this link has ${this.pending.size} calls in flight, which is the limit; wait for some of them to end`,
      { retryable: true, retryDelayMs: 50, metadata: { limit: String(limit) } },
    );
  }

  /** Throws AmxError KEY_TOO_LONG or HEADERS_TOO_LARGE. */
  checkMessage(message: OutgoingMessage): void {
    const { maxKeyBytes, maxHeaderBytes } = this.limits;
    const key = message.key;
    if (key !== undefined && key.length * 3 > maxKeyBytes) {
      const size = encoder.encode(key).length;
      if (size > maxKeyBytes) {
        throw new AmxError(
          Code.INVALID_ARGUMENT,
          "KEY_TOO_LONG",
          `the instance key '${key.slice(0, 40)}…' has ${size} bytes, the engine takes at most ${maxKeyBytes} ` +
            "(limits.max_key_bytes); hash it",
          { metadata: { bytes: String(size), limit: String(maxKeyBytes) } },
        );
      }
    }
    const headers = message.headers;
    if (headers === undefined) return;
    let most = 0;
    for (const name of Object.keys(headers)) most += 3 * (name.length + (headers[name] as string).length);
    if (most <= maxHeaderBytes) return;
    let size = 0;
    for (const name of Object.keys(headers)) {
      size += encoder.encode(name).length + encoder.encode(headers[name]).length;
    }
    if (size > maxHeaderBytes) {
      throw new AmxError(
        Code.INVALID_ARGUMENT,
        "HEADERS_TOO_LARGE",
        `the headers have ${size} bytes, the engine takes at most ${maxHeaderBytes} (limits.max_header_bytes); move ` +
          "what is large into the content",
        { metadata: { bytes: String(size), limit: String(maxHeaderBytes) } },
      );
    }
  }

  // Items from the engine

  /** Before anything of a frame is done: the handshake is one item in a frame of its own, and comes once. */
  private checkHandshake(items: readonly IncomingItem[]): void {
    const shakes = items.some((item) => item.kind === Item.WELCOME || item.kind === Item.REJECTED);
    if (this.open ? shakes : items.length > 1 || (items.length === 1 && !shakes)) {
      throw new ProtocolViolation(
        this.open ? "the engine answered Hello twice" : "the engine's first frame is not one Welcome or Rejected",
      );
    }
  }

  private take(item: IncomingItem): void {
    const { id, kind } = item;
    switch (kind) {
      case Item.INVOKE:
        this.host.invoke(id, item.body as WireInvoke);
        return;
      case Item.REPLY:
        this.onReply(id, item.body as WireReply);
        return;
      case Item.DELIVER:
        this.host.deliver(id, item.body as WireDeliver);
        return;
      case Item.CHUNK:
        this.pending.get(id)?.chunk(item.body as WirePayload);
        return;
      case Item.EVENT:
        this.pending.get(id)?.event(item.body as IncomingMessage);
        return;
      case Item.ACTIVATE:
        this.host.activate(item.body as WireActivate);
        return;
      case Item.DEACTIVATE:
        this.host.deactivate(item.body as readonly Id[]);
        return;
      case Item.CREDIT:
        if (id) this.host.grantChunks(id, item.body as number);
        return;
      case Item.CANCEL:
        this.host.cancel(id, item.body as string);
        return;
      case Item.PING: {
        const writer = this.begin(0, 16);
        writer.varint(Item.PONG * 8 + 2);
        const start = writer.begin(12);
        writer.uint(8, item.body as Id);
        writer.end(start, 12);
        this.end();
        return;
      }
      case Item.PONG:
        return; // that anything was heard is all there is to know
      case Item.GO_AWAY: {
        const { reason, deadlineMs } = item.body as { reason: string; deadlineMs: number };
        this.engineLeft = deadlineMs === 0;
        this.events.goAway(reason, deadlineMs);
        return;
      }
      case Item.WELCOME:
        this.onWelcome(item.body as Uint8Array);
        return;
      case Item.REJECTED:
        this.onRejected(item.body as Uint8Array);
        return;
      default:
        this.onUnknown(id);
    }
  }

  private onReply(id: Id, reply: WireReply): void {
    const pending = this.pending.get(id);
    if (pending === undefined) return; // given up, or answered before
    if (reply.subscribed === undefined) this.pending.delete(id); // else it lives on, for its events
    pending.bucket?.delete(pending);
    pending.replied(reply);
  }

  private onUnknown(id: Id): void {
    this.environment.log("warn", `the engine sent item ${id} of a kind this SDK does not know`);
    if (!id) return;
    const writer = this.begin(id, 256);
    writer.varint(Item.COMPLETE * 8 + 2);
    const start = writer.begin(256);
    writeFailure(writer, 34, {
      code: Code.UNIMPLEMENTED,
      reason: "UNSUPPORTED_ITEM",
      message: "this SDK does not know that kind of item; update it, or do not use the feature",
      retryable: false,
      retryDelayMs: 0,
      metadata: {},
      details: [],
      stackTrace: "",
      source: "",
    });
    writer.end(start, 256);
    this.end();
  }

  private onRejected(body: Uint8Array): void {
    const said = readStub(() => fromBinary(RejectedSchema, body)).failure;
    this.events.rejected(
      new AmxError(
        said?.code || Code.FAILED_PRECONDITION,
        said?.reason || "REJECTED",
        said?.message || "the engine refused the link and did not say why",
        {
          retryable: said?.retryable ?? false,
          retryDelayMs: Number(said?.retryDelayMs ?? 0),
          metadata: { ...said?.metadata },
          source: said?.source ?? "",
        },
      ),
    );
  }

  private onWelcome(body: Uint8Array): void {
    const welcome: Welcome = readStub(() => fromBinary(WelcomeSchema, body));
    if (welcome.protocol < PROTOCOL_MIN || welcome.protocol > PROTOCOL_MAX) {
      throw new ProtocolViolation(
        `the engine chose protocol version ${welcome.protocol}, this SDK speaks ${PROTOCOL_MIN} to ${PROTOCOL_MAX}; ` +
          "update the older of the two",
      );
    }
    this.namespace = welcome.namespace;
    this.engine = `${welcome.engine?.name ?? ""} ${welcome.engine?.version ?? ""}`.trim();
    if (welcome.engines.length && !this.enginesKnown) {
      this.events.redirected(welcome.engines.map((engine) => engine.address));
      return;
    }
    const known = this.resumeToken !== "";
    this.sessionId = welcome.sessionId;
    if (welcome.heartbeatIntervalMs) this.heartbeatMs = welcome.heartbeatIntervalMs;
    this.resumeWindowMs = welcome.resumeWindowMs;
    this.resumeToken = welcome.resumeToken;
    const said = welcome.limits;
    this.limits = {
      maxItemBytes: said?.maxItemBytes || DEFAULT_LIMITS.maxItemBytes,
      maxFrameBytes: said?.maxFrameBytes || DEFAULT_LIMITS.maxFrameBytes,
      maxFrameItems: said?.maxFrameItems || DEFAULT_LIMITS.maxFrameItems,
      maxHeaderBytes: said?.maxHeaderBytes || DEFAULT_LIMITS.maxHeaderBytes,
      maxKeyBytes: said?.maxKeyBytes || DEFAULT_LIMITS.maxKeyBytes,
      maxCalls: said?.maxCallsInFlight || DEFAULT_LIMITS.maxCalls,
      streamWindow: said?.streamWindow || DEFAULT_LIMITS.streamWindow,
    };
    this.heardAt = this.pingedAt = this.environment.now();
    this.heard = false;
    const resumed = welcome.resumed && known;
    if (resumed) {
      this.acknowledged(Number(welcome.receivedSeq));
      this.replay = this.retained.map((frame) => frame.data);
    } else {
      this.startOver();
    }
    this.engineLeft = false;
    this.open = true;
    this.events.opened(resumed);
    this.wake();
  }

  /** A new session: the engine knows nothing of what was said before. */
  private startOver(): void {
    this.host.abandon();
    const notTaken = this.engineLeft ? this.retained.flatMap((frame) => callsIn(frame.data)) : [];
    const unsent = this.ready.map((frame) => frame.data);
    if (this.count) unsent.push(this.writer.copy());
    const { firstUnsent, pending } = this;
    this.ready = [];
    this.retained = [];
    this.replay = [];
    this.writer.pos = 0;
    this.count = 0;
    this.receivedSeq = this.sentSeq = this.unacknowledged = 0;
    this.ackDue = false;
    // What was sent may or may not have happened: only what the engine recognises as the same is said again.
    const again = new Set<number>();
    const untouched = new Set(notTaken.map(({ id }) => id));
    for (const call of [...pending.values()]) {
      if ((call.id >= firstUnsent || untouched.has(call.id)) && !call.invocationId) continue;
      if (call.operation === "register") {
        pending.delete(call.id);
        call.replied({}); // Hello told the engine of every agent
      } else if (call.said !== undefined) {
        again.add(call.id); // it may be in an unsent frame, too, if this happens twice in a row
        this.sayAgain(call.said);
      } else {
        pending.delete(call.id);
        fail(call, restarted());
      }
    }
    for (const { id, item } of [...notTaken, ...unsent.flatMap(callsIn)]) {
      if (pending.has(id) && !again.has(id)) this.sayAgain(item);
    }
    if (this.draining) this.sayEmpty(Item.DRAIN);
  }

  /** Says an item once more, as it was. */
  private sayAgain(item: Uint8Array): void {
    const writer = this.writer;
    this.itemStart = writer.pos;
    this.itemNextId = this.nextId;
    this.itemExpected = item.length;
    writer.varint(10);
    this.itemBody = writer.begin(item.length);
    writer.raw(item);
    this.end();
  }
}

const MESSAGE_CALLS = { 3: "send", 4: "request", 5: "stream" } as const;

/** The calls and registrations of a frame, as they were said. */
function callsIn(frame: Uint8Array): { id: number; item: Uint8Array }[] {
  const found: { id: number; item: Uint8Array }[] = [];
  const reader = new Reader(frame);
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag !== 10) {
      reader.skip(tag);
      continue;
    }
    const item = reader.bytes();
    const inner = new Reader(item);
    let id = 0;
    let kind = 0;
    for (let field = inner.tag(); field; field = inner.tag()) {
      if (field === 8) {
        id = inner.count();
      } else {
        kind = field >>> 3;
        inner.skip(field);
      }
    }
    if (kind === Item.CALL || kind === Item.REGISTER) found.push({ id, item });
  }
  return found;
}

function fail(pending: PendingCall, error: AmxError): void {
  pending.bucket?.delete(pending);
  pending.failed(error);
}

function readStub<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new ProtocolViolation(`the engine's handshake is malformed: ${(error as Error).message}`);
  }
}

function restarted(): AmxError {
  return new AmxError(
    Code.UNAVAILABLE,
    "ENGINE_RESTARTED",
    "the engine was restarted, or held the lost link no longer, before this call had an outcome: it may or may not " +
      "have happened; give calls a messageId or an idempotencyKey and the SDK repeats them safely",
    { retryable: true, retryDelayMs: 100 },
  );
}
