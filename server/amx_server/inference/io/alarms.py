"""Callbacks at moments of the engine's clock, precise to about a millisecond and cheap to take back.

One timer of the event loop serves them all. With a manual clock nothing fires by itself: call `fire`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from types import TracebackType

from amx_server.core.clock import Clock
from amx_server.telemetry.logs import get_logger

log = get_logger(__name__)

_SHORTEST_SECONDS = 0.001  # event loops count whole milliseconds; asking for less would spin


class Alarm:
    """One callback that is due at `due` (monotonic seconds). Made by `Alarms.at`."""

    __slots__ = ("_alarms", "callback", "due")

    def __init__(self, alarms: Alarms, due: float, callback: Callable[[], None]) -> None:
        self._alarms = alarms
        self.due = due
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """It will not be called. Does nothing if it was."""
        if self.callback is not None:
            self.callback = None
            self._alarms.cancelled()


class Alarms:
    """A heap of callbacks by monotonic second."""

    __slots__ = ("_armed_for", "_cancelled", "_clock", "_closed", "_heap", "_order", "_ticking", "_timer")

    def __init__(self, clock: Clock, *, ticking: bool = True) -> None:
        self._clock = clock
        self._ticking = ticking
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = count()
        self._cancelled = 0
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0
        self._closed = False

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def at(self, due: float, callback: Callable[[], None]) -> Alarm:
        """Calls `callback` once the clock shows `due` or more, in order of `due`, never before this call returned."""
        alarm = Alarm(self, due, callback)
        heappush(self._heap, (due, next(self._order), alarm))
        if self._ticking and (self._timer is None or due < self._armed_for) and not self._closed:
            self._arm(due)
        return alarm

    def cancelled(self) -> None:
        """An alarm was taken back; clears away such alarms when they are the larger part."""
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapify(self._heap)
            self._cancelled = 0

    def fire(self) -> int:
        """Calls everything that is due. Returns how many there were; one that raises is logged and counts."""
        now = self._clock.monotonic()
        fired = 0
        while self._heap and self._heap[0][0] <= now:
            alarm = heappop(self._heap)[2]
            callback, alarm.callback = alarm.callback, None
            if callback is None:
                self._cancelled -= 1
                continue
            fired += 1
            try:
                callback()
            except Exception:
                log.exception("alarm_failed")
        return fired

    async def sleep(self, seconds: float) -> None:
        """Returns when that much time has passed by the clock."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        alarm = self.at(self._clock.monotonic() + seconds, partial(_finish, future))
        try:
            await future
        finally:
            alarm.cancel()

    def timeout(self, seconds: float) -> Timeout:
        """`async with alarms.timeout(2): …` raises TimeoutError when what it holds takes longer, by the clock."""
        return Timeout(self, self._clock.monotonic() + seconds)

    def close(self) -> None:
        """Nothing fires any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._heap.clear()
        self._cancelled = 0

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(_SHORTEST_SECONDS, due - self._clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)
        self._armed_for = due

    def _on_timer(self) -> None:
        self._timer = None
        self.fire()
        if self._heap and not self._closed and self._timer is None:
            self._arm(self._heap[0][0])


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Timeout:
    """asyncio.timeout, on the engine's clock."""

    __slots__ = ("_alarm", "_alarms", "_due", "_task", "expired")

    def __init__(self, alarms: Alarms, due: float) -> None:
        self._alarms = alarms
        self._due = due
        self._alarm: Alarm | None = None
        self._task: asyncio.Task[object] | None = None
        self.expired = False

    async def __aenter__(self) -> Timeout:
        self._task = asyncio.current_task()
        self._alarm = self._alarms.at(self._due, self._expire)
        return self

    def _expire(self) -> None:
        self.expired = True
        if self._task is not None:
            self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if not self.expired or self._task is None:
            return
        # Somebody else may have cancelled as well; then the cancellation stands.
        if self._task.uncancel() == 0 and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error
