"""When a schedule is due: its next occurrence, what happens to missed ones, and clocks that jump. No timers here.

An occurrence is named by the moment it was planned for and never comes up twice; planned moments only ever grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amx.v1 import agent_pb2
from amx_server.core.errors import AmxError, invalid

if TYPE_CHECKING:
    from amx_server.runtime.cron import Cron

MAX_OCCURRENCES = 1000  # that RUN_ALL makes up for at a time
GRACE_MS = 10_000  # an occurrence that is late by more counts as missed
MAX_WAIT_SECONDS = 10.0  # between two looks at the wall clock, which may jump
MAX_INTERVAL_MS = 100 * 366 * 24 * 3600 * 1000


def validate_schedule(definition: agent_pb2.ScheduleDefinition) -> None:
    """Raises AmxError INVALID_SCHEDULE, naming schedule and field."""
    timing = definition.WhichOneof("timing")
    if timing is None:
        raise _bad(definition, "timing", "none of fixed_delay_ms, fixed_rate_ms, cron and once_after_ms is set")
    if timing == "cron":
        from amx_server.runtime.cron import Cron, CronError  # with its libraries, where somebody uses it

        try:
            Cron(definition.cron, definition.time_zone)
        except CronError as error:
            raise _bad(definition, "time_zone" if "time zone" in str(error) else "cron", str(error)) from None
        if definition.initial_delay_ms:
            raise _bad(definition, "initial_delay_ms", "it has no meaning beside cron; leave it out")
        return
    if definition.time_zone:
        raise _bad(definition, "time_zone", f"it has no meaning beside {timing}; leave it out")
    interval_ms: int = getattr(definition, timing)
    if timing != "once_after_ms" and interval_ms == 0:
        raise _bad(definition, timing, "it must be at least 1 ms")
    for field, value in ((timing, interval_ms), ("initial_delay_ms", definition.initial_delay_ms)):
        if value > MAX_INTERVAL_MS:
            raise _bad(definition, field, "it is longer than 100 years")


def _bad(definition: agent_pb2.ScheduleDefinition, field: str, why: str) -> AmxError:
    return invalid(
        "INVALID_SCHEDULE",
        f"schedule '{definition.name}', field {field}: {why}",
        schedule=definition.name,
        field=field,
    )


class ScheduleState:
    """Progress of one schedule. Stored as next_run_at_ms and last_run_at_ms (milliseconds since the epoch, 0: none).

    Cron follows the wall clock. If that goes back, occurrences already passed do not come again, so nothing is due
    until it has caught up. Everything else follows a clock that never goes back and never stands still: the wall clock,
    or what time has passed by the monotonic one, whichever is later. If the wall clock goes forward, what it skipped
    was missed: so it is while the process is down.
    """

    __slots__ = ("_clock_at", "_clock_ms", "_cron", "_interval_ms", "definition", "last_run_at_ms", "next_run_at_ms")

    def __init__(
        self,
        definition: agent_pb2.ScheduleDefinition,
        next_run_at_ms: int,
        last_run_at_ms: int,
        now_ms: int,
        monotonic: float,
    ) -> None:
        """A schedule as it was stored; see `new` for one that starts now. Raises AmxError INVALID_SCHEDULE."""
        validate_schedule(definition)
        timing = definition.WhichOneof("timing")
        self.definition = definition
        self.next_run_at_ms = next_run_at_ms
        self.last_run_at_ms = last_run_at_ms
        self._cron: Cron | None = None
        if timing == "cron":
            from amx_server.runtime.cron import Cron

            self._cron = Cron(definition.cron, definition.time_zone)
        self._interval_ms: int = 0 if timing == "cron" or timing is None else getattr(definition, timing)
        if not next_run_at_ms and timing in ("fixed_delay_ms", "cron"):
            # A delay whose run was under way: what ran it is gone, or will call `completed`.
            self._plan_after(max(now_ms, last_run_at_ms))
        # The wall clock may have gone back while nothing ran; wait one interval then, not until it has caught up.
        longest_wait_ms = self._interval_ms if last_run_at_ms else max(self._interval_ms, definition.initial_delay_ms)
        self._clock_ms = float(max(now_ms, self.next_run_at_ms - longest_wait_ms))
        self._clock_at = monotonic

    @classmethod
    def new(
        cls, definition: agent_pb2.ScheduleDefinition, now_ms: int, monotonic: float, last_run_at_ms: int = 0
    ) -> ScheduleState:
        """A schedule that starts now. last_run_at_ms: of the one of the same name that it replaces.

        Raises AmxError INVALID_SCHEDULE.
        """
        validate_schedule(definition)
        timing = definition.WhichOneof("timing")
        if timing == "cron":
            return cls(definition, 0, last_run_at_ms, now_ms, monotonic)
        interval_ms = getattr(definition, timing) if timing else 0
        wait_ms = interval_ms if timing == "once_after_ms" else definition.initial_delay_ms or interval_ms
        state = cls(definition, now_ms + wait_ms, 0, now_ms, monotonic)
        state.last_run_at_ms = last_run_at_ms
        if state.next_run_at_ms <= last_run_at_ms:  # planned by a clock that has gone back since
            state._clock_ms += last_run_at_ms + 1 - state.next_run_at_ms
            state.next_run_at_ms = last_run_at_ms + 1
        return state

    @property
    def finished(self) -> bool:
        """It will never be due again."""
        return not self.next_run_at_ms and self.definition.WhichOneof("timing") != "fixed_delay_ms"

    def due(self, now_ms: int, monotonic: float) -> list[int]:
        """Occurrences to run now, oldest first, each given out once; then `next_run_at_ms` is the one after them.

        Missed occurrences are dealt with as the definition says. A fixed delay has no next one before `completed`.
        """
        now = self._now(now_ms, monotonic)
        if not 0 < self.next_run_at_ms <= now:
            return []
        missed = self.definition.missed
        occurrences = self._passed(now, MAX_OCCURRENCES if missed == agent_pb2.MISSED_RUNS_RUN_ALL else 1)
        latest = occurrences[-1]
        if missed == agent_pb2.MISSED_RUNS_SKIP and now - latest > GRACE_MS:
            self._plan_after(latest, now)
            return []
        self.last_run_at_ms = latest
        if self.definition.WhichOneof("timing") == "fixed_delay_ms":
            self.next_run_at_ms = 0
        else:
            self._plan_after(latest, now)
        return occurrences

    def completed(self, now_ms: int, monotonic: float) -> bool:
        """The run ended: a fixed delay starts. Returns whether `next_run_at_ms` changed."""
        if self.definition.WhichOneof("timing") != "fixed_delay_ms":
            return False
        self._plan_after(max(self._now(now_ms, monotonic), self.last_run_at_ms))
        return True

    def skip(self, now_ms: int, monotonic: float) -> None:
        """Forgets what is due: for a schedule that was paused."""
        now = self._now(now_ms, monotonic)
        if 0 < self.next_run_at_ms <= now:
            self._plan_after(self._passed(now, 1)[-1], now)

    def wait_seconds(self, now_ms: int, monotonic: float) -> float | None:
        """How long until `due` should be asked again; None: not before `completed`, or never."""
        if not self.next_run_at_ms:
            return None
        return min(MAX_WAIT_SECONDS, max(0.0, (self.next_run_at_ms - self._now(now_ms, monotonic)) / 1000))

    def _now(self, now_ms: int, monotonic: float) -> int:
        if self._cron is not None:
            return now_ms
        self._clock_ms = max(float(now_ms), self._clock_ms + (monotonic - self._clock_at) * 1000)
        self._clock_at = monotonic
        return int(self._clock_ms)

    def _passed(self, now: int, count: int) -> list[int]:
        """The last `count` occurrences up to now, of which there is at least one."""
        first = self.next_run_at_ms
        if self._cron is not None:
            return self._cron.latest(first - 1, now, count) or [first]
        if self.definition.WhichOneof("timing") != "fixed_rate_ms":
            return [first]
        passed = (now - first) // self._interval_ms
        return [first + n * self._interval_ms for n in range(max(0, passed + 1 - count), passed + 1)]

    def _plan_after(self, occurrence: int, now: int = 0) -> None:
        """Plans the occurrence that follows `occurrence`, of a fixed delay also later than now."""
        timing = self.definition.WhichOneof("timing")
        if self._cron is not None:
            self.next_run_at_ms = self._cron.next_after(occurrence) or 0
        elif timing == "once_after_ms":
            self.next_run_at_ms = 0
        elif timing == "fixed_delay_ms":
            self.next_run_at_ms = max(occurrence, now) + self._interval_ms
        else:
            self.next_run_at_ms = occurrence + self._interval_ms
