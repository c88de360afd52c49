// `--stdio`: the SDK's link, with JSON lines for a transport and a clock that only the other side moves.

import { createInterface } from "node:readline";
import { fromBinary, fromJson, toBinary, toJson } from "@bufbuild/protobuf";
import { EngineBuilder } from "../src/engine/builder.js";
import { LinkFrameSchema } from "../src/gen/amx/v1/link_pb.js";
import { StillEnvironment } from "../src/testing/still.js";
import { type Connection, type ConnectionEvents, ConnectionLost, type Connector } from "../src/transport/connection.js";
import { consoleLog, nodeEnvironment } from "../src/transport/node.js";
import { hosting } from "./hosting.js";

const PATIENCE_MS = 1e12;
const DRAIN_MS = 30_000;

function say(line: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** A pipe of frames, as ProtoJSON; asked for with `{"connect": {}}`, there when `{"open": {}}` has come. */
class LineConnection implements Connection {
  open = false;
  private over = false;

  constructor(private readonly events: ConnectionEvents) {
    say({ connect: {} });
  }

  grant(): void {
    this.open = true;
    this.events.opened();
  }

  arrive(frame: Uint8Array): void {
    if (!this.over) {
      this.events.received(frame);
    }
  }

  lose(why: string): void {
    if (!this.over) {
      this.over = true;
      this.events.lost(new ConnectionLost(why || "the connection was lost"));
    }
  }

  send(frame: Uint8Array, taken: () => void): void {
    if (!this.over) {
      say({ frame: toJson(LinkFrameSchema, fromBinary(LinkFrameSchema, frame), { useProtoFieldName: true }) });
      setImmediate(taken);
    }
  }

  close(): void {
    if (!this.over) {
      this.over = true;
      if (this.open) {
        say({ close: "closed" });
      }
    }
  }
}

/** Serves the lines of conformance/README.md until `stop`, or the end of input. */
export async function serveLines(agents: readonly object[], credit: number): Promise<void> {
  const environment = new StillEnvironment(consoleLog, nodeEnvironment());
  let connection: LineConnection | undefined;
  const connector: Connector = {
    address: "the other end of standard input and output",
    connect: (events) => {
      connection = new LineConnection(events);
      return connection;
    },
  };
  const builder = new EngineBuilder().withConnector(connector).withEnvironment(environment).withConcurrency(credit);
  for (const agent of agents) {
    builder.withAgent(agent);
  }
  const engine = builder.build();
  hosting.engine = engine;
  engine.start({ patience: PATIENCE_MS }).catch((error: unknown) => environment.log("warn", "the link is over", error));

  const required = (kind: string): LineConnection => {
    if (connection === undefined) {
      throw new Error(`there is no connection that {"${kind}"} could be about`);
    }
    return connection;
  };
  const lines = createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY });
  for await (const line of lines) {
    const [[kind, what]] = Object.entries(JSON.parse(line)) as [[string, never]];
    switch (kind) {
      case "open":
        required(kind).grant();
        break;
      case "frame":
        required(kind).arrive(toBinary(LinkFrameSchema, fromJson(LinkFrameSchema, what)));
        break;
      case "raw":
        required(kind).arrive(Buffer.from(what, "base64"));
        break;
      case "closed":
        required(kind).lose(what);
        break;
      case "advance_ms":
        await environment.advance(what);
        say({ advanced: what });
        break;
      case "stop":
        void engine.stop({ deadline: DRAIN_MS }).then(() => {
          say({ stopped: {} });
          process.stdout.write("", () => process.exit(0));
        });
        break;
      default:
        throw new Error(`{"${kind}"} is not a line that this testee knows`);
    }
    await environment.settle();
  }
  process.exit(0); // at once: whoever wrote the lines is gone
}
