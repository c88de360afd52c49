// A stand-in for a language model: a server that answers OpenAI-compatible chat completions over HTTP, whole or streamed.
// It is no model. It looks for words it knows in the last thing the user said, and counts what came before.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

interface ChatRequest {
  model?: string;
  messages?: { role: string; content: string }[];
  max_tokens?: number;
  stream?: boolean;
}

const KNOWN: readonly (readonly [RegExp, string])[] = [
  [/\border\b/i, "Your order is packed, and leaves our house tomorrow."],
  [/\b(ship|shipping|cost)\b/i, "Shipping is free from 30 euros on."],
  [/\b(hello|hi)\b/i, "Hello! What can I do for you?"],
];
const MAX_BODY = 1 << 20;

/** A running stand-in. */
export interface ModelServer {
  /** For OPENAI_BASE_URL. */
  readonly baseUrl: string;
  close(): Promise<void>;
}

/** Starts a stand-in that accepts this key, on a port of its own. */
export async function startModelServer(apiKey: string): Promise<ModelServer> {
  const server = createServer((request, response) => {
    answer(request, response, apiKey).catch((error: unknown) => refuse(response, 500, String(error)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { baseUrl: `http://127.0.0.1:${port}/v1`, close: () => closed(server) };
}

async function answer(request: IncomingMessage, response: ServerResponse, apiKey: string): Promise<void> {
  if (request.headers.authorization !== `Bearer ${apiKey}`) {
    refuse(response, 401, "the API key is not one that this server knows");
    return;
  }
  if (request.method !== "POST" || request.url !== "/v1/chat/completions") {
    refuse(response, 404, `there is nothing at ${request.method} ${request.url}`);
    return;
  }
  const asked = JSON.parse(await bodyOf(request)) as ChatRequest;
  const messages = asked.messages ?? [];
  const said = messages.filter((one) => one.role === "user");
  const last = said.at(-1)?.content;
  if (last === undefined) {
    refuse(response, 400, "messages must hold something that the user said");
    return;
  }
  const known = KNOWN.find(([pattern]) => pattern.test(last))?.[1] ?? "I am not sure what you mean.";
  const words = `${known} (That was message ${said.length}.)`.split(" ");
  const limit = asked.max_tokens ?? words.length;
  const text = words.slice(0, limit).join(" ");
  const about = {
    id: `chatcmpl-${Date.now().toString(36)}`,
    created: Math.floor(Date.now() / 1000),
    model: asked.model ?? "stand-in",
  };
  const finish = words.length > limit ? "length" : "stop";
  if (asked.stream === true) {
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const word of text.split(" ")) {
      const choices = [{ index: 0, delta: { content: `${word} ` }, finish_reason: null }];
      response.write(`data: ${JSON.stringify({ ...about, object: "chat.completion.chunk", choices })}\n\n`);
    }
    const choices = [{ index: 0, delta: {}, finish_reason: finish }];
    response.end(`data: ${JSON.stringify({ ...about, object: "chat.completion.chunk", choices })}\n\ndata: [DONE]\n\n`);
    return;
  }
  const promptTokens = messages.reduce((sum, one) => sum + one.content.split(" ").length, 0);
  const completionTokens = Math.min(words.length, limit);
  const body = {
    ...about,
    object: "chat.completion",
    choices: [{ index: 0, message: { role: "assistant", content: text }, finish_reason: finish }],
    usage: {
      prompt_tokens: promptTokens,
      completion_tokens: completionTokens,
      total_tokens: promptTokens + completionTokens,
    },
  };
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = "";
  for await (const part of request.setEncoding("utf8")) {
    body += part;
    if (body.length > MAX_BODY) {
      throw new Error("the request is too large");
    }
  }
  return body;
}

function refuse(response: ServerResponse, status: number, message: string): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify({ error: { message, type: "invalid_request_error" } }));
}

function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}
