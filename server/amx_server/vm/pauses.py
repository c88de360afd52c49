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
        self._next(time.perf_counter())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.count(now - self._due)
        self._next(now)

    def _next(self, now: float) -> None:
        self._due = now + _BEAT_SECONDS
        self._timer = self._loop.call_later(_BEAT_SECONDS, self._beat)

    def count(self, late: float) -> None:
        """One beat that came so many seconds late."""
        slot = int(late * _RESOLUTION) if late > 0.0 else 0
        self._late[slot if slot < _CLASSES else -1] += 1
        self._beats += 1
        if late > self.longest:
            self.longest = late

    def quantile(self, share: float) -> float:
        """Seconds by which this share of the beats was late, at most."""
        left = self._beats * share
        for number, beats in enumerate(self._late):
            left -= beats
            if left <= 0 and self._beats:
                return (number + 1) / _RESOLUTION
        return 0.0
