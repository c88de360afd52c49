"""What waits for one provider, in the order in which it is served. No bounds and no clocks here.

Strict priority without starvation, and turns among the namespaces of one priority: a tenant with a thousand
operations waits for one operation of another, not the other way round.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

LEVELS = 5
PATIENCE = 16  # times that a priority is passed over before it is served once


class Waiting(Protocol):
    """What can wait. priority: 1 (critical) to 5 (background). gone: True when it is not to be served any more."""

    @property
    def priority(self) -> int: ...
    @property
    def namespace(self) -> str: ...
    @property
    def gone(self) -> bool: ...


T = TypeVar("T", bound=Waiting)


class FairQueue(Generic[T]):
    """Five priorities; in each, one queue for each namespace, served in turn.

    Entries that are `gone` are passed over when their turn comes. An entry whose priority rises is pushed again; only
    its first turn counts, if it is `gone` after that.
    """

    __slots__ = ("_levels", "_passed")

    def __init__(self) -> None:
        self._levels: tuple[OrderedDict[str, deque[T]], ...] = tuple(OrderedDict() for _ in range(LEVELS))
        self._passed = [0] * LEVELS

    def push(self, entry: T, *, first: bool = False) -> None:
        """Adds `entry`; first: ahead of its namespace's others, as what was served and must come back."""
        level = self._levels[entry.priority - 1]
        queue = level.get(entry.namespace)
        if queue is None:
            queue = level[entry.namespace] = deque()
            if first:
                level.move_to_end(entry.namespace, last=False)
        if first:
            queue.appendleft(entry)
        else:
            queue.append(entry)

    def pop(self, least: int = LEVELS) -> T | None:
        """Takes out who is next of priority `least` and above; None: nobody of those waits."""
        while True:
            index = self._next_level(least)
            if index is None:
                return None
            level = self._levels[index]
            namespace, queue = next(iter(level.items()))
            entry = None
            while queue:
                entry = queue.popleft()
                if not entry.gone:
                    break
                entry = None
            if queue:
                level.move_to_end(namespace)
            else:
                del level[namespace]
            if entry is not None:
                for other, entries in enumerate(self._levels):
                    self._passed[other] = self._passed[other] + 1 if entries and other != index else 0
                return entry

    def __iter__(self) -> Iterator[T]:
        """Everybody who waits, in no particular order."""
        for level in self._levels:
            for queue in level.values():
                yield from (entry for entry in queue if not entry.gone)

    def _next_level(self, least: int) -> int | None:
        first = None
        for index, level in enumerate(self._levels[:least]):
            if level:
                if self._passed[index] >= PATIENCE:
                    return index
                if first is None:
                    first = index
        return first
