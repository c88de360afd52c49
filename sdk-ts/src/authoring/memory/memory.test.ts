// Tracked memory: what is noticed, what the engine is told, what a failure undoes.

import { describe, expect, test } from "vitest";
import { z } from "zod";
import { MEMORY_KIND, type WireMemoryChange, type WireMemoryImage } from "../../protocol/wire.js";
import { shown } from "../run.fixture.js";
import type { Schema } from "../schema-types.js";
import { Codec } from "./codec.js";
import { expire, kindOf, Memories, register } from "./instance.js";
import { plainCopy } from "./tracked.js";

interface Said {
  ttlMs?: number;
  maxEntries?: number;
  schema?: Schema;
  keys?: Schema;
  persistent?: boolean;
}

/** One memory called `m`. */
class Subject {
  now = 0;
  version = 0;
  readonly memories: Memories;
  readonly holder = {};

  constructor(initial: unknown, said: Said = {}, image?: Record<string, string>) {
    const kind = kindOf(initial);
    const [item, key] = kind === MEMORY_KIND.SET ? [undefined, said.schema] : [said.schema, said.keys];
    const spec = {
      name: "m",
      kind,
      persistent: said.persistent ?? true,
      ttlMs: said.ttlMs ?? 0,
      maxEntries: said.maxEntries ?? 0,
      description: "",
      codec: new Codec(item, key, "m"),
    };
    this.memories = new Memories(
      new Map([["m", spec]]),
      () => initial,
      () => this.now,
    );
    register(this.holder, this.memories);
    if (image === undefined) {
      this.memories.load([], 0);
    } else {
      this.version = 1;
      this.memories.load(imageOf(image), 1);
    }
  }

  // biome-ignore lint/suspicious/noExplicitAny: every kind of memory
  get m(): any {
    return this.memories.read("m");
  }

  set m(value: unknown) {
    this.memories.assign("m", value);
  }

  /** Changes told at a commit, as text without the memory's name. */
  commit(): string[] {
    const changes: WireMemoryChange[] = [];
    if (this.memories.changed) {
      this.memories.collect(changes);
    }
    return changes.map((change) => shown(change).slice(2));
  }

  rollback(): void {
    this.memories.rollback();
  }
}

function imageOf(entries: Record<string, string>): WireMemoryImage[] {
  const encoder = new TextEncoder();
  const list = Object.entries(entries).map(([id, value]) => ({ id, value: encoder.encode(value), expiresInMs: 0 }));
  return [{ name: "m", entries: list }];
}

test("what was of another kind before is an error that names the memory", () => {
  for (const [initial, id] of [
    [[], '"a"'],
    [0, '"a"'],
    [new Map(), ""],
    [new Set(), ""],
  ] as const) {
    expect(() => new Subject(initial, {}, { [id]: "1" }).m).toThrow("memory 'm' was of another kind before");
  }
});

