// Items of a link as bytes: what passes often is read and written by hand, into and from the objects of wire.ts.
// The rest (the handshake, definitions) goes through the generated stubs. Tests hold this against the stubs.

import type { Id } from "./bytes.js";
import { Malformed, Reader, type Writer } from "./bytes.js";
import type {
  IncomingMessage,
  OutgoingEvent,
  OutgoingMessage,
  WireAccepted,
  WireBroadcastResult,
  WireEffects,
  WireEntry,
  WireFailure,
  WireMemoryImage,
  WireMemoryOperation,
  WireMemoryResult,
  WirePayload,
  WirePublished,
  WireSchedule,
  WireScope,
  WireSubscription,
} from "./wire.js";

/** Field numbers of LinkItem's items. 0: none that is known here. */
export const Item = {
  UNKNOWN: 0,
  HELLO: 2,
  WELCOME: 3,
  REJECTED: 4,
  INVOKE: 5,
  COMPLETE: 6,
  CHUNK: 7,
  CALL: 8,
  REPLY: 9,
  DELIVER: 10,
  DELIVERED: 11,
  EVENT: 12,
  ACTIVATE: 13,
  DEACTIVATE: 14,
  CREDIT: 15,
  PING: 16,
  PONG: 17,
  CANCEL: 18,
  DRAIN: 19,
  DRAINED: 20,
  GO_AWAY: 21,
  REGISTER: 22,
} as const;

/** Invoke: run a handler. */
export interface WireInvoke {
  readonly message: IncomingMessage;
  readonly attempt: number;
  readonly epoch: Id;
  readonly timeoutMs: number;
  readonly memoryVersion: number;
  readonly memory: readonly WireMemoryImage[] | undefined;
  readonly streaming: boolean;
}

/** Deliver: one event for many activations. */
export interface WireDeliver {
  readonly event: IncomingMessage;
  readonly agent: string;
  readonly handler: string;
  readonly epochs: readonly Id[];
}

/** Activate: an activation that gets deliveries. */
export interface WireActivate {
  readonly agent: string;
  readonly key: string;
  readonly epoch: Id;
  readonly memoryVersion: number;
  readonly memory: readonly WireMemoryImage[];
}

/** The outcome of a call; at most one is there. */
export interface WireReply {
  result?: WirePayload;
  failure?: WireFailure;
  accepted?: WireAccepted;
  published?: WirePublished;
  broadcast?: WireBroadcastResult;
  memory?: WireMemoryResult;
  subscribed?: true;
}

/** An item that arrived. `body` depends on `kind`. */
export interface IncomingItem {
  readonly id: Id;
  readonly kind: number;
  readonly body: unknown;
}

/** A frame that arrived, with every item decoded. */
export interface IncomingFrame {
  readonly items: readonly IncomingItem[];
  readonly seq: number;
  readonly ack: number;
}

/** What is written when a message changes nothing. */
export const NO_BYTES: Uint8Array = new Uint8Array(0);
export const NO_PAYLOAD: WirePayload = Object.freeze({ contentType: "", data: NO_BYTES });
const JSON_TYPE = "application/json";
const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});
const NO_MESSAGE: IncomingMessage = Object.freeze({
  agent: "",
  key: "",
  handler: "",
  type: "",
  payload: NO_PAYLOAD,
  headers: NO_HEADERS,
  priority: 0,
  messageId: "",
  idempotencyKey: "",
  ttlMs: 0,
  source: "",
  sender: "",
  traceparent: "",
  durability: 0,
  delayMs: 0,
  sentAtMs: 0,
  topic: "",
});

// Tags: field number times 8, plus 0 for numbers or 2 for everything with a length.
const number = (field: number): number => field * 8;
const sized = (field: number): number => field * 8 + 2;

