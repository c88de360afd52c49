"""One answer in parts for many readers: late ones get what came before, slow ones hold up nobody, leaving is free."""

from __future__ import annotations

import asyncio

import pytest

from amx_server.core.errors import AmxError
from amx_server.inference.io import IoConfig, ProviderPolicy, RetryPolicy, Stream
from tests.inference.io.support import FAILURE, World, ended, operation, settle, world

SMALL = IoConfig(stream_window_bytes=100, max_lag_bytes=1000, max_response_bytes=10_000)


async def read(stream: Stream[str, bytes]) -> list[bytes]:
    async with stream:
        return [part async for part in stream]


async def emit(w: World, *parts: bytes) -> None:
    for part in parts:
        await w.request().calls[0].emit(part, len(part))
    await settle()


async def test_every_reader_gets_every_part_however_late_it_came() -> None:
    async with world() as w:
        early = asyncio.create_task(read(w.io.stream(operation())))
        await settle()
        await emit(w, b"one", b"two")
        late = asyncio.create_task(read(w.io.stream(operation())))
        await emit(w, b"three")
        whole = asyncio.create_task(w.io.call(operation()))
        await settle()
        w.request().succeed("one two three")
        assert await early == await late == [b"one", b"two", b"three"]
        assert await whole == "one two three"
        assert len(w.provider.requests) == 1 and w.io.stats().buffered_bytes == 0


async def test_parts_arrive_before_the_end() -> None:
    async with world() as w, w.io.stream(operation()) as stream:
        await settle()
        await emit(w, b"one")
        assert await anext(stream) == b"one"
        waiting = asyncio.ensure_future(anext(stream))
        await settle()
        assert not waiting.done()
        await emit(w, b"two")
        assert await waiting == b"two"
        w.request().succeed("all")
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert stream.result == "all"


async def test_thousand_readers_are_woken_a_few_in_each_round_of_the_loop() -> None:
    async with world() as w:
        tasks = [asyncio.create_task(read(w.io.stream(operation()))) for _ in range(1000)]
        await settle()
        await w.request().calls[0].emit(b"part", 4)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        read_so_far = sum(ticket.position == 1 for ticket in w.io._tickets)
        assert 0 < read_so_far < 1000
        await settle(40)
        assert all(ticket.position == 1 for ticket in w.io._tickets)
        w.request().succeed("all")
        assert await asyncio.gather(*tasks) == [[b"part"]] * 1000


async def test_failure_comes_after_the_parts_that_came() -> None:
    async with world() as w, w.io.stream(operation()) as stream:
        await settle()
        await emit(w, b"one", b"two")
        w.request().fail()
        await settle()
        assert [await anext(stream), await anext(stream)] == [b"one", b"two"]
        with pytest.raises(AmxError, match="it failed"):
            await anext(stream)


async def test_last_reader_that_leaves_cancels_the_request() -> None:
    async with world() as w:
        async with w.io.stream(operation()) as first, w.io.stream(operation()) as second:
            await settle()
            await emit(w, b"one")
            assert await anext(first) == b"one"
            second.close()
            assert [part async for part in second] == [b"one"]  # what had come by then
        await settle()
        assert w.request().cancelled
        assert w.io.stats().buffered_bytes == 0 and w.io.stats().waiting == 0


async def test_provider_is_read_no_faster_than_the_fastest_reader() -> None:
    async with world(config=SMALL) as w, w.io.stream(operation()) as fast, w.io.stream(operation()) as slow:
        await settle()
        emitting = asyncio.create_task(emit(w, *[b"x" * 50] * 10))
        await settle()
        assert w.io.stats().buffered_bytes == 150  # the window is full
        for _ in range(4):
            await anext(fast)
        await settle()
        assert w.io.stats().buffered_bytes == 350
        fast.close()
        await settle()
        assert w.io.stats().buffered_bytes == 350  # the slow one is the fastest now
        for _ in range(10):
            await anext(slow)
        await emitting


async def test_provider_waits_for_a_slow_reader_when_the_fast_one_has_left() -> None:
    async with world(config=SMALL) as w, w.io.stream(operation()) as fast, w.io.stream(operation()) as slow:
        await settle()
        for _ in range(10):
            await emit(w, b"x" * 50)
            await anext(fast)
        fast.close()
        emitting = asyncio.create_task(emit(w, b"y" * 50, b"z" * 50))
        await settle()
        assert w.io.stats().buffered_bytes == 550
        for _ in range(11):
            await anext(slow)
        await emitting
        assert await anext(slow) == b"z" * 50


