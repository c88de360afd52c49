"""Versions of memory: read, named, forked and restored, in turn with messages, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest

from amx.v1 import common_pb2, link_pb2, memory_pb2
from amx_server.core.errors import AmxError
from amx_server.runtime.memory_versions import MemoryVersions, Past
from amx_server.storage import open_store
from tests.engine.failing_store import FailingStore, everything, full, nothing
from tests.engine.link_driver import (
    PATIENCE_SECONDS,
    Rig,
    Sdk,
    agent,
    configured,
    map_memory,
    put,
    remembered,
    running,
    value_memory,
)

CART = agent(
    "cart",
    memories=(map_memory(), value_memory(), map_memory("light", persistent=False), map_memory("brief", ttl_ms=10_000)),
)


def ref(key: str = "a", name: str = "cart") -> common_pb2.InstanceRef:
    return common_pb2.InstanceRef(agent=name, key=key)


def versions(rig: Rig) -> MemoryVersions:
    return rig.engine.memory_versions


async def change(sdk: Sdk, *changes: memory_pb2.MemoryChange, key: str = "a", message_id: str = "") -> None:
    """A message whose handler makes these changes; its process keeps no memory, so that every message brings it."""
    call = sdk.request("cart", key=key, message_id=message_id)
    (await sdk.work()).succeed(effects=link_pb2.Effects(memory=changes), memory_dropped=True)
    await sdk.result(call)


async def seen(sdk: Sdk, key: str = "a", name: str = "total", id: str = "") -> object:
    """What the next handler of the instance sees."""
    call = sdk.request("cart", key=key)
    work = await sdk.work()
    work.succeed(memory_dropped=True)
    await sdk.result(call)
    return remembered(work.invoke, name, id)


async def past(rig: Rig, version: int, key: str = "a") -> Past:
    return await versions(rig).past(rig.engine.namespace("default"), ref(key), version)


async def numbers(rig: Rig, key: str = "a") -> list[int]:
    found = await versions(rig).listing(rig.engine.namespace("default"), ref(key), 0, 100)
    return [version.version for version in found]


async def fork(rig: Rig, source: str, target: str, version: int = 0, snapshot: str = "") -> int:
    namespace = rig.engine.namespace("default")
    return await versions(rig).fork(namespace, ref(source), ref(target), version, snapshot)


async def restore(rig: Rig, version: int = 0, snapshot: str = "", key: str = "a") -> int:
    return await versions(rig).restore(rig.engine.namespace("default"), ref(key), version, snapshot)


async def snapshot(rig: Rig, name: str, version: int = 0, key: str = "a") -> int:
    made = await versions(rig).create_snapshot(rig.engine.namespace("default"), ref(key), name, version)
    return made.version


async def refused(operation: Awaitable[object]) -> str:
    with pytest.raises(AmxError) as caught:
        await operation
    assert caught.value.message
    return caught.value.reason


async def queued(rig: Rig, key: str) -> None:
    """Returns when something waits for the instance to be idle."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (instance := rig.instance("cart", key)) is None or instance.operations is None:
            await asyncio.sleep(0.001)


def value(found: Past, name: str = "total", id: str = "") -> bytes | None:
    entry = found.entry(name, id)
    return entry.value if entry is not None else None


# --- reading ---------------------------------------------------------------------------------------------------------


