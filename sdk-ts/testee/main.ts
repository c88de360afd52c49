// The testee of the TypeScript SDK: hosts the fixtures at an engine, or for a runner at standard input and output.

import { AmxEngine } from "../src/index.js";
import { given } from "./arguments.js";
import * as fixtures from "./fixtures.js";
import { Interpreter } from "./interpreter.js";
import { serveLines } from "./lines.js";

const all: Readonly<Record<string, object>> = { ...fixtures, Interpreter };
const names = given.agents === "" ? Object.keys(all) : given.agents.split(",");
const unknown = names.filter((name) => !Object.hasOwn(all, name));
if (unknown.length > 0) {
  console.error(`no fixture is called ${unknown.join(", ")}; there are: ${Object.keys(all).join(", ")}`);
  process.exit(2);
}
const agents = names.map((name) => all[name] as object);

if (given.stdio) {
  await serveLines(agents, given.credit);
} else {
  const builder = AmxEngine.builder().withAddress(given.connect).withConcurrency(given.credit);
  for (const agent of agents) {
    builder.withAgent(agent);
  }
  await builder.build().runForever();
}
