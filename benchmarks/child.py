"""The child's end of a benchmark process: takes commands on standard input, answers on standard output.

One JSON object a line in both directions. Standard library only; the parent's end is in processes.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

Operation = Callable[..., Awaitable[Any]]


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs `main` as `amx_engine.run` does: on uvloop where it is installed, which it is not for the peers."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())


async def obey(operations: Mapping[str, Operation]) -> None:
    """Says that it is ready, then runs the operations asked for, several at a time, until standard input ends.

    A command is {"id", "operation", "arguments"}; its answer {"id", "result"} or {"id", "error"}. Anything that the
    process prints otherwise goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    running: set[asyncio.Task[None]] = set()

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    async def perform(command: dict[str, Any]) -> None:
        try:
            result = await operations[command["operation"]](**command["arguments"])
        except Exception as error:
            traceback.print_exc()
            say({"id": command["id"], "error": f"{type(error).__name__}: {error}"})
        else:
            say({"id": command["id"], "result": result})

    say({"id": 0, "result": "ready"})
    while line := await commands.readline():
        task = asyncio.create_task(perform(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)
    for task in running:
        task.cancel()
