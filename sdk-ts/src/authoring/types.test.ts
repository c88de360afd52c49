// What the compiler knows: inputs by schema, memories by their initial values, and what it refuses. Checked by tsc.

import { expectTypeOf, test } from "vitest";
import { z } from "zod";
import {
  Agent,
  type Context,
  defineAgent,
  handler,
  type Infer,
  type InputOf,
  memory,
  type OutputOf,
  remember,
} from "./index.js";

test("schemas give the types of their values", () => {
  const schema = {
    type: "object",
    properties: {
      name: { type: "string" },
      at: { type: "string", format: "date-time" },
      big: { type: ["integer", "string"], format: "int64" },
      data: { type: "string", contentEncoding: "base64" },
      color: { enum: ["RED", "GREEN"] },
      tags: { type: "array", items: { type: "integer" } },
      scores: { type: "object", additionalProperties: { type: "number" } },
      maybe: { anyOf: [{ type: "string" }, { type: "null" }] },
      either: { type: ["string", "null"] },
    },
    required: ["name", "at"],
  } as const;
  type Value = Infer<typeof schema>;
  expectTypeOf<Value["name"]>().toEqualTypeOf<string>();
  expectTypeOf<Value["at"]>().toEqualTypeOf<Date>();
  expectTypeOf<Value["big"]>().toEqualTypeOf<bigint | undefined>();
  expectTypeOf<Value["data"]>().toEqualTypeOf<Uint8Array | undefined>();
  expectTypeOf<Value["color"]>().toEqualTypeOf<"RED" | "GREEN" | undefined>();
  expectTypeOf<Value["tags"]>().toEqualTypeOf<number[] | undefined>();
  expectTypeOf<Value["scores"]>().toEqualTypeOf<{ [key: string]: number } | undefined>();
  expectTypeOf<Value["maybe"]>().toEqualTypeOf<string | null | undefined>();
  expectTypeOf<Value["either"]>().toEqualTypeOf<string | null | undefined>();
  const library = z.object({ when: z.coerce.date() });
  expectTypeOf<Infer<typeof library>>().toEqualTypeOf<{ when: Date }>();
});

test("defineAgent infers inputs, outputs, chunks and memories", () => {
  const agent = defineAgent({
    name: "Typed",
    memory: {
      counts: remember(() => new Map<string, number>()),
      total: remember(() => 0),
    },
    handlers: (on) => ({
      bySchema: on({ input: z.object({ n: z.number() }) }, async ({ n }, { memory }) => {
        expectTypeOf(n).toEqualTypeOf<number>();
        expectTypeOf(memory).toEqualTypeOf<{ counts: Map<string, number>; total: number }>();
        return String(n);
      }),
      byJsonSchema: on({ input: { type: "array", items: { type: "string" } } }, (texts) => texts.length),
      byAnnotation: on(async (text: string, context) => {
        expectTypeOf(context.memory.total).toEqualTypeOf<number>();
        return text.length;
      }),
      streams: on(async function* (to: number) {
        yield to;
      }),
    }),
  });
  type A = typeof agent;
  expectTypeOf<InputOf<A, "bySchema">>().toEqualTypeOf<{ n: number }>();
  expectTypeOf<OutputOf<A, "bySchema">>().toEqualTypeOf<string>();
  expectTypeOf<InputOf<A, "byJsonSchema">>().toEqualTypeOf<string[]>();
  expectTypeOf<OutputOf<A, "byJsonSchema">>().toEqualTypeOf<number>();
  expectTypeOf<InputOf<A, "byAnnotation">>().toEqualTypeOf<string>();
  expectTypeOf<OutputOf<A, "streams">>().toEqualTypeOf<number>();
  expectTypeOf<A["memory"]["counts"]>().toEqualTypeOf<Map<string, number>>();
});

test("decorators refuse methods and fields that do not fit", () => {
  @Agent
  class Fits {
    @memory({ persistent: true }) counts = new Map<string, number>();
    @memory accessor total = 0;

    @handler({ input: z.object({ n: z.number() }) })
    takes(input: { n: number }, _context: Context): number {
      return input.n;
    }

    // @ts-expect-error the schema gives a number, not text
    @handler({ input: z.object({ n: z.number() }) })
    refuses(input: { n: string }): string {
      return input.n;
    }

    // @ts-expect-error there is no such option
    @handler({ timeuot: "5s" })
    misspelt(): void {}
  }
  expectTypeOf<Fits["total"]>().toEqualTypeOf<number>();
});