describe("a map", () => {
  test("tells what was written and removed, by keys as JSON", () => {
    const s = new Subject(new Map());
    s.m
      .set("a", 1)
      .set(1, "one")
      .set("1", "text")
      .set([1, { b: 2, a: 1 }], true);
    expect(s.commit()).toEqual(['put "a" 1', 'put 1 "one"', 'put "1" "text"', 'put [1,{"a":1,"b":2}] true']);
    expect(s.m.get([1, { a: 1, b: 2 }])).toBe(true);
    s.m.delete("a");
    s.m.delete("unknown");
    s.m.set("new", null).delete("new");
    expect(s.commit()).toEqual(['remove "a"', 'remove "new"']);
    expect(s.commit()).toEqual([]);
    s.m.clear();
    s.m.set("x", 1);
    expect(s.commit()).toEqual(["clear", 'put "x" 1']);
  });

  test("is a Map in every respect", () => {
    const s = new Subject(new Map(), {}, { '"a"': "1", '"b"': '{"n":2}' });
    expect(s.m).toBeInstanceOf(Map);
    expect([...s.m]).toEqual([
      ["a", 1],
      ["b", { n: 2 }],
    ]);
    expect([...s.m.keys()]).toEqual(["a", "b"]);
    expect([...s.m.values()]).toEqual([1, { n: 2 }]);
    expect(s.m.size).toBe(2);
    const seen: unknown[] = [];
    s.m.forEach((value: unknown, key: unknown) => {
      seen.push([key, value]);
    });
    expect(seen).toHaveLength(2);
    expect(new Map(s.m).get("b")).toEqual({ n: 2 });
    expect(JSON.stringify(s.m.get("b"))).toBe('{"n":2}');
    expect(s.memories.changed).toBe(false);
  });

  test("notices changes deep inside", () => {
    const s = new Subject(new Map(), {}, { '"u"': '{"list":[1],"deep":{"x":{"y":1}}}', '"v"': "{}" });
    s.m.get("u").list.push(2, 3);
    s.m.get("u").deep.x.y += 1;
    expect(s.commit()).toEqual(['put "u" {"list":[1,2,3],"deep":{"x":{"y":2}}}']);
    delete s.m.get("u").deep;
    Object.assign(s.m.get("v"), { n: 1 });
    for (const item of s.m.values()) {
      item.seen = true;
    }
    expect(s.commit()).toEqual(['put "u" {"list":[1,2,3],"seen":true}', 'put "v" {"n":1,"seen":true}']);
    s.m.get("u").list.sort((a: number, b: number) => b - a);
    expect(s.commit()).toEqual(['put "u" {"list":[3,2,1],"seen":true}']);
    s.m.get("u").list.splice(0, 2);
    expect(s.commit()).toEqual(['put "u" {"list":[1],"seen":true}']);
  });

  test("undoes everything a failed handler did, in place and in order", () => {
    const s = new Subject(new Map(), {}, { '"a"': '{"n":[1,2]}', '"b"': "2", '"c"': "3" });
    const a = s.m.get("a");
    a.n.push(3);
    a.extra = 1;
    s.m.set("b", 20);
    s.m.delete("c");
    s.m.set("d", 4);
    s.rollback();
    expect(Object.fromEntries(s.m)).toEqual({ a: { n: [1, 2] }, b: 2, c: 3 });
    expect(s.memories.changed).toBe(false);
    expect(s.commit()).toEqual([]);
    s.m.clear();
    s.m.set("a", 0);
    s.rollback();
    expect(Object.fromEntries(s.m)).toEqual({ a: { n: [1, 2] }, b: 2, c: 3 });
    a.n.push(9); // what was read before is what the memory has
    expect(s.commit()).toEqual(['put "a" {"n":[1,2,9]}']);
  });

  test("takes over what is put into it: later changes of the original do not matter", () => {
    const s = new Subject(new Map());
    const mine = { list: [1] };
    s.m.set("a", mine);
    mine.list.push(2); // before the commit they do
    const seen = s.m.get("a");
    expect(s.commit()).toEqual(['put "a" {"list":[1,2]}']);
    mine.list.push(3);
    expect(s.m.get("a")).toEqual({ list: [1, 2] });
    seen.list.push(4); // what the memory handed out still counts
    expect(s.m.get("a")).toEqual({ list: [1, 2, 4] });
    expect(s.commit()).toEqual(['put "a" {"list":[1,2,4]}']);
    s.m.set("b", s.m.get("a"));
    s.commit();
    s.m.get("b").list.push(5);
    expect(s.commit()).toEqual(['put "b" {"list":[1,2,4,5]}']);
    expect(s.m.get("a")).toEqual({ list: [1, 2, 4] });
  });

  test("assigning replaces its content", () => {
    const s = new Subject(new Map(), {}, { '"a"': "1", '"b"': "2" });
    s.m = new Map<unknown, unknown>([
      ["b", 3],
      ["c", 4],
    ]);
    expect(s.commit()).toEqual(['remove "a"', 'put "b" 3', 'put "c" 4']);
    expect(() => {
      s.m = [];
    }).toThrow(/memory 'm' is a Map; it cannot become a Array/);
  });

  test("bounded: the least recently used go first, and reads are told", () => {
    const s = new Subject(new Map(), { maxEntries: 2 }, { '"a"': "1", '"b"': "2" });
    s.m.get("a");
    expect(s.commit()).toEqual([]); // a read alone is nothing to commit
    s.m.set("c", 3);
    expect(s.commit()).toEqual(['remove "b"', 'touch "a"', 'put "c" 3']);
    expect([...s.m.keys()]).toEqual(["a", "c"]);
  });

  test("entries live as long as the memory says since they were last written, or as they are told", () => {
    const s = new Subject(new Map(), { ttlMs: 1000 });
    s.m.set("a", { n: 1 }).set("b", 2);
    expect(s.commit()).toEqual(['put "a" {"n":1} +1000', 'put "b" 2 +1000']);
    s.now = 600;
    s.m.get("a").n = 2;
    expire(s.m, "b", "5s");
    expect(s.commit()).toEqual(['put "a" {"n":2} +1000', 'put "b" 2 +5000']);
    s.now = 1600;
    expect([...s.m.keys()]).toEqual(["b"]);
    expect(s.commit()).toEqual([]);
    expect(() => expire(s.m, "none", "5s")).toThrow(/no entry "none"/);
    expect(() => expire(s.m, "b", 0)).toThrow(/positive/);
  });

  test("a failed handler's lifetimes are undone, too", () => {
    const s = new Subject(new Map());
    s.m.set("a", 1);
    s.commit();
    expire(s.m, "a", 100);
    s.rollback();
    s.now = 1000;
    expect(s.m.get("a")).toBe(1);
  });
});

