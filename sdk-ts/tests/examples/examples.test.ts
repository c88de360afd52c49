// The examples run, against a real engine, and say what they promise.

import { execFile } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EngineProcess, engineInstalled } from "../support/engine-process.js";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const run = promisify(execFile);

describe.skipIf(!engineInstalled)("the examples", () => {
  let engine: EngineProcess;

  beforeAll(async () => {
    engine = await EngineProcess.start();
  });

  afterAll(async () => {
    await engine.stop();
  });

  async function example(name: string): Promise<string> {
    const env: NodeJS.ProcessEnv = { ...process.env, AMX_ADDRESS: engine.address };
    delete env["OPENAI_API_KEY"];
    const { stdout } = await run(process.execPath, [join(root, "scripts/example.mjs"), name], { cwd: root, env });
    return stdout;
  }

  it("hello remembers from one run to the next", async () => {
    expect(await example("hello")).toBe("Hello, Ada! This is time 1.\n");
    expect(await example("hello")).toBe("Hello, Ada! This is time 2.\n");
  });

  it("streaming yields, and undoes what was cancelled", async () => {
    expect(await example("streaming")).toBe(
      'heard 4 words: Once upon a time\nheard "and", and left\nremembered: 4 words\n',
    );
  });

  it("chatbot talks to a model server over HTTP, and remembers what was said", async () => {
    const said = await example("chatbot");
    expect(said).toContain(
      "> Where is my order?\nYour order is packed, and leaves our house tomorrow. (That was message 2.)",
    );
    expect(said).toContain("6 messages are remembered");
  });
});
