// For tests of authoring: runs compiled agents as a host would, without one.

import type { AgentInstance, AgentSpec, EngineCalls, HandlerRun, HasAgentSpec } from "../agent-spec.js";
import { specOf } from "../engine/spec-of.js";
import type { IncomingMessage, WireEffects, WireMemoryChange, WireMemoryImage, WirePayload } from "../protocol/wire.js";
import { encodePayload } from "./payload.js";
import { decodeReply } from "./result.js";

const utf8 = new TextDecoder();

/** One instance at work. */
export class Runner {
  readonly spec: AgentSpec;
  readonly instance: AgentInstance;
  effects: WireEffects = noEffects();
  /** What the last commit changed, as text. */
  changes: string[] = [];
  now = 1000;
  version = 0;
  calls: EngineCalls = {} as EngineCalls;

  constructor(agent: HasAgentSpec | object, images: readonly WireMemoryImage[] = [], version = 0) {
    this.spec = specOf(agent as object);
    this.instance = this.spec.createInstance("key", () => this.now);
    this.version = version;
    this.instance.memory?.load(images, version);
  }

  async run(handler: string, content?: unknown, message: Partial<IncomingMessage> = {}): Promise<unknown> {
    const payload = await this.runPayload(handler, content, message);
    return decodeReply(payload);
  }

  async runPayload(handler: string, content?: unknown, message: Partial<IncomingMessage> = {}): Promise<WirePayload> {
    const spec = this.spec.handlers.get(handler);
    if (spec === undefined) {
      throw new Error(`no handler ${handler}`);
    }
    const incoming = incomingMessage({ handler, payload: encodePayload(content), ...message });
    this.effects = noEffects();
    this.changes = [];
    const memory = this.instance.memory;
    try {
      const input = await spec.decode(incoming);
      const value = spec.call(this.instance, input, this.handlerRun(incoming));
      let payload: WirePayload;
      if (spec.streaming) {
        const chunks: unknown[] = [];
        for await (const chunk of value as AsyncIterable<unknown>) {
          chunks.push(decodeReply(await spec.encodeChunk(chunk)));
        }
        payload = encodePayload(chunks);
      } else {
        payload = await spec.encode(await value);
      }
      if (memory?.changed) {
        const changes: WireMemoryChange[] = [];
        memory.collect(changes);
        this.changes = changes.map(shown);
        this.version += changes.length > 0 ? 1 : 0;
      }
      return payload;
    } catch (error) {
      if (memory?.changed) {
        memory.rollback();
      }
      throw error;
    }
  }

  private handlerRun(message: IncomingMessage): HandlerRun {
    const runner = this;
    return {
      agent: this.spec.definition.name,
      key: "key",
      handler: message.handler,
      message,
      invocationId: 1,
      attempt: 1,
      remainingMs: undefined,
      streaming: false,
      signal: new AbortController().signal,
      ended: false,
      get effects() {
        return runner.effects;
      },
      calls: this.calls,
      config: {},
    };
  }
}

export function incomingMessage(given: Partial<IncomingMessage> = {}): IncomingMessage {
  return {
    agent: "A",
    key: "key",
    handler: "",
    type: "",
    payload: encodePayload(undefined),
    headers: {},
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
    ...given,
  };
}

/** A change as text: `name put id value`, with `+ms` where it expires. */
export function shown(change: WireMemoryChange): string {
  const { name } = change;
  if (change.put !== undefined) {
    const { id, value, expiresInMs } = change.put;
    return `${name} put ${id} ${utf8.decode(value)}${expiresInMs > 0 ? ` +${expiresInMs}` : ""}`.trimEnd();
  }
  if (change.remove !== undefined) {
    return `${name} remove ${change.remove}`.trimEnd();
  }
  return change.clear === true ? `${name} clear` : `${name} touch ${change.touch}`;
}

function noEffects(): WireEffects {
  return {
    memory: [],
    messages: [],
    events: [],
    schedules: [],
    cancelledSchedules: [],
    subscriptions: [],
    cancelledSubscriptions: [],
  };
}
