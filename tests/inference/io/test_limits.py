"""How much may go to one provider: rates, concurrency that follows its reactions, pauses it asks for, fair turns."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx_server.core.errors import AmxError, exhausted
from amx_server.inference.io import (
    BACKGROUND,
    CRITICAL,
    HIGH,
    ConcurrencyPolicy,
    ProviderPolicy,
    RetryPolicy,
    Waiter,
)
from amx_server.inference.io.concurrency import ConcurrencyLimit
from amx_server.inference.io.gate import Admission
from amx_server.inference.io.queueing import LEVELS, PATIENCE, FairQueue
from amx_server.inference.io.rates import RateBucket
from tests.inference.io.support import World, operation, settle, world


def ask(w: World, *names: str, waiter: Waiter | None = None, **fields: Any) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(w.io.call(operation(name, **fields), waiter or Waiter())) for name in names]


def names(w: World) -> list[str]:
    return [name for request in w.provider.requests for name in request.names]


# --- the bucket ------------------------------------------------------------------------------------------------------


def test_bucket_lets_its_burst_pass_and_then_its_rate() -> None:
    bucket = RateBucket(10, burst=3)
    for _ in range(3):
        assert bucket.wait(0.0) == 0.0
        bucket.take(0.0)
    assert bucket.wait(0.0) == pytest.approx(0.1)
    assert bucket.wait(0.1) == 0.0
    assert bucket.level(100.0) == pytest.approx(3)


def test_bucket_lets_what_is_larger_than_it_pass_when_full_and_paid_for_afterwards() -> None:
    bucket = RateBucket(10, burst=5)
    assert bucket.wait(0.0, 50) == 0.0
    bucket.take(0.0, 50)
    assert bucket.level(0.0) == pytest.approx(-45)
    assert bucket.wait(0.0, 1) == pytest.approx(4.6)


def test_bucket_without_rate_lets_everything_pass() -> None:
    bucket = RateBucket(0)
    bucket.take(0.0, 1e9)
    assert bucket.wait(0.0, 1e9) == 0.0 and bucket.level(0.0) == float("inf")


@given(
    rate=st.floats(0.5, 100),
    burst=st.floats(1, 50),
    asked=st.lists(st.tuples(st.floats(0, 2), st.floats(0, 10)), max_size=80),
)
def test_bucket_never_lets_more_pass_than_burst_and_rate(
    rate: float, burst: float, asked: list[tuple[float, float]]
) -> None:
    bucket = RateBucket(rate, burst)
    now, passed = 0.0, list[tuple[float, float]]()
    for pause, amount in asked:
        now += pause
        amount = min(amount, burst)
        if bucket.wait(now, amount) == 0.0:
            bucket.take(now, amount)
            passed.append((now, amount))
    for first in range(len(passed)):
        total = 0.0
        for moment, amount in passed[first:]:
            total += amount
            assert total <= burst + rate * (moment - passed[first][0]) + 1e-6


# --- concurrency -----------------------------------------------------------------------------------------------------


def test_limit_doubles_each_round_trip_until_the_first_refusal_then_grows_by_one() -> None:
    limit = ConcurrencyLimit(ConcurrencyPolicy(4, 1, 1000, decrease=0.5))
    now = 0.0
    for expected in (8, 16, 32):
        for _ in range(int(limit.value)):
            limit.succeeded(now + 1, now, 1.0, int(limit.value))
        now += 1
        assert limit.value == expected
    limit.overloaded(now, now - 0.5)
    assert limit.value == 16
    for _ in range(16):
        limit.succeeded(now + 2, now + 1, 1.0, 16)
    assert 16.9 < limit.value <= 17


def test_limit_falls_once_for_all_refusals_of_one_round_trip() -> None:
    limit = ConcurrencyLimit(ConcurrencyPolicy(100, 1, 1000, decrease=0.5))
    for _ in range(50):
        limit.overloaded(now=10.0, started_at=9.0)
    assert limit.value == 50
    limit.overloaded(now=12.0, started_at=11.0)
    assert limit.value == 25


def test_limit_keeps_its_bounds() -> None:
    limit = ConcurrencyLimit(ConcurrencyPolicy(4, 2, 6))
    for second in range(20):
        limit.succeeded(second + 1, second, 1.0, 6)
    assert limit.value == 6
    for second in range(20, 40):
        limit.overloaded(second + 1.0, second + 0.5)
    assert limit.value == 2


def test_limit_that_is_not_reached_does_not_grow() -> None:
    limit = ConcurrencyLimit(ConcurrencyPolicy(10, 1, 100))
    limit.succeeded(1.0, 0.0, 1.0, in_flight=4)
    assert limit.value == 10


def test_limit_falls_when_latency_grows_and_only_where_that_is_asked_for() -> None:
    for tolerance, falls in ((2.0, True), (0.0, False)):
        limit = ConcurrencyLimit(ConcurrencyPolicy(10, 1, 10, latency_tolerance=tolerance))
        for second in range(200):
            limit.succeeded(second + 1, second, 1.0, 10)
        assert limit.value == 10
        for second in range(200, 260):
            limit.succeeded(second + 1, second, 8.0, 10)
        assert (limit.value < 10) is falls


@pytest.mark.parametrize(
    "bad", [{"minimum": 0}, {"initial": 300}, {"decrease": 1.0}, {"latency_tolerance": 0.5}, {"latency_decrease": 0}]
)
def test_concurrency_policy_that_cannot_be_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        ConcurrencyPolicy(**bad)


# --- turns -----------------------------------------------------------------------------------------------------------


def test_queue_serves_priorities_in_order_and_namespaces_in_turn() -> None:
    queue: FairQueue[Admission] = FairQueue()
    entries = [Admission(3, "busy", 0) for _ in range(4)] + [Admission(3, "quiet", 0), Admission(1, "busy", 0)]
    for entry in entries:
        queue.push(entry)
    served = [queue.pop() for _ in range(6)]
    assert served == [entries[index] for index in (5, 0, 4, 1, 2, 3)]
    assert queue.pop() is None


def test_queue_passes_over_who_has_gone_and_puts_returners_first() -> None:
    queue: FairQueue[Admission] = FairQueue()
    first, second, back = (Admission(3, "n", 0) for _ in range(3))
    queue.push(first)
    queue.push(second)
    queue.push(back, first=True)
    second.gone = True
    assert [queue.pop(), queue.pop(), queue.pop()] == [back, first, None]


def test_queue_serves_background_work_in_the_end_however_much_else_comes() -> None:
    queue: FairQueue[Admission] = FairQueue()
    patient, forgotten = Admission(5, "n", 0), Admission(4, "n", 0)
    queue.push(patient)
    queue.push(forgotten)
    served = []
    for _ in range(PATIENCE + 3):
        queue.push(Admission(1, "n", 0))
        served.append(queue.pop())
    assert served.index(forgotten) == PATIENCE and served.index(patient) == PATIENCE + 1


@given(st.lists(st.tuples(st.integers(1, LEVELS), st.sampled_from("abc"), st.booleans()), max_size=300))
def test_queue_starves_nobody(script: list[tuple[int, str, bool]]) -> None:
    """Every level that waits is served within a bounded number of turns, and in it every namespace in order."""
    queue: FairQueue[Admission] = FairQueue()
    waiting: Counter[int] = Counter()
    passed: Counter[int] = Counter()
    order: dict[tuple[int, str], list[Admission]] = {}
    for priority, namespace, push in script:
        if push:
            entry = Admission(priority, namespace, 0)
            queue.push(entry)
            waiting[priority] += 1
            order.setdefault((priority, namespace), []).append(entry)
            continue
        served = queue.pop()
        assert (served is None) == (not waiting.total())
        if served is None:
            continue
        assert order[served.priority, served.namespace].pop(0) is served
        waiting[served.priority] -= 1
        for level in range(1, LEVELS + 1):
            passed[level] = passed[level] + 1 if waiting[level] and level != served.priority else 0
            assert passed[level] <= PATIENCE + LEVELS


async def test_background_work_of_one_tenant_waits_for_users_and_other_tenants() -> None:
    async with world(ProviderPolicy(concurrency=ConcurrencyPolicy(1, 1, 1))) as w:
        ask(w, "running")
        ask(w, "b1", "b2", waiter=Waiter(namespace="batch", priority=BACKGROUND))
        ask(w, "n1", "n2", "n3", waiter=Waiter(namespace="noisy"))
        ask(w, "q1", waiter=Waiter(namespace="quiet"))
        ask(w, "u1", waiter=Waiter(priority=HIGH))
        await settle()
        for _ in range(8):
            w.request().succeed("x")
            await settle()
        # b1 was next before anybody else came, and who is next stays so
        assert names(w) == ["running", "b1", "u1", "n1", "q1", "n2", "n3", "b2"]


# --- the gate --------------------------------------------------------------------------------------------------------


async def test_no_more_requests_at_a_time_than_the_limit() -> None:
    async with world(ProviderPolicy(concurrency=ConcurrencyPolicy(2, 1, 2), retry=RetryPolicy(attempts=1))) as w:
        tasks = ask(w, *"abcd")
        await settle()
        assert names(w) == ["a", "b"]
        w.request(0).succeed("A")
        await settle()
        assert names(w) == ["a", "b", "c"]
        assert w.io.stats().providers["p"].queued == 1
        w.request(1).fail()
        await settle()
        assert names(w) == ["a", "b", "c", "d"]
        for request in w.provider.requests[2:]:
            request.succeed("x")
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_requests_per_second_are_kept_to() -> None:
    async with world(ProviderPolicy(requests_per_second=10, request_burst=2)) as w:
        ask(w, *"abcdef")
        await settle()
        assert names(w) == ["a", "b"]
        await w.advance(0.1)
        assert names(w) == ["a", "b", "c"]
        await w.advance(0.2)
        assert names(w) == ["a", "b", "c", "d", "e"]


async def test_tokens_per_second_are_kept_to_and_corrected_by_what_was_spent() -> None:
    async with world(ProviderPolicy(tokens_per_second=100, token_burst=100)) as w:
        tasks = ask(w, "a", "b", tokens=60)
        await settle()
        assert names(w) == ["a"]
        w.request().succeed("A", tokens=160)  # a hundred more than was thought
        assert await tasks[0] == "A"
        await w.advance(1.15)
        assert names(w) == ["a"]
        await w.advance(0.1)
        assert names(w) == ["a", "b"]
        assert w.io.stats().providers["p"].tokens == 160


async def test_refused_request_gives_its_tokens_back() -> None:
    async with world(ProviderPolicy(tokens_per_second=10, token_burst=100, retry=RetryPolicy(attempts=1))) as w:
        ask(w, "a", tokens=100)
        await settle()
        w.request().fail(AmxError(14, "PROVIDER_UNREACHABLE", "no"))
        await settle()
        assert w.io.stats().providers["p"].tokens_left == 100


async def test_pause_that_a_provider_asks_for_holds_for_everybody() -> None:
    async with world(ProviderPolicy(retry=RetryPolicy(attempts=1, rate_limited_attempts=1))) as w:
        ask(w, "a")
        await settle()
        w.request().fail(exhausted("PROVIDER_RATE_LIMITED", "slow down", retry_delay_ms=2000))
        await settle()
        ask(w, "b", "c")
        await w.advance(1.9)
        assert names(w) == ["a"]
        assert w.io.stats().providers["p"].paused_seconds == pytest.approx(0.1)
        await w.advance(0.1)
        assert names(w) == ["a", "b", "c"]


async def test_limit_follows_refusals_and_recovers() -> None:
    policy = ProviderPolicy(
        concurrency=ConcurrencyPolicy(8, 1, 8, decrease=0.5),
        retry=RetryPolicy(attempts=1, rate_limited_attempts=1),
    )
    async with world(policy) as w:
        ask(w, *map(str, range(8)))
        await w.advance(1)
        for request in list(w.provider.open):
            request.fail(exhausted("PROVIDER_OVERLOADED", "too much", retry_delay_ms=0))
        await w.advance(1)
        assert w.io.stats().providers["p"].concurrency_limit == 4
        number = 100
        for _ in range(40):
            ask(w, *map(str, range(number, number + 8)))
            number += 8
            await w.advance(1)
            for request in list(w.provider.open):
                request.succeed("x")
            await settle()
        assert w.io.stats().providers["p"].concurrency_limit == 8


async def test_who_leaves_the_queue_at_its_turn_passes_it_on() -> None:
    async with world(ProviderPolicy(concurrency=ConcurrencyPolicy(1, 1, 1))) as w:
        a, b, c = ask(w, *"abc", waiter=Waiter(priority=CRITICAL))
        await settle()
        w.request().succeed("A")
        b.cancel()
        await settle()
        assert await a == "A"
        assert names(w) == ["a", "c"]
        w.request().succeed("C")
        assert await c == "C"
        assert w.io.stats().providers["p"].in_flight == 0


# --- background work while the engine is busy ------------------------------------------------------------------------

BATCH = Waiter(namespace="batch", priority=BACKGROUND)


async def test_throttled_background_work_leaves_its_part_of_the_places_to_others() -> None:
    async with world(ProviderPolicy(concurrency=ConcurrencyPolicy(4, 1, 4))) as w:
        w.io.throttle(0.5)
        ask(w, "b1", "b2", "b3", waiter=BATCH)
        await settle()
        assert names(w) == ["b1", "b2"]
        ask(w, "n1", "n2", "n3")
        await settle()
        assert names(w) == ["b1", "b2", "n1", "n2"]
        for _ in range(2):
            w.provider.open[0].succeed("x")
            await settle()
        assert names(w) == ["b1", "b2", "n1", "n2", "n3"]  # b3 waits until less than half is in use
        w.provider.open[0].succeed("x")
        w.provider.open[1].succeed("x")
        await settle()
        assert names(w)[-1] == "b3"


async def test_background_work_goes_on_one_by_one_however_much_it_is_throttled() -> None:
    async with world(ProviderPolicy(concurrency=ConcurrencyPolicy(4, 1, 4))) as w:
        w.io.throttle(0.0)
        ask(w, "b1", "b2", waiter=BATCH)
        await settle()
        assert names(w) == ["b1"]
        w.request().succeed("x")
        await settle()
        assert names(w) == ["b1", "b2"]


async def test_background_work_that_waited_goes_on_when_it_is_throttled_no_longer() -> None:
    async with world(ProviderPolicy(concurrency=ConcurrencyPolicy(4, 1, 4))) as w:
        w.io.throttle(0.25)
        ask(w, "b1", "b2", "b3", waiter=BATCH)
        await settle()
        assert names(w) == ["b1"]
        w.io.throttle(1.0)
        await settle()
        assert names(w) == ["b1", "b2", "b3"]


async def test_background_work_that_was_next_lets_others_pass_when_it_is_throttled() -> None:
    async with world(ProviderPolicy(concurrency=ConcurrencyPolicy(2, 1, 2))) as w:
        ask(w, "a", "b")
        ask(w, "b1", waiter=BATCH)
        await settle()
        w.io.throttle(0.5)
        ask(w, "n1")
        w.request(0).succeed("x")
        await settle()
        assert names(w) == ["a", "b", "n1"]
        assert w.io.stats().providers["p"].queued == 1
