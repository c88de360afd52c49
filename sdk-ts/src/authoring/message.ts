// Messages as handlers and senders see them: lazily decoding views of what travels.

import { EMPTY } from "../agent-spec.js";
import { InvalidInput } from "../errors.js";
import {
  DURABILITY,
  type IncomingMessage,
  type OutgoingMessage,
  PRIORITY,
  type WirePayload,
} from "../protocol/wire.js";
import { type Duration, milliseconds } from "./durations.js";
import { decodePayload, encodePayload, JSON_TYPE } from "./payload.js";

/** How urgent a message is. Higher ones overtake lower ones; none starves. */
export const Priority = Object.freeze({
  CRITICAL: "critical",
  HIGH: "high",
  NORMAL: "normal",
  LOW: "low",
  BACKGROUND: "background",
} as const);
export type Priority = (typeof Priority)[keyof typeof Priority];

const BY_NUMBER: readonly Priority[] = ["normal", "critical", "high", "normal", "low", "background"];

/** The number of a priority, by any spelling of its name. Throws InvalidInput listing the names. */
export function priorityNumber(value: Priority | string): number {
  const number = (PRIORITY as Readonly<Record<string, number>>)[String(value).toUpperCase()];
  if (number === undefined || number === 0) {
    const names = Object.values(Priority).join(", ");
    throw new InvalidInput(`priority ${JSON.stringify(value)} is unknown; use one of ${names}`, "priority");
  }
  return number;
}

/** The address of one agent instance: `name/key`; and of one of its handlers, where a router chooses that too. */
export class AgentReference {
  readonly name: string;
  readonly key: string;

  constructor(
    name: string,
    key = "default",
    readonly handler = "",
  ) {
    if (name === "") {
      throw new InvalidInput("an agent reference needs the name of an agent", "name");
    }
    this.name = name;
    this.key = key || "default";
  }

  /** The reference of `name/key`, or of `name` alone. */
  static parse(address: string): AgentReference {
    const slash = address.indexOf("/");
    return slash < 0
      ? new AgentReference(address)
      : new AgentReference(address.slice(0, slash), address.slice(slash + 1));
  }

  toString(): string {
    return `${this.name}/${this.key}${this.handler === "" ? "" : `#${this.handler}`}`;
  }
}

/** What may be said of a message besides its agent and content. What is absent takes its default. */
export interface MessageOptions {
  /** Instance key; also as `name/key` in the agent's name. */
  key?: string;
  /** Handler; otherwise chosen by `type`, else the agent's default. */
  handler?: string;
  /** Application type, e.g. `customer_inquiry`. */
  type?: string;
  priority?: Priority | Uppercase<Priority>;
  /** Text to text, at most 8 KiB together. */
  headers?: Readonly<Record<string, string>>;
  /** Where the application says it came from. */
  source?: string;
  /** Two durable messages with one id are one message. */
  id?: string;
  /** A repeated request with the same gets the first one's outcome. */
  idempotencyKey?: string;
  /** How long it may wait in a mailbox. */
  ttl?: Duration;
  /** How long it is held back. */
  delay?: Duration;
  /** Whether it is stored before it is acknowledged. Otherwise what the operation and the handler say. */
  durable?: boolean;
  /** W3C trace context. */
  traceparent?: string;
}

/**
 * A message: one that a handler got, or one to be sent in place of bare content, with options of its own. Content that
 * several handlers get (an event's) is shared among them: treat it as read-only.
 */
export class Message<T = unknown> {
  private readonly fields: OutgoingMessage & Partial<IncomingMessage>;
  private value: unknown;
  private decoded: boolean;

  constructor(content?: T, options: MessageOptions & { agent?: string } = {}) {
    this.fields = fill(options.agent === undefined ? {} : { agent: options.agent }, options);
    this.value = content;
    this.decoded = true;
  }

  /** A view of what arrived. Decodes nothing yet. */
  static received<T = unknown>(incoming: IncomingMessage): Message<T> {
    const message = Object.create(Message.prototype) as Message<T>;
    const own = message as unknown as { fields: IncomingMessage; value: unknown; decoded: boolean };
    own.fields = incoming;
    own.value = undefined;
    own.decoded = false;
    return message;
  }

  /** A message that somebody else got, as routers and monitors are told of it. */
  static seen(content: unknown, options: MessageOptions & { agent?: string }, sender: string): Message {
    const message = new Message(content, options);
    (message.fields as { sender?: string }).sender = sender;
    return message;
  }

  /** The content, decoded at first use; undefined if there is none. Throws InvalidValue if it is not what it says. */
  get content(): T {
    if (!this.decoded) {
      this.value = decodePayload(this.fields.payload ?? EMPTY);
      this.decoded = true;
    }
    return this.value as T;
  }

  /** As it travels. Throws InvalidValue if the content has no JSON form. */
  toPayload(): WirePayload {
    return this.fields.payload ?? encodePayload(this.value);
  }

