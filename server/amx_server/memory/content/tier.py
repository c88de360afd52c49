"""One tier in memory: content by address within a budget, recency in two generations.

A hit in the young generation costs one dictionary lookup and no bookkeeping. When the young one holds half the budget
it becomes the old one; what is read there moves to the young one again, and what is not is what makes room, oldest
first. This approximates least recently used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, Generic, TypeVar

V = TypeVar("V")

_LOOK_AHEAD: Final = 1024  # a plain dictionary takes half of an ordered one, and long to find its first again and again


class Tier(Generic[V]):
    """Bounded by its owner: it says what should go (`victims`), and never drops anything by itself.

    `young` and `old` may be read without a lock; every method expects the store's lock to be held.
    """

    __slots__ = ("_oldest", "_plain", "_plain_bytes", "_size", "budget", "bytes", "old", "young", "young_bytes")

    def __init__(self, budget: int, size: Callable[[V], int], plain: Callable[[V], int] | None = None) -> None:
        """size: bytes that content takes here. plain: bytes that it has when it is plain; None: the same."""
        self.budget = budget
        self.bytes = 0
        self.young_bytes = 0
        self.young: dict[bytes, V] = {}
        self.old: dict[bytes, V] = {}
        self._oldest: deque[bytes] = deque()  # the first of `old`, and some that are not there any more
        self._size = size
        self._plain = plain
        self._plain_bytes = 0

    @property
    def plain_bytes(self) -> int:
        """Bytes that what is here has when it is plain."""
        return self.bytes if self._plain is None else self._plain_bytes

    def __len__(self) -> int:
        return len(self.young) + len(self.old)

    def __contains__(self, address: bytes) -> bool:
        return address in self.young or address in self.old

    def peek(self, address: bytes) -> V | None:
        """The content, without counting as a use. Needs no lock."""
        value = self.young.get(address)
        return self.old.get(address) if value is None else value

    def use(self, address: bytes) -> None:
        """Notes that an old one was read."""
        value = self.old.pop(address, None)
        if value is not None:
            self.young[address] = value
            self.young_bytes += self._size(value)

    def add(self, address: bytes, value: V) -> None:
        """Takes content in as just used."""
        self.discard(address)
        size = self._size(value)
        if self.young_bytes + size > self.budget // 2 and not self.old:
            self._rotate()
        self.young[address] = value
        self.young_bytes += size
        self.bytes += size
        if self._plain is not None:
            self._plain_bytes += self._plain(value)

    def discard(self, address: bytes) -> None:
        """Forgets content, if it is here."""
        value = self.young.pop(address, None)
        if value is not None:
            size = self._size(value)
            self.young_bytes -= size
            self.bytes -= size
        else:
            value = self.old.pop(address, None)
            if value is None:
                return
            self.bytes -= self._size(value)
        if self._plain is not None:
            self._plain_bytes -= self._plain(value)

    def victims(self, count: int) -> list[tuple[bytes, V]]:
        """Up to so many that were not used for longest and should make room; empty: so is the tier."""
        if not self.old:
            self._rotate()
        found = self._first(count)
        if len(found) < min(count, len(self.old)):
            self._oldest = deque(islice(self.old, _LOOK_AHEAD))
            found = self._first(count)
        return found

    def _first(self, count: int) -> list[tuple[bytes, V]]:
        oldest, old = self._oldest, self.old
        while oldest and oldest[0] not in old:
            oldest.popleft()
        return list(islice(((address, old[address]) for address in oldest if address in old), count))

    def _rotate(self) -> None:
        self.old, self.young = self.young, {}
        self._oldest.clear()
        self.young_bytes = 0
