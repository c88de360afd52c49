// Streams, cancellation, and an agent without a class: `npm run example streaming`, with an engine at localhost:9090.

import { AmxEngine, defineAgent, remember } from "@aimatrix/amx-engine-ts";
import { z } from "zod";

/** Tells a text word by word, and remembers how far somebody listened. */
const Narrator = defineAgent({
  name: "Narrator",
  memory: {
    heard: remember(() => 0, { persistent: true }),
  },
  handlers: (on) => ({
    tell: on(
      { input: z.object({ text: z.string(), pauseMs: z.number().default(20) }) },
      async function* (story, context) {
        for (const word of story.text.split(" ")) {
          yield word;
          context.memory.heard += 1;
          await pause(story.pauseMs, context.signal);
        }
      },
    ),
    heard: on(async (_: undefined, { memory }) => memory.heard),
  }),
});

/** Resolves after so long; rejects if the listener leaves first. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", leave);
      resolve();
    }, ms);
    signal.addEventListener("abort", leave, { once: true });
  });
}

const engine = AmxEngine.builder().withAgent(Narrator).build();
await engine.start();

const words: string[] = [];
for await (const word of engine.stream<string>("Narrator", { text: "Once upon a time" }, { handler: "tell" })) {
  words.push(word);
}
console.log(`heard ${words.length} words: ${words.join(" ")}`);

for await (const word of engine.stream<string>("Narrator", { text: "and they lived happily" }, { handler: "tell" })) {
  console.log(`heard "${word}", and left`);
  break; // cancels the handler: what it remembered is undone
}
console.log(`remembered: ${await engine.request("Narrator", undefined, { handler: "heard" })} words`);
await engine.stop();
