"""Upkeep of memory: versions forgotten, content collected, damage found and named, while the engine goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from amx.v1 import common_pb2, link_pb2, memory_pb2
from amx_server.core.clock import ManualClock
from amx_server.core.errors import AmxError
from amx_server.memory.content import address_of
from amx_server.memory.content.entry import Location
from amx_server.runtime.engine import Engine
from amx_server.runtime.memory_upkeep import Collected, MemoryUpkeep, Verified
from amx_server.security.identity import ANONYMOUS, Identity
from tests.engine.link_driver import PATIENCE_SECONDS, Rig, Sdk, agent, configured, map_memory, put, value_memory

CART = agent("cart", memories=(map_memory(), value_memory()))
A = common_pb2.InstanceRef(agent="cart", key="a")


@asynccontextmanager
async def on_disk(folder: Path, clock: ManualClock | None = None, **memory: Any) -> AsyncIterator[Rig]:
    """An engine with its stores in `folder`, and these settings of the section `memory`."""
    config = configured(storage={"path": str(folder / "amx.db")}, memory=memory)
    clock = clock or ManualClock()
    async with Engine(config, clock, ticking=False) as engine:
        yield Rig(engine, clock)


def large(seed: int, size: int = 4000) -> str:
    """A text that is stored by its address, and compresses badly."""
    return random.Random(seed).randbytes(size // 2).hex()


async def change(sdk: Sdk, *changes: memory_pb2.MemoryChange, key: str = "a") -> None:
    call = sdk.request("cart", key=key)
    (await sdk.work()).succeed(effects=link_pb2.Effects(memory=changes))
    await sdk.result(call)


async def collected_twice(rig: Rig) -> Collected:
    """What two rounds did: content that is new since the round before survives one."""
    first, second = await collected(rig), await collected(rig)
    return Collected(
        1.0,
        first.versions + second.versions,
        first.objects + second.objects,
        first.bytes + second.bytes,
        first.disk_bytes + second.disk_bytes,
        True,
    )


async def collected(rig: Rig) -> Collected:
    async with aclosing(rig.engine.memory_upkeep.collect()) as parts:
        async for part in parts:
            last = part
    assert last.done
    return last


async def verified(rig: Rig) -> Verified:
    async with aclosing(rig.engine.memory_upkeep.verify()) as parts:
        async for part in parts:
            last = part
    assert last.done
    return last


async def numbers(rig: Rig) -> list[int]:
    found = await rig.engine.memory_versions.listing(rig.engine.namespace("default"), A, 0, 100)
    return [version.version for version in found]


async def test_versions_beyond_the_number_that_is_kept_are_forgotten_with_their_content(tmp_path: Path) -> None:
    async with on_disk(tmp_path, history_versions=2) as rig:
        sdk = await rig.worker(CART)
        for number in range(5):
            await change(sdk, put("total", large(number)))
        await rig.engine.memory_versions.create_snapshot(rig.engine.namespace("default"), A, "kept", 2)
        held = rig.engine.content.stats().retained_bytes
        done = await collected_twice(rig)
        assert await numbers(rig) == [5, 4, 2]
        assert (done.versions, done.objects) == (2, 2)
        assert done.bytes == 2 * len(large(0)) + 4  # with their quotes
        stats = rig.engine.content.stats()
        assert stats.retained_bytes == held - done.bytes
        assert rig.counters.memory_versions_forgotten == rig.counters.content_collected == 2
        past = await rig.engine.memory_versions.past(rig.engine.namespace("default"), A, 2)
        entry = past.entry("total", "")
        assert entry is not None and entry.value == b'"%s"' % large(1).encode()
        assert not (await verified(rig)).damages


async def test_versions_are_forgotten_by_their_age_once_they_are_replaced(tmp_path: Path) -> None:
    async with on_disk(tmp_path, history_age=60) as rig:
        sdk = await rig.worker(CART)
        await change(sdk, put("total", 1))
        await rig.pass_time(100)
        await change(sdk, put("total", 2))
        assert (await collected(rig)).versions == 0  # the first one was the present until now
        await rig.pass_time(61)
        assert (await collected(rig)).versions == 1
        await rig.pass_time(1000)
        assert (await collected(rig)).versions == 0
        assert await numbers(rig) == [2]


async def test_space_of_collected_content_is_given_back_to_the_disk(tmp_path: Path) -> None:
    async with on_disk(tmp_path, history_versions=1) as rig:
        sdk = await rig.worker(CART)
        for number in range(30):
            await change(sdk, put("total", large(number, 20_000)))
        done = await collected_twice(rig)
        assert done.disk_bytes > 200_000
        assert sum(file.stat().st_size for file in (tmp_path / "amx.db-content").glob("*.segment")) < 100_000


async def test_progress_rises_to_one_and_says_when_it_is_done(tmp_path: Path) -> None:
    async with on_disk(tmp_path, history_versions=1) as rig:
        sdk = await rig.worker(CART)
        for number in range(20):
            await change(sdk, put("total", large(number)))
        for upkeep in (rig.engine.memory_upkeep.verify(), rig.engine.memory_upkeep.collect()):
            shares, ends = [], []
            async for part in upkeep:
                shares.append(part.share)
                ends.append(part.done)
            assert shares == sorted(shares)
            assert (shares[-1], ends[-1], any(ends[:-1])) == (1.0, True, False)


async def test_collection_that_is_left_early_does_its_work_the_next_time(tmp_path: Path) -> None:
    async with on_disk(tmp_path, history_versions=1) as rig:
        sdk = await rig.worker(CART)
        for number in range(20):
            await change(sdk, put("total", large(number)))
        for parts_read in (1, 2, 3):
            async with aclosing(rig.engine.memory_upkeep.collect()) as parts:
                for _ in range(parts_read):
                    await anext(parts)
        await collected_twice(rig)
        assert len(rig.engine.content) == 1
        assert rig.counters.memory_versions_forgotten == 19


async def test_collection_whose_caller_is_cancelled_leaves_no_thread_in_it(tmp_path: Path) -> None:
    async with on_disk(tmp_path, history_versions=1) as rig:
        sdk = await rig.worker(CART)
        for number in range(20):
            await change(sdk, put("total", large(number)))
        for turns in range(8):
            collecting = asyncio.create_task(collected(rig))
            for _ in range(turns):
                await asyncio.sleep(0)
            collecting.cancel()
            await asyncio.wait([collecting])
        await collected_twice(rig)
        assert not (await verified(rig)).damages
        assert len(rig.engine.content) == 1


async def test_second_collection_waits_for_the_first(tmp_path: Path) -> None:
    async with on_disk(tmp_path, history_versions=1) as rig:
        sdk = await rig.worker(CART)
        for number in range(5):
            await change(sdk, put("total", large(number)))
        first, second = await asyncio.gather(collected(rig), collected(rig))
        assert sorted((first.versions, second.versions)) == [0, 4]


async def test_messages_are_served_while_memory_is_collected_and_verified(tmp_path: Path) -> None:
    async with on_disk(tmp_path, history_versions=1) as rig:
        sdk = await rig.worker(CART)
        for number in range(20):
            await change(sdk, put("total", large(number)))
        for upkeep in (rig.engine.memory_upkeep.verify(), rig.engine.memory_upkeep.collect()):
            async with aclosing(upkeep) as parts:
                await anext(parts)
                await change(sdk, put("total", large(99)))
                async for part in parts:
                    assert part is not None
        await collected_twice(rig)
        assert len(rig.engine.content) == 1


def place(rig: Rig, folder: Path, text: str) -> tuple[Path, int]:
    """File and offset of a text that is stored by its address."""
    entry = rig.engine.content._contents.entry(address_of(f'"{text}"'.encode()))
    where = Location.unpack(entry.cold)
    return folder / "amx.db-content" / f"{where.segment:010}.segment", where.offset + where.stored // 2


def flip(path: Path, offset: int) -> None:
    """Changes one bit of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


