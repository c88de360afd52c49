// A link at work: connects, sends, keeps alive, reconnects, leaves.
// What is said is decided in the protocol, what runs here in the host, how bytes travel in a transport.

import type { AgentSpec } from "../agent-spec.js";
import { AmxError, Code } from "../errors.js";
import { Deadlines } from "../protocol/deadlines.js";
import type { Environment, Timer } from "../protocol/environment.js";
import { type LinkEvents, LinkProtocol, ProtocolViolation, type Software } from "../protocol/link-protocol.js";
import { type Connection, ConnectionLost, type Connector } from "../transport/connection.js";
import { LinkCalls, register } from "./calls.js";
import { AgentHost } from "./host.js";

const HANDSHAKE_MS = 10_000;
const TICK_MS = 1000;
const FIRST_BACKOFF_MS = 100;
const LONGEST_BACKOFF_MS = 30_000;
const HELD_MS = 1000; // a connection that lasted this long was a good one
const HASTY_ATTEMPTS = 3;
const FLUSH_MS = 2000;

export interface LinkOptions {
  connector: Connector;
  environment: Environment;
  software: Software;
  agents: Iterable<AgentSpec>;
  /** Invocations and deliveries at a time. */
  concurrency: number;
  config: Readonly<Record<string, unknown>>;
  /** The engine is one of several, of which all are linked to. */
  enginesKnown?: boolean;
}

/** One link to one engine, over as many connections as it takes, until it is closed. */
export class Link implements LinkEvents {
  readonly protocol: LinkProtocol;
  readonly host: AgentHost;
  readonly calls: LinkCalls;
  /** Resolves when the link was closed; rejects if the engine refused to have it back. */
  readonly ended: Promise<void>;
  /** Where the engines are that share the address, if there are several: then this link is of no more use. */
  engines: readonly string[] = [];

  private readonly connector: Connector;
  private readonly environment: Environment;
  private readonly deadlines: Deadlines;
  private readonly hosted = new Map<string, AgentSpec>();
  private connection: Connection | undefined;
  private generation = 0; // of the connection: what older ones say no longer matters
  private sending = false;
  private deferred = false;
  private flushes: (() => void)[] = [];
  private tick: Timer | undefined;
  private handshake: Timer | undefined;
  private retry: Timer | undefined;
  private rejection: AmxError | undefined;
  private attempt = 0;
  private welcomedAt: number | undefined; // of this connection
  private everOpened = false;
  private patientUntil = 0;
  private closing: Promise<void> | undefined;
  private saidGoodbye = false;
  private hungUp: (() => void) | undefined;
  private settleOpen: { resolve: () => void; reject: (error: AmxError) => void } | undefined;
  private settleEnded!: { resolve: () => void; reject: (error: AmxError) => void };

  constructor(options: LinkOptions) {
    this.connector = options.connector;
    this.environment = options.environment;
    this.deadlines = new Deadlines(options.environment);
    for (const agent of options.agents) this.hosted.set(agent.definition.name, agent);
    this.host = new AgentHost({
      agents: this.hosted,
      environment: options.environment,
      deadlines: this.deadlines,
      concurrency: options.concurrency,
      config: options.config,
    });
    this.protocol = new LinkProtocol({
      linkId: options.environment.randomId(),
      host: this.host,
      events: this,
      deadlines: this.deadlines,
      environment: options.environment,
      software: options.software,
      agents: [...this.hosted.values()].map((agent) => agent.definition),
      credit: options.concurrency,
      enginesKnown: options.enginesKnown ?? false,
    });
    this.calls = new LinkCalls(this.protocol, (level, message, error) => this.environment.log(level, message, error));
    this.host.protocol = this.protocol;
    this.host.calls = this.calls;
    this.ended = new Promise((resolve, reject) => {
      this.settleEnded = { resolve, reject };
    });
    this.ended.catch(() => undefined); // whoever cares asks
  }

  /** Whether there is a connection now. */
  get connected(): boolean {
    return this.protocol.open;
  }

  /**
   * Resolves when the engine has said Welcome.
   *
   * patienceMs: how long an engine that cannot be reached is tried again; 0: one attempt. Rejects with AmxError
   * ENGINE_UNREACHABLE, or the reason for which the engine refused the link. If several engines share the address,
   * `engines` says where they are, and the link is to be closed.
   */
  open(patienceMs: number): Promise<void> {
    this.patientUntil = real() + patienceMs;
    return new Promise((resolve, reject) => {
      this.settleOpen = { resolve, reject };
      this.connect();
    });
  }

  /**
   * Ends the link: no new invocations, what runs may finish within `deadlineMs`, then it is cancelled. Calls that are
   * still in flight fail with SHUTTING_DOWN.
   */
  close(deadlineMs: number): Promise<void> {
    this.closing ??= this.leave(deadlineMs);
    return this.closing;
  }

