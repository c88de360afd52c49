// Links to several engines that share one address: agents are hosted on all, each call goes to the owner of its
// instance. To an AmxEngine it looks like one link.

import type { AgentSpec, CallOptions, EngineCalls, EventSource } from "../agent-spec.js";
import { AmxError } from "../errors.js";
import { ownerOf } from "../protocol/ownership.js";
import type {
  OutgoingEvent,
  OutgoingMessage,
  WireAccepted,
  WireBroadcastResult,
  WireMemoryOperation,
  WireMemoryResult,
  WirePayload,
  WirePublished,
  WireScope,
  WireSubscription,
} from "../protocol/wire.js";
import type { Link } from "./link.js";

const MAX_REMEMBERED = 65_536; // owners
const AGAIN_MS = 50;
const LONGEST_MOVE_MS = 30_000;

/** One link to each engine, in order of their numbers. */
export class EngineLinks {
  readonly calls: OwnedCalls;
  /** Resolves when the links were closed; rejects if an engine refused to have one back. */
  readonly ended: Promise<void>;

  constructor(
    private readonly links: readonly Link[],
    namespace: string,
  ) {
    this.calls = new OwnedCalls(links, namespace || "default");
    this.ended = Promise.all(links.map((link) => link.ended)).then(() => undefined);
    this.ended.catch(() => undefined); // whoever cares asks
  }

  /** Whether there is a connection to every engine now. */
  get connected(): boolean {
    return this.links.every((link) => link.connected);
  }

  /** Resolves when every engine has said Welcome. Rejects as `Link.open`; nothing is left running then. */
  async open(patienceMs: number): Promise<void> {
    try {
      await Promise.all(this.links.map((link) => link.open(patienceMs)));
    } catch (error) {
      await this.close(0);
      throw error;
    }
  }

  /** Ends every link, as `Link.close`. */
  async close(deadlineMs: number): Promise<void> {
    this.calls.closing = true;
    await Promise.all(this.links.map((link) => link.close(deadlineMs)));
  }

  /** Hosts more agents, or fewer, on every engine. Rejects if one refuses them; those before it have taken them then. */
  async register(agents: readonly AgentSpec[], removed: readonly string[]): Promise<void> {
    for (const link of this.links) await link.register(agents, removed);
  }
}

/**
 * Calls at the engine they are for. What concerns no single instance goes to one, which sees to the others. An engine
 * that moves to another process takes nothing in meanwhile: what it refused is said again until it does.
 */
class OwnedCalls implements EngineCalls {
  private readonly owners = new Map<string, EngineCalls>();
  private readonly any: EngineCalls;
  closing = false;

  constructor(
    private readonly links: readonly Link[],
    private readonly namespace: string,
  ) {
    // Any one, so that many processes spread what any engine can do.
    this.any = this.at(Math.floor(Math.random() * links.length));
  }

  send(message: OutgoingMessage, options?: CallOptions): Promise<WireAccepted> {
    return this.kept(options, () => this.owner(message.agent, message.key).send(message, options));
  }

  request(message: OutgoingMessage, options?: CallOptions): Promise<WirePayload> {
    return this.kept(options, () => this.owner(message.agent, message.key).request(message, options));
  }

  async *stream(message: OutgoingMessage, options?: CallOptions): AsyncGenerator<WirePayload, void, undefined> {
    const until = performance.now() + (options?.timeoutMs || LONGEST_MOVE_MS);
    for (;;) {
      let begun = false;
      try {
        for await (const chunk of this.owner(message.agent, message.key).stream(message, options)) {
          begun = true;
          yield chunk;
        }
        return;
      } catch (error) {
        if (begun) throw error;
        await this.moved(error, until);
      }
    }
  }

  publish(event: OutgoingEvent, options?: CallOptions): Promise<WirePublished> {
    return this.kept(options, () => this.any.publish(event, options));
  }

  broadcast(scope: WireScope, message: OutgoingMessage, options?: CallOptions): Promise<WireBroadcastResult> {
    return this.kept(options, () => this.any.broadcast(scope, message, options));
  }

  subscribe(subscription: WireSubscription, options?: CallOptions): Promise<EventSource> {
    return this.any.subscribe(subscription, options);
  }

  memory(operation: WireMemoryOperation, options?: CallOptions): Promise<WireMemoryResult> {
    return this.kept(options, () => this.owner(operation.agent, operation.key).memory(operation, options));
  }

  private async kept<T>(options: CallOptions | undefined, call: () => Promise<T>): Promise<T> {
    const until = performance.now() + (options?.timeoutMs || LONGEST_MOVE_MS);
    for (;;) {
      try {
        return await call();
      } catch (error) {
        await this.moved(error, until);
      }
    }
  }

  /** Resolves when a call may be made again that ended so; throws `error` if it may not. */
  private async moved(error: unknown, until: number): Promise<void> {
    const moving = error instanceof AmxError && error.reason === "SHUTTING_DOWN";
    if (!moving || this.closing || performance.now() >= until) throw error;
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }

  private at(number: number): EngineCalls {
    const link = this.links[number];
    if (link === undefined) throw new RangeError(`there is no engine ${number}`);
    return link.calls;
  }

  private owner(agent: string | undefined, key: string | undefined): EngineCalls {
    if (!agent) return this.any; // for a router
    const name = `${agent}/${key ?? ""}`;
    let owner = this.owners.get(name);
    if (owner === undefined) {
      if (this.owners.size >= MAX_REMEMBERED) this.owners.clear();
      owner = this.at(ownerOf(this.namespace, agent, key ?? "", this.links.length));
      this.owners.set(name, owner);
    }
    return owner;
  }
}