async def test_whole_answers_are_not_held_up_by_readers() -> None:
    async with world(config=SMALL) as w, w.io.stream(operation()) as slow:
        whole = asyncio.create_task(w.io.call(operation()))
        await settle()
        await emit(w, *[b"x" * 50] * 10)
        w.request().succeed("all")
        assert await whole == "all"
        assert len([part async for part in slow]) == 10


async def test_reader_far_behind_the_others_is_left_behind_with_what_it_had() -> None:
    async with world(config=SMALL) as w:
        slow = w.io.stream(operation())
        whole = asyncio.create_task(w.io.call(operation()))
        await settle()
        await emit(w, *[b"x" * 50] * 10)
        late = w.io.stream(operation())  # what it finds is not held against it
        await emit(w, *[b"x" * 50] * 20)
        for _ in range(30):
            await anext(slow)
        with pytest.raises(AmxError, match="bytes behind") as raised:
            await anext(slow)
        assert raised.value.reason == "STREAM_LAGGING"
        w.request().succeed("all")
        assert await whole == "all"
        assert len(await read(late)) == 30


async def test_answer_beyond_its_bound_ends_the_request() -> None:
    async with world(config=SMALL) as w:
        task = asyncio.create_task(w.io.call(operation()))
        await settle()
        await emit(w, *[b"x" * 1000] * 10)
        with pytest.raises(AmxError) as raised:
            await emit(w, b"x")
        w.request().fail(raised.value)
        error = await ended(task)
        assert isinstance(error, AmxError) and error.reason == "RESPONSE_TOO_LARGE"


async def test_full_buffers_refuse_new_operations_until_streams_end() -> None:
    config = IoConfig(max_buffered_bytes=100)
    async with world(config=config) as w:
        async with w.io.stream(operation()) as stream:
            await settle()
            await emit(w, b"x" * 100)
            with pytest.raises(AmxError) as raised:
                await w.io.call(operation("b"))
            assert raised.value.reason == "IO_BUFFERS_FULL"
            stream.close()
        task = asyncio.create_task(w.io.call(operation("b")))
        await settle()
        w.request().succeed("b")
        assert await task == "b"


async def test_repeat_after_parts_is_seen_by_nobody_who_saw_any() -> None:
    policy = ProviderPolicy(retry=RetryPolicy(attempts=2, initial_backoff=1.0))
    async with world(policy) as w:
        saw = w.io.stream(operation())
        not_yet = w.io.stream(operation())
        whole = asyncio.create_task(w.io.call(operation()))
        await settle()
        await emit(w, b"old one", b"old two")
        assert await anext(saw) == b"old one"
        w.request().fail(FAILURE)
        await w.advance(1.0)
        await emit(w, b"new")
        w.request().succeed("new")
        assert await anext(saw) == b"old two"
        with pytest.raises(AmxError) as raised:
            await anext(saw)
        assert raised.value.reason == "STREAM_INTERRUPTED" and raised.value.retryable
        assert await read(not_yet) == [b"new"]
        assert await whole == "new"


async def test_repeat_is_not_made_when_everybody_saw_parts() -> None:
    policy = ProviderPolicy(retry=RetryPolicy(attempts=2))
    async with world(policy) as w, w.io.stream(operation()) as stream:
        await settle()
        await emit(w, b"one")
        assert await anext(stream) == b"one"
        w.request().fail(FAILURE)
        await w.advance(10)
        assert len(w.provider.requests) == 1
        with pytest.raises(AmxError, match="broke off: it failed"):
            await anext(stream)


async def test_reader_that_does_not_read_is_ended_by_its_deadline() -> None:
    async with world() as w:
        stream = w.io.stream(operation(), timeout=5)
        await settle()
        await emit(w, b"one")
        w.request().succeed("all")
        await w.advance(5)
        assert w.io.stats().buffered_bytes == 0
        assert await anext(stream) == b"one"
        with pytest.raises(AmxError, match="not read to its end"):
            await anext(stream)
