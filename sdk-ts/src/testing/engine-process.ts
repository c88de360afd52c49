// A real engine, as a process of its own, for tests. Needs Node, and the engine: `pip install amx-engine`.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const READY_MS = 120_000;
const STOP_MS = 10_000;
const READ_MS = 1_000;
const LISTENING = /^amx engine: gRPC on (\S+:\d+)/;

/** How an engine is started. */
export interface EngineProcessOptions {
  /** The command that starts it, with its first arguments; `AMX_COMMAND` (split at spaces), or `amx`, unless given. */
  command?: readonly string[];
  /** Where it stores; in a temporary folder, which is removed at the end, unless given. */
  dataDir?: string;
  /** Sections of its configuration besides. */
  config?: Readonly<Record<string, unknown>>;
  /** Its output, line by line. */
  onLine?: (line: string) => void;
}

/** An engine that runs. */
export class EngineProcess {
  private constructor(
    /** `host:port`, for `withAddress`. */
    readonly address: string,
    private readonly child: ChildProcess,
    private readonly folder: string,
    private readonly ended: Promise<void>,
  ) {}

  /** Starts an engine, and resolves when it takes links. Rejects, with its last lines, if it does not within 2 minutes. */
  static async start(options: EngineProcessOptions = {}): Promise<EngineProcess> {
    const [program = "amx", ...first] = options.command ?? process.env["AMX_COMMAND"]?.split(" ") ?? ["amx"];
    const folder = await mkdtemp(join(tmpdir(), "amx-"));
    const config = {
      http: { enabled: false },
      logging: { level: "warning" },
      ...options.config,
      grpc: { port: 0 }, // any that is free; it says which
      storage: { path: join(options.dataDir ?? folder, "amx.db") },
    };
    await writeFile(join(folder, "engine.json"), JSON.stringify(config));
    const child = spawn(program, [...first, "serve", "--config", join(folder, "engine.json")], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const lines: string[] = [];
    const listening = new Promise<string>((resolve) => {
      for (const stream of [child.stdout, child.stderr]) {
        createInterface({ input: stream }).on("line", (line) => {
          lines.push(line);
          lines.splice(0, lines.length - 20);
          const address = LISTENING.exec(line)?.[1];
          if (address !== undefined) resolve(address);
          options.onLine?.(line);
        });
      }
    });
    let over: string | undefined;
    const ended = new Promise<void>((resolve) => {
      child.once("error", (error) => {
        over = error.message;
        resolve();
      });
      child.once("exit", (code, signal) => {
        over = `it ended with ${signal ?? code}`;
        resolve();
      });
    });
    const read = new Promise<void>((resolve) => child.once("close", () => resolve()));
    const address = await Promise.race([listening, ended, after(READY_MS)]);
    const engine = new EngineProcess(address ?? "", child, folder, ended);
    if (address === undefined) {
      const why = over ?? "no answer in time";
      await engine.kill();
      await Promise.race([read, after(READ_MS)]); // what it said last, unless something it started holds the pipe open
      throw new Error(`the engine did not start: ${why}\n${lines.join("\n")}`);
    }
    return engine;
  }

  /** Stops it politely; kills it if it does not stop within 10 s. */
  async stop(): Promise<void> {
    this.child.kill("SIGTERM");
    const killer = setTimeout(() => this.child.kill("SIGKILL"), STOP_MS);
    await this.ended;
    clearTimeout(killer);
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Ends it without a word, as a crash would. Its data stay if `dataDir` was given. */
  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Resolves then; keeps no process alive. */
function after(ms: number): Promise<undefined> {
  return new Promise((resolve) => setTimeout(resolve, ms, undefined).unref());
}
