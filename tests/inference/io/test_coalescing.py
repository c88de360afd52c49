"""Identical requests are one request: who asks for what is under way joins it, and nobody's end is another's."""

from __future__ import annotations

import asyncio

import pytest

from amx_server.core.errors import AmxError
from amx_server.inference.io import BACKGROUND, CRITICAL, ConcurrencyPolicy, IoConfig, ProviderPolicy, Waiter
from tests.inference.io.support import FAILURE, ended, operation, settle, world


async def test_identical_requests_are_one_request_with_one_answer_for_all() -> None:
    async with world() as w:
        tasks = [asyncio.create_task(w.io.call(operation(), Waiter(f"a/{n}"))) for n in range(50)]
        await settle()
        assert len(w.provider.requests) == 1
        assert w.io.stats().waiting == 50 and w.io.stats().in_flight == 1
        w.request().succeed("answer")
        assert await asyncio.gather(*tasks) == ["answer"] * 50
        assert (w.io.stats().operations, w.io.stats().coalesced) == (50, 49)
        assert w.io.stats().waiting == w.io.stats().in_flight == 0


async def test_different_requests_and_requests_without_address_are_not_joined() -> None:
    async with world() as w:
        operations = [operation("a"), operation("b"), operation("c", shared=False), operation("c", shared=False)]
        tasks = [asyncio.create_task(w.io.call(each)) for each in operations]
        await settle()
        assert [request.names for request in w.provider.requests] == [["a"], ["b"], ["c"], ["c"]]
        for request in w.provider.requests:
            request.succeed(request.names[0])
        assert await asyncio.gather(*tasks) == ["a", "b", "c", "c"]


async def test_failure_reaches_every_waiter_as_an_error_of_its_own() -> None:
    async with world() as w:
        tasks = [asyncio.create_task(w.io.call(operation())) for _ in range(3)]
        await settle()
        w.request().fail()
        errors = [await ended(task) for task in tasks]
        assert [error.reason for error in errors if isinstance(error, AmxError)] == ["PROVIDER_FAILED"] * 3
        assert len({id(error) for error in errors}) == 3
        assert w.io.stats().failures == {"PROVIDER_FAILED": 3}


async def test_next_call_after_the_end_asks_again() -> None:
    async with world() as w:
        for number in range(3):
            task = asyncio.create_task(w.io.call(operation()))
            await settle()
            w.request().succeed(number)
            assert await task == number  # type: ignore[comparison-overlap]
        assert len(w.provider.requests) == 3


async def test_waiter_that_leaves_is_not_missed_by_the_others() -> None:
    async with world() as w:
        first, second = (asyncio.create_task(w.io.call(operation())) for _ in range(2))
        await settle()
        first.cancel()
        await settle()
        assert first.cancelled() and not w.request().cancelled
        w.request().succeed("answer")
        assert await second == "answer"


async def test_last_waiter_that_leaves_cancels_the_request() -> None:
    async with world() as w:
        tasks = [asyncio.create_task(w.io.call(operation())) for _ in range(2)]
        await settle()
        for task in tasks:
            task.cancel()
        await settle()
        assert w.request().cancelled and not w.provider.open
        stats = w.io.stats()
        assert (stats.cancelled, stats.in_flight, stats.waiting) == (1, 0, 0)
        assert stats.providers["p"].in_flight == 0 and stats.providers["p"].cancelled == 1


async def test_request_after_a_cancelled_one_waits_until_that_is_over() -> None:
    async with world() as w:
        w.provider.ending = asyncio.get_running_loop().create_future()
        left = asyncio.create_task(w.io.call(operation()))
        await settle()
        left.cancel()
        await settle()
        nobody = asyncio.create_task(w.io.call(operation()))
        await settle()
        nobody.cancel()  # leaves as well, while the first is still ending
        await settle()
        third = asyncio.create_task(w.io.call(operation()))
        await settle()
        assert len(w.provider.requests) == 1
        w.provider.ending.set_result(None)
        await settle()
        assert len(w.provider.requests) == 2
        w.request().succeed("answer")
        assert await third == "answer"
        assert max(w.provider.most_running.values()) == 1


async def test_request_that_waits_for_its_turn_is_not_sent_when_nobody_waits_for_it() -> None:
    async with world(ProviderPolicy(concurrency=ConcurrencyPolicy(1, 1, 1))) as w:
        tasks = [asyncio.create_task(w.io.call(operation(name))) for name in "ab"]
        await settle()
        assert w.io.stats().providers["p"].queued == 1
        tasks[1].cancel()
        await settle()
        assert w.io.stats().providers["p"].queued == 0
        w.request().succeed("a")
        await settle()
        assert len(w.provider.requests) == 1


