// A memory that is an array. Entries are numbered in order, with gaps, so that most changes touch few of them.

import { InvalidInput } from "../../errors.js";
import { type Duration, positiveMilliseconds } from "../durations.js";
import { InvalidValue } from "../json.js";
import { type ChangeLog, Entry } from "./changes.js";
import type { Codec } from "./codec.js";
import { Root, rootOf, type Stored } from "./root.js";
import { bare, watched } from "./tracked.js";

/** The memory behind an array that an agent sees. */
export class ListRoot extends Root {
  private readonly values: unknown[] = [];
  private list: Entry[] = [];
  /** Entries and values at the last commit; kept from the first change on that is not an append. */
  private snapshot: { readonly list: Entry[]; readonly values: unknown[] } | undefined;
  /** Length at the last commit. */
  private base = 0;
  private readonly proxy: unknown[];

  constructor(name: string, log: ChangeLog, codec: Codec) {
    super(name, log, codec);
    this.proxy = new Proxy(this.values, new ListHandler(this));
    rootOf.set(this.proxy, this);
  }

  view(): unknown[] {
    return this.proxy;
  }

  get length(): number {
    return this.values.length;
  }

  /** The value at an index, watched. */
  at(index: number): unknown {
    const value = this.values[index];
    return typeof value === "object" && value !== null ? watched(value, this, this.list[index] as Entry) : value;
  }

  /** The array that holds the values, bare. */
  get bareValues(): readonly unknown[] {
    return this.values;
  }

  append(value: unknown): Entry {
    const last = this.list[this.list.length - 1];
    const entry = this.newEntry(last === undefined ? 0 : (last.key as number) + 1);
    this.list.push(entry);
    this.values.push(bare(value));
    this.log.wrote(entry);
    return entry;
  }

  insert(index: number, value: unknown): void {
    if (index >= this.values.length) {
      this.append(value);
      return;
    }
    this.beforeStructure();
    const entry = this.newEntry(this.numberBefore(index));
    this.list.splice(index, 0, entry);
    this.values.splice(index, 0, bare(value));
    this.log.wrote(entry);
  }

  replace(index: number, value: unknown): void {
    if (index === this.values.length) {
      this.append(value);
      return;
    }
    if (index > this.values.length) {
      throw new InvalidValue(`memory '${this.name}' has ${this.values.length} items; a list has no gaps`, this.name);
    }
    this.log.replacing(this.list[index] as Entry, this.values[index]);
    this.values[index] = bare(value);
  }

  /** Removes the item at an index, and returns it watched by nobody. */
  take(index: number): unknown {
    this.beforeStructure();
    const value = this.at(index);
    const raw = this.values.splice(index, 1)[0];
    const entry = this.list.splice(index, 1)[0] as Entry;
    this.log.took(entry, raw);
    return value;
  }

  truncate(length: number): void {
    if (length > this.values.length) {
      throw new InvalidValue(`memory '${this.name}' has ${this.values.length} items; a list has no gaps`, this.name);
    }
    if (length === this.values.length) {
      return;
    }
    while (this.values.length > length) {
      this.take(this.values.length - 1);
    }
    if (length === 0 && this.log.initial.size === 0) {
      this.log.tookAll();
    }
  }

  /** Puts the values into this order of their indexes; each takes the rest of its lifetime along. */
  reorder(order: readonly number[]): void {
    const deadlines = order.map((index) => this.list[index]?.deadline);
    this.become(
      order.map((index) => this.values[index]),
      deadlines,
    );
  }

  /**
   * Makes the list hold `items`, writing only the places that change.
   * deadlines: of values that only move; without, what is written lives as long as the memory says.
   */
  become(items: readonly unknown[], deadlines?: readonly (number | undefined)[]): void {
    const common = Math.min(items.length, this.values.length);
    for (let index = 0; index < common; index += 1) {
      const [item, old] = [bare(items[index]), this.values[index]];
      const entry = this.list[index] as Entry;
      const deadline = deadlines?.[index];
      if (old !== item || (deadlines !== undefined && deadline !== entry.deadline)) {
        this.log.replacing(entry, old);
        this.values[index] = item;
        if (deadline !== undefined) {
          this.log.livesUntil(entry, deadline);
        }
      }
    }
    this.truncate(Math.min(items.length, this.values.length));
    for (let index = this.values.length; index < items.length; index += 1) {
      this.append(items[index]);
    }
  }

