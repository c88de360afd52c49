// Pipelines: ordered stages inside one invocation, each seeing what the one before it returned.

import { AmxError, Code } from "../errors.js";
import type { CallLimits, Context } from "./context.js";
import type { EventOptions } from "./effects.js";
import type { Logger } from "./logger.js";
import type { AgentReference, Message, MessageOptions } from "./message.js";

/** One stage of a pipeline. */
export interface Stage {
  readonly name: string;
  readonly order: number;
  /** Milliseconds; undefined: without a bound of its own. */
  readonly timeoutMs: number | undefined;
  run(self: object, context: PipelineContext): unknown;
}

/** What an alert says. */
export interface Alert {
  readonly channel: string;
  readonly message: string;
  readonly severity?: string;
  readonly data?: unknown;
  readonly attributes?: Readonly<Record<string, string>>;
}

/** Tells people: an alert is an event on `alerts.<channel>`, and a line in the log. */
export class NotificationService {
  constructor(private readonly context: Context<unknown>) {}

  /**
   * Publishes the alert at once, whether or not the invocation succeeds; resolves with the number of subscribers. It is
   * logged even if it cannot be published, for which it rejects with AmxError.
   */
  async sendAlert(alert: Alert): Promise<number> {
    const { channel, message, severity = "info", data = null } = alert;
    const grave = ["high", "critical", "error"].includes(severity);
    this.context.logger[grave ? "error" : "warn"](`alert on ${channel} (${severity}): ${message}`);
    const source = `${this.context.agent}/${this.context.key}`;
    const published = await this.context.publishNow(
      `alerts.${channel}`,
      { channel, message, severity, source, data },
      { attributes: { ...alert.attributes, severity, source } },
    );
    return published.subscribers;
  }
}

/**
 * What a stage sees of its run. `input` is the content of the message that started it, `previousResult` what the stage
 * before returned (the input, for the first), `results` what each stage returned, in order; `partialResults` is the same,
 * and undefined while there are none. `currentStage` is the name of the running stage, or of the one that failed.
 */
export class PipelineContext<Input = unknown> {
  // biome-ignore lint/suspicious/noExplicitAny: a stage knows what the one before it returns
  previousResult: any;
  readonly results: Record<string, unknown> = {};
  currentStage = "";
  readonly notificationService: NotificationService;
  private stageSignal: AbortSignal | undefined;

  constructor(
    readonly pipeline: string,
    /** The Context of the invocation. */
    readonly invocation: Context<unknown>,
    readonly input: Input,
  ) {
    this.previousResult = input;
    this.notificationService = new NotificationService(invocation);
  }

  get partialResults(): Readonly<Record<string, unknown>> | undefined {
    return Object.keys(this.results).length === 0 ? undefined : this.results;
  }

  /** The message that started the run. */
  get message(): Message {
    return this.invocation.message;
  }

  /** What `withConfig` was given. */
  get config(): Readonly<Record<string, unknown>> {
    return this.invocation.config;
  }

  get logger(): Logger {
    return this.invocation.logger;
  }

  /** Aborted when the invocation is, or the stage's own time is over. */
  get signal(): AbortSignal {
    return this.stageSignal ?? this.invocation.signal;
  }

  /** For the SDK: what ends the running stage. */
  limitBy(signal: AbortSignal | undefined): void {
    this.stageSignal = signal === undefined ? undefined : AbortSignal.any([this.invocation.signal, signal]);
  }

  /** Stages a message; see Context.send. */
  emit(agent: string | AgentReference, content?: unknown, options?: MessageOptions): void {
    this.invocation.send(agent, content, options);
  }

  /** Stages an event; see Context.publish. */
  publish(topic: string, content?: unknown, options?: EventOptions): void {
    this.invocation.publish(topic, content, options);
  }

  /** Asks another agent now; see Context.request. */
  request<Reply = unknown>(
    agent: string | AgentReference,
    content?: unknown,
    options: MessageOptions & CallLimits = {},
  ): Promise<Reply> {
    return this.invocation.request<Reply>(agent, content, { signal: this.signal, ...options });
  }
}

/**
 * Runs the stages in order and resolves with what the last one returned. A failing stage ends the run: what the error handler
 * returns is then the result. Without one it rejects with the stage's reason (PIPELINE_STAGE_FAILED if it has none) and
 * the stage's error as cause. A run that was cancelled does not ask the error handler.
 */
export async function runPipeline(
  stages: readonly Stage[],
  onError: ((self: object, context: PipelineContext, error: unknown) => unknown) | undefined,
  self: object,
  context: PipelineContext,
  cancelled: () => boolean,
): Promise<unknown> {
  for (const stage of stages) {
    context.currentStage = stage.name;
    try {
      const value = await runStage(stage, self, context);
      context.results[stage.name] = value;
      context.previousResult = value;
    } catch (error) {
      if (onError === undefined || cancelled()) {
        throw stageError(context.pipeline, stage, error);
      }
      return await onError(self, context, error);
    }
  }
  return context.previousResult;
}

async function runStage(stage: Stage, self: object, context: PipelineContext): Promise<unknown> {
  if (stage.timeoutMs === undefined) {
    return await stage.run(self, context);
  }
  const controller = new AbortController();
  context.limitBy(controller.signal);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const error = new AmxError(
        Code.DEADLINE_EXCEEDED,
        "DEADLINE_EXCEEDED",
        `stage '${stage.name}' did not end within its timeout of ${stage.timeoutMs} ms`,
        { retryable: true },
      );
      controller.abort(error);
      reject(error);
    }, stage.timeoutMs);
  });
  try {
    return await Promise.race([stage.run(self, context), over]);
  } finally {
    clearTimeout(timer);
    context.limitBy(undefined);
  }
}

function stageError(pipeline: string, stage: Stage, error: unknown): AmxError {
  const known = error instanceof AmxError && error.reason !== "HANDLER_FAILED";
  const message = error instanceof Error ? error.message : String(error);
  return new AmxError(
    known ? error.code : Code.UNKNOWN,
    known ? error.reason : "PIPELINE_STAGE_FAILED",
    `pipeline '${pipeline}' failed at stage '${stage.name}': ${message}`,
    {
      retryable: error instanceof AmxError ? error.retryable : true,
      metadata: { pipeline, stage: stage.name },
      cause: error,
    },
  );
}
