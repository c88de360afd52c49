"""Bit flips on disk are found and named, what they hit is set aside, and putting it again heals every reference."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from amx_server.core.errors import AmxError
from amx_server.memory.content import ContentStore
from amx_server.memory.content.entry import Location
from tests.memory.content.auditing import audit
from tests.memory.content.conftest import OpenStore, prose
from tests.memory.content.test_durability import segments
from tests.memory.content.test_tiers import fill


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Changes one bit of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        (value,) = file.read(1)
        file.seek(offset)
        file.write(bytes([value ^ 1 << bit]))


def place(store: ContentStore, address: bytes) -> tuple[Path, Location]:
    """Where content lies."""
    contents = store._contents
    where = Location.unpack(contents.index[address].cold)
    assert contents.log is not None
    return contents.log.segments[where.segment].path, where


def test_corrupted_content_is_named_and_set_aside(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store()
    values = fill(store, 20)
    store.close()
    store = open_store()
    victim = list(values)[7]
    path, where = place(store, victim)
    flip(path, where.offset + where.stored // 2)
    with pytest.raises(AmxError) as caught:
        store.get(victim)
    assert caught.value.reason == "CONTENT_CORRUPTED"
    assert victim.hex() in caught.value.message
    (damage,) = store.damages
    assert damage.address == victim
    assert f"segment {where.segment}, offset {where.offset}" in str(damage)
    (kept,) = (tmp_path / "content" / "quarantine").iterdir()
    assert kept.name.startswith(victim.hex())
    assert len(kept.read_bytes()) == where.stored
    assert all(store.get(address) == data for address, data in values.items() if address != victim)
    assert store.verify().missing == [victim]
    audit(store)


def test_corrupted_content_is_healed_by_putting_it_again(open_store: OpenStore) -> None:
    store = open_store()
    values = fill(store, 20)
    store.close()
    store = open_store()
    victim = list(values)[7]
    path, where = place(store, victim)
    flip(path, where.offset + 3)
    assert [damage.address for damage in store.verify().damages] == [victim]
    with pytest.raises(AmxError, match="is damaged"):
        store.retain([victim])
    assert store.put(values[victim]) == victim
    assert (store.get(victim), store.references(victim)) == (values[victim], 1)
    assert store.verify().clean
    store.close()
    store = open_store()
    assert (store.get(victim), store.references(victim)) == (values[victim], 1)
    audit(store)


def test_corrupted_piece_of_a_large_value_is_healed_by_putting_the_value_again(open_store: OpenStore) -> None:
    store = open_store()
    data = prose(1, 300_000)
    address = store.put(data)
    store.retain([address])
    store.close()
    store = open_store()
    piece = store._contents.index[address].links[4]
    path, where = place(store, piece)
    flip(path, where.offset)
    with pytest.raises(AmxError, match=address.hex()) as caught:
        store.get(address)
    assert caught.value.reason == "CONTENT_CORRUPTED"
    assert piece.hex() in caught.value.message
    assert store.put(data) == address
    assert store.get(address) == data
    store.close()
    store = open_store()
    assert store.get(address) == data
    assert store.verify().clean


def test_copy_in_memory_takes_the_place_of_a_corrupted_one(open_store: OpenStore) -> None:
    store = open_store()
    values = fill(store, 3)
    store.flush()
    victim = next(iter(values))
    path, where = place(store, victim)
    flip(path, where.offset)
    (damage,) = store.verify().damages
    assert damage.healed
    store.close()
    store = open_store()
    assert (store.get(victim), store.references(victim)) == (values[victim], 1)
    assert store.verify().clean


def test_every_flipped_bit_is_found(tmp_path: Path, open_store: OpenStore) -> None:
    """One flip at a time, anywhere in a segment, closed or open: it is told, and nothing else is affected."""
    source = random.Random(4)
    store = open_store()
    values = fill(store, 12, size=400)
    node = store.put_node(list(values)[:3], b"node")
    store.retain([node])
    store.close()
    (path,) = segments(tmp_path / "content")
    whole = path.read_bytes()
    for _ in range(300):
        offset, bit = source.randrange(48, len(whole)), source.randrange(8)
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << bit
        path.write_bytes(damaged)
        store = open_store()
        missing = [address for address in values if address not in store]
        found = store.damages + store.verify().damages
        cut_off = path.stat().st_size < len(whole)  # the last record of the last segment may have been torn
        assert found or cut_off, f"byte {offset}, bit {bit} was not found"
        wrong = {damage.address for damage in found if damage.address and not damage.healed}
        for address, data in values.items():
            if address in wrong or address in missing:
                with pytest.raises(AmxError):
                    store.get(address)
            else:
                assert store.get(address) == data
        if not cut_off:
            assert len(wrong | set(missing)) <= 1
        audit(store)
        store.close()
        for left in segments(tmp_path / "content"):
            left.unlink()
        path.write_bytes(whole)


@pytest.mark.parametrize("copies", [1, 2])
def test_segment_header_is_there_twice(tmp_path: Path, open_store: OpenStore, copies: int) -> None:
    store = open_store()
    values = fill(store, 5)
    store.close()
    (path,) = segments(tmp_path / "content")
    for copy in range(copies):
        flip(path, 24 * copy + 9)
    store = open_store()
    if copies == 1:
        assert all(store.get(address) == data for address, data in values.items())
        assert store.damages == []
    else:
        assert [damage.where for damage in store.damages] == [path.name]
        assert (tmp_path / "content" / "quarantine" / path.name).exists()


def test_compaction_does_not_carry_damage_on(open_store: OpenStore) -> None:
    """A header that broke since the store was opened: what can still be read moves, what cannot is named."""
    store = open_store()
    values = fill(store, 30, size=2000)
    store.close()
    store = open_store()
    header, payload = list(values)[3], list(values)[9]
    path, where = place(store, header)
    flip(path, where.offset - 20)
    path, where = place(store, payload)
    flip(path, where.offset + 10)
    store.compact(0.0)
    assert {damage.address for damage in store.damages if not damage.healed} == {payload}
    assert {damage.address for damage in store.damages if damage.healed} == {header}
    for address, data in values.items():
        if address != payload:
            assert store.get(address) == data
    audit(store)
    store.close()
    store = open_store()
    assert store.get(header) == values[header]
    assert [damage.address for damage in store.damages] == [payload]
    assert store.put(values[payload]) == payload
    store.flush()
    assert store.verify().clean