async def test_deadline_ends_one_waiter_and_names_what_it_waited_for() -> None:
    async with world(ProviderPolicy(concurrency=ConcurrencyPolicy(1, 1, 1))) as w:
        short = asyncio.create_task(w.io.call(operation(), timeout=1))
        long = asyncio.create_task(w.io.call(operation(), timeout=10))
        queued = asyncio.create_task(w.io.call(operation("b"), timeout=1))
        await w.advance(1.5)
        errors = [await ended(short), await ended(queued)]
        assert all(isinstance(error, AmxError) and error.reason == "OPERATION_DEADLINE" for error in errors)
        assert "within 1 s; it was under way, attempt 1" in str(errors[0])
        assert "waiting for its turn" in str(errors[1])
        w.request().succeed("answer")
        assert await long == "answer"


async def test_deadline_of_the_last_waiter_cancels_the_request() -> None:
    async with world() as w:
        task = asyncio.create_task(w.io.call(operation(), timeout=1))
        await w.advance(1)
        assert isinstance(await ended(task), AmxError)
        assert w.request().cancelled


async def test_urgent_waiter_that_joins_takes_the_request_forward() -> None:
    async with world(ProviderPolicy(concurrency=ConcurrencyPolicy(1, 1, 1))) as w:
        running = asyncio.create_task(w.io.call(operation("running")))
        background = [asyncio.create_task(w.io.call(operation(f"b{n}"), Waiter(priority=BACKGROUND))) for n in range(5)]
        await settle()
        urgent = asyncio.create_task(w.io.call(operation("b3"), Waiter(priority=CRITICAL)))
        await settle()
        w.request().succeed("running")
        await settle()
        assert w.request().names == ["b0"]  # it was next already
        w.request().succeed("b0")
        await settle()
        assert w.request().names == ["b3"]
        w.request().succeed("b3")
        assert await urgent == "b3"
        for _ in range(3):
            await settle()
            w.request().succeed("rest")
        await asyncio.gather(running, *background)


async def test_unknown_provider_is_named_with_those_there_are() -> None:
    async with world() as w:
        unknown = operation()
        object.__setattr__(unknown, "provider", "q")
        with pytest.raises(AmxError, match=r"no provider is called 'q'; there are: p"):
            await w.io.call(unknown)


async def test_bounds_refuse_by_name() -> None:
    policy = ProviderPolicy(concurrency=ConcurrencyPolicy(1, 1, 1), max_queued=1)
    async with world(policy, IoConfig(max_waiters=4)) as w:
        tasks = [asyncio.create_task(w.io.call(operation(name))) for name in ("a", "b")]
        await settle()
        with pytest.raises(AmxError) as raised:
            await w.io.call(operation("c"))
        assert raised.value.reason == "PROVIDER_QUEUE_FULL" and raised.value.retryable
        tasks += [asyncio.create_task(w.io.call(operation(name))) for name in ("a", "b")]  # joining needs no place
        await settle()
        with pytest.raises(AmxError) as raised:
            await w.io.call(operation("a"))
        assert raised.value.reason == "IO_WAITERS_FULL"
        for name in ("a", "b"):
            w.request().succeed(name)
            await settle()
        assert await asyncio.gather(*tasks) == ["a", "b", "a", "b"]


async def test_manager_that_is_left_ends_every_waiter_and_every_request() -> None:
    async with world(ProviderPolicy(concurrency=ConcurrencyPolicy(1, 1, 1))) as w:
        tasks = [asyncio.create_task(w.io.call(operation(name))) for name in "aab"]
        await settle()
    errors = [await ended(task) for task in tasks]
    assert [error.reason for error in errors if isinstance(error, AmxError)] == ["IO_CLOSED"] * 3
    assert w.request().cancelled and not w.provider.open
    with pytest.raises(AmxError, match="has stopped"):
        await w.io.call(operation())


async def test_provider_that_is_removed_ends_what_waits_for_it() -> None:
    async with world() as w:
        task = asyncio.create_task(w.io.call(operation()))
        await settle()
        await w.io.remove("p")
        error = await ended(task)
        assert isinstance(error, AmxError) and error.reason == "PROVIDER_REMOVED"
        assert w.request().cancelled
        with pytest.raises(AmxError, match="none is registered"):
            await w.io.call(operation())


async def test_provider_that_raises_anything_else_is_a_defect_with_its_name() -> None:
    async with world() as w:
        task = asyncio.create_task(w.io.call(operation()))
        await settle()
        w.request().fail(ZeroDivisionError("one by zero"))
        error = await ended(task)
        assert isinstance(error, AmxError) and error.reason == "PROVIDER_DEFECT" and not error.retryable
        assert "'p' raised ZeroDivisionError: one by zero" in error.message


async def test_provider_that_is_cancelled_from_inside_is_a_defect_and_leaves_nobody_waiting() -> None:
    async with world() as w:
        task = asyncio.create_task(w.io.call(operation()))
        await settle()
        w.request().outcome.cancel()
        error = await ended(task)
        assert isinstance(error, AmxError) and error.reason == "PROVIDER_DEFECT"
        assert w.io.stats().providers["p"].in_flight == 0


async def test_failure_object_of_a_provider_is_never_raised_twice() -> None:
    async with world() as w:
        task = asyncio.create_task(w.io.call(operation()))
        await settle()
        w.request().fail(FAILURE)
        assert await ended(task) is not FAILURE
