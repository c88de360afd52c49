"""Keeps an eye on how busy the engine is, at every tick, and tells those who act on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from amx_server.runtime.scheduling.admission import Admission
from amx_server.runtime.scheduling.pressure import Level, Pressure, PressurePolicy, Readings, Thresholds
from amx_server.runtime.scheduling.sensors import memory_limit, own_bytes
from amx_server.telemetry.logs import get_logger

log = get_logger(__name__)

MEMORY_SECONDS = 0.5
"""Between two looks at what the process takes: a file is read."""
QUEUE_SECONDS = 0.1
"""Between two looks at how long work waits: all links may have to be asked."""
_STEP = 4.0  # from one level's delay to the next one's


def pressure_policy(loop_delay: float, queue_delay: float) -> PressurePolicy:
    """The thresholds for delays, in seconds, from which on the level is ELEVATED; four times as much is the next one.
    0: that delay means nothing.
    """
    endless = float("inf")
    loop = loop_delay or endless
    queue = queue_delay or endless
    return PressurePolicy(
        loop=Thresholds(loop, loop * _STEP, loop * _STEP * _STEP),
        queue=Thresholds(queue, queue * _STEP, endless),
    )


class PressureMonitor:
    """Owns the pressure of one engine and writes it into its Admission.

    `tick` is called about fifty times a second and takes a few microseconds.
    """

    __slots__ = (
        "_admission",
        "_listeners",
        "_looked_at",
        "_memory_bytes",
        "_queue_delay",
        "_queue_looked_at",
        "_waited",
        "_write_share",
        "enabled",
        "limit",
        "loop_delay",
        "own_bytes",
        "pressure",
    )

    def __init__(
        self,
        admission: Admission,
        policy: PressurePolicy,
        *,
        limit: int | None = None,
        enabled: bool = True,
        queue_delay: Callable[[float], float] = lambda now: 0.0,
        write_share: Callable[[], float] = lambda: 0.0,
        listeners: Iterable[Callable[[Pressure], None]] = (),
    ) -> None:
        """limit: bytes of memory that the process may take; None: what the operating system allows; 0: no bound.
        queue_delay: seconds for which work waits for a slot where the wait is shortest, at a moment.
        write_share: part of the store's queue that is filled. listeners: told of every new level.
        """
        self._admission = admission
        self._queue_delay = queue_delay
        self._write_share = write_share
        self._listeners = tuple(listeners)
        self._looked_at = float("-inf")
        self._memory_bytes = 0
        self._queue_looked_at = float("-inf")
        self._waited = 0.0
        self.enabled = enabled
        self.limit = memory_limit() if limit is None else limit
        self.own_bytes = own_bytes
        self.pressure = Pressure(policy)
        self.loop_delay = 0.0
        """Seconds by which the latest turn of the event loop came late; written by whoever keeps its time."""

    def tick(self, now: float) -> None:
        """Takes readings and acts on the level that they mean. now: monotonic seconds."""
        if not self.enabled:
            return
        if self.limit and now - self._looked_at >= MEMORY_SECONDS:
            self._looked_at = now
            self._memory_bytes = self.own_bytes()
        if now - self._queue_looked_at >= QUEUE_SECONDS:
            self._queue_looked_at = now
            self._waited = self._queue_delay(now)
        readings = Readings(self._memory_bytes, self.limit, self.loop_delay, self._waited, self._write_share())
        pressure = self.pressure
        if pressure.sample(now, readings):
            self._changed(pressure.level)
        self._admission.because = pressure.because

    def _changed(self, level: Level) -> None:
        if level != self._admission.level:
            self._admission.level = level
            say = log.warning if level >= Level.HIGH else log.info
            say("pressure_changed", pressure=level.name.lower(), because=self.pressure.because)
        for listener in self._listeners:
            listener(self.pressure)
