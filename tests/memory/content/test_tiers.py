"""Budgets are kept: content moves down by recency, up when it is used, and nothing is lost on the way."""

from __future__ import annotations

import random
import sys

import pytest

from amx_server.core.errors import AmxError
from amx_server.memory.content import ContentStore
from amx_server.memory.content.codec import PLAIN
from amx_server.memory.content.entry import Location
from amx_server.memory.content.tier import Tier
from tests.memory.content.auditing import audit
from tests.memory.content.conftest import OpenStore, prose


def fill(store: ContentStore, count: int, size: int = 4096, start: int = 0) -> dict[bytes, bytes]:
    """Puts and retains so many different texts."""
    values = {}
    for seed in range(start, start + count):
        data = prose(seed, size)
        address = store.put(data)
        store.retain([address])
        values[address] = data
    return values


def fill_up(store: ContentStore, values: dict[bytes, bytes]) -> AmxError:
    """Puts incompressible content into the store, and into `values`, until it is refused; returns the refusal."""
    for seed in range(1000):
        data = random.Random(seed).randbytes(4096)
        try:
            values[store.put(data)] = data
        except AmxError as error:
            return error
    pytest.fail("4 MB fitted")


def tier_of(store: ContentStore, address: bytes) -> str:
    """The fastest tier that holds it."""
    contents = store._contents
    return "hot" if address in contents.hot else "warm" if address in contents.warm else "cold"


def settle(store: ContentStore) -> None:
    """All upkeep that is due."""
    while store.maintain():
        pass


def test_tiers_stay_within_their_budgets(store: ContentStore) -> None:
    values = fill(store, 500)
    stats = store.stats()
    assert stats.hot.bytes <= stats.hot.budget
    assert stats.warm.bytes <= stats.warm.budget * 1.1
    settle(store)
    stats = store.stats()
    assert stats.hot.bytes <= stats.hot.budget * 0.9
    assert stats.warm.bytes <= stats.warm.budget * 0.9
    assert stats.cold.objects > 300
    store.get(next(address for address in values if tier_of(store, address) == "hot"))
    store.get(next(address for address in values if tier_of(store, address) == "warm"))
    assert all(store.get(address) == data for address, data in values.items())
    stats = store.stats()
    assert stats.hot.hits
    assert stats.warm.hits
    assert stats.cold.hits
    audit(store)


def test_squeezed_tiers_move_down_what_no_longer_fits_and_take_it_up_again_later(store: ContentStore) -> None:
    values = fill(store, 100)
    settle(store)
    contents = store._contents
    hot, warm = contents.hot.budget, contents.warm.budget
    store.squeeze(0.25)
    settle(store)
    assert contents.hot.bytes <= hot * 0.25
    assert contents.warm.bytes <= warm * 0.25
    for address, data in values.items():
        assert store.get(address) == data
    audit(store)
    store.squeeze(1.0)
    assert (contents.hot.budget, contents.warm.budget) == (hot, warm)


def test_store_in_memory_only_is_not_squeezed_for_it_has_nowhere_to_move_to(open_store: OpenStore) -> None:
    store = open_store(None)
    budget = store._contents.hot.budget
    store.squeeze(0.25)
    assert store._contents.hot.budget == budget


def test_recently_used_content_stays_hot(store: ContentStore) -> None:
    favourite = store.put(b"favourite" * 100)
    for seed in range(300):
        store.put(prose(seed))
        store.get(favourite)
    assert tier_of(store, favourite) == "hot"


def test_tier_names_the_oldest_first_whatever_has_left_it() -> None:
    tier: Tier[bytes] = Tier(1 << 20, len)
    addresses = [number.to_bytes(32) for number in range(5000)]
    for address in addresses:
        tier.add(address, address)
    assert tier.victims(1) == [(addresses[0], addresses[0])]
    left = dict(tier.old)
    assert list(left) == addresses
    source = random.Random(1)
    while left:
        for address in source.sample(list(left), min(len(left), 50)):
            tier.use(address)
            del left[address]
        for address, value in list(left.items())[:20]:
            tier.discard(address)
            assert left.pop(address) == value
        if left:
            assert tier.victims(32) == list(left.items())[:32]
    assert not tier.old


def test_content_not_used_goes_from_hot_to_warm_to_cold(store: ContentStore) -> None:
    address = store.put(prose(0))
    seen = []
    for seed in range(1, 400):
        store.put(prose(seed))
        if tier_of(store, address) not in seen:
            seen.append(tier_of(store, address))
    assert seen == ["hot", "warm", "cold"]


def test_content_read_twice_is_promoted(store: ContentStore) -> None:
    values = fill(store, 400)
    settle(store)
    address = next(address for address in values if tier_of(store, address) == "cold")
    store.get(address)
    assert tier_of(store, address) == "warm"
    store.get(address)
    assert tier_of(store, address) == "hot"


def test_content_read_once_does_not_push_out_what_is_hot(store: ContentStore) -> None:
    values = fill(store, 400)
    settle(store)
    hot = {address for address in values if tier_of(store, address) == "hot"}
    cold = [address for address in values if tier_of(store, address) == "cold"][:50]
    for address in cold:
        store.get(address)
    assert {address for address in values if tier_of(store, address) == "hot"} == hot


def test_large_value_is_not_promoted_into_a_small_tier(store: ContentStore) -> None:
    data = prose(1, 60_000)
    address = store.put(data)
    fill(store, 200, start=5)
    for _ in range(4):
        assert store.get(address) == data
    assert tier_of(store, address) != "hot"


