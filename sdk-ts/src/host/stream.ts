// Carries the chunks of a streaming handler to its reader, as fast as that takes them.

import type { HandlerSpec } from "../agent-spec.js";
import { AmxError, Code } from "../errors.js";
import { Item, NO_PAYLOAD, writePayload } from "../protocol/codec.js";
import type { WirePayload } from "../protocol/wire.js";
import type { AgentHost } from "./host.js";
import { Invocation, type Run } from "./runs.js";

const CHUNK = Item.CHUNK * 8 + 2;
const BREATH = 128; // chunks between pauses
const NULL = new Uint8Array([0x6e, 0x75, 0x6c, 0x6c]);

/**
 * Passes chunks on while their reader's window is open. Without a reader they become one JSON array, which this
 * returns; of a delivery they are dropped. Rejects with whatever the handler throws.
 */
export async function runStream(host: AgentHost, run: Run, handler: HandlerSpec, value: unknown): Promise<WirePayload> {
  const made = await value;
  const iterator = iteratorOf(made);
  if (iterator === undefined) {
    throw new AmxError(
      Code.FAILED_PRECONDITION,
      "INVALID_OUTPUT",
      `${run.source} is a streaming handler but returned nothing to iterate over; make it an async generator`,
    );
  }
  const { protocol } = host;
  const reader = run instanceof Invocation && run.streaming ? run : undefined;
  const collected: Uint8Array[] = [];
  let total = 2;
  let since = 0;
  let finished = false;
  if (reader !== undefined) reader.window += protocol.limits.streamWindow;
  try {
    while (run.stopped === undefined && !run.ended) {
      const next = await iterator.next();
      if (next.done) {
        finished = true;
        break;
      }
      if (++since >= BREATH) {
        since = 0;
        await new Promise<void>((resolve) => host.environment.defer(resolve)); // others want to run, too
      }
      if (run.stopped !== undefined || run.ended) break;
      if (!(run instanceof Invocation)) continue;
      const payload = await handler.encodeChunk(next.value);
      if (reader === undefined) {
        if (payload.data.length && !isJson(payload.contentType)) {
          throw new AmxError(
            Code.FAILED_PRECONDITION,
            "INVALID_OUTPUT",
            `${run.source} yields chunks that are not JSON; call it with stream(), not request()`,
          );
        }
        const data = payload.data.length ? payload.data : NULL;
        total += data.length + 1;
        protocol.checkSize(total, `stream of ${run.source}, asked for as one result,`);
        collected.push(data);
        continue;
      }
      while (reader.window <= 0 && !stopped(run)) {
        await new Promise<void>((resolve) => {
          reader.reader = resolve;
        });
        reader.reader = undefined;
      }
      if (stopped(run)) break;
      reader.window--;
      say(host, reader, payload);
    }
  } finally {
    if (!finished) await iterator.return?.();
  }
  return reader === undefined && run instanceof Invocation ? arrayOf(collected, total) : NO_PAYLOAD;
}

function stopped(run: Run): boolean {
  return run.stopped !== undefined || run.ended;
}

function say(host: AgentHost, run: Invocation, payload: WirePayload): void {
  const { protocol } = host;
  const size = payload.data.length;
  protocol.checkSize(size, `chunk of ${run.source}`);
  const writer = protocol.begin(run.invocationId, size + 32);
  writer.varint(CHUNK);
  const start = writer.begin(size + 24);
  writePayload(writer, 10, payload);
  writer.end(start, size + 24);
  protocol.checkItem(`chunk of ${run.source}`);
  protocol.end();
}

function iteratorOf(value: unknown): AsyncIterator<unknown> | Iterator<unknown> | undefined {
  if (value === null || typeof value !== "object") return undefined;
  const iterable = value as Partial<AsyncIterable<unknown> & Iterable<unknown>>;
  return iterable[Symbol.asyncIterator]?.() ?? iterable[Symbol.iterator]?.();
}

function isJson(contentType: string): boolean {
  return contentType === "" || contentType === "application/json" || contentType.endsWith("+json");
}

/** `[a,b,c]`. */
function arrayOf(items: readonly Uint8Array[], room: number): WirePayload {
  const data = new Uint8Array(room + 1);
  let at = 0;
  data[at++] = 0x5b;
  items.forEach((item, index) => {
    if (index) data[at++] = 0x2c;
    data.set(item, at);
    at += item.length;
  });
  data[at++] = 0x5d;
  return { contentType: "", data: data.subarray(0, at) };
}
