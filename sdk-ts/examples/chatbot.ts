// A conversation with the chatbot: `npm run example chatbot`, with an engine at localhost:9090 (`amx dev`).
// With OPENAI_API_KEY set it asks the model there; without, a stand-in that this program starts.

import { AmxEngine } from "@aimatrix/amx-engine-ts";
import { type BotResponse, ChatbotAgent } from "./chatbot/agent.js";
import { startModelServer } from "./chatbot/model-server.js";

const standIn = process.env["OPENAI_API_KEY"] ? undefined : await startModelServer("a-key-for-the-stand-in");
if (standIn !== undefined) {
  process.env["OPENAI_API_KEY"] = "a-key-for-the-stand-in";
  process.env["OPENAI_BASE_URL"] = standIn.baseUrl;
}

const engine = AmxEngine.builder()
  .withAgent(new ChatbotAgent())
  .withConfig({ environment: "production", logging: { level: "info" } })
  .build();
await engine.start();
for (const text of ["Hello!", "Where is my order?", "Hm."]) {
  const response: BotResponse = await engine.sendMessage("ChatbotAgent", { userId: "ada", text });
  console.log(`> ${text}\n${response.text}`);
}
const remembered = await engine.memory("ChatbotAgent").get<{ messages: unknown[] }>("conversationHistory", "ada");
console.log(`${remembered?.messages.length} messages are remembered`);
await engine.stop();
await standIn?.close();
