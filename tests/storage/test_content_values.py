"""Large values by address: kept before the commit, released when no row has them any more, whole after every crash."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from amx_server.core.errors import AmxError
from amx_server.memory.blobs import ContentBlobs
from amx_server.memory.content import ContentOptions, ContentStore, Owner, Quotas, address_of
from amx_server.memory.content.errors import disk_full
from amx_server.storage import MessageState, Store, StoredAgent, open_store
from tests.storage.support import Session, message, row

ONE = ("default", "greeter", "one")
TWO = ("default", "greeter", "two")
GREETER = Owner("default", "greeter")
LARGE = b"L" * 2000
OTHER = b"O" * 3000
SMALL = ContentOptions(hot_bytes=1 << 20, warm_bytes=1 << 20, index_bytes=1 << 20)


@contextmanager
def blobs_of(folder: Path | None, options: ContentOptions = SMALL) -> Iterator[ContentBlobs]:
    with ContentBlobs(folder, options, 1024) as blobs:
        yield blobs


@asynccontextmanager
async def opened(tmp_path: Path, options: ContentOptions = SMALL) -> AsyncIterator[tuple[Store, ContentStore]]:
    with blobs_of(tmp_path / "content", options) as blobs:
        async with open_store(str(tmp_path / "amx.db"), blobs=blobs) as store:
            yield store, blobs.store


async def put(store: Store, instance: tuple[str, str, str], version: int, name: str, value: bytes) -> None:
    await Session(store).commit(
        memory_put=((*instance, row(name, value=value, version=version)),),
        memory_version=((*instance, version, version, "", 1),),
    )


async def remove(store: Store, instance: tuple[str, str, str], version: int, name: str) -> None:
    await Session(store).commit(
        memory_remove=((*instance, name, "", version),), memory_version=((*instance, version, version, "", 1),)
    )


def counts(content: ContentStore, *values: bytes) -> list[int]:
    return [content.references(address_of(value)) for value in values]


async def test_large_values_are_stored_once_and_read_as_one_object(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, content):
        await put(store, ONE, 1, "a", LARGE)
        await put(store, TWO, 1, "a", bytes(bytearray(LARGE)))
        await put(store, TWO, 2, "b", b"small")
        first, second = await store.memory(*ONE), await store.memory(*TWO)
        assert first[0].value == LARGE and first[0].value is second[0].value
        assert [found.value for found in second] == [LARGE, b"small"]
        assert counts(content, LARGE, b"small") == [2, 0]
        assert content.held(GREETER) == 2 * len(LARGE)
        assert await store.stored_bytes() == {"default": 2 * len(LARGE) + 5}
    async with opened(tmp_path) as (store, content):
        assert [found.value for found in await store.memory(*TWO)] == [LARGE, b"small"]
        assert counts(content, LARGE) == [2]


async def test_replaced_value_is_released_when_its_versions_are_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, content):
        await put(store, ONE, 1, "a", LARGE)
        await put(store, ONE, 2, "a", OTHER)
        await remove(store, ONE, 3, "a")
        assert counts(content, LARGE, OTHER) == [1, 1]
        assert (await store.memory_at(*ONE, 1)).rows[0].value == LARGE
        await store.create_snapshot(*ONE, "kept", 1, 0)
        await store.forget_versions(1 << 50, 1, ("", "", ""), 100)
        assert counts(content, LARGE, OTHER) == [1, 0]
        await store.delete_snapshot(*ONE, "kept")
        await store.forget_versions(1 << 50, 1, ("", "", ""), 100)
        assert counts(content, LARGE, OTHER) == [0, 0]
        assert content.held(GREETER) == 0


async def test_value_replaced_within_one_version_is_released_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, content):
        await put(store, ONE, 1, "a", LARGE)
        await put(store, ONE, 1, "a", OTHER)
        assert counts(content, LARGE, OTHER) == [0, 1]
        await Session(store).commit(memory_remove=((*ONE, "a", "", 0),))
        assert counts(content, LARGE, OTHER) == [0, 0]


async def test_same_value_put_again_is_counted_for_each_version(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, content):
        await put(store, ONE, 1, "a", LARGE)
        await put(store, ONE, 2, "a", LARGE)
        await Session(store).commit(memory_touch=((*ONE, "a", "", 7),))
        assert counts(content, LARGE) == [2]
        await store.forget_versions(1 << 50, 1, ("", "", ""), 100)
        assert counts(content, LARGE) == [1]


async def test_results_and_definitions_go_with_their_messages_and_versions(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, content):
        session = Session(store)
        await session.commit(
            insert=(message(1), message(2), message(3)), agent_put=(StoredAgent("default", "greeter", "1", LARGE),)
        )
        await session.commit(
            finish=tuple((seq, MessageState.SUCCEEDED, OTHER, 10 * seq, 1) for seq in (1, 2)),
            drop=(3,),
        )
        assert counts(content, LARGE, OTHER) == [1, 2]
        found = await store.message("default", "m1")
        assert found is not None and found.outcome == OTHER
        assert await store.agents() == [StoredAgent("default", "greeter", "1", LARGE)]
        assert await store.purge_ended(15, 10) == 1
        assert counts(content, OTHER) == [1]
        await session.commit(drop=(2,), agent_put=(StoredAgent("default", "greeter", "1", b"short"),))
        assert counts(content, LARGE, OTHER) == [0, 0]


async def test_failures_stay_in_their_rows(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, content):
        session = Session(store)
        await session.commit(insert=(message(1), message(2)))
        await session.commit(retry=((1, 1, 5, LARGE),), finish=((2, MessageState.DEAD, LARGE, 9, 1),))
        assert counts(content, LARGE) == [0]
        assert [found.outcome for found in await store.messages("default", "", None, 0, 9)] == [LARGE, LARGE]


async def test_value_that_is_an_address_keeps_what_is_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, content):
        leaf = content.put(OTHER)
        node = content.put_node([leaf], b"")
        text = b'"content:' + node.hex().encode() + b'"'
        unknown = b'"content:' + b"0" * 64 + b'"'
        odd = b'"content:' + b"0 " * 32 + b'"'
        for version, name, value in ((1, "a", text), (2, "b", unknown), (3, "c", odd)):
            await put(store, ONE, version, name, value)
        assert content.references(node) == 1
        assert content.held(GREETER) == content.size(node)
        assert {found.name: found.value for found in await store.memory(*ONE)} == {"a": text, "b": unknown, "c": odd}
    async with opened(tmp_path) as (store, content):
        assert content.references(node) == 1
        content.collect(), content.collect()
        assert content.get(leaf) == OTHER
        await remove(store, ONE, 4, "a")
        await store.forget_versions(1 << 50, 1, ("", "", ""), 100)
        assert content.references(node) == 0


async def test_batch_that_fails_keeps_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, content):
        session = Session(store)
        good = session.submit(memory_put=((*ONE, row("a", value=LARGE)),))
        bad = session.submit(memory_put=((*ONE, replace(row("b", value=OTHER), used=1 << 63)),))
        results = await asyncio.gather(good[1], bad[1], return_exceptions=True)
        assert results[0] is None and isinstance(results[1], AmxError)
        assert counts(content, LARGE, OTHER) == [1, 0]
        assert content.held(GREETER) == len(LARGE)


async def test_memory_budget_reached_leaves_values_in_their_rows(tmp_path: Path) -> None:
    tiny = ContentOptions(hot_bytes=4096, warm_bytes=4096, index_bytes=4096)
    async with opened(tmp_path, tiny) as (store, content):
        values = [bytes([65 + number]) * 1500 for number in range(26)]
        for number, value in enumerate(values):
            await put(store, ONE, number + 1, f"m{number:02}", value)
        assert [found.value for found in await store.memory(*ONE)] == values
        assert sum(counts(content, *values)) < len(values)


async def test_quota_is_asked_before_a_commit_and_not_by_it(tmp_path: Path) -> None:
    options = replace(SMALL, quotas=Quotas(agent_bytes=3000))
    with blobs_of(tmp_path / "content", options) as blobs:
        async with open_store(str(tmp_path / "amx.db"), blobs=blobs) as store:
            await put(store, ONE, 1, "a", LARGE)
            with pytest.raises(AmxError, match="agent greeter of namespace default") as error:
                blobs.require_room("default", "greeter", 2000)
            assert error.value.reason == "CONTENT_QUOTA_EXCEEDED"
            await put(store, ONE, 2, "b", OTHER)  # accepted before: it is stored


async def test_references_that_a_crash_left_are_set_right_at_the_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, content):
        await put(store, ONE, 1, "a", LARGE)
    with ContentStore(tmp_path / "content", SMALL) as content:  # kept, and then no commit followed
        content.retain([content.put(OTHER)], GREETER)
        content.release([address_of(LARGE)], GREETER)
    async with opened(tmp_path) as (store, content):
        assert counts(content, LARGE, OTHER) == [1, 0]
        assert content.held(GREETER) == len(LARGE)
        content.collect()
        assert address_of(OTHER) not in content


async def test_content_that_cannot_be_tidied_up_at_the_end_does_not_hinder_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as (store, content):
        await put(store, ONE, 1, "a", LARGE)
        monkeypatch.setattr(content._saving, "flush", refuse)
    async with opened(tmp_path) as (store, content):
        assert [found.value for found in await store.memory(*ONE)] == [LARGE]


async def test_disk_full_of_content_is_the_store_being_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as (store, content):
        with monkeypatch.context() as patch:
            patch.setattr(content._saving, "flush", refuse)
            with pytest.raises(AmxError) as error:
                await put(store, ONE, 1, "a", LARGE)
            assert (error.value.reason, error.value.retryable) == ("STORAGE_FULL", True)
            await put(store, ONE, 2, "b", b"small")  # what needs no content goes on
        assert counts(content, LARGE) == [0]
        await put(store, ONE, 3, "a", LARGE)
        assert counts(content, LARGE) == [1]


def refuse() -> None:
    raise disk_full("content", "no space is left")


async def test_missing_and_damaged_content_is_named_with_who_refers_to_it(tmp_path: Path) -> None:
    noise = random.Random(4).randbytes(2000)  # cannot be compressed: lies in the file as it is
    async with opened(tmp_path) as (store, content):
        session = Session(store)
        await put(store, ONE, 1, "a", noise)
        await put(store, ONE, 2, "a", b"small")
        await put(store, TWO, 1, "b", noise)
        await session.commit(insert=(message(1),), agent_put=(StoredAgent("default", "greeter", "1", noise),))
        await session.commit(finish=((1, MessageState.SUCCEEDED, noise, 5, 1),))
        content.flush()
    (segment,) = (tmp_path / "content").glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[data.index(noise)] ^= 1
    segment.write_bytes(data)
    async with opened(tmp_path) as (store, content):
        holders = await store.holders([address_of(noise), address_of(OTHER)])
        assert Counter(holders[address_of(noise)]) == Counter(
            [
                "memory 'a', entry '' of greeter/one in default, from version 1",
                "memory 'b', entry '' of greeter/two in default",
                "result of message m1 in default",
                "definition of agent greeter 1 in default",
            ]
        )
        assert address_of(OTHER) not in holders
        with pytest.raises(AmxError, match="memory 'b', entry '' of greeter/two in default: content") as error:
            await store.memory(*TWO)
        assert error.value.reason == "CONTENT_CORRUPTED"
        with pytest.raises(AmxError, match="result of message m1"):
            await store.message("default", "m1")
        assert [found.outcome for found in await store.messages("default", "", None, 0, 9)] == [b""]
        assert [found.definition for found in await store.agents()] == [b""]
        assert [found.value for found in await store.memory(*ONE)] == [b"small"]
        content.put(noise)  # the same bytes again heal it for all
        assert (await store.memory(*TWO))[0].value == noise
