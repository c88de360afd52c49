"""How busy the engine is: four levels, from the memory it takes and from delays that do not go away.

Readings and times are passed in; where they come from is in `sensors`, what follows from a level in `admission`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

NOTHING = "nothing is scarce"
HOLD_SECONDS = 2.0
"""How long readings must be lower before the level is: otherwise it would swing with the load it holds off."""


class Level(IntEnum):
    """How busy the engine is. The numbers are those of amx.v1.PressureLevel."""

    NORMAL = 1
    ELEVATED = 2
    HIGH = 3
    CRITICAL = 4


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which reading on one signal means which level; a level whose threshold is infinite is never reached."""

    elevated: float
    high: float
    critical: float

    def __post_init__(self) -> None:
        if not 0 < self.elevated <= self.high <= self.critical:
            raise ValueError(f"thresholds rise from above 0: {self.elevated}, {self.high}, {self.critical}")

    def level(self, reading: float) -> Level:
        """The level that `reading` means."""
        if reading < self.elevated:
            return Level.NORMAL
        if reading < self.high:
            return Level.ELEVATED
        return Level.HIGH if reading < self.critical else Level.CRITICAL

    def of(self, level: Level) -> float:
        """The reading from which on `level` is meant; 0 for NORMAL."""
        return (0.0, self.elevated, self.high, self.critical)[level - 1]


@dataclass(frozen=True, slots=True)
class Readings:
    """What was measured at one moment.

    memory_bytes: of this process, that only it can give back. memory_limit: bytes it may take; 0: not known.
    loop_delay: seconds by which the event loop is late. queue_delay: seconds for which work waits for a slot where the
    wait is shortest. write_share: part of the store's queue that is filled, 0 to 1.
    """

    memory_bytes: int = 0
    memory_limit: int = 0
    loop_delay: float = 0.0
    queue_delay: float = 0.0
    write_share: float = 0.0

    @property
    def memory_share(self) -> float:
        """Part of the limit that is taken; 0 where there is none."""
        return self.memory_bytes / self.memory_limit if self.memory_limit else 0.0

    def by_signal(self) -> dict[str, float]:
        """Every reading by the name of its signal."""
        return {
            "memory": self.memory_share,
            "writes": self.write_share,
            "loop_delay": self.loop_delay,
            "queue_delay": self.queue_delay,
        }


@dataclass(frozen=True, slots=True)
class PressurePolicy:
    """Thresholds of every signal. memory: part of the limit. loop, queue: standing delay in seconds.

    A full queue of work never makes the level CRITICAL: its own links are busy, the engine can still do other work.
    """

    memory: Thresholds = Thresholds(0.75, 0.85, 0.95)
    loop: Thresholds = Thresholds(0.1, 0.4, 1.6)
    queue: Thresholds = Thresholds(2.0, 8.0, float("inf"))
    writes: Thresholds = Thresholds(0.5, 0.75, 0.95)


class StandingDelay:
    """The least of the latest delays: what even the luckiest met. A single late turn, however late, is not standing.

    The idea is CoDel's (Nichols and Jacobson, "Controlling Queue Delay", 2012): a burst makes some wait, a standing
    queue makes everybody wait.
    """

    __slots__ = ("_latest", "_window")

    def __init__(self, window: float = 0.5) -> None:
        """window: seconds looked back; but always at three delays at least."""
        self._window = window
        self._latest: deque[tuple[float, float]] = deque(maxlen=64)

    def note(self, now: float, delay: float) -> float:
        """Takes the newest delay in and returns the standing one, both in seconds."""
        latest = self._latest
        latest.append((now, delay))
        while len(latest) > 3 and latest[0][0] < now - self._window:
            latest.popleft()
        return min(delay for _, delay in latest) if len(latest) >= 3 else 0.0


