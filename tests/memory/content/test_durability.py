"""What a flush has seen is there after a crash, at whatever byte the crash cut the files off."""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path

import pytest

from amx_server.core.errors import AmxError
from amx_server.memory.content import ContentStore, Owner
from amx_server.memory.content.records import SEGMENT_HEADER_BYTES, segment_header
from amx_server.memory.content.segment import Segment
from tests.memory.content.auditing import abandon, audit
from tests.memory.content.conftest import OpenStore, prose
from tests.memory.content.test_tiers import fill, settle

CART = Owner("shop", "cart")


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.segment"))


def test_flushed_content_survives_a_crash(open_store: OpenStore) -> None:
    store = open_store()
    values = fill(store, 50)
    store.flush()
    late = store.put(prose(99))
    store.retain([late])
    abandon(store)
    again = open_store()
    assert all(again.get(address) == data and again.references(address) == 1 for address, data in values.items())
    assert late not in again
    assert again.damages == []
    audit(again)


def test_content_nobody_retains_is_not_written(store: ContentStore) -> None:
    store.put(prose(1))
    store.flush()
    assert store.stats().cold.objects == 0


def test_nodes_are_flushed_with_all_they_link_to(open_store: OpenStore) -> None:
    store = open_store()
    leaves = [store.put(prose(seed, 100_000 if seed == 1 else 100)) for seed in range(3)]
    node = store.put_node([store.put_node(leaves, b"inner")], b"outer")
    store.retain([node], CART)
    store.flush()
    abandon(store)
    again = open_store()
    assert again.node(again.node(node).links[0]) == (tuple(leaves), b"inner")
    assert again.get(leaves[1]) == prose(1, 100_000)
    assert again.held(CART) == again.size(node) == 100_210
    assert again.verify().clean


def test_flush_without_changes_does_not_touch_the_disk(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, 3)
    store.flush()

    def fail(*_: object) -> None:
        raise AssertionError("the disk was touched")

    monkeypatch.setattr(os, "write", fail)
    monkeypatch.setattr("amx_server.memory.content.segment._sync_data", fail)
    store.flush()


def test_torn_tail_is_cut_off_wherever_it_was_torn(tmp_path: Path, open_store: OpenStore) -> None:
    """Every length that the last segment may have been left with, from what the first flush made durable."""
    store = open_store()
    first = fill(store, 3, size=200)
    store.flush()
    (path,) = segments(tmp_path / "content")
    durable = path.stat().st_size
    second = fill(store, 3, size=200, start=10)
    store.flush()
    abandon(store)
    whole = path.read_bytes()
    assert len(whole) > durable + 300
    for length in range(durable, len(whole) + 1):
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "content", copy)
        (copy / path.name).write_bytes(whole[:length])
        again = open_store(copy)
        assert again.damages == []
        assert all(again.get(address) == data and again.references(address) == 1 for address, data in first.items())
        there = [address for address in second if address in again]
        assert all(again.get(address) == second[address] for address in there)
        if length == len(whole):
            assert all(again.references(address) == 1 for address in second)
        else:  # counts come last in a flush: without the whole of it, nothing of it counts
            assert all(again.references(address) == 0 for address in second)
        again.collect()
        assert again._contents.index.keys() == first.keys() | (second.keys() if length == len(whole) else set())
        audit(again)
        again.close()
        shutil.rmtree(copy)


def test_torn_tail_is_cut_off_when_the_next_segment_was_just_created(tmp_path: Path, open_store: OpenStore) -> None:
    """One thread creates the next segment while another one appends to the last: a kill may come between."""
    store = open_store()
    values = fill(store, 3, size=200)
    store.flush()
    abandon(store)
    folder = tmp_path / "content"
    (path,) = segments(folder)
    with path.open("ab") as file:
        file.write(path.read_bytes()[100:150])
    Segment.create(folder, 2).close()
    Segment.create(folder, 3).close()
    for start in (10, 20):
        again = open_store(folder)
        assert again.damages == []
        assert again.verify().clean
        assert all(again.get(address) == data and again.references(address) == 1 for address, data in values.items())
        audit(again)
        values |= fill(again, 3, size=200, start=start)
        again.flush()
        abandon(again)
    assert [one.name for one in segments(folder) if one.stat().st_size > SEGMENT_HEADER_BYTES] == [
        "0000000001.segment",
        "0000000003.segment",
    ]


