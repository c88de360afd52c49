// Conversion by schema, both ways: Standard Schema libraries validate by themselves, JSON Schema is walked here.
// What does not fit is an InvalidInput naming the place.

import { DefinitionError, InvalidInput } from "../errors.js";
import { canonicalJson, InvalidValue, type Json, join, keepKeyOrder, orderedKeys } from "./json.js";
import type { JsonSchema, Schema } from "./schema-types.js";
import type { StandardResult, StandardSchema } from "./standard-schema.js";
import { decodeBase64, encodeBase64, formatInstant, isDate, isDuration, parseInstant, toPlain } from "./values.js";

/** Converts the values of one schema. `decode` and `encode` throw InvalidInput; promises come of asynchronous schemas. */
export interface Converter {
  /** JSON Schema of what travels, as text; empty: not known, or anything. */
  readonly text: { readonly input: string; readonly output: string };
  /** JSON value, or undefined for no value, to the application's value. */
  decode(value: Json | undefined, pointer: string): unknown;
  /** The application's value to a JSON value. */
  encode(value: unknown, pointer: string): Json | Promise<Json>;
}

/** The converter of a schema. Throws DefinitionError naming `where` for what is no schema, or is more than is checked. */
export function compileSchema(schema: Schema, where: string): Converter {
  if ((typeof schema === "object" || typeof schema === "function") && schema !== null && "~standard" in schema) {
    return new StandardConverter(schema as StandardSchema, where);
  }
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) {
    throw new DefinitionError(`${where}: ${String(schema)} is no schema; use JSON Schema, or zod, valibot, arktype`);
  }
  return new JsonSchemaConverter(schema as JsonSchema, where);
}

class StandardConverter implements Converter {
  readonly text: { input: string; output: string };
  private readonly standard: StandardSchema["~standard"];

  constructor(schema: StandardSchema, where: string) {
    this.standard = schema["~standard"];
    if (this.standard.version !== 1 || typeof this.standard.validate !== "function") {
      throw new DefinitionError(`${where}: the schema is not of version 1 of Standard Schema`);
    }
    this.text = { input: jsonSchemaOf(schema, "input"), output: jsonSchemaOf(schema, "output") };
  }

  decode(value: Json | undefined, pointer: string): unknown {
    const result = this.standard.validate(value);
    return result instanceof Promise ? result.then((done) => accepted(done, pointer)) : accepted(result, pointer);
  }

  encode(value: unknown, pointer: string): Json | Promise<Json> {
    const result = this.standard.validate(value);
    return result instanceof Promise
      ? result.then((done) => toPlain(accepted(done, pointer), pointer))
      : toPlain(accepted(result, pointer), pointer);
  }
}

function accepted(result: StandardResult<unknown>, pointer: string): unknown {
  if (result.issues === undefined) {
    return result.value;
  }
  const issue = result.issues[0];
  let place = pointer;
  for (const step of issue?.path ?? []) {
    const key = typeof step === "object" ? step.key : step;
    place = typeof key === "number" ? `${place}[${key}]` : join(place, String(key));
  }
  throw new InvalidInput(`${place || "value"}: ${issue?.message ?? "does not fit"}`, place);
}

/** JSON Schema of a library's schema, as text; empty where the library offers none, or has none for this schema. */
function jsonSchemaOf(schema: StandardSchema, side: "input" | "output"): string {
  try {
    const standard = schema["~standard"].jsonSchema?.[side]({ target: "draft-2020-12" });
    if (standard !== undefined) {
      return JSON.stringify(standard);
    }
    for (const name of ["toJSONSchema", "toJsonSchema"] as const) {
      const make = (schema as unknown as Record<string, unknown>)[name];
      if (typeof make === "function") {
        return JSON.stringify(make.call(schema, name === "toJSONSchema" ? { io: side } : undefined));
      }
    }
  } catch {
    // Not every schema has a JSON form, a custom check for example: then the definition says nothing of it.
  }
  return "";
}

