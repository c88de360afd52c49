// The Interpreter: runs a list of operations from its input, so that most new cases need no change here.

import {
  Agent,
  type CallLimits,
  type Context,
  type EventOptions,
  expire,
  handler,
  InvalidInput,
  Message,
  type MessageOptions,
  memory,
  ProcessingResult,
  Scope,
  type Timing,
} from "../src/index.js";
import { named } from "./arguments.js";
import { type Asked, shown, thrown } from "./failures.js";
import { hostAlso, hosting } from "./hosting.js";
import { waitFor } from "./waiting.js";

// biome-ignore lint/suspicious/noExplicitAny: operations are whatever a case says
type Operation = Readonly<Record<string, any>> & { readonly op: string };
type Outcome = { ok?: unknown; failure?: unknown };

/** The operation `return` was met. */
class Returned {
  constructor(readonly value: unknown) {}
}

@Agent({ name: named("Interpreter"), groups: "conformance", labels: { tier: "gold" }, idleTimeout: "5m" })
export class Interpreter {
  @memory({ persistent: true }) value: unknown = null;
  @memory({ persistent: true }) map = new Map<unknown, unknown>();
  @memory({ persistent: true }) set = new Set<unknown>();
  @memory({ persistent: true }) list: unknown[] = [];
  @memory({ ttl: "60s" }) scratch = new Map<unknown, unknown>();
  @memory({ persistent: true, maxSize: 3 }) bounded = new Map<unknown, unknown>();

  @handler({ default: true })
  run(operations: Operation[], context: Context): Promise<unknown> {
    return this.runAll(operations, context);
  }

  @handler({ concurrent: true })
  concurrent(operations: Operation[], context: Context): Promise<unknown> {
    return this.runAll(operations, context);
  }

  @handler({ streaming: true })
  async *stream(operations: Operation[], context: Context): AsyncGenerator<unknown> {
    for (const operation of operations) {
      if (operation.op === "yield") {
        yield operation["value"];
        continue;
      }
      try {
        await this.outcome(operation, context);
      } catch (error) {
        if (error instanceof Returned) {
          return;
        }
        throw error;
      }
    }
  }

  private async runAll(operations: Operation[], context: Context): Promise<unknown> {
    const outcomes: Outcome[] = [];
    try {
      for (const operation of operations) {
        outcomes.push(await this.outcome(operation, context));
      }
    } catch (error) {
      if (error instanceof Returned) {
        return error.value;
      }
      throw error;
    }
    return outcomes;
  }

  /** What came of a call made by the program around the agents. */
  async outcomeOutside(operation: Operation): Promise<Outcome> {
    try {
      const value = await CALLS[operation.op]?.(operation, outside());
      return value === undefined ? {} : { ok: value };
    } catch (error) {
      return { failure: shown(error) };
    }
  }

  private async outcome(operation: Operation, context: Context): Promise<Outcome> {
    try {
      const value = await this.perform(operation, context);
      return value === undefined ? {} : { ok: value };
    } catch (error) {
      if (error instanceof Returned || operation["or_raise"] === true) {
        throw error;
      }
      return { failure: shown(error) };
    }
  }

  private async perform(operation: Operation, context: Context): Promise<unknown> {
    switch (operation.op) {
      case "return":
        throw new Returned(operation["value"]);
      case "raise":
        throw thrown(operation as Asked);
      case "wait":
        return waitFor(context.signal);
      case "context":
        return about(context);
      case "outside":
        startOutside(this, operation);
        return undefined;
      case "outcomes":
        return [...(outsideOutcomes.get(operation["name"]) ?? [])];
      case "register":
        await hostAlso(operation["agents"] ?? [], operation["removed"] ?? []);
        return undefined;
      case "parallel":
        return Promise.all((operation["ops"] as Operation[]).map((one) => this.outcome(one, context)));
      default:
    }
    const call = CALLS[operation.op];
    if (call !== undefined) {
      return call(operation, context);
    }
    const stage = STAGED[operation.op];
    if (stage !== undefined) {
      return stage(operation, context);
    }
    const own = OWN[operation.op];
    if (own === undefined) {
      throw new InvalidInput(`there is no operation '${operation.op}' here`, "op");
    }
    return own(this, operation);
  }
}

