"""InstanceMemory: behaves like dicts, refuses as a whole, and its commits rebuild it from the store."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx.v1 import memory_pb2
from amx_server.core.errors import AmxError
from amx_server.memory.instance_memory import (
    DEFAULT_LIMITS,
    LIST,
    MAP,
    SET,
    VALUE,
    InstanceMemory,
    MemoryLimits,
    MemorySpec,
)
from amx_server.storage.interface import Commit, MemoryRow

NOW = 1_700_000_000_000
SPECS = {
    spec.name: spec
    for spec in [
        MemorySpec("total", VALUE, persistent=True),
        MemorySpec("scratch", VALUE),
        MemorySpec("orders", MAP, persistent=True),
        MemorySpec("recent", MAP, persistent=True, max_entries=3),
        MemorySpec("tags", SET, persistent=True),
        MemorySpec("log", LIST, persistent=True),
        MemorySpec("session", MAP, persistent=True, ttl_ms=1000),
    ]
}


def put(name: str, entry: str, value: bytes = b"", expires_in_ms: int = 0) -> memory_pb2.MemoryChange:
    return memory_pb2.MemoryChange(
        name=name, put=memory_pb2.MemoryEntry(id=entry, value=value, expires_in_ms=expires_in_ms)
    )


def remove(name: str, entry: str) -> memory_pb2.MemoryChange:
    return memory_pb2.MemoryChange(name=name, remove=entry)


def touch(name: str, entry: str) -> memory_pb2.MemoryChange:
    return memory_pb2.MemoryChange(name=name, touch=entry)


def clear(name: str) -> memory_pb2.MemoryChange:
    return memory_pb2.MemoryChange(name=name, clear=True)


class Rows:
    """A store of one instance's rows: what a Store does with the memory part of a commit."""

    @property
    def entries(self) -> list[MemoryRow]:
        """Rows of entries: all but the one that keeps the version."""
        return [row for row in self.rows.values() if row.name]

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], MemoryRow] = {}

    def write(self, commit: Commit) -> None:
        for *_, name, entry, _version in commit.memory_remove:
            assert (name, entry) in self.rows, "removes a row that was never stored"
            del self.rows[name, entry]
        for *_, name, _version in commit.memory_clear:
            self.rows = {k: row for k, row in self.rows.items() if k[0] != name}
        for *_, row in commit.memory_put:
            self.rows[row.name, row.entry] = row
        for *_, name, entry, used in commit.memory_touch:
            if (name, entry) in self.rows:
                self.rows[name, entry].used = used
        for *_, version, _at_ms, _message_id, _changes in commit.memory_version:
            self.rows["", ""] = MemoryRow("", "", b"", 0, version, 0)

    def reload(self) -> InstanceMemory:
        memory = InstanceMemory()
        memory.load(sorted(self.rows.values(), key=lambda row: row.used))
        return memory


def new_commit() -> Commit:
    return Commit(done=lambda error: None)


def apply(
    memory: InstanceMemory,
    changes: Iterable[memory_pb2.MemoryChange],
    now_ms: int = NOW,
    rows: Rows | None = None,
    specs: dict[str, MemorySpec] = SPECS,
    limits: MemoryLimits = DEFAULT_LIMITS,
) -> Commit:
    commit = new_commit()
    memory.apply(changes, specs, now_ms, "ns", "counter", "default", commit, limits)
    if rows is not None:
        rows.write(commit)
    return commit


def content(
    memory: InstanceMemory, now_ms: int = NOW, specs: dict[str, MemorySpec] = SPECS
) -> dict[str, list[tuple[str, bytes]]]:
    image = memory_pb2.InstanceMemory()
    memory.image(specs, now_ms, image)
    return {m.name: [(e.id, e.value) for e in m.entries] for m in image.memories if m.entries}


KEYS = st.sampled_from(['"a"', '"b"', '"c"', '"d"', "5", '"ü"'])
VALUES = st.sampled_from([b"1", b'"two"', b"[3]"])
CHANGES = st.one_of(
    st.builds(put, st.just("total"), st.just(""), VALUES),
    st.builds(put, st.just("scratch"), st.just(""), VALUES),
    st.builds(put, st.sampled_from(["orders", "recent"]), KEYS, VALUES),
    st.builds(put, st.just("session"), KEYS, VALUES, st.sampled_from([0, 300, 5000])),
    st.builds(put, st.just("tags"), KEYS),
    st.builds(put, st.just("log"), st.sampled_from(["-1", "0", "1", "20"]), VALUES),
    st.builds(remove, st.sampled_from(sorted(SPECS)), KEYS),
    st.builds(clear, st.sampled_from(sorted(SPECS))),
    st.builds(touch, st.sampled_from(["recent", "orders"]), KEYS),
)


