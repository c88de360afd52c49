// From a decorated class, or an object of one, to a compiled agent.

import { AGENT_SPEC, type AgentSpec } from "../agent-spec.js";
import { DefinitionError } from "../errors.js";
import { attach, initialValues } from "./attach.js";
import { closeCapabilities } from "./capability.js";
import { compile, type HandlerPlan, type Made } from "./compile.js";
import type { Context } from "./context.js";
import { DefinedAgent } from "./define.js";
import { milliseconds } from "./durations.js";
import { type ClassNotes, isDecorated, list, type MethodNote, notesOf } from "./notes.js";
import { jsonPayload } from "./payload.js";
import { PipelineContext, runPipeline, type Stage } from "./pipeline.js";
import { BasePerformanceMonitor, processedReport, routeAnswer, seenMessage } from "./routing.js";
import { isAsyncGenerator, schedulesOf } from "./spec-options.js";
import { encodeJson } from "./values.js";

type AgentClass = new () => object;
type Method = (this: object, ...given: unknown[]) => unknown;

const compiled = new WeakMap<object, AgentSpec>();

/**
 * The compiled form of a decorated class, an object of one, or what defineAgent made. Compiled once for each.
 *
 * Of a class, each instance key gets `new Class()`. Of an object, each gets a shallow copy: what it holds is shared, its
 * memories are not. Throws DefinitionError naming the culprit and the cure.
 */
export function agentSpecOf(agent: unknown): AgentSpec {
  if ((typeof agent !== "object" && typeof agent !== "function") || agent === null) {
    throw new DefinitionError(`${String(agent)} is no agent; hand over a class decorated with @Agent`, "NOT_AN_AGENT");
  }
  if (agent instanceof DefinedAgent) {
    return agent[AGENT_SPEC];
  }
  let spec = compiled.get(agent);
  if (spec === undefined) {
    spec = typeof agent === "function" ? specOfClass(agent as AgentClass) : specOfObject(agent);
    compiled.set(agent, spec);
  }
  return spec;
}

function specOfClass(cls: AgentClass): AgentSpec {
  const notes = requireNotes(cls);
  if (cls.length > 0) {
    throw new DefinitionError(
      `${cls.name} cannot be constructed without arguments; give them defaults, or hand over an object:` +
        ` withAgent(new ${cls.name}(…))`,
    );
  }
  const make = (): Made => {
    const self = new cls();
    const initial = initialValues(self, notes.memories);
    return { self, initial, attach: (memories) => attach(self, notes.memories, memories) };
  };
  return planOf(cls, notes, make, notes.memories.size === 0 ? new Map() : make().initial);
}

function specOfObject(prototype: object): AgentSpec {
  const cls = prototype.constructor as AgentClass;
  const notes = requireNotes(cls);
  const accessors = [...notes.memories.values()].some((note) => note.accessor);
  if (!accessors && hasPrivateMembers(cls)) {
    throw new DefinitionError(
      `${cls.name} has #private members, which cannot be copied for each instance; make them private by type` +
        ` ('private x'), or hand over the class: withAgent(${cls.name})`,
    );
  }
  const initial = initialValues(prototype, notes.memories);
  const make = (): Made => {
    const self = Object.create(Object.getPrototypeOf(prototype), Object.getOwnPropertyDescriptors(prototype)) as object;
    return { self, initial, attach: (memories) => attach(self, notes.memories, memories) };
  };
  return planOf(cls, notes, make, initial);
}

/** Whether methods of the class reach for members that only objects made by its constructor have. */
function hasPrivateMembers(cls: AgentClass): boolean {
  for (
    let one: unknown = cls;
    typeof one === "function" && one !== Function.prototype;
    one = Object.getPrototypeOf(one)
  ) {
    if (/\bthis\.#[\w$]|__classPrivateField(Get|Set)\(|__private(Get|Set|Method)\(this/.test(String(one))) {
      return true;
    }
  }
  return false;
}

function requireNotes(cls: AgentClass): ClassNotes {
  const notes = typeof cls === "function" ? notesOf(cls) : undefined;
  if (notes === undefined || !isDecorated(cls)) {
    const name = typeof cls === "function" && cls.name !== "" ? cls.name : String(cls);
    throw new DefinitionError(
      notes?.agent === undefined && notes === undefined
        ? `${name} is no agent; was it decorated with @Agent?`
        : `${name} is no agent; decorate it with @Agent, too`,
      "NOT_AN_AGENT",
    );
  }
  return notes;
}

function planOf(
  cls: AgentClass,
  notes: ClassNotes,
  make: () => Made,
  samples: ReadonlyMap<string, unknown>,
): AgentSpec {
  const said = notes.agent as NonNullable<ClassNotes["agent"]>;
  const where = cls.name || said.options.name || "agent";
  for (const [name, note] of notes.memories) {
    const sample = samples.get(name);
    if (note.access !== undefined && !(sample instanceof Map || sample instanceof Set || Array.isArray(sample))) {
      throw new DefinitionError(
        `${where}.#${name}: a single value cannot be watched there; use @memory accessor #${name}`,
      );
    }
  }
  return compile({
    kind: said.kind,
    where,
    options: { ...said.options, name: said.options.name || cls.name },
    handlers: handlersOf(cls, notes, where),
    memories: new Map([...notes.memories].map(([name, note]) => [name, note.options])),
    samples,
    capabilities: [...notes.capabilities],
    make,
    close: () => closeCapabilities(cls),
  });
}