def test_torn_tail_of_a_segment_before_one_with_records_is_damage(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store()
    fill(store, 3, size=200)
    store.flush()
    abandon(store)
    folder = tmp_path / "content"
    (path,) = segments(folder)
    Segment.create(folder, 2).close()
    again = open_store(folder)
    fill(again, 3, size=200, start=10)
    again.flush()
    abandon(again)
    with path.open("ab") as file:
        file.write(bytes(50))
    (damage,) = open_store(folder).damages
    assert path.name in damage.where


def test_sectors_that_a_power_failure_lost_cost_only_what_was_not_flushed(
    tmp_path: Path, open_store: OpenStore
) -> None:
    """Writes that no fsync has seen may reach the disk in any order: some sectors of the second flush are zeros."""
    source = random.Random(5)
    store = open_store()
    first = fill(store, 5, size=900)
    store.flush()
    (path,) = segments(tmp_path / "content")
    durable = path.stat().st_size
    second = fill(store, 8, size=900, start=10)
    second |= {(large := store.put(prose(30, 100_000))): prose(30, 100_000)}
    store.retain([large])
    store.flush()
    abandon(store)
    whole = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(whole)
        for start in range(durable - durable % 512 + 512, len(whole), 512):
            if source.random() < 0.3:
                damaged[start : start + 512] = bytes(len(damaged[start : start + 512]))
        path.write_bytes(damaged)
        again = open_store()
        assert all(again.get(address) == data and again.references(address) == 1 for address, data in first.items())
        for address, data in second.items():
            if address in again and all(link in again for link in again._contents.index[address].links):
                assert again.get(address) == data
        again.reconcile([(Owner(), address, 1) for address in first])
        again.collect()
        assert again._contents.index.keys() == first.keys()
        again.compact(0.0)
        verified = again.verify()
        assert verified.clean, verified
        audit(again)
        again.close()
        for left in segments(tmp_path / "content"):
            left.unlink()


@pytest.mark.parametrize("tail", [b"\0" * 5000, os.urandom(5000)], ids=["zeros", "noise"])
def test_garbage_after_the_last_record_is_cut_off(tmp_path: Path, open_store: OpenStore, tail: bytes) -> None:
    store = open_store()
    values = fill(store, 5)
    store.close()
    path = segments(tmp_path / "content")[-1]
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(tail)
    again = open_store()
    assert path.stat().st_size == size
    assert again.damages == []
    more = fill(again, 5, start=100)
    again.close()
    third = open_store()
    assert all(third.get(address) == data for address, data in (values | more).items())


@pytest.mark.parametrize("length", [0, 1, 30, 47])
def test_segment_whose_creation_was_interrupted_is_removed(tmp_path: Path, open_store: OpenStore, length: int) -> None:
    store = open_store()
    values = fill(store, 5)
    store.close()
    interrupted = tmp_path / "content" / "0000000099.segment"
    interrupted.write_bytes(segment_header(99, 1234)[:length])
    again = open_store()
    assert not interrupted.exists()
    assert again.damages == []
    assert all(again.get(address) == data for address, data in values.items())
    audit(again)


def test_content_that_looks_like_records_stays_content(tmp_path: Path, open_store: OpenStore) -> None:
    """A whole segment file, stored as a value, beside a torn tail that makes the reader look for records in it."""
    store = open_store(segment_bytes=1_000_000)
    fill(store, 5, size=300)
    store.close()
    path = segments(tmp_path / "content")[0]
    other = open_store(tmp_path / "other", segment_bytes=1_000_000, dictionary_bytes=0)
    value = path.read_bytes() + os.urandom(5000)
    address = other.put(value)
    other.retain([address])
    other.close()
    file = segments(tmp_path / "other")[0]
    damaged = bytearray(file.read_bytes())
    damaged[60] ^= 1  # the header of the record that holds it
    file.write_bytes(damaged)
    again = open_store(tmp_path / "other")
    assert list(again._contents.index) == []
    assert again._contents.lost.keys() == {address}


def test_full_disk_refuses_the_flush_and_the_next_one_writes_it_all(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    write, written = os.write, 0

    def full(descriptor: int, data: bytes) -> int:
        nonlocal written
        written += 1
        if written == 1:
            return write(descriptor, bytes(data)[:100])  # a part goes through
        raise OSError(errno.ENOSPC, "No space left on device")

    values = fill(store, 10)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(AmxError, match="No space left") as caught:
        store.flush()
    assert caught.value.reason == "CONTENT_DISK_FULL"
    assert all(store.get(address) == data for address, data in values.items())
    monkeypatch.undo()
    more = fill(store, 5, start=100)
    store.flush()
    abandon(store)
    again = open_store()
    assert again.damages == []
    assert all(again.get(one) == data and again.references(one) == 1 for one, data in (values | more).items())
    assert again.verify().clean


def test_failed_fsync_ends_all_promises_until_the_store_is_opened_again(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    first = fill(store, 3)
    store.flush()

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    second = fill(store, 3, start=10)
    monkeypatch.setattr("amx_server.memory.content.segment._sync_data", broken)
    for _ in range(2):
        with pytest.raises(AmxError, match="fsync") as caught:
            store.flush()
        assert caught.value.reason == "CONTENT_DISK_FAILED"
        monkeypatch.undo()
    assert all(store.get(address) == data for address, data in (first | second).items())
    abandon(store)
    again = open_store()
    assert all(again.get(address) == data and again.references(address) == 1 for address, data in first.items())


def test_demoted_content_is_not_durable_before_a_flush_and_is_after_it(open_store: OpenStore) -> None:
    store = open_store()
    values = fill(store, 100)
    settle(store)
    assert store.stats().cold.objects > 20
    store.flush()
    abandon(store)
    again = open_store()
    assert all(again.get(address) == data and again.references(address) == 1 for address, data in values.items())