describe("values", () => {
  test("dates come back as text, others that JSON does not give back are refused by name", () => {
    const s = new Subject(new Map());
    s.m.set("a", { at: new Date(0) });
    expect(s.commit()).toEqual(['put "a" {"at":"1970-01-01T00:00:00Z"}']);
    expect(s.m.get("a")).toEqual({ at: "1970-01-01T00:00:00Z" });
    class Order {}
    const refused: [unknown, RegExp][] = [
      [{ list: [new Map()] }, /memory m\["a"\].list\[0\]: a Map does not come back from JSON/],
      [new Order(), /a Order does not come back/],
      [1n, /bigint/],
      [Number.NaN, /finite/],
      [undefined, /undefined has no JSON form/],
      ["\ud800", /surrogate/],
    ];
    for (const [value, message] of refused) {
      s.m.set("a", value);
      expect(() => s.commit()).toThrow(message);
      s.rollback();
    }
  });

  test("with a JSON Schema: dates, bytes and big integers are what they were", () => {
    const schema = {
      type: "object",
      properties: {
        at: { type: "string", format: "date-time" },
        data: { type: "string", contentEncoding: "base64" },
        big: { type: ["integer", "string"], format: "int64" },
      },
    };
    const s = new Subject(
      new Map(),
      { schema },
      { '"a"': '{"at":"2026-01-31T12:00:00.5Z","data":"AQI=","big":"9007199254740993"}' },
    );
    expect(s.m.get("a").at).toEqual(new Date("2026-01-31T12:00:00.500Z"));
    expect(s.m.get("a").big).toBe(9007199254740993n);
    expect(s.memories.changed).toBe(false); // looking at a date is no change, not even in a concurrent handler
    expect(s.commit()).toEqual([]);
    s.m.get("a").data[0] = 9; // nobody tells of this one
    expect(s.commit()).toEqual(['put "a" {"at":"2026-01-31T12:00:00.5Z","data":"CQI=","big":"9007199254740993"}']);
    s.m.get("a").data[0] = 1;
    s.rollback();
    expect([...s.m.get("a").data]).toEqual([9, 2]);
    s.m.set("b", { big: "x" });
    expect(() => s.commit()).toThrow(/m\["b"\].big: expected an integer of 64 bits/);
  });

  test("with a Standard Schema", () => {
    const schema = z.object({ at: z.coerce.date() });
    const s = new Subject(new Map(), { schema }, { '"a"': '{"at":"2026-01-31T12:00:00Z"}' });
    expect(s.m.get("a").at).toEqual(new Date("2026-01-31T12:00:00Z"));
    s.m.get("a").at.setUTCFullYear(2027);
    expect(s.commit()).toEqual(['put "a" {"at":"2027-01-31T12:00:00Z"}']);
  });
});

