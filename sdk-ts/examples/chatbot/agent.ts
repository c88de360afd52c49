// A chatbot that remembers its conversations and asks a language model for its answers.

import { Agent, handler, memory } from "@aimatrix/amx-engine-ts";
import OpenAI from "openai";

export interface UserMessage {
  userId: string;
  text: string;
}

export interface BotResponse {
  text: string;
  suggestions: string[];
  requiresHumanEscalation: boolean;
}

interface Turn {
  role: "user" | "assistant";
  content: string;
  timestamp: Date;
}

interface UserPreferences {
  language: string;
  timezone: string;
  communicationStyle: string;
}

interface ConversationContext {
  userId: string;
  messages: Turn[];
  preferences: UserPreferences;
  sessionStarted: Date;
}

// What brings dates back as dates: without a schema they come back as text.
const DATE = { type: "string", format: "date-time" } as const;
const CONVERSATION = {
  type: "object",
  properties: {
    messages: { type: "array", items: { type: "object", properties: { timestamp: DATE } } },
    sessionStarted: DATE,
  },
} as const;

const PERSONA = "You answer customers of a small shop, in at most two friendly sentences.";
const SURE_ENOUGH = 0.7;

@Agent({ name: "ChatbotAgent", version: "3.0.0" })
export class ChatbotAgent {
  @memory({ persistent: true, ttl: "24h", schema: CONVERSATION })
  private conversationHistory: Map<string, ConversationContext> = new Map();

  @handler
  async handleUserMessage({ userId, text }: UserMessage): Promise<BotResponse> {
    const conversation = this.conversationHistory.get(userId) ?? {
      userId,
      messages: [],
      preferences: this.getUserPreferences(),
      sessionStarted: new Date(),
    };
    conversation.messages.push({ role: "user", content: text, timestamp: new Date() });
    try {
      const answer = await this.generateResponse(conversation);
      conversation.messages.push({ role: "assistant", content: answer.text, timestamp: new Date() });
      this.conversationHistory.set(userId, conversation);
      return {
        text: answer.text,
        suggestions: this.generateSuggestions(),
        requiresHumanEscalation: answer.confidence < SURE_ENOUGH,
      };
    } catch (error) {
      console.error("the model does not answer:", error);
      return {
        text: "Something is wrong on our side. Shall a colleague call you?",
        suggestions: ["Yes, please", "I shall try again"],
        requiresHumanEscalation: true,
      };
    }
  }

  private async generateResponse(conversation: ConversationContext): Promise<{ text: string; confidence: number }> {
    // OPENAI_API_KEY and OPENAI_BASE_URL say where the model is: the stand-in, in this example.
    const model = new OpenAI();
    const completion = await model.chat.completions.create({
      model: process.env["OPENAI_MODEL"] ?? "gpt-4",
      messages: [
        { role: "system", content: PERSONA },
        ...conversation.messages.map(({ role, content }) => ({ role, content })),
      ],
      max_tokens: 150,
      temperature: 0.7,
    });
    const choice = completion.choices[0];
    return { text: choice?.message.content ?? "", confidence: choice?.finish_reason === "stop" ? 0.85 : 0.5 };
  }

  private generateSuggestions(): string[] {
    return ["Where is my order?", "What does shipping cost?", "Talk to a person"];
  }

  private getUserPreferences(): UserPreferences {
    return { language: "en", timezone: "UTC", communicationStyle: "friendly" };
  }
}
