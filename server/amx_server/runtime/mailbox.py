"""A queue with five priorities: `Mailbox`, what waits at one instance.

Strict priority, first in first out inside a priority, and no starvation: a priority that was passed over
`PATIENCE` times in a row is served once before the others. No bounds here; see quotas and definitions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)

LEVELS = 5  # amx.v1.Priority: 1 (critical) to 5 (background)
PATIENCE = 16


def _next_level(levels: Sequence[Collection[object]], passed: Sequence[int]) -> int:
    """Index of the level to serve: the one passed over most if that is often enough, else the most urgent."""
    first = -1
    longest = -1
    for index, level in enumerate(levels):
        if level:
            if first < 0:
                first = index
            if passed[index] >= PATIENCE and (longest < 0 or passed[index] > passed[longest]):
                longest = index
    return first if longest < 0 else longest


def _count_turn(levels: Sequence[Collection[object]], passed: list[int], served: int) -> None:
    """Remembers that `served` had a turn and every other waiting level did not."""
    for index, level in enumerate(levels):
        passed[index] = passed[index] + 1 if level and index != served else 0


class Mailbox(Generic[T]):
    """Items that wait, by priority. Holds nothing but itself while empty, and one deque while one priority is in use.

    A level that waits is served within PATIENCE + LEVELS pops, whatever else arrives.
    """

    __slots__ = ("_levels", "_only", "_passed", "_priority")

    def __init__(self) -> None:
        self._only: deque[T] | None = None  # the items, while all have the priority `_priority`
        self._priority = 0
        self._levels: list[deque[T]] | None = None  # the items, after a second priority came, until empty
        self._passed: list[int] | None = None

    def push(self, item: T, priority: int) -> None:
        """Appends `item`; `priority` is 1 (critical) to 5 (background)."""
        only = self._only
        if only is not None:
            if priority == self._priority:
                only.append(item)
                return
            levels = self._levels = [deque() for _ in range(LEVELS)]
            levels[self._priority - 1] = only
            self._passed = [0] * LEVELS
            self._only = None
            levels[priority - 1].append(item)
        elif self._levels is not None:
            self._levels[priority - 1].append(item)
        else:
            self._only = deque((item,))
            self._priority = priority

    def pop(self) -> T | None:
        """Removes and returns the next item; None if there is none."""
        only = self._only
        if only is not None:
            item = only.popleft()
            if not only:
                self._only = None
            return item
        levels, passed = self._levels, self._passed
        if levels is None or passed is None:
            return None
        served = _next_level(levels, passed)
        _count_turn(levels, passed, served)
        item = levels[served].popleft()
        self._release_if_empty()
        return item

    def peek_priority(self) -> int:
        """Priority of the item that `pop` would return; 0 if there is none."""
        if self._only is not None:
            return self._priority
        if self._levels is None or self._passed is None:
            return 0
        return _next_level(self._levels, self._passed) + 1

    def remove(self, item: T) -> bool:
        """Takes `item` out, in time proportional to what waits. Returns whether it was there."""
        for level in self._in_use():
            try:
                level.remove(item)
            except ValueError:
                continue
            self._release_if_empty()
            return True
        return False

    def __len__(self) -> int:
        if self._only is not None:
            return len(self._only)
        return sum(map(len, self._levels)) if self._levels is not None else 0

    def __bool__(self) -> bool:
        return self._only is not None or self._levels is not None

    def __iter__(self) -> Iterator[T]:
        """Items from the most urgent priority to the least, in order of arrival inside each."""
        for level in self._in_use():
            yield from level

    def _in_use(self) -> Sequence[deque[T]]:
        if self._only is not None:
            return (self._only,)
        return self._levels or ()

    def _release_if_empty(self) -> None:
        # Levels stay until all are empty: going back to one deque earlier would forget who was passed over.
        if not any(self._in_use()):
            self._only = self._levels = self._passed = None
