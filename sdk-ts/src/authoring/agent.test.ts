// Agents by decorators and by defineAgent: what they become, and what their handlers get.

import { describe, expect, test } from "vitest";
import { z } from "zod";
import { AmxError, DefinitionError, HandlerError } from "../errors.js";
import { HandlerExecution } from "../gen/amx/v1/agent_pb.js";
import {
  Agent,
  type Context,
  capability,
  defineAgent,
  handler,
  memory,
  ProcessingResult,
  remember,
  requiresPermission,
  scheduled,
  subscribe,
} from "./index.js";
import { Runner } from "./run.fixture.js";
import { agentSpecOf } from "./spec.js";

interface Conversation {
  messages: { role: string; at: Date | string }[];
}

@Agent({ name: "Chat", version: "3.0.0", groups: "people", labels: { tier: "gold" } })
class Chat {
  @memory({ persistent: true, ttl: "24h" })
  private history: Map<string, Conversation> = new Map();

  @memory({ persistent: true })
  private total = 0;

  @handler
  async say(message: { user: string; text: string }): Promise<{ count: number }> {
    const conversation = this.history.get(message.user) || { messages: [] };
    conversation.messages.push({ role: "user", at: new Date(0) });
    this.history.set(message.user, conversation);
    this.total += 1;
    return { count: conversation.messages.length };
  }

  @handler({ name: "fail_it", retry: 3, timeout: "5s", permissions: "chat:fail" })
  async fail(): Promise<void> {
    this.total += 10;
    this.history.clear();
    throw new HandlerError("no", { reason: "NO" });
  }

  @handler({ default: true })
  count(): number {
    return this.total;
  }

  @subscribe("orders.*", { filter: "region = eu" })
  @requiresPermission("orders:read")
  async order(): Promise<void> {}

  @scheduled({ cron: "0 30 6 * * MON-FRI", zone: "Europe/Berlin", missed: "skip" })
  async mornings(): Promise<void> {}

  @handler
  async *words(text: string) {
    yield* text.split(" ");
  }
}