class Model:
    """The same as dicts, written as plainly as possible."""

    def __init__(self) -> None:
        self.memories: dict[str, dict[str, tuple[bytes, int]]] = {name: {} for name in SPECS}

    def apply(self, change: memory_pb2.MemoryChange, now_ms: int) -> None:
        spec, entries = SPECS[change.name], self.memories[change.name]
        if change.HasField("clear"):
            entries.clear()
        elif change.HasField("remove"):
            entries.pop(change.remove, None)
        elif change.HasField("touch"):
            if spec.max_entries and change.touch in entries:
                entries[change.touch] = entries.pop(change.touch)
        else:
            entry = change.put
            lifetime = entry.expires_in_ms or spec.ttl_ms
            if spec.max_entries:
                entries.pop(entry.id, None)
            entries[entry.id] = (entry.value, now_ms + lifetime if lifetime else 0)
            while spec.max_entries and len(entries) > spec.max_entries:
                del entries[next(iter(entries))]

    def expire(self, now_ms: int) -> None:
        for entries in self.memories.values():
            for entry_id in [i for i, (_, at) in entries.items() if 0 < at <= now_ms]:
                del entries[entry_id]

    def content(self) -> dict[str, list[tuple[str, bytes]]]:
        return {n: [(i, v) for i, (v, _) in entries.items()] for n, entries in self.memories.items() if entries}


@given(st.lists(st.tuples(st.lists(CHANGES, max_size=6), st.integers(0, 700)), max_size=20))
def test_memory_behaves_like_dicts_and_its_rows_rebuild_it(
    steps: list[tuple[list[memory_pb2.MemoryChange], int]],
) -> None:
    memory, model, rows, now = InstanceMemory(), Model(), Rows(), NOW
    for changes, passed in steps:
        now += passed
        model.expire(now)
        version = memory.version
        apply(memory, changes, now, rows)
        for change in changes:
            model.apply(change, now)
        assert memory.version == version + bool(changes)
        assert content(memory, now) == model.content()
        # What only reads changed is stored when asked for.
        commit = new_commit()
        memory.store_touches("ns", "counter", "default", commit)
        rows.write(commit)
        stored = {name: entries for name, entries in model.content().items() if SPECS[name].persistent}
        assert content(rows.reload(), now) == stored
    now += 10_000
    commit = new_commit()
    memory.prune(now, "ns", "counter", "default", commit)
    rows.write(commit)
    assert {key for key in rows.rows if key[0] == "session"} == set()
    sizes = {
        name: (len(entries), sum(len(i.encode()) + len(v) for i, v in entries))
        for name, entries in content(memory, now).items()
    }
    assert {name: (count, size) for name, count, size, _ in memory.sizes()} == sizes
    assert memory.bytes == sum(count * 16 + size for count, size in sizes.values())
    assert memory.stored_bytes == sum(c * 16 + s for n, (c, s) in sizes.items() if SPECS[n].persistent)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("missing", "", b"1"), "no memory 'missing'"),
        (put("total", "x", b"1"), "holds one value"),
        (put("total", "", b""), "empty"),
        (put("orders", "plain", b"1"), "map"),
        (put("orders", "", b"1"), "map"),
        (put("tags", "'x'"), "set"),
        (put("tags", '"x"', b"1"), "no value"),
        (put("log", "first", b"1"), "ordinal"),
        (put("log", "01", b"1"), "ordinal"),
        (put("log", "-0", b"1"), "ordinal"),
        (put("orders", '"' + "k" * 5000 + '"', b"1"), "longer than 4096"),
        (put("orders", '"k"', b"1" * (1024 * 1024 + 1)), "1048577 bytes"),
        (memory_pb2.MemoryChange(name="orders"), "neither put"),
    ],
)
def test_memory_refuses_a_bad_change_and_changes_nothing(change: memory_pb2.MemoryChange, words: str) -> None:
    memory = InstanceMemory()
    apply(memory, [put("orders", '"a"', b"1")])
    commit = new_commit()
    with pytest.raises(AmxError, match=words) as raised:
        memory.apply([clear("orders"), change], SPECS, NOW, "ns", "counter", "default", commit)
    assert raised.value.reason == "INVALID_MEMORY_CHANGE"
    assert raised.value.metadata["memory"] == change.name
    assert content(memory) == {"orders": [('"a"', b"1")]}
    assert memory.version == 1
    assert not commit.memory_put and not commit.memory_remove and not commit.memory_clear