async def test_every_commit_is_a_version_that_can_be_read(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    for number in (1, 2, 3):
        await change(sdk, put("total", number), put("items", number, id=f'"{number}"'), message_id=f"m{number}")
    assert await numbers(rig) == [3, 2, 1]
    for number in (1, 2, 3):
        found = await past(rig, number)
        assert value(found) == b"%d" % number
        assert [entry.id for entry in found.search("items", "", 9)[1]] == [f'"{n}"' for n in range(1, number + 1)]
        assert {info.name: info.entries for info in found.infos()} == {"brief": 0, "items": number, "total": 1}
    (newest, *_) = await versions(rig).listing(rig.engine.namespace("default"), ref(), 0, 1)
    assert (newest.message_id, newest.changes, newest.at_ms) == ("m3", 2, rig.clock.now_ms())
    older = await versions(rig).listing(rig.engine.namespace("default"), ref(), 3, 100)
    assert [version.version for version in older] == [2, 1]


async def test_removed_and_cleared_entries_are_there_before_and_not_after(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("items", 1, id='"a"'), put("items", 2, id='"b"'))
    await change(sdk, memory_pb2.MemoryChange(name="items", remove='"a"'))
    await change(sdk, memory_pb2.MemoryChange(name="items", clear=True))
    ids = [[entry.id for entry in (await past(rig, version)).search("items", "", 9)[1]] for version in (1, 2, 3)]
    assert ids == [['"a"', '"b"'], ['"b"'], []]


async def test_entries_are_seen_at_a_version_as_long_as_they_lived_then(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("brief", 1, id='"a"'))
    await rig.pass_time(5)
    await change(sdk, put("total", 1))
    await rig.pass_time(6)
    await change(sdk, put("total", 2))
    lifetimes = [
        entry.expires_in_ms if (entry := (await past(rig, version)).entry("brief", '"a"')) else None
        for version in (1, 2, 3)
    ]
    assert lifetimes == [10_000, 5_000, None]


async def test_memory_that_is_not_persistent_has_no_versions(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1))
    await change(sdk, put("light", 1, id='"a"'))
    await change(sdk, put("total", 2))
    assert await numbers(rig) == [3, 1]
    assert value(await past(rig, 2)) == b"1"
    with pytest.raises(AmxError) as caught:
        (await past(rig, 1)).entry("light", '"a"')
    assert caught.value.reason == "MEMORY_NOT_PERSISTENT"
    with pytest.raises(AmxError) as caught:
        (await past(rig, 1)).search("lihgt", "", 1)
    assert caught.value.reason == "MEMORY_UNKNOWN"


async def test_version_says_which_message_made_it(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1), message_id="m-1")
    await change(sdk, put("total", 2))  # volatile, and without an id of its own: named as `amx invocations` does
    outside = memory_pb2.MemoryOperation(instance=ref(), name="total")
    outside.put.value = b"3"
    await sdk.reply(sdk.call("memory", outside))
    found = await versions(rig).listing(rig.engine.namespace("default"), ref(), 0, 9)
    assert [version.message_id.rstrip("0123456789") for version in found] == ["", "inv-", "m-"]


async def test_unknown_agents_and_versions_are_refused_by_name(rig: Rig) -> None:
    sdk = await rig.worker(CART, agent("plain"))
    namespace = rig.engine.namespace("default")
    assert await numbers(rig) == []
    assert await refused(past(rig, 1)) == "MEMORY_VERSION_UNKNOWN"
    await change(sdk, put("total", 1))
    assert await refused(versions(rig).listing(namespace, ref(name="nobody"), 0, 1)) == "AGENT_UNKNOWN"
    for early in (past(rig, 2), snapshot(rig, "early", 2), fork(rig, "a", "b", 2), restore(rig, 2)):
        assert await refused(early) == "MEMORY_VERSION_UNKNOWN"
    assert await refused(restore(rig, snapshot="none")) == "SNAPSHOT_UNKNOWN"
    assert await refused(restore(rig)) == "INVALID_OPERATION"
    assert await refused(fork(rig, "nobody", "b")) == "MEMORY_VERSION_UNKNOWN"
    assert await refused(fork(rig, "a", "a")) == "INVALID_FORK"
    assert await refused(fork(rig, "a", "k" * 600)) == "KEY_TOO_LONG"
    assert await refused(versions(rig).fork(namespace, ref(), ref("b", "plain"))) == "INVALID_FORK"
    assert await refused(versions(rig).fork(namespace, ref(name="plain"), ref("b", "plain"))) == "MEMORY_NOT_PERSISTENT"
    assert await refused(versions(rig).restore(namespace, ref(name="plain"), 1)) == "MEMORY_NOT_PERSISTENT"


# --- snapshots -------------------------------------------------------------------------------------------------------


