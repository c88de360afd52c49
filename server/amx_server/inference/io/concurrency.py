"""How many operations may be under way at one provider: found out from how it reacts. Sets no timers.

Additive increase, multiplicative decrease, with a slow start, as TCP (RFC 5681) does it; a request's round trip takes
the place of a packet's. Latency counts as a signal by the ratio of its short to its long average, as in the gradient
limits of Netflix's concurrency-limits.
"""

from __future__ import annotations

from dataclasses import dataclass

_LONG, _SHORT = 1 / 256, 1 / 16  # weights of the newest latency in the two averages
_SETTLED = 64  # latencies before the averages mean anything


@dataclass(frozen=True, slots=True)
class ConcurrencyPolicy:
    """Bounds of the limit and how it moves.

    initial: the limit at first; it doubles with every round trip until the first sign of overload.
    decrease: factor on a refusal (429, 503, 529). latency_decrease: factor when latency grows.
    latency_tolerance: recent latency may be this many times its long average; 0: latency is no signal, as where it
    depends on what is asked rather than on load.
    """

    initial: int = 16
    minimum: int = 1
    maximum: int = 256
    decrease: float = 0.7
    latency_decrease: float = 0.9
    latency_tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.initial <= self.maximum:
            raise ValueError("concurrency: needs 1 <= minimum <= initial <= maximum")
        if not (0 < self.decrease < 1 and 0 < self.latency_decrease < 1):
            raise ValueError("concurrency: a decrease is a factor between 0 and 1")
        if self.latency_tolerance and self.latency_tolerance <= 1:
            raise ValueError("concurrency: latency_tolerance is 0 (off) or more than 1")


class ConcurrencyLimit:
    """The limit of one provider. Times are monotonic seconds."""

    __slots__ = ("_decreased_at", "_long", "_policy", "_seen", "_short", "_slow_start", "value")

    def __init__(self, policy: ConcurrencyPolicy) -> None:
        self._policy = policy
        self.value = float(policy.initial)
        self._slow_start = True
        self._decreased_at = float("-inf")
        self._long = self._short = 0.0
        self._seen = 0

    def allows(self, in_flight: int) -> bool:
        """Whether one more may start beside `in_flight` others."""
        return in_flight + 1 <= self.value

    def succeeded(self, now: float, started_at: float, latency: float, in_flight: int) -> None:
        """An operation that began at `started_at` went well; `in_flight` with it. latency: to its first sign."""
        policy = self._policy
        if policy.latency_tolerance and self._latency_grew(latency):
            self._decrease(now, started_at, policy.latency_decrease)
            return
        if started_at <= self._decreased_at or in_flight * 2 < self.value:
            return  # it says nothing about the limit that is in force, or the limit was not what held things up
        step = 1.0 if self._slow_start else 1 / self.value
        self.value = min(float(policy.maximum), self.value + step)

    def overloaded(self, now: float, started_at: float) -> None:
        """The provider refused an operation that began at `started_at`, or asked for less."""
        self._decrease(now, started_at, self._policy.decrease)

    def _decrease(self, now: float, started_at: float, factor: float) -> None:
        # What began before the last decrease still reports on the limit before it: once a round trip is enough.
        if started_at <= self._decreased_at:
            return
        self._decreased_at = now
        self._slow_start = False
        self.value = max(float(self._policy.minimum), self.value * factor)

    def _latency_grew(self, latency: float) -> bool:
        if not self._seen:
            self._long = self._short = latency
        self._seen += 1
        # In the beginning every latency weighs as much as any other.
        self._long += (latency - self._long) * max(_LONG, 1 / self._seen)
        self._short += (latency - self._short) * max(_SHORT, 1 / self._seen)
        return self._seen > _SETTLED and self._short > self._long * self._policy.latency_tolerance