describe("a set", () => {
  test("tells members as canonical JSON", () => {
    const s = new Subject(new Set());
    s.m.add("b").add(1).add({ y: 1, x: 2 }).add({ x: 2, y: 1 }).add("b");
    expect(s.commit()).toEqual(['put "b"', "put 1", 'put {"x":2,"y":1}']);
    expect(s.m.size).toBe(3);
    expect(s.m.has({ x: 2, y: 1 })).toBe(true);
    s.m.delete("b");
    s.m.add("c");
    s.rollback();
    expect([...s.m]).toEqual([1, { x: 2, y: 1 }, "b"]);
    s.m = new Set([1, 2]);
    expect(s.commit()).toEqual(['remove {"x":2,"y":1}', 'remove "b"', "put 2"]);
    expect(() => {
      [...s.m].find((one) => typeof one === "object");
      s.m.add({ a: 1 });
      ([...s.m].at(-1) as { a: number }).a = 2;
    }).toThrow(TypeError);
  });

  test("bounded and expiring", () => {
    const s = new Subject(new Set(), { maxEntries: 2, ttlMs: 100 });
    s.m.add(1).add(2);
    s.commit();
    s.m.has(1);
    s.m.add(3);
    expect(s.commit()).toEqual(["remove 2", "touch 1", "put 3  +100"]);
    s.now = 50;
    s.m.add(3); // written again: lives anew
    expect(s.commit()).toEqual(["put 3  +100"]);
    s.now = 120;
    expect([...s.m]).toEqual([3]);
  });
});

describe("a list", () => {
  test("is an array, and tells only what changes", () => {
    const s = new Subject([] as unknown[]);
    expect(Array.isArray(s.m)).toBe(true);
    s.m.push("a", "b", "c");
    expect(s.commit()).toEqual(['put 0 "a"', 'put 1 "b"', 'put 2 "c"']);
    s.m[1] = "B";
    expect(s.commit()).toEqual(['put 1 "B"']);
    expect(s.m.shift()).toBe("a");
    s.m.unshift("x", "y");
    expect([...s.m]).toEqual(["x", "y", "B", "c"]);
    expect(s.commit()).toEqual(['put 0 "y"', 'put -1 "x"']);
    s.m.splice(1, 1, "p", "q", "r");
    expect(s.m.join("")).toBe("xpqrBc");
    expect(s.m.length).toBe(6);
    const changes = s.commit();
    expect(changes.length).toBeLessThanOrEqual(8);
    s.m.length = 2;
    s.m.reverse();
    expect([...s.m]).toEqual(["p", "x"]);
    s.commit();
    s.m.length = 0;
    expect(s.commit()).toEqual(["clear"]);
    s.m = [3, 1, 2];
    s.commit();
    s.m.sort();
    expect(s.commit()).toHaveLength(3);
    expect(s.m.map((n: number) => n * 2)).toEqual([2, 4, 6]);
    expect(() => {
      s.m[9] = 1;
    }).toThrow(/no gaps/);
  });

  test("what the engine is told gives the same list, whatever was done", () => {
    let seed = 7;
    const random = (below: number) => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return seed % below;
    };
    const s = new Subject([] as unknown[]);
    const kept = new Map<string, string>();
    let model: unknown[] = [];
    for (let round = 0; round < 400; round += 1) {
      const before = [...model];
      for (let step = random(4); step >= 0; step -= 1) {
        const at = random(model.length + 1);
        const value = `${round}.${step}`;
        switch (random(8)) {
          case 0:
            s.m.push(value);
            model.push(value);
            break;
          case 1:
          case 2:
            s.m.splice(at, 0, value);
            model.splice(at, 0, value);
            break;
          case 3:
            expect(s.m.splice(at, 2)).toEqual(model.splice(at, 2));
            break;
          case 4:
            expect(s.m.pop()).toBe(model.pop());
            break;
          case 5:
            s.m.unshift(value);
            model.unshift(value);
            break;
          case 6:
            s.m.reverse();
            model.reverse();
            break;
          default:
            if (at < model.length) {
              s.m[at] = value;
              model[at] = value;
            }
        }
        expect([...s.m]).toEqual(model);
      }
      if (random(3) === 0) {
        s.rollback();
        model = before;
        expect([...s.m]).toEqual(model);
        continue;
      }
      const changes: WireMemoryChange[] = [];
      s.memories.collect(changes);
      for (const { clear, remove, put } of changes) {
        if (clear) {
          kept.clear();
        } else if (remove !== undefined) {
          kept.delete(remove);
        } else if (put !== undefined) {
          kept.set(put.id, new TextDecoder().decode(put.value));
        }
      }
      const told = [...kept]
        .sort(([left], [right]) => Number(left) - Number(right))
        .map(([, value]) => JSON.parse(value));
      expect(told).toEqual(model);
    }
  });

  test("bounded at its front, with lifetimes that move along", () => {
    const s = new Subject([] as unknown[], { maxEntries: 2 });
    s.m.push(1, 2, 3);
    expect(s.commit()).toEqual(["remove 0", "put 1 2", "put 2 3"]);
    expire(s.m, 0, 100);
    s.commit();
    s.m.reverse();
    s.commit();
    s.now = 200;
    expect([...s.m]).toEqual([3]);
  });

  test("items that are objects are watched", () => {
    const s = new Subject([] as unknown[], {}, { "0": '{"n":1}', "5": '{"n":2}' });
    s.m[1].n += 1;
    expect(s.commit()).toEqual(['put 5 {"n":3}']);
    s.m.find((one: { n: number }) => one.n === 1).n = 7;
    expect(s.commit()).toEqual(['put 0 {"n":7}']);
    expect(s.m.indexOf(s.m[1])).toBe(1);
  });
});

