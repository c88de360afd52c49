// What a schema says at compile time: the TypeScript type of its values.

import type { StandardSchema } from "./standard-schema.js";

/**
 * JSON Schema 2020-12, as far as it is checked here; see schema.ts. These forms travel as text and are values of their
 * own in TypeScript: `format: "int64"` is a bigint, `format: "date-time"` a Date, `contentEncoding: "base64"` a
 * Uint8Array. Decimals (`format: "decimal"`), dates and durations stay text.
 */
export interface JsonSchema {
  readonly [keyword: string]: unknown;
}

/** What input and output of handlers, and values of memories, are declared by. */
export type Schema = StandardSchema | JsonSchema;

/** The type of the values that a schema describes. */
export type Infer<S> = S extends StandardSchema<infer _Input, infer Output> ? Output : FromJsonSchema<S>;

/** The type of the values that a JSON Schema describes, if it is written `as const` or in place; otherwise unknown. */
export type FromJsonSchema<S> = S extends { readonly const: infer Value }
  ? Value
  : S extends { readonly enum: readonly (infer Value)[] }
    ? Value
    : S extends { readonly anyOf: readonly (infer Choice)[] }
      ? FromJsonSchema<Choice>
      : S extends { readonly oneOf: readonly (infer Choice)[] }
        ? FromJsonSchema<Choice>
        : S extends { readonly format: "int64" }
          ? S extends { readonly type: readonly (infer Types)[] }
            ? "null" extends Types
              ? bigint | null
              : bigint
            : bigint
          : S extends { readonly type: readonly (infer Types)[] }
            ? Types extends string
              ? OfType<Types, S>
              : unknown
            : S extends { readonly type: infer Type extends string }
              ? OfType<Type, S>
              : unknown;

type OfType<Type extends string, S> = Type extends "string"
  ? S extends { readonly format: "date-time" }
    ? Date
    : S extends { readonly contentEncoding: "base64" }
      ? Uint8Array
      : string
  : Type extends "integer" | "number"
    ? number
    : Type extends "boolean"
      ? boolean
      : Type extends "null"
        ? null
        : Type extends "array"
          ? S extends { readonly items: infer Items }
            ? FromJsonSchema<Items>[]
            : unknown[]
          : Type extends "object"
            ? OfObject<S>
            : unknown;

type OfObject<S> = S extends { readonly properties: infer Properties }
  ? Flat<
      {
        -readonly [Name in keyof Properties as Name extends Required_<S> ? Name : never]: FromJsonSchema<
          Properties[Name]
        >;
      } & {
        -readonly [Name in keyof Properties as Name extends Required_<S> ? never : Name]?:
          | FromJsonSchema<Properties[Name]>
          | undefined;
      }
    >
  : S extends { readonly additionalProperties: infer Values }
    ? Values extends boolean
      ? { [key: string]: unknown }
      : { [key: string]: FromJsonSchema<Values> }
    : { [key: string]: unknown };

type Required_<S> = S extends { readonly required: readonly (infer Names)[] } ? Names : never;

type Flat<T> = { [Name in keyof T]: T[Name] };
