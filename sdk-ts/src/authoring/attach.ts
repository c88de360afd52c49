// How an agent's object gets its memories: its fields are replaced by tracked ones while an engine hosts it. An object that
// no engine hosts keeps what its class gave it, so agents can be tried as plain objects.

import { type Memories, register } from "./memory/instance.js";
import type { MemoryNote } from "./notes.js";

const attached = new WeakMap<object, Memories>();

/** Makes the fields of `self` resolve to `memories`. */
export function attach(self: object, notes: ReadonlyMap<string, MemoryNote>, memories: Memories): void {
  attached.set(self, memories);
  register(self, memories);
  const hidden = new Map<string, MemoryNote>();
  for (const [name, note] of notes) {
    if (note.access !== undefined) {
      hidden.set(name, note);
    } else if (!note.accessor) {
      Object.defineProperty(self, name, {
        get: () => memories.read(name),
        set: (value: unknown) => memories.assign(name, value),
        enumerable: true,
        configurable: true,
      });
    }
  }
  if (hidden.size > 0) {
    memories.onView = (name, view) => hidden.get(name)?.access?.set?.(self, view);
  }
}

/** What the memories of `self` held before any were attached. */
export function initialValues(self: object, notes: ReadonlyMap<string, MemoryNote>): Map<string, unknown> {
  const values = new Map<string, unknown>();
  for (const [name, note] of notes) {
    values.set(name, note.access === undefined ? (self as Record<string, unknown>)[name] : note.access.get(self));
  }
  return values;
}

/** `@memory accessor name`: reads and writes the memory of hosted objects, and the accessor's own value of others. */
export function accessorFor(
  name: string,
  target: ClassAccessorDecoratorTarget<object, unknown>,
): ClassAccessorDecoratorResult<object, unknown> {
  return {
    get(this: object): unknown {
      const memories = attached.get(this);
      return memories === undefined ? target.get.call(this) : memories.read(name);
    },
    set(this: object, value: unknown): void {
      const memories = attached.get(this);
      if (memories === undefined) {
        target.set.call(this, value);
      } else {
        memories.assign(name, value);
      }
    },
  };
}
