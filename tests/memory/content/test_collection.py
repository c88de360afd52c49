"""Garbage goes, in small steps; what is retained, linked to, pinned, a root or fresh stays."""

from __future__ import annotations

import pytest

from amx_server.core.errors import AmxError
from amx_server.memory.content import ContentStore
from tests.memory.content.auditing import abandon, audit
from tests.memory.content.conftest import OpenStore, prose
from tests.memory.content.test_tiers import fill, settle


def age(store: ContentStore) -> None:
    """A collection: what was put before it is not fresh any more."""
    store.collect()


def test_released_content_goes_with_the_next_collection(store: ContentStore) -> None:
    values = fill(store, 10)
    age(store)
    gone = list(values)[:4]
    store.release(gone)
    result = store.collect()
    assert (result.objects, result.bytes) == (4, 4 * 4096)
    assert [address in store for address in values] == [False] * 4 + [True] * 6
    with pytest.raises(AmxError, match=gone[0].hex()):
        store.get(gone[0])
    audit(store)


def test_content_put_and_not_retained_survives_one_collection(store: ContentStore) -> None:
    address = store.put(b"fresh")
    assert store.collect().kept == 1
    assert address in store
    assert store.collect().objects == 1
    assert address not in store


def test_content_put_again_is_fresh_again(store: ContentStore) -> None:
    address = store.put(b"fresh")
    store.collect()
    store.put(b"fresh")
    store.collect()
    assert address in store


def test_what_a_node_links_to_lives_as_long_as_the_node(store: ContentStore) -> None:
    leaf = store.put(b"leaf")
    inner = store.put_node([leaf, leaf])
    outer = store.put_node([inner])
    store.retain([outer])
    for _ in range(3):
        store.collect()
    assert leaf in store
    store.release([outer])
    assert store.collect().objects == 3
    assert len(store) == 0
    audit(store)


def test_deep_chain_of_nodes_goes_at_once(store: ContentStore) -> None:
    head = store.put(b"start")
    for _ in range(5000):
        head = store.put_node([head])
    age(store)
    assert store.collect().objects == 5001


def test_pieces_of_a_large_value_go_with_it_unless_shared(store: ContentStore) -> None:
    first, second = prose(1, 200_000), b"begin" + prose(1, 200_000)
    addresses = [store.put(first), store.put(second)]
    store.retain(addresses)
    store.flush()
    age(store)
    objects = len(store)
    store.release(addresses[:1])
    result = store.collect()
    assert 1 < result.objects < objects // 2
    assert store.get(addresses[1]) == second
    audit(store)


def test_pinned_content_stays_while_it_is(store: ContentStore) -> None:
    address = store.put(b"pinned")
    with store.pinned([address]), store.pinned([address]):
        for _ in range(3):
            store.collect()
        assert address in store
    assert store.collect().objects == 1


def test_absent_content_cannot_be_pinned(store: ContentStore) -> None:
    address = store.put(b"there")
    with pytest.raises(AmxError, match="no content"), store.pinned([address, bytes(32)]):
        pytest.fail("pinned")
    assert store._contents.pins == {}


def test_roots_stay_with_what_they_link_to(store: ContentStore) -> None:
    leaf, other = store.put(b"leaf"), store.put(b"other")
    root = store.put_node([leaf])
    age(store)
    assert store.collect([root]).objects == 1
    assert root in store
    assert leaf in store
    assert other not in store


def test_content_retained_during_a_collection_stays(store: ContentStore) -> None:
    addresses = [store.put(prose(seed, 100)) for seed in range(500)]
    age(store)
    steps = store.collection()
    steps.step(0.0)
    late = [address for address in addresses if address in store]
    assert 0 < len(late) < 500
    store.retain(late[:10])
    store.put(prose(addresses.index(late[20]), 100))
    parent = store.put_node([late[30]])
    store.retain([parent])
    while not steps.step(0.0):
        audit_idle(store)
    assert late[30] in store
    assert [address in store for address in late[:10]] == [True] * 10
    assert late[20] in store
    assert len(store) == 13
    audit(store)


def audit_idle(store: ContentStore) -> None:
    """Half way, too, nothing that is retained is on its way out."""
    contents = store._contents
    assert all(not contents.index[address].refs for address in contents.idle if address in contents.index)


def test_collection_given_up_half_way_loses_no_garbage(store: ContentStore) -> None:
    for seed in range(500):
        store.put(prose(seed, 100))
    age(store)
    steps = store.collection()
    steps.step(0.0)
    del steps
    left = len(store)
    assert 0 < left < 500
    assert store.collect().objects == left


def test_garbage_of_a_killed_process_goes_with_the_first_collection(open_store: OpenStore) -> None:
    store = open_store()
    fill(store, 100)
    settle(store)  # much of it lies on disk, and no flush has said that it is retained
    assert store.stats().cold.objects > 20
    abandon(store)
    again = open_store()
    assert len(again) == again.stats().unreferenced > 20
    again.collect()
    assert len(again) == 0
    again.compact(0.01)
    assert again.stats().disk_bytes < 1000


def test_collected_node_does_not_come_back_without_what_it_links_to(open_store: OpenStore) -> None:
    """Its record may outlive that of its child, in another segment: after a restart it must not be taken for known."""
    store = open_store()
    leaf = store.put(prose(1))
    node = store.put_node([leaf], b"node")
    store.retain([leaf])
    store.flush()
    assert store._contents.log is not None
    store._contents.log.roll()
    kept = fill(store, 5, start=50)
    store.retain([node])
    store.flush()
    store.release([node, leaf])
    store.collect()
    store.collect()
    first = min(store._contents.log.segments)
    store._compactor.segment(store._contents.log.segments[first]).run()
    store.close()
    again = open_store()
    assert node not in again
    assert again.put_node([again.put(prose(1))], b"node") == node
    again.retain([node])
    again.close()
    third = open_store()
    assert third.get(third.node(node).links[0]) == prose(1)
    assert all(third.get(address) == data for address, data in kept.items())
    assert third.verify().clean