async def test_snapshot_names_the_newest_version_or_an_older_one(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1))
    await change(sdk, put("total", 2))
    assert await snapshot(rig, "now") == 2
    assert await snapshot(rig, "before", 1) == 1
    assert await snapshot(rig, "before", 1) == 1  # said again
    found = await versions(rig).listing(rig.engine.namespace("default"), ref(), 0, 9)
    assert {version.version: version.snapshots for version in found} == {2: ("now",), 1: ("before",)}
    assert await refused(snapshot(rig, "before", 2)) == "SNAPSHOT_EXISTS"
    assert await refused(snapshot(rig, "later", 7, key="b")) == "MEMORY_VERSION_UNKNOWN"
    assert await restore(rig, snapshot="before") == 3
    assert await seen(sdk) == 1


@pytest.mark.parametrize("name", ["", "7", "a\nb", "é" * 65])
async def test_snapshot_needs_a_name_that_people_can_write(rig: Rig, name: str) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1))
    assert await refused(snapshot(rig, name)) == "SNAPSHOT_NAME_INVALID"


async def test_snapshot_is_deleted_once(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1))
    await snapshot(rig, "now")
    namespace = rig.engine.namespace("default")
    assert await versions(rig).delete_snapshot(namespace, ref(), "now")
    assert not await versions(rig).delete_snapshot(namespace, ref(), "now")
    assert (await versions(rig).listing(namespace, ref(), 0, 1))[0].snapshots == ()


# --- forks -----------------------------------------------------------------------------------------------------------


async def test_fork_remembers_what_its_source_did_and_goes_its_own_way(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1), put("items", 1, id='"x"'))
    await change(sdk, put("total", 2))
    assert await fork(rig, "a", "b") == 2
    assert await fork(rig, "a", "old", version=1) == 1
    await change(sdk, put("total", 20), key="b")
    await change(sdk, put("total", 3), memory_pb2.MemoryChange(name="items", remove='"x"'))
    assert [await seen(sdk, key) for key in ("a", "b", "old")] == [3, 20, 1]
    assert [await seen(sdk, key, "items", '"x"') for key in ("a", "b", "old")] == [None, 1, 1]
    origin = await versions(rig).origin(rig.engine.namespace("default"), ref("b"))
    assert origin is not None
    assert (origin.source_key, origin.source_version) == ("a", 2)
    first = min(await numbers(rig, "b"))
    assert await restore(rig, first, key="b") > first
    assert await seen(sdk, "b") == 2


async def test_fork_and_its_source_survive_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        sdk = await rig.worker(CART)
        await change(sdk, put("total", 1), put("items", 1, id='"x"'))
        await fork(rig, "a", "b")
        await change(sdk, memory_pb2.MemoryChange(name="items", remove='"x"'), key="b")
        await change(sdk, put("total", 2))
    async with running(store=path) as rig:
        sdk = await rig.worker(CART)
        assert [await seen(sdk, key) for key in ("a", "b")] == [2, 1]
        assert [await seen(sdk, key, "items", '"x"') for key in ("a", "b")] == [1, None]


async def test_fork_waits_for_the_handler_of_its_target_and_is_seen_by_the_next(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1))
    sdk.request("cart", key="b")
    work = await sdk.work()
    forking = asyncio.create_task(fork(rig, "a", "b"))
    await queued(rig, "b")
    assert not forking.done()
    sdk.request("cart", key="b")
    work.succeed()
    assert await forking == 1
    assert remembered((await sdk.work()).invoke) == 1


async def test_fork_does_not_wait_for_the_handler_of_its_source(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1))
    call = sdk.request("cart", key="a")
    work = await sdk.work()
    assert await fork(rig, "a", "b") == 1
    work.succeed(effects=link_pb2.Effects(memory=[put("total", 2)]), memory_dropped=True)
    await sdk.result(call)
    assert [await seen(sdk, key) for key in ("a", "b")] == [2, 1]


async def test_fork_to_an_instance_that_remembers_something_is_refused(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1))
    await change(sdk, put("light", 1, id='"x"'), key="b")
    await change(sdk, put("total", 7), key="c")
    for target in "bc":
        assert await refused(fork(rig, "a", target)) == "FORK_TARGET_EXISTS"
    assert await seen(sdk, "c") == 7
    assert await seen(sdk, "b", "light", '"x"') == 1