function handlersOf(cls: AgentClass, notes: ClassNotes, where: string): HandlerPlan[] {
  const plans: HandlerPlan[] = [];
  const kind = (notes.agent as NonNullable<ClassNotes["agent"]>).kind;
  for (const [name, note] of notes.methods) {
    if (note.handler) {
      plans.push(handlerPlan(cls, name, note, notes));
    } else if (note.permissions.length > 0 && kind === "agent") {
      throw new DefinitionError(`${where}.${name} has @requiresPermission but is no handler; add @handler`);
    }
  }
  const staged = [...notes.methods.values()].some((note) => note.stage !== undefined || note.errorHandler);
  if (kind === "pipeline") {
    plans.push(pipelinePlan(cls, notes, where));
  } else if (staged) {
    throw new DefinitionError(`${where} has stages but is no pipeline; decorate it with @Pipeline`);
  }
  if (kind === "router" || kind === "monitor") {
    if (plans.length > 0) {
      throw new DefinitionError(`${where} is a ${kind}, and can have no handlers besides`);
    }
    plans.push(kind === "router" ? routerPlan(cls, notes, where) : monitorPlan(cls, notes, where));
  }
  return plans;
}

function methodOf(cls: AgentClass, name: string): Method {
  return (cls.prototype as Record<string, Method>)[name] as Method;
}

function handlerPlan(cls: AgentClass, name: string, note: MethodNote, notes: ClassNotes): HandlerPlan {
  const { options } = note;
  const method = methodOf(cls, name);
  const filter = options.filter ?? "";
  return {
    name: options.name ?? name,
    options,
    permissions: [...notes.permissions, ...list(options.permissions), ...note.permissions],
    subscriptions: [...list(options.topics).map((pattern) => ({ pattern, filter })), ...note.subscriptions],
    schedules: [...schedulesOf(options, name), ...note.schedules],
    streaming: options.streaming ?? isAsyncGenerator(method),
    // Looked up at each call, so that tests and subclasses can replace it.
    call: (self, content, context) => ((self as Record<string, Method>)[name] as Method).call(self, content, context),
  };
}

function pipelinePlan(cls: AgentClass, notes: ClassNotes, where: string): HandlerPlan {
  const stages: Stage[] = [];
  const errorHandlers: string[] = [];
  let position = 0;
  for (const [name, note] of notes.methods) {
    position += 1;
    if (note.stage !== undefined) {
      const { order = position, timeout } = note.stage;
      const twin = stages.find((other) => other.order === order);
      if (twin !== undefined) {
        throw new DefinitionError(
          `${where}: the stages '${twin.name}' and '${name}' have the same order ${order}; number them differently`,
        );
      }
      const timeoutMs = timeout === undefined ? undefined : milliseconds(timeout, `timeout of stage '${name}'`);
      stages.push({ name, order, timeoutMs, run: (self, context) => methodOf(cls, name).call(self, context) });
    }
    if (note.errorHandler) {
      errorHandlers.push(name);
    }
  }
  if (stages.length === 0) {
    throw new DefinitionError(`pipeline ${where} has no stages; decorate methods with @stage({ order: 1 }), …`);
  }
  if (errorHandlers.length > 1) {
    throw new DefinitionError(`pipeline ${where} has ${errorHandlers.length} error handlers; keep one`);
  }
  stages.sort((left, right) => left.order - right.order);
  const name = errorHandlers[0];
  const onError =
    name === undefined
      ? undefined
      : (self: object, context: PipelineContext, error: unknown) => methodOf(cls, name).call(self, context, error);
  const title = notes.agent?.options.name || cls.name;
  return {
    ...special("run", notes, undefined),
    options: { description: `Carries a value through the stages ${stages.map((one) => one.name).join(", ")}.` },
    call: (self, content, context) =>
      runPipeline(stages, onError, self, new PipelineContext(title, context, content), () => context.signal.aborted),
  };
}

function routerPlan(cls: AgentClass, notes: ClassNotes, where: string): HandlerPlan {
  const route = requireMethod(cls, "route", where, "async route(message)");
  return {
    ...special("route", notes, notes.methods.get("route")),
    call: (self, content, context) => route.call(self, seenMessage(content), context),
    encode: (value) => jsonPayload(encodeJson(routeAnswer(value))),
  };
}

function monitorPlan(cls: AgentClass, notes: ClassNotes, where: string): HandlerPlan {
  const name = "onMessageProcessed";
  const method = requireMethod(cls, name, where, "async onMessageProcessed(agentName, message, result, durationMs)");
  return {
    ...special("on_message_processed", notes, notes.methods.get(name)),
    call: async (self: object, content: unknown, context: Context) => {
      BasePerformanceMonitor.enter(self, context);
      await method.call(self, ...processedReport(content), context);
    },
  };
}

function special(name: string, notes: ClassNotes, note: MethodNote | undefined): Omit<HandlerPlan, "call"> {
  return {
    name,
    options: note?.options ?? {},
    permissions: [...notes.permissions, ...(note?.permissions ?? [])],
    subscriptions: [],
    schedules: [],
    streaming: false,
  };
}

function requireMethod(cls: AgentClass, name: string, where: string, signature: string): Method {
  const method = (cls.prototype as Record<string, unknown>)[name];
  if (typeof method !== "function" || isAsyncGenerator(method)) {
    throw new DefinitionError(`${where} needs a method: ${signature}`);
  }
  return method as Method;
}
