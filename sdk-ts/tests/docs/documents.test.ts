// The TypeScript in the documents compiles as it is written, and the first agent of the README runs.

import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EngineProcess, engineInstalled } from "../support/engine-process.js";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const folder = join(root, "dist", "documents");
const run = promisify(execFile);

function blocks(document: string): string[] {
  const text = readFileSync(join(dirname(root), document), "utf8");
  return [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((match) => match[1] as string);
}

describe("the documents", () => {
  beforeAll(() => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
  });

  it("have TypeScript that compiles", () => {
    const files: string[] = [];
    for (const document of ["README.md", "docs/typescript.md"]) {
      blocks(document).forEach((block, index) => {
        const file = join(folder, `${document.replaceAll(/\W/g, "-")}-${index}.ts`);
        writeFileSync(file, block.includes("import ") ? block : `${block}\nexport {};\n`);
        files.push(file);
      });
    }
    expect(files.length).toBeGreaterThan(10);
    const read = ts.readConfigFile(join(root, "tsconfig.json"), ts.sys.readFile);
    const { options } = ts.parseJsonConfigFileContent(read.config, ts.sys, root);
    const program = ts.createProgram(files, { ...options, noUnusedParameters: false, noUnusedLocals: false });
    const wrong = ts.getPreEmitDiagnostics(program).map((one) => {
      const line = one.file?.getLineAndCharacterOfPosition(one.start ?? 0).line ?? 0;
      return `${one.file?.fileName}:${line + 1} ${ts.flattenDiagnosticMessageText(one.messageText, "\n")}`;
    });
    expect(wrong).toEqual([]);
  }, 120_000);
});

describe.skipIf(!engineInstalled)("the README's first agent", () => {
  let engine: EngineProcess;

  beforeAll(async () => {
    engine = await EngineProcess.start();
  });

  afterAll(async () => {
    await engine.stop();
  });

  it("runs as it is written", async () => {
    const block = blocks("README.md").find((one) => one.includes("class Greeter")) as string;
    mkdirSync(folder, { recursive: true });
    const file = join(folder, "greeter.ts");
    writeFileSync(file, block);
    const env = { ...process.env, AMX_ADDRESS: engine.address };
    for (const time of [1, 2]) {
      const { stdout } = await run(process.execPath, [join(root, "scripts/example.mjs"), file], { cwd: root, env });
      expect(stdout).toBe(`Hello, Ada! This is time ${time}.\n`);
    }
  });
});
