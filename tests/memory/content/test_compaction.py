"""Compaction gives space back and keeps every count, every object and every dictionary that is needed."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from amx_server.core.errors import AmxError
from amx_server.memory.content import ContentStore
from tests.memory.content.auditing import abandon, audit
from tests.memory.content.conftest import OpenStore, prose
from tests.memory.content.test_durability import segments
from tests.memory.content.test_tiers import fill, settle


def thin_out(store: ContentStore, values: dict[bytes, bytes], keep_every: int) -> dict[bytes, bytes]:
    """Releases most of the values and collects them; returns the others."""
    kept = dict(list(values.items())[::keep_every])
    store.collect()
    store.release([address for address in values if address not in kept])
    store.collect()
    return kept


def test_compaction_gives_space_back(tmp_path: Path, store: ContentStore) -> None:
    values = fill(store, 300)
    store.flush()
    kept = thin_out(store, values, 10)
    before = store.stats()
    result = store.compact()
    after = store.stats()
    assert result.segments >= 3
    assert after.disk_bytes < before.disk_bytes / 4
    assert after.disk_bytes == sum(path.stat().st_size for path in segments(tmp_path / "content"))
    assert all(store.get(address) == data for address, data in kept.items())
    audit(store)


def test_upkeep_compacts_what_is_half_dead(store: ContentStore) -> None:
    values = fill(store, 300)
    store.flush()
    thin_out(store, values, 10)
    before = store.stats()
    settle(store)
    after = store.stats()
    assert after.compacted_bytes > 0
    assert after.disk_bytes < before.disk_bytes / 2
    audit(store)


def test_segment_in_full_use_is_left_alone(store: ContentStore) -> None:
    fill(store, 200)
    store.flush()
    settle(store)
    assert store.compact().segments == 0


def test_counts_survive_the_compaction_of_the_segments_that_stated_them(open_store: OpenStore) -> None:
    store = open_store()
    values = fill(store, 100)
    store.flush()
    twice, once, never = list(values)[:3]
    store.retain([twice])
    store.flush()
    store.release([never])
    store.flush()
    for _ in range(3):
        store.compact(0.0)
    abandon(store)
    again = open_store()
    assert [again.references(address) for address in (twice, once, never)] == [2, 1, 0]
    audit(again)


def test_released_content_does_not_come_back_when_a_later_segment_is_compacted(open_store: OpenStore) -> None:
    """The count of zero lies in a younger segment than the count of one: it must not go before it."""
    store = open_store()
    address = store.put(prose(1))
    store.retain([address])
    store.flush()
    log = store._contents.log
    assert log is not None
    log.roll()
    store.release([address])
    store.flush()
    log.roll()
    fill(store, 3, start=10)
    store.flush()
    store._compactor.segment(log.segments[2]).run()
    abandon(store)
    again = open_store()
    assert again.references(address) == 0
    assert again.damages == []


def test_compaction_on_a_full_disk_is_refused_and_loses_nothing(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    values = fill(store, 200)
    store.flush()
    kept = thin_out(store, values, 5)
    write, left = os.write, 3

    def full(descriptor: int, data: bytes) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(AmxError) as caught:
        store.compact(0.01)
    assert caught.value.reason == "CONTENT_DISK_FULL"
    settle(store)  # upkeep meets the same disk, says so, and goes on another time
    audit(store)
    monkeypatch.undo()
    assert all(store.get(address) == data for address, data in kept.items())
    store.compact(0.01)
    assert store.verify().clean
    store.close()
    again = open_store()
    assert all(again.get(address) == data for address, data in kept.items())
    assert again.verify().clean


LIMITED = """
import pathlib, resource, sys
from amx_server.core.errors import AmxError
from tests.memory.content.conftest import SMALL, prose
from amx_server.memory.content import ContentStore

store = ContentStore(pathlib.Path(sys.argv[1]), SMALL)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
kept = 0
try:
    for number in range(1000):
        store.retain([store.put(prose(number))])
        store.flush()
        kept += 1
except AmxError as error:
    print(error.reason, kept)
address = store.put(prose(kept))
assert store.get(address) == prose(kept)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.flush()
store.close()
"""


@pytest.mark.process
@pytest.mark.fault
def test_real_limit_of_file_sizes_is_a_full_disk(tmp_path: Path, open_store: OpenStore) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "content")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    reason, kept = done.stdout.split()
    assert reason == "CONTENT_DISK_FULL"
    assert int(kept) > 5
    store = open_store()
    addresses = [store.put(prose(number)) for number in range(int(kept) + 1)]
    assert all(store.references(address) == 1 for address in addresses)
    assert store.verify().clean


@pytest.mark.fault
def test_really_full_disk_refuses_and_recovers(tmp_path: Path, open_store: OpenStore) -> None:
    """A file system with room for 300 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        store = open_store(disk / "content", dictionary_bytes=0)
        durable: dict[bytes, bytes] = {}
        fresh: dict[bytes, bytes] = {}
        refused = ""
        for round in range(100):
            fresh = {}
            try:
                fresh = fill(store, 10, start=round * 10)
                store.flush()
                durable |= fresh
            except AmxError as error:
                refused = error.reason
                break
        assert refused in ("CONTENT_DISK_FULL", "CONTENT_MEMORY_FULL")
        assert len(durable) > 50
        assert all(store.get(address) == data for address, data in durable.items())
        store.collect()
        store.release(list(durable)[: len(durable) * 3 // 4])
        durable = dict(list(durable.items())[len(durable) * 3 // 4 :])
        store.collect()
        ballast = disk / "ballast"
        assert not ballast.exists()
        oldest = segments(disk / "content")
        assert len(oldest) > 2
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        store.flush()
        store.compact(0.01)
        abandon(store)
        again = open_store(disk / "content")
        assert all(again.get(address) == data and again.references(address) == 1 for address, data in durable.items())
        assert again.verify().clean
        again.close()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
