// A real engine, as `amx serve` runs it, for tests; and a wire to it that can be cut.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const repository = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));
const command = join(repository, ".venv", "bin", "amx");

/** Whether there is an engine to test with: `make setup` installs it. */
export const engineInstalled = existsSync(command);

const STARTUP_MS = 120_000;
const LISTENING = /^amx engine: gRPC on \S+:(\d+).*\n/m;

/** One engine, on a port and a store of its own. */
export class EngineProcess {
  address = "";
  /** Where it stores; gone with `stop`. */
  readonly folder = mkdtempSync(join(tmpdir(), "amx-ts-"));
  private process: ChildProcess | undefined;
  private output = "";

  private readonly options: readonly string[];

  private constructor(
    private port: number, // 0: any that is free; the first run says which
    private readonly settings: Record<string, unknown>,
    options: readonly string[],
  ) {
    this.options = options;
  }

  /** A running engine. settings: sections of its configuration. options: more of its command line. */
  static async start(settings: Record<string, unknown> = {}, options: readonly string[] = []): Promise<EngineProcess> {
    // Several engines share a port that their parent must know beforehand.
    const engine = new EngineProcess(options.includes("--workers") ? await freePort() : 0, settings, options);
    await engine.run();
    return engine;
  }

  /** Ends without a word. */
  async kill(): Promise<void> {
    await this.end("SIGKILL");
  }

  /** Runs again, on the same store. */
  async run(): Promise<void> {
    const { grpc, ...others } = this.settings;
    const config = {
      grpc: { port: this.port, ...(grpc as object | undefined) },
      http: { enabled: false },
      storage: { path: join(this.folder, "amx.db") },
      logging: { level: "warning" },
      ...others,
    };
    writeFileSync(join(this.folder, "amx-config.yaml"), JSON.stringify(config));
    const child = spawn(command, ["serve", "--config", join(this.folder, "amx-config.yaml"), ...this.options], {
      cwd: this.folder,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.process = child;
    this.output = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (data) => (this.output += String(data)));
    const until = Date.now() + STARTUP_MS;
    while (!LISTENING.test(this.output)) {
      if (child.exitCode !== null || Date.now() > until) throw new Error(`the engine did not start:\n${this.output}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    this.port = Number(LISTENING.exec(this.output)?.[1]);
    this.address = `127.0.0.1:${this.port}`;
  }

  async stop(): Promise<void> {
    await this.end("SIGTERM");
    rmSync(this.folder, { recursive: true, force: true });
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.process;
    this.process = undefined;
    if (child === undefined || child.exitCode !== null) return;
    await new Promise((resolve) => {
      child.once("exit", resolve);
      child.kill(signal);
    });
  }
}

/** Passes bytes on between a worker and an engine, until it is cut. */
export class Cable {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.server = server;
  }

  /** A cable to that address. */
  static async to(address: string): Promise<Cable> {
    const [host, port] = address.split(":") as [string, string];
    const server = createServer((near) => {
      const far = connect(Number(port), host);
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        cable.sockets.add(one);
        one.pipe(other);
        one.on("error", () => other.destroy());
        one.on("close", () => {
          cable.sockets.delete(one);
          other.destroy();
        });
      }
    });
    const cable = new Cable(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return cable;
  }

  get address(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Ends every connection; new ones get through. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  close(): void {
    this.cut();
    this.server.close();
  }
}

/** Waits until `check` holds, or fails after a minute. */
export async function until(check: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 60_000;
  while (!check()) {
    if (Date.now() > end) throw new Error(`did not happen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
