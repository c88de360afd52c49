// What travels on a link, as plain objects: the SDK's own view of the contracts in proto/amx/v1.
// 64-bit numbers are `number` (ids, epochs and times stay far below 2^53). Absent means the field's default.
// The meaning and unit of every field is in proto/amx/v1; the bytes are written and read by codec.ts.

/** A value as the application wrote it. An empty contentType means JSON; both empty means no value. */
export interface WirePayload {
  readonly contentType: string;
  readonly data: Uint8Array;
}

/** `UPPER_SNAKE` names of amx.v1.Priority, by number. */
export const PRIORITY = { UNSPECIFIED: 0, CRITICAL: 1, HIGH: 2, NORMAL: 3, LOW: 4, BACKGROUND: 5 } as const;

/** amx.v1.Durability. */
export const DURABILITY = { UNSPECIFIED: 0, VOLATILE: 1, DURABLE: 2 } as const;

/** amx.v1.MemoryKind. */
export const MEMORY_KIND = { UNSPECIFIED: 0, VALUE: 1, MAP: 2, SET: 3, LIST: 4 } as const;

/** amx.v1.Message, as it is sent. */
export interface OutgoingMessage {
  agent?: string;
  key?: string;
  handler?: string;
  type?: string;
  payload?: WirePayload;
  headers?: Readonly<Record<string, string>>;
  priority?: number;
  messageId?: string;
  idempotencyKey?: string;
  ttlMs?: number;
  source?: string;
  traceparent?: string;
  durability?: number;
  delayMs?: number;
  sentAtMs?: number;
}

/** amx.v1.Message, as it arrives: every field is there. Of an event: topic, attributes as headers, publisher as sender. */
export interface IncomingMessage {
  readonly agent: string;
  readonly key: string;
  readonly handler: string;
  readonly type: string;
  readonly payload: WirePayload;
  readonly headers: Readonly<Record<string, string>>;
  readonly priority: number;
  readonly messageId: string;
  readonly idempotencyKey: string;
  readonly ttlMs: number;
  readonly source: string;
  readonly sender: string;
  readonly traceparent: string;
  readonly durability: number;
  readonly delayMs: number;
  readonly sentAtMs: number;
  readonly topic: string;
}

/** amx.v1.Event, as it is published. */
export interface OutgoingEvent {
  topic: string;
  payload?: WirePayload;
  attributes?: Readonly<Record<string, string>>;
  eventId?: string;
  key?: string;
  durability?: number;
  traceparent?: string;
  priority?: number;
}

/** amx.v1.Subscription. */
export interface WireSubscription {
  pattern: string;
  filter?: string;
  handler?: string;
}

/** amx.v1.MemoryEntry. id: see MemoryKind in agent.proto. value: JSON; empty for a set's members. */
export interface WireEntry {
  readonly id: string;
  readonly value: Uint8Array;
  /** Remaining lifetime in milliseconds; 0: without end. */
  readonly expiresInMs: number;
}

/** amx.v1.MemoryImage: one memory with everything in it, least recently used entry first. */
export interface WireMemoryImage {
  readonly name: string;
  readonly entries: readonly WireEntry[];
}

/** amx.v1.MemoryChange: exactly one of the four is there. */
export interface WireMemoryChange {
  name: string;
  put?: WireEntry;
  remove?: string;
  clear?: true;
  touch?: string;
}

/** amx.v1.ScheduleDefinition as an effect: exactly one timing is there. */
export interface WireSchedule {
  name: string;
  handler: string;
  fixedDelayMs?: number;
  fixedRateMs?: number;
  cron?: string;
  onceAfterMs?: number;
  timeZone?: string;
  /** amx.v1.MissedRuns: 1 skip, 2 run once, 3 run all. */
  missed?: number;
  initialDelayMs?: number;
  key?: string;
  payload?: WirePayload;
}

/** amx.v1.Effects: what a handler did, committed together with its result or not at all. */
export interface WireEffects {
  memory: WireMemoryChange[];
  messages: OutgoingMessage[];
  events: OutgoingEvent[];
  schedules: WireSchedule[];
  cancelledSchedules: string[];
  subscriptions: WireSubscription[];
  cancelledSubscriptions: string[];
}

/** amx.v1.BroadcastScope: exactly one is there. */
export interface WireScope {
  all?: true;
  agent?: string;
  group?: string;
  labels?: string;
}

/** amx.v1.Failure. */
export interface WireFailure {
  code: number;
  reason: string;
  message: string;
  retryable: boolean;
  retryDelayMs: number;
  metadata: Record<string, string>;
  details: WirePayload[];
  stackTrace: string;
  source: string;
  cause?: WireFailure;
}

/** amx.v1.Accepted. */
export interface WireAccepted {
  readonly messageId: string;
  readonly duplicate: boolean;
}

/** amx.v1.Published. */
export interface WirePublished {
  readonly eventId: string;
  readonly subscribers: number;
}

/** amx.v1.BroadcastResult. Each recipient has a result or a failure. */
export interface WireBroadcastResult {
  readonly messageId: string;
  readonly recipients: readonly {
    readonly agent: string;
    readonly key: string;
    readonly result?: WirePayload;
    readonly failure?: WireFailure;
  }[];
  readonly succeeded: number;
  readonly failed: number;
}

/** amx.v1.MemoryOperation: exactly one of get, put, remove and list is there. */
export interface WireMemoryOperation {
  agent: string;
  key?: string;
  name: string;
  get?: string;
  put?: WireEntry;
  remove?: string;
  list?: string;
  ifVersion?: number;
  limit?: number;
}

/** amx.v1.MemoryOperationResult. kind: one of MEMORY_KIND. */
export interface WireMemoryResult {
  readonly entries: readonly WireEntry[];
  readonly version: number;
  readonly kind: number;
  readonly truncated: boolean;
  readonly found: boolean;
}
