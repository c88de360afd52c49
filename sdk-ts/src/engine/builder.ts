// Says what an AmxEngine hosts and how its engine is reached. Node's builder adds addresses, tokens, files.

import type { AgentSpec } from "../agent-spec.js";
import { AmxError, Code } from "../errors.js";
import type { Environment } from "../protocol/environment.js";
import type { Connector } from "../transport/connection.js";
import { SOFTWARE } from "../version.js";
import { AmxEngine, type EngineParts } from "./engine.js";
import { specOf } from "./spec-of.js";

const DEFAULT_CONCURRENCY = 1024;
const DEFAULT_PATIENCE_MS = 10_000;

/** Every method returns the builder. */
export class EngineBuilder {
  protected settings: Record<string, unknown> = {};
  protected environment: Environment | undefined;
  protected connector: Connector | undefined;
  private readonly agents: AgentSpec[] = [];
  private concurrency: number | undefined;

  /** Hosts an agent: a decorated class, an object of one, or a definition. Throws DefinitionError, AmxError AGENT_TWICE. */
  withAgent(agent: object): this {
    const spec = specOf(agent);
    const { name } = spec.definition;
    if (this.agents.some((other) => other.definition.name === name)) {
      throw new AmxError(
        Code.INVALID_ARGUMENT,
        "AGENT_TWICE",
        `two agents are named '${name}'; give one of them another name`,
      );
    }
    this.agents.push(spec);
    return this;
  }

  /** Hosts a message router. */
  withRouter(router: object): this {
    return this.withAgent(router);
  }

  /** Hosts a performance monitor. */
  withMonitor(monitor: object): this {
    return this.withAgent(monitor);
  }

  /**
   * Settings; later ones win over earlier ones, section by section. The section `engine` is the SDK's; all sections are
   * handed to pipelines and contexts as `config`.
   */
  withConfig(config: Readonly<Record<string, unknown>>): this {
    Object.assign(this.settings, config);
    return this;
  }

  /** How many messages are handled at a time: 1,024 unless said. */
  withConcurrency(invocations: number): this {
    this.concurrency = wholeNumber(invocations, "withConcurrency()");
    return this;
  }

  /** Reaches the engine in a way of one's own. */
  withConnector(connector: Connector): this {
    this.connector = connector;
    return this;
  }

  /** Takes time, timers and the log from there. For tests, and where there is no Node. */
  withEnvironment(environment: Environment): this {
    this.environment = environment;
    return this;
  }

  /** The AmxEngine, not started. Throws AmxError INVALID_CONFIG. */
  build(): AmxEngine {
    return new AmxEngine(this.parts());
  }

  protected parts(): EngineParts {
    if (this.connector === undefined || this.environment === undefined) {
      throw invalidConfig("there is no way to an engine; give withConnector() and withEnvironment()");
    }
    const concurrency = this.section()["concurrency"];
    return {
      agents: [...this.agents],
      connector: this.connector,
      environment: this.environment,
      software: SOFTWARE,
      concurrency:
        this.concurrency ??
        (concurrency === undefined ? DEFAULT_CONCURRENCY : wholeNumber(concurrency, "engine.concurrency")),
      config: { ...this.settings },
      patienceMs: DEFAULT_PATIENCE_MS,
    };
  }

  /** The section `engine` of the settings. */
  protected section(): Readonly<Record<string, unknown>> {
    const section = this.settings["engine"] ?? {};
    if (typeof section !== "object" || Array.isArray(section)) {
      throw invalidConfig(`the section 'engine' is ${JSON.stringify(section)}; it must hold settings`);
    }
    return section as Record<string, unknown>;
  }
}

function wholeNumber(value: unknown, what: string): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 1) return value;
  throw invalidConfig(`${what} is ${JSON.stringify(value)}; it must be a whole number of at least 1`);
}

/** INVALID_CONFIG. */
export function invalidConfig(message: string, cause?: unknown): AmxError {
  return new AmxError(Code.INVALID_ARGUMENT, "INVALID_CONFIG", message, { cause });
}