describe("a single value", () => {
  test("is written, undone, removed and expires", () => {
    const s = new Subject(0);
    s.m = 5;
    expect(s.commit()).toEqual(["put  5"]);
    s.m = 6;
    s.rollback();
    expect(s.m).toBe(5);
    expire(s.holder, "m", 100);
    expect(s.commit()).toEqual(["put  5 +100"]);
    s.now = 200;
    expect(s.m).toBe(0);
    s.m = undefined;
    expect(() => s.commit()).toThrow(/undefined has no JSON form/);
  });

  test("without an initial one, undefined removes it", () => {
    const s = new Subject(undefined);
    s.m = { a: [1] };
    s.commit();
    s.m.a.push(2);
    expect(s.commit()).toEqual(['put  {"a":[1,2]}']);
    s.m = undefined;
    expect(s.commit()).toEqual(["remove"]);
    expect(s.m).toBeUndefined();
  });
});

describe("initial values", () => {
  test("of containers are stored with the first commit, and are no reason for one", () => {
    const s = new Subject(new Map([["a", [1]]]));
    expect(s.m.get("a")).toEqual([1]);
    expect(s.memories.changed).toBe(false);
    s.m.set("b", [2]);
    expect(s.commit()).toEqual(['put "a" [1]', 'put "b" [2]']);
    const emptied = new Subject(new Map([["a", 1]]), {}, {});
    expect([...emptied.m]).toEqual([]);
  });

  test("belong to one instance each", () => {
    const shared = new Map([["a", { n: [1] }]]);
    const [one, other] = [new Subject(shared), new Subject(shared)];
    one.m.get("a").n.push(2);
    expect(other.m.get("a")).toEqual({ n: [1] });
    expect(shared.get("a")).toEqual({ n: [1] });
  });
});

test("plainCopy gives what belongs to no memory", () => {
  const s = new Subject(new Map(), {}, { '"a"': '{"n":[1]}' });
  const copy = plainCopy(s.m.get("a"));
  copy.n.push(2);
  expect(s.memories.changed).toBe(false);
  expect(structuredClone(copy)).toEqual({ n: [1, 2] });
});