class _Held:
    """A level that rises at once and falls when what is meant was lower for HOLD_SECONDS, to the highest of that."""

    __slots__ = ("_calm", "_calm_because", "_calm_since", "because", "level")

    def __init__(self) -> None:
        self.level = Level.NORMAL
        self.because = NOTHING
        self._calm_since: float | None = None  # since when less than the level is meant
        self._calm = Level.NORMAL  # the highest that was meant since, and why
        self._calm_because = NOTHING

    def note(self, now: float, meant: Level, because: str) -> bool:
        """Takes in what is meant now, and why. Returns whether the level has changed."""
        before = self.level
        if meant >= before:
            self._calm_since = None
            self.level, self.because = meant, because
            return meant > before
        if self._calm_since is None:
            self._calm_since = now
            self._calm, self._calm_because = meant, because
        elif meant > self._calm:
            self._calm, self._calm_because = meant, because
        if now - self._calm_since < HOLD_SECONDS:
            return False
        self._calm_since = None
        self.level, self.because = self._calm, self._calm_because
        return True


class Pressure:
    """The level in force, and why. It rises at once and falls when every reading was lower for HOLD_SECONDS."""

    __slots__ = ("_all", "_loop", "_memory", "_policy", "_queue", "readings")

    def __init__(self, policy: PressurePolicy = PressurePolicy()) -> None:
        self._policy = policy
        self._loop = StandingDelay()
        self._queue = StandingDelay()
        self._all = _Held()
        self._memory = _Held()
        self.readings = Readings()
        """The latest, with standing delays."""

    @property
    def level(self) -> Level:
        """How busy the engine is."""
        return self._all.level

    @property
    def because(self) -> str:
        """Which reading made the level, with its numbers."""
        return self._all.because

    @property
    def memory_level(self) -> Level:
        """What memory alone means; at most `level`."""
        return self._memory.level

    def thresholds(self) -> dict[str, Thresholds]:
        """Those of every signal, named as in `Readings.by_signal`."""
        policy = self._policy
        return {
            "memory": policy.memory,
            "writes": policy.writes,
            "loop_delay": policy.loop,
            "queue_delay": policy.queue,
        }

    @property
    def cpu_bound(self) -> bool:
        """Whether the event loop is scarce, by its standing delay."""
        return self._policy.loop.level(self.readings.loop_delay) > Level.NORMAL

    def sample(self, now: float, readings: Readings) -> bool:
        """Takes readings in. now: monotonic seconds. Returns whether a level has changed, of all or of memory."""
        self.readings = readings = Readings(
            readings.memory_bytes,
            readings.memory_limit,
            self._loop.note(now, readings.loop_delay),
            self._queue.note(now, readings.queue_delay),
            readings.write_share,
        )
        meant, signal = self._worst(readings)
        memory = self._policy.memory.level(readings.memory_share)
        changed = self._memory.note(now, memory, NOTHING)
        return self._all.note(now, meant, self._explain(signal, meant)) or changed

    def _worst(self, readings: Readings) -> tuple[Level, str]:
        """The highest level that a reading means, and which one; of equals the one that is hardest to get rid of."""
        policy = self._policy
        worst, signal = policy.memory.level(readings.memory_share), "memory"
        for name, thresholds, reading in (
            ("writes", policy.writes, readings.write_share),
            ("loop", policy.loop, readings.loop_delay),
            ("queue", policy.queue, readings.queue_delay),
        ):
            level = thresholds.level(reading)
            if level > worst:
                worst, signal = level, name
        return worst, signal

    def _explain(self, signal: str, level: Level) -> str:
        if level == Level.NORMAL:
            return NOTHING
        readings = self.readings
        threshold = getattr(self._policy, signal).of(level)
        if signal == "memory":
            return (
                f"memory: {_size(readings.memory_bytes)} of {_size(readings.memory_limit)} are taken"
                f" ({readings.memory_share:.0%}), {level.name} from {threshold:.0%}"
            )
        if signal == "writes":
            return f"storing: {readings.write_share:.0%} of its queue is filled, {level.name} from {threshold:.0%}"
        if signal == "loop":
            late = _seconds(readings.loop_delay)
            return f"event loop: at least {late} late at every turn, {level.name} from {_seconds(threshold)}"
        waits = _seconds(readings.queue_delay)
        return f"slots: work waits at least {waits} for one on every link, {level.name} from {_seconds(threshold)}"


def _size(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