/** Decodes a frame. Throws Malformed if the bytes are none. */
export function decodeFrame(data: Uint8Array): IncomingFrame {
  const reader = new Reader(data);
  const items: IncomingItem[] = [];
  let seq = 0;
  let ack = 0;
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag === 10) {
      const outer = reader.enter();
      items.push(decodeItem(reader));
      reader.leave(outer);
    } else if (tag === 16) {
      seq = reader.count();
    } else if (tag === 24) {
      ack = reader.count();
    } else {
      reader.skip(tag);
    }
  }
  return { items, seq, ack };
}

function decodeItem(reader: Reader): IncomingItem {
  let id: Id = 0;
  let kind = 0;
  let body: unknown;
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag === 8) {
      id = reader.id();
      continue;
    }
    const field = tag >>> 3;
    if ((tag & 7) !== 2 || field < 2 || field > 22) {
      reader.skip(tag);
      continue;
    }
    kind = field;
    const outer = reader.enter();
    switch (field) {
      case Item.INVOKE:
        body = decodeInvoke(reader);
        break;
      case Item.REPLY:
        body = decodeReply(reader);
        break;
      case Item.DELIVER:
        body = decodeDeliver(reader);
        break;
      case Item.CHUNK:
        body = decodeOnly(reader, 10);
        break;
      case Item.EVENT:
        body = decodeEvent(reader);
        break;
      case Item.ACTIVATE:
        body = decodeActivate(reader);
        break;
      case Item.DEACTIVATE:
        body = decodeEpochs(reader);
        break;
      case Item.CREDIT:
        body = decodeNumber(reader, number(2));
        break;
      case Item.PING:
      case Item.PONG:
        body = decodeNonce(reader);
        break;
      case Item.CANCEL:
        body = decodeText(reader);
        break;
      case Item.GO_AWAY:
        body = decodeGoAway(reader);
        break;
      default: // the handshake is left to the stubs
        body = reader.data.subarray(reader.pos, reader.end);
        reader.pos = reader.end;
    }
    reader.leave(outer);
  }
  return { id, kind, body };
}

function decodeInvoke(reader: Reader): WireInvoke {
  let message = NO_MESSAGE;
  let attempt = 0;
  let epoch: Id = 0;
  let timeoutMs = 0;
  let memoryVersion = 0;
  let memory: WireMemoryImage[] | undefined;
  let streaming = false;
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    switch (tag) {
      case 10: {
        const outer = reader.enter();
        message = decodeMessage(reader);
        reader.leave(outer);
        break;
      }
      case 16:
        attempt = reader.uint32();
        break;
      case 24:
        epoch = reader.id();
        break;
      case 32:
        timeoutMs = reader.varint();
        break;
      case 40:
        memoryVersion = reader.count();
        break;
      case 50:
        memory = decodeMemory(reader);
        break;
      case 56:
        streaming = reader.bool();
        break;
      default:
        reader.skip(tag);
    }
  }
  return { message, attempt, epoch, timeoutMs, memoryVersion, memory, streaming };
}

function decodeMessage(reader: Reader): IncomingMessage {
  let agent = "";
  let key = "";
  let handler = "";
  let type = "";
  let payload = NO_PAYLOAD;
  let headers = NO_HEADERS;
  let priority = 0;
  let messageId = "";
  let idempotencyKey = "";
  let ttlMs = 0;
  let source = "";
  let sender = "";
  let traceparent = "";
  let durability = 0;
  let delayMs = 0;
  let sentAtMs = 0;
  let topic = "";
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    switch (tag) {
      case 10:
        agent = reader.string();
        break;
      case 18:
        key = reader.string();
        break;
      case 26:
        handler = reader.string();
        break;
      case 34:
        type = reader.string();
        break;
      case 42:
        payload = decodePayload(reader);
        break;
      case 50:
        headers = decodePair(reader, headers);
        break;
      case 56:
        priority = reader.int32();
        break;
      case 66:
        messageId = reader.string();
        break;
      case 74:
        idempotencyKey = reader.string();
        break;
      case 80:
        ttlMs = reader.varint();
        break;
      case 90:
        source = reader.string();
        break;
      case 98:
        sender = reader.string();
        break;
      case 106:
        traceparent = reader.string();
        break;
      case 112:
        durability = reader.int32();
        break;
      case 120:
        delayMs = reader.varint();
        break;
      case 128:
        sentAtMs = reader.varint();
        break;
      case 138:
        topic = reader.string();
        break;
      default:
        reader.skip(tag);
    }
  }
  return {
    agent,
    key,
    handler,
    type,
    payload,
    headers,
    priority,
    messageId,
    idempotencyKey,
    ttlMs,
    source,
    sender,
    traceparent,
    durability,
    delayMs,
    sentAtMs,
    topic,
  };
}

