"""What is repeated, when, and what keeps repeats from making it worse."""

from __future__ import annotations

import asyncio

import pytest

from amx_server.core.errors import AmxError, invalid
from amx_server.inference.io import ConcurrencyPolicy, ProviderPolicy, RetryPolicy
from amx_server.inference.io import errors as io_errors
from amx_server.inference.io.retries import RetryBudget
from tests.inference.io.support import FAILURE, ended, operation, settle, world

LIMITED = io_errors.http_status("p", 429, "", 2.0)
OVERLOADED = io_errors.http_status("p", 503, "", None)


def half() -> float:
    return 0.5


def test_backoff_grows_to_its_bound_and_is_spread_from_zero() -> None:
    policy = RetryPolicy(attempts=100, initial_backoff=1, max_backoff=5)
    assert [policy.delay(n, FAILURE, True, half) for n in (1, 2, 3, 4, 90)] == [0.5, 1, 2, 2.5, 2.5]
    assert policy.delay(3, FAILURE, True, lambda: 0.0) == 0
    assert policy.delay(10**6, FAILURE, True, half) is None


def test_advice_of_the_provider_is_a_lower_bound_and_spread_upwards() -> None:
    policy = RetryPolicy(initial_backoff=0.1)
    assert policy.delay(1, LIMITED, True, lambda: 0.0) == 2.0
    assert policy.delay(1, LIMITED, True, lambda: 0.999) == pytest.approx(2.2, rel=0.001)
    assert RetryPolicy(initial_backoff=20).delay(1, LIMITED, True, half) == 10


def test_advice_beyond_the_bound_is_a_failure() -> None:
    assert RetryPolicy(max_advice=1.9).delay(1, LIMITED, True, half) is None


def test_what_may_not_be_repeated_is_not() -> None:
    policy = RetryPolicy()
    assert policy.delay(1, invalid("PROVIDER_REJECTED", "no"), True, half) is None
    assert policy.delay(1, FAILURE, False, half) is None
    assert policy.delay(1, LIMITED, False, half) is not None  # it certainly did nothing
    assert policy.delay(policy.attempts, FAILURE, True, half) is None
    assert policy.delay(policy.attempts, LIMITED, True, half) is not None
    assert policy.delay(policy.rate_limited_attempts, LIMITED, True, half) is None


def test_budget_is_a_share_of_the_operations_and_a_burst() -> None:
    budget = RetryBudget(0.2, 3)
    assert [budget.withdraw(FAILURE) for _ in range(4)] == [True, True, True, False]
    for _ in range(5):
        budget.operation()
    assert [budget.withdraw(FAILURE) for _ in range(2)] == [True, False]
    for _ in range(1000):
        budget.operation()
    assert budget.balance == 3 and budget.denied == 2
    assert all(budget.withdraw(LIMITED) for _ in range(100))  # the provider's own wait is what bounds these


async def test_failed_attempt_is_repeated_after_its_backoff_and_seen_by_nobody() -> None:
    async with world(ProviderPolicy(retry=RetryPolicy(attempts=3, initial_backoff=1.0))) as w:
        task = asyncio.create_task(w.io.call(operation()))
        await settle()
        w.request().fail()
        await w.advance(0.4)
        assert len(w.provider.requests) == 1
        await w.advance(0.1)
        assert len(w.provider.requests) == 2 and w.request().calls[0].attempt == 2
        w.request().succeed("answer")
        assert await task == "answer"
        assert w.io.stats().retries == 1


async def test_failure_after_all_attempts_is_the_last_one() -> None:
    async with world(ProviderPolicy(retry=RetryPolicy(attempts=2, initial_backoff=1.0))) as w:
        task = asyncio.create_task(w.io.call(operation()))
        await settle()
        w.request().fail()
        await w.advance(1)
        w.request().fail(OVERLOADED)
        error = await ended(task)
        assert isinstance(error, AmxError) and error.reason == "PROVIDER_OVERLOADED"
        stats = w.io.stats().providers["p"]
        assert (stats.requests, stats.failed, stats.overloaded, stats.in_flight) == (2, 1, 1, 0)


async def test_operation_under_backoff_takes_no_place() -> None:
    policy = ProviderPolicy(
        retry=RetryPolicy(attempts=2, initial_backoff=100.0), concurrency=ConcurrencyPolicy(1, 1, 1)
    )
    async with world(policy) as w:
        failing = asyncio.create_task(w.io.call(operation()))
        await settle()
        w.request().fail()
        other = asyncio.create_task(w.io.call(operation("b")))
        await settle()
        w.request().succeed("b")
        assert await other == "b"
        assert not failing.done()


async def test_repeat_that_nobody_could_wait_for_is_not_made() -> None:
    async with world() as w:
        task = asyncio.create_task(w.io.call(operation(), timeout=1.5))
        await settle()
        w.request().fail(LIMITED)
        error = await ended(task)
        assert isinstance(error, AmxError)
        assert (error.reason, error.retryable, error.retry_delay_ms) == ("PROVIDER_RATE_LIMITED", True, 2000)


async def test_last_waiter_that_leaves_during_a_backoff_ends_it() -> None:
    async with world(ProviderPolicy(retry=RetryPolicy(attempts=2, initial_backoff=1.0))) as w:
        task = asyncio.create_task(w.io.call(operation()))
        await settle()
        w.request().fail()
        await settle()
        task.cancel()
        await w.advance(5)
        assert len(w.provider.requests) == 1 and w.io.stats().in_flight == 0


async def test_outage_is_met_by_few_repeats() -> None:
    policy = ProviderPolicy(retry=RetryPolicy(attempts=5, initial_backoff=0.001, budget=0.1, budget_burst=10))
    async with world(policy) as w:
        tasks = [asyncio.create_task(w.io.call(operation(str(n)))) for n in range(200)]
        for _ in range(200):
            await w.advance(0.1)
            for request in list(w.provider.open):
                request.fail()
        for task in tasks:
            assert isinstance(await ended(task), AmxError)
        stats = w.io.stats().providers["p"]
        assert stats.operations == 200 + stats.retries
        assert stats.retries <= 10 + 0.1 * 200 and stats.retries_denied >= 170


async def test_attempt_that_takes_too_long_is_cancelled_and_repeated() -> None:
    policy = ProviderPolicy(attempt_timeout=2.0, retry=RetryPolicy(attempts=2, initial_backoff=0.5))
    async with world(policy) as w:
        task = asyncio.create_task(w.io.call(operation(), timeout=60))
        await w.advance(2.0)
        assert w.request(0).cancelled
        await w.advance(0.5)
        assert len(w.provider.requests) == 2
        await w.advance(2.0)
        error = await ended(task)
        assert isinstance(error, AmxError) and error.reason == "PROVIDER_TIMEOUT"
        assert "longer than 2 s (attempt_timeout)" in error.message


async def test_timeout_error_of_the_provider_itself_is_its_defect() -> None:
    async with world() as w:
        task = asyncio.create_task(w.io.call(operation()))
        await settle()
        w.request().fail(TimeoutError("mine"))
        error = await ended(task)
        assert isinstance(error, AmxError) and error.reason == "PROVIDER_DEFECT"
