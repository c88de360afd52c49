// Ways to test agents: alone and without sockets, or with a real engine in a process of its own.

export { EngineProcess, type EngineProcessOptions } from "./engine-process.js";
export { AgentHarness, type Answer, type Outcome, type RunOptions } from "./harness.js";
