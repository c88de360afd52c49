"""When things are due: a coarse timer wheel over the monotonic clock. What then happens is not here."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T", bound=Hashable)

TICKS_PER_SECOND = 100  # items fall due up to 10 ms late, never early
_SWEEP_AT = 64  # buckets

Bucket: TypeAlias = dict[T, None]


class Deadlines(Generic[T]):
    """Items with the moment each is due. Adding and discarding take constant time; a discarded item is not retained.

    Items due in one tick share a bucket; the bucket is the token that `add` returns and `discard` takes, so the
    caller stores one pointer per item. Times are Clock.monotonic() seconds.
    """

    __slots__ = ("_buckets", "_sweep_at", "_ticks")

    def __init__(self) -> None:
        self._buckets: dict[int, Bucket[T]] = {}
        self._ticks: list[int] = []  # a heap with the tick of every bucket
        self._sweep_at = _SWEEP_AT

    def add(self, item: T, at_seconds: float) -> Bucket[T]:
        """Makes `item` due at `at_seconds`, which may have passed. Returns the token for `discard`.

        An item added twice for one tick is there once.
        """
        tick = int(at_seconds * TICKS_PER_SECOND) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._open(tick)
        bucket[item] = None
        return bucket

    def discard(self, item: T, token: Bucket[T]) -> None:
        """Forgets `item`. Does nothing if it fell due or was discarded before."""
        token.pop(item, None)

    def expired(self, now: float) -> list[T]:
        """Takes out and returns what is due: in order of ticks, inside a tick in order of `add`."""
        ticks = self._ticks
        last = int(now * TICKS_PER_SECOND)
        due: list[T] = []
        while ticks and ticks[0] <= last:
            bucket = self._buckets.pop(heappop(ticks))
            due.extend(bucket)
            bucket.clear()  # callers may hold it as a token for long
        return due

    def next_at(self) -> float | None:
        """Earliest moment at which `expired` returns something; None if nothing is waiting."""
        ticks = self._ticks
        while ticks:
            if self._buckets[ticks[0]]:
                return ticks[0] / TICKS_PER_SECOND
            del self._buckets[heappop(ticks)]
        return None

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def _open(self, tick: int) -> Bucket[T]:
        buckets = self._buckets
        if len(buckets) >= self._sweep_at:
            # Most deadlines are discarded long before they are due; without this their empty buckets would pile up.
            buckets = self._buckets = {t: b for t, b in buckets.items() if b}
            self._ticks = list(buckets)
            heapify(self._ticks)
            self._sweep_at = max(_SWEEP_AT, 2 * len(buckets))
        bucket = buckets[tick] = {}
        heappush(self._ticks, tick)
        return bucket