  expire(item: unknown, ttl: Duration): void {
    const millis = positiveMilliseconds(ttl, "ttl");
    const index = typeof item === "number" && item < 0 ? item + this.values.length : item;
    const entry = typeof index === "number" ? this.list[index] : undefined;
    if (entry === undefined) {
      throw new InvalidInput(
        `memory '${this.name}' has ${this.values.length} items and none at ${String(item)}`,
        "item",
      );
    }
    this.log.replacing(entry, this.rawOf(entry));
    this.log.livesFor(entry, millis);
  }

  entries(): Iterable<Entry> {
    return this.list;
  }

  rawOf(entry: Entry): unknown {
    return this.values[this.position(entry)];
  }

  protected keep(entry: Entry, value: unknown): void {
    this.values[this.position(entry)] = value;
  }

  protected undoStructure(): void {
    if (this.snapshot === undefined) {
      this.list.length = this.base;
      this.values.length = this.base;
      return;
    }
    this.list = this.snapshot.list;
    this.values.length = 0;
    for (const value of this.snapshot.values) {
      this.values.push(value);
    }
    this.snapshot = undefined;
  }

  protected settleStructure(): void {
    this.snapshot = undefined;
    this.base = this.values.length;
  }

  forget(entry: Entry): void {
    const index = this.position(entry);
    this.values.splice(index, 1);
    this.list.splice(index, 1);
    entry.log = undefined;
    this.base = this.values.length;
  }

  evict(limit: number): void {
    for (let over = this.values.length - limit; over > 0; over -= 1) {
      this.take(0);
    }
  }

  load(items: readonly Stored[]): void {
    const loaded = items.map(({ id, value, deadline }) => {
      const entry = new Entry(this.log, Number(id), id);
      entry.deadline = deadline;
      return { entry, value: this.codec.decode(value, this.place(entry)) };
    });
    loaded.sort((left, right) => (left.entry.key as number) - (right.entry.key as number));
    for (const { entry, value } of loaded) {
      this.list.push(entry);
      this.values.push(value);
    }
    this.base = this.values.length;
  }

  assign(value: unknown): void {
    if (value === this.proxy) {
      return;
    }
    if (!Array.isArray(value)) {
      throw this.wrongKind(value, "list");
    }
    this.become([...(value as unknown[])]);
  }

  /** A free number for a new entry before `index`; entries after it move up if there is none. */
  private numberBefore(index: number): number {
    const numbers = this.list as { key: unknown }[] as { key: number }[];
    const high = (numbers[index] as { key: number }).key;
    if (index === 0) {
      return high - 1;
    }
    const low = (numbers[index - 1] as { key: number }).key;
    if (high - low > 1) {
      return low + Math.floor((high - low) / 2);
    }
    let needed = low + 2;
    let position = index;
    for (; position < this.list.length && (this.list[position]?.key as number) < needed; position += 1) {
      const old = this.list[position] as Entry;
      const deadline = old.deadline;
      const moved = this.newEntry(needed);
      this.list[position] = moved;
      this.log.took(old, this.values[position]);
      this.log.wrote(moved);
      if (deadline !== undefined) {
        this.log.livesUntil(moved, deadline);
      }
      needed += 1;
    }
    // A number given up above may be in use again.
    for (const entry of this.list.slice(index, position)) {
      this.log.removed.delete(entry.id);
    }
    return low + 1;
  }

  private newEntry(number: number): Entry {
    const entry = new Entry(this.log, number, String(number));
    this.log.removed.delete(entry.id);
    return entry;
  }

  private beforeStructure(): void {
    this.snapshot ??= { list: this.list.slice(0, this.base), values: this.values.slice(0, this.base) };
  }

