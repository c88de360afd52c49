"""Callbacks at a time of the engine's clock. Few and long-lived; per-message deadlines live in `deadlines`."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Timers:
    """A heap of callbacks by monotonic second."""

    __slots__ = ("_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, due: float, callback: Callable[[], None]) -> None:
        """Runs `callback` once the clock shows `due` or more. It cannot be taken back: let it check for itself."""
        heapq.heappush(self._heap, (due, next(self._order), callback))

    def expired(self, now: float) -> list[Callable[[], None]]:
        """Takes out what is due, in order."""
        heap = self._heap
        due: list[Callable[[], None]] = []
        while heap and heap[0][0] <= now:
            due.append(heapq.heappop(heap)[2])
        return due

    def __len__(self) -> int:
        return len(self._heap)