  /** Media type of the content. */
  get contentType(): string {
    return this.toPayload().contentType || JSON_TYPE;
  }

  get id(): string {
    return this.fields.messageId ?? "";
  }

  get type(): string {
    return this.fields.type ?? "";
  }

  get agent(): string {
    return this.fields.agent ?? "";
  }

  get key(): string {
    return this.fields.key || "default";
  }

  /** Handler it names, or empty. */
  get handler(): string {
    return this.fields.handler ?? "";
  }

  get priority(): Priority {
    return BY_NUMBER[this.fields.priority ?? 0] ?? "normal";
  }

  get headers(): Readonly<Record<string, string>> {
    return this.fields.headers ?? {};
  }

  /** Where the application says it came from. */
  get source(): string {
    return this.fields.source ?? "";
  }

  /** Who sent it: `agent/key`, or the subject of the caller's identity. */
  get sender(): string {
    return this.fields.sender ?? "";
  }

  /** Topic of the event this message carries, or empty. */
  get topic(): string {
    return this.fields.topic ?? "";
  }

  get idempotencyKey(): string {
    return this.fields.idempotencyKey ?? "";
  }

  get traceparent(): string {
    return this.fields.traceparent ?? "";
  }

  /** How long it may wait in a mailbox, in milliseconds; undefined: without end. */
  get ttlMs(): number | undefined {
    return this.fields.ttlMs || undefined;
  }

  /** How long it is held back, in milliseconds; undefined: not at all. */
  get delayMs(): number | undefined {
    return this.fields.delayMs || undefined;
  }

  /** Whether it asks to be stored; undefined: it does not say. */
  get durable(): boolean | undefined {
    return this.fields.durability ? this.fields.durability === DURABILITY.DURABLE : undefined;
  }

  /** When its sender made it; undefined if unknown. */
  get sentAt(): Date | undefined {
    return this.fields.sentAtMs ? new Date(this.fields.sentAtMs) : undefined;
  }

  /** What is said of it, to be sent on: without sender and topic, which are whoever sends it. */
  toOutgoing(): OutgoingMessage {
    const { sender: _sender, topic: _topic, payload: _payload, ...rest } = this.fields;
    return rest;
  }
}

/**
 * A message to `agent` (`name`, `name/key`, or a reference), as it travels. A Message as content keeps what options do
 * not say. Throws InvalidValue if the content has no JSON form, InvalidInput naming an option that cannot be.
 */
export function outgoing(
  agent: string | AgentReference,
  content: unknown,
  options: MessageOptions = {},
): OutgoingMessage {
  const message: OutgoingMessage = content instanceof Message ? content.toOutgoing() : {};
  const payload = encodePayload(content);
  if (payload !== EMPTY) {
    message.payload = payload;
  }
  message.sentAtMs ??= Date.now();
  if (typeof agent !== "string") {
    message.agent = agent.name;
    message.key = agent.key;
    if (agent.handler !== "") {
      message.handler = agent.handler;
    }
  } else if (agent !== "") {
    const slash = options.key === undefined ? agent.indexOf("/") : -1;
    message.agent = slash < 0 ? agent : agent.slice(0, slash);
    if (slash >= 0) {
      message.key = agent.slice(slash + 1);
    }
  }
  return fill(message, options);
}

function fill(message: OutgoingMessage, options: MessageOptions): OutgoingMessage {
  if (options.key !== undefined) {
    message.key = options.key;
  }
  if (options.handler !== undefined) {
    message.handler = options.handler;
  }
  if (options.type !== undefined) {
    message.type = options.type;
  }
  if (options.priority !== undefined) {
    message.priority = priorityNumber(options.priority);
  }
  if (options.headers !== undefined) {
    message.headers = texts(options.headers, "headers");
  }
  if (options.source !== undefined) {
    message.source = options.source;
  }
  if (options.id !== undefined) {
    message.messageId = options.id;
  }
  if (options.idempotencyKey !== undefined) {
    message.idempotencyKey = options.idempotencyKey;
  }
  if (options.ttl !== undefined) {
    message.ttlMs = milliseconds(options.ttl, "ttl");
  }
  if (options.delay !== undefined) {
    message.delayMs = milliseconds(options.delay, "delay");
  }
  if (options.durable !== undefined) {
    message.durability = options.durable ? DURABILITY.DURABLE : DURABILITY.VOLATILE;
  }
  if (options.traceparent !== undefined) {
    message.traceparent = options.traceparent;
  }
  return message;
}

/** Text by text. Throws InvalidInput naming what is none. */
export function texts(values: Readonly<Record<string, string>>, what: string): Readonly<Record<string, string>> {
  for (const [name, value] of Object.entries(values)) {
    if (typeof value !== "string") {
      throw new InvalidInput(`${what}.${name} is ${JSON.stringify(value)}; expected text`, `${what}.${name}`);
    }
  }
  return values;
}
