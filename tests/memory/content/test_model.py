"""The content store held to a dictionary: whatever is put, retained, released, collected, moved, closed or killed."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from amx_server.memory.content import ContentOptions, ContentStore, Owner, address_of, node_address_of
from amx_server.memory.content.codec import FIRST_DICTIONARY
from tests.memory.content.auditing import abandon, audit, owners

OWNERS = (Owner("shop", "cart"), Owner("shop", "till"), Owner("bank"))
PROSE = b"The quick brown fox jumps over the lazy dog, and the agent remembers what it was told. "


def content(seed: int, size: int) -> bytes:
    """Text that compresses, or bytes that do not."""
    source = random.Random(seed)
    if seed % 5 == 0:
        return source.randbytes(size)
    start = source.randrange(len(PROSE))
    text = PROSE[start:] + seed.to_bytes(4, "little") + PROSE * (size // len(PROSE) + 1)
    return text[:size]


class Machine(RuleBasedStateMachine):
    """`plain` and `links` is everything ever put; `refs` what is retained now; `saved` that at the last barrier."""

    on_disk = True

    def __init__(self) -> None:
        super().__init__()
        self.plain: dict[bytes, bytes] = {}
        self.links: dict[bytes, tuple[bytes, ...]] = {}
        self.refs: Counter[tuple[Owner, bytes]] = Counter()
        self.saved: Counter[tuple[Owner, bytes]] = Counter()
        self.directory = TemporaryDirectory()

    @initialize(budget=st.sampled_from([20_000, 400_000]), fill=st.integers(0, 1000))
    def open(self, budget: int, fill: int) -> None:
        self.options = ContentOptions(
            hot_bytes=budget,
            warm_bytes=budget if self.on_disk else 100_000_000,
            segment_bytes=30_000,
            background=False,
        )
        self.folder = Path(self.directory.name) / "store" if self.on_disk else None
        self.store = ContentStore(self.folder, self.options)
        source = random.Random(fill)
        for seed in range(source.randrange(30)):
            self.put(seed, source.randrange(3000))
            self.retain([source.randrange(1000)], source.choice(OWNERS))

    def pick(self, at: int) -> bytes | None:
        present = [address for address in self.plain if address in self.store]
        return present[at % len(present)] if present else None

    @rule(values=st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 1, 100, 1000, 5000, 90_000])), min_size=3))
    def put_several(self, values: list[tuple[int, int]]) -> None:
        for seed, size in values:
            self.put(seed, size)

    @rule(seed=st.integers(0, 1000), size=st.integers(0, 9000), which=st.integers(0, 1000), at=st.sampled_from(OWNERS))
    def replace(self, seed: int, size: int, which: int, at: Owner) -> None:
        """A value takes the place of another, as in an instance's memory."""
        old = [address for (owner, address), count in self.refs.items() if owner == at and count]
        new = self.put(seed, size)
        gone = [old[which % len(old)]] if old else []
        self.store.update([new], gone, at)
        self.refs[at, new] += 1
        self.refs.subtract((at, address) for address in gone)

    @rule(seed=st.integers(0, 5))
    def learn(self, seed: int) -> None:
        """A dictionary is trained."""
        codec = self.store._contents.codec
        codec.add_dictionary(max(codec.current + 1, FIRST_DICTIONARY), content(seed * 5 + 1, 2000))

    def put(self, seed: int, size: int) -> bytes:
        data = content(seed, size)
        address = self.store.put(data)
        assert address == address_of(data)
        self.plain[address] = data
        self.links[address] = ()
        return address

    @rule(seed=st.integers(0, 5), at=st.integers(0, 10), edit=st.binary(max_size=9))
    def put_edited(self, seed: int, at: int, edit: bytes) -> None:
        """Large values that have pieces in common."""
        data = b"".join(content(seed * 7 + part, 7000) for part in range(20))
        data = data[: at * 10_000] + edit + data[at * 10_000 :]
        self.plain[address := self.store.put(data)] = data
        self.links[address] = ()

    @rule(children=st.lists(st.integers(0, 1000), max_size=3), body=st.binary(max_size=20))
    def put_node(self, children: list[int], body: bytes) -> None:
        links = tuple(address for one in children if (address := self.pick(one)) is not None)
        address = self.store.put_node(links, body)
        assert address == node_address_of(links, body)
        self.plain[address] = body
        self.links[address] = links

    @rule(which=st.lists(st.integers(0, 1000), min_size=1, max_size=9), owner=st.sampled_from(OWNERS))
    def retain(self, which: list[int], owner: Owner) -> None:
        chosen = [address for one in which if (address := self.pick(one)) is not None]
        self.store.retain(chosen, owner)
        self.refs.update((owner, address) for address in chosen)

    @precondition(lambda self: +self.refs)
    @rule(which=st.lists(st.integers(0, 1000), min_size=1, max_size=9), owner=st.sampled_from(OWNERS))
    def release(self, which: list[int], owner: Owner) -> None:
        held = sorted((+Counter({key: n for key, n in self.refs.items() if key[0] == owner})).elements())
        chosen = [held.pop(one % len(held))[1] for one in which if held]
        self.store.release(chosen, owner)
        self.refs.subtract((owner, address) for address in chosen)

    @rule(one=st.integers(0, 1000), where=st.sampled_from(["get", "view"]))
    def read(self, one: int, where: str) -> None:
        address = self.pick(one)
        if address is not None:
            data = self.store.get(address) if where == "get" else self.store.view(address)
            assert data == self.plain[address]

    @rule()
    def flush(self) -> None:
        self.store.flush()
        self.saved = self.refs.copy()

    @rule(roots=st.lists(st.integers(0, 1000), max_size=2))
    def collect_once(self, roots: list[int]) -> None:
        kept = [address for one in roots if (address := self.pick(one)) is not None]
        self.store.collect(kept)
        assert all(address in self.store for address in kept)

    @rule()
    def collect_all(self) -> None:
        """Two cycles: what was put before the first is gone after the second."""
        self.store.collect()
        self.store.collect()
        held = self.closure(self.refs)
        assert {address for address in self.plain if address in self.store} == held

    @rule(share=st.sampled_from([0.01, 0.5]))
    def compact(self, share: float) -> None:
        self.store.compact(share)
        self.saved = self.refs.copy()

    @rule(steps=st.integers(1, 30))
    def maintain(self, steps: int) -> None:
        before = self.store.stats().compacted_bytes
        while steps and self.store.maintain(0.0001):
            steps -= 1
        if self.store.stats().compacted_bytes != before:
            self.saved = self.refs.copy()

    @rule()
    def verify(self) -> None:
        assert self.store.verify().clean

    @precondition(lambda self: self.on_disk)
    @rule()
    def restart(self) -> None:
        self.store.close()
        self.saved = self.refs.copy()
        self.store = ContentStore(self.folder, self.options)

    @precondition(lambda self: self.on_disk)
    @rule(reconcile=st.booleans())
    def kill(self, reconcile: bool) -> None:
        """The counts of the last barrier are back. A compaction begun and not ended may have made one unseen."""
        was = {address: self.store.references(address) for address in self.plain}
        abandon(self.store)
        self.store = ContentStore(self.folder, self.options)
        assert self.store.damages == []
        saved = self.counts(self.saved)
        assert all(self.store.references(one) in (saved[one], was[one]) for one in self.plain)
        self.refs = self.saved.copy()
        self.store.reconcile([(*key, count) for key, count in self.refs.items()])
        if reconcile:
            self.flush()

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "store"):
            return
        audit(self.store)
        counts = self.counts(self.refs)
        assert all(self.store.references(address) == counts[address] for address in self.plain)
        assert all(address in self.store for address in self.closure(self.refs))
        held: Counter[Owner] = Counter()
        for (owner, address), count in self.refs.items():
            held[owner] += count * self.store.size(address) if count else 0
        assert owners(self.store) == +held

    def teardown(self) -> None:
        if hasattr(self, "store"):
            for address in self.closure(self.refs):
                assert self.store.get(address) == self.plain[address]
            self.store.close()
        self.directory.cleanup()

    def closure(self, refs: Counter[tuple[Owner, bytes]]) -> set[bytes]:
        """All that references lead to."""
        found: set[bytes] = set()
        waiting = [address for (_, address), count in refs.items() if count]
        while waiting:
            address = waiting.pop()
            if address not in found:
                found.add(address)
                waiting.extend(self.links[address])
        return found

    @staticmethod
    def counts(refs: Counter[tuple[Owner, bytes]]) -> Counter[bytes]:
        total: Counter[bytes] = Counter()
        for (_, address), count in refs.items():
            total[address] += count
        return total


class InMemory(Machine):
    on_disk = False


@pytest.mark.parametrize("machine", [Machine, InMemory], ids=["on disk", "in memory"])
def test_store_behaves_like_a_dictionary_with_references(machine: type[Machine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
