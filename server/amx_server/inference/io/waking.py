"""Wakes many waiters without stopping the event loop: a few in each of its rounds."""

from __future__ import annotations

import asyncio
from collections import deque

_A_ROUND = 64  # waiters; each then runs for some microseconds, together well under a millisecond


class Waker:
    """Sets futures, at most `_A_ROUND` in one round of the event loop, first come first served."""

    __slots__ = ("_left", "_loop", "_queue", "_scheduled")

    def __init__(self) -> None:
        self._queue: deque[asyncio.Future[None]] = deque()
        self._left = _A_ROUND
        self._scheduled = False
        self._loop = asyncio.get_running_loop()

    def wake(self, future: asyncio.Future[None]) -> None:
        """Sets `future` now or in one of the next rounds, unless it is done by then."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._next_round)
        if self._left and not self._queue:
            self._left -= 1
            if not future.done():
                future.set_result(None)
        else:
            self._queue.append(future)

    def _next_round(self) -> None:
        queue = self._queue
        left = _A_ROUND
        while queue and left:
            future = queue.popleft()
            if not future.done():
                future.set_result(None)
                left -= 1
        self._left = left
        self._scheduled = left < _A_ROUND or bool(queue)
        if self._scheduled:
            self._loop.call_soon(self._next_round)
