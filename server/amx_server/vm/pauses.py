"""How long the event loop keeps others waiting: a timer that wants to run every 2 ms, and how late it is."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

_BEAT_SECONDS = 0.002
_RESOLUTION = 10_000  # classes a second: 0.1 ms
_CLASSES = 20_000  # up to two seconds; what is longer counts as that


class Pauses:
    """An async context manager; counts while entered."""

    def __init__(self) -> None:
        self._late = [0] * _CLASSES
        self._beats = 0
        self.longest = 0.0
        """Seconds of the longest pause."""
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self._due = 0.0

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._next()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self.count(time.perf_counter() - self._due)
        self._next()

    def _next(self) -> None:
        self._due = time.perf_counter() + _BEAT_SECONDS
        self._timer = self._loop.call_later(_BEAT_SECONDS, self._beat)

    def count(self, late: float) -> None:
        """One beat that came so many seconds late."""
        self._late[min(_CLASSES - 1, max(0, int(late * _RESOLUTION)))] += 1
        self._beats += 1
        self.longest = max(self.longest, late)

    def quantile(self, share: float) -> float:
        """Seconds by which this share of the beats was late, at most."""
        left = self._beats * share
        for number, beats in enumerate(self._late):
            left -= beats
            if left <= 0 and self._beats:
                return (number + 1) / _RESOLUTION
        return 0.0
