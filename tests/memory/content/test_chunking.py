"""Large values share what they have in common, and codecs give back what they got."""

from __future__ import annotations

import random
import threading
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from amx_server.memory.content import ContentStore
from amx_server.memory.content.chunking import LEAST, MOST, pieces
from amx_server.memory.content.codec import FIRST_DICTIONARY, PLAIN, ZSTD, Codec
from amx_server.memory.content.dictionary import Trainer
from tests.memory.content.auditing import abandon, audit
from tests.memory.content.conftest import OpenStore, prose
from tests.memory.content.test_tiers import settle

VALUES = {
    "prose": prose(1, 600_000),
    "noise": random.Random(1).randbytes(600_000),
    "digits": b"".join(b"%d," % (number * 7919) for number in range(60_000)),
}


@pytest.mark.parametrize("kind", VALUES)
def test_pieces_are_the_value_and_of_bounded_size(kind: str) -> None:
    cut = [bytes(piece) for piece in pieces(VALUES[kind])]
    assert b"".join(cut) == VALUES[kind]
    assert all(LEAST <= len(piece) <= MOST for piece in cut[:-1])
    assert len(cut) > 12


@pytest.mark.parametrize("kind", VALUES)
def test_insertion_leaves_most_pieces_as_they_were(kind: str) -> None:
    data = VALUES[kind]
    edited = data[:200_000] + b"something else" + data[200_000:]
    before = {bytes(piece) for piece in pieces(data)}
    shared = sum(len(piece) for piece in pieces(edited) if bytes(piece) in before)
    assert shared > len(data) * 0.75


@given(st.binary(max_size=200), st.integers(0, 3 * MOST))
def test_pieces_of_anything_are_the_value(motif: bytes, size: int) -> None:
    data = (motif * (size // max(len(motif), 1) + 1))[:size]
    assert b"".join(pieces(data)) == data


def test_value_of_one_repeated_byte_is_cut_at_the_largest_size() -> None:
    assert [len(piece) for piece in pieces(bytes(MOST * 2 + 5))] == [MOST, MOST, 5]


def test_versions_of_a_large_value_are_stored_once_where_they_agree(store: ContentStore) -> None:
    data = VALUES["prose"]
    for version in range(5):
        store.retain([store.put(data[:100_000] + b"version %d" % version + data[100_000:])])
    store.flush()
    stats = store.stats()
    assert stats.retained_bytes > 3_000_000
    assert stats.plain_bytes < 1_000_000
    assert stats.dedup_ratio > 3
    audit(store)


def test_packed_content_takes_no_more_memory_than_its_bytes() -> None:
    codec = Codec(3)
    codec.pack(b"compressors are made by whoever packs first")
    data = b"the same again and again " * 4000
    tracemalloc.start()
    try:
        packed = [codec.pack(data) for _ in range(20)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(len(one.body) < 1000 for one in packed)
    assert held < len(data)


@pytest.mark.parametrize("data", [b"", b"x", prose(1, 100), prose(1, 50_000), random.Random(1).randbytes(5000)])
def test_codec_gives_back_what_it_got(data: bytes) -> None:
    codec = Codec(3)
    plain = codec.pack(data)
    codec.add_dictionary(FIRST_DICTIONARY, prose(2, 20_000))
    trained = codec.pack(data)
    for packed in (plain, trained):
        assert codec.unpack(packed.codec, packed.body) == data
        assert len(packed.body) <= len(data)


def test_codec_leaves_incompressible_data_alone() -> None:
    codec = Codec(3)
    assert codec.pack(random.Random(1).randbytes(5000)).codec == PLAIN
    assert codec.pack(prose(1, 5000)).codec == ZSTD


def test_codec_without_the_dictionary_refuses() -> None:
    with pytest.raises(KeyError):
        Codec(3).unpack(FIRST_DICTIONARY, b"")


def test_codec_works_in_several_threads_with_one_dictionary() -> None:
    codec = Codec(3)
    codec.add_dictionary(FIRST_DICTIONARY, prose(1, 30_000))
    failures = []

    def work(seed: int) -> None:
        for number in range(200):
            data = prose(seed * 1000 + number, 1000)
            packed = codec.pack(data)
            if codec.unpack(packed.codec, packed.body) != data:
                failures.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_trainer_offers_a_dictionary_only_where_it_gains() -> None:
    trainer = Trainer(16_384, 3)
    assert not trainer.due
    for seed in range(400):
        trainer.offer(prose(seed, 600))
    assert trainer.due
    dictionary = trainer.train(None)
    assert dictionary is not None
    assert not trainer.due
    assert trainer.train(dictionary) is None
    data = zstandard.ZstdCompressionDict(dictionary)
    packed = zstandard.ZstdCompressor(dict_data=data).compress(prose(1000, 600))
    assert len(packed) < 0.8 * len(zstandard.ZstdCompressor().compress(prose(1000, 600)))


def test_trainer_learns_nothing_from_noise() -> None:
    trainer = Trainer(16_384, 3)
    for seed in range(200):
        trainer.offer(random.Random(seed).randbytes(1000))
    assert trainer.train(None) is None


def test_store_trains_its_dictionary_and_reads_with_every_version_after_a_restart(open_store: OpenStore) -> None:
    store = open_store(hot_bytes=1_000_000)
    values = {}
    numbers = iter(range(100_000))
    for generation in range(3):
        while store._contents.codec.current < FIRST_DICTIONARY + generation:
            for number in (next(numbers) for _ in range(200)):
                data = prose(number, 700).replace(b"tool", b"generation%d" % generation)
                values[store.put(data)] = data
            store.retain(list(values)[-200:])
            store.flush()
            settle(store)
            if next(numbers) > 20_000:
                pytest.fail("no further dictionary was worth it")
            if generation:
                store._contents.codec.add_dictionary(FIRST_DICTIONARY + generation, prose(generation, 3000))
    store.flush()
    used = {codec for codec, users in store._contents.codec_users.items() if users > 0}
    assert len(used) >= 2
    abandon(store)
    again = open_store()
    assert all(again.get(address) == data for address, data in values.items())
    assert again.stats().dictionary == max(used)
    again.compact(0.0)
    audit(again)
    assert again.verify().clean


def test_compaction_packs_again_with_the_latest_dictionary_and_drops_unused_ones(open_store: OpenStore) -> None:
    store = open_store(dictionary_bytes=0)
    codec = store._contents.codec
    values = {}
    for version in range(3):
        codec.add_dictionary(FIRST_DICTIONARY + version, prose(version, 3000))
        data = prose(50 + version, 700)
        values[store.put(data)] = data
        store.retain(list(values)[-1:])
        store.flush()
    assert len(store._contents.dictionaries_at) == 3
    store.compact(0.0)
    store.compact(0.0)
    assert list(store._contents.dictionaries_at) == [FIRST_DICTIONARY + 2]
    store.close()
    again = open_store()
    assert all(again.get(address) == data for address, data in values.items())
