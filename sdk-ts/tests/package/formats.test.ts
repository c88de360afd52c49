// The built package, as programs get it: ES modules and CommonJS, with types for both.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const built = existsSync(join(root, "dist", "esm", "index.js")) && existsSync(join(root, "dist", "cjs", "index.js"));
const entries = ["", "/core", "/testing", "/proto"];

describe.skipIf(!built)("the built package", () => {
  const folder = mkdtempSync(join(tmpdir(), "amx-ts-"));
  beforeAll(() => {
    mkdirSync(join(folder, "node_modules", "@aimatrix"), { recursive: true });
    symlinkSync(root, join(folder, "node_modules", "@aimatrix", "amx-engine-ts"), "dir");
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const run = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return execFileSync(process.execPath, [name], { cwd: folder, encoding: "utf8" }).trim();
  };

  it("is imported and required, and gives the same in both", () => {
    const names = entries.map((entry) => `"@aimatrix/amx-engine-ts${entry}"`);
    const imports = names.map(
      (name) =>
        `Object.keys(await import(${name})).filter((key) => key !== "default" && key !== "module.exports").sort()`,
    );
    const requires = names.map((name) => `Object.keys(require(${name})).sort()`);
    const esm = run("a.mjs", `console.log(JSON.stringify([${imports.join(", ")}]))`);
    const cjs = run("a.cjs", `console.log(JSON.stringify([${requires.join(", ")}]))`);
    expect(JSON.parse(esm)).toEqual(JSON.parse(cjs));
    for (const exported of JSON.parse(esm) as string[][]) expect(exported.length).toBeGreaterThan(1);
  });

  it("has types for both", () => {
    const program = `
      import { AmxEngine, defineAgent } from "@aimatrix/amx-engine-ts";
      import { EngineBuilder } from "@aimatrix/amx-engine-ts/core";
      const agent = defineAgent({ name: "A", handlers: (on) => ({ hello: on((_: unknown) => "hi") }) });
      const reply: Promise<string> = AmxEngine.builder().withAgent(agent).build().request<string>("A");
      // @ts-expect-error an address is text
      AmxEngine.builder().withAddress(5);
      export const both = [reply, new EngineBuilder()];
    `;
    writeFileSync(join(folder, "b.mts"), program);
    writeFileSync(join(folder, "b.cts"), program);
    const options = {
      strict: true,
      noEmit: true,
      module: "NodeNext",
      target: "ES2022",
      lib: ["ES2023", "DOM"],
      types: [],
      skipLibCheck: false,
    };
    writeFileSync(
      join(folder, "tsconfig.json"),
      JSON.stringify({ compilerOptions: { ...options, preserveSymlinks: false }, files: ["b.mts", "b.cts"] }),
    );
    const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
    let said = "";
    try {
      execFileSync(process.execPath, [tsc, "-p", folder], { encoding: "utf8" });
    } catch (error) {
      said = (error as { stdout: string }).stdout;
    }
    expect(said).toBe("");
  }, 120_000);
});
