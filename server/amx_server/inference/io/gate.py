"""Admission to one provider: concurrency, requests a second, tokens a second, pauses it asked for, and who is next."""

from __future__ import annotations

import asyncio

from amx_server.core.clock import Clock
from amx_server.core.errors import AmxError
from amx_server.inference.io import errors
from amx_server.inference.io.alarms import Alarm, Alarms
from amx_server.inference.io.concurrency import ConcurrencyLimit, ConcurrencyPolicy
from amx_server.inference.io.queueing import LEVELS, FairQueue
from amx_server.inference.io.rates import RateBucket


class Admission:
    """One request for leave to start, and its state. Made by its owner, served by the gate."""

    __slots__ = ("admitted_at", "future", "gone", "namespace", "priority", "tokens")

    def __init__(self, priority: int, namespace: str, tokens: int) -> None:
        self.priority = priority
        self.namespace = namespace
        self.tokens = tokens
        self.future: asyncio.Future[None] | None = None
        self.gone = False  # not waiting: admitted, or given up
        self.admitted_at = 0.0


class Gate:
    """Lets requests through one at a time, in fair order, as far as every limit allows.

    What is let through must be given back by `release`, once. Bounded: `max_queued` may wait.
    """

    __slots__ = (
        "_alarm",
        "_alarms",
        "_background_share",
        "_clock",
        "_head",
        "_longest_pause",
        "_max_queued",
        "_queue",
        "_requests",
        "_tokens",
        "in_flight",
        "limit",
        "paused_until",
        "provider",
        "queued",
    )

    def __init__(
        self,
        provider: str,
        concurrency: ConcurrencyPolicy,
        requests: RateBucket,
        tokens: RateBucket,
        max_queued: int,
        longest_pause: float,
        clock: Clock,
        alarms: Alarms,
    ) -> None:
        self.provider = provider
        self.limit = ConcurrencyLimit(concurrency)
        self._requests = requests
        self._tokens = tokens
        self._max_queued = max_queued
        self._longest_pause = longest_pause
        self._clock = clock
        self._alarms = alarms
        self._background_share = 1.0
        self._queue: FairQueue[Admission] = FairQueue()
        self._head: Admission | None = None  # next to be served, when something holds it up
        self._alarm: Alarm | None = None
        self.in_flight = 0
        self.queued = 0
        self.paused_until = float("-inf")

    def require_room(self) -> None:
        """Raises AmxError PROVIDER_QUEUE_FULL when as many wait as may."""
        if self.queued >= self._max_queued:
            raise errors.queue_full(self.provider, self.queued, max(1.0, self.paused_until - self._clock.monotonic()))

    async def enter(self, admission: Admission, *, again: bool = False) -> None:
        """Returns when the request may start. again: it was here before and goes ahead of its like.

        Cancelled: it does not wait any more, and nothing was taken from any limit.
        """
        now = self._clock.monotonic()
        admission.gone = False
        if not self.queued and self._delay(admission, now) == 0.0:
            self._take(admission, now)
            return
        future = admission.future = asyncio.get_running_loop().create_future()
        self.queued += 1
        self._queue.push(admission, first=again)
        self._serve()
        try:
            await future
        except asyncio.CancelledError:
            if admission.gone:  # let through and cancelled at the same moment
                self._give_back(admission)
            else:
                admission.gone = True
                self.queued -= 1
            self._serve()
            raise
        finally:
            admission.future = None

    def promote(self, admission: Admission, priority: int) -> None:
        """Somebody more urgent waits for the same."""
        if priority < admission.priority:
            admission.priority = priority
            if admission.future is not None and not admission.gone and admission is not self._head:
                self._queue.push(admission)

    def throttle(self, background_share: float) -> None:
        """From now on background operations begin only while less than this part of the limit is in use, though one at
        a time in any case. 1: whenever there is room.
        """
        self._background_share = background_share
        self._serve()

    def release(
        self,
        admission: Admission,
        *,
        error: AmxError | None = None,
        latency: float = 0.0,
        tokens: int | None = None,
        informative: bool = True,
    ) -> None:
        """The request ended. error: as what; latency: seconds to its first sign of success; tokens: what it cost.

        informative: False: it was cut short, which says nothing about the provider.
        """
        now = self._clock.monotonic()
        in_flight = self.in_flight
        self.in_flight -= 1
        if error is not None and error.reason in errors.THROTTLED:
            self.limit.overloaded(now, admission.admitted_at)
            if error.retry_delay_ms:
                pause = min(error.retry_delay_ms / 1000, self._longest_pause)
                self.paused_until = max(self.paused_until, now + pause)
        elif error is not None and error.reason == errors.TIMED_OUT:
            self.limit.overloaded(now, admission.admitted_at)
        elif error is None and informative:
            self.limit.succeeded(now, admission.admitted_at, latency, in_flight)
        if tokens is not None:
            self._tokens.take(now, tokens - admission.tokens)
        elif error is not None and error.reason in errors.NOT_STARTED:
            self._tokens.take(now, -admission.tokens)
        self._serve()

    def close(self) -> None:
        """Takes back the alarm. What waits must be cancelled by its owner."""
        if self._alarm is not None:
            self._alarm.cancel()

    def tokens_left(self) -> float:
        """What may be spent at once."""
        return self._tokens.level(self._clock.monotonic())

    def _give_back(self, admission: Admission) -> None:
        now = self._clock.monotonic()
        self.in_flight -= 1
        self._requests.take(now, -1)
        self._tokens.take(now, -admission.tokens)

    def _delay(self, admission: Admission, now: float) -> float | None:
        """Seconds until `admission` may start; None: when something ends."""
        if not self.limit.allows(self.in_flight) or (admission.priority == LEVELS and self._throttled()):
            return None
        return max(
            0.0, self.paused_until - now, self._requests.wait(now), self._tokens.wait(now, float(admission.tokens))
        )

    def _throttled(self) -> bool:
        """Whether background operations leave what room there is to others."""
        return self._background_share < 1.0 and 0 < self.in_flight >= self.limit.value * self._background_share

    def _take(self, admission: Admission, now: float) -> None:
        admission.gone = True
        admission.admitted_at = now
        self.in_flight += 1
        self._requests.take(now)
        self._tokens.take(now, admission.tokens)

    def _serve(self) -> None:
        now = self._clock.monotonic()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self.queued:
            head = self._head
            least = LEVELS - 1 if self._throttled() else LEVELS
            if head is not None and head.priority > least and not head.gone:
                self._queue.push(head, first=True)
                head = None
            if head is None or head.gone:
                head = self._head = self._queue.pop(least)
                if head is None:
                    return
            delay = self._delay(head, now)
            if delay is None:
                return
            if delay > 0:
                self._alarm = self._alarms.at(now + delay, self._serve)
                return
            self._head = None
            self.queued -= 1
            self._take(head, now)
            if head.future is not None and not head.future.done():
                head.future.set_result(None)
