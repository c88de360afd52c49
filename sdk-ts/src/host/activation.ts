// An instance placed in this process: its object, the version of its memory, and whose turn it is.

import type { AgentInstance, AgentSpec } from "../agent-spec.js";
import { AmxError, Code } from "../errors.js";
import type { Id } from "../protocol/bytes.js";
import type { WireMemoryImage } from "../protocol/wire.js";
import type { Run } from "./runs.js";

/**
 * One instance under one epoch. Its object is made at the first message.
 *
 * current: object and memory are there. busy: a handler that may change them is suspended; whatever came meanwhile is
 * in `waiting`, in order. version: of the memory, as the engine counts it.
 */
export class Activation {
  readonly agent: AgentSpec;
  readonly key: string;
  readonly epoch: Id;
  instance: AgentInstance | undefined;
  current = false;
  busy = false;
  version = 0;
  readonly waiting: Run[] = [];

  private readonly now: () => number;
  private image: readonly WireMemoryImage[] | undefined;
  private imageVersion = 0;

  constructor(agent: AgentSpec, key: string, epoch: Id, now: () => number) {
    this.agent = agent;
    this.key = key;
    this.epoch = epoch;
    this.now = now;
  }

  /** Takes a memory image in; it is loaded when it is next needed. */
  hold(image: readonly WireMemoryImage[], version: number): void {
    this.image = image;
    this.imageVersion = version;
    this.current = false;
  }

  /** The memory here is not what the engine has: the next invocation must bring it. */
  drop(): void {
    this.image = undefined;
    this.current = false;
  }

  /** Something that cannot be stopped still uses the object: the next invocation gets a new one. */
  abandon(): void {
    this.drop();
    this.instance = undefined;
  }

  /**
   * Makes the activation current.
   *
   * version: what the engine says the memory is at; undefined: whatever is here. Throws AmxError MEMORY_NOT_HELD if that
   * is not here, and whatever the agent's constructor throws.
   */
  prepare(version: number | undefined): AgentInstance {
    this.instance ??= this.agent.createInstance(this.key, this.now);
    const memory = this.instance.memory;
    if (memory === undefined) {
      this.current = true;
      return this.instance;
    }
    if (this.image !== undefined) {
      const image = this.image;
      this.image = undefined;
      memory.load(image, this.imageVersion);
      this.version = this.imageVersion;
      this.current = true;
    } else if (!this.current && version === 0) {
      // Nothing was ever remembered, so there is nothing to bring.
      memory.load([], 0);
      this.version = 0;
      this.current = true;
    }
    if (!this.current || (version !== undefined && this.version !== version)) {
      this.drop();
      throw new AmxError(
        Code.FAILED_PRECONDITION,
        "MEMORY_NOT_HELD",
        `this process does not hold version ${version ?? "any"} of the memory of ${this.agent.definition.name}/` +
          `${this.key}; send it again`,
        { retryable: true },
      );
    }
    return this.instance;
  }
}