async def test_forks_in_both_directions_at_once_do_not_wait_for_each_other(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1), key="a")
    await change(sdk, put("total", 2), key="b")
    async with asyncio.timeout(PATIENCE_SECONDS):
        outcomes = await asyncio.gather(fork(rig, "a", "b"), fork(rig, "b", "a"), return_exceptions=True)
    assert [outcome.reason for outcome in outcomes if isinstance(outcome, AmxError)] == ["FORK_TARGET_EXISTS"] * 2


async def test_fork_that_its_caller_gives_up_before_its_turn_never_happens(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1))
    sdk.request("cart", key="b")
    work = await sdk.work()
    forking = asyncio.create_task(fork(rig, "a", "b"))
    await queued(rig, "b")
    forking.cancel()
    await asyncio.wait([forking])
    work.succeed()
    await rig.settle()
    assert await seen(sdk, "b") is None
    assert await numbers(rig, "b") == []


async def test_fork_whose_caller_leaves_while_it_is_stored_happens_before_the_next_message() -> None:
    store = FailingStore(open_store(":memory:"))
    async with running(store=store) as rig:
        sdk = await rig.worker(CART)
        await change(sdk, put("total", 1))
        storing, go_on = asyncio.Event(), asyncio.Event()
        fork_memory = store.fork_memory

        async def slowly(*arguments: object) -> object:
            storing.set()
            await go_on.wait()
            return await fork_memory(*arguments)

        store.fork_memory = slowly  # type: ignore[attr-defined]
        forking = asyncio.create_task(fork(rig, "a", "b"))
        await storing.wait()
        forking.cancel()
        await asyncio.wait([forking])
        sdk.request("cart", key="b")
        await rig.settle()
        assert sdk.waiting == 0
        go_on.set()
        assert remembered((await sdk.work()).invoke) == 1


async def test_fork_that_the_store_refuses_changes_nothing_and_can_be_repeated() -> None:
    store = FailingStore(open_store(":memory:"))
    async with running(store=store) as rig:
        sdk = await rig.worker(CART)
        await change(sdk, put("total", 1))

        async def refuse(*_: object) -> None:
            raise full()

        store.fork_memory = refuse  # type: ignore[attr-defined]
        await change(sdk, memory_pb2.MemoryChange(name="light", clear=True), key="b")
        assert await refused(fork(rig, "a", "b")) == "STORAGE_FULL"
        instance = rig.instance("cart", "b")
        assert instance is not None and instance.memory is not None
        assert instance.memory.version == 1
        del store.fork_memory
        assert await seen(sdk, "b") is None
        assert await fork(rig, "a", "b") == 1
        assert await seen(sdk, "b") == 1


# --- restoring -------------------------------------------------------------------------------------------------------


async def test_restore_is_one_more_version_with_what_differed(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1), put("items", 1, id='"a"'), put("items", 2, id='"b"'))
    await change(sdk, put("total", 2), put("light", 5, id='"l"'), put("items", 9, id='"b"'), put("items", 3, id='"c"'))
    await change(sdk, memory_pb2.MemoryChange(name="items", remove='"a"'))
    assert await restore(rig, 1) == 4
    found = await versions(rig).listing(rig.engine.namespace("default"), ref(), 0, 1)
    assert (found[0].version, found[0].changes, found[0].message_id) == (4, 4, "")
    sdk.request("cart", key="a")
    invoke = (await sdk.work()).invoke
    assert invoke.memory_version == 4
    assert [remembered(invoke, "items", f'"{id}"') for id in "abc"] == [1, 2, None]
    assert remembered(invoke) == 1
    assert remembered(invoke, "light", '"l"') == 5  # not persistent: it stays
    assert value(await past(rig, 3)) == b"2"  # and history stays, too


async def test_restore_of_what_is_there_already_commits_nothing(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1))
    await change(sdk, put("light", 1, id='"a"'))
    assert await restore(rig, 1) == 2
    assert await numbers(rig) == [1]


async def test_restore_does_not_bring_back_what_has_expired(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("brief", 1, id='"a"'), put("total", 1))
    await change(sdk, put("total", 2))
    await rig.pass_time(11)
    await restore(rig, 1)
    assert await seen(sdk) == 1
    assert await seen(sdk, name="brief", id='"a"') is None