function decodeEvent(reader: Reader): IncomingMessage {
  let topic = "";
  let payload = NO_PAYLOAD;
  let headers = NO_HEADERS;
  let messageId = "";
  let key = "";
  let durability = 0;
  let sender = "";
  let traceparent = "";
  let priority = 0;
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    switch (tag) {
      case 10:
        topic = reader.string();
        break;
      case 18:
        payload = decodePayload(reader);
        break;
      case 26:
        headers = decodePair(reader, headers);
        break;
      case 34:
        messageId = reader.string();
        break;
      case 42:
        key = reader.string();
        break;
      case 48:
        durability = reader.int32();
        break;
      case 58:
        sender = reader.string();
        break;
      case 66:
        traceparent = reader.string();
        break;
      case 72:
        priority = reader.int32();
        break;
      default:
        reader.skip(tag);
    }
  }
  return {
    agent: "",
    key,
    handler: "",
    type: "",
    payload,
    headers,
    priority,
    messageId,
    idempotencyKey: "",
    ttlMs: 0,
    source: "",
    sender,
    traceparent,
    durability,
    delayMs: 0,
    sentAtMs: 0,
    topic,
  };
}

/** A nested Payload. */
function decodePayload(reader: Reader): WirePayload {
  const outer = reader.enter();
  let contentType = "";
  let data = NO_BYTES;
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag === 10) contentType = reader.string();
    else if (tag === 18) data = reader.bytes();
    else reader.skip(tag);
  }
  reader.leave(outer);
  return { contentType, data };
}

/** One entry of a map of text to text; `found` is what was found before. */
function decodePair(reader: Reader, found: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const pairs: Record<string, string> = found === NO_HEADERS ? Object.create(null) : found;
  const outer = reader.enter();
  let name = "";
  let value = "";
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag === 10) name = reader.string();
    else if (tag === 18) value = reader.string();
    else reader.skip(tag);
  }
  reader.leave(outer);
  pairs[name] = value;
  return pairs;
}

/** The only payload of a message. */
function decodeOnly(reader: Reader, wanted: number): WirePayload {
  let payload = NO_PAYLOAD;
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag === wanted) payload = decodePayload(reader);
    else reader.skip(tag);
  }
  return payload;
}

function decodeNumber(reader: Reader, wanted: number): number {
  let value = 0;
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag === wanted) value = reader.varint();
    else reader.skip(tag);
  }
  return value;
}

function decodeText(reader: Reader): string {
  let value = "";
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag === 10) value = reader.string();
    else reader.skip(tag);
  }
  return value;
}

function decodeGoAway(reader: Reader): { readonly reason: string; readonly deadlineMs: number } {
  let reason = "";
  let deadlineMs = 0;
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag === 10) reason = reader.string();
    else if (tag === 16) deadlineMs = reader.varint();
    else reader.skip(tag);
  }
  return { reason, deadlineMs };
}

function decodeNonce(reader: Reader): Id {
  let nonce: Id = 0;
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag === 8) nonce = reader.id();
    else reader.skip(tag);
  }
  return nonce;
}

function decodeEpochs(reader: Reader): Id[] {
  const epochs: Id[] = [];
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag === 8 || tag === 10) reader.ids(tag, epochs);
    else reader.skip(tag);
  }
  return epochs;
}

