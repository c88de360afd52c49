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

const STARTUP_MS = 30_000;

/** One engine, on a port and a store of its own. */
export class EngineProcess {
  readonly address: string;
  /** Where it stores; gone with `stop`. */
  readonly folder = mkdtempSync(join(tmpdir(), "amx-ts-"));
  private readonly port: number;
  private process: ChildProcess | undefined;
  private output = "";

  private readonly options: readonly string[];

  private constructor(port: number, settings: Record<string, unknown>, options: readonly string[]) {
    this.port = port;
    this.options = options;
    this.address = `127.0.0.1:${port}`;
    const config = {
      grpc: { port, ...(settings["grpc"] as object | undefined) },
      http: { enabled: false },
      storage: { path: join(this.folder, "amx.db") },
      logging: { level: "warning" },
      ...Object.fromEntries(Object.entries(settings).filter(([name]) => name !== "grpc")),
    };
    writeFileSync(join(this.folder, "amx-config.yaml"), JSON.stringify(config));
  }

  /** A running engine. settings: sections of its configuration. options: more of its command line. */
  static async start(settings: Record<string, unknown> = {}, options: readonly string[] = []): Promise<EngineProcess> {
    const engine = new EngineProcess(await freePort(), settings, options);
    await engine.run();
    return engine;
  }

  /** Ends without a word. */
  async kill(): Promise<void> {
    await this.end("SIGKILL");
  }

  /** Runs again, on the same store. */
  async run(): Promise<void> {
    const child = spawn(command, ["serve", "--config", join(this.folder, "amx-config.yaml"), ...this.options], {
      cwd: this.folder,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.process = child;
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (data) => (this.output += String(data)));
    const until = Date.now() + STARTUP_MS;
    while (!(await reachable(this.port))) {
      if (child.exitCode !== null || Date.now() > until) throw new Error(`the engine did not start:\n${this.output}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
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

/** Waits until `check` holds, or fails after ten seconds. */
export async function until(check: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 10_000;
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

function reachable(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