async def test_restore_waits_for_the_handler_that_runs_and_goes_before_the_next(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1))
    sdk.request("cart", key="a")
    work = await sdk.work()
    sdk.request("cart", key="a")
    restoring = asyncio.create_task(restore(rig, 1))
    await queued(rig, "a")
    assert not restoring.done()
    work.succeed(effects=link_pb2.Effects(memory=[put("total", 2)]))
    assert await restoring == 3
    assert remembered((await sdk.work()).invoke) == 1


async def test_restore_that_the_store_refuses_leaves_the_memory_as_it_is() -> None:
    store = FailingStore(open_store(":memory:"))
    async with running(store=store) as rig:
        sdk = await rig.worker(CART)
        await change(sdk, put("total", 1))
        await change(sdk, put("total", 2))
        store.refuses = everything
        assert await refused(restore(rig, 1)) == "STORAGE_FULL"
        store.refuses = nothing
        assert await seen(sdk) == 2
        assert await restore(rig, 1) == 3
        assert await seen(sdk) == 1


async def test_restore_that_would_be_more_than_an_instance_may_remember_is_refused() -> None:
    async with running(configured(limits={"max_memory_bytes": 64 * 1024})) as rig:
        sdk = await rig.worker(CART)
        await change(sdk, put("items", "x" * 50_000, id='"a"'))
        await change(sdk, memory_pb2.MemoryChange(name="items", clear=True))
        await change(sdk, put("light", "y" * 50_000, id='"l"'))
        assert await refused(restore(rig, 1)) == "INVALID_MEMORY_CHANGE"
        assert await seen(sdk, name="light", id='"l"') == "y" * 50_000
        await change(sdk, memory_pb2.MemoryChange(name="light", clear=True))
        await restore(rig, 1)
        assert await seen(sdk, name="items", id='"a"') == "x" * 50_000


async def test_restore_counts_against_the_quota_of_stored_bytes() -> None:
    async with running(configured(quotas={"default": {"stored_bytes": 20_000}})) as rig:
        sdk = await rig.worker(CART)
        await change(sdk, put("items", "x" * 12_000, id='"a"'))
        await change(sdk, memory_pb2.MemoryChange(name="items", clear=True))
        await change(sdk, put("total", "y" * 12_000), key="b")
        assert await refused(restore(rig, 1)) == "QUOTA_STORED_BYTES"


async def test_versions_are_reached_while_no_process_hosts_the_agent(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        sdk = await rig.worker(CART)
        await change(sdk, put("total", 1))
        await change(sdk, put("total", 2))
    async with running(store=path) as rig:
        assert await fork(rig, "a", "b", version=1) == 1
        assert await restore(rig, 1) == 3
        assert value(await past(rig, 2)) == b"2"
        sdk = await rig.worker(CART)
        assert [await seen(sdk, key) for key in ("a", "b")] == [1, 1]


async def test_suspended_instances_are_forked_and_restored_and_wake_with_it(rig: Rig) -> None:
    sdk = await rig.worker(CART)
    await change(sdk, put("total", 1))
    await change(sdk, put("total", 2))
    cart = rig.engine.namespace("default").agents["cart"]
    for key in "ab":
        await rig.engine.lifecycle.suspend(cart, key, "maintenance")
    calls = [sdk.request("cart", key=key) for key in "ab"]
    assert await restore(rig, 1) == 3
    assert await fork(rig, "a", "b", version=2) == 2
    await rig.settle()
    assert sdk.waiting == 0
    for key, call, expected in zip("ab", calls, (1, 2), strict=True):
        await rig.engine.lifecycle.resume(cart, key)
        work = await sdk.work()
        assert remembered(work.invoke) == expected
        work.succeed()
        await sdk.result(call)


async def test_instance_that_moves_to_another_link_takes_what_was_restored_along(rig: Rig) -> None:
    first = await rig.worker(CART)
    await change(first, put("total", 1))
    await change(first, put("total", 2))
    second = await rig.worker(CART)
    await restore(rig, 1)
    first.drain()
    await rig.settle()
    call = second.request("cart", key="a")
    work = await second.work()
    assert (remembered(work.invoke), work.invoke.memory_version) == (1, 3)
    work.succeed()
    await second.result(call)
