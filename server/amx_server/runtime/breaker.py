"""Circuit breaker of one handler: gives it a rest after failures in a row, then tries it once.

No timers: time is passed in. The caller decides what counts as a failure; refusals of the engine itself should not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from amx.v1 import agent_pb2
from amx_server.core.errors import AmxError, unavailable


class CircuitState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Failures in a row that open the circuit, and how long it stays open before a probe."""

    failure_threshold: int = 10
    open_ms: int = 30_000

    def resolve(self, declared: agent_pb2.CircuitBreakerPolicy) -> BreakerPolicy | None:
        """What a handler declared, completed by this default; None: no circuit breaker."""
        if declared.disabled:
            return None
        return BreakerPolicy(declared.failure_threshold or self.failure_threshold, declared.open_ms or self.open_ms)


class CircuitBreaker:
    """Counts failures in a row. Times are Clock.monotonic() seconds.

    Usage, one attribute check each while all is well:

        if breaker.open and not breaker.admit(now): raise breaker.refusal(what, now)
        if breaker.failures: breaker.succeeded()
    """

    __slots__ = ("_open_seconds", "_probe_since", "_retry_at", "_threshold", "failures", "open")

    def __init__(self, policy: BreakerPolicy) -> None:
        self._threshold = policy.failure_threshold
        self._open_seconds = policy.open_ms / 1000
        self._retry_at = 0.0
        self._probe_since: float | None = None
        self.failures = 0  # in a row
        self.open = False  # not closed: open or half-open

    def state(self, now: float) -> CircuitState:
        """For people and metrics."""
        if not self.open:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self._retry_at else CircuitState.HALF_OPEN

    def admit(self, now: float) -> bool:
        """Whether an invocation may start. Half open, the first one is let through as a probe, alone.

        A probe that has no outcome after the time of rest is replaced by another.
        """
        if not self.open:
            return True
        if now < self._retry_at:
            return False
        if self._probe_since is not None and now < self._probe_since + self._open_seconds:
            return False
        self._probe_since = now
        return True

    def succeeded(self) -> None:
        """An invocation succeeded. Closes the circuit if a probe was under way."""
        if not self.open:
            self.failures = 0
        elif self._probe_since is not None:
            self.failures = 0
            self.open = False
            self._probe_since = None

    def failed(self, now: float) -> bool:
        """An invocation failed. Returns whether this opened the circuit (again)."""
        if self.open and self._probe_since is None:
            return False  # it started before the circuit opened
        self.failures += 1
        if not self.open and self.failures < self._threshold:
            return False
        self.open = True
        self._probe_since = None
        self._retry_at = now + self._open_seconds
        return True

    def abandoned(self) -> None:
        """An admitted invocation ended without saying anything about the handler: cancelled, or its link was lost."""
        self._probe_since = None

    def refusal(self, what: str, now: float) -> AmxError:
        """The error for an invocation of `what` (agent#handler) that was not admitted."""
        delay_ms = max(1, round((self._retry_at - now) * 1000)) if now < self._retry_at else 1000
        return unavailable(
            "CIRCUIT_OPEN",
            f"'{what}' failed {self.failures} times in a row and is resting; try again in {delay_ms} ms",
            retry_delay_ms=delay_ms,
            handler=what,
            failures=str(self.failures),
        )
