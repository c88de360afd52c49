// Functions of a module, run on threads: what computes for long, without holding up the event loop and its heartbeats.

import { availableParallelism } from "node:os";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { AmxError, Code, DefinitionError } from "../errors.js";

/** What each thread runs: imports the module once, then calls its functions, one at a time. */
const BOOTSTRAP = `
const { parentPort, workerData } = require("node:worker_threads");
const plain = (error) => {
  if (!(error instanceof Error)) return { message: String(error), name: "Error", own: {} };
  const own = {};
  for (const [key, value] of Object.entries(error)) {
    try { own[key] = structuredClone(value); } catch {}
  }
  return { message: error.message, name: error.name, stack: error.stack, own };
};
const loaded = import(workerData);
loaded.catch(() => {});
parentPort.on("message", async ({ name, args }) => {
  let outcome;
  try {
    const module = await loaded;
    if (typeof module[name] !== "function") {
      const names = Object.keys(module).filter((key) => typeof module[key] === "function");
      throw new TypeError(workerData + " exports no function '" + name + "'; it exports " + (names.join(", ") || "none"));
    }
    outcome = { value: await module[name](...args) };
  } catch (error) {
    outcome = { error: plain(error) };
  }
  try {
    parentPort.postMessage(outcome);
  } catch (error) {
    parentPort.postMessage({ error: plain(error) });
  }
});
`;

const DEFAULT_QUEUE = 1000;

/** How many threads, and how many calls may wait for one. */
export interface ThreadsOptions {
  /** At most this many; one for each core but one, at least one, unless given. They start when they are needed. */
  threads?: number;
  /** Calls that may wait for a thread, 1,000 unless given; beyond it `run` rejects with THREADS_BUSY. */
  queue?: number;
}

type Functions<M> = { [K in keyof M]: M[K] extends (...args: never[]) => unknown ? K : never }[keyof M] & string;
type Arguments<F> = F extends (...args: infer A) => unknown ? A : never;
type Result<F> = F extends (...args: never[]) => infer R ? Awaited<R> : never;

interface Call {
  readonly name: string;
  readonly args: readonly unknown[];
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

interface Outcome {
  readonly value?: unknown;
  readonly error?: { message: string; name: string; stack?: string; own: Record<string, unknown> };
}

/**
 * The functions of one module on a bounded pool of threads (`worker_threads`).
 *
 *     import type * as routes from "./routes.js";
 *     const threads = new Threads<typeof routes>(new URL("./routes.js", import.meta.url));
 *     await threads.run("shortest", [stops], { signal: context.signal });
 *
 * Arguments and results are copied as `structuredClone` does. The module is imported by each thread for itself: nothing
 * is shared, and an agent's memory stays where the agent is. Idle threads keep no process alive.
 */
export class Threads<M extends object = Record<string, (...args: never[]) => unknown>> {
  private readonly module: string;
  private readonly most: number;
  private readonly longest: number;
  private readonly idle: Worker[] = [];
  private readonly waiting: Call[] = [];
  private readonly all = new Set<Worker>();
  private closed = false;

  /** module: URL, or absolute path, of what is imported. Throws DefinitionError for numbers that make no sense. */
  constructor(module: URL | string, options: ThreadsOptions = {}) {
    this.module = (module instanceof URL ? module : pathToFileURL(module)).href;
    this.most = options.threads ?? Math.max(1, availableParallelism() - 1);
    this.longest = options.queue ?? DEFAULT_QUEUE;
    if (!(Number.isInteger(this.most) && this.most >= 1)) {
      throw new DefinitionError(`Threads: threads is ${this.most}; use a whole number, 1 or more`);
    }
    if (!(Number.isInteger(this.longest) && this.longest >= 0)) {
      throw new DefinitionError(`Threads: queue is ${this.longest}; use a whole number, 0 or more`);
    }
  }

