// Decorated classes as tsc lowers them, which is not quite as esbuild does, for old and for new runtimes.

import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { expect, it } from "vitest";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const folder = join(root, "dist", "lowered");
const SOURCE = `
import { Agent, handler, memory } from "@aimatrix/amx-engine-ts";
import { AgentHarness } from "@aimatrix/amx-engine-ts/testing";

@Agent({ name: "Lowered" })
class Lowered {
  @memory({ persistent: true }) private counts = new Map<string, number>();
  @memory({ persistent: true }) accessor total = 0;
  @memory private last: string[] = [];

  @handler({ default: true })
  async add(name: string): Promise<number> {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    this.last.push(name);
    this.total += 1;
    return this.total;
  }

  @handler({ streaming: true })
  async *count(to: number): AsyncGenerator<number> {
    for (let i = 0; i < to; i += 1) yield i;
  }
}

for (const agent of [Lowered, new Lowered()]) {
  const harness = await AgentHarness.start(agent);
  await harness.request("a");
  const total = await harness.request("a");
  const chunks: unknown[] = [];
  for await (const chunk of harness.stream(2, { handler: "count" })) chunks.push(chunk);
  const { counts, last } = harness.memory();
  console.log(JSON.stringify([total, chunks, [...(counts as Map<string, number>)], last]));
  await harness.stop();
}
`;

it.each(["ES2022", "ES2017", "ESNext"] as const)("run when tsc lowers them to %s", (target) => {
  mkdirSync(folder, { recursive: true });
  const { outputText } = ts.transpileModule(SOURCE, {
    compilerOptions: { target: ts.ScriptTarget[target], module: ts.ModuleKind.ESNext },
  });
  const file = join(folder, `${target}.mjs`);
  writeFileSync(file, outputText);
  const said = execFileSync(process.execPath, [join(root, "scripts/example.mjs"), file], {
    cwd: root,
    encoding: "utf8",
  });
  const line = '[2,[0,1],[["a",2]],["a","a"]]\n';
  expect(said).toBe(line + line);
});

it("say what to do when they are legacy ones", () => {
  mkdirSync(folder, { recursive: true });
  const { outputText } = ts.transpileModule(SOURCE.replace("accessor total", "total"), {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, experimentalDecorators: true },
  });
  const file = join(folder, "legacy.mjs");
  writeFileSync(file, outputText);
  const run = () =>
    execFileSync(process.execPath, [join(root, "scripts/example.mjs"), file], { cwd: root, stdio: "pipe" });
  expect(run).toThrow(/turn experimentalDecorators off in tsconfig.json/);
});
