"""The SDK's memory and the engine's, one against the other: both know the same entries, lifetimes and order of use."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amx.v1 import link_pb2, memory_pb2
from amx_engine import Agent, expire, handler, memory
from amx_engine._definition import HostedAgent
from amx_engine._memory import InstanceMemory
from amx_server.memory.instance_memory import InstanceMemory as EngineMemory
from amx_server.memory.instance_memory import MemorySpec
from amx_server.storage.interface import Commit

LIMIT = 3


@Agent
class Bounded:
    table: dict[str, Any] = memory(persistent=True, max_entries=LIMIT, default_factory=dict)
    members: set[str] = memory(persistent=True, max_entries=LIMIT, default_factory=set)
    rows: list[str] = memory(persistent=True, max_entries=LIMIT, default_factory=list)
    word: str = memory(persistent=True, default="initial")

    @handler
    async def run(self) -> None: ...


@Agent
class Brief:
    table: dict[str, Any] = memory(persistent=True, ttl="10s", default_factory=dict)
    members: set[str] = memory(persistent=True, ttl="10s", max_entries=LIMIT, default_factory=set)
    rows: list[str] = memory(persistent=True, ttl="10s", default_factory=list)
    word: str = memory(persistent=True, ttl="10s", default="initial")

    @handler
    async def run(self) -> None: ...


class Pair:
    """One instance at a worker, and the engine behind it. now_ms is the clock of both."""

    def __init__(self, cls: type) -> None:
        self.agent = HostedAgent.of(cls)
        self.definitions = {one.name: MemorySpec.from_definition(one) for one in self.agent.definition.memories}
        self.engine = EngineMemory()
        self.now_ms = 1_700_000_000_000
        self.wake()

    def wake(self) -> None:
        """The worker forgets everything and gets what the engine remembers."""
        image = memory_pb2.InstanceMemory()
        self.engine.image(self.definitions, self.now_ms, image)
        self.memory = InstanceMemory(self.agent, lambda: self.now_ms / 1000)
        self.own: Any = self.agent.new_instance("default")
        self.memory.attach(self.own)
        self.memory.load(image, self.engine.version)

    def commit(self) -> bool:
        """The message succeeded. Returns whether it changed anything."""
        effects = link_pb2.Effects()
        self.memory.collect(effects)
        self.apply(effects.memory)
        assert self.memory.version == self.engine.version
        return bool(effects.memory)

    def apply(self, changes: Any) -> None:
        self.engine.apply(changes, self.definitions, self.now_ms, "default", "a", "k", Commit(lambda _: None))

    def put(self, name: str, id: str, value: bytes, expires_in_ms: int = 0) -> None:
        """A write from outside any handler."""
        entry = memory_pb2.MemoryEntry(id=id, value=value, expires_in_ms=expires_in_ms)
        self.apply([memory_pb2.MemoryChange(name=name, put=entry)])
        self.wake()

    def remembered(self) -> tuple[Any, ...]:
        return copy.deepcopy(self.own.table), set(self.own.members), list(self.own.rows), self.own.word

    def has_untold_reads(self) -> bool:
        """Whether entries were read of which the engine is told with the next write to their memory only."""
        logs = [root._log for root in self.memory._roots.values()]
        return any(log.recency is not None and log.recency.used for log in logs)

    def at_engine(self) -> dict[str, list[str]]:
        """Ids of live entries by memory, least recently used first."""
        image = memory_pb2.InstanceMemory()
        self.engine.image(self.definitions, self.now_ms, image)
        return {one.name: [entry.id for entry in one.entries] for one in image.memories}


KEYS = st.sampled_from("abcdef")
# Odd, while the clock moves in steps of 10 ms: no moment is the very last one, which the two ends may round otherwise.
LIFETIMES = st.none() | st.sampled_from([timedelta(milliseconds=each) for each in (25, 55, 1005, 25_005)])
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), KEYS, LIFETIMES),
    st.tuples(st.just("get"), KEYS, st.none()),
    st.tuples(st.just("inside"), KEYS, st.none()),
    st.tuples(st.just("delete"), KEYS, st.none()),
    st.tuples(st.just("add"), KEYS, LIFETIMES),
    st.tuples(st.just("contains"), KEYS, st.none()),
    st.tuples(st.just("discard"), KEYS, st.none()),
    st.tuples(st.just("unite"), KEYS, st.none()),
    st.tuples(st.just("append"), KEYS, LIFETIMES),
    st.tuples(st.just("insert"), KEYS, st.none()),
    st.tuples(st.just("take"), KEYS, st.none()),
    st.tuples(st.just("sort"), KEYS, st.none()),
    st.tuples(st.just("assign"), KEYS, LIFETIMES),
    st.tuples(st.just("clear"), KEYS, st.none()),
)
MESSAGES = st.tuples(
    st.lists(OPERATIONS, max_size=5),
    st.sampled_from(["succeeds", "succeeds", "fails"]),
    st.sampled_from([10, 30, 500, 9000, 20_000]),
)


def operate(own: Any, operation: str, key: str, ttl: timedelta | None) -> None:
    if operation == "put":
        own.table.put(key, {"n": []}, ttl=ttl)
    elif operation == "get":
        own.table.get(key)
    elif operation == "inside":
        if key in own.table:
            own.table[key]["n"].append(1)
    elif operation == "delete":
        own.table.pop(key, None)
    elif operation == "add":
        own.members.add(key, ttl=ttl)
    elif operation == "contains":
        assert (key in own.members) == (key in set(own.members))
    elif operation == "discard":
        own.members.discard(key)
    elif operation == "unite":
        own.members |= {key, "a"}
    elif operation == "append":
        own.rows.append(key, ttl=ttl)
    elif operation == "insert":
        own.rows.insert(1, key)
    elif operation == "take":
        if own.rows:
            own.rows.pop(0)
    elif operation == "sort":
        own.rows.sort()
    elif operation == "assign":
        own.word = key
        if ttl is not None:
            expire(own, "word", ttl)
    elif operation == "clear":
        own.table.clear()
        own.rows.clear()


@pytest.mark.parametrize("cls", [Bounded, Brief])
@settings(max_examples=150, deadline=None)
@given(messages=st.lists(MESSAGES, max_size=10))
def test_an_instance_that_stays_and_one_that_is_woken_each_time_remember_the_same(
    cls: type, messages: list[tuple[list[tuple[str, str, timedelta | None]], str, int]]
) -> None:
    stays, woken = Pair(cls), Pair(cls)
    for operations, outcome, pause_ms in messages:
        for pair in (stays, woken):
            before = pair.remembered()
            for operation in operations:
                operate(pair.own, *operation)
            if outcome == "fails":
                assert pair.memory.rollback()
                assert pair.remembered() == before
            changed = outcome != "fails" and pair.commit()
            pair.now_ms += pause_ms
            if changed and pair is woken and not pair.has_untold_reads():
                pair.wake()
        assert stays.remembered() == woken.remembered()
        assert stays.at_engine() == woken.at_engine()
        table, members, rows, _ = stays.remembered()
        ids = stays.at_engine()
        assert (len(table), len(members), len(rows)) == tuple(
            len(ids.get(name, ())) for name in ("table", "members", "rows")
        )


def test_reads_and_writes_are_told_in_the_order_they_happened() -> None:
    pair = Pair(Bounded)
    for key in "abc":
        pair.own.table[key] = 1
        pair.own.members.add(key)
    pair.commit()
    pair.own.table["a"] = 2
    assert pair.own.table["c"] and pair.own.table["b"]
    assert "c" in pair.own.members and "a" in pair.own.members
    pair.own.members.discard("b")
    pair.commit()
    assert pair.at_engine()["table"] == ['"a"', '"c"', '"b"']
    assert pair.at_engine()["members"] == ['"c"', '"a"']
    pair.own.table["d"] = 1
    pair.commit()
    assert pair.own.table.keys() == {"b", "c", "d"}
    assert pair.at_engine()["table"] == ['"c"', '"b"', '"d"']


def test_a_removal_that_failed_keeps_the_place_in_the_order_of_use() -> None:
    pair = Pair(Bounded)
    pair.own.table.update(a=1, b=1, c=1)
    pair.commit()
    del pair.own.table["c"]
    pair.memory.rollback()
    pair.own.table["d"] = 1
    pair.commit()
    assert pair.own.table.keys() == {"b", "c", "d"}


def test_writes_from_outside_evict_the_same_entry_as_those_of_a_handler() -> None:
    outside, inside = Pair(Bounded), Pair(Bounded)
    for pair in (outside, inside):
        pair.own.table.update(a=1, b=1, c=1)
        pair.own.rows.extend("abc")
        pair.commit()
        assert pair.own.table["a"]
        pair.own.table["c"] = 1
        pair.own.rows[0] = "A"  # recently written; a list still gives up its front
        pair.commit()
    outside.put("table", '"d"', b"1")
    outside.put("rows", "7", b'"d"')
    inside.own.table["d"] = 1
    inside.own.rows.append("d")
    inside.commit()
    assert outside.remembered() == inside.remembered() == ({"a": 1, "c": 1, "d": 1}, set(), ["b", "c", "d"], "initial")


def test_remaining_lifetimes_survive_the_way_to_the_engine_and_back() -> None:
    pair = Pair(Brief)
    pair.own.table.put("long", {}, ttl="1h")
    pair.own.table.put("short", {}, ttl=timedelta(seconds=2))
    pair.own.table["own"] = {}
    pair.own.word = "said"
    expire(pair.own, "word", "1h")
    pair.now_ms += 1500  # the handler takes its time; lifetimes count from the writing
    pair.commit()
    pair.now_ms += 400
    pair.wake()
    assert pair.own.table.keys() == {"long", "short", "own"}
    pair.now_ms += 200
    assert pair.own.table.keys() == {"long", "own"}
    pair.wake()
    assert pair.own.table.keys() == {"long", "own"}
    pair.now_ms += 3_590_000
    assert (pair.own.table.keys(), pair.own.word) == ({"long"}, "said")
    pair.own.table["long"] = {}  # without a lifetime of its own again
    pair.commit()
    pair.wake()
    pair.now_ms += 9000
    assert (pair.own.table, pair.own.word) == ({"long": {}}, "initial")
    pair.now_ms += 2000
    assert pair.own.table == {} and not any(pair.at_engine().values())


def test_writes_from_outside_have_lifetimes_of_their_own() -> None:
    pair = Pair(Bounded)
    pair.put("table", '"a"', b"1", 5000)
    pair.put("members", '"a"', b"", 5000)
    pair.now_ms += 4000
    assert pair.own.table == {"a": 1} and pair.own.members == {"a"}
    pair.now_ms += 1001
    assert pair.own.table == {} and pair.own.members == set()
