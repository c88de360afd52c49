"""Lifetimes of memory entries: how they are written down, and which entries are over."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from amx_engine._errors import InvalidInput
from amx_engine._message import milliseconds

if TYPE_CHECKING:
    from amx_engine._changes import Entry

Lifetime: TypeAlias = timedelta | str
"""How long an entry lives from its writing on: a timedelta, or text such as `250ms`, `30s`, `10m`, `24h`, `7d`."""


def lifetime_ms(ttl: Lifetime, what: str = "ttl") -> int:
    """Whole milliseconds, at least 1. Raises InvalidInput naming `what` if `ttl` is no positive length of time."""
    millis = milliseconds(ttl, what)
    if not millis:
        raise InvalidInput(
            f"{what} is {ttl!r}; expected a positive length of time, or none at all for what the memory says",
            pointer=what,
        )
    return millis


class Expiry:
    """Entries of a memory by when they expire.

    due: entry -> the earliest time at which it has to be looked at; no later than its deadline. Rewriting an entry,
    which puts its deadline off, therefore costs nothing here. Room: at most in proportion to the entries in it.
    """

    __slots__ = ("_heap", "_numbers", "due")

    def __init__(self) -> None:
        self.due: dict[Entry, float] = {}
        self._heap: list[tuple[float, int, Entry]] = []  # those of `due`, and some that no longer count
        self._numbers = count()

    def expect(self, entry: Entry, deadline: float) -> None:
        """`entry` expires at `deadline` now."""
        known = self.due.get(entry)
        if known is not None and known <= deadline:
            return
        self.due[entry] = deadline
        heappush(self._heap, (deadline, next(self._numbers), entry))
        if len(self._heap) > 2 * len(self.due) + 64:
            self._rebuild()

    def expect_only(self, entries: Iterable[Entry]) -> None:
        """These entries expire at their deadlines, and no others."""
        self.due = {entry: entry.deadline for entry in entries if entry.deadline is not None}
        self._rebuild()

    def discard(self, entry: Entry) -> None:
        """`entry` is gone, or lives without end."""
        self.due.pop(entry, None)

    def take(self, now: float) -> list[Entry]:
        """Takes out the entries that are over at `now`, and returns them."""
        heap, due = self._heap, self.due
        over: list[Entry] = []
        while heap and heap[0][0] <= now:
            looked_at, _, entry = heappop(heap)
            if due.get(entry) != looked_at:
                continue
            del due[entry]
            deadline = entry.deadline
            if deadline is not None and deadline > now:
                self.expect(entry, deadline)
            else:
                over.append(entry)
        return over

    def _rebuild(self) -> None:
        self._heap = [(deadline, next(self._numbers), entry) for entry, deadline in self.due.items()]
        heapify(self._heap)
