"""Circuit breaker: opens after failures in a row, probes once, closes on success."""

from __future__ import annotations

from amx.v1 import agent_pb2
from amx_server.runtime.breaker import BreakerPolicy, CircuitBreaker, CircuitState

POLICY = BreakerPolicy(failure_threshold=3, open_ms=10_000)


def opened(now: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker(POLICY)
    assert [breaker.failed(now) for _ in range(3)] == [False, False, True]
    return breaker


def test_breaker_counts_failures_in_a_row_only() -> None:
    breaker = CircuitBreaker(POLICY)
    for _ in range(5):
        breaker.failed(0)
        breaker.failed(0)
        breaker.succeeded()
    assert not breaker.open and breaker.failures == 0
    assert breaker.admit(0)


def test_breaker_open_refuses_and_says_how_long() -> None:
    breaker = opened()
    assert not breaker.admit(9.999)
    assert breaker.state(5) is CircuitState.OPEN
    error = breaker.refusal("billing#charge", 4.0)
    assert (error.reason, error.retryable, error.retry_delay_ms) == ("CIRCUIT_OPEN", True, 6000)
    assert "billing#charge" in error.message


def test_breaker_half_open_lets_one_probe_through() -> None:
    breaker = opened()
    assert breaker.state(10.0) is CircuitState.HALF_OPEN
    assert [breaker.admit(10.0) for _ in range(3)] == [True, False, False]
    assert breaker.refusal("a#b", 10.0).retry_delay_ms > 0
    breaker.succeeded()
    assert breaker.state(10.0) is CircuitState.CLOSED
    assert breaker.admit(10.0) and breaker.failures == 0


def test_breaker_probe_that_fails_opens_it_again() -> None:
    breaker = opened()
    assert breaker.admit(10.0)
    assert breaker.failed(11.0)
    assert not breaker.admit(20.9)
    assert breaker.admit(21.0)


def test_breaker_ignores_outcomes_of_invocations_from_before_it_opened() -> None:
    breaker = opened()
    breaker.succeeded()
    assert breaker.open
    assert not breaker.failed(9.0)
    assert breaker.admit(10.0)


def test_breaker_probe_without_outcome_makes_room_for_another() -> None:
    breaker = opened()
    assert breaker.admit(10.0)
    breaker.abandoned()
    assert breaker.admit(10.0)
    assert not breaker.admit(19.9)
    assert breaker.admit(20.0)  # nobody ever told what became of the probe


def test_breaker_policy_completes_what_was_declared() -> None:
    assert POLICY.resolve(agent_pb2.CircuitBreakerPolicy()) == POLICY
    assert POLICY.resolve(agent_pb2.CircuitBreakerPolicy(failure_threshold=1)) == BreakerPolicy(1, 10_000)
    assert POLICY.resolve(agent_pb2.CircuitBreakerPolicy(disabled=True)) is None
