// What builders take, refuse, and find in files and the environment.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { AmxEngine, defineAgent } from "../../src/index.js";

const Echo = defineAgent({ name: "Echo", handlers: (on) => ({ echo: on((content) => content) }) });

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "amx-ts-"));
  vi.stubEnv("AMX_ADDRESS", "");
  vi.stubEnv("AMX_TOKEN", "");
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
  vi.unstubAllEnvs();
});

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

describe("the address", () => {
  it("is the one that was given, else that of the configuration, of AMX_ADDRESS, or localhost:9090", () => {
    expect(AmxEngine.builder().build().address).toBe("localhost:9090");
    vi.stubEnv("AMX_ADDRESS", "environment:1");
    expect(AmxEngine.builder().build().address).toBe("environment:1");
    const config = { engine: { address: "configuration:2" } };
    expect(AmxEngine.builder().withConfig(config).build().address).toBe("configuration:2");
    expect(AmxEngine.builder().withConfig(config).withAddress("given:3").build().address).toBe("given:3");
  });
});

describe("the configuration", () => {
  it("is read from YAML and JSON, later sections over earlier ones, and handed on", () => {
    const engine = AmxEngine.builder()
      .withConfig(file("one.yaml", "engine:\n  address: one:1\nmail:\n  from: a@b\n"))
      .withConfig(file("two.json", '{"engine": {"address": "two:2", "concurrency": 5}}'))
      .build();
    expect(engine.address).toBe("two:2");
    expect(engine.config).toEqual({ engine: { address: "two:2", concurrency: 5 }, mail: { from: "a@b" } });
  });

  it.each([
    ["a section that is none", { engine: 5 }, "section 'engine'"],
    ["a concurrency of nothing", { engine: { concurrency: 0 } }, "engine.concurrency"],
    ["an address that is no text", { engine: { address: 9090 } }, "engine.address"],
  ])("is refused with %s", (_what, config, named) => {
    const build = (): unknown => AmxEngine.builder().withConfig(config).build();
    expect(build).toThrow(
      expect.objectContaining({ reason: "INVALID_CONFIG", message: expect.stringContaining(named) }),
    );
  });

  it.each([
    ["is not there", "absent.yaml"],
    ["is no YAML", "broken.yaml"],
    ["holds no sections", "list.yaml"],
  ])("of a file that %s is refused, naming the file", (_what, name) => {
    file("broken.yaml", "a: [1, 2");
    file("list.yaml", "- 1\n");
    expect(() => AmxEngine.builder().withConfig(join(folder, name))).toThrow(
      expect.objectContaining({ reason: "INVALID_CONFIG", message: expect.stringContaining(name) }),
    );
  });
});

describe("agents", () => {
  it("of one name are refused, and so is what is no agent", () => {
    const builder = AmxEngine.builder().withAgent(Echo);
    expect(() => builder.withAgent(Echo)).toThrow(expect.objectContaining({ reason: "AGENT_TWICE" }));
    expect(() => builder.withAgent(class Plain {})).toThrow(expect.objectContaining({ reason: "NOT_AN_AGENT" }));
    expect(() => builder.withConcurrency(0)).toThrow(expect.objectContaining({ reason: "INVALID_CONFIG" }));
  });
});

describe("an engine that is not started", () => {
  it("refuses every call, and stops without a word", async () => {
    const engine = AmxEngine.builder().build();
    await expect(engine.request("Echo")).rejects.toMatchObject({ reason: "NOT_STARTED" });
    expect(() => engine.memory("Echo")).toThrow(expect.objectContaining({ reason: "NOT_STARTED" }));
    await engine.stop();
    expect(engine.connected).toBe(false);
  });

  it.each([0, -1, "soon"])("refuses a timeout of %s first", async (timeout) => {
    await expect(AmxEngine.builder().build().request("Echo", 1, { timeout })).rejects.toThrow();
  });
});