async def test_damaged_content_is_named_with_who_needs_it(tmp_path: Path) -> None:
    async with on_disk(tmp_path) as rig:
        sdk = await rig.worker(CART)
        await change(sdk, put("items", large(1), id='"x"'))
        await change(sdk, put("total", large(2)), key="b")
        spoilt = place(rig, tmp_path, large(1))
    flip(*spoilt)
    async with on_disk(tmp_path) as rig:
        found = await verified(rig)
        (damage,) = found.damages
        assert spoilt[0].name.lstrip("0").partition(".")[0] in damage
        assert "memory 'items', entry '\"x\"' of cart/a in default" in damage
        assert found.healed == 0
        assert (await rig.engine.describe_memory("default", everybody=True)).damages
        (damage,) = (await verified(rig)).damages  # it stays lost, and named
        assert "is missing" in damage and "cart/a" in damage


async def test_damage_with_a_copy_in_memory_is_healed(tmp_path: Path) -> None:
    async with on_disk(tmp_path) as rig:
        sdk = await rig.worker(CART)
        await change(sdk, put("total", large(1)))
        flip(*place(rig, tmp_path, large(1)))
        found = await verified(rig)
        assert (len(found.damages), found.healed) == (1, 1)
        assert not (await rig.engine.describe_memory("default", everybody=True)).damages
        await change(sdk, put("items", 1, id='"x"'))
        rig.engine.content.flush()
        assert not (await verified(rig)).damages


