// Finds the compiled form of whatever is to be hosted.

import type { AgentSpec } from "../agent-spec.js";
import { agentSpecOf } from "../authoring/spec.js";

/** The spec of a decorated class, of an object of one, of a definition, or the spec itself. Throws DefinitionError. */
export function specOf(agent: object): AgentSpec {
  const isSpec = typeof agent === "object" && "definition" in agent && "handlers" in agent && "createInstance" in agent;
  return isSpec ? (agent as AgentSpec) : agentSpecOf(agent);
}
