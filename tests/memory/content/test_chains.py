"""Conversations share what they have in common; forks cost their difference."""

from __future__ import annotations

import pytest

from amx_server.core.errors import AmxError
from amx_server.memory.content import Chains, ContentStore, Owner
from amx_server.memory.content.chains import INLINE_BYTES
from tests.memory.content.auditing import audit
from tests.memory.content.conftest import OpenStore, prose


def test_messages_come_back_in_order(store: ContentStore) -> None:
    chains = Chains(store)
    messages = [prose(number, size) for number, size in enumerate((0, 1, 300, INLINE_BYTES, INLINE_BYTES + 1, 90_000))]
    head = chains.extend(None, messages)
    assert head is not None
    assert chains.messages(head) == messages
    assert list(chains.newest_first(head)) == messages[::-1]
    assert chains.messages(head, last=2) == messages[-2:]
    assert chains.length(head) == 6
    assert chains.messages(None) == []
    assert chains.extend(head, []) == head


def test_appending_leaves_the_old_head_as_it_was(store: ContentStore) -> None:
    chains = Chains(store)
    old = chains.append(None, b"hello")
    new = chains.append(old, b"world")
    assert chains.messages(old) == [b"hello"]
    assert list(chains.heads(new)) == [new, old]


def test_equal_conversations_are_one(store: ContentStore) -> None:
    chains = Chains(store)
    messages = [prose(number, 500) for number in range(10)]
    assert chains.extend(None, messages) == chains.extend(None, messages)
    assert len(store) == 10


def test_fork_costs_its_difference(store: ContentStore) -> None:
    chains = Chains(store)
    trunk = chains.extend(None, [prose(number, 500) for number in range(100)])
    before = store.stats()
    forks = [chains.append(trunk, b"fork %d" % number) for number in range(50)]
    after = store.stats()
    assert after.objects - before.objects == 50
    assert after.plain_bytes - before.plain_bytes < 50 * 20
    assert all(chains.length(fork) == 101 for fork in forks)


def test_long_message_is_shared_with_other_chains(store: ContentStore) -> None:
    chains = Chains(store)
    prompt = prose(1, 50_000)
    chains.append(chains.append(None, b"one"), prompt)
    chains.append(chains.append(None, b"two"), prompt)
    assert store.stats().plain_bytes < 51_000


def test_chain_lives_by_its_head(open_store: OpenStore) -> None:
    store = open_store()
    chains, owner = Chains(store), Owner("shop", "cart")
    head = None
    for number in range(300):
        new = chains.append(head, prose(number, 400))
        store.update([new], [head] if head else [], owner)
        head = new
        if not number % 50:
            store.flush()
    store.close()
    again = open_store()
    assert head is not None
    assert Chains(again).messages(head) == [prose(number, 400) for number in range(300)]
    assert again.held(owner) == again.size(head) > 300 * 400
    again.collect()
    assert len(again) == 300
    again.release([head], owner)
    again.collect()
    assert len(again) == 0
    audit(again)


def test_value_is_not_taken_for_a_chain(store: ContentStore) -> None:
    with pytest.raises(AmxError, match="not a node"):
        Chains(store).append(store.put(b"C\0\0\0\0\0"), b"x")
    with pytest.raises(AmxError, match="not the head of a chain"):
        Chains(store).length(store.put_node([], b"something else"))
