// Reaches an engine over gRPC from Node: TCP, TLS or a Unix socket.

import { readFileSync } from "node:fs";
import {
  type ChannelCredentials,
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { AmxError, Code } from "../errors.js";
import { type Connection, type ConnectionEvents, ConnectionLost, type Connector } from "./connection.js";

const METHOD = "/amx.v1.LinkService/Open";

// gRPC must know before Welcome says what the engine's limits are: no engine takes or sends items of more than 1 GiB.
const MAX_MESSAGE_BYTES = 2 ** 30 + 2 ** 20;

/** How to recognise the engine, and how to be recognised by it: paths of PEM files. */
export interface TlsOptions {
  /** Who vouches for the engine; the system's authorities unless given. */
  ca?: string;
  /** Certificate and key of this process; it shows none unless given. */
  cert?: string;
  key?: string;
  /** Name that the engine's certificate must have, if it is not the address. */
  serverName?: string;
}

/** PEM files, read. */
export interface TlsFiles {
  readonly ca: Uint8Array | null;
  readonly cert: Uint8Array | null;
  readonly key: Uint8Array | null;
  readonly serverName: string;
}

/** Reads the files. Throws what reading a file throws. */
export function readTls(options: TlsOptions): TlsFiles {
  const read = (path: string | undefined): Uint8Array | null => (path === undefined ? null : readFileSync(path));
  return {
    ca: read(options.ca),
    cert: read(options.cert),
    key: read(options.key),
    serverName: options.serverName ?? "",
  };
}

/** Reaches an engine at `host:port` or `unix:/path`. token: sent as `authorization: Bearer`. tls: undefined: plain text. */
export class GrpcConnector implements Connector {
  readonly address: string;
  private readonly token: string;
  private readonly tls: TlsFiles | undefined;

  constructor(address: string, token = "", tls?: TlsFiles) {
    this.address = address;
    this.token = token;
    this.tls = tls;
  }

  connect(events: ConnectionEvents): Connection {
    return new GrpcConnection(this.address, this.token, this.tls, events);
  }

  at(address: string): GrpcConnector {
    const host = this.address.slice(0, this.address.lastIndexOf(":"));
    return new GrpcConnector(address.startsWith(":") ? host + address : address, this.token, this.tls);
  }
}

class GrpcConnection implements Connection {
  private readonly client: Client;
  private readonly call: ClientDuplexStream<Uint8Array, Buffer>;
  private over = false;

  constructor(address: string, token: string, tls: TlsFiles | undefined, events: ConnectionEvents) {
    let secrets: ChannelCredentials = credentials.createInsecure();
    const options: Record<string, number | string> = {
      "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
      "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
      // Reconnecting is decided by the link: gRPC must not remember how often it failed before.
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_retries": 0,
    };
    if (tls !== undefined) {
      const buffer = (data: Uint8Array | null): Buffer | null => (data === null ? null : Buffer.from(data));
      secrets = credentials.createSsl(buffer(tls.ca), buffer(tls.key), buffer(tls.cert));
      if (tls.serverName) options["grpc.ssl_target_name_override"] = tls.serverName;
    }
    const metadata = new Metadata();
    if (token) metadata.set("authorization", `Bearer ${token}`);
    this.client = new Client(address, secrets, options);
    this.call = this.client.makeBidiStreamRequest(METHOD, serialize, deserialize, metadata, {});
    this.call.on("data", (frame: Buffer) => {
      if (!this.over) events.received(frame);
    });
    this.call.on("end", () => undefined);
    this.call.on("error", () => undefined); // `status` says the same, always
    this.call.on("status", (said: Pick<ServiceError, "code" | "details">) => {
      if (this.over) return;
      this.release();
      events.lost(lost(address, said));
    });
    setImmediate(() => {
      if (!this.over) events.opened();
    });
  }

  send(frame: Uint8Array, taken: () => void): void {
    if (this.over) return;
    this.call.write(frame, (error?: Error | null) => {
      if (!error) taken(); // else `status` tells the rest
    });
  }

  close(): void {
    if (this.over) return;
    this.release();
  }

  private release(): void {
    this.over = true;
    this.call.cancel();
    this.client.close();
  }
}

function serialize(frame: Uint8Array): Buffer {
  return Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
}

function deserialize(frame: Buffer): Buffer {
  return frame;
}

function lost(address: string, said: Pick<ServiceError, "code" | "details">): ConnectionLost {
  const details = said.details ? `: ${said.details}` : "";
  const message = `the connection to ${address} ended with ${status[said.code] ?? said.code}${details}`;
  let error: AmxError | undefined;
  if (said.code === status.UNAUTHENTICATED) {
    error = new AmxError(
      Code.UNAUTHENTICATED,
      "UNAUTHENTICATED",
      `the engine at ${address} does not know this token${details}; set AMX_TOKEN, withToken(), or engine.token in the ` +
        "configuration",
    );
  } else if (said.code === status.PERMISSION_DENIED) {
    error = new AmxError(Code.PERMISSION_DENIED, "PERMISSION_DENIED", `the engine refused the link${details}`);
  } else if (said.code === status.UNIMPLEMENTED) {
    error = new AmxError(
      Code.FAILED_PRECONDITION,
      "NOT_AN_ENGINE",
      `what listens at ${address} is not an AMX engine; check the address`,
    );
  }
  return new ConnectionLost(message, error);
}