  /** Hosts more agents, or newer versions, and no longer those removed. Rejects if the engine refuses them. */
  async register(agents: readonly AgentSpec[], removed: readonly string[]): Promise<void> {
    const before = agents.map((agent) => [agent.definition.name, this.hosted.get(agent.definition.name)] as const);
    for (const agent of agents) this.hosted.set(agent.definition.name, agent);
    try {
      await register(
        this.protocol,
        agents.map((agent) => agent.definition),
        removed,
      );
    } catch (error) {
      for (const [name, previous] of before) {
        if (previous === undefined) {
          this.hosted.delete(name);
          this.protocol.agents.delete(name);
        } else {
          this.hosted.set(name, previous);
          this.protocol.agents.set(name, previous.definition);
        }
      }
      throw error;
    }
    for (const name of removed) this.hosted.delete(name);
  }

  // What the protocol says

  wake(): void {
    if (this.deferred || this.sending) return;
    this.deferred = true;
    this.environment.defer(() => {
      this.deferred = false;
      this.send();
    });
  }

  opened(resumed: boolean): void {
    const { protocol } = this;
    this.environment.log(
      "info",
      `${resumed ? "resumed" : "opened"} link to ${protocol.engine || "the engine"} at ${this.connector.address}, ` +
        `session ${protocol.sessionId}, namespace ${protocol.namespace || "default"}`,
    );
    this.everOpened = true;
    this.settleOpen?.resolve();
    this.settleOpen = undefined;
  }

  redirected(engines: readonly string[]): void {
    this.engines = engines;
  }

  rejected(error: AmxError): void {
    this.rejection = error;
  }

  goAway(reason: string, ms: number): void {
    this.environment.log(
      "info",
      `the engine leaves in ${(ms / 1000).toFixed(1)} s (${reason || "no reason"}); this link reconnects when it has`,
    );
  }

  // Connections

  private connect(): void {
    this.retry = undefined;
    const generation = ++this.generation;
    const current = (): boolean => generation === this.generation;
    this.welcomedAt = undefined;
    this.sending = false;
    this.handshake = this.environment.wait(HANDSHAKE_MS, () => {
      if (current()) this.lose(new ConnectionLost(`no Welcome within ${HANDSHAKE_MS / 1000} s`));
    });
    try {
      this.connection = this.connector.connect({
        opened: () => {
          if (current()) this.connection?.send(this.protocol.hello(), () => undefined);
        },
        received: (frame) => {
          if (current()) this.received(frame);
        },
        lost: (why) => {
          if (current()) this.lose(why);
        },
      });
    } catch (error) {
      this.lose(new ConnectionLost(String((error as Error).message ?? error)));
    }
  }

