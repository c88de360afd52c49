// Computing beside the event loop: real threads.

import { afterEach, expect, test } from "vitest";
import { Threads } from "../../src/index.js";

interface Routes {
  shortest(stops: number[]): number[];
  spin(flag: Int32Array): number;
  which(): number;
  fail(): void;
  leave(): void;
  uncopied(): unknown;
}

const MODULE = new URL("./routes.mjs", import.meta.url);
const made: Threads<Routes>[] = [];

function threads(options: { threads?: number; queue?: number } = {}, module: URL | string = MODULE): Threads<Routes> {
  const pool = new Threads<Routes>(module, options);
  made.push(pool);
  return pool;
}

function flag(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(4));
}

function release(what: Int32Array): void {
  Atomics.store(what, 0, 1);
}

afterEach(async () => {
  await Promise.all(made.splice(0).map((pool) => pool.close()));
});

test("a function runs on a thread and its result comes back", async () => {
  expect(await threads().run("shortest", [[3, 1, 2]])).toEqual([1, 2, 3]);
  expect(await threads({}, MODULE.pathname).run("which", [])).toBeGreaterThan(0);
});

test("the event loop goes on while threads compute, and as many compute as there are threads", async () => {
  const pool = threads({ threads: 2 });
  const done = flag();
  const computing = [pool.run("spin", [done]), pool.run("spin", [done])];
  await new Promise((resolve) => setTimeout(resolve, 0)); // a turn of the loop
  release(done);
  expect(new Set(await Promise.all(computing)).size).toBe(2);
});

test("calls wait for a thread in their order, and those beyond the queue are refused by name", async () => {
  const pool = threads({ threads: 1, queue: 2 });
  const done = flag();
  const first = pool.run("spin", [done]);
  const order: number[] = [];
  const waiting = [1, 2].map((n) => pool.run("shortest", [[n]]).then(() => order.push(n)));
  await expect(pool.run("which", [])).rejects.toMatchObject({ reason: "THREADS_BUSY", retryable: true });
  release(done);
  await Promise.all([first, ...waiting]);
  expect(order).toEqual([1, 2]);
});

test("what a function throws reaches the caller with its fields", async () => {
  const pool = threads();
  await expect(pool.run("fail", [])).rejects.toMatchObject({
    name: "RangeError",
    message: "no road leads there",
    reason: "NO_ROAD",
    from: ["A"],
  });
  expect(await pool.run("shortest", [[1]])).toEqual([1]);
});

test("an abort ends a function in the middle of its loop, and the next call gets a new thread", async () => {
  const pool = threads({ threads: 1 });
  const before = await pool.run("which", []);
  const aborting = new AbortController();
  const endless = pool.run("spin", [flag()], { signal: aborting.signal });
  const behind = pool.run("which", []);
  aborting.abort(new Error("too late"));
  await expect(endless).rejects.toThrow("too late");
  expect(await behind).not.toBe(before);
});

test("an abort forgets a call that waits and leaves the others alone", async () => {
  const pool = threads({ threads: 1 });
  const done = flag();
  const first = pool.run("spin", [done]);
  const aborting = new AbortController();
  const second = pool.run("shortest", [[1]], { signal: aborting.signal });
  aborting.abort(new Error("never mind"));
  await expect(second).rejects.toThrow("never mind");
  release(done);
  expect(await first).toBe(await pool.run("which", []));
  await expect(pool.run("which", [], { signal: aborting.signal })).rejects.toThrow("never mind");
});

test("a thread that ends under its call fails it by name and is replaced", async () => {
  const pool = threads({ threads: 1 });
  await expect(pool.run("leave", [])).rejects.toMatchObject({ reason: "THREAD_ENDED", retryable: true });
  expect(await pool.run("shortest", [[1]])).toEqual([1]);
});

test("what cannot be copied fails its own call only", async () => {
  const pool = threads({ threads: 1 });
  await expect(pool.run("uncopied", [])).rejects.toThrow(/could not be cloned/);
  await expect(pool.run("shortest", [[() => 1] as unknown as number[]])).rejects.toThrow(/could not be cloned/);
  expect(await pool.run("shortest", [[1]])).toEqual([1]);
});

test("a function that is not exported, and a module that is not there, are named", async () => {
  await expect(threads().run("missing" as "which", [])).rejects.toThrow(/no function 'missing'; it exports fail/);
  await expect(threads({}, new URL("./nowhere.mjs", MODULE)).run("which", [])).rejects.toThrow(/nowhere\.mjs/);
});

test("closing ends what runs and what waits", async () => {
  const pool = threads({ threads: 1 });
  const outcomes = Promise.allSettled([pool.run("spin", [flag()]), pool.run("which", [])]);
  await pool.close();
  for (const outcome of await outcomes) {
    expect(outcome).toMatchObject({ status: "rejected", reason: { reason: "THREADS_CLOSED" } });
  }
  await expect(pool.run("which", [])).rejects.toMatchObject({ reason: "THREADS_CLOSED" });
});

test("numbers that make no sense are refused when the pool is made", () => {
  expect(() => threads({ threads: 0 })).toThrow(/threads is 0/);
  expect(() => threads({ queue: -1 })).toThrow(/queue is -1/);
});
