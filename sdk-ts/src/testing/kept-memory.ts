// What instances remember between the messages of a harness.

import { create } from "@bufbuild/protobuf";
import {
  type InstanceMemory,
  InstanceMemorySchema,
  type MemoryChange,
  MemoryEntrySchema,
  MemoryImageSchema,
} from "../gen/amx/v1/memory_pb.js";
import type { WireMemoryImage } from "../protocol/wire.js";

interface Kept {
  readonly value: Uint8Array;
  /** undefined: without end. */
  readonly expires: number | undefined;
}

/** One instance's memory, as an engine would keep it. */
export class KeptMemory {
  version = 0;
  private readonly memories = new Map<string, Map<string, Kept>>();

  constructor(private readonly now: () => number) {}

  /** Takes the changes of one message over; returns whether there were any. */
  apply(changes: readonly MemoryChange[]): boolean {
    for (const { name, change } of changes) {
      const entries = this.memories.get(name) ?? new Map<string, Kept>();
      this.memories.set(name, entries);
      if (change.case === "put") {
        const { id, value, expiresInMs } = change.value;
        entries.delete(id);
        entries.set(id, { value, expires: expiresInMs > 0n ? this.now() + Number(expiresInMs) : undefined });
      } else if (change.case === "remove") {
        entries.delete(change.value);
      } else if (change.case === "clear") {
        entries.clear();
      } else if (change.case === "touch") {
        const touched = entries.get(change.value);
        if (touched !== undefined) {
          entries.delete(change.value);
          entries.set(change.value, touched);
        }
      }
    }
    if (changes.length > 0) {
      this.version += 1;
    }
    return changes.length > 0;
  }

  /** Everything that has not expired. */
  images(): WireMemoryImage[] {
    const now = this.now();
    return [...this.memories].map(([name, entries]) => ({
      name,
      entries: [...entries]
        .filter(([, kept]) => kept.expires === undefined || kept.expires > now)
        .map(([id, { value, expires }]) => ({
          id,
          value,
          expiresInMs: expires === undefined ? 0 : Math.max(1, Math.floor(expires - now)),
        })),
    }));
  }

  /** The same, as it travels. */
  image(): InstanceMemory {
    const memories = this.images().map(({ name, entries }) =>
      create(MemoryImageSchema, {
        name,
        entries: entries.map(({ id, value, expiresInMs }) =>
          create(MemoryEntrySchema, { id, value, expiresInMs: BigInt(expiresInMs) }),
        ),
      }),
    );
    return create(InstanceMemorySchema, { memories });
  }
}
