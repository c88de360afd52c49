// AmxEngine on Node: engines reached over gRPC, settings from the environment and from files.

import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { GrpcConnector, readTls, type TlsFiles, type TlsOptions } from "../transport/grpc.js";
import { nodeEnvironment } from "../transport/node.js";
import { EngineBuilder, invalidConfig } from "./builder.js";
import { AmxEngine as CoreEngine, type EngineParts } from "./engine.js";

export const DEFAULT_ADDRESS = "localhost:9090";

const SHORT_START_MS = 1000;

/** An engine, as an application on Node sees it. See the base class for everything it does. */
export class AmxEngine extends CoreEngine {
  /** Where every AmxEngine begins. */
  static builder(): AmxEngineBuilder {
    return new AmxEngineBuilder();
  }

  /** Runs until SIGINT, SIGTERM or stop(), then stops. Starts first if need be. For the main of a worker. */
  async runForever(): Promise<void> {
    let interrupted = (): void => undefined;
    const signalled = new Promise<void>((resolve) => {
      interrupted = resolve;
    });
    process.once("SIGINT", interrupted);
    process.once("SIGTERM", interrupted);
    try {
      if (!this.started) {
        // Who is told to stop before the engine has said Welcome leaves politely if it says so soon.
        const patience = signalled.then(() => new Promise((resolve) => setTimeout(resolve, SHORT_START_MS).unref()));
        await Promise.race([this.start(), patience]);
      }
      await Promise.race([signalled, this.closed()]);
    } finally {
      process.removeListener("SIGINT", interrupted);
      process.removeListener("SIGTERM", interrupted);
      await this.stop();
    }
  }
}

/** Says what an AmxEngine hosts and where its engine is. Every method returns the builder. */
export class AmxEngineBuilder extends EngineBuilder {
  private address = "";
  private token = "";
  private tls: TlsFiles | undefined;

  /**
   * Settings, or the path of a YAML or JSON file with them. The section `engine` holds address, token, tls (ca, cert,
   * key, server_name: paths of PEM files) and concurrency. Throws AmxError INVALID_CONFIG naming the file and what is
   * wrong with it.
   */
  override withConfig(config: string | Readonly<Record<string, unknown>>): this {
    return super.withConfig(typeof config === "string" ? load(config) : config);
  }

  /** Where the engine is: `host:port` or `unix:/path`. Else the configuration, AMX_ADDRESS, localhost:9090. */
  withAddress(address: string): this {
    this.address = address;
    return this;
  }

  /** Who this process is, to the engine. Else the configuration, AMX_TOKEN. */
  withToken(token: string): this {
    this.token = token;
    return this;
  }

  /** Encrypts the link. Throws what reading a file throws. */
  withTls(options: TlsOptions = {}): this {
    this.tls = readTls(options);
    return this;
  }

  override build(): AmxEngine {
    return new AmxEngine(this.parts());
  }

  protected override parts(): EngineParts {
    const section = this.section();
    const address = this.address || text(section, "address") || process.env["AMX_ADDRESS"] || "";
    const token = this.token || text(section, "token") || process.env["AMX_TOKEN"] || "";
    this.environment ??= nodeEnvironment();
    this.connector ??= new GrpcConnector(address || DEFAULT_ADDRESS, token, this.tls ?? tlsOf(section));
    const parts = super.parts();
    return address ? parts : { ...parts, patienceMs: 0 };
  }
}

function text(section: Readonly<Record<string, unknown>>, name: string): string {
  const value = section[name];
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return value;
  throw invalidConfig(`engine.${name} is ${JSON.stringify(value)}; it must be text`);
}

function tlsOf(section: Readonly<Record<string, unknown>>): TlsFiles | undefined {
  const tls = section["tls"];
  if (!tls) return undefined;
  const names = typeof tls === "object" ? (tls as Record<string, unknown>) : {};
  const options: TlsOptions = {};
  const [ca, cert, key, serverName] = ["ca", "cert", "key", "server_name"].map((name) => text(names, name));
  if (ca) options.ca = ca;
  if (cert) options.cert = cert;
  if (key) options.key = key;
  if (serverName) options.serverName = serverName;
  return readTls(options);
}

function load(path: string): Readonly<Record<string, unknown>> {
  let loaded: unknown;
  try {
    loaded = parse(readFileSync(path, "utf8")); // JSON is YAML, too
  } catch (error) {
    throw invalidConfig(`the configuration ${path} cannot be read: ${(error as Error).message}`, error);
  }
  if (loaded === null || loaded === undefined) return {};
  if (typeof loaded !== "object" || Array.isArray(loaded)) {
    throw invalidConfig(`the configuration ${path} must hold sections`);
  }
  return loaded as Record<string, unknown>;
}
