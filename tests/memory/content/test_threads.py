"""Readers, writers, collections, compactions and the background thread at the same time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from amx_server.memory.content import ContentStore
from amx_server.memory.content.entry import Entry
from tests.memory.content.auditing import audit
from tests.memory.content.conftest import OpenStore, prose
from tests.memory.content.test_tiers import fill


def together(*works: Callable[[], None]) -> None:
    """Runs each in a thread; raises what any of them raises."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def exercise(store: ContentStore, seconds: float) -> dict[bytes, bytes]:
    """Everything at once for a while. Returns what must be there at the end."""
    fixed = fill(store, 150, size=3000)
    large = prose(7, 150_000)
    fixed[store.put(large)] = large
    store.retain([store.put(large)])
    store.flush()
    deadline = time.monotonic() + seconds
    held: dict[bytes, bytes] = {}

    def read(seed: int) -> None:
        source = random.Random(seed)
        addresses = list(fixed)
        while time.monotonic() < deadline:
            address = source.choice(addresses)
            assert store.get(address) == fixed[address]
            assert store.view(address) == fixed[address]

    def write(seed: int) -> None:
        mine: list[bytes] = []
        number = seed * 1_000_000
        while time.monotonic() < deadline:
            for _ in range(20):
                number += 1
                data = prose(number, 2000)
                address = store.put(data)
                store.retain([address])
                assert store.get(address) == data
                mine.append(address)
                held[address] = data
            store.flush()
            gone, mine = mine[:-10], mine[-10:]
            for address in gone:
                del held[address]
            store.release(gone)

    def share() -> None:
        """The same content again and again: put, retain, release race with its collection."""
        while time.monotonic() < deadline:
            for number in range(20):
                address = store.put(prose(number, 1000))
                store.retain([address])
                assert store.get(address) == prose(number, 1000)
                store.release([address])

    def upkeep() -> None:
        while time.monotonic() < deadline:
            store.collect()
            store.compact(0.3)
            assert store.verify().clean

    together(lambda: read(1), lambda: read(2), lambda: write(3), lambda: write(4), share, share, upkeep)
    return fixed | held


def test_everything_at_once_loses_nothing(open_store: OpenStore) -> None:
    store = open_store(background=True)
    expected = exercise(store, 4.0)
    assert all(store.get(address) == data and store.references(address) == 1 for address, data in expected.items())
    store.collect()
    store.collect()
    assert store.verify().clean
    store.close()
    again = open_store()
    audit(again)
    assert all(again.get(address) == data and again.references(address) == 1 for address, data in expected.items())
    again.collect()
    assert again.stats().unreferenced == 0
    assert again.stats().plain_bytes < 1_500_000


def test_flushes_of_several_threads_are_all_barriers(open_store: OpenStore) -> None:
    store = open_store()
    done: list[bytes] = []

    def commit(seed: int) -> None:
        for number in range(30):
            address = store.put(prose(seed * 100 + number, 500))
            store.retain([address])
            store.flush()
            assert address not in store._contents.unsaved
            assert store._contents.index[address].counted_in
            done.append(address)

    together(*(lambda seed=seed: commit(seed) for seed in range(4)))
    assert len(set(done)) == 120
    audit(store)


def test_upkeep_that_fails_says_why_and_goes_on(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(background=True)
    failed, seen = threading.Event(), threading.Event()
    step = store._maintenance.step

    def broken() -> bool:
        if not failed.is_set():
            failed.set()
            raise ValueError("a defect")
        seen.set()
        return step()

    monkeypatch.setattr(store._maintenance, "step", broken)
    assert failed.wait(30)
    assert seen.wait(30)
    assert store.stats().upkeep_failure == "ValueError: a defect"


def test_large_value_is_not_split_by_whoever_puts_something_small(open_store: OpenStore) -> None:
    """With a background thread, that is its work: the caller may be an event loop."""
    store = open_store(background=True, hot_bytes=3_000_000)
    names = set()
    done = threading.Event()
    split = store._demotion.packer.split

    def noted(address: bytes, entry: Entry) -> None:
        names.add(threading.current_thread().name)
        split(address, entry)
        done.set()

    store._demotion.packer.split = noted  # type: ignore[method-assign]
    large = random.Random(1).randbytes(2_000_000)
    address = store.put(large)
    for number in range(300):
        store.put(prose(number))
    assert done.wait(30)
    assert names == {"amx-content"}
    assert store.get(address) == large