def test_memory_too_large_in_all_changes_nothing() -> None:
    memory, rows, limits = InstanceMemory(), Rows(), MemoryLimits(max_instance_bytes=200)
    apply(memory, [put("orders", '"a"', b"1" * 100), put("recent", '"a"', b"1")], rows=rows)
    before = content(memory), memory.bytes, memory.version
    with pytest.raises(AmxError, match="more than the 200 it may"):
        apply(memory, [touch("recent", '"a"'), put("orders", '"b"', b"1" * 100)], limits=limits)
    assert (content(memory), memory.bytes, memory.version) == before
    assert not memory.store_touches("ns", "counter", "default", new_commit())
    # Overwriting and clearing make room in the same apply.
    apply(memory, [put("orders", '"a"', b"2" * 100)], rows=rows, limits=limits)
    apply(memory, [clear("orders"), put("orders", '"b"', b"3" * 100)], rows=rows, limits=limits)
    assert content(rows.reload()) == content(memory)


def test_memory_entry_ttl_overrides_that_of_the_memory() -> None:
    memory = InstanceMemory()
    apply(memory, [put("session", '"short"', b"1", 500), put("session", '"long"', b"1", 5000)])
    apply(memory, [put("session", '"own"', b"1"), put("orders", '"short"', b"1", 500)])
    image = memory_pb2.InstanceMemory()
    memory.image(SPECS, NOW + 100, image)
    remaining = {(m.name, e.id): e.expires_in_ms for m in image.memories for e in m.entries}
    assert remaining == {
        ("session", '"short"'): 400,
        ("session", '"long"'): 4900,
        ("session", '"own"'): 900,
        ("orders", '"short"'): 400,
    }
    assert [i for i, _ in content(memory, NOW + 1000)["session"]] == ['"long"']
    assert memory.get("session", '"own"', NOW + 999) is not None
    assert memory.get("session", '"own"', NOW + 1000) is None


def test_memory_writing_renews_the_ttl_and_touching_does_not() -> None:
    specs = {"m": MemorySpec("m", MAP, ttl_ms=1000, max_entries=10)}
    memory = InstanceMemory()
    apply(memory, [put("m", '"written"', b"1"), put("m", '"touched"', b"1")], NOW, specs=specs)
    apply(memory, [put("m", '"written"', b"2"), touch("m", '"touched"')], NOW + 600, specs=specs)
    assert content(memory, NOW + 1200, specs) == {"m": [('"written"', b"2")]}


def test_memory_without_commit_prunes_only_what_is_not_stored() -> None:
    specs = {**SPECS, "cache": MemorySpec("cache", MAP, ttl_ms=10)}
    memory = InstanceMemory()
    apply(memory, [put("cache", '"a"', b"1"), put("session", '"a"', b"1")], specs=specs)
    assert memory.prune(NOW + 5, "ns", "counter", "default", None) == 0
    assert memory.prune(NOW + 5000, "ns", "counter", "default", None) == 1
    assert [name for name, *_ in memory.sizes()] == ["session"]
    commit = new_commit()
    assert memory.prune(NOW + 7000, "ns", "counter", "default", commit) == 1
    assert commit.memory_remove == (("ns", "counter", "default", "session", '"a"', 2),)
    assert not memory


def test_memory_of_a_definition_that_becomes_persistent_is_stored_with_the_next_change() -> None:
    rows, memory = Rows(), InstanceMemory()
    volatile = {"m": MemorySpec("m", MAP)}
    persistent = {"m": MemorySpec("m", MAP, persistent=True)}
    apply(memory, [put("m", '"a"', b"1")], rows=rows, specs=volatile)
    assert not rows.rows
    apply(memory, [put("m", '"b"', b"2")], rows=rows, specs=persistent)
    assert content(rows.reload(), specs=persistent) == {"m": [('"a"', b"1"), ('"b"', b"2")]}
    apply(memory, [put("m", '"c"', b"3")], rows=rows, specs=volatile)
    assert not rows.entries and memory.stored_bytes == 0
    assert len(content(memory, specs=volatile)["m"]) == 3


def test_memory_keeps_rows_that_the_present_definition_lacks() -> None:
    memory = InstanceMemory()
    memory.load([MemoryRow("gone", '"a"', b"1", 0, 7, 3), MemoryRow("total", "", b"2", 0, 5, 4)])
    assert memory.version == 7
    assert content(memory) == {"total": [("", b"2")]}
    assert "gone" in content(memory, specs={"gone": MemorySpec("gone", MAP)})


