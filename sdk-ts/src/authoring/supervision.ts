// What an agent says of the agents it keeps running, and what the engine is told of it.

import { create } from "@bufbuild/protobuf";
import { DefinitionError } from "../errors.js";
import {
  RestartStrategy,
  RestartType,
  SupervisedChildSchema,
  type SupervisorPolicy,
  SupervisorPolicySchema,
} from "../gen/amx/v1/agent_pb.js";
import { type Duration, milliseconds } from "./durations.js";

/** One child of a supervisor. */
export interface Child {
  /** Name of the agent. */
  agent: string;
  /** Key of the instance, `default` unless given; `*`: every instance, each for itself, with a count of its own. */
  key?: string;
  /**
   * `permanent` (unless given): whenever it ended; `transient`: when it failed, not when it was killed on purpose;
   * `temporary`: never.
   */
  restart?: "permanent" | "transient" | "temporary";
  /** Handler that is sent a message without content after a restart. */
  onRestart?: string;
}

/** How an agent keeps others running, by the rules of Erlang/OTP supervisors. The engine follows it. */
export interface Supervisor {
  /** In order of start. */
  children: readonly Child[];
  /** Who is restarted when one fails: it alone (unless given), all, or it and those after it. */
  strategy?: "one_for_one" | "one_for_all" | "rest_for_one";
  /** Restarts borne within `within`; one more, and it gives up. 3 unless given. */
  maxRestarts?: number;
  /** 5 s unless given. */
  within?: Duration;
  /** Longest wait before a restart; it doubles from 100 ms. 30 s unless given. */
  maxBackoff?: Duration;
}

const STRATEGIES = {
  one_for_one: RestartStrategy.ONE_FOR_ONE,
  one_for_all: RestartStrategy.ONE_FOR_ALL,
  rest_for_one: RestartStrategy.REST_FOR_ONE,
};
const RESTARTS = {
  permanent: RestartType.PERMANENT,
  transient: RestartType.TRANSIENT,
  temporary: RestartType.TEMPORARY,
};

/** What the engine is told. Throws DefinitionError for values that make no sense. where: whose supervisor, for people. */
export function supervisorPolicy(said: Supervisor, where: string): SupervisorPolicy {
  if (!Array.isArray(said.children) || said.children.length === 0) {
    throw new DefinitionError(`${where}: supervisor needs children, e.g. { children: [{ agent: "Cart" }] }`);
  }
  const { maxRestarts } = said;
  if (maxRestarts !== undefined && !(Number.isInteger(maxRestarts) && maxRestarts >= 1)) {
    throw new DefinitionError(
      `${where}: supervisor.maxRestarts is ${maxRestarts}; use 1 or more, or children that are "temporary"`,
    );
  }
  return create(SupervisorPolicySchema, {
    strategy: known(STRATEGIES, said.strategy ?? "one_for_one", `${where}: supervisor.strategy`),
    children: said.children.map((child: Child) => {
      if (typeof child?.agent !== "string" || child.agent === "") {
        throw new DefinitionError(`${where}: a child of the supervisor names no agent, e.g. { agent: "Cart" }`);
      }
      return create(SupervisedChildSchema, {
        agent: child.agent,
        key: child.key ?? "default",
        restart: known(RESTARTS, child.restart ?? "permanent", `${where}: restart of child ${child.agent}`),
        onRestart: child.onRestart ?? "",
      });
    }),
    maxRestarts: maxRestarts ?? 0,
    withinMs: BigInt(said.within === undefined ? 0 : milliseconds(said.within, "supervisor.within")),
    maxBackoffMs: BigInt(said.maxBackoff === undefined ? 0 : milliseconds(said.maxBackoff, "supervisor.maxBackoff")),
  });
}

function known<T>(names: Readonly<Record<string, T>>, name: string, where: string): T {
  if (!Object.hasOwn(names, name)) {
    throw new DefinitionError(`${where} is ${JSON.stringify(name)}; use one of ${Object.keys(names).join(", ")}`);
  }
  return names[name] as T;
}