function decodeDeliver(reader: Reader): WireDeliver {
  let event = NO_MESSAGE;
  let agent = "";
  let handler = "";
  const epochs: Id[] = [];
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    switch (tag) {
      case 10: {
        const outer = reader.enter();
        event = decodeEvent(reader);
        reader.leave(outer);
        break;
      }
      case 18:
        agent = reader.string();
        break;
      case 26:
        handler = reader.string();
        break;
      case 32:
      case 34:
        reader.ids(tag, epochs);
        break;
      default:
        reader.skip(tag);
    }
  }
  return { event, agent, handler, epochs };
}

function decodeActivate(reader: Reader): WireActivate {
  let agent = "";
  let key = "";
  let epoch: Id = 0;
  let memoryVersion = 0;
  let memory: WireMemoryImage[] = [];
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    switch (tag) {
      case 10: {
        const outer = reader.enter();
        for (let inner = reader.tag(); inner; inner = reader.tag()) {
          if (inner === 10) agent = reader.string();
          else if (inner === 18) key = reader.string();
          else reader.skip(inner);
        }
        reader.leave(outer);
        break;
      }
      case 16:
        epoch = reader.id();
        break;
      case 24:
        memoryVersion = reader.count();
        break;
      case 34:
        memory = decodeMemory(reader);
        break;
      default:
        reader.skip(tag);
    }
  }
  return { agent, key, epoch, memoryVersion, memory };
}

/** A nested InstanceMemory. */
function decodeMemory(reader: Reader): WireMemoryImage[] {
  const images: WireMemoryImage[] = [];
  const outer = reader.enter();
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag !== 10) {
      reader.skip(tag);
      continue;
    }
    const around = reader.enter();
    let name = "";
    const entries: WireEntry[] = [];
    for (let inner = reader.tag(); inner; inner = reader.tag()) {
      if (inner === 10) name = reader.string();
      else if (inner === 18) entries.push(decodeEntry(reader));
      else reader.skip(inner);
    }
    reader.leave(around);
    images.push({ name, entries });
  }
  reader.leave(outer);
  return images;
}

/** A nested MemoryEntry. */
function decodeEntry(reader: Reader): WireEntry {
  const outer = reader.enter();
  let id = "";
  let value = NO_BYTES;
  let expiresInMs = 0;
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag === 10) id = reader.string();
    else if (tag === 18) value = reader.bytes();
    else if (tag === 24) expiresInMs = reader.varint();
    else reader.skip(tag);
  }
  reader.leave(outer);
  return { id, value, expiresInMs };
}

function decodeReply(reader: Reader): WireReply {
  let reply: WireReply = {};
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    switch (tag) {
      case 10:
        reply = { result: decodePayload(reader) };
        break;
      case 18:
        reply = { failure: decodeFailure(reader, 0) };
        break;
      case 26: {
        const outer = reader.enter();
        let messageId = "";
        let duplicate = false;
        for (let inner = reader.tag(); inner; inner = reader.tag()) {
          if (inner === 10) messageId = reader.string();
          else if (inner === 16) duplicate = reader.bool();
          else reader.skip(inner);
        }
        reader.leave(outer);
        reply = { accepted: { messageId, duplicate } };
        break;
      }
      case 34: {
        const outer = reader.enter();
        let eventId = "";
        let subscribers = 0;
        for (let inner = reader.tag(); inner; inner = reader.tag()) {
          if (inner === 10) eventId = reader.string();
          else if (inner === 16) subscribers = reader.uint32();
          else reader.skip(inner);
        }
        reader.leave(outer);
        reply = { published: { eventId, subscribers } };
        break;
      }
      case 42:
        reply = { broadcast: decodeBroadcastResult(reader) };
        break;
      case 50:
        reply = { memory: decodeMemoryResult(reader) };
        break;
      case 58:
        reader.leave(reader.enter());
        reply = { subscribed: true };
        break;
      default:
        reader.skip(tag);
    }
  }
  return reply;
}

