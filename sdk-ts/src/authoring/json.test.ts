// JSON with one meaning: what is refused, and what stays exactly what it was.

import { describe, expect, test } from "vitest";
import { z } from "zod";
import { InvalidInput } from "../errors.js";
import { milliseconds } from "./durations.js";
import { canonicalJson, InvalidValue, parseJson } from "./json.js";
import { decodePayload, encodePayload, Payload } from "./payload.js";
import { decodeReply, ProcessingResult } from "./result.js";
import { compileSchema } from "./schema.js";
import type { Schema } from "./schema-types.js";
import { encodeCanonical, encodeJsonText, formatInstant, parseInstant } from "./values.js";

describe("parsing", () => {
  test.each([
    ['{"a":1,"a":1}', /duplicate key "a"/],
    ['{"x":{"a":1,"b":2,"\\u0061":3}}', /x: duplicate key "a"/],
    ["NaN", /not JSON/],
    ["", /not JSON/],
    ["[1,]", /not JSON/],
    ['"\\ud800"', /lone surrogate/],
    ['{"k":["\\ude00x"]}', /k\[0\]: text contains a lone surrogate/],
    ["9007199254740992", /beyond 2\^53 - 1/],
    ['{"n":[-9007199254740993]}', /n\[0\]: the integer/],
    ["1e999", /out of range/],
  ])("refuses %s", (text, message) => {
    expect(() => parseJson(text)).toThrow(InvalidValue);
    expect(() => parseJson(text)).toThrow(message);
  });

  test("refuses bytes that are not UTF-8, and a byte order mark", () => {
    expect(() => parseJson(new Uint8Array([0x22, 0xff, 0x22]))).toThrow(/not UTF-8/);
    expect(() => parseJson(new Uint8Array([0xef, 0xbb, 0xbf, 0x31]))).toThrow(/not JSON/);
  });

  test("refuses what is nested too deeply", () => {
    expect(() => parseJson("[".repeat(5000) + "]".repeat(5000))).toThrow(/nested too deeply/);
  });

  test.each([
    '{"b":1,"a":[true,false,null],"c":{"":0}}',
    '{"10":1,"9":{"2":1,"1":2},"x":3}',
    '{"__proto__":{"a":1},"constructor":2}',
    '"\\ud83d\\ude00 é"',
    "[9007199254740991,-9007199254740991,1.5,1e+300,-0]",
    '{"a":"\\"b\\": {","c\\"":"x"}',
    "-0",
  ])("%s comes back as it was", (text) => {
    const expected = text.replaceAll("\\ud83d\\ude00", "😀");
    expect(encodeJsonText(parseJson(text))).toBe(expected);
  });

  test("keys that look like indexes keep their order, also where new ones are added", () => {
    const value = parseJson('{"2":"b","1":"a"}') as Record<string, unknown>;
    value["3"] = "c";
    delete value["2"];
    expect(encodeJsonText(value)).toBe('{"1":"a","3":"c"}');
  });
});

describe("writing", () => {
  test("what JSON has no form for by itself", () => {
    expect(
      encodeJsonText({
        at: new Date("2026-01-31T12:00:00.120Z"),
        data: new Uint8Array([1, 2]),
        set: new Set([2, 1]),
        map: new Map([["k", 1n]]),
        gone: undefined,
        own: { toJSON: () => "own" },
      }),
    ).toBe('{"at":"2026-01-31T12:00:00.12Z","data":"AQI=","set":[1,2],"map":{"k":1},"own":"own"}');
  });

  test.each([
    [{ a: [Number.NaN] }, /a\[0\]: NaN is not a finite number/],
    [{ a: 2n ** 60n }, /a: the integer 1152921504606846976 is beyond/],
    [{ f: () => 1 }, /f: a function has no JSON form/],
    [[undefined], /\[0\]: undefined/],
    [{ p: Promise.resolve() }, /p: a Promise has no JSON form; was it awaited/],
    [{ e: new Error("x") }, /e: a Error has no JSON form/],
    [new Map([[1, 2]]), /the key 1 of a Map is not text/],
    ["a\ud800", /lone surrogate/],
    [{ "\ud800": 1 }, /lone surrogate/],
    [new Date(Number.NaN), /invalid Date/],
  ])("refuses %s, naming the place", (value, message) => {
    expect(() => encodeJsonText(value)).toThrow(message);
  });

  test("refuses what contains itself", () => {
    const loop: unknown[] = [];
    loop.push(loop);
    expect(() => encodeJsonText(loop)).toThrow(/contains itself/);
  });

  test("canonical text sorts keys by code points", () => {
    expect(canonicalJson({ b: 1, a: { "\u{1f600}": 1, "\uffff": 2 } })).toBe('{"a":{"\uffff":2,"😀":1},"b":1}');
    expect(encodeCanonical("a")).toBe('"a"');
  });
});