/** Keywords that assert something. Others are annotations, and are passed on. */
const CHECKED = new Set([
  ..."type enum const properties required additionalProperties propertyNames items prefixItems".split(" "),
  ..."minItems maxItems uniqueItems minLength maxLength pattern minimum maximum".split(" "),
  ..."exclusiveMinimum exclusiveMaximum multipleOf minProperties maxProperties".split(" "),
  ..."anyOf oneOf allOf not $ref format contentEncoding".split(" "),
]);
const UNCHECKED = new Set([
  ..."if then else patternProperties dependentRequired dependentSchemas contains minContains maxContains".split(" "),
  ..."unevaluatedItems unevaluatedProperties $dynamicRef $recursiveRef".split(" "),
]);
const TYPES = ["string", "number", "integer", "boolean", "null", "array", "object"];
const INTEGER = /^-?\d{1,19}$/;
const INT64_MAX = 2n ** 63n - 1n;
const INT64_MIN = -(2n ** 63n);

type Node = JsonSchema | boolean;
type Direction = "decode" | "encode";

class JsonSchemaConverter implements Converter {
  readonly text: { input: string; output: string };
  private readonly root: JsonSchema;
  private readonly patterns = new Map<string, RegExp>();

  constructor(schema: JsonSchema, where: string) {
    this.root = schema;
    this.check(schema, where, 0);
    const text = Object.keys(schema).length === 0 ? "" : JSON.stringify(schema);
    this.text = { input: text, output: text };
  }

  decode(value: Json | undefined, pointer: string): unknown {
    if (value === undefined) {
      this.walk(this.root, null, pointer, "decode"); // no value, where null will do as well
      return undefined;
    }
    return this.walk(this.root, value, pointer, "decode");
  }

  encode(value: unknown, pointer: string): Json {
    return this.walk(this.root, value === undefined && pointer === "" ? null : value, pointer, "encode") as Json;
  }

  private check(node: unknown, where: string, depth: number): void {
    if (typeof node === "boolean") {
      return;
    }
    if (typeof node !== "object" || node === null || Array.isArray(node) || depth > 64) {
      throw new DefinitionError(`${where}: ${JSON.stringify(node)} is no JSON Schema`);
    }
    const schema = node as JsonSchema;
    for (const keyword of Object.keys(schema)) {
      if (UNCHECKED.has(keyword)) {
        throw new DefinitionError(
          `${where}: the keyword ${keyword} is not checked here, so it would promise too much; use zod, valibot or arktype`,
        );
      }
    }
    const types = typeList(schema);
    for (const type of types) {
      if (!TYPES.includes(type)) {
        throw new DefinitionError(`${where}: there is no type ${JSON.stringify(type)}; there are ${TYPES.join(", ")}`);
      }
    }
    if (typeof schema["pattern"] === "string") {
      this.patterns.set(schema["pattern"], new RegExp(schema["pattern"], "u"));
    }
    if (schema["$ref"] !== undefined) {
      this.resolve(schema["$ref"], where);
      const beside = Object.keys(schema).filter((keyword) => keyword !== "$ref" && CHECKED.has(keyword));
      if (beside.length > 0) {
        throw new DefinitionError(`${where}: ${beside[0]} beside a $ref is not checked here; put both into allOf`);
      }
    }
    for (const keyword of ["items", "additionalProperties", "propertyNames", "not"]) {
      if (schema[keyword] !== undefined) {
        this.check(schema[keyword], `${where}.${keyword}`, depth + 1);
      }
    }
    for (const keyword of ["anyOf", "oneOf", "allOf", "prefixItems"]) {
      for (const part of (schema[keyword] ?? []) as readonly unknown[]) {
        this.check(part, `${where}.${keyword}`, depth + 1);
      }
    }
    for (const keyword of ["properties", "$defs", "definitions"]) {
      for (const [name, part] of Object.entries((schema[keyword] ?? {}) as object)) {
        this.check(part, `${where}.${name}`, depth + 1);
      }
    }
  }

  private resolve(reference: unknown, where: string): Node {
    if (typeof reference !== "string" || !reference.startsWith("#")) {
      throw new DefinitionError(`${where}: $ref ${JSON.stringify(reference)} is not inside the schema ("#/$defs/…")`);
    }
    let node: unknown = this.root;
    for (const step of reference.slice(1).split("/").slice(1)) {
      node = (node as Record<string, unknown> | undefined)?.[
        decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~")
      ];
    }
    if (node === undefined) {
      throw new DefinitionError(`${where}: $ref ${reference} leads nowhere`);
    }
    return node as Node;
  }

