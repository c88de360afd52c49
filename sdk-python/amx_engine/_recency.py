"""Which entries of a bounded memory were used last. The engine learns it with each commit, and agrees."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amx_engine._changes import Entry


class Recency:
    """Entries in order of use.

    used: those read or written since the last commit, in the order of their last use. What was read by a handler that
    failed stays used.
    """

    __slots__ = ("_order", "used")

    def __init__(self) -> None:
        # As of the last commit. Removed entries keep their place until the next one, for the case that they come back.
        self._order: dict[Entry, None] = {}
        self.used: dict[Entry, None] = {}

    def load(self, entries: Iterable[Entry]) -> None:
        """Begins with these entries, least recently used first."""
        self._order = dict.fromkeys(entries)
        self.used = {}

    def use(self, entry: Entry) -> None:
        """`entry` was read or written."""
        self.used.pop(entry, None)
        self.used[entry] = None

    def oldest(self, count: int) -> list[Entry]:
        """The least recently used entries, at most `count`."""
        self._settle()
        return list(islice((entry for entry in self._order if not entry.dead), max(0, count)))

    def steps(self, encoded: Iterable[tuple[Entry, bytes]]) -> list[tuple[Entry, bytes | None]]:
        """Entries to be written, with their data, and entries only read, in order of use: as the engine is told."""
        writes = dict(encoded)
        for entry in writes:
            self.used.setdefault(entry, None)  # changed without telling
        self._settle()
        return [(entry, writes.get(entry)) for entry in self.used if not entry.dead]

    def commit(self, gone: Iterable[Entry]) -> None:
        """The engine has been told; `gone` were removed."""
        for entry in gone:
            self._order.pop(entry, None)
        self.used = {}

    def undo(self, alive: set[Entry]) -> None:
        """Changes since the last commit are undone; `alive` are left."""
        self._order = {entry: None for entry in self._order if entry in alive}
        self.used = {entry: None for entry in self.used if entry in alive}

    def forget(self, entry: Entry) -> None:
        """`entry` expired."""
        self._order.pop(entry, None)
        self.used.pop(entry, None)

    def _settle(self) -> None:
        for entry in self.used:
            self._order.pop(entry, None)
            self._order[entry] = None