describe("instants and durations", () => {
  test("instants keep what they came with, unless they change", () => {
    const moment = parseInstant("2026-01-31T13:00:00.123456789+01:00") as Date;
    expect(moment.toISOString()).toBe("2026-01-31T12:00:00.123Z");
    expect(formatInstant(moment)).toBe("2026-01-31T12:00:00.123456789Z");
    moment.setUTCMilliseconds(500);
    expect(formatInstant(moment)).toBe("2026-01-31T12:00:00.5Z");
    expect(parseInstant("2026-02-30T00:00:00Z")).toBeUndefined();
    expect(parseInstant("2026-01-31 12:00:00Z")).toBeUndefined();
  });

  test("lengths of time", () => {
    expect(["250ms", "30s", "10m", "24h", "7d", 5, 0.2, "1.5h"].map((one) => milliseconds(one, "ttl"))).toEqual([
      250, 30_000, 600_000, 86_400_000, 604_800_000, 5, 1, 5_400_000,
    ]);
    expect(() => milliseconds("soon", "ttl")).toThrow(/ttl is "soon"; expected milliseconds, or text/);
    expect(() => milliseconds(-1, "ttl")).toThrow(InvalidInput);
  });
});

describe("payloads", () => {
  test("no value, null, text, bytes and results", () => {
    expect(encodePayload(undefined)).toEqual({ contentType: "", data: new Uint8Array(0) });
    expect(decodePayload(encodePayload(null))).toBeNull();
    expect(decodePayload(encodePayload(undefined))).toBeUndefined();
    expect(decodePayload(new Payload(new Uint8Array([104, 105]), "text/plain").toPayload())).toBe("hi");
    expect(decodePayload(new Payload(new Uint8Array([1])).toPayload())).toEqual(new Uint8Array([1]));
    const result = decodeReply(encodePayload(ProcessingResult.error("bad", { data: [1] }))) as ProcessingResult;
    expect([result.isError, result.message, result.data, result.errorType]).toEqual([
      true,
      "bad",
      [1],
      "PROCESSING_ERROR",
    ]);
  });
});

