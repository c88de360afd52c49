"""Answers are given again within their time and the cache's size, and what is asked for is asked for once."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx_server.core.errors import AmxError
from amx_server.inference.io import IoConfig, Response, address, canonical_json
from amx_server.inference.io.cache import ENTRY_BYTES, ResponseCache
from tests.inference.io.support import ended, operation, settle, world


def response(size: int = 10) -> Response[str]:
    return Response("x" * size, size)


def test_cache_gives_an_answer_until_its_time_is_over() -> None:
    cache = ResponseCache(10_000, 10)
    assert cache.put("p", b"k", response(), [], [], expires_at=5.0)
    assert cache.get("p", b"k", 4.9) is not None
    assert cache.get("q", b"k", 4.9) is None
    assert cache.get("p", b"k", 5.0) is None
    assert (len(cache), cache.bytes, cache.hits, cache.misses, cache.expirations) == (0, 0, 1, 2, 1)


def test_cache_evicts_the_least_recently_used_by_bytes_and_by_number() -> None:
    for cache in (ResponseCache(4 * (ENTRY_BYTES + 11), 100), ResponseCache(1 << 20, 4)):
        for name in (b"a", b"b", b"c", b"d"):
            cache.put("p", name, response(), [], [], 100.0)
        assert cache.get("p", b"a", 0.0) is not None
        cache.put("p", b"e", response(), [], [], 100.0)
        assert [cache.get("p", name, 0.0) is not None for name in (b"a", b"b", b"c", b"d", b"e")] == [
            True,
            False,
            True,
            True,
            True,
        ]
        assert cache.evictions == 1


def test_cache_refuses_what_would_push_out_too_much() -> None:
    cache = ResponseCache(10_000, 10)
    assert not cache.put("p", b"k", response(3000), [], [], 5.0)
    assert not cache.put("p", b"k", response(), ["part"], [3000], 5.0)
    assert not ResponseCache(0, 10).put("p", b"k", response(0), [], [], 5.0)


def test_cache_forgets_one_answer_or_a_provider() -> None:
    cache = ResponseCache(10_000, 10)
    for provider in "pq":
        for key in (b"a", b"b"):
            cache.put(provider, key, response(), [], [], 5.0)
    assert (cache.forget("p", b"a"), cache.forget("p", b"a"), cache.forget("p"), len(cache)) == (1, 0, 1, 2)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "get", "wait"]), st.integers(0, 5), st.integers(0, 1200)), max_size=60
    ),
    max_bytes=st.integers(0, 8000),
    max_entries=st.integers(0, 4),
)
def test_cache_keeps_its_bounds_and_gives_only_the_latest_answer_in_time(
    steps: list[tuple[str, int, int]], max_bytes: int, max_entries: int
) -> None:
    cache = ResponseCache(max_bytes, max_entries)
    now, latest = 0.0, dict[bytes, tuple[Response[str], float]]()
    for step, number, size in steps:
        key = bytes([number])
        if step == "wait":
            now += size / 100
        elif step == "put":
            answer = response(size)
            kept = cache.put("p", key, answer, [], [], now + 5)
            if kept:
                latest[key] = (answer, now + 5)
        elif (found := cache.get("p", key, now)) is not None:
            assert (found.response, found.expires_at) == latest[key] and found.expires_at > now
        assert cache.bytes <= max_bytes and len(cache) <= max_entries


async def test_answer_within_its_ttl_is_given_without_asking() -> None:
    async with world() as w:
        task = asyncio.create_task(w.io.call(operation(ttl=10)))
        await settle()
        w.request().succeed("answer")
        assert await task == "answer"
        await w.advance(9.9)
        assert await w.io.call(operation(ttl=10)) == "answer"
        assert (len(w.provider.requests), w.io.stats().cache_hits, w.io.stats().operations) == (1, 1, 2)
        await w.advance(0.1)
        again = asyncio.create_task(w.io.call(operation(ttl=10)))
        await settle()
        assert len(w.provider.requests) == 2
        w.request().succeed("newer")
        assert await again == "newer"


async def test_answer_in_parts_is_given_again_in_the_same_parts() -> None:
    async with world() as w:
        async with w.io.stream(operation(ttl=10)) as stream:
            await settle()
            for part in (b"one", b"two"):
                await w.request().calls[0].emit(part, 3)
            w.request().succeed("onetwo")
            assert [part async for part in stream] == [b"one", b"two"]
        async with w.io.stream(operation(ttl=10)) as stream:
            with pytest.raises(RuntimeError, match="read it to the end"):
                _ = w.io.stream(operation("other")).result
            assert [part async for part in stream] == [b"one", b"two"]
            assert stream.result == "onetwo"
        assert await w.io.call(operation(ttl=10)) == "onetwo"


@pytest.mark.parametrize("how", ["failure", "not cacheable", "no ttl", "no key"])
async def test_what_may_not_be_given_again_is_asked_for_again(how: str) -> None:
    asked = operation(shared=how != "no key", ttl=0.0 if how == "no ttl" else 10.0)
    async with world() as w:
        for _ in range(2):
            task = asyncio.create_task(w.io.call(asked))
            await settle()
            if how == "failure":
                w.request().fail()
                assert isinstance(await ended(task), AmxError)
            elif how == "not cacheable":
                w.request().outcome.set_result([Response("x", 1, cacheable=False)])
                await task
            else:
                w.request().succeed("x")
                await task
        assert len(w.provider.requests) == 2


async def test_forgotten_answer_is_asked_for_again() -> None:
    async with world(config=IoConfig(cache_bytes=100_000)) as w:
        for _ in range(2):
            task = asyncio.create_task(w.io.call(operation(ttl=10)))
            await settle()
            w.request().succeed("x")
            await task
            assert w.io.forget(operation(ttl=10))
        assert len(w.provider.requests) == 2


def test_address_depends_on_every_part_and_on_where_it_ends() -> None:
    assert address("ab", "c") != address("a", "bc") != address("abc")
    assert address("a") == address(b"a") and len(address()) == 32
    assert address("a", "") != address("a")


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": [{"d": 1, "c": 2}]}) == b'{"a":[{"c":2,"d":1}],"b":1}'
