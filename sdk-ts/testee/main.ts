// The testee of the TypeScript SDK: hosts the fixtures at an engine, or for a runner at standard input and output.

import { AmxEngine } from "../src/index.js";
import { given } from "./arguments.js";
import * as fixtures from "./fixtures.js";
import { fixturesOf, hosting } from "./hosting.js";
import { Interpreter } from "./interpreter.js";
import { serveLines } from "./lines.js";

hosting.fixtures = { ...fixtures, Interpreter };
const agents = fixturesOf(given.agents === "" ? Object.keys(hosting.fixtures) : given.agents.split(","));

if (given.stdio) {
  await serveLines(agents, given.credit);
} else {
  const builder = AmxEngine.builder().withAddress(given.connect).withConcurrency(given.credit);
  for (const agent of agents) {
    builder.withAgent(agent);
  }
  const engine = builder.build();
  hosting.engine = engine;
  await engine.runForever();
}
