"""What is put comes back under its address; who retains it is counted, charged and held to quotas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from amx_server.core.errors import RESOURCE_EXHAUSTED, AmxError
from amx_server.memory.content import ContentOptions, ContentStore, Owner, Quotas, node_address_of
from tests.memory.content.auditing import abandon, audit
from tests.memory.content.conftest import SMALL, OpenStore, prose

CART, TILL = Owner("shop", "cart"), Owner("shop", "till")


def refusal(call: object, *arguments: object) -> AmxError:
    """The error that a call ends with."""
    assert callable(call)
    with pytest.raises(AmxError) as caught:
        call(*arguments)
    return caught.value


def test_address_is_blake3_of_the_bytes(store: ContentStore) -> None:
    assert store.put(b"abc") == blake3(b"abc").digest()


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 65_536, 65_537, 300_000])
def test_value_comes_back(store: ContentStore, size: int) -> None:
    data = prose(1, size)
    address = store.put(data)
    assert store.get(address) == data
    assert store.view(address) == data


def test_mutable_value_is_copied(store: ContentStore) -> None:
    data = bytearray(b"before")
    address = store.put(data)
    data[:] = b"after!"
    assert store.get(address) == b"before"


def test_hot_value_is_shared_not_copied(store: ContentStore) -> None:
    data = prose(1)
    address = store.put(data)
    assert store.get(address) is data
    view = store.view(address)
    assert view.obj is data
    assert view.readonly


def test_known_value_is_stored_once(store: ContentStore) -> None:
    addresses = {store.put(prose(1)) for _ in range(10)}
    stats = store.stats()
    assert len(addresses) == len(store) == stats.objects == 1
    assert stats.plain_bytes == 4096
    assert (stats.puts, stats.puts_known) == (10, 9)


def test_unknown_address_is_refused_by_name(store: ContentStore) -> None:
    error = refusal(store.get, bytes(32))
    assert error.reason == "CONTENT_NOT_FOUND"
    assert bytes(32).hex() in error.message


def test_value_above_the_limit_is_refused(open_store: OpenStore) -> None:
    store = open_store(max_value_bytes=1000)
    assert refusal(store.put, b"x" * 1001).reason == "CONTENT_TOO_LARGE"
    store.put(b"x" * 1000)


def test_value_that_looks_like_a_node_has_another_address(store: ContentStore) -> None:
    child = store.put(b"child")
    node = store.put_node([child], b"body")
    assert node == node_address_of((child,), b"body")
    disguised = store.put((1).to_bytes(4, "little") + child + b"body")
    assert disguised != node
    assert refusal(store.node, disguised).reason == "CONTENT_NOT_A_NODE"
    assert store.node(node) == ((child,), b"body")


def test_node_to_absent_content_is_refused_and_changes_nothing(store: ContentStore) -> None:
    child = store.put(b"child")
    assert refusal(store.put_node, [child, bytes(32)]).reason == "CONTENT_NOT_FOUND"
    assert len(store) == 1
    audit(store)


def test_size_of_a_node_counts_all_it_links_to(store: ContentStore) -> None:
    child = store.put(b"12345")
    inner = store.put_node([child, child], b"ab")
    assert store.size(inner) == 12
    assert store.size(store.put_node([inner, child])) == 17


def test_retaining_counts_and_charges_every_reference(store: ContentStore) -> None:
    address = store.put(prose(1, 1000))
    store.retain([address, address], CART)
    store.retain([address], TILL)
    assert store.references(address) == 3
    assert (store.held(CART), store.held(TILL), store.held(Owner("shop"))) == (2000, 1000, 3000)
    store.release([address], CART)
    assert (store.references(address), store.held(CART)) == (2, 1000)
    assert store.stats().dedup_ratio == 2


def test_batch_with_an_absent_address_retains_nothing(store: ContentStore) -> None:
    address = store.put(b"x")
    assert refusal(store.retain, [address, bytes(32)], CART).reason == "CONTENT_NOT_FOUND"
    assert store.references(address) == store.held(CART) == 0


def test_releasing_too_often_is_refused_and_changes_nothing(store: ContentStore) -> None:
    first, second = store.put(b"first"), store.put(b"second")
    store.retain([first, second], CART)
    error = refusal(store.release, [first, second, second], CART)
    assert error.reason == "CONTENT_NOT_RETAINED"
    assert "agent cart of namespace shop" in error.message
    assert (store.references(first), store.references(second), store.held(CART)) == (1, 1, 11)
    audit(store)


def test_agent_quota_is_refused_by_name_and_changes_nothing(open_store: OpenStore) -> None:
    store = open_store(quotas=Quotas(agent_bytes=10_000))
    first, second = store.put(prose(1, 6000)), store.put(prose(2, 6000))
    store.retain([first], CART)
    error = refusal(store.retain, [second], CART)
    assert (error.code, error.reason) == (RESOURCE_EXHAUSTED, "CONTENT_QUOTA_EXCEEDED")
    assert error.message.startswith("agent cart of namespace shop holds 6000 bytes of content and asks for 6000 more")
    assert (store.references(second), store.held(CART)) == (0, 6000)
    store.retain([second], TILL)
    audit(store)


def test_namespace_quota_covers_its_agents(open_store: OpenStore) -> None:
    store = open_store(quotas=Quotas(namespace_bytes=10_000))
    address = store.put(prose(1, 6000))
    store.retain([address], CART)
    error = refusal(store.retain, [address], TILL)
    assert error.message.startswith("namespace shop holds 6000")
    store.retain([address], Owner("bank", "teller"))


def test_quota_of_one_owner_overrides_the_default(open_store: OpenStore) -> None:
    store = open_store(quotas=Quotas(agent_bytes=100, overrides={CART: 0}))
    address = store.put(prose(1, 6000))
    store.retain([address], CART)
    assert refusal(store.retain, [address], TILL).reason == "CONTENT_QUOTA_EXCEEDED"


def test_replacing_asks_the_quota_for_the_difference(open_store: OpenStore) -> None:
    store = open_store(quotas=Quotas(agent_bytes=10_000))
    old, new = store.put(prose(1, 9000)), store.put(prose(2, 9000))
    store.retain([old], CART)
    store.update([new], [old], CART)
    assert store.held(CART) == 9000
    assert refusal(store.update, [old], [], CART).reason == "CONTENT_QUOTA_EXCEEDED"


def test_references_and_charges_survive_a_restart(open_store: OpenStore) -> None:
    store = open_store()
    address = store.put(prose(1, 1000))
    store.retain([address, address], CART)
    store.close()
    again = open_store()
    assert again.get(address) == prose(1, 1000)
    assert (again.references(address), again.held(CART)) == (2, 2000)
    assert again.stats().unreferenced == 0


def test_store_is_open_once(open_store: OpenStore) -> None:
    open_store()
    assert refusal(open_store).reason == "STORAGE_UNAVAILABLE"


def test_closed_store_refuses(open_store: OpenStore) -> None:
    store = open_store()
    store.close()
    store.close()
    assert refusal(store.put, b"x").reason == "CONTENT_CLOSED"
    assert refusal(store.flush).reason == "CONTENT_CLOSED"


def test_reconciling_sets_what_is_true_and_names_what_is_missing(open_store: OpenStore) -> None:
    store = open_store()
    kept, dropped, gone = store.put(prose(1, 100)), store.put(prose(2, 100)), bytes(31) + b"\1"
    store.retain([kept, dropped, dropped], CART)
    store.flush()
    abandon(store)
    again = open_store()
    result = again.reconcile([(TILL, kept, 2), (CART, gone, 1)])
    assert result.missing == [gone]
    assert result.corrected == 3
    assert [again.references(one) for one in (kept, dropped, gone)] == [2, 0, 1]
    assert (again.held(CART), again.held(TILL)) == (0, 200)
    assert refusal(again.get, gone).reason == "CONTENT_CORRUPTED"
    again.collect()
    assert dropped not in again
    audit(again)
    again.close()
    third = open_store()
    assert (third.references(kept), third.held(TILL)) == (2, 200)
    assert third.verify().missing == [gone]


def test_reconciled_content_that_is_put_again_is_there_again(open_store: OpenStore) -> None:
    store = open_store()
    data = prose(1, 100_000)
    store.reconcile([(CART, blake3(data).digest(), 1)])
    address = store.put(data)
    assert store.get(address) == data
    store.close()
    again = open_store()
    assert (again.get(address), again.references(address)) == (data, 1)
    assert again.verify().clean


@pytest.mark.parametrize(
    "wrong",
    [{"hot_bytes": 1}, {"warm_bytes": 0}, {"segment_bytes": 1 << 31}, {"max_value_bytes": 0}, {"index_bytes": -1}],
)
def test_option_out_of_range_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(SMALL, **wrong)


def test_memory_is_divided_among_tiers() -> None:
    options = ContentOptions.for_memory(16_000_000_000)
    assert options.hot_bytes + options.warm_bytes + options.index_bytes == 16_000_000_000


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    error = refusal(ContentStore, tmp_path / "file" / "content")
    assert error.reason == "CONTENT_DISK_FAILED"
    assert str(tmp_path / "file" / "content") in error.message


def test_largest_owners_come_first_and_may_be_asked_for_one_namespace(store: ContentStore) -> None:
    for owner, size in ((CART, 300), (TILL, 200), (Owner("bank", "desk"), 400), (Owner("bank"), 50)):
        store.retain([store.put(bytes([size % 251]) * size)], owner)
    everybody = [(Owner("shop"), 500), (Owner("bank"), 450), (Owner("bank", "desk"), 400), (CART, 300), (TILL, 200)]
    assert store.owners(9) == everybody
    assert store.owners(2) == everybody[:2]
    assert store.owners(9, "shop") == [(Owner("shop"), 500), (CART, 300), (TILL, 200)]
