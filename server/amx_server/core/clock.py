"""Time as the engine sees it. Nothing else in the engine reads the operating system's clocks."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one that people read, which may jump, and one that only goes forward."""

    def now_ms(self) -> int:
        """Wall clock: milliseconds since the Unix epoch, UTC. May jump in either direction."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment. Never goes back; not affected by wall clock jumps."""
        ...


class SystemClock:
    """The operating system's clocks."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    monotonic = staticmethod(time.monotonic)  # asked several times a message: no frame of its own


class ManualClock:
    """A clock that stands still until told to move. For tests."""

    __slots__ = ("_monotonic", "_wall_ms", "listeners")

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self._wall_ms = float(start_ms)
        self._monotonic = 1_000.0
        self.listeners: list[object] = []

    def now_ms(self) -> int:
        return int(self._wall_ms)

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Moves both clocks forward. Raises ValueError for negative times: use `jump` for those."""
        if seconds < 0:
            raise ValueError("advance() moves forward only; jump() moves the wall clock alone")
        self._monotonic += seconds
        self._wall_ms += seconds * 1000

    def jump(self, seconds: float) -> None:
        """Moves the wall clock alone, in either direction, as an administrator or NTP would."""
        self._wall_ms += seconds * 1000
