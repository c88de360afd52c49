"""Answers kept by the content address of their question, for a time, within a number of bytes. No failures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amx_server.inference.io.operations import Response

ENTRY_BYTES = 400  # what an entry costs beside its content: dictionary, objects, key


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """One answer and the parts it came in, if it came in parts."""

    response: Response[Any]
    parts: Sequence[Any]
    ends: Sequence[int]
    size: int
    expires_at: float


class ResponseCache:
    """Least recently used goes first. Times are monotonic seconds.

    An answer whose time is over is never given again; its memory is freed when it is asked for or when its turn comes.
    """

    __slots__ = ("_entries", "_max_bytes", "_max_entries", "bytes", "evictions", "expirations", "hits", "misses")

    def __init__(self, max_bytes: int, max_entries: int) -> None:
        self._entries: OrderedDict[tuple[str, bytes], CachedAnswer] = OrderedDict()
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        self.expirations = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, provider: str, key: bytes, now: float) -> CachedAnswer | None:
        """The answer, if there is one that may be given at `now`."""
        name = (provider, key)
        entry = self._entries.get(name)
        if entry is None:
            self.misses += 1
            return None
        if entry.expires_at <= now:
            self._remove(name)
            self.expirations += 1
            self.misses += 1
            return None
        self._entries.move_to_end(name)
        self.hits += 1
        return entry

    def put(
        self,
        provider: str,
        key: bytes,
        response: Response[Any],
        parts: Sequence[Any],
        ends: Sequence[int],
        expires_at: float,
    ) -> bool:
        """Keeps an answer; False: it is larger than a quarter of the whole, which would push out too much else.

        parts: as they came; ends: bytes up to the end of each.
        """
        size = response.size + (ends[-1] if ends else 0) + len(key) + ENTRY_BYTES
        if size * 4 > self._max_bytes or not self._max_entries:
            return False
        name = (provider, key)
        if name in self._entries:
            self._remove(name)
        while self._entries and (self.bytes + size > self._max_bytes or len(self._entries) >= self._max_entries):
            self._remove(next(iter(self._entries)))
            self.evictions += 1
        self._entries[name] = CachedAnswer(response, parts, ends, size, expires_at)
        self.bytes += size
        return True

    def forget(self, provider: str, key: bytes | None = None) -> int:
        """Drops one answer, or all of a provider. Returns how many there were."""
        names = [name for name in self._entries if name[0] == provider and (key is None or name[1] == key)]
        if key is not None:
            names = names[:1]
        for name in names:
            self._remove(name)
        return len(names)

    def clear(self) -> None:
        """Drops everything."""
        self._entries.clear()
        self.bytes = 0

    def _remove(self, name: tuple[str, bytes]) -> None:
        self.bytes -= self._entries.pop(name).size
