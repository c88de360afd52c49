"""The agent that the machine runs a thousand of: a plain annotated class. It talks to a model, step by step, and
remembers the conversation.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TypedDict

from amx_engine import Agent, Context, handler, memory
from amx_engine._services import Content
from amx_server.vm.conversation import WINDOW, question_of, reply_in, request_of, system_message

NAME = "Assistant"


class Step(TypedDict):
    """number: of the step, from 1. last: number of the last one; 0: none is. until: second since the Unix epoch after
    which no further step follows.
    """

    number: int
    last: int
    until: float


@Agent(name=NAME, version="1.0.0", description="Talks to a model, step by step, and remembers the conversation.")
class Assistant:
    """Its prompt, its tools and its conversation are content: memory holds their addresses."""

    @memory(persistent=True)
    def prompt(self) -> str:
        """Address of the system prompt."""
        return ""

    @memory(persistent=True)
    def tools(self) -> str:
        """Address of the tool definitions."""
        return ""

    @memory(persistent=True)
    def conversation(self) -> str:
        """Address of what was said so far."""
        return ""

    @handler()
    async def step(self, step: Step, context: Context) -> None:
        """Asks the model once, remembers question and answer, and sends itself the next step."""
        content, model = context.content, context.io.provider("model")
        conversation = content.append(self.conversation, question_of(int(context.key), step["number"]))
        body = partial(_request, content, self.prompt, conversation)  # made when it is sent, not held while it waits
        answer = await context.io.call(model.post("/chat/completions", body))
        self.conversation = content.append(conversation, reply_in(answer.json()))
        if step["number"] != step["last"] and time.time() < step["until"]:
            context.send(context.address, {**step, "number": step["number"] + 1}, durable=False)


def _request(content: Content, prompt: str, conversation: str) -> bytes:
    return request_of(system_message(prompt.removeprefix("content:")), content.messages(conversation, WINDOW))
