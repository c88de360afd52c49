// The core runs where there is no Node, and the package is what it says.

import { readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { createContext, runInContext } from "node:vm";
import { build } from "esbuild";
import { describe, expect, it } from "vitest";
import { SOFTWARE } from "../../src/version.js";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

describe("the core", () => {
  it("imports nothing of Node, and works with what browsers have", async () => {
    const bundled = await build({
      entryPoints: [join(root, "src/core.ts")],
      bundle: true,
      write: false,
      metafile: true,
      format: "iife",
      globalName: "amx",
      platform: "browser",
      target: "es2022",
    });
    const imported = Object.values(bundled.metafile.inputs).flatMap((input) => input.imports.map((one) => one.path));
    expect(imported.filter((path) => path.startsWith("node:") || builtinModules.includes(path))).toEqual([]);
    const inputs = Object.keys(bundled.metafile.inputs);
    expect(inputs.filter((path) => path.includes("grpc-js") || path.includes("transport/node"))).toEqual([]);

    // A page has no Buffer, process or require; the link speaks over whatever it is given.
    const page = createContext({ TextEncoder, TextDecoder, AbortController, AbortSignal, performance, console });
    const said = runInContext(
      `${bundled.outputFiles[0]?.text};
      (() => {
        const frames = [];
        const environment = {
          now: () => 0, callAt: () => ({ cancel() {} }), wait: () => ({ cancel() {} }), defer: () => {},
          randomId: () => "0".repeat(32), log: () => {}, host: "page", language: "typescript page",
        };
        const connector = {
          address: "page",
          connect: (events) => {
            Promise.resolve().then(() => events.opened());
            return { send: (frame) => frames.push(frame), close() {} };
          },
        };
        const agent = amx.defineAgent({ name: "Page", version: "1.0.0", handlers: (on) => ({ hello: on({}, () => "hi") }) });
        const engine = new amx.EngineBuilder().withAgent(agent).withConnector(connector).withEnvironment(environment).build();
        engine.start().catch(() => {});
        return new Promise((resolve) => Promise.resolve().then(() => Promise.resolve()).then(() => resolve(frames)));
      })()`,
      page,
    ) as Promise<Uint8Array[]>;
    const [hello] = await said;
    expect(new TextDecoder().decode(hello)).toContain("amx-engine-ts");
  });
});

describe("the package", () => {
  it("tells the engine its own name and version", () => {
    const { name, version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as typeof SOFTWARE;
    expect([name, version]).toEqual([`@aimatrix/${SOFTWARE.name}`, SOFTWARE.version]);
  });
});
