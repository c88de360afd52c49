"""When waiting things expire: one coarse timer for all of them. What expiry means is the waiter's business."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Protocol, TypeAlias

TICKS_PER_SECOND = 50  # things expire up to 20 ms late, never early
_SWEEP_AT = 64  # buckets


class Expiring(Protocol):
    """Something that waits with a deadline."""

    def expire(self) -> None:
        """Its time has come. Must not raise."""


Bucket: TypeAlias = dict[Expiring, None]


class TimerHandle(Protocol):
    """A callback that was scheduled."""

    def cancel(self) -> None: ...


class Deadlines:
    """Waiters and their deadlines. Adding and discarding take constant time, and keep nothing of what is discarded.

    All waiters of one tick share a bucket and all buckets share one timer. `call_at(when, callback)` and `clock()` are
    the event loop's, in seconds.
    """

    __slots__ = ("_buckets", "_call_at", "_clock", "_sweep_at", "_ticks", "_timer", "_timer_tick")

    def __init__(self, clock: Callable[[], float], call_at: Callable[[float, Callable[[], None]], TimerHandle]) -> None:
        self._clock = clock
        self._call_at = call_at
        self._buckets: dict[int, Bucket] = {}
        self._ticks: list[int] = []  # a heap with the tick of every bucket
        self._sweep_at = _SWEEP_AT
        self._timer: TimerHandle | None = None
        self._timer_tick = 0

    def add(self, waiter: Expiring, seconds: float) -> Bucket:
        """`waiter.expire()` is called in `seconds`, unless it is removed from the bucket that this returns."""
        tick = int((self._clock() + seconds) * TICKS_PER_SECOND) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._open(tick)
        bucket[waiter] = None
        return bucket

    def close(self) -> None:
        """Forgets every waiter; nothing expires any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._buckets.clear()
        self._ticks.clear()

    def _open(self, tick: int) -> Bucket:
        if len(self._buckets) >= self._sweep_at:
            # Most waiters are done long before their time; without this their empty buckets would pile up.
            self._buckets = {tick: bucket for tick, bucket in self._buckets.items() if bucket}
            self._ticks = list(self._buckets)
            heapify(self._ticks)
            self._sweep_at = max(_SWEEP_AT, 2 * len(self._buckets))
        bucket: Bucket = {}
        self._buckets[tick] = bucket
        heappush(self._ticks, tick)
        if self._timer is None or tick < self._timer_tick:
            self._schedule()
        return bucket

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_tick = self._ticks[0]
        self._timer = self._call_at(self._timer_tick / TICKS_PER_SECOND, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = int(self._clock() * TICKS_PER_SECOND)
        due: list[Bucket] = []
        while self._ticks and self._ticks[0] <= now:
            due.append(self._buckets.pop(heappop(self._ticks)))
        while self._ticks and not self._buckets[self._ticks[0]]:
            del self._buckets[heappop(self._ticks)]
        if self._ticks:
            self._schedule()
        for bucket in due:
            while bucket:  # an expiry may remove others
                waiter = next(iter(bucket))
                del bucket[waiter]
                waiter.expire()
