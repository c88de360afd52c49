"""Long work in short steps, for callers that must not be stopped for long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

R = TypeVar("R")

STEP_S: Final = 0.001
_PAUSE_S: Final = 0.000_05


class Steps(Generic[R]):
    """Work that is done while somebody calls `step`. `result` grows meanwhile and is complete when `done`."""

    __slots__ = ("_work", "done", "result")

    def __init__(self, work: Iterator[None], result: R) -> None:
        self._work = work
        self.result = result
        self.done = False

    def step(self, seconds: float = STEP_S) -> bool:
        """Works for about that long; True: all is done. Raises what the work raises, and is done then."""
        deadline = time.perf_counter() + seconds
        try:
            for _ in self._work:
                if time.perf_counter() >= deadline:
                    return False
        except BaseException:
            self.done = True
            raise
        self.done = True
        return True

    def run(self) -> R:
        """Does it all in this thread, and lets others run in between."""
        while not self.step():
            time.sleep(_PAUSE_S)
        return self.result