def test_memory_several_steps_in_one_commit_leave_what_the_last_left() -> None:
    specs = {"m": MemorySpec("m", MAP, persistent=True, ttl_ms=1000, max_entries=5)}
    memory, rows, commit = InstanceMemory(), Rows(), new_commit()

    def step(*changes: memory_pb2.MemoryChange) -> None:
        memory.apply(changes, specs, NOW, "ns", "counter", "default", commit)

    step(put("m", '"removed"', b"1"), put("m", '"put again"', b"1"), put("m", '"expired"', b"1"))
    step(remove("m", '"removed"'), remove("m", '"put again"'))
    step(put("m", '"put again"', b"2", 9000), touch("m", '"expired"'))
    memory.store_touches("ns", "counter", "default", commit)
    memory.prune(NOW + 1000, "ns", "counter", "default", commit)
    commit.memory_remove = ()  # nothing of this was in the store
    rows.write(commit)
    assert content(rows.reload(), specs=specs) == content(memory, specs=specs) == {"m": [('"put again"', b"2")]}
    commit = new_commit()
    step(put("m", '"new"', b"1"))
    step(clear("m"))
    rows.write(commit)
    assert not rows.entries


def test_memory_version_does_not_go_back_when_entries_are_removed_and_read_again() -> None:
    rows, memory = Rows(), InstanceMemory()
    apply(memory, [put("orders", '"a"', b"1")], rows=rows)
    apply(memory, [remove("orders", '"a"')], rows=rows)
    assert rows.reload().version == memory.version == 2
    assert not content(rows.reload())


def test_memory_search_is_ordered_bounded_and_by_prefix() -> None:
    memory = InstanceMemory()
    apply(memory, [put("orders", f'"{name}"', b"1") for name in ["eu/2", "us/1", "eu/1", "eu/3"]])
    apply(memory, [put("log", str(n), b"1") for n in [10, -3, 2]])
    found, more = memory.search("orders", MAP, '"eu/', NOW, 2)
    assert ([e.id for e in found], more) == (['"eu/1"', '"eu/2"'], True)
    found, more = memory.search("log", LIST, "", NOW, 10)
    assert ([e.id for e in found], more) == (["-3", "2", "10"], False)
    assert memory.search("total", VALUE, "", NOW, 10) == ([], False)


def test_memory_version_that_was_read_before_a_change_is_refused() -> None:
    memory = InstanceMemory(version=4)
    memory.require_version(0)
    memory.require_version(4)
    apply(memory, [put("total", "", b"1")])
    with pytest.raises(AmxError, match="has version 5, not 4") as raised:
        memory.require_version(4)
    assert raised.value.reason == "MEMORY_VERSION_MISMATCH"


BATCHES = st.lists(st.tuples(st.lists(CHANGES, max_size=6), st.integers(0, 700)), max_size=8)


@given(BATCHES, BATCHES)
def test_memory_restored_is_what_it_was_and_its_rows_rebuild_it(
    before: list[tuple[list[memory_pb2.MemoryChange], int]], after: list[tuple[list[memory_pb2.MemoryChange], int]]
) -> None:
    memory, rows, now = InstanceMemory(), Rows(), NOW
    for changes, passed in before:
        now += passed
        apply(memory, changes, now, rows)
    past = rows.reload()
    for changes, passed in after:
        now += passed
        apply(memory, changes, now, rows)
    unstored = content(memory, now).get("scratch")
    commit = new_commit()
    version = memory.version
    memory.restore(past, SPECS, now, "ns", "counter", "default", commit)
    rows.write(commit)
    assert memory.version - version == len(commit.memory_version) <= 1
    restored = content(memory, now)
    assert restored.pop("scratch", None) == unstored
    assert restored == content(past, now) == content(rows.reload(), now)
    assert memory.stored_bytes == sum(16 + len(i.encode()) + len(v) for found in restored.values() for i, v in found)
    again = new_commit()
    memory.restore(past, SPECS, now, "ns", "counter", "default", again)
    assert not (again.memory_put or again.memory_remove or again.memory_touch or again.memory_version)


@given(st.lists(CHANGES, max_size=8), st.lists(st.lists(CHANGES, max_size=4), max_size=4), st.integers(0, 700))
def test_twin_and_original_change_as_if_they_had_never_met(
    first: list[memory_pb2.MemoryChange], then: list[list[memory_pb2.MemoryChange]], passed: int
) -> None:
    original, alone = InstanceMemory(), InstanceMemory()
    for memory in (original, alone):
        apply(memory, first)
    twins = [original.twin() for _ in then]
    before, now = content(original), NOW
    for changes, twin in zip(then, twins, strict=True):
        expected = InstanceMemory()
        apply(expected, first)
        now += passed
        for memory in (twin, expected):
            memory.prune(now, "ns", "counter", "default", new_commit())
            apply(memory, changes, now)
        assert content(twin, now) == content(expected, now)
        assert (twin.version, twin.bytes, twin.stored_bytes) == (
            expected.version,
            expected.bytes,
            expected.stored_bytes,
        )
    assert content(original) == before
    apply(original, [clear(name) for name in SPECS])
    apply(alone, [clear(name) for name in SPECS])
    assert content(original) == content(alone) == {}
    for twin in twins:
        assert bool(twin) == bool(content(twin, 0))
