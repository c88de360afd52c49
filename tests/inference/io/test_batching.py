"""Operations of one group travel together: when they are enough, or when the first has waited long enough."""

from __future__ import annotations

import asyncio
from typing import Any

from amx_server.core.errors import AmxError, invalid
from amx_server.inference.io import BatchPolicy, ProviderPolicy, RetryPolicy
from tests.inference.io.support import FAILURE, World, ended, operation, settle, world


def policy(**batch: Any) -> ProviderPolicy:
    return ProviderPolicy(
        batch=BatchPolicy(**{"max_items": 3, "max_wait": 0.01, **batch}),
        retry=RetryPolicy(attempts=2, initial_backoff=1.0),
    )


def ask(w: World, *names: str, batch: str = "embed", **fields: Any) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(w.io.call(operation(name, batch=batch, **fields))) for name in names]


async def test_group_travels_when_it_is_full() -> None:
    async with world(policy()) as w:
        tasks = ask(w, "a", "b", "c", "d")
        await settle()
        assert [request.names for request in w.provider.requests] == [["a", "b", "c"]]
        assert w.io.stats().providers["p"].collecting == 1
        w.request().succeed("A", "B", "C")
        await w.advance(0.01)
        assert w.request().names == ["d"]
        w.request().succeed("D")
        assert await asyncio.gather(*tasks) == ["A", "B", "C", "D"]
        stats = w.io.stats().providers["p"]
        assert (stats.requests, stats.operations, stats.batches, stats.batched) == (2, 4, 1, 3)


async def test_group_travels_when_its_first_has_waited() -> None:
    async with world(policy()) as w:
        ask(w, "a")
        await w.advance(0.006)
        ask(w, "b")
        await w.advance(0.005)
        assert [request.names for request in w.provider.requests] == [["a", "b"]]


async def test_group_travels_before_it_would_hold_too_many_tokens() -> None:
    async with world(policy(max_tokens=10, max_items=100)) as w:
        ask(w, "a", "b", tokens=4)
        await settle()
        ask(w, "c", tokens=7)
        await settle()
        ask(w, "d", tokens=3)
        await settle()
        assert [request.names for request in w.provider.requests] == [["a", "b"], ["c", "d"]]


async def test_groups_and_single_operations_do_not_mix() -> None:
    async with world(policy()) as w:
        ask(w, "a", "b", batch="one")
        ask(w, "c", batch="two")
        ask(w, "d", batch="")
        await settle()
        assert [request.names for request in w.provider.requests] == [["d"]]
        await w.advance(0.01)
        assert [request.names for request in w.provider.requests[1:]] == [["a", "b"], ["c"]]


async def test_identical_operations_take_one_place() -> None:
    async with world(policy()) as w:
        tasks = ask(w, "a", "a", "b", "a", "c")
        await settle()
        assert w.request().names == ["a", "b", "c"]
        w.request().succeed("A", "B", "C")
        assert await asyncio.gather(*tasks) == ["A", "A", "B", "A", "C"]


async def test_one_failure_in_a_batch_is_its_own() -> None:
    async with world(policy()) as w:
        tasks = ask(w, "a", "b", "c")
        await settle()
        w.request().succeed("A", invalid("BAD_INPUT", "no"), "C")
        assert (await tasks[0], await tasks[2]) == ("A", "C")
        error = await ended(tasks[1])
        assert isinstance(error, AmxError) and error.reason == "BAD_INPUT"


async def test_failed_batch_is_repeated_without_those_who_left() -> None:
    async with world(policy()) as w:
        tasks = ask(w, "a", "b", "c", tokens=5)
        await settle()
        w.request().fail(FAILURE)
        await settle()
        tasks[1].cancel()
        await w.advance(1.0)
        assert w.request().names == ["a", "c"]
        w.request().succeed("A", "C")
        assert (await tasks[0], await tasks[2]) == ("A", "C")


async def test_who_leaves_while_the_group_collects_does_not_travel() -> None:
    async with world(policy()) as w:
        a, b = ask(w, "a", "b")
        await settle()
        a.cancel()
        await settle()
        assert w.io.stats().providers["p"].collecting == 1
        await w.advance(0.01)
        assert w.request().names == ["b"]
        w.request().succeed("B")
        assert await b == "B"
        (c,) = ask(w, "c")
        await settle()
        c.cancel()
        await w.advance(0.02)
        assert len(w.provider.requests) == 1


async def test_batch_is_cancelled_when_all_have_left_and_not_before() -> None:
    async with world(policy()) as w:
        tasks = ask(w, "a", "b", "c")
        await settle()
        for task in tasks[:2]:
            task.cancel()
        await settle()
        assert not w.request().cancelled
        tasks[2].cancel()
        await settle()
        assert w.request().cancelled


async def test_wrong_number_of_outcomes_is_the_providers_mistake() -> None:
    async with world(policy()) as w:
        tasks = ask(w, "a", "b", "c")
        await settle()
        w.request().succeed("A", "B")
        await w.advance(1.0)
        w.request().succeed("A")
        errors = [await ended(task) for task in tasks]
        assert all(isinstance(error, AmxError) and error.reason == "PROVIDER_MALFORMED" for error in errors)


async def test_waiter_that_runs_out_of_time_while_the_group_collects_hears_so() -> None:
    async with world(policy(max_wait=60.0)) as w:
        task = asyncio.create_task(w.io.call(operation(batch="embed"), timeout=1))
        await w.advance(1)
        error = await ended(task)
        assert isinstance(error, AmxError) and "waiting for others to travel with" in error.message
        assert not w.provider.requests and w.io.stats().providers["p"].collecting == 0
