// A client's subscription, as an async iterable.

import type { EngineCalls, EventSource } from "../agent-spec.js";
import { Message } from "../authoring/message.js";

/**
 * Events on matching topics, one Message each: topic, content, headers (the attributes), id, sender.
 *
 *     for await (const event of engine.subscribe("orders.*")) { … }
 *
 * subscribes at the first step, and unsubscribes when the loop is left; `await engine.subscribe("orders.*").ready()`
 * resolves when it is in force. A reader that is too slow loses the oldest events: see `dropped`. After a restart of
 * the engine it is renewed; what was published in between is missed. Rejects with AmxError if the engine refuses or
 * ends it.
 */
export class Subscription<T = unknown> implements AsyncIterable<Message<T>> {
  private readonly open: () => ReturnType<EngineCalls["subscribe"]>;
  private opening: Promise<EventSource> | undefined;
  private source: EventSource | undefined;
  private closed = false;

  constructor(open: () => ReturnType<EngineCalls["subscribe"]>) {
    this.open = open;
  }

  /** Resolves when the subscription is in force. */
  async ready(): Promise<this> {
    await this.begin();
    return this;
  }

  /** Events lost because they were not read in time. */
  get dropped(): number {
    return this.source?.dropped ?? 0;
  }

  /** Ends the subscription. Events that have arrived can still be read. */
  close(): void {
    this.closed = true;
    this.source?.close();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Message<T>, void, undefined> {
    for await (const event of await this.begin()) yield Message.received<T>(event);
  }

  private begin(): Promise<EventSource> {
    this.opening ??= this.open().then((source) => {
      this.source = source;
      if (this.closed) source.close();
      return source;
    });
    return this.opening;
  }
}