  private walk(node: Node, value: unknown, pointer: string, direction: Direction): unknown {
    if (typeof node === "boolean") {
      if (!node) {
        throw new InvalidInput(`${pointer || "value"}: nothing is allowed here`, pointer);
      }
      return direction === "encode" ? toPlain(value, pointer) : value;
    }
    if (node["$ref"] !== undefined) {
      return this.walk(this.resolve(node["$ref"], ""), value, pointer, direction);
    }
    if (value === undefined) {
      throw mismatch(expected(node), value, pointer);
    }
    const converted = this.alternatives(node, value, pointer, direction);
    const result = this.typed(node, value, pointer, direction);
    return result === value && converted !== undefined ? converted.value : result;
  }

  /** anyOf, oneOf, allOf and not: what the first that fits makes of the value. */
  private alternatives(
    node: JsonSchema,
    value: unknown,
    pointer: string,
    direction: Direction,
  ): { value: unknown } | undefined {
    let found: { value: unknown } | undefined;
    const anyOf = (node["anyOf"] ?? node["oneOf"]) as readonly Node[] | undefined;
    if (anyOf !== undefined) {
      let fitting = 0;
      let first: InvalidInput | undefined;
      for (const choice of anyOf) {
        try {
          const made = this.walk(choice, value, pointer, direction);
          fitting += 1;
          found ??= { value: made };
          if (node["oneOf"] === undefined) {
            break;
          }
        } catch (error) {
          if (!(error instanceof InvalidInput)) {
            throw error;
          }
          // The choice that got deepest into the value knows best what is wrong with it.
          if (first === undefined || error.pointer.length > first.pointer.length) {
            first = error;
          }
        }
      }
      if (fitting === 0) {
        throw first !== undefined && first.pointer !== pointer ? first : mismatch(expected(node), value, pointer);
      }
      if (fitting > 1 && node["oneOf"] !== undefined) {
        throw new InvalidInput(
          `${pointer || "value"}: fits ${fitting} of the choices; it must fit exactly one`,
          pointer,
        );
      }
    }
    for (const part of (node["allOf"] ?? []) as readonly Node[]) {
      const made = this.walk(part, value, pointer, direction);
      found = { value: found === undefined || found.value === value ? made : merged(value, found.value, made) };
    }
    if (node["not"] !== undefined && this.fits(node["not"] as Node, value, pointer, direction)) {
      throw new InvalidInput(`${pointer || "value"}: is one of those that are not allowed`, pointer);
    }
    return found;
  }

  private fits(node: Node, value: unknown, pointer: string, direction: Direction): boolean {
    try {
      this.walk(node, value, pointer, direction);
      return true;
    } catch (error) {
      if (error instanceof InvalidInput) {
        return false;
      }
      throw error;
    }
  }

  private typed(node: JsonSchema, value: unknown, pointer: string, direction: Direction): unknown {
    const types = typeList(node);
    if (value === null) {
      if (types.length > 0 && !types.includes("null")) {
        throw mismatch(expected(node), value, pointer);
      }
      return this.listed(node, null, pointer);
    }
    if (node["format"] === "int64") {
      return this.listed(node, integer64(node, value, pointer, direction), pointer);
    }
    if (node["contentEncoding"] === "base64" || node["format"] === "byte") {
      return bytes(node, value, pointer, direction);
    }
    if (node["format"] === "date-time" && (types.length === 0 || types.includes("string"))) {
      return instant(node, value, pointer, direction);
    }
    if (types.length > 0 && !types.some((type) => isOfType(value, type))) {
      throw mismatch(expected(node), value, pointer);
    }
    if (typeof value === "string") {
      this.string(node, value, pointer);
    } else if (typeof value === "number") {
      number(node, value, pointer);
    } else if (Array.isArray(value) || value instanceof Set) {
      return this.listed(node, this.list(node, [...value], value, pointer, direction), pointer);
    } else if (typeof value === "object" && (types.includes("object") || node["properties"] !== undefined)) {
      return this.listed(node, this.object(node, value, pointer, direction), pointer);
    }
    return this.listed(node, direction === "encode" ? toPlain(value, pointer) : value, pointer);
  }

  /** enum and const. */
  private listed(node: JsonSchema, value: unknown, pointer: string): unknown {
    if (node["enum"] === undefined && !("const" in node)) {
      return value;
    }
    const choices = "const" in node ? [node["const"]] : (node["enum"] as readonly unknown[]);
    const written = canonicalJson(toPlain(value, pointer));
    if (!choices.some((choice) => canonicalJson(choice as Json) === written)) {
      throw mismatch(expected(node), value, pointer);
    }
    return value;
  }

