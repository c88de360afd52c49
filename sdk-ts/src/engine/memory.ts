// The memory of one instance, read and written from outside its handlers.

import type { EngineCalls } from "../agent-spec.js";
import { type Duration, positiveMilliseconds } from "../authoring/durations.js";
import { parseJson } from "../authoring/json.js";
import { encodeCanonical, encodeJson } from "../authoring/values.js";
import { NO_BYTES } from "../protocol/codec.js";
import { MEMORY_KIND, type WireEntry, type WireMemoryOperation, type WireMemoryResult } from "../protocol/wire.js";

const TIMEOUT_MS = 30_000;
const READ_LIMIT = 10_000;
const LIST_LIMIT = 1000;

/** What a memory held at one version: a Map, a Set, an array, or a value. */
export interface MemorySnapshot {
  readonly value: unknown;
  readonly version: number;
  /** There is more than was asked for. */
  readonly truncated: boolean;
}

/** How an entry is written. */
export interface PutOptions {
  /** Key of a map, member of a set, number of a list's entry; absent for a value. */
  item?: unknown;
  /** Its own lifetime, from now on; absent: what the memory says. */
  ttl?: Duration;
  /** Only if the memory has this version. */
  ifVersion?: number;
}

/**
 * One instance's memory, by name. Reads see what is committed; writes are committed between messages, never during a
 * handler's run. Everything rejects with AmxError: AGENT_UNKNOWN, MEMORY_UNKNOWN, PERMISSION_DENIED,
 * MEMORY_VERSION_MISMATCH.
 */
export class RemoteMemory {
  private readonly calls: Pick<EngineCalls, "memory">;
  private readonly agent: string;
  private readonly key: string;

  constructor(calls: Pick<EngineCalls, "memory">, agent: string, key: string) {
    this.calls = calls;
    this.agent = agent;
    this.key = key;
  }

  /** The entry `item`, or undefined if there is none. Without `item`: the whole memory, as `read` gives it. */
  async get<T = unknown>(name: string, item?: unknown): Promise<T | undefined> {
    if (item === undefined) return (await this.read(name)).value as T;
    const result = await this.operate({ name, get: encodeCanonical(item) });
    if (!result.found) return undefined;
    if (result.kind === MEMORY_KIND.SET) return item as T;
    return decoded(result.entries[0]) as T;
  }

  /** Whether there is such an entry. */
  async has(name: string, item?: unknown): Promise<boolean> {
    return (await this.operate({ name, get: item === undefined ? "" : encodeCanonical(item) })).found;
  }

  /** The whole memory and its version; at most `limit` entries. */
  async read(name: string, limit = READ_LIMIT): Promise<MemorySnapshot> {
    const { entries, kind, version, truncated } = await this.operate({ name, list: "", limit });
    let value: unknown;
    if (kind === MEMORY_KIND.MAP) value = new Map(entries.map((entry) => [parseJson(entry.id), decoded(entry)]));
    else if (kind === MEMORY_KIND.SET) value = new Set(entries.map((entry) => parseJson(entry.id)));
    else if (kind === MEMORY_KIND.LIST) {
      value = [...entries].sort((a, b) => Number(a.id) - Number(b.id)).map(decoded);
    } else value = decoded(entries[0]);
    return { value, version, truncated };
  }

  /** Keys of a map, or members of a set, whose JSON text begins with `prefix`. */
  async list(name: string, prefix = "", limit = LIST_LIMIT): Promise<unknown[]> {
    const { entries } = await this.operate({ name, list: prefix, limit });
    return entries.map((entry) => (entry.id ? parseJson(entry.id) : null));
  }

  /** Writes an entry, and resolves with the version of the memory after it. A set's member needs no value. */
  async put(name: string, value: unknown, options: PutOptions = {}): Promise<number> {
    const { item, ttl, ifVersion } = options;
    const put: WireEntry = {
      id: item === undefined ? "" : encodeCanonical(item),
      value: value === undefined ? NO_BYTES : encodeJson(value),
      expiresInMs: ttl === undefined ? 0 : positiveMilliseconds(ttl, "ttl"),
    };
    return (await this.operate({ name, put, ...(ifVersion === undefined ? {} : { ifVersion }) })).version;
  }

  /** Removes an entry; resolves with whether it was there. */
  async delete(name: string, item?: unknown, options: { ifVersion?: number } = {}): Promise<boolean> {
    const remove = item === undefined ? "" : encodeCanonical(item);
    return (await this.operate({ name, remove, ...options })).found;
  }

  private operate(operation: Omit<WireMemoryOperation, "agent" | "key">): Promise<WireMemoryResult> {
    return this.calls.memory({ agent: this.agent, key: this.key, ...operation }, { timeoutMs: TIMEOUT_MS });
  }
}

function decoded(entry: WireEntry | undefined): unknown {
  return entry?.value.length ? parseJson(entry.value) : undefined;
}
