// Ways to an engine besides plain TCP: TLS, with and without a certificate of one's own, and a Unix socket.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AmxEngine, type AmxEngineBuilder, defineAgent, nodeEnvironment } from "../../src/index.js";
import { EngineProcess, engineInstalled } from "../support/engine-process.js";

const Echo = defineAgent({ name: "Echo", handlers: (on) => ({ echo: on((content) => content) }) });

function openssl(...parts: string[]): boolean {
  try {
    execFileSync("openssl", parts, { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

async function asks(builder: AmxEngineBuilder, patience = 60_000): Promise<unknown> {
  const engine = builder
    .withAgent(Echo)
    .withEnvironment(nodeEnvironment(() => undefined))
    .build();
  await engine.start({ patience });
  try {
    return await engine.request("Echo", "over the wire");
  } finally {
    await engine.stop();
  }
}

describe.skipIf(!engineInstalled || !openssl("version"))("TLS", () => {
  const folder = mkdtempSync(join(tmpdir(), "amx-ts-"));
  const at = (name: string): string => join(folder, name);
  let engine: EngineProcess;

  function certificate(name: string, subject: string): void {
    openssl(
      "req",
      "-newkey",
      "rsa:2048",
      "-nodes",
      "-subj",
      `/CN=${subject}`,
      "-keyout",
      at(`${name}.key`),
      "-out",
      at("r"),
    );
    writeFileSync(at("ext"), `subjectAltName=DNS:${subject}\n`);
    const signed = [
      "-CA",
      at("ca.pem"),
      "-CAkey",
      at("ca.key"),
      "-CAcreateserial",
      "-extfile",
      at("ext"),
      "-days",
      "2",
    ];
    openssl("x509", "-req", "-in", at("r"), ...signed, "-out", at(`${name}.pem`));
  }

  beforeAll(async () => {
    openssl(
      "req",
      "-x509",
      "-newkey",
      "rsa:2048",
      "-nodes",
      "-subj",
      "/CN=test",
      "-days",
      "2",
      "-keyout",
      at("ca.key"),
      "-out",
      at("ca.pem"),
    );
    certificate("engine", "engine.test");
    engine = await EngineProcess.start({
      grpc: { tls: { cert: at("engine.pem"), key: at("engine.key") } },
    });
  });
  afterAll(async () => {
    await engine.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it("takes an engine whose certificate it trusts", async () => {
    const builder = AmxEngine.builder().withAddress(engine.address);
    expect(await asks(builder.withTls({ ca: at("ca.pem"), serverName: "engine.test" }))).toBe("over the wire");
  });

  it("refuses one that it does not trust, or that has another name", async () => {
    const builder = (): AmxEngineBuilder => AmxEngine.builder().withAddress(engine.address);
    await expect(asks(builder().withTls({ serverName: "engine.test" }), 0)).rejects.toMatchObject({
      reason: "ENGINE_UNREACHABLE",
    });
    await expect(asks(builder().withTls({ ca: at("ca.pem"), serverName: "other.test" }), 0)).rejects.toMatchObject({
      reason: "ENGINE_UNREACHABLE",
    });
  });
});

describe.skipIf(!engineInstalled || process.platform === "win32")("a Unix socket", () => {
  it("carries a link", async () => {
    const folder = mkdtempSync(join(tmpdir(), "amx-ts-"));
    const socket = join(folder, "amx.sock");
    const engine = await EngineProcess.start({ grpc: { unix_socket: socket } });
    try {
      expect(await asks(AmxEngine.builder().withAddress(`unix:${socket}`))).toBe("over the wire");
    } finally {
      await engine.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