  private string(node: JsonSchema, value: string, pointer: string): void {
    const length = node["minLength"] !== undefined || node["maxLength"] !== undefined ? [...value].length : 0;
    if (length < bound(node, "minLength", 0) || length > bound(node, "maxLength", Number.POSITIVE_INFINITY)) {
      throw mismatch(expected(node), value, pointer);
    }
    const pattern = node["pattern"];
    if (typeof pattern === "string" && !(this.patterns.get(pattern) as RegExp).test(value)) {
      throw mismatch(`text matching ${pattern}`, value, pointer);
    }
    const format = typeof node["format"] === "string" ? FORMATS[node["format"]] : undefined;
    if (format !== undefined && !format.accepts(value)) {
      throw mismatch(format.name, value, pointer);
    }
  }

  private list(node: JsonSchema, items: unknown[], whole: unknown, pointer: string, direction: Direction): unknown {
    if (items.length < bound(node, "minItems", 0) || items.length > bound(node, "maxItems", Number.POSITIVE_INFINITY)) {
      throw mismatch(`${expected(node)} of ${lengths(node, "minItems", "maxItems")}`, whole, pointer);
    }
    const prefix = (node["prefixItems"] ?? []) as readonly Node[];
    const rest = node["items"] as Node | undefined;
    const made = items.map((item, index) =>
      this.walk(prefix[index] ?? rest ?? true, item, `${pointer}[${index}]`, direction),
    );
    if (node["uniqueItems"] === true) {
      const seen = new Set(made.map((item) => canonicalJson(toPlain(item, pointer))));
      if (seen.size !== made.length) {
        throw new InvalidInput(`${pointer || "value"}: items must differ from each other`, pointer);
      }
    }
    const changed = !Array.isArray(whole) || made.some((item, index) => item !== items[index]);
    return changed ? made : whole;
  }

  private object(node: JsonSchema, value: object, pointer: string, direction: Direction): unknown {
    const members = value instanceof Map ? (Object.fromEntries(value) as object) : value;
    const properties = (node["properties"] ?? {}) as Record<string, Node>;
    const additional = node["additionalProperties"] as Node | undefined;
    const keys = orderedKeys(members).filter((key) => (members as Record<string, unknown>)[key] !== undefined);
    if (
      keys.length < bound(node, "minProperties", 0) ||
      keys.length > bound(node, "maxProperties", Number.POSITIVE_INFINITY)
    ) {
      throw mismatch(`${expected(node)} of ${lengths(node, "minProperties", "maxProperties")}`, value, pointer);
    }
    const made: [string, unknown][] = [];
    let changed = members !== value || keys.length !== Object.keys(members).length;
    for (const key of keys) {
      const place = join(pointer, key);
      const item = (members as Record<string, unknown>)[key];
      const known = Object.hasOwn(properties, key);
      if (!known && additional === false) {
        const names = Object.keys(properties).join(", ") || "none";
        throw new InvalidInput(`${place}: is not known here; there are: ${names}`, place);
      }
      if (node["propertyNames"] !== undefined) {
        this.walk(node["propertyNames"] as Node, key, place, direction);
      }
      const converted = this.walk(known ? (properties[key] as Node) : (additional ?? true), item, place, direction);
      changed ||= converted !== item;
      made.push([key, converted]);
    }
    for (const name of (node["required"] ?? []) as readonly string[]) {
      if (!keys.includes(name)) {
        const place = join(pointer, name);
        throw new InvalidInput(`${place}: is missing; expected ${expected(properties[name] ?? true)}`, place);
      }
    }
    if (!changed) {
      return value;
    }
    const result = Object.fromEntries(made);
    keepKeyOrder(members, result);
    return result;
  }
}

function merged(original: unknown, left: unknown, right: unknown): unknown {
  if (right === original || typeof left !== "object" || typeof right !== "object" || left === null || right === null) {
    return left;
  }
  const result: Record<string, unknown> = { ...(left as object) };
  for (const [key, item] of Object.entries(right)) {
    if (item !== (original as Record<string, unknown>)[key]) {
      result[key] = item;
    }
  }
  return result;
}