const outsideOutcomes = new Map<string, Outcome[]>();

/** Makes calls one after another, on nobody's behalf, whether or not the handler has ended. */
function startOutside(interpreter: Interpreter, { name, ops }: Operation): void {
  const outcomes: Outcome[] = [];
  outsideOutcomes.set(name, outcomes);
  void (async () => {
    for (const one of ops as Operation[]) {
      outcomes.push(await interpreter.outcomeOutside(one));
    }
  })();
}

/** The process's AmxEngine, as a context is used. */
function outside(): Caller {
  const { engine } = hosting;
  return {
    request: (agent, content, options) => engine.request(agent, content, options),
    stream: (agent, content, options) => engine.stream(agent, content, options),
    sendNow: (agent, content, options) => engine.send(agent, content, options),
    publishNow: (topic, content, options) => engine.publish(topic, content, options),
    broadcast: (scope, content, options) => engine.broadcast(scope, content, options),
    events: (pattern, filter = "") => engine.subscribe(pattern, { filter }),
    memoryOf: (agent, key) => engine.memory(agent, key),
  };
}

function about({ agent, key, message, attempt, deadline }: Context): unknown {
  return {
    agent,
    key,
    handler: message.handler,
    attempt,
    message_id: message.id,
    has_deadline: deadline !== undefined,
    sender: message.sender,
  };
}

// Calls and effects

function only(operation: Operation, names: Readonly<Record<string, string>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(names)
      .filter(([field]) => operation[field] !== undefined)
      .map(([field, option]) => [option, operation[field]]),
  );
}

const MESSAGE = {
  type: "type",
  headers: "headers",
  priority: "priority",
  idempotency_key: "idempotencyKey",
  durable: "durable",
  source: "source",
  message_id: "id",
  ttl_ms: "ttl",
  delay_ms: "delay",
};
const WHERE = { key: "key", handler: "handler", timeout_ms: "timeout" };
const EVENT = { attributes: "attributes", key: "key", durable: "durable", event_id: "id" };
const TIMING = { every_ms: "fixedRate", delay_ms: "fixedDelay", cron: "cron", after_ms: "after" };

function message(operation: Operation): Message {
  return new Message(operation["payload"], only(operation, MESSAGE));
}

function where(operation: Operation): MessageOptions & CallLimits {
  return only(operation, WHERE);
}

function target(operation: Operation): string {
  return operation["agent"] ?? "";
}

function plain(value: unknown): unknown {
  if (!(value instanceof ProcessingResult)) {
    return value;
  }
  const { status, data = null, message: text, metadata } = value;
  return { status, data, message: text, metadata };
}

/** Calls, from inside a handler or from outside of all. */
type Caller = Pick<Context, "request" | "stream" | "sendNow" | "publishNow" | "broadcast" | "events" | "memoryOf">;

