"""Whether and when a failed message is tried again. Counts no attempts and sets no timers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from amx.v1 import agent_pb2, common_pb2

_LONGEST_ADVICE_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """A retry policy with nothing left open.

    only: these reasons alone are repeated; None: every failure that says it is retryable. never: these are not.
    """

    durable_attempts: int = 4
    volatile_attempts: int = 1
    initial_backoff_ms: int = 100
    multiplier: float = 2.0
    max_backoff_ms: int = 60_000
    only: frozenset[str] | None = None
    never: frozenset[str] = field(default=frozenset())

    def resolve(self, declared: agent_pb2.RetryPolicy) -> RetryPlan:
        """What a handler declared, completed by this default."""
        return RetryPlan(
            durable_attempts=declared.max_attempts or self.durable_attempts,
            volatile_attempts=declared.max_attempts or self.volatile_attempts,
            initial_backoff_ms=declared.initial_backoff_ms or self.initial_backoff_ms,
            multiplier=declared.multiplier or self.multiplier,
            max_backoff_ms=declared.max_backoff_ms or self.max_backoff_ms,
            only=frozenset(declared.retryable_reasons) or self.only,
            never=frozenset(declared.non_retryable_reasons) or self.never,
        )

    def delay_ms(
        self, attempt: int, failure: common_pb2.Failure, durable: bool, random: Callable[[], float]
    ) -> int | None:
        """How long to wait before the next attempt, in milliseconds; None: there is none.

        attempt: the one that failed, from 1. random: uniform in [0, 1), e.g. of a seeded random.Random; the wait
        grows geometrically up to its bound and is spread by a fifth in both directions, so that what failed together
        does not come back together. A longer wait that the failure asks for is kept to.
        """
        if attempt >= (self.durable_attempts if durable else self.volatile_attempts):
            return None
        reason = failure.reason
        if reason in self.never:
            return None
        if not (failure.retryable if self.only is None else reason in self.only):
            return None
        bound = float(self.max_backoff_ms)
        try:
            wait = min(bound, self.initial_backoff_ms * self.multiplier ** (attempt - 1))
        except OverflowError:
            wait = bound
        spread = min(bound, wait * (0.8 + 0.4 * random()))
        return max(int(spread), min(failure.retry_delay_ms, _LONGEST_ADVICE_MS))
