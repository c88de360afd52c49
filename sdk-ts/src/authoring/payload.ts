// Payloads: any value as it travels, and back.

import { EMPTY } from "../agent-spec.js";
import type { WirePayload } from "../protocol/wire.js";
import { InvalidValue, type Json, parseJson, textOf } from "./json.js";
import { encodeJson } from "./values.js";

export const JSON_TYPE = "application/json";
export const RESULT_TYPE = "application/vnd.amx.result+json";

/** Bytes of any content type, passed on as they are: to send them, and to return them from a handler. */
export class Payload {
  constructor(
    readonly data: Uint8Array,
    readonly contentType = "application/octet-stream",
  ) {}

  toPayload(): WirePayload {
    return { contentType: this.contentType, data: this.data };
  }
}

/** Something that writes itself: messages, payloads and processing results. */
export interface PayloadSource {
  toPayload(): WirePayload;
}

/** Whether `value` writes itself. */
export function isPayloadSource(value: unknown): value is PayloadSource {
  return typeof value === "object" && value !== null && typeof (value as PayloadSource).toPayload === "function";
}

/** Any value as it travels; EMPTY for undefined. Throws InvalidValue naming the place of what has no JSON form. */
export function encodePayload(value: unknown): WirePayload {
  if (value === undefined) {
    return EMPTY;
  }
  if (isPayloadSource(value)) {
    return value.toPayload();
  }
  return jsonPayload(encodeJson(value));
}

/** A payload of JSON bytes. An empty content type means JSON, except where there is no data. */
export function jsonPayload(data: Uint8Array): WirePayload {
  return { contentType: JSON_TYPE, data };
}

/** The value of a payload: JSON decoded, text as text, anything else as bytes; undefined if there is none. */
export function decodePayload(payload: WirePayload): unknown {
  const { contentType, data } = payload;
  if (contentType === "") {
    return data.length === 0 ? undefined : parseJson(data);
  }
  if (isJson(contentType)) {
    return parseJson(data);
  }
  if (contentType.trim().toLowerCase().startsWith("text/")) {
    return textOf(data, `content of type ${contentType}`);
  }
  return data.slice();
}

/** Whether a content type says JSON. */
export function isJson(contentType: string): boolean {
  if (contentType === JSON_TYPE || contentType === "") {
    return true;
  }
  const media = (contentType.split(";", 1)[0] as string).trim().toLowerCase();
  return media === JSON_TYPE || media.endsWith("+json");
}

/** The JSON of a payload; undefined if it is empty. Throws InvalidValue if it is something else. */
export function decodeJsonPayload(payload: WirePayload): Json | undefined {
  if (!isJson(payload.contentType)) {
    throw new InvalidValue(`expected JSON, got content of type ${payload.contentType}`);
  }
  return payload.data.length === 0 && payload.contentType === "" ? undefined : parseJson(payload.data);
}
