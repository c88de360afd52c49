"""Starting a program: the event loop that suits it best."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a program's main coroutine, like `asyncio.run`, on uvloop where that is installed.

    A program that talks to an engine spends much time in its event loop: on uvloop it needs about a quarter less.
    """
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
