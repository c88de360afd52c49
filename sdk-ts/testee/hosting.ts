// What this process hosts: its AmxEngine, and the fixtures it may host.

import type { AmxEngine } from "../src/engine/engine.js";
import { named } from "./arguments.js";

/** Set by main.ts before anything runs. */
export const hosting: { engine: AmxEngine; fixtures: Readonly<Record<string, object>> } = {
  engine: undefined as unknown as AmxEngine,
  fixtures: {},
};

/** Hosts these fixtures, too, and no longer those. Rejects with the engine's reason. */
export async function hostAlso(agents: readonly string[], removed: readonly string[]): Promise<void> {
  await hosting.engine.host(fixturesOf(agents), removed.map(named));
}

/** The fixtures of these names. Ends the process for a name that is none. */
export function fixturesOf(names: readonly string[]): object[] {
  return names.map((name) => {
    const found = hosting.fixtures[name];
    if (found === undefined) {
      console.error(`no fixture is called ${name}; there are: ${Object.keys(hosting.fixtures).join(", ")}`);
      process.exit(2);
    }
    return found;
  });
}