function integer64(node: JsonSchema, value: unknown, pointer: string, direction: Direction): unknown {
  let number: bigint;
  if (typeof value === "bigint") {
    number = value;
  } else if (typeof value === "number" && Number.isSafeInteger(value)) {
    number = BigInt(value);
  } else if (typeof value === "string" && INTEGER.test(value)) {
    number = BigInt(value);
  } else {
    throw mismatch("an integer of 64 bits", value, pointer);
  }
  const low = bigBound(node["minimum"], INT64_MIN);
  const high = bigBound(node["maximum"], INT64_MAX);
  if (number < low || number > high) {
    throw mismatch(`an integer from ${low} to ${high}`, value, pointer);
  }
  if (direction === "decode") {
    return number;
  }
  const safe = number >= Number.MIN_SAFE_INTEGER && number <= Number.MAX_SAFE_INTEGER;
  return safe ? Number(number) : number.toString();
}

function bigBound(value: unknown, otherwise: bigint): bigint {
  return typeof value === "number" && Number.isInteger(value) ? BigInt(value) : otherwise;
}

function bytes(node: JsonSchema, value: unknown, pointer: string, direction: Direction): unknown {
  if (direction === "encode") {
    if (value instanceof Uint8Array) {
      return encodeBase64(value);
    }
    if (value instanceof ArrayBuffer) {
      return encodeBase64(new Uint8Array(value));
    }
    throw mismatch("a Uint8Array", value, pointer);
  }
  const data = typeof value === "string" ? decodeBase64(value) : undefined;
  if (data === undefined) {
    throw mismatch(expected(node), value, pointer);
  }
  return data;
}

function instant(node: JsonSchema, value: unknown, pointer: string, direction: Direction): unknown {
  const moment = value instanceof Date ? value : typeof value === "string" ? parseInstant(value) : undefined;
  if (moment === undefined || (direction === "decode" && value instanceof Date)) {
    throw mismatch(expected(node), value, pointer);
  }
  return direction === "decode" ? moment : formatInstant(moment, pointer);
}

function number(node: JsonSchema, value: number, pointer: string): void {
  if (!Number.isFinite(value)) {
    throw new InvalidValue(`${pointer || "value"}: ${value} is not a finite number, which JSON cannot hold`, pointer);
  }
  const low = bound(node, "minimum", Number.NEGATIVE_INFINITY);
  const high = bound(node, "maximum", Number.POSITIVE_INFINITY);
  const over = bound(node, "exclusiveMinimum", Number.NEGATIVE_INFINITY);
  const under = bound(node, "exclusiveMaximum", Number.POSITIVE_INFINITY);
  const step = node["multipleOf"];
  const outside =
    value < low ||
    value > high ||
    (over > Number.NEGATIVE_INFINITY && value <= over) ||
    (under < Number.POSITIVE_INFINITY && value >= under);
  if (outside || (node["format"] === "int32" && (value | 0) !== value)) {
    throw mismatch(expected(node), value, pointer);
  }
  if (typeof step === "number") {
    const quotient = value / step;
    if (Math.abs(quotient - Math.round(quotient)) > 1e-9 * Math.max(1, Math.abs(quotient))) {
      throw mismatch(`a multiple of ${step}`, value, pointer);
    }
  }
}

const FORMATS: Readonly<Record<string, { name: string; accepts(value: string): boolean }>> = {
  date: { name: "a date such as 2026-01-31", accepts: isDate },
  time: {
    name: "a time of day such as 12:00:00",
    accepts: (value) => /^([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]\d{2}:\d{2})?$/.test(value),
  },
  duration: { name: "an ISO 8601 duration such as PT1H30M", accepts: isDuration },
  decimal: {
    name: "a decimal number as text",
    accepts: (value) => /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/.test(value),
  },
  uuid: { name: "a UUID", accepts: (value) => /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/.test(value) },
  email: { name: "an email address", accepts: (value) => /^[^\s@]+@[^\s@]+$/.test(value) },
  uri: { name: "a URI", accepts: (value) => /^[A-Za-z][A-Za-z0-9+.-]*:\S*$/.test(value) },
};

function typeList(node: JsonSchema): readonly string[] {
  const type = node["type"];
  return type === undefined ? [] : Array.isArray(type) ? (type as string[]) : [type as string];
}