const CALLS: Readonly<Record<string, (operation: Operation, context: Caller) => unknown>> = {
  request: async (operation, context) =>
    plain(await context.request(target(operation), message(operation), where(operation))),

  stream: async (operation, context) => {
    const chunks: unknown[] = [];
    for await (const chunk of context.stream(target(operation), message(operation), where(operation))) {
      chunks.push(plain(chunk));
      if (chunks.length === operation["take"]) {
        break;
      }
    }
    return chunks;
  },

  send_now: async (operation, context) => {
    const receipt = await context.sendNow(target(operation), message(operation), where(operation));
    return { message_id: receipt.messageId, duplicate: receipt.duplicate };
  },

  publish_now: async (operation, context) => {
    const options = only(operation, EVENT) as EventOptions;
    return { subscribers: (await context.publishNow(operation["topic"], operation["payload"], options)).subscribers };
  },

  broadcast: async (operation, context) => {
    const [[kind, argument]] = Object.entries(operation["scope"]) as [[string, string]];
    const scope = kind === "all" ? Scope.all() : Scope[kind as "agent" | "group" | "labels"](argument);
    const outcome = await context.broadcast(scope, operation["payload"], where(operation));
    const recipients = outcome.recipients.map(({ instance, value, error }) => ({
      agent: instance.name,
      key: instance.key,
      ...(error === undefined ? { ok: plain(value) } : { failure: shown(error) }),
    }));
    return { succeeded: outcome.succeeded, failed: outcome.failed, recipients };
  },

  subscribe: async (operation, context) => {
    const taken: unknown[] = [];
    for await (const event of context.events(operation["pattern"], operation["filter"] ?? "")) {
      taken.push({ topic: event.topic, payload: event.content, attributes: event.headers });
      if (taken.length === operation["take"]) {
        break;
      }
    }
    return taken;
  },

  memory_of: async (operation, context) => {
    const other = context.memoryOf(operation["agent"], operation["key"]);
    const found = await other.get(operation["memory"], operation["entry"]);
    return found instanceof Set ? [...found] : found instanceof Map ? [...found] : found;
  },
};

const STAGED: Readonly<Record<string, (operation: Operation, context: Context) => unknown>> = {
  send: (operation, context) => context.send(target(operation), message(operation), where(operation)),

  publish: (operation, context) =>
    context.publish(operation["topic"], operation["payload"], only(operation, EVENT) as EventOptions),

  schedule: (operation, context) =>
    context.schedule(operation["name"], operation["handler"], only(operation, TIMING) as Timing, operation["payload"]),

  unschedule: (operation, context) => context.unschedule(operation["name"]),
};

// Own memory

type MapName = "map" | "scratch" | "bounded";

const OWN: Readonly<Record<string, (agent: Interpreter, operation: Operation) => unknown>> = {
  get: (agent, { memory: name, key, value }) => {
    switch (name) {
      case "value":
        return agent.value ?? undefined;
      case "set":
        return agent.set.has(value);
      case "list":
        return agent.list.at(key);
      default:
        return agent[name as MapName].get(key);
    }
  },

  put: (agent, { memory: name, key, value = null }) => {
    if (name === "value") {
      agent.value = value;
    } else if (name === "list") {
      agent.list[key < 0 ? key + agent.list.length : key] = value;
    } else {
      agent[name as MapName].set(key, value);
    }
  },

  remove: (agent, { memory: name, key, value }) => {
    if (name === "value") {
      agent.value = null;
    } else if (name === "set") {
      agent.set.delete(value);
    } else if (name === "list") {
      agent.list.splice(key, 1);
    } else {
      agent[name as MapName].delete(key);
    }
  },

  clear: (agent, { memory: name }) => {
    if (name === "value") {
      agent.value = null;
    } else if (name === "list") {
      agent.list.length = 0;
    } else {
      agent[name as MapName | "set"].clear();
    }
  },

  append: (agent, { value = null }) => void agent.list.push(value),

  add: (agent, { value }) => void agent.set.add(value),

  length: (agent, { memory: name }) => (name === "list" ? agent.list.length : agent[name as MapName | "set"].size),

  all: (agent, { memory: name }) => {
    if (name === "value") {
      return agent.value ?? undefined;
    }
    return [...agent[name as MapName | "set" | "list"]];
  },

  expire: (agent, { memory: name, key, value, after_ms: afterMs }) => {
    if (name === "value") {
      expire(agent, "value", afterMs);
    } else if (name === "set") {
      expire(agent.set, value, afterMs);
    } else if (name === "list") {
      expire(agent.list, key, afterMs);
    } else {
      expire(agent[name as MapName], key, afterMs);
    }
  },
};
