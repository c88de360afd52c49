// What a transport is to a link: a pipe of frames as bytes. Reconnecting, and what frames say, is the link's business.

import type { AmxError } from "../errors.js";

/** A connection could not be made, or ended. `error`: why another attempt would end the same way, if so. */
export class ConnectionLost extends Error {
  readonly error: AmxError | undefined;

  constructor(message: string, error?: AmxError) {
    super(message);
    this.error = error;
  }
}

/** What a connection tells its link. After `lost` it tells nothing more; never from within `connect` or `send`. */
export interface ConnectionEvents {
  /** Frames can be sent. */
  opened(): void;
  /** A frame has arrived. */
  received(frame: Uint8Array): void;
  /** The connection is gone, or was never there. Not told after `close`. */
  lost(why: ConnectionLost): void;
}

/** A pipe of frames. */
export interface Connection {
  /** Sends a frame. One at a time: `taken` is called when the transport has taken it, and the next may be sent. */
  send(frame: Uint8Array, taken: () => void): void;
  /** Ends the connection at once. */
  close(): void;
}

/** Makes connections to one engine. */
export interface Connector {
  /** Where the engine is, for people. */
  readonly address: string;
  connect(events: ConnectionEvents): Connection;
  /** The way to another engine with the same credentials. An address `:port` is at the host that this one connects to. */
  at?(address: string): Connector;
}
