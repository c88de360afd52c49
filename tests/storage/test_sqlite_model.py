"""Random commits against a store made of dictionaries, in batches of every size, with restarts in between."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st

from amx_server.memory.blobs import ContentBlobs
from amx_server.memory.content import ContentOptions
from amx_server.storage import MemoryRow, MessageState, StoredMessage, open_store
from amx_server.storage.sqlite_content import references
from tests.storage.support import Session, message

IDS = st.sampled_from(["a", "b", "c", "d", "\x00", "é"])
SEQS = st.integers(1, 30)
BLOBS = st.binary(max_size=6)
PLACES = st.tuples(st.sampled_from(["n", "o"]), st.just("agent"), st.sampled_from(["k", "l"]))
NAMES = st.sampled_from(["v", "w"])
ENTRIES = st.sampled_from(["", "1", "\x00"])
ROWS = st.builds(MemoryRow, NAMES, ENTRIES, BLOBS, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
ENDED = st.sampled_from([MessageState.SUCCEEDED, MessageState.FAILED, MessageState.CANCELLED, MessageState.DEAD])

CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "insert": st.lists(st.tuples(IDS, BLOBS), max_size=3),  # numbered when they are run
        "finish": st.lists(st.tuples(SEQS, ENDED, BLOBS, st.integers(1, 9), st.integers(0, 9)), max_size=2),
        "retry": st.lists(st.tuples(SEQS, st.integers(0, 9), st.integers(0, 9), BLOBS), max_size=2),
        "drop": st.lists(SEQS, max_size=2),
        "memory_put": st.lists(st.tuples(PLACES, ROWS).map(lambda pair: (*pair[0], pair[1])), max_size=3),
        "memory_remove": st.lists(st.tuples(PLACES, NAMES, ENTRIES).map(lambda x: (*x[0], x[1], x[2], 5)), max_size=2),
        "memory_version": st.lists(
            st.tuples(PLACES, st.integers(1, 9)).map(lambda x: (*x[0], x[1], 1, "", 1)), max_size=1
        ),
        "memory_clear": st.lists(st.tuples(PLACES, NAMES).map(lambda x: (*x[0], x[1], 5)), max_size=1),
    },
)
# Lists of batches, "restart", "forget" (old versions), and the time before which ended messages are purged.
STEPS = st.lists(
    st.one_of(st.lists(CHANGES, max_size=8), st.sampled_from(["restart", "forget"]), st.integers(1, 9)), max_size=12
)


class Model:
    """What the store promises, done one commit after the other."""

    def __init__(self) -> None:
        self.messages: dict[int, StoredMessage] = {}
        self.memory: dict[tuple[str, str, str, str, str], MemoryRow] = {}
        self.next_seq = 1

    def apply(self, changes: dict[str, Any]) -> list[str]:
        duplicates = []
        for new in changes.get("insert", ()):
            if any(old.message_id == new.message_id for old in self.messages.values()):
                duplicates.append(new.message_id)
            else:
                self.messages[new.seq] = replace(new)
                self.next_seq = max(self.next_seq, new.seq + 1)
        for seq, state, outcome, ended_at_ms, attempts in changes.get("finish", ()):
            if old := self.messages.get(seq):
                old.state, old.outcome, old.ended_at_ms, old.attempts = state, outcome, ended_at_ms, attempts
                old.body = old.body if state == MessageState.DEAD else b""
        for seq, attempts, available_at_ms, outcome in changes.get("retry", ()):
            if old := self.messages.get(seq):
                old.state, old.outcome, old.ended_at_ms, old.attempts = 0, outcome, 0, attempts
                old.available_at_ms = available_at_ms
        for seq in changes.get("drop", ()):
            self.messages.pop(seq, None)
        for *place, _version in changes.get("memory_remove", ()):
            self.memory.pop(tuple(place), None)
        for *place, _version in changes.get("memory_clear", ()):
            self.memory = {k: v for k, v in self.memory.items() if k[:4] != tuple(place)}
        for *instance, row in changes.get("memory_put", ()):
            namespace, agent, key = instance
            self.memory[namespace, agent, key, row.name, row.entry] = row
        return duplicates

    def purge(self, before_ms: int) -> int:
        ended = [
            m.seq
            for m in self.messages.values()
            if m.state not in (MessageState.PENDING, MessageState.DEAD) and m.ended_at_ms < before_ms
        ]
        for seq in ended:
            del self.messages[seq]
        return len(ended)

    def of(self, instance: tuple[str, str, str]) -> list[MemoryRow]:
        rows = [row for place, row in self.memory.items() if place[:3] == instance]
        return sorted(rows, key=lambda row: (row.used, row.name, row.entry))

    def bytes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for m in self.messages.values():
            sizes[m.namespace] = sizes.get(m.namespace, 0) + len(m.body) + len(m.outcome)
        for (namespace, *_), row in self.memory.items():
            sizes[namespace] = sizes.get(namespace, 0) + len(row.value)
        return sizes


@settings(max_examples=60)
@given(STEPS)
def test_store_behaves_like_dictionaries(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "amx.db", steps, None))


@settings(max_examples=60)
@given(STEPS)
def test_store_with_values_by_address_does_so_too_and_each_row_has_one_reference(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, ContentBlobs(None, ContentOptions(background=False), 3) as blobs:
        asyncio.run(run(Path(folder) / "amx.db", steps, blobs))


def audit(path: Path, blobs: ContentBlobs) -> None:
    """What the content store counts is what rows refer to."""
    db = apsw.Connection(str(path))
    found = Counter(address for _, _, address in references(db))
    db.close()
    content = blobs.store
    assert {address: content.references(address) for address in content._contents.index} == {
        address: found[address] for address in content._contents.index
    }
    assert set(found) <= set(content._contents.index)


async def run(path: Path, steps: list[Any], blobs: ContentBlobs | None) -> None:
    model = Model()
    seq = 0
    opened = 1
    store = await open_store(str(path), blobs=blobs).__aenter__()
    try:
        for step in steps:
            if step == "restart":
                await store.__aexit__()
                store = await open_store(str(path), blobs=blobs).__aenter__()
                opened += 1
                assert store.generation == opened
                assert store.next_seq == model.next_seq
            elif step == "forget":
                await store.forget_versions(1 << 50, 1, ("", "", ""), 100)
            elif isinstance(step, int):
                assert await store.purge_ended(step, 1000) == model.purge(step)
            else:
                session = Session(store)
                expected, submitted = [], []
                for changes in step:
                    inserted = []
                    for message_id, body in changes.get("insert", ()):
                        seq += 1
                        inserted.append(message(seq, message_id, body=body))
                    whole = {**changes, "insert": inserted}
                    expected.append(model.apply(whole))
                    submitted.append(session.submit(**whole))
                await asyncio.gather(*(result for _, result in submitted))
                assert [list(commit.duplicates) for commit, _ in submitted] == expected
            found = await store.messages("default", "", None, 0, 1000)
            assert found == sorted(model.messages.values(), key=lambda m: m.seq)
            assert await store.pending_messages(0, 1000) == [m for m in found if m.state == MessageState.PENDING]
            for namespace in ("n", "o"):
                for key in ("k", "l"):
                    instance = (namespace, "agent", key)
                    assert [row for row in await store.memory(*instance) if row.name] == model.of(instance)
            assert await store.stored_bytes() == model.bytes()
            if blobs is not None:
                audit(path, blobs)
    finally:
        await store.__aexit__()