def test_value_larger_than_all_memory_is_taken(store: ContentStore) -> None:
    data = random.Random(1).randbytes(1_000_000)
    address = store.put(data)
    assert store.get(address) == data
    stats = store.stats()
    assert stats.hot.bytes + stats.warm.bytes <= stats.hot.budget + stats.warm.budget + 65_536
    audit(store)


def test_incompressible_content_is_left_alone_and_read_from_the_map(store: ContentStore) -> None:
    data = random.Random(1).randbytes(5000)
    address = store.put(data)
    store.retain([address])
    store.flush()
    fill(store, 300)
    settle(store)
    entry = store._contents.index[address]
    assert Location.unpack(entry.cold).codec == PLAIN
    view = store.view(address)
    assert view == data
    assert view.readonly
    assert not isinstance(view.obj, bytes)


def test_mapped_view_outlives_its_segment(store: ContentStore) -> None:
    data = random.Random(1).randbytes(5000)
    address = store.put(data)
    store.retain([address])
    store.flush()
    values = fill(store, 300)
    settle(store)
    view = store.view(address)
    store.release([address, *values])
    store.collect()
    store.collect()
    store.compact(0.01)
    assert address not in store
    assert view == data


def test_memory_only_store_refuses_when_it_is_full_and_goes_on_when_there_is_room(open_store: OpenStore) -> None:
    store = open_store(folder=None)
    values: dict[bytes, bytes] = {}
    error = fill_up(store, values)
    assert error.reason == "CONTENT_MEMORY_FULL"
    assert "the store keeps everything in memory" in error.message
    assert len(values) >= 28
    assert all(store.get(address) == data for address, data in values.items())
    known = next(iter(values))
    assert store.put(values[known]) == known
    store.retain([known])
    store.collect()
    store.collect()
    assert list(store._contents.index) == [known]
    store.put(random.Random(2000).randbytes(4096))
    audit(store)


def test_large_value_that_does_not_fit_into_memory_leaves_nothing_behind(open_store: OpenStore) -> None:
    store = open_store(folder=None)
    store.put(b"small")
    data = random.Random(1).randbytes(2_000_000)
    address = store.put(data)  # nothing else is there: it may stay, alone
    assert store.get(address) == data
    with pytest.raises(AmxError, match="none can be freed"):
        store.put(prose(1))
    audit(store)


def test_full_index_refuses(open_store: OpenStore) -> None:
    store = open_store(index_bytes=400 * 100)
    with pytest.raises(AmxError, match="the index of content is at its budget") as caught:
        fill(store, 101, size=10)
    assert caught.value.reason == "CONTENT_MEMORY_FULL"
    assert len(store) == 100


def test_full_cold_budget_refuses_and_keeps_everything(open_store: OpenStore) -> None:
    store = open_store(cold_bytes=200_000)
    values: dict[bytes, bytes] = {}
    error = fill_up(store, values)
    assert error.reason == "CONTENT_MEMORY_FULL"
    assert "the 200000 bytes that its budget allows" in error.message
    assert all(store.get(address) == data for address, data in values.items())
    assert store.stats().disk_bytes <= 200_000
    store.collect()
    store.collect()
    store.compact(0.01)
    fill(store, 20)
    store.flush()
    audit(store)


def test_index_entry_costs_what_is_charged_for_it(open_store: OpenStore) -> None:
    """ENTRY_BYTES against the sizes that Python reports for one cold object's entry, address and numbers."""
    store = open_store()
    values = fill(store, 100, size=300)
    store.flush()
    contents = store._contents
    sizes = [
        sys.getsizeof(entry) + sys.getsizeof(address) + sys.getsizeof(entry.cold) + sys.getsizeof(entry.size)
        for address, entry in contents.index.items()
    ]
    table = sys.getsizeof(dict.fromkeys(range(1_000_000))) / 1_000_000
    assert sum(sizes) / len(values) + 2 * table + 16 * 3 < 400


def test_tiers_say_how_many_plain_bytes_they_hold(store: ContentStore) -> None:
    values = fill(store, 60)
    store.flush()
    settle(store)
    for data in values.values():  # some come back from disk, others move up
        store.get(store.put(data))
    settle(store)
    stats, contents = store.stats(), store._contents
    assert stats.warm.objects and stats.cold.objects
    for tier, holds in ((stats.hot, contents.hot.peek), (stats.warm, contents.warm.peek)):
        assert tier.plain_bytes == sum(len(data) for address, data in values.items() if holds(address) is not None)
    assert stats.cold.plain_bytes == sum(map(len, values.values()))
    assert stats.warm.bytes < stats.warm.plain_bytes


def test_shared_content_is_one_object_whoever_brings_it(store: ContentStore) -> None:
    first, second = prose(1), bytes(bytearray(prose(1)))
    assert store.shared(first) is first
    assert store.shared(second) is first
    assert store.get_shared(store.put(second)) is first


def test_shared_content_is_the_own_object_where_the_hot_tier_is_full(store: ContentStore) -> None:
    held = fill(store, 15)  # 61 of 64 KB
    data = prose(99)
    assert store.shared(data) is data
    assert store.put(prose(0)) in held
    assert len(store) == 15  # nothing was stored, and nothing had to make room


def test_content_read_from_below_is_one_object_from_then_on(open_store: OpenStore) -> None:
    store = open_store()
    address = store.put(prose(1))
    store.retain([address])
    store.close()
    store = open_store()
    first = store.get_shared(address)
    assert first == prose(1)
    assert store.get_shared(address) is first
    assert store.shared(prose(1)) is first