describe("a decorated class", () => {
  test("becomes a complete definition", () => {
    const { definition } = agentSpecOf(Chat);
    expect(definition).toMatchObject({
      name: "Chat",
      version: "3.0.0",
      groups: ["people"],
      labels: { tier: "gold" },
      defaultHandler: "count",
      memories: [
        { name: "history", kind: 2, persistent: true, ttlMs: 86_400_000n },
        { name: "total", kind: 1, persistent: true },
      ],
      schedules: [
        {
          name: "mornings",
          handler: "mornings",
          timing: { case: "cron", value: "0 30 6 * * MON-FRI" },
          timeZone: "Europe/Berlin",
          missed: 1,
        },
      ],
    });
    const byName = Object.fromEntries(definition.handlers.map((one) => [one.name, one]));
    expect(Object.keys(byName)).toEqual(["say", "fail_it", "count", "order", "mornings", "words"]);
    expect(byName["fail_it"]).toMatchObject({
      timeoutMs: 5000n,
      permissions: ["chat:fail"],
      retry: { maxAttempts: 3 },
    });
    expect(byName["order"]).toMatchObject({
      permissions: ["orders:read"],
      subscriptions: [{ pattern: "orders.*", filter: "region = eu", handler: "order" }],
    });
    expect(byName["words"]).toMatchObject({ streaming: true });
  });

  test("runs with tracked memory, undone when the handler fails", async () => {
    const chat = new Runner(Chat);
    expect(await chat.run("say", { user: "ada", text: "hi" })).toEqual({ count: 1 });
    expect(chat.changes).toEqual([
      'history put "ada" {"messages":[{"role":"user","at":"1970-01-01T00:00:00Z"}]} +86400000',
      "total put  1",
    ]);
    await expect(chat.run("fail_it")).rejects.toMatchObject({ reason: "NO" });
    expect(await chat.run("count")).toBe(1);
    expect(await chat.run("say", { user: "ada", text: "again" })).toEqual({ count: 2 });
    expect(await chat.run("words", "a b")).toEqual(["a", "b"]);
  });

  test("as an object: each instance gets its own memory, and shares what else it holds", async () => {
    @Agent
    class Shop {
      @memory seen: string[] = [];
      constructor(readonly database: { reads: number }) {}

      @handler
      visit(who: string): [number, number] {
        this.seen.push(who);
        this.database.reads += 1;
        return [this.seen.length, this.database.reads];
      }
    }
    const shop = new Shop({ reads: 0 });
    const [one, other] = [new Runner(shop), new Runner(shop)];
    expect(await one.run("visit", "a")).toEqual([1, 1]);
    expect(await other.run("visit", "b")).toEqual([1, 2]);
    expect(shop.seen).toEqual([]);
    expect(() => agentSpecOf(Shop)).toThrow(/cannot be constructed without arguments/);
  });

  test("with #private members and accessors", async () => {
    @Agent
    class Hidden {
      @memory({ persistent: true }) #seen = new Set<string>();
      @memory({ persistent: true }) accessor total = 0;
      #plain = 1;

      @handler
      see(what: string): number {
        this.#seen.add(what);
        this.total += this.#plain;
        return this.#seen.size + this.total;
      }
    }
    const hidden = new Runner(Hidden);
    expect(await hidden.run("see", "a")).toBe(2);
    expect(hidden.changes.sort()).toEqual(['seen put "a"', "total put  1"]);
    expect(new Hidden().total).toBe(0);
  });

  test("an object whose #private members could not be copied is refused; its class is not", async () => {
    @Agent
    class Secret {
      #count = 0;

      @handler
      next(): number {
        this.#count += 1;
        return this.#count;
      }
    }
    expect(() => agentSpecOf(new Secret())).toThrow(/Secret has #private members, which cannot be copied/);
    expect(await new Runner(Secret).run("next")).toBe(1);
  });

  test("can be tried as a plain object", async () => {
    const plain = new Chat();
    await plain.say({ user: "ada", text: "hi" });
    expect(plain.count()).toBe(1);
  });

  test("refuses what cannot be, naming the culprit", () => {
    class Undecorated {}
    expect(() => agentSpecOf(Undecorated)).toThrow(DefinitionError);
    class Sub extends Chat {}
    expect(() => agentSpecOf(Sub)).toThrow(/Sub is no agent; decorate it with @Agent/);
    @Agent
    class Empty {}
    expect(() => agentSpecOf(Empty)).toThrow(/Empty has no handlers/);
    @Agent({ version: "one" })
    class BadVersion {
      @handler run(): void {}
    }
    expect(() => agentSpecOf(BadVersion)).toThrow(/semantic version/);
    expect(() => {
      // What compilers do with experimentalDecorators on.
      (handler as unknown as (target: object, key: string, descriptor: object) => void)({}, "run", {});
    }).toThrow(/turn experimentalDecorators off/);
  });

  test("a subclass inherits handlers and memories", async () => {
    @Agent({ name: "Quiet" })
    class Quiet extends Chat {
      @handler
      override count(): number {
        return -1;
      }
    }
    const quiet = new Runner(Quiet);
    await quiet.run("say", { user: "x", text: "" });
    expect(await quiet.run("count")).toBe(-1);
    expect(quiet.spec.definition.name).toBe("Quiet");
    expect(agentSpecOf(Chat).definition.defaultHandler).toBe("count");
  });

  test("a capability is built once for all instances, and disposed of at the end", async () => {
    let built = 0;
    let closed = 0;
    @Agent
    class Search {
      @capability
      async index(): Promise<{ words: string[]; close(): void }> {
        built += 1;
        return {
          words: ["amx"],
          close: () => {
            closed += 1;
          },
        };
      }

      @capability
      get answer(): number {
        built += 1;
        return 42;
      }

      @handler
      async find(): Promise<unknown> {
        return [(await this.index()).words, this.answer];
      }
    }
    expect(await new Runner(Search).run("find")).toEqual([["amx"], 42]);
    expect(await new Runner(Search).run("find")).toEqual([["amx"], 42]);
    expect(built).toBe(2);
    expect(agentSpecOf(Search).definition.capabilities).toEqual(["index", "answer"]);
    await agentSpecOf(Search).close?.();
    expect(closed).toBe(1);
  });
});

describe("where a handler runs", () => {
  const agentWith = (execution: string) =>
    defineAgent({
      name: "Placed",
      handlers: (on) => ({
        unsaid: on({}, () => 1),
        said: on({ execution: execution as "loop" }, () => 1),
      }),
    });

  test("is in its definition", () => {
    const [unsaid, said] = agentSpecOf(agentWith("loop")).definition.handlers;
    expect(unsaid?.execution).toBe(HandlerExecution.UNSPECIFIED);
    expect(said?.execution).toBe(HandlerExecution.LOOP);
  });

  test.each(["thread", "process"])("cannot be a %s, which is said with the cure", (execution) => {
    expect(() => agentSpecOf(agentWith(execution))).toThrow(DefinitionError);
    expect(() => agentSpecOf(agentWith(execution))).toThrow(/Placed\.said: execution.*await it with Threads/);
  });
});

describe("defineAgent", () => {
  const Greeter = defineAgent({
    name: "Greeter",
    memory: {
      counts: remember(() => new Map<string, number>(), { persistent: true }),
      total: remember(() => 0, { persistent: true }),
    },
    handlers: (on) => ({
      greet: on({ input: z.object({ name: z.string() }) }, async ({ name }, { memory }) => {
        memory.counts.set(name, (memory.counts.get(name) ?? 0) + 1);
        memory.total += 1;
        return `Hello, ${name}! ${memory.counts.get(name)}`;
      }),
      count: on(async function* (to: number) {
        for (let i = 0; i < to; i += 1) {
          yield i;
        }
      }),
      send: on(async (_: undefined, context) => {
        context.send("Other/key", { a: 1 }, { delay: "5s", priority: "high" });
        context.publish("news.local", "rain", { attributes: { region: "eu" } });
        context.schedule("later", "greet", { after: "3d" }, { name: "Ada" });
        return ProcessingResult.warning("careful", 1);
      }),
    }),
  });

  test("runs, with memory and effects", async () => {
    const greeter = new Runner(Greeter);
    expect(await greeter.run("greet", { name: "Ada" })).toBe("Hello, Ada! 1");
    expect(greeter.changes).toEqual(['counts put "Ada" 1', "total put  1"]);
    expect(await greeter.run("count", 3)).toEqual([0, 1, 2]);
    const result = (await greeter.run("send")) as ProcessingResult;
    expect([result.status, result.message, result.data]).toEqual(["warning", "careful", 1]);
    expect(greeter.effects).toMatchObject({
      messages: [{ agent: "Other", key: "key", delayMs: 5000, priority: 2 }],
      events: [{ topic: "news.local", attributes: { region: "eu" } }],
      schedules: [{ name: "later", handler: "greet", onceAfterMs: 259_200_000, key: "key" }],
    });
  });

  test("refuses what does not fit its schema, naming the field", async () => {
    const error = await new Runner(Greeter).run("greet", { name: 5 }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(AmxError);
    expect(error).toMatchObject({ reason: "INVALID_INPUT", metadata: { field: "name", handler: "greet" } });
  });

  test("tells the engine the JSON Schema that the library offers", () => {
    const [greet] = new Runner(Greeter).spec.definition.handlers;
    expect(JSON.parse(greet?.inputSchema ?? "")).toMatchObject({ type: "object", required: ["name"] });
  });
});

test("a context is typed by the memories of its agent", () => {
  const check = (context: Context<{ total: number }>): number => context.memory.total;
  expect(check).toBeTypeOf("function");
});

describe("a supervisor", () => {
  test("declares its children in order of start", () => {
    @Agent({
      supervisor: {
        children: [{ agent: "Database" }, { agent: "Session", key: "*", restart: "transient", onRestart: "wake_up" }],
        strategy: "rest_for_one",
        maxRestarts: 7,
        within: "1m",
        maxBackoff: 10_000,
      },
    })
    class Shop {
      @handler
      async status(): Promise<string> {
        return "open";
      }
    }
    expect(agentSpecOf(Shop).definition.supervisor).toMatchObject({
      strategy: 3,
      children: [
        { agent: "Database", key: "default", restart: 1, onRestart: "" },
        { agent: "Session", key: "*", restart: 2, onRestart: "wake_up" },
      ],
      maxRestarts: 7,
      withinMs: 60_000n,
      maxBackoffMs: 10_000n,
    });
  });

  test("is absent where nobody is supervised", () => {
    expect(agentSpecOf(Chat).definition.supervisor).toBeUndefined();
  });

  test.each([
    [{ children: [] }, /needs children/],
    [{ children: [{ agent: "" }] }, /names no agent/],
    [{ children: [{ agent: "Cart" }], maxRestarts: 0 }, /use 1 or more/],
    [{ children: [{ agent: "Cart" }], strategy: "all" as "one_for_all" }, /one_for_one, one_for_all, rest_for_one/],
    [{ children: [{ agent: "Cart", restart: "always" as "permanent" }] }, /permanent, transient, temporary/],
  ])("that cannot be is refused and says how it could: %o", (supervisor, complaint) => {
    const made = () =>
      agentSpecOf(defineAgent({ name: "Shop", supervisor, handlers: (on) => ({ status: on(async () => "open") }) }));
    expect(made).toThrow(DefinitionError);
    expect(made).toThrow(complaint);
  });
});
