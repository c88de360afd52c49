// Frames as tests see them: through the generated stubs, so that the hand-written codec is never its own judge.

import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type LinkFrame,
  LinkFrameSchema,
  type LinkItem,
  type LinkItemSchema,
  WelcomeSchema,
} from "../../src/gen/amx/v1/link_pb.js";

export type ItemInit = MessageInitShape<typeof LinkItemSchema>;

/** A frame from the engine. */
export function frame(items: ItemInit[], seq = 0, ack = 0): Uint8Array {
  return toBinary(LinkFrameSchema, create(LinkFrameSchema, { items, seq: BigInt(seq), ack: BigInt(ack) }));
}

/** A frame of the SDK, decoded. */
export function parsed(data: Uint8Array): LinkFrame {
  return fromBinary(LinkFrameSchema, data);
}

/** What a test says in a Welcome. */
export interface WelcomeFields {
  protocol?: number;
  heartbeatIntervalMs?: number;
  resumeToken?: string;
  resumed?: boolean;
  receivedSeq?: bigint;
  /** Addresses of the engines that share the one of the link. */
  engines?: readonly string[];
  limits?: {
    maxItemBytes?: number;
    maxFrameBytes?: number;
    maxFrameItems?: number;
    maxHeaderBytes?: number;
    maxKeyBytes?: number;
    maxCallsInFlight?: number;
    streamWindow?: number;
  };
}

/** A Welcome. */
export function welcome(fields: WelcomeFields = {}): ItemInit {
  return {
    item: {
      case: "welcome",
      value: create(WelcomeSchema, {
        sessionId: "s-1",
        protocol: 1,
        features: ["resume"],
        heartbeatIntervalMs: 10_000,
        resumeToken: "token-1",
        resumeWindowMs: 30_000,
        namespace: "default",
        engine: { name: "amx-engine", version: "0.0.0", language: "" },
        ...fields,
        engines: (fields.engines ?? []).map((address) => ({ address })),
      }),
    },
  };
}

/** JSON as a payload. */
export function json(value: unknown): { contentType: string; data: Uint8Array<ArrayBuffer> } {
  return { contentType: "", data: new TextEncoder().encode(JSON.stringify(value)) };
}

/** The JSON of a payload; undefined if it is empty. */
export function value(payload: { data: Uint8Array } | undefined): unknown {
  return payload?.data.length ? JSON.parse(new TextDecoder().decode(payload.data)) : undefined;
}

type Said = LinkItem["item"];
type BodyOf<K> = Said extends infer One ? (One extends { case: K; value: infer Value } ? Value : never) : never;

/** The one field of an item, which must be of this kind. */
export function body<K extends NonNullable<Said["case"]>>(item: LinkItem | undefined, kind: K): BodyOf<K> {
  if (item?.item.case !== kind) throw new Error(`expected ${kind}, got ${item?.item.case ?? "no item"}`);
  return item.item.value as BodyOf<K>;
}
