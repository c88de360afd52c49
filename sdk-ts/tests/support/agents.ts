// Agents for tests of the host: compiled by hand, without any of what authoring does.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { AgentInstance, AgentSpec, HandlerRun, HandlerSpec, InstanceMemory } from "../../src/agent-spec.js";
import { AgentDefinitionSchema } from "../../src/gen/amx/v1/agent_pb.js";
import type { IncomingMessage, WireMemoryChange, WirePayload } from "../../src/protocol/wire.js";
import { json, value } from "./wire.js";

export type Body = (input: unknown, run: HandlerRun, instance: TestInstance) => unknown;

export interface HandlerOptions {
  streaming?: boolean;
  concurrent?: boolean;
  decode?: (message: IncomingMessage) => unknown;
  encode?: (value: unknown) => WirePayload | PromiseLike<WirePayload>;
}

/** One number that is remembered. */
export class TestMemory implements InstanceMemory {
  total = 0;
  loads = 0;
  private committed = 0;
  canRollBack = true;

  get changed(): boolean {
    return this.total !== this.committed;
  }

  load(image: Parameters<InstanceMemory["load"]>[0]): void {
    this.loads++;
    const entry = image.find((one) => one.name === "total")?.entries[0];
    this.total = this.committed = entry === undefined ? 0 : Number(new TextDecoder().decode(entry.value));
  }

  collect(changes: WireMemoryChange[]): void {
    this.committed = this.total;
    changes.push({ name: "total", put: { id: "", value: json(this.total).data, expiresInMs: 0 } });
  }

  rollback(): boolean {
    if (!this.canRollBack) return false;
    this.total = this.committed;
    return true;
  }
}

export class TestInstance implements AgentInstance {
  readonly memory: TestMemory | undefined;

  constructor(
    readonly key: string,
    remembers: boolean,
  ) {
    this.memory = remembers ? new TestMemory() : undefined;
  }
}

/** An agent whose handlers take and return JSON. */
export class TestAgent implements AgentSpec {
  readonly definition: AgentSpec["definition"];
  readonly handlers = new Map<string, HandlerSpec>();
  readonly instances: TestInstance[] = [];

  constructor(
    readonly name = "Test",
    private readonly remembers = false,
    definition: MessageInitShape<typeof AgentDefinitionSchema> = {},
  ) {
    this.definition = create(AgentDefinitionSchema, { name, version: "1.0.0", ...definition });
  }

  on(name: string, run: Body, options: HandlerOptions = {}): this {
    this.handlers.set(name, {
      name,
      streaming: options.streaming ?? false,
      concurrent: options.concurrent ?? false,
      decode: options.decode ?? ((message) => value(message.payload)),
      call: (instance, input, context) => run(input, context, instance as TestInstance),
      encode: options.encode ?? encoded,
      encodeChunk: encoded,
    });
    return this;
  }

  createInstance(key: string): TestInstance {
    const instance = new TestInstance(key, this.remembers);
    this.instances.push(instance);
    return instance;
  }
}

function encoded(result: unknown): WirePayload {
  return result === undefined ? { contentType: "", data: new Uint8Array(0) } : json(result);
}

/** A promise and what settles it. */
export function gate<T = void>(): { promise: Promise<T>; open: (value: T) => void; fail: (error: unknown) => void } {
  let open!: (value: T) => void;
  let fail!: (error: unknown) => void;
  const promise = new Promise<T>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { promise, open, fail };
}