const MAX_CAUSES = 64; // more than this side ever looks at

/** A nested Failure. */
function decodeFailure(reader: Reader, depth: number): WireFailure {
  const outer = reader.enter();
  let metadata: Readonly<Record<string, string>> = NO_HEADERS;
  const failure: WireFailure = {
    code: 0,
    reason: "",
    message: "",
    retryable: false,
    retryDelayMs: 0,
    metadata: NO_HEADERS,
    details: [],
    stackTrace: "",
    source: "",
  };
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    switch (tag) {
      case 8:
        failure.code = reader.int32();
        break;
      case 18:
        failure.reason = reader.string();
        break;
      case 26:
        failure.message = reader.string();
        break;
      case 32:
        failure.retryable = reader.bool();
        break;
      case 40:
        failure.retryDelayMs = reader.varint();
        break;
      case 50:
        metadata = decodePair(reader, metadata);
        break;
      case 58:
        failure.details.push(decodePayload(reader));
        break;
      case 66:
        failure.stackTrace = reader.string();
        break;
      case 74:
        failure.source = reader.string();
        break;
      case 82:
        if (depth > MAX_CAUSES) throw new Malformed("causes nested too deeply");
        failure.cause = decodeFailure(reader, depth + 1);
        break;
      default:
        reader.skip(tag);
    }
  }
  failure.metadata = metadata;
  reader.leave(outer);
  return failure;
}

/** A nested BroadcastResult. */
function decodeBroadcastResult(reader: Reader): WireBroadcastResult {
  const outer = reader.enter();
  let messageId = "";
  let succeeded = 0;
  let failed = 0;
  const recipients: { agent: string; key: string; result?: WirePayload; failure?: WireFailure }[] = [];
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    if (tag === 10) messageId = reader.string();
    else if (tag === 24) succeeded = reader.uint32();
    else if (tag === 32) failed = reader.uint32();
    else if (tag === 18) {
      const around = reader.enter();
      const recipient: (typeof recipients)[number] = { agent: "", key: "" };
      for (let inner = reader.tag(); inner; inner = reader.tag()) {
        if (inner === 10) {
          const within = reader.enter();
          for (let field = reader.tag(); field; field = reader.tag()) {
            if (field === 10) recipient.agent = reader.string();
            else if (field === 18) recipient.key = reader.string();
            else reader.skip(field);
          }
          reader.leave(within);
        } else if (inner === 18) {
          recipient.result = decodePayload(reader);
        } else if (inner === 26) {
          recipient.failure = decodeFailure(reader, 0);
        } else {
          reader.skip(inner);
        }
      }
      reader.leave(around);
      recipients.push(recipient);
    } else reader.skip(tag);
  }
  reader.leave(outer);
  return { messageId, recipients, succeeded, failed };
}

/** A nested MemoryOperationResult. */
function decodeMemoryResult(reader: Reader): WireMemoryResult {
  const outer = reader.enter();
  const entries: WireEntry[] = [];
  let version = 0;
  let kind = 0;
  let truncated = false;
  let found = false;
  for (let tag = reader.tag(); tag; tag = reader.tag()) {
    switch (tag) {
      case 10:
        entries.push(decodeEntry(reader));
        break;
      case 16:
        version = reader.count();
        break;
      case 24:
        kind = reader.int32();
        break;
      case 32:
        truncated = reader.bool();
        break;
      case 40:
        found = reader.bool();
        break;
      default:
        reader.skip(tag);
    }
  }
  reader.leave(outer);
  return { entries, version, kind, truncated, found };
}

// Writing. Every function writes a nested field with its tag; `sizes` of large parts are guessed, see Writer.begin.