function isOfType(value: unknown, type: string): boolean {
  switch (type) {
    case "string":
      return typeof value === "string";
    case "number":
      return typeof value === "number";
    case "integer":
      return (typeof value === "number" && Number.isInteger(value)) || typeof value === "bigint";
    case "boolean":
      return typeof value === "boolean";
    case "array":
      return Array.isArray(value) || value instanceof Set;
    case "object":
      return (
        typeof value === "object" &&
        value !== null &&
        !Array.isArray(value) &&
        !(value instanceof Set) &&
        !(value instanceof Date) &&
        !(value instanceof Uint8Array)
      );
    default:
      return false;
  }
}

function bound(node: JsonSchema, keyword: string, otherwise: number): number {
  const value = node[keyword];
  return typeof value === "number" ? value : otherwise;
}

function lengths(node: JsonSchema, low: string, high: string): string {
  const least = bound(node, low, 0);
  const most = bound(node, high, Number.POSITIVE_INFINITY);
  return least === most ? `${least}` : `${least} to ${most === Number.POSITIVE_INFINITY ? "any number" : most}`;
}

/** What a schema expects, for people. */
function expected(node: Node): string {
  if (typeof node === "boolean") {
    return "a value";
  }
  if ("const" in node) {
    return JSON.stringify(node["const"]);
  }
  if (Array.isArray(node["enum"])) {
    return `one of ${node["enum"]
      .slice(0, 20)
      .map((choice) => (typeof choice === "string" ? choice : JSON.stringify(choice)))
      .join(", ")}`;
  }
  const choices = (node["anyOf"] ?? node["oneOf"]) as readonly Node[] | undefined;
  if (choices !== undefined) {
    return [...new Set(choices.map(expected))].join(" or ");
  }
  const names = typeList(node).map((type) => typeName(type, node));
  return names.length === 0 ? "a value" : [...new Set(names)].join(" or ");
}

function typeName(type: string, node: JsonSchema): string {
  switch (type) {
    case "string":
      if (node["contentEncoding"] === "base64") {
        return "bytes as base64";
      }
      if (node["format"] === "date-time") {
        return "an instant such as 2026-01-31T12:00:00Z";
      }
      if (node["format"] === "int64") {
        return "an integer of 64 bits";
      }
      return (
        FORMATS[String(node["format"])]?.name ??
        `text${node["minLength"] !== undefined || node["maxLength"] !== undefined ? ` of ${lengths(node, "minLength", "maxLength")} characters` : ""}`
      );
    case "integer":
      return `${node["format"] === "int32" ? "an integer of 32 bits" : node["format"] === "int64" ? "an integer of 64 bits" : "an integer"}${range(node)}`;
    case "number":
      return `a number${range(node)}`;
    case "boolean":
      return "true or false";
    case "array":
      return "a list";
    case "object":
      return "an object";
    default:
      return type;
  }
}

function range(node: JsonSchema): string {
  const parts: string[] = [];
  for (const [keyword, word] of [
    ["minimum", "at least"],
    ["exclusiveMinimum", "more than"],
    ["maximum", "at most"],
    ["exclusiveMaximum", "less than"],
  ] as const) {
    if (typeof node[keyword] === "number") {
      parts.push(`${word} ${node[keyword]}`);
    }
  }
  return parts.length === 0 ? "" : ` of ${parts.join(" and ")}`;
}

/** The error for a value of the wrong type. */
export function mismatch(what: string, value: unknown, pointer: string): InvalidInput {
  return new InvalidInput(`${pointer || "value"}: expected ${what}, got ${describe(value)}`, pointer);
}

function describe(value: unknown): string {
  if (value === null) {
    return "null";
  }
  if (value === undefined) {
    return "nothing";
  }
  if (typeof value === "number" || typeof value === "bigint") {
    return `the number ${value}`;
  }
  if (typeof value === "boolean") {
    return String(value);
  }
  if (typeof value === "string") {
    return `the text ${JSON.stringify(value.length <= 40 ? value : `${value.slice(0, 37)}...`)}`;
  }
  if (Array.isArray(value)) {
    return `a list of ${value.length}`;
  }
  return typeof value === "object"
    ? value.constructor === Object
      ? "an object"
      : `a ${value.constructor?.name ?? "thing"}`
    : `a ${typeof value}`;
}