describe("schemas", () => {
  const place = (schema: Schema, value: unknown, direction: "decode" | "encode" = "decode"): string => {
    try {
      compileSchema(schema, "test")[direction](value as never, "");
      return "fits";
    } catch (error) {
      return (error as Error).message;
    }
  };

  test.each<[Schema, unknown, string]>([
    [{ type: "string" }, 5, "value: expected text, got the number 5"],
    [
      { type: "object", properties: { a: { type: "integer" } } },
      { a: 1.5 },
      "a: expected an integer, got the number 1.5",
    ],
    [
      { type: "object", properties: { a: { type: "array", items: { type: "boolean" } } } },
      { a: [true, null] },
      "a[1]: expected true or false, got null",
    ],
    [{ type: "object", required: ["x"], properties: { x: { type: "string" } } }, {}, "x: is missing; expected text"],
    [
      { type: "object", properties: { x: {} }, additionalProperties: false },
      { y: 1 },
      "y: is not known here; there are: x",
    ],
    [{ enum: ["RED", "GREEN"] }, "BLUE", 'value: expected one of RED, GREEN, got the text "BLUE"'],
    [{ type: "integer", format: "int32" }, 2 ** 31, "value: expected an integer of 32 bits, got the number 2147483648"],
    [
      { type: "string", format: "int64" },
      "9223372036854775808",
      'value: expected an integer from -9223372036854775808 to 9223372036854775807, got the text "9223372036854775808"',
    ],
    [
      { type: "string", format: "date-time" },
      "now",
      'value: expected an instant such as 2026-01-31T12:00:00Z, got the text "now"',
    ],
    [{ type: "string", contentEncoding: "base64" }, "a", 'value: expected bytes as base64, got the text "a"'],
    [{ type: "string", format: "decimal" }, "1,5", 'value: expected a decimal number as text, got the text "1,5"'],
    [
      { type: "integer", minimum: 1, maximum: 3 },
      4,
      "value: expected an integer of at least 1 and at most 3, got the number 4",
    ],
    [{ anyOf: [{ type: "string" }, { type: "null" }] }, 1, "value: expected text or null, got the number 1"],
    [{ type: "array", minItems: 2 }, [1], "value: expected a list of 2 to any number, got a list of 1"],
    [{ not: { type: "null" } }, null, "value: is one of those that are not allowed"],
    [{ $ref: "#/$defs/n", $defs: { n: { type: "number" } } }, "x", 'value: expected a number, got the text "x"'],
    [
      z.object({ a: z.object({ b: z.string() }) }),
      { a: { b: 1 } },
      "a.b: Invalid input: expected string, received number",
    ],
  ])("%j refuses %j", (schema, value, message) => {
    expect(place(schema, value)).toBe(message);
  });

  test("convert both ways", () => {
    const schema = {
      type: "object",
      properties: {
        at: { type: "string", format: "date-time" },
        big: { type: ["integer", "string"], format: "int64" },
        data: { type: "string", contentEncoding: "base64" },
        maybe: { anyOf: [{ type: "string", format: "date-time" }, { type: "null" }] },
      },
    };
    const converter = compileSchema(schema, "test");
    const json = { big: "9007199254740993", at: "2026-01-31T12:00:00Z", data: "AQI=", maybe: null, other: 1 };
    const value = converter.decode(json, "") as Record<string, unknown>;
    expect(value).toEqual({
      big: 9007199254740993n,
      at: new Date("2026-01-31T12:00:00Z"),
      data: new Uint8Array([1, 2]),
      maybe: null,
      other: 1,
    });
    expect(Object.keys(value)).toEqual(Object.keys(json));
    expect(converter.encode(value, "")).toEqual(json);
    expect(converter.encode({ big: 5n, gone: undefined }, "")).toEqual({ big: 5 });
    expect(place(schema, { at: "2026-01-31T12:00:00Z" }, "encode")).toBe("fits");
    expect(place(schema, { at: 5 }, "encode")).toMatch(/^at: expected an instant/);
  });

  test("of what is not checked say so", () => {
    expect(() => compileSchema({ if: {} }, "there")).toThrow(/there: the keyword if is not checked here/);
    expect(() => compileSchema({ type: "text" }, "there")).toThrow(/there is no type "text"/);
    expect(() => compileSchema({ $ref: "https://example.com" }, "there")).toThrow(/not inside the schema/);
    expect(() => compileSchema(5 as never, "there")).toThrow(/is no schema/);
  });

  test("that are asynchronous are awaited", async () => {
    const converter = compileSchema(
      z.string().refine(async (text) => text !== "no", "may not be no"),
      "test",
    );
    await expect(converter.decode("yes", "")).resolves.toBe("yes");
    await expect(converter.decode("no", "")).rejects.toThrow("value: may not be no");
  });
});
