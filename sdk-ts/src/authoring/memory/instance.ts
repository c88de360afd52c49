// Everything one instance remembers in this process: loaded, handed to the agent, committed and undone.

import type { InstanceMemory } from "../../agent-spec.js";
import { InvalidInput } from "../../errors.js";
import { MEMORY_KIND, type WireMemoryChange, type WireMemoryImage } from "../../protocol/wire.js";
import type { Duration } from "../durations.js";
import { ChangeLog, type Entry } from "./changes.js";
import type { Codec } from "./codec.js";
import { ListRoot } from "./list.js";
import { MapRoot } from "./map.js";
import { Recency } from "./recency.js";
import { type Root, rootOf, type Stored } from "./root.js";
import { SetRoot } from "./set.js";
import { plainCopy } from "./tracked.js";
import { ValueRoot } from "./value.js";

/** One memory of an agent, as it was declared and understood. */
export interface MemorySpec {
  readonly name: string;
  /** One of MEMORY_KIND. */
  readonly kind: number;
  readonly persistent: boolean;
  /** 0: without end. */
  readonly ttlMs: number;
  /** 0: unbounded. */
  readonly maxEntries: number;
  readonly description: string;
  readonly codec: Codec;
}

interface Loaded {
  readonly entries: readonly Stored[];
}

/** The memories of one instance. Decoded at first use. */
export class Memories implements InstanceMemory {
  private readonly specs: ReadonlyMap<string, MemorySpec>;
  private roots = new Map<string, Root>();
  private images = new Map<string, Loaded>();
  private version = 0;
  private dirty = false;
  /** Called with a name and what an agent sees, when that was made anew. */
  onView: ((name: string, view: unknown) => void) | undefined;

  /** initial: a new initial value of a memory, for this instance. now: milliseconds. */
  constructor(
    specs: ReadonlyMap<string, MemorySpec>,
    private readonly initial: (name: string) => unknown,
    private readonly now: () => number,
  ) {
    this.specs = specs;
  }

  get changed(): boolean {
    if (!this.dirty) {
      return false;
    }
    try {
      for (const root of this.roots.values()) {
        if (!root.settled()) {
          return true;
        }
      }
    } catch {
      return true; // it has no JSON form any more: collecting says so
    }
    this.dirty = false;
    return false;
  }

  load(image: readonly WireMemoryImage[], version: number): void {
    const now = this.now();
    this.roots = new Map();
    this.images = new Map();
    for (const { name, entries } of image) {
      this.images.set(name, {
        entries: entries.map(({ id, value, expiresInMs }) => ({
          id,
          value: value.slice(),
          deadline: expiresInMs > 0 ? now + expiresInMs : undefined,
        })),
      });
    }
    this.dirty = false;
    this.version = version;
    if (this.onView !== undefined) {
      for (const name of this.specs.keys()) {
        this.onView(name, this.read(name));
      }
    }
  }

  /** What the agent reads: a map, set or list, or the value. */
  read(name: string): unknown {
    return this.root(name).view();
  }

  /** What assigning to a memory does. */
  assign(name: string, value: unknown): void {
    this.root(name).assign(value);
  }

  /** Gives a single value a lifetime of its own. */
  expire(name: string, ttl: Duration): void {
    const spec = this.specs.get(name);
    if (spec === undefined) {
      throw new InvalidInput(
        `there is no memory '${name}'; there are: ${[...this.specs.keys()].join(", ") || "none"}`,
        "name",
      );
    }
    if (spec.kind !== MEMORY_KIND.VALUE) {
      throw new InvalidInput(
        `memory '${name}' has entries; say which one expires: expire(this.${name}, item, "10m")`,
        "item",
      );
    }
    this.root(name).expire(undefined, ttl);
  }

  collect(changes: WireMemoryChange[]): void {
    if (!this.dirty) {
      return;
    }
    if (this.version === 0) {
      for (const spec of this.specs.values()) {
        if (spec.kind !== MEMORY_KIND.VALUE) {
          this.root(spec.name); // its initial content is stored with the first commit
        }
      }
    }
    const plan: { root: Root; encoded: Map<Entry, Uint8Array> }[] = [];
    for (const [name, root] of this.roots) {
      if (root.log.active || root.log.initial.size > 0) {
        const limit = this.specs.get(name)?.maxEntries ?? 0;
        if (limit > 0) {
          root.evict(limit);
        }
        plan.push({ root, encoded: root.encode() });
      }
    }
    const before = changes.length;
    const now = this.now();
    for (const { root, encoded } of plan) {
      const { name, log } = root;
      if (log.cleared) {
        changes.push({ name, clear: true });
      }
      for (const id of log.removed) {
        changes.push({ name, remove: id });
      }
      for (const [entry, value] of log.recency?.steps(encoded) ?? encoded) {
        if (value === undefined) {
          changes.push({ name, touch: entry.id });
        } else {
          const expiresInMs = entry.deadline === undefined ? 0 : Math.max(1, Math.round(entry.deadline - now));
          changes.push({ name, put: { id: entry.id, value, expiresInMs } });
        }
      }
      root.commit(encoded);
    }
    this.dirty = false;
    if (changes.length > before) {
      this.version += 1;
    }
  }

