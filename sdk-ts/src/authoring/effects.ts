// Events, schedules and broadcasts as they travel, made of what applications say.

import { EMPTY } from "../agent-spec.js";
import { type AmxError, InvalidInput } from "../errors.js";
import { errorFromFailure } from "../protocol/failures.js";
import {
  DURABILITY,
  type OutgoingEvent,
  type WireBroadcastResult,
  type WireSchedule,
  type WireScope,
} from "../protocol/wire.js";
import { type Duration, milliseconds, positiveMilliseconds } from "./durations.js";
import { AgentReference, type Priority, priorityNumber, texts } from "./message.js";
import { encodePayload } from "./payload.js";
import { decodeReply } from "./result.js";

/** What may be said of an event besides its topic and content. */
export interface EventOptions {
  /** What filters of subscriptions look at. */
  attributes?: Readonly<Record<string, string>>;
  /** Stored for each subscriber before it is acknowledged. */
  durable?: boolean;
  /** Key of the instance that agents subscribed by definition receive it at. */
  key?: string;
  /** Two durable events with one id are one event. */
  id?: string;
  priority?: Priority | Uppercase<Priority>;
}

/** An event as it travels. Throws InvalidInput for an empty topic, InvalidValue for content without JSON form. */
export function makeEvent(topic: string, content: unknown, options: EventOptions = {}): OutgoingEvent {
  if (topic === "") {
    throw new InvalidInput("an event needs a topic, e.g. 'orders.eu.created'", "topic");
  }
  const event: OutgoingEvent = { topic };
  const payload = encodePayload(content);
  if (payload !== EMPTY) {
    event.payload = payload;
  }
  if (options.attributes !== undefined) {
    event.attributes = texts(options.attributes, "attributes");
  }
  if (options.durable !== undefined) {
    event.durability = options.durable ? DURABILITY.DURABLE : DURABILITY.VOLATILE;
  }
  if (options.key !== undefined) {
    event.key = options.key;
  }
  if (options.id !== undefined) {
    event.eventId = options.id;
  }
  if (options.priority !== undefined) {
    event.priority = priorityNumber(options.priority);
  }
  return event;
}

/** What happens to occurrences that nobody could run. */
export type Missed = "skip" | "run_once" | "run_all";

const MISSED: Readonly<Record<Missed, number>> = { skip: 1, run_once: 2, run_all: 3 };

/** When a schedule runs. Exactly one of `after`, `fixedRate`, `fixedDelay` and `cron` is given. */
export interface Timing {
  /** Once, after so long. */
  after?: Duration;
  /** Distance between starts. */
  fixedRate?: Duration;
  /** Wait after the end of each run. */
  fixedDelay?: Duration;
  /** Five fields, or six with seconds first. */
  cron?: string;
  /** IANA time zone of `cron`; UTC unless given. */
  zone?: string;
  /** `run_once` unless given. */
  missed?: Missed;
  /** Wait before the first run of a rate or delay. */
  initialDelay?: Duration;
}

/** A schedule as it travels. Throws InvalidInput unless exactly one timing is given and everything is positive. */
export function makeSchedule(name: string, handler: string, timing: Timing, content?: unknown): WireSchedule {
  const given = [timing.after, timing.fixedRate, timing.fixedDelay, timing.cron].filter((one) => one !== undefined);
  if (given.length !== 1) {
    throw new InvalidInput(
      `schedule '${name}' has ${given.length} timings; give exactly one of fixedRate, fixedDelay, cron and after`,
      "schedule",
    );
  }
  const missed = MISSED[timing.missed ?? "run_once"];
  if (missed === undefined) {
    throw new InvalidInput(
      `schedule '${name}': missed is ${JSON.stringify(timing.missed)}; use one of ${Object.keys(MISSED).join(", ")}`,
      "missed",
    );
  }
  if (timing.zone !== undefined && timing.cron === undefined) {
    throw new InvalidInput(`schedule '${name}': a time zone goes with cron only`, "zone");
  }
  const schedule: WireSchedule = { name, handler, missed };
  if (timing.after !== undefined) {
    schedule.onceAfterMs = Math.max(1, milliseconds(timing.after, "after"));
  } else if (timing.fixedRate !== undefined) {
    schedule.fixedRateMs = positiveMilliseconds(timing.fixedRate, "fixedRate");
  } else if (timing.fixedDelay !== undefined) {
    schedule.fixedDelayMs = positiveMilliseconds(timing.fixedDelay, "fixedDelay");
  } else if (timing.cron !== undefined) {
    const fields = timing.cron.trim().split(/\s+/).length;
    if (fields !== 5 && fields !== 6) {
      throw new InvalidInput(
        `schedule '${name}': cron ${JSON.stringify(timing.cron)} has ${fields} fields; expected five, or six with` +
          " seconds first",
        "cron",
      );
    }
    schedule.cron = timing.cron;
    if (timing.zone !== undefined) {
      schedule.timeZone = timing.zone;
    }
  }
  if (timing.initialDelay !== undefined) {
    schedule.initialDelayMs = Math.max(1, milliseconds(timing.initialDelay, "initialDelay"));
  }
  const payload = encodePayload(content);
  if (payload !== EMPTY) {
    schedule.payload = payload;
  }
  return schedule;
}

/** Whom a broadcast reaches. */
export class Scope {
  private constructor(readonly wire: WireScope) {}

  /** Every instance of every agent. */
  static all(): Scope {
    return new Scope({ all: true });
  }

  /** Every instance of this agent. */
  static agent(name: string): Scope {
    return new Scope({ agent: name });
  }

  /** Every instance of the agents in this group. */
  static group(name: string): Scope {
    return new Scope({ group: name });
  }

  /** Every instance of the agents whose labels satisfy this, e.g. `tier = gold, region != eu`. */
  static labels(expression: string): Scope {
    return new Scope({ labels: expression });
  }
}

/** What became of a broadcast at one instance: a value, or an error. */
export interface RecipientOutcome {
  readonly instance: AgentReference;
  readonly value: unknown;
  readonly error: AmxError | undefined;
}

/** What became of a broadcast, recipient by recipient in no particular order. */
export interface BroadcastOutcome {
  readonly messageId: string;
  readonly recipients: readonly RecipientOutcome[];
  readonly succeeded: number;
  readonly failed: number;
}

/** The outcome of a broadcast, as it travelled. */
export function broadcastOutcome(result: WireBroadcastResult): BroadcastOutcome {
  const recipients = result.recipients.map((one) => ({
    instance: new AgentReference(one.agent, one.key),
    value: one.failure === undefined ? decodeReply(one.result ?? EMPTY) : undefined,
    error: one.failure === undefined ? undefined : errorFromFailure(one.failure),
  }));
  return { messageId: result.messageId, recipients, succeeded: result.succeeded, failed: result.failed };
}
