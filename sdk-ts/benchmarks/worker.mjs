// The worker of the benchmark `ts_rr_256`: an agent of the built package, hosted until standard input ends.
import { AmxEngine, defineAgent } from "../dist/esm/index.js";

const Echo = defineAgent({
  name: "EchoTs",
  version: "1.0.0",
  handlers: (on) => ({ echo: on((content) => content) }),
});

const engine = AmxEngine.builder().withAgent(Echo).build();
await engine.start({ patience: "10s" });
process.stdout.write(`${JSON.stringify({ id: 0, result: "ready" })}\n`);
process.stdin.resume().on("end", () => engine.stop());
