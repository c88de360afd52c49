"""The same agent as a process of its own, as agents run without a machine: `python -c "…main()" OPTIONS`. Imports the
standard library only, or the `openai` package if it is told to.

It says `ready` when it has prompt and tools, waits for a line with the second until which it works, works, says in JSON
what that took, and ends when its input does.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from http.client import HTTPConnection
from typing import Any

from amx_server.vm.conversation import WINDOW, question_of, reply_in, request_of, system_message

# Before, during and after the work: seconds that an answer may take.
_PATIENCE = 60


class Http:
    """The model, asked with the standard library's client over one connection."""

    def __init__(self, host: str, port: int, head: bytes) -> None:
        self._connection = HTTPConnection(host, port, timeout=_PATIENCE)
        self._head = head

    def ask(self, messages: list[bytes]) -> bytes:
        """The model's message."""
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/v1/chat/completions", request_of(self._head, messages), headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the model answered {answer.status}: {body[:200]!r}")
        return reply_in(json.loads(body))


class OpenAI:
    """The model, asked with the `openai` package."""

    def __init__(self, host: str, port: int, head: bytes) -> None:
        openai = importlib.import_module("openai")  # of the interpreter that runs the baseline; no dependency of ours
        self._client: Any = openai.OpenAI(base_url=f"http://{host}:{port}/v1", api_key="none", timeout=_PATIENCE)
        self._head = json.loads(head)

    def ask(self, messages: list[bytes]) -> bytes:
        """The model's message."""
        asked = [self._head, *(json.loads(message) for message in messages)]
        answer = self._client.chat.completions.create(model="local", messages=asked)
        return reply_in({"choices": [{"message": {"content": answer.choices[0].message.content}}]})


def main() -> None:
    """The process."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    with open(options["prompt_file"], encoding="ascii") as file:
        prompt = file.read()
    with open(options["tools_file"], encoding="ascii") as file:
        tools = json.load(file)
    client = OpenAI if options["openai"] else Http
    model = client(options["host"], options["port"], system_message(options["prompt"]))
    conversation: list[bytes] = []
    print("ready", flush=True)
    until = float(sys.stdin.readline() or 0)
    number = 0
    while time.time() < until and (not number or number != options["steps"]):
        number += 1
        conversation.append(question_of(options["number"], number))
        conversation.append(model.ask(conversation[-WINDOW:]))
    done = {"steps": number, "cpu": time.process_time(), "holds": len(prompt) + len(tools)}
    print(json.dumps(done), flush=True)
    sys.stdin.read()
