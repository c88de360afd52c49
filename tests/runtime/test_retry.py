"""Retry: how often, how long, and for which reasons."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx.v1 import agent_pb2, common_pb2
from amx_server.runtime.retry import RetryPlan

RETRYABLE = common_pb2.Failure(code=14, reason="UPSTREAM_DOWN", retryable=True)


def middle() -> float:
    return 0.5


def test_retry_waits_grow_to_their_bound_and_end() -> None:
    plan = RetryPlan().resolve(
        agent_pb2.RetryPolicy(max_attempts=6, initial_backoff_ms=100, multiplier=3, max_backoff_ms=2000)
    )
    waits = [plan.delay_ms(attempt, RETRYABLE, True, middle) for attempt in range(1, 8)]
    assert waits == [100, 300, 900, 2000, 2000, None, None]


def test_retry_defaults_differ_for_durable_messages() -> None:
    plan = RetryPlan().resolve(agent_pb2.RetryPolicy())
    assert [plan.delay_ms(n, RETRYABLE, True, middle) for n in range(1, 5)] == [100, 200, 400, None]
    assert plan.delay_ms(1, RETRYABLE, False, middle) is None


@pytest.mark.parametrize(
    ("policy", "failure", "repeated"),
    [
        (agent_pb2.RetryPolicy(), common_pb2.Failure(reason="BAD"), False),
        (agent_pb2.RetryPolicy(retryable_reasons=["BAD"]), common_pb2.Failure(reason="BAD"), True),
        (agent_pb2.RetryPolicy(retryable_reasons=["BAD"]), RETRYABLE, False),
        (agent_pb2.RetryPolicy(non_retryable_reasons=["UPSTREAM_DOWN"]), RETRYABLE, False),
        (agent_pb2.RetryPolicy(non_retryable_reasons=["BAD"]), RETRYABLE, True),
        (
            agent_pb2.RetryPolicy(retryable_reasons=["BAD"], non_retryable_reasons=["BAD"]),
            common_pb2.Failure(reason="BAD"),
            False,
        ),
    ],
)
def test_retry_depends_on_the_reason(
    policy: agent_pb2.RetryPolicy, failure: common_pb2.Failure, repeated: bool
) -> None:
    assert (RetryPlan().resolve(policy).delay_ms(1, failure, True, middle) is not None) == repeated


def test_retry_keeps_to_a_longer_wait_that_the_failure_asks_for() -> None:
    asking = common_pb2.Failure(reason="BUSY", retryable=True, retry_delay_ms=120_000)
    assert RetryPlan(max_backoff_ms=1000).delay_ms(1, asking, True, middle) == 120_000
    asking.retry_delay_ms = 2**60
    assert RetryPlan().delay_ms(1, asking, True, middle) == 24 * 3600 * 1000


def test_retry_jitter_is_repeatable_with_a_seed() -> None:
    one, other = Random(7), Random(7)
    waits = [RetryPlan().delay_ms(1, RETRYABLE, True, one.random) for _ in range(5)]
    assert waits == [RetryPlan().delay_ms(1, RETRYABLE, True, other.random) for _ in range(5)]
    assert len(set(waits)) > 1


@given(st.integers(1, 2**31), st.floats(1, 1e6), st.integers(1, 10**9), st.integers(1, 10**9), st.floats(0, 0.999))
def test_retry_wait_stays_in_bounds(attempt: int, multiplier: float, initial: int, bound: int, value: float) -> None:
    plan = RetryPlan(2**32, 1, initial, multiplier, bound)
    wait = plan.delay_ms(attempt, RETRYABLE, True, lambda: value)
    assert wait is not None
    assert int(0.8 * min(initial, bound)) <= wait <= bound