  private received(frame: Uint8Array): void {
    const { protocol } = this;
    try {
      protocol.receive(frame);
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) this.environment.log("error", "the link failed unexpectedly", error);
      this.lose(new ConnectionLost((error as Error).message));
      return;
    }
    if (this.welcomedAt !== undefined) return;
    if (this.engines.length) {
      this.moved();
      return;
    }
    if (!protocol.open) {
      this.lose(new ConnectionLost("the engine refused the link"));
      return;
    }
    this.welcomedAt = real();
    this.handshake?.cancel();
    this.keepAlive();
    this.send();
  }

  /** Sends whatever was queued while the last frame was on its way; rests only when there is nothing. */
  private send(): void {
    const { connection } = this;
    if (this.sending || connection === undefined || this.welcomedAt === undefined) return;
    const frame = this.protocol.nextFrame();
    if (frame === undefined) {
      this.flushed();
      return;
    }
    this.sending = true;
    const generation = this.generation;
    connection.send(frame, () => {
      if (generation !== this.generation) return;
      this.sending = false;
      this.send();
    });
  }

  private keepAlive(): void {
    const interval = Math.min(TICK_MS, this.protocol.heartbeatMs / 4);
    const generation = this.generation;
    const due = this.environment.now() + interval;
    this.tick = this.environment.callAt(due, () => {
      if (generation !== this.generation) return;
      const late = Math.max(0, this.environment.now() - due);
      this.host.watch.late(late, () => this.host.suspendedHandlers());
      const lagMs = Math.max(late, this.host.watch.takeLongest());
      if (this.protocol.tick({ slotsInUse: this.host.slotsInUse, lagMs, deafMs: late })) {
        this.keepAlive();
      } else {
        this.environment.log("warn", "nothing was heard from the engine for two heartbeats: connecting again");
        this.lose(new ConnectionLost("the engine is silent"));
      }
    });
  }

  /** Several engines share the address: whoever opened the link finds them; one that was open before is over. */
  private moved(): void {
    this.disconnect();
    if (this.settleOpen !== undefined) {
      this.settleOpen.resolve();
      this.settleOpen = undefined;
      return;
    }
    this.giveUp(
      new AmxError(
        Code.FAILED_PRECONDITION,
        "ENGINES_CHANGED",
        `${this.engines.length} engines are now at ${this.connector.address}, where there was one; start this process ` +
          "again",
      ),
    );
  }

  /** The connection is gone: makes another, unless there is no point in it. */
  private lose(why: ConnectionLost): void {
    const { welcomedAt } = this;
    this.disconnect();
    if (this.saidGoodbye) {
      this.hungUp?.();
      return;
    }
    const rejection = this.rejection ?? why.error;
    this.rejection = undefined;
    if (rejection !== undefined && !rejection.retryable) {
      this.giveUp(rejection);
      return;
    }
    if (!this.everOpened && real() >= this.patientUntil) {
      this.giveUp(rejection ?? this.unreachable(why));
      return;
    }
    if (welcomedAt !== undefined) {
      // A new loss; but what fails right after its Welcome is not tried in haste.
      this.attempt = real() - welcomedAt > HELD_MS ? 0 : Math.min(this.attempt, HASTY_ATTEMPTS);
    }
    let longest = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** this.attempt);
    if (rejection?.retryDelayMs) longest = Math.max(longest, Math.min(LONGEST_BACKOFF_MS, rejection.retryDelayMs));
    this.attempt = Math.min(this.attempt + 1, 16);
    const delay = longest * (0.5 + Math.random() / 2);
    this.environment.log(
      this.everOpened && this.attempt === 1 ? "warn" : "debug",
      `${rejection?.message ?? why.message}; connecting again in ${(delay / 1000).toFixed(2)} s`,
    );
    this.retry = this.environment.wait(delay, () => this.connect());
  }

  /** Lets go of the connection. */
  private disconnect(): void {
    this.generation++;
    this.handshake?.cancel();
    this.tick?.cancel();
    this.retry?.cancel();
    this.connection?.close();
    this.connection = undefined;
    this.welcomedAt = undefined;
    this.sending = false;
    this.protocol.disconnected();
    this.flushed();
  }

  private giveUp(error: AmxError): void {
    this.host.abandon();
    this.protocol.close(error);
    this.deadlines.close();
    if (this.settleOpen !== undefined) {
      this.settleOpen.reject(error);
      this.settleOpen = undefined;
      this.settleEnded.resolve();
      return;
    }
    this.environment.log("error", `the link is over: ${error.message}`);
    this.settleEnded.reject(error);
  }

  private async leave(deadlineMs: number): Promise<void> {
    const { protocol, host } = this;
    if (protocol.open) {
      if (host.slotsInUse || this.hosted.size) {
        protocol.drain();
        await this.flush();
      }
      if (!(await this.within(deadlineMs, host.waitEmpty()))) {
        this.environment.log(
          "warn",
          `${host.slotsInUse} handlers still ran after ${(deadlineMs / 1000).toFixed(1)} s and are cancelled`,
        );
      }
      if (protocol.open) {
        const hungUp = new Promise<void>((resolve) => {
          this.hungUp = resolve;
        });
        this.saidGoodbye = true;
        protocol.drained();
        await this.flush();
        await this.within(FLUSH_MS, hungUp);
      }
    }
    this.saidGoodbye = true;
    host.abandon();
    const over = unavailable("SHUTTING_DOWN", "the link was closed before this call had an outcome");
    protocol.close(over);
    this.disconnect();
    this.deadlines.close();
    this.settleOpen?.reject(over);
    this.settleOpen = undefined;
    this.settleEnded.resolve();
  }

  /** Resolves when everything said so far has been handed to the transport, or is known not to get there. */
  private flush(): Promise<unknown> {
    const flushed = new Promise<void>((resolve) => this.flushes.push(resolve));
    this.wake();
    return this.within(FLUSH_MS, flushed);
  }

  private flushed(): void {
    if (!this.flushes.length) return;
    const flushes = this.flushes;
    this.flushes = [];
    for (const resolve of flushes) resolve();
  }

  /** Resolves with whether `what` happened within `ms` of real time. */
  private within(ms: number, what: Promise<unknown>): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = this.environment.wait(ms, () => resolve(false));
      what.then(() => {
        timer.cancel();
        resolve(true);
      });
    });
  }

  private unreachable(why: ConnectionLost): AmxError {
    return unavailable(
      "ENGINE_UNREACHABLE",
      `no engine answers at ${this.connector.address} (${why.message}); start one with \`amx dev\`, or name another ` +
        "with AMX_ADDRESS or withAddress()",
    );
  }
}

/** Real milliseconds: how long connections last and how patient one is has nothing to do with the protocol's clock. */
function real(): number {
  return performance.now();
}

function unavailable(reason: string, message: string): AmxError {
  return new AmxError(Code.UNAVAILABLE, reason, message, { retryable: true, retryDelayMs: 1000 });
}
