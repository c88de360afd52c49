"""Versions of memories: what was replaced stays readable until it is forgotten; snapshots keep, forks inherit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from amx_server.core.errors import AmxError
from amx_server.storage import (
    MemoryRow,
    Store,
    StoredFork,
    StoredSuspension,
    StoredVersion,
    VersionCounts,
    open_store,
    sqlite,
    sqlite_versions,
)
from amx_server.storage.sqlite_versions import MAX_FORK_DEPTH
from tests.storage.support import Session, row

ONE = ("default", "greeter", "one")
TWO = ("default", "greeter", "two")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(str(tmp_path / "amx.db")) as store:
        yield store


async def write(store: Store, instance: tuple[str, str, str], version: int, **changes: object) -> None:
    """One commit: name=value puts the entry '' of that memory, name=None removes it, name=... clears the memory."""
    await Session(store).commit(
        memory_put=tuple((*instance, row(n, value=v, version=version)) for n, v in changes.items() if type(v) is bytes),
        memory_remove=tuple((*instance, n, "", version) for n, v in changes.items() if v is None),
        memory_clear=tuple((*instance, n, version) for n, v in changes.items() if v is ...),
        memory_version=((*instance, version, version * 1000, f"m{version}", len(changes)),),
    )


def values(rows: list[MemoryRow]) -> dict[str, bytes]:
    return {row.name: row.value for row in rows if row.name}


async def at(store: Store, instance: tuple[str, str, str], version: int) -> dict[str, bytes]:
    return values((await store.memory_at(*instance, version)).rows)


async def test_every_version_reads_as_it_was_committed(store: Store) -> None:
    await write(store, ONE, 1, a=b"1")
    await write(store, ONE, 2, a=b"2", b=b"2")
    await write(store, ONE, 3, a=None)
    await write(store, ONE, 4, b=..., c=b"4")
    assert [await at(store, ONE, version) for version in (1, 2, 3, 4)] == [
        {"a": b"1"},
        {"a": b"2", "b": b"2"},
        {"b": b"2"},
        {"c": b"4"},
    ]
    assert values(await store.memory(*ONE)) == {"c": b"4"}
    assert await store.memory_versions(*ONE, 0, 2) == [StoredVersion(4, 4000, "m4", 2), StoredVersion(3, 3000, "m3", 1)]
    assert [v.version for v in await store.memory_versions(*ONE, 3, 9)] == [2, 1]
    assert await store.version_counts() == VersionCounts(versions=4, rows=3)


async def test_version_survives_that_nothing_is_left(store: Store) -> None:
    await write(store, ONE, 6, a=b"1")
    await write(store, ONE, 7, a=None)
    (only,) = await store.memory(*ONE)
    assert (only.name, only.version) == ("", 7)
    assert await store.memory_instances("default", "", ("", ""), 9) == []


async def test_version_that_wrote_nothing_to_the_store_reads_as_the_one_before(store: Store) -> None:
    await write(store, ONE, 2, a=b"1")
    await write(store, ONE, 5, a=b"2")
    found = await store.memory_at(*ONE, 4)
    assert (found.version, found.at_ms, values(found.rows)) == (2, 2000, {"a": b"1"})
    assert (await store.memory_at(*ONE, 99)).version == 5
    with pytest.raises(AmxError, match="no version 1 ") as error:
        await store.memory_at(*ONE, 1)
    assert error.value.reason == "MEMORY_VERSION_UNKNOWN"


async def test_order_of_use_alone_makes_no_version(store: Store) -> None:
    await write(store, ONE, 1, a=b"1")
    await Session(store).commit(memory_touch=((*ONE, "a", "", 9), (*ONE, "gone", "", 9)))
    assert await store.memory(*ONE) == [row("a", used=9)]
    assert (await store.version_counts()).rows == 0


async def test_snapshot_names_a_version_once(store: Store) -> None:
    await write(store, ONE, 1, a=b"1")
    await write(store, ONE, 2, a=b"2")
    assert await store.create_snapshot(*ONE, "first", 1, 5) == StoredVersion(1, 1000, "m1", 1, ("first",))
    assert (await store.create_snapshot(*ONE, "first", 1, 6)).version == 1
    assert (await store.create_snapshot(*ONE, "last", 0, 6)).version == 2
    with pytest.raises(AmxError, match="keeps version 1, not 2") as error:
        await store.create_snapshot(*ONE, "first", 2, 7)
    assert error.value.reason == "SNAPSHOT_EXISTS"
    assert await store.snapshot_version(*ONE, "first") == 1
    assert await store.delete_snapshot(*ONE, "first") and not await store.delete_snapshot(*ONE, "first")
    with pytest.raises(AmxError) as error:
        await store.snapshot_version(*ONE, "first")
    assert error.value.reason == "SNAPSHOT_UNKNOWN"
    with pytest.raises(AmxError) as error:
        await store.create_snapshot(*TWO, "none", 0, 8)
    assert error.value.reason == "MEMORY_VERSION_UNKNOWN"


async def test_fork_reads_its_source_as_of_then_under_what_it_wrote_itself(store: Store) -> None:
    await write(store, ONE, 1, a=b"1", b=b"1", c=b"1")
    assert await store.fork_memory(*ONE, 0, "two", 77) == StoredFork(1, 77, "one", 1)
    await write(store, ONE, 2, a=b"of the source", d=b"2")
    assert values(await store.memory(*TWO)) == {"a": b"1", "b": b"1", "c": b"1"}
    await write(store, TWO, 2, a=b"own", b=None)
    await write(store, TWO, 3, c=..., d=b"own")
    await write(store, TWO, 4, b=b"back")
    assert values(await store.memory(*TWO)) == {"a": b"own", "b": b"back", "d": b"own"}
    assert await at(store, TWO, 1) == {"a": b"1", "b": b"1", "c": b"1"}
    assert await at(store, TWO, 2) == {"a": b"own", "c": b"1"}
    assert await at(store, TWO, 3) == {"a": b"own", "d": b"own"}
    assert await store.memory_fork(*TWO) == StoredFork(1, 77, "one", 1)
    assert await store.memory_fork(*ONE) is None
    assert await store.memory_instances("default", "", ("", ""), 9) == [("greeter", "one"), ("greeter", "two")]


async def test_fork_of_a_fork_reads_through_both(store: Store) -> None:
    await write(store, ONE, 5, a=b"1", b=b"1", c=b"1")
    await store.fork_memory(*ONE, 0, "two", 1)
    await write(store, TWO, 2, a=b"2", b=...)
    await store.fork_memory(*TWO, 2, "three", 2)
    three = ("default", "greeter", "three")
    await write(store, TWO, 3, c=None)
    await write(store, three, 2, d=b"3")
    assert values(await store.memory(*three)) == {"a": b"2", "c": b"1", "d": b"3"}
    assert max(found.version for found in await store.memory(*three)) == 2  # numbers of the sources do not show


async def test_fork_onto_what_remembers_something_is_refused(store: Store) -> None:
    await write(store, ONE, 1, a=b"1")
    await write(store, TWO, 1, a=b"1")
    with pytest.raises(AmxError) as error:
        await store.fork_memory(*ONE, 0, "two", 1)
    assert error.value.reason == "FORK_TARGET_EXISTS"
    await store.fork_memory(*ONE, 0, "three", 1)
    with pytest.raises(AmxError):
        await store.fork_memory(*ONE, 0, "three", 1)
    await write(store, TWO, 2, a=None)
    assert (await store.fork_memory(*ONE, 0, "two", 1)).version == 3
    assert await at(store, TWO, 1) == {"a": b"1"}
    assert await at(store, TWO, 2) == {}


async def test_forks_of_forks_have_a_bound(store: Store) -> None:
    await write(store, ONE, 1, a=b"1")
    source = "one"
    for depth in range(MAX_FORK_DEPTH):
        await store.fork_memory("default", "greeter", source, 0, f"fork {depth}", 1)
        source = f"fork {depth}"
    assert values(await store.memory("default", "greeter", source)) == {"a": b"1"}
    with pytest.raises(AmxError) as error:
        await store.fork_memory("default", "greeter", source, 0, "too deep", 1)
    assert error.value.reason == "FORK_TOO_DEEP"


async def test_removal_between_versions_leaves_the_version_before_it_as_it_was(store: Store) -> None:
    await write(store, ONE, 1, a=b"1", b=b"1")
    await Session(store).commit(memory_remove=((*ONE, "a", "", 2),))  # expired: makes no version of its own
    assert values(await store.memory(*ONE)) == {"b": b"1"}
    assert await at(store, ONE, 1) == {"a": b"1", "b": b"1"}
    await write(store, ONE, 2, a=b"2")
    await write(store, ONE, 3, a=b"3")
    assert [await at(store, ONE, version) for version in (1, 2, 3)] == [
        {"a": b"1", "b": b"1"},
        {"a": b"2", "b": b"1"},
        {"a": b"3", "b": b"1"},
    ]


async def forget(store: Store, before_ms: int, keep: int, limit: int = 100) -> tuple[int, int]:
    versions = rows = 0
    after: tuple[str, str, str] | None = ("", "", "")
    while after is not None:
        step = await store.forget_versions(before_ms, keep, after, limit)
        versions, rows, after = versions + step.versions, rows + step.rows, step.after
    return versions, rows


async def test_versions_are_forgotten_by_age_and_by_count(store: Store) -> None:
    for version in range(1, 11):
        await write(store, ONE, version, a=b"%d" % version)
    assert await forget(store, before_ms=0, keep=100) == (0, 0)
    assert await forget(store, before_ms=4001, keep=100) == (3, 3)  # 3 was replaced at 4000
    assert [v.version for v in await store.memory_versions(*ONE, 0, 99)] == [10, 9, 8, 7, 6, 5, 4]
    assert await forget(store, before_ms=0, keep=2) == (5, 5)
    assert [v.version for v in await store.memory_versions(*ONE, 0, 99)] == [10, 9]
    assert await forget(store, before_ms=1 << 50, keep=0) == (1, 1)
    assert await at(store, ONE, 10) == {"a": b"10"}
    assert await store.version_counts() == VersionCounts(versions=1)


async def test_snapshots_and_forks_keep_their_versions_from_being_forgotten(store: Store) -> None:
    for version in range(1, 9):
        await write(store, ONE, version, a=b"%d" % version)
    await store.create_snapshot(*ONE, "kept", 3, 1)
    await store.fork_memory(*ONE, 5, "two", 1)
    assert await forget(store, before_ms=1 << 50, keep=1) == (5, 5)
    assert await at(store, ONE, 3) == {"a": b"3"}
    assert values(await store.memory(*TWO)) == {"a": b"5"}
    for forgotten in (1, 2, 4, 6, 7):
        with pytest.raises(AmxError) as error:
            await store.memory_at(*ONE, forgotten)
        assert error.value.reason == "MEMORY_VERSION_UNKNOWN"
    await store.delete_snapshot(*ONE, "kept")
    assert await forget(store, before_ms=1 << 50, keep=1) == (1, 1)
    assert values(await store.memory(*TWO)) == {"a": b"5"}


async def test_versions_are_forgotten_in_many_looks_past_those_that_are_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_versions, "_WINDOW", 3)
    monkeypatch.setattr(sqlite, "_AT_ONCE", 2)
    for version in range(1, 31):
        await write(store, ONE, version, a=b"%d" % version)
    kept = [1, 2, 3, 4, 5, 11, 17, 18]  # the oldest of them fill more than one look
    for version in kept:
        await store.create_snapshot(*ONE, f"kept {version}", version, 1)
    assert await forget(store, before_ms=0, keep=4) == (18, 18)
    left = [*kept, 27, 28, 29, 30]
    assert [v.version for v in await store.memory_versions(*ONE, 0, 99)] == left[::-1]
    assert [await at(store, ONE, version) for version in left] == [{"a": b"%d" % version} for version in left]
    for version in range(1, 31):
        if version not in left:
            with pytest.raises(AmxError):
                await at(store, ONE, version)
    for version in kept:
        await store.delete_snapshot(*ONE, f"kept {version}")
    assert await forget(store, before_ms=0, keep=4) == (8, 8)
    assert await store.version_counts() == VersionCounts(versions=4, rows=3)


async def test_version_that_is_named_after_it_was_doomed_stays(store: Store) -> None:
    assert isinstance(store, sqlite.SqliteStore)
    for version in range(1, 9):
        await write(store, ONE, version, a=b"%d" % version)
    doomed, settled = await store._scan(partial(sqlite_versions.doomed, instance=ONE, before_ms=0, keep=2, settled=0))
    assert ([one.version for one in doomed], settled) == ([1, 2, 3, 4, 5, 6], None)
    await store.create_snapshot(*ONE, "late", 4, 1)
    step = await store._change(partial(sqlite_versions.VersionWriter.forget, instance=ONE, doomed=doomed))
    assert step.versions == 3
    assert await forget(store, before_ms=0, keep=2) == (2, 2)
    assert [v.version for v in await store.memory_versions(*ONE, 0, 99)] == [8, 7, 4]
    assert await at(store, ONE, 4) == {"a": b"4"}


async def test_forgetting_in_small_steps_reaches_every_instance(store: Store) -> None:
    for key in ("a", "b", "c", "d"):
        for version in range(1, 4):
            await write(store, ("default", "greeter", key), version, m=b"%d" % version)
    assert await forget(store, before_ms=1 << 50, keep=1, limit=2) == (8, 8)
    assert await store.version_counts() == VersionCounts(versions=4)


async def test_suspensions_last_until_they_are_removed(tmp_path: Path) -> None:
    first, second = StoredSuspension(*ONE, "broken", 5), StoredSuspension(*TWO, "", 6)
    async with open_store(str(tmp_path / "amx.db")) as store:
        await Session(store).commit(suspension_put=(second, StoredSuspension(*ONE, "old", 1), first))
    async with open_store(str(tmp_path / "amx.db")) as store:
        assert await store.suspensions() == [first, second]
        await Session(store).commit(suspension_remove=(ONE,))
        assert await store.suspensions() == [second]