  rollback(): boolean {
    if (this.dirty) {
      for (const root of this.roots.values()) {
        if (root.log.active) {
          root.rollback();
        }
      }
      this.dirty = false;
    }
    return true;
  }

  private root(name: string): Root {
    const root = this.roots.get(name);
    if (root === undefined) {
      return this.build(name);
    }
    if (root.log.expiring.any && !root.log.active) {
      this.dropExpired(name, root);
    }
    return root;
  }

  private build(name: string): Root {
    const spec = this.specs.get(name) as MemorySpec;
    const bounded = spec.maxEntries > 0 && (spec.kind === MEMORY_KIND.MAP || spec.kind === MEMORY_KIND.SET);
    const recency = bounded ? new Recency() : undefined;
    const onChange = () => {
      this.dirty = true;
    };
    const log = new ChangeLog(onChange, this.now, spec.ttlMs || undefined, recency);
    const root = makeRoot(spec, log, () => this.initial(name) === undefined);
    const stored = this.images.get(name)?.entries ?? [];
    const fresh = stored.length === 0 && (this.version === 0 || !spec.persistent || spec.kind === MEMORY_KIND.VALUE);
    if (fresh) {
      const dirty = this.dirty;
      root.fill(plainCopy(this.initial(name)));
      this.dirty = dirty;
      log.active = false;
    } else {
      const now = this.now();
      const live = stored.filter((one) => one.deadline === undefined || one.deadline > now);
      if (live.length === 0 && spec.kind === MEMORY_KIND.VALUE) {
        root.fill(plainCopy(this.initial(name)));
      }
      if (!live.every(({ id }) => isEntry(spec.kind, id))) {
        throw new InvalidInput(
          `memory '${name}' was of another kind before; give it another name, or remove what is remembered (\`amx memory\`)`,
          name,
        );
      }
      root.load(live);
      log.expiring.expectOnly(root.entries());
      recency?.load(root.entries());
    }
    this.roots.set(name, root);
    return root;
  }

  /** Drops what has expired. The engine expires it by itself, so this is no change. */
  private dropExpired(name: string, root: Root): void {
    const { log } = root;
    for (const entry of log.expiring.take(this.now())) {
      if (root instanceof ValueRoot) {
        root.fill(plainCopy(this.initial(name)));
      } else {
        log.recency?.forget(entry);
        log.initial.delete(entry);
        root.forget(entry);
      }
    }
  }
}

function makeRoot(spec: MemorySpec, log: ChangeLog, absent: () => boolean): Root {
  switch (spec.kind) {
    case MEMORY_KIND.MAP:
      return new MapRoot(spec.name, log, spec.codec);
    case MEMORY_KIND.SET:
      return new SetRoot(spec.name, log, spec.codec);
    case MEMORY_KIND.LIST:
      return new ListRoot(spec.name, log, spec.codec);
    default:
      return new ValueRoot(spec.name, log, spec.codec, absent());
  }
}

/** Whether a memory of this kind has entries with such ids; another class may have stored it under the name. */
function isEntry(kind: number, id: string): boolean {
  return kind === MEMORY_KIND.LIST ? /^-?\d+$/.test(id) : (id === "") === (kind === MEMORY_KIND.VALUE);
}

/** What kind of memory an initial value makes: a Map, a Set, a list, or a single value. */
export function kindOf(value: unknown): number {
  if (value instanceof Map) {
    return MEMORY_KIND.MAP;
  }
  if (value instanceof Set) {
    return MEMORY_KIND.SET;
  }
  return Array.isArray(value) ? MEMORY_KIND.LIST : MEMORY_KIND.VALUE;
}

// Agents' objects, and the records of memories that contexts have -> the memories behind them.
const memoriesOf = new WeakMap<object, Memories>();

/** Makes `expire(holder, name, …)` know the memories of `holder`. */
export function register(holder: object, memories: Memories): void {
  memoriesOf.set(holder, memories);
}

/**
 * Gives something that an agent remembers a lifetime of its own, which starts now:
 *
 *     expire(this.seen, user, "10m");   // a key of a Map, a member of a Set, an index of a list
 *     expire(this, "token", "10m");     // a single value, which becomes the initial one again
 *
 * It counts as a write: the next one without a lifetime ends it. Throws InvalidInput if there is no such entry, or the
 * lifetime is not positive. Where no engine hosts the object, it does nothing.
 */
export function expire<K>(map: ReadonlyMap<K, unknown>, key: K, ttl: Duration): void;
export function expire<T>(set: ReadonlySet<T>, member: T, ttl: Duration): void;
export function expire(list: readonly unknown[], index: number, ttl: Duration): void;
export function expire(agent: object, memory: string, ttl: Duration): void;
export function expire(holder: object, item: unknown, ttl: Duration): void {
  const root = rootOf.get(holder);
  if (root !== undefined) {
    root.expire(item, ttl);
  } else {
    memoriesOf.get(holder)?.expire(String(item), ttl);
  }
}