/** A Payload, present even if empty. */
export function writePayload(writer: Writer, tag: number, payload: WirePayload): void {
  const { data } = payload;
  // Empty means JSON, except that nothing at all is no value.
  const contentType = payload.contentType === JSON_TYPE && data.length ? "" : payload.contentType;
  writer.varint(tag);
  const expected = data.length + contentType.length + 4;
  const start = writer.begin(expected);
  writer.string(10, contentType);
  writer.bytes(18, data);
  writer.end(start, expected);
}

function writePairs(writer: Writer, tag: number, pairs: Readonly<Record<string, string>> | undefined): void {
  if (pairs === undefined) return;
  for (const name of Object.keys(pairs)) {
    const value = pairs[name]!;
    writer.varint(tag);
    const expected = name.length + value.length + 4;
    const start = writer.begin(expected);
    writer.string(10, name);
    writer.string(18, value);
    writer.end(start, expected);
  }
}

/** About how long a message is, in bytes. */
export function sizeOfMessage(message: OutgoingMessage): number {
  const payload = message.payload;
  return 96 + (payload === undefined ? 0 : payload.data.length);
}

/** A Message. */
export function writeMessage(writer: Writer, tag: number, message: OutgoingMessage): void {
  writer.varint(tag);
  const expected = sizeOfMessage(message);
  const start = writer.begin(expected);
  writer.string(10, message.agent);
  writer.string(18, message.key);
  writer.string(26, message.handler);
  writer.string(34, message.type);
  if (message.payload !== undefined) writePayload(writer, 42, message.payload);
  writePairs(writer, 50, message.headers);
  writer.uint(56, message.priority ?? 0);
  writer.string(66, message.messageId);
  writer.string(74, message.idempotencyKey);
  writer.uint(80, message.ttlMs ?? 0);
  writer.string(90, message.source);
  writer.string(106, message.traceparent);
  writer.uint(112, message.durability ?? 0);
  writer.uint(120, message.delayMs ?? 0);
  if (message.sentAtMs !== undefined && message.sentAtMs > 0) {
    writer.varint(128);
    writer.varint(message.sentAtMs);
  }
  writer.end(start, expected);
}

/** An Event. */
export function writeEvent(writer: Writer, tag: number, event: OutgoingEvent): void {
  writer.varint(tag);
  const expected = 64 + (event.payload === undefined ? 0 : event.payload.data.length);
  const start = writer.begin(expected);
  writer.string(10, event.topic);
  if (event.payload !== undefined) writePayload(writer, 18, event.payload);
  writePairs(writer, 26, event.attributes);
  writer.string(34, event.eventId);
  writer.string(42, event.key);
  writer.uint(48, event.durability ?? 0);
  writer.string(66, event.traceparent);
  writer.uint(72, event.priority ?? 0);
  writer.end(start, expected);
}

/** A Subscription. */
export function writeSubscription(writer: Writer, tag: number, subscription: WireSubscription): void {
  writer.varint(tag);
  const start = writer.begin(64);
  writer.string(10, subscription.pattern);
  writer.string(18, subscription.filter);
  writer.string(26, subscription.handler);
  writer.end(start, 64);
}

/** A BroadcastScope. */
export function writeScope(writer: Writer, tag: number, scope: WireScope): void {
  writer.varint(tag);
  const start = writer.begin(32);
  if (scope.all) writer.bool(8, true);
  else if (scope.agent !== undefined) writer.text(18, scope.agent);
  else if (scope.group !== undefined) writer.text(26, scope.group);
  else if (scope.labels !== undefined) writer.text(34, scope.labels);
  writer.end(start, 32);
}

/** A MemoryEntry. */
export function writeEntry(writer: Writer, tag: number, entry: WireEntry): void {
  writer.varint(tag);
  const expected = entry.id.length + entry.value.length + 8;
  const start = writer.begin(expected);
  writer.string(10, entry.id);
  writer.bytes(18, entry.value);
  writer.uint(24, entry.expiresInMs);
  writer.end(start, expected);
}

