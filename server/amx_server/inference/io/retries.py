"""Whether and when a failed attempt is repeated, and the budget that keeps repeats from making an outage worse.

Our own few lines rather than a library: the waits are on the engine's clock, a provider's advice counts, and one
budget is shared by everything that goes to a provider.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from amx_server.core.errors import AmxError
from amx_server.inference.io.errors import NOT_STARTED, RATE_LIMITED


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """attempts: at one operation, the first included. rate_limited_attempts: the same, while the provider answers that
    it limits its rate: such answers cost it nothing, and the wait is its own.
    Backoffs are in seconds. budget: repeats for each operation, on average; budget_burst: repeats beyond that.
    max_advice: seconds; a provider that asks for a longer wait has failed.
    """

    attempts: int = 3
    rate_limited_attempts: int = 8
    initial_backoff: float = 0.5
    multiplier: float = 2.0
    max_backoff: float = 30.0
    budget: float = 0.2
    budget_burst: float = 10.0
    max_advice: float = 60.0

    def delay(self, attempt: int, error: AmxError, idempotent: bool, random: Callable[[], float]) -> float | None:
        """Seconds before the next attempt; None: there is none.

        attempt: the one that failed, from 1. random: uniform in [0, 1). The wait is drawn from the whole range up to
        its exponential bound ("full jitter", Brooker 2015), but a provider's advice is a lower bound, and what comes
        back after advice is spread over another tenth of it, so that it does not come back all at once.
        """
        if not error.retryable or not (idempotent or error.reason in NOT_STARTED):
            return None
        if attempt >= (self.rate_limited_attempts if error.reason == RATE_LIMITED else self.attempts):
            return None
        advice = error.retry_delay_ms / 1000 if error.reason in NOT_STARTED or error.metadata.get("status") else 0.0
        if advice > self.max_advice:
            return None
        exponent = min(attempt - 1, 64)
        backoff = min(self.max_backoff, self.initial_backoff * self.multiplier**exponent) * random()
        return max(backoff, advice * (1 + 0.1 * random()))


class RetryBudget:
    """Repeats that a provider may see: a share of its operations, and some for quiet times.

    As in Finagle's retry budgets: every operation pays in `share`, every repeat takes out 1; there is never more in
    it than `burst`, with which it starts.
    """

    __slots__ = ("_balance", "_burst", "_share", "denied")

    def __init__(self, share: float, burst: float) -> None:
        if share < 0 or burst < 0:
            raise ValueError("budget and budget_burst are 0 or more")
        self._share = share
        self._burst = burst
        self._balance = burst
        self.denied = 0

    @property
    def balance(self) -> float:
        """Repeats that may be made now."""
        return self._balance

    def operation(self) -> None:
        """A first attempt was made."""
        self._balance = min(self._burst, self._balance + self._share)

    def withdraw(self, error: AmxError) -> bool:
        """Takes out one repeat after `error`; False: there is none to be had. Repeats after 429 are free."""
        if error.reason == RATE_LIMITED:
            return True
        # Shares like 0.2 do not add up to 1 exactly.
        if self._balance < 1 - 1e-9:
            self.denied += 1
            return False
        self._balance -= 1
        return True