  /** Where a live entry is: numbers rise along the list, so it is found by halving. */
  private position(entry: Entry): number {
    let [low, high] = [0, this.list.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (((this.list[middle] as Entry).key as number) < (entry.key as number)) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
}

const INDEX = /^(0|[1-9]\d{0,9})$/;

/** The array that an agent sees: Array.isArray says so, every method works, and changes are noticed. */
class ListHandler implements ProxyHandler<unknown[]> {
  private readonly methods: Readonly<Record<string, unknown>>;

  constructor(private readonly root: ListRoot) {
    this.methods = changingMethods(root);
  }

  get(target: unknown[], key: PropertyKey): unknown {
    if (typeof key === "string") {
      if (INDEX.test(key)) {
        return this.root.at(Number(key));
      }
      const method = Object.hasOwn(this.methods, key) ? this.methods[key] : undefined;
      if (method !== undefined) {
        return method;
      }
    }
    return Reflect.get(target, key);
  }

  set(_: unknown[], key: PropertyKey, value: unknown): boolean {
    if (key === "length") {
      this.root.truncate(Number(value));
      return true;
    }
    if (typeof key === "string" && INDEX.test(key)) {
      this.root.replace(Number(key), value);
      return true;
    }
    return false; // a TypeError: what is no item would not be kept
  }

  deleteProperty(target: unknown[], key: PropertyKey): boolean {
    return !Reflect.has(target, key); // no gaps
  }

  defineProperty(target: unknown[], key: PropertyKey, descriptor: PropertyDescriptor): boolean {
    return "value" in descriptor && this.set(target, key, descriptor.value);
  }

  getOwnPropertyDescriptor(target: unknown[], key: PropertyKey): PropertyDescriptor | undefined {
    const descriptor = Reflect.getOwnPropertyDescriptor(target, key);
    if (descriptor !== undefined && typeof key === "string" && INDEX.test(key)) {
      descriptor.value = this.root.at(Number(key));
    }
    return descriptor;
  }

  preventExtensions(): boolean {
    return false;
  }
}

/** The methods that change an array, by way of its entries: the generic ones would write every place after the first. */
function changingMethods(root: ListRoot): Readonly<Record<string, unknown>> {
  const from = (index: number | undefined, otherwise: number): number => {
    const whole = index === undefined ? otherwise : Math.trunc(index) || 0;
    return whole < 0 ? Math.max(0, whole + root.length) : Math.min(whole, root.length);
  };
  return {
    push(...items: unknown[]): number {
      for (const item of items) {
        root.append(item);
      }
      return root.length;
    },
    pop: (): unknown => (root.length === 0 ? undefined : root.take(root.length - 1)),
    shift: (): unknown => (root.length === 0 ? undefined : root.take(0)),
    unshift(...items: unknown[]): number {
      for (const item of items.reverse()) {
        root.insert(0, item);
      }
      return root.length;
    },
    splice(...given: [start?: number, count?: number, ...items: unknown[]]): unknown[] {
      const [start, count, ...items] = given;
      const at = given.length === 0 ? root.length : from(start, 0);
      const most = root.length - at;
      const wanted = given.length < 2 ? (given.length === 0 ? 0 : most) : Math.trunc(count ?? 0) || 0;
      const removing = Math.min(Math.max(0, wanted), most);
      const taken: unknown[] = [];
      for (let done = 0; done < removing; done += 1) {
        taken.push(root.take(at));
      }
      items.forEach((item, index) => {
        root.insert(at + index, item);
      });
      return taken;
    },
    reverse(): unknown[] {
      root.reorder(root.bareValues.map((_, index) => root.length - 1 - index));
      return root.view();
    },
    sort(compare?: (left: unknown, right: unknown) => number): unknown[] {
      const by = compare ?? defaultOrder;
      const values = root.bareValues.map((_, index) => root.at(index));
      root.reorder(values.map((_, index) => index).sort((left, right) => by(values[left], values[right])));
      return root.view();
    },
    fill(value: unknown, start?: number, end?: number): unknown[] {
      for (let index = from(start, 0); index < from(end, root.length); index += 1) {
        root.replace(index, value);
      }
      return root.view();
    },
    copyWithin(target: number, start?: number, end?: number): unknown[] {
      root.become([...root.bareValues].copyWithin(target, start ?? 0, end));
      return root.view();
    },
  };
}

function defaultOrder(left: unknown, right: unknown): number {
  const [a, b] = [String(left), String(right)];
  return a < b ? -1 : a > b ? 1 : 0;
}
