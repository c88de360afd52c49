// AmxEngine against several engines behind one address, `amx serve --workers`.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AmxEngine, defineAgent, nodeEnvironment, remember, Scope } from "../../src/index.js";
import { ownerOf } from "../../src/protocol/ownership.js";
import { EngineProcess, engineInstalled } from "../support/engine-process.js";

const Counter = defineAgent({
  name: "Counter",
  memory: { total: remember(() => 0, { persistent: true }) },
  handlers: (on) => ({
    add: on({ default: true }, (amount, { memory }) => {
      memory.total += Number(amount);
      return memory.total;
    }),
    count: on(async function* (to) {
      for (let number = 0; number < Number(to); number++) yield number;
    }),
    heard: on({ topics: "news.*" }, () => undefined),
  }),
});

/** A key whose instance that engine, of two, owns. */
function keyOf(engine: number): string {
  for (let number = 0; ; number++)
    if (ownerOf("default", "Counter", `key-${number}`, 2) === engine) return `key-${number}`;
}

describe.runIf(engineInstalled)("several engines", () => {
  let process: EngineProcess;
  let worker: AmxEngine;
  let client: AmxEngine;

  beforeAll(async () => {
    process = await EngineProcess.start({}, ["--workers", "2"]);
    const builder = (): ReturnType<typeof AmxEngine.builder> =>
      AmxEngine.builder()
        .withAddress(process.address)
        .withEnvironment(nodeEnvironment(() => undefined));
    worker = builder().withAgent(Counter).build();
    await worker.start();
    client = builder().build();
    await client.start();
  });

  afterAll(async () => {
    await client?.stop();
    await worker?.stop();
    await process?.stop();
  });

  it("hosts on all of them and calls the owner", async () => {
    for (const key of [keyOf(0), keyOf(1)]) {
      expect(await client.request("Counter", 3, { key })).toBe(3);
      expect(await client.request("Counter", 4, { key })).toBe(7);
      expect(await client.memory("Counter", key).get("total")).toBe(7);
      const numbers: unknown[] = [];
      for await (const number of client.stream("Counter", 100, { key, handler: "count" })) numbers.push(number);
      expect(numbers).toHaveLength(100);
    }
  });

  it("reaches the instances of all with events and broadcasts", async () => {
    await Promise.all([keyOf(0), keyOf(1)].map((key) => client.request("Counter", 0, { key })));
    const outcome = await client.broadcast(Scope.agent("Counter"), 0);
    expect(outcome.succeeded).toBeGreaterThanOrEqual(2);
    for (const key of [keyOf(0), keyOf(1)]) {
      expect((await client.publish("news.today", "hello", { key })).subscribers).toBe(1);
    }
  });
});
