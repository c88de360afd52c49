"""What the measured agents say: a prompt, tools, questions. The same for agents in the machine and in processes of
their own, so it imports nothing but the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

_encode = json.JSONEncoder(separators=(",", ":")).encode

WINDOW = 20
"""Messages of its conversation that an agent sends along with each question, at most."""
TOOLS = 24

_SENTENCE = (
    "You work for a customer of the shop. Look up orders before you speak of them, name your sources, and say so when"
    " you do not know. Rule {number}: what was decided in case {case} holds for cases like it.\n"
)
_QUESTION = (
    "Step {number}. Look again at what you found last, check it against the orders of customer {customer}, and say what"
    " is to be done next, by whom, and what could go wrong with it. Keep it short."
)


def prompt_of(size: int) -> bytes:
    """A system prompt of exactly `size` bytes, in ASCII, the same every time."""
    sentences: list[str] = []
    length = number = 0
    while length < size:
        number += 1
        sentence = _SENTENCE.format(number=number, case=number * 7919 % 100_003)
        sentences.append(sentence)
        length += len(sentence)
    return "".join(sentences).encode()[:size]


def tool_set() -> list[dict[str, Any]]:
    """Definitions of tools, as models take them."""
    return [_tool(number) for number in range(TOOLS)]


def _tool(number: int) -> dict[str, Any]:
    properties = {
        name: {"type": "string", "description": f"The {name} that case {number} is about, as the shop writes it."}
        for name in ("customer", "order", "article", "since", "until")
    }
    parameters = {"type": "object", "properties": properties, "required": ["customer"]}
    description = f"Looks up what the shop knows of area {number}, newest first, and says where it found it."
    return {
        "type": "function",
        "function": {"name": f"look_up_{number}", "description": description, "parameters": parameters},
    }


def question_of(customer: int, number: int) -> bytes:
    """The message with which an agent goes on, as JSON."""
    return message("user", _QUESTION.format(number=number, customer=customer))


def message(role: str, content: object) -> bytes:
    """A message as JSON."""
    return _encode({"role": role, "content": content}).encode()


def system_message(prompt: str) -> bytes:
    """The first message: the prompt with this BLAKE3 address (hexadecimal), which the provider has."""
    return message("system", {"prompt": prompt})


def request_of(head: bytes, messages: Iterable[bytes]) -> bytes:
    """The body of a question to the model. head: of `system_message`."""
    return b'{"model":"local","messages":[' + b",".join((head, *messages)) + b"]}"


def reply_in(answer: Mapping[str, Any]) -> bytes:
    """The model's message in its answer, as JSON."""
    return message("assistant", answer["choices"][0]["message"]["content"])