/** A MemoryOperation. */
export function writeMemoryOperation(writer: Writer, tag: number, operation: WireMemoryOperation): void {
  writer.varint(tag);
  const expected = 64 + (operation.put?.value.length ?? 0);
  const start = writer.begin(expected);
  writer.varint(10);
  const instance = writer.begin(32);
  writer.string(10, operation.agent);
  writer.string(18, operation.key);
  writer.end(instance, 32);
  writer.string(18, operation.name);
  if (operation.get !== undefined) writer.text(26, operation.get);
  else if (operation.put !== undefined) writeEntry(writer, 34, operation.put);
  else if (operation.remove !== undefined) writer.text(42, operation.remove);
  else if (operation.list !== undefined) writer.text(50, operation.list);
  writer.uint(56, operation.ifVersion ?? 0);
  writer.uint(64, operation.limit ?? 0);
  writer.end(start, expected);
}

function writeSchedule(writer: Writer, tag: number, schedule: WireSchedule): void {
  writer.varint(tag);
  const start = writer.begin(128);
  writer.string(10, schedule.name);
  writer.string(18, schedule.handler);
  // Members of a oneof are written even at their defaults.
  if (schedule.fixedDelayMs !== undefined) {
    writer.varint(24);
    writer.varint(schedule.fixedDelayMs);
  } else if (schedule.fixedRateMs !== undefined) {
    writer.varint(32);
    writer.varint(schedule.fixedRateMs);
  } else if (schedule.cron !== undefined) {
    writer.text(42, schedule.cron);
  } else if (schedule.onceAfterMs !== undefined) {
    writer.varint(48);
    writer.varint(schedule.onceAfterMs);
  }
  writer.string(58, schedule.timeZone);
  writer.uint(64, schedule.missed ?? 0);
  writer.uint(72, schedule.initialDelayMs ?? 0);
  writer.string(82, schedule.key);
  if (schedule.payload !== undefined) writePayload(writer, 90, schedule.payload);
  writer.end(start, 128);
}

/** Effects. Returns how many bytes they took. */
export function writeEffects(writer: Writer, tag: number, effects: WireEffects): number {
  const before = writer.pos;
  writer.varint(tag);
  const start = writer.begin(128);
  for (const change of effects.memory) {
    writer.varint(10);
    const expected = 32 + (change.put === undefined ? 0 : change.put.value.length);
    const inner = writer.begin(expected);
    writer.string(10, change.name);
    if (change.put !== undefined) writeEntry(writer, 18, change.put);
    else if (change.remove !== undefined) writer.text(26, change.remove);
    else if (change.clear) writer.bool(32, true);
    else if (change.touch !== undefined) writer.text(42, change.touch);
    writer.end(inner, expected);
  }
  for (const message of effects.messages) writeMessage(writer, 18, message);
  for (const event of effects.events) writeEvent(writer, 26, event);
  for (const schedule of effects.schedules) writeSchedule(writer, 34, schedule);
  for (const name of effects.cancelledSchedules) writer.text(42, name);
  for (const subscription of effects.subscriptions) writeSubscription(writer, 50, subscription);
  for (const pattern of effects.cancelledSubscriptions) writer.text(58, pattern);
  writer.end(start, 128);
  return writer.pos - before;
}

/** A Failure. */
export function writeFailure(writer: Writer, tag: number, failure: WireFailure): void {
  writer.varint(tag);
  const start = writer.begin(1024);
  writer.int32(8, failure.code);
  writer.string(18, failure.reason);
  writer.string(26, failure.message);
  writer.bool(32, failure.retryable);
  writer.uint(40, failure.retryDelayMs);
  writePairs(writer, 50, failure.metadata);
  for (const detail of failure.details) writePayload(writer, 58, detail);
  writer.string(66, failure.stackTrace);
  writer.string(74, failure.source);
  if (failure.cause !== undefined) writeFailure(writer, 82, failure.cause);
  writer.end(start, 1024);
}

export { number as numberTag, sized as sizedTag };