  /**
   * Calls an exported function on a thread and resolves with what it returns.
   *
   * Rejects with what it throws (name, message, stack and own fields are kept, the class is not); with AmxError
   * THREADS_BUSY if too many calls wait, THREAD_ENDED if its thread ended under it, THREADS_CLOSED after `close`; and
   * with the signal's reason when it is aborted: a call that waits is forgotten then, one that runs is ended with its
   * thread, even in the middle of a loop.
   */
  async run<K extends Functions<M>>(
    name: K,
    args: Arguments<M[K]>,
    options: { signal?: AbortSignal } = {},
  ): Promise<Result<M[K]>> {
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.closed) {
      throw closed();
    }
    let stop: (() => void) | undefined;
    try {
      return await new Promise<Result<M[K]>>((resolve, reject) => {
        const call: Call = { name, args: args as unknown[], resolve: resolve as Call["resolve"], reject };
        stop = () => this.cancel(call, signal?.reason);
        signal?.addEventListener("abort", stop, { once: true });
        this.place(call);
      });
    } finally {
      if (stop !== undefined) signal?.removeEventListener("abort", stop);
    }
  }

  /** Ends every thread at once. What runs or waits rejects with THREADS_CLOSED. */
  async close(): Promise<void> {
    this.closed = true;
    for (const call of this.waiting.splice(0)) {
      call.reject(closed());
    }
    await Promise.all([...this.all].map((thread) => this.end(thread, closed())));
  }

  private readonly running = new Map<Worker, Call>();

  private place(call: Call): void {
    const thread = this.idle.pop() ?? (this.all.size < this.most ? this.start() : undefined);
    if (thread !== undefined) {
      this.give(thread, call);
    } else if (this.waiting.length < this.longest) {
      this.waiting.push(call);
    } else {
      call.reject(
        new AmxError(
          Code.RESOURCE_EXHAUSTED,
          "THREADS_BUSY",
          `${this.most} threads are busy and ${this.waiting.length} calls wait for one, no more are taken; ask less often, or raise threads or queue`,
          { retryable: true },
        ),
      );
    }
  }

  private give(thread: Worker, call: Call): void {
    this.running.set(thread, call);
    thread.ref();
    try {
      thread.postMessage({ name: call.name, args: call.args });
    } catch (error) {
      this.running.delete(thread); // an argument cannot be copied
      call.reject(error);
      this.free(thread);
    }
  }

  private free(thread: Worker): void {
    const next = this.waiting.shift();
    if (next !== undefined) {
      this.give(thread, next);
    } else {
      thread.unref();
      this.idle.push(thread);
    }
  }

  private start(): Worker {
    const thread = new Worker(BOOTSTRAP, { eval: true, workerData: this.module });
    this.all.add(thread);
    thread.on("message", (outcome: Outcome) => {
      const call = this.running.get(thread);
      this.running.delete(thread);
      if (outcome.error === undefined) {
        call?.resolve(outcome.value);
      } else {
        const { message, name, stack, own } = outcome.error;
        call?.reject(Object.assign(new Error(message), own, { name }, stack === undefined ? {} : { stack }));
      }
      if (this.all.has(thread)) this.free(thread);
    });
    let why = "";
    thread.on("error", (error) => {
      why = `: ${error.message}`;
    });
    thread.on("exit", (code) => {
      this.forget(
        thread,
        new AmxError(
          Code.INTERNAL,
          "THREAD_ENDED",
          `the thread that ran a function of ${this.module} ended with exit code ${code}${why}`,
          { retryable: true },
        ),
      );
    });
    return thread;
  }

  private cancel(call: Call, reason: unknown): void {
    const at = this.waiting.indexOf(call);
    if (at >= 0) {
      this.waiting.splice(at, 1);
    }
    for (const [thread, running] of this.running) {
      if (running === call) {
        void this.end(thread, reason); // a thread that computes hears nothing
      }
    }
    call.reject(reason);
  }

  private async end(thread: Worker, reason: unknown): Promise<void> {
    this.forget(thread, reason);
    await thread.terminate();
  }

  /** The thread is of no use any more: its call fails, and another takes the next one. */
  private forget(thread: Worker, reason: unknown): void {
    this.running.get(thread)?.reject(reason);
    this.running.delete(thread);
    if (!this.all.delete(thread)) {
      return;
    }
    const at = this.idle.indexOf(thread);
    if (at >= 0) {
      this.idle.splice(at, 1);
    }
    const next = this.closed ? undefined : this.waiting.shift();
    if (next !== undefined) {
      this.place(next);
    }
  }
}

function closed(): AmxError {
  return new AmxError(Code.FAILED_PRECONDITION, "THREADS_CLOSED", "these threads were closed; make new ones");
}
