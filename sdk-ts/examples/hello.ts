// The smallest agent that remembers: `npm run example hello`, with an engine at localhost:9090 (`amx dev`).

import { Agent, AmxEngine, handler, memory } from "@aimatrix/amx-engine-ts";

@Agent({ name: "Greeter" })
class Greeter {
  @memory({ persistent: true })
  private counts = new Map<string, number>();

  @handler
  async greet(name: string): Promise<string> {
    const count = (this.counts.get(name) ?? 0) + 1;
    this.counts.set(name, count);
    return `Hello, ${name}! This is time ${count}.`;
  }
}

const engine = AmxEngine.builder().withAgent(Greeter).build();
await engine.start();
console.log(await engine.request("Greeter", "Ada"));
await engine.stop();