async def test_upkeep_works_by_itself_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    async with on_disk(tmp_path, history_versions=1) as rig:
        engine = rig.engine
        sdk = await rig.worker(CART)
        for number in range(5):
            await change(sdk, put("total", large(number)))
        often = engine.config.replace(memory=engine.config.memory.replace(upkeep_interval=0.001))
        forget, failed = engine.store.forget_versions, asyncio.Event()

        async def fails_once(*arguments: Any) -> Any:
            if not failed.is_set():
                failed.set()
                raise AmxError(14, "STORAGE_UNAVAILABLE", "the disk is away for a moment")
            return await forget(*arguments)

        engine.store.forget_versions = fails_once  # type: ignore[method-assign, assignment]
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            MemoryUpkeep(often, rig.clock, engine.store, engine.content, rig.counters),
        ):
            while rig.counters.content_collected < 4:
                await asyncio.sleep(0.001)
        assert failed.is_set()
        assert await numbers(rig) == [5]


async def test_stats_say_what_is_shared_and_who_holds_it(tmp_path: Path) -> None:
    async with on_disk(tmp_path) as rig:
        sdk = await rig.worker(CART)
        other = rig.sdk(identity=Identity("w", "bank", permissions=ANONYMOUS.permissions))
        await other.connect(CART)
        for key in "abc":
            await change(sdk, put("total", large(1)), key=key)
        await change(other, put("total", large(1)))
        await rig.engine.memory_versions.create_snapshot(rig.engine.namespace("default"), A, "one")
        size = len(large(1)) + 2
        mine = await rig.engine.describe_memory("default", everybody=False)
        assert (mine.objects, mine.unique_bytes, mine.referenced_bytes) == (1, size, 4 * size)
        assert (mine.versions, mine.snapshots, mine.instances_awake) == (4, 1, 3)
        assert mine.instance_bytes > 3 * size
        assert {(owner.namespace, owner.agent): owner.bytes for owner in mine.owners} == {
            ("default", ""): 3 * size,
            ("default", "cart"): 3 * size,
        }
        all_of_it = await rig.engine.describe_memory("default", everybody=True)
        assert all_of_it.instances_awake == 4
        assert {owner.namespace for owner in all_of_it.owners} == {"default", "bank"}
        assert [tier.name for tier in all_of_it.tiers] == ["hot", "warm", "cold"]
        assert 0 <= all_of_it.hit_rate <= 1


async def test_restore_counts_against_the_quota_of_content(tmp_path: Path) -> None:
    async with on_disk(tmp_path, agent_quota=9000) as rig:
        sdk = await rig.worker(CART)
        await change(sdk, put("total", large(1)))
        await change(sdk, put("total", large(2)))
        with pytest.raises(AmxError) as caught:
            await rig.engine.memory_versions.restore(rig.engine.namespace("default"), A, 1)
        assert caught.value.reason == "CONTENT_QUOTA_EXCEEDED"
        assert await numbers(rig) == [2, 1]


async def test_fork_shares_content_with_its_source(tmp_path: Path) -> None:
    async with on_disk(tmp_path) as rig:
        sdk = await rig.worker(CART)
        await change(sdk, put("total", large(1)))
        before = rig.engine.content.stats()
        for number in range(50):
            fork = common_pb2.InstanceRef(agent="cart", key=f"fork-{number}")
            await rig.engine.memory_versions.fork(rig.engine.namespace("default"), A, fork)
        after = rig.engine.content.stats()
        assert (after.objects, after.plain_bytes, after.retained_bytes) == (
            1,
            before.plain_bytes,
            before.retained_bytes,
        )
