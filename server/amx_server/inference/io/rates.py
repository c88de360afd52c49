"""A token bucket: so much a second, so much at once. Sets no timers; time is passed in (monotonic seconds)."""

from __future__ import annotations

_ROUNDING = 1e-9  # seconds


class RateBucket:
    """Lets `rate` units a second pass, `burst` of them at once. A rate of 0 lets everything pass.

    An amount above the burst passes when the bucket is full, and is paid for afterwards: nothing is too large for ever.
    The bucket is kept as one moment, when it would be full again if nothing more came.
    """

    __slots__ = ("_burst", "_full_at", "_interval", "rate")

    def __init__(self, rate: float, burst: float = 0.0) -> None:
        """burst: 0: one second's worth, at least 1."""
        if rate < 0 or burst < 0:
            raise ValueError("rate and burst are 0 or more")
        self.rate = rate
        self._interval = 1 / rate if rate else 0.0
        self._burst = (burst or max(1.0, rate)) * self._interval  # in seconds
        self._full_at = 0.0

    def wait(self, now: float, amount: float = 1.0) -> float:
        """Seconds until `amount` may pass; 0: now."""
        if not self._interval or not amount:
            return 0.0
        missing = max(0.0, self._full_at - now)
        late = missing + min(amount * self._interval, self._burst) - self._burst
        return late if late > _ROUNDING else 0.0

    def take(self, now: float, amount: float = 1.0) -> None:
        """Counts `amount` as passed, whether or not it should have waited. Negative: gives back."""
        if self._interval:
            self._full_at = max(self._full_at, now) + amount * self._interval

    def level(self, now: float) -> float:
        """Units that may pass at once; negative while something is being paid for; infinite without a rate."""
        if not self._interval:
            return float("inf")
        return (self._burst - max(0.0, self._full_at - now)) * self.rate
