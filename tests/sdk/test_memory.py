"""Memory: containers that behave as plain ones, and whose changes, replayed elsewhere, give the same containers."""

from __future__ import annotations

import copy
import json
import pickle
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amx.v1 import link_pb2, memory_pb2
from amx_engine import Agent, DefinitionError, InvalidInput, expire, handler, memory
from amx_engine._changes import NOTHING
from amx_engine._definition import HostedAgent
from amx_engine._memory import InstanceMemory
from amx_engine._values import InvalidValue, encode_canonical


class Store:
    """What the engine does with memory changes, as the contract says: the other side of `collect` and `load`."""

    def __init__(self) -> None:
        self.memories: dict[str, dict[str, tuple[bytes, int]]] = {}
        self.version = 0

    def apply(self, effects: link_pb2.Effects) -> None:
        for change in effects.memory:
            entries = self.memories.setdefault(change.name, {})
            which = change.WhichOneof("change")
            if which == "put":
                entries.pop(change.put.id, None)
                entries[change.put.id] = (change.put.value, change.put.expires_in_ms)
            elif which == "remove":
                entries.pop(change.remove, None)
            elif which == "clear":
                entries.clear()
            elif change.touch in entries:
                entries[change.touch] = entries.pop(change.touch)
        if effects.memory:
            self.version += 1

    def forget_mortals(self) -> None:
        """Drops every entry that has a lifetime."""
        for name, entries in self.memories.items():
            self.memories[name] = {id: entry for id, entry in entries.items() if not entry[1]}

    def image(self) -> memory_pb2.InstanceMemory:
        image = memory_pb2.InstanceMemory()
        for name, entries in self.memories.items():
            if entries:
                one = image.memories.add(name=name)
                for id, (value, expires) in entries.items():
                    one.entries.add(id=id, value=value, expires_in_ms=expires)
        return image


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Host:
    """One instance of an agent, and the store behind it."""

    def __init__(self, cls: type) -> None:
        self.agent = HostedAgent.of(cls)
        self.clock = Clock()
        self.store = Store()
        self.instance: Any = None
        self.memory: InstanceMemory
        self.reload()

    def reload(self) -> Any:
        self.memory = InstanceMemory(self.agent, self.clock)
        self.instance = self.agent.new_instance("default")
        self.memory.attach(self.instance)
        self.memory.load(self.store.image(), self.store.version)
        return self.instance

    def commit(self) -> link_pb2.Effects:
        effects = link_pb2.Effects()
        self.memory.collect(effects)
        self.store.apply(effects)
        assert self.memory.version == self.store.version
        return effects


@Agent
class Rememberer:
    @memory(persistent=True)
    def table(self):  # type: ignore[no-untyped-def]
        return {}

    @memory(persistent=True)
    def rows(self):  # type: ignore[no-untyped-def]
        return []

    @memory(persistent=True)
    def members(self):  # type: ignore[no-untyped-def]
        return set()

    @memory
    def count(self):  # type: ignore[no-untyped-def]
        return 0

    @handler
    async def run(self) -> None: ...


KEYS = st.sampled_from(["a", "b", 0, 1, True, 1.0, None, 0.5, 2**60, (0, "a"), "", "0"])
INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
ATOMS = st.one_of(st.none(), st.booleans(), INTEGERS, st.floats(allow_nan=False, allow_infinity=False), st.text())
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


def grow(value: dict[str, Any], new: Any) -> None:
    """Adds to the list that the dict has, or gets now, at one key."""
    if not isinstance(value.setdefault("d", []), list):
        value["d"] = []
    value["d"].append(new)


def mutate(value: Any, choice: int, new: Any) -> None:
    """One change somewhere inside a container; the same for equal containers."""
    while isinstance(value, (list, dict)) and value:
        inner = value[sorted(value)[choice % len(value)]] if isinstance(value, dict) else value[choice % len(value)]
        if not isinstance(inner, (list, dict)) or choice % 3 == 0:
            break
        value = inner
    if isinstance(value, dict):
        operations: list[Any] = [
            lambda: value.__setitem__("n", new),
            lambda: value.pop("n", None),
            lambda: value.update({"u": new}),
            lambda: grow(value, new),
            value.clear,
        ]
        operations[choice % len(operations)]()
    elif isinstance(value, list):
        operations = [
            lambda: value.append(new),
            lambda: value.insert(0, new),
            lambda: value.pop() if value else None,
            lambda: value.extend([new, new]),
            value.reverse,
            lambda: value.__setitem__(slice(0, 1), [new, new]),
        ]
        operations[choice % len(operations)]()


class MemoryMachine(RuleBasedStateMachine):
    """Every operation goes to a memory and to a plain container; commits, rollbacks and reloads come in between."""

    def __init__(self) -> None:
        super().__init__()
        self.host = Host(Rememberer)
        self.table: dict[Any, Any] = {}
        self.rows: list[Any] = []
        self.members: set[Any] = set()
        self.count: Any = 0
        self.kept()

    def kept(self) -> None:
        self.committed = copy.deepcopy((self.table, self.rows, self.members, self.count))

    @property
    def own(self) -> Any:
        return self.host.instance

    @rule(key=KEYS, value=VALUES)
    def set_item(self, key: Any, value: Any) -> None:
        self.own.table[key] = copy.deepcopy(value)
        self.table[key] = copy.deepcopy(value)

    @rule(key=KEYS, value=VALUES)
    def put_for_a_while(self, key: Any, value: Any) -> None:
        self.own.table.put(key, copy.deepcopy(value), ttl="2s")
        self.table[key] = copy.deepcopy(value)

    @rule(key=KEYS)
    def delete_item(self, key: Any) -> None:
        assert (key in self.own.table) == (key in self.table)
        if key in self.table:
            del self.own.table[key]
            del self.table[key]

    @rule(key=KEYS, value=VALUES)
    def setdefault(self, key: Any, value: Any) -> None:
        assert self.own.table.setdefault(key, copy.deepcopy(value)) == self.table.setdefault(key, copy.deepcopy(value))

    @rule(items=st.dictionaries(KEYS, VALUES, max_size=3))
    def update(self, items: dict[Any, Any]) -> None:
        self.own.table |= copy.deepcopy(items)
        self.table |= copy.deepcopy(items)

    @rule(key=KEYS, choice=st.integers(0, 100), value=ATOMS)
    def change_inside_table(self, key: Any, choice: int, value: Any) -> None:
        mutate(self.own.table.get(key), choice, value)
        mutate(self.table.get(key), choice, value)

    @rule(key=KEYS, choice=st.integers(0, 100), value=ATOMS, other=KEYS)
    def pop_change_and_put_back(self, key: Any, choice: int, value: Any, other: Any) -> None:
        ours, plain = self.own.table.pop(key, None), self.table.pop(key, None)
        mutate(ours, choice, value)
        mutate(plain, choice, value)
        if plain is not None:
            self.own.table[other] = ours
            self.table[other] = plain

    @rule()
    def clear_table(self) -> None:
        self.own.table.clear()
        self.table.clear()

    @rule(items=st.dictionaries(KEYS, VALUES, max_size=3))
    def assign_table(self, items: dict[Any, Any]) -> None:
        self.own.table = copy.deepcopy(items)
        self.table = copy.deepcopy(items)

    @rule(value=VALUES)
    def append(self, value: Any) -> None:
        self.own.rows.append(copy.deepcopy(value))
        self.rows.append(copy.deepcopy(value))

    @rule(value=VALUES)
    def append_for_a_while(self, value: Any) -> None:
        self.own.rows.append(copy.deepcopy(value), ttl="2s")
        self.rows.append(copy.deepcopy(value))

    @rule(index=st.integers(-6, 6), value=VALUES)
    def insert(self, index: int, value: Any) -> None:
        self.own.rows.insert(index, copy.deepcopy(value))
        self.rows.insert(index, copy.deepcopy(value))

    @precondition(lambda self: self.rows)
    @rule(index=st.integers(0, 20))
    def pop(self, index: int) -> None:
        at = index % len(self.rows)
        assert self.own.rows.pop(at) == self.rows.pop(at)

    @precondition(lambda self: self.rows)
    @rule(index=st.integers(0, 20), choice=st.integers(0, 100), value=ATOMS)
    def change_inside_rows(self, index: int, choice: int, value: Any) -> None:
        at = index % len(self.rows)
        mutate(self.own.rows[at], choice, value)
        mutate(self.rows[at], choice, value)

    @rule(start=st.integers(0, 5), stop=st.integers(0, 5), values=st.lists(VALUES, max_size=3))
    def set_slice(self, start: int, stop: int, values: list[Any]) -> None:
        self.own.rows[start:stop] = copy.deepcopy(values)
        self.rows[start:stop] = copy.deepcopy(values)

    @rule(start=st.integers(0, 5), step=st.integers(1, 3))
    def delete_slice(self, start: int, step: int) -> None:
        del self.own.rows[start::step]
        del self.rows[start::step]

    @rule()
    def sort(self) -> None:
        self.own.rows.sort(key=repr, reverse=True)
        self.rows.sort(key=repr, reverse=True)

    @rule()
    def reverse(self) -> None:
        self.own.rows.reverse()
        self.rows.reverse()

    @precondition(lambda self: len(self.rows) < 20)
    @rule(times=st.integers(0, 2))
    def repeat(self, times: int) -> None:
        plain = copy.deepcopy(self.rows)
        self.own.rows *= times
        self.rows[:] = [copy.deepcopy(item) for _ in range(times) for item in plain]
        self.host.commit()  # repeated items are one object in a plain list, and separate ones in a stored list
        self.kept()

    @rule(member=KEYS)
    def add(self, member: Any) -> None:
        self.own.members.add(member)
        self.members.add(member)

    @rule(member=KEYS)
    def add_for_a_while(self, member: Any) -> None:
        self.own.members.add(member, ttl="2s")
        self.members.add(member)

    @rule(member=KEYS)
    def discard(self, member: Any) -> None:
        self.own.members.discard(member)
        self.members.discard(member)

    @rule(others=st.sets(KEYS, max_size=4), operation=st.integers(0, 4))
    def combine(self, others: set[Any], operation: int) -> None:
        for owner in (self, self.own):
            if operation == 0:
                owner.members |= others
            elif operation == 1:
                owner.members &= others
            elif operation == 2:
                owner.members -= others
            elif operation == 3:
                owner.members ^= others
            else:
                owner.members.clear()

    @rule(value=VALUES)
    def assign_value(self, value: Any) -> None:
        self.own.count = copy.deepcopy(value)
        self.count = copy.deepcopy(value)

    @rule(choice=st.integers(0, 100), value=ATOMS)
    def change_inside_value(self, choice: int, value: Any) -> None:
        mutate(self.own.count, choice, value)
        mutate(self.count, choice, value)

    @rule()
    def commit(self) -> None:
        self.host.commit()
        assert not self.host.memory.changed
        self.kept()

    @rule()
    def commit_and_reload(self) -> None:
        self.commit()
        self.host.reload()

    @rule()
    def time_passes(self) -> None:
        """Exactly those entries go which were committed with a lifetime."""
        self.commit()
        numbers = sorted(map(int, self.host.store.memories.get("rows", {})))
        self.host.clock.now += 3
        self.host.store.forget_mortals()
        left = self.host.store.memories
        self.table = {key: value for key, value in self.table.items() if encode_canonical(key) in left.get("table", {})}
        self.members = {member for member in self.members if encode_canonical(member) in left.get("members", {})}
        self.rows = [value for at, value in zip(numbers, self.rows, strict=True) if str(at) in left.get("rows", {})]
        self.kept()

    @rule()
    def roll_back(self) -> None:
        assert self.host.memory.rollback()
        assert not self.host.memory.changed
        self.table, self.rows, self.members, self.count = copy.deepcopy(self.committed)

    @initialize()
    def start(self) -> None:
        assert not self.host.memory.changed

    @invariant()
    def same(self) -> None:
        assert exact(self.own.table) == exact(self.table)
        assert exact(self.own.rows) == exact(self.rows)
        assert exact(self.own.members) == exact(self.members)
        assert exact(self.own.count) == exact(self.count)
        assert len(self.own.table) == len(self.table)
        assert self.own.rows == self.rows and repr(self.own.rows) == repr(self.rows)


def exact(value: Any) -> Any:
    """A form that tells 1, 1.0 and True apart and knows no order of keys and members."""
    if isinstance(value, dict):
        return sorted((repr(key), exact(item)) for key, item in value.items())
    if isinstance(value, list):
        return [exact(item) for item in value]
    if isinstance(value, set):
        return sorted(repr(member) for member in value)
    return repr(value)


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def agent_with(**memories: Any) -> type:
    """An agent class with these memories."""

    async def run(self: Any) -> None: ...

    return Agent(type("Made", (), {**memories, "run": handler(run), "__module__": __name__}))


def changes(effects: link_pb2.Effects) -> list[tuple[str, str, str]]:
    found = []
    for change in effects.memory:
        which = change.WhichOneof("change")
        detail = change.put.id if which == "put" else str(getattr(change, which))
        found.append((change.name, which, detail))
    return found


def test_nothing_changed_means_nothing_to_commit() -> None:
    host = Host(Rememberer)
    assert host.instance.table == {} and host.instance.rows == [] and host.instance.count == 0
    assert "x" not in host.instance.members
    assert not host.memory.changed
    assert not host.commit().memory
    assert host.memory.version == 0


def test_only_what_changed_is_sent() -> None:
    host = Host(Rememberer)
    host.instance.table.update({key: {"n": 1} for key in range(100)})
    host.instance.rows.extend([1, 2, 3])
    host.commit()
    host.instance.table[7]["n"] = 2
    host.instance.rows.append(4)
    host.instance.count += 1
    assert changes(host.commit()) == [("table", "put", "7"), ("rows", "put", "3"), ("count", "put", "")]
    host.instance.rows.insert(0, 0)
    host.instance.rows.pop(1)
    del host.instance.table[8]
    assert changes(host.commit()) == [("table", "remove", "8"), ("rows", "remove", "0"), ("rows", "put", "-1")]
    host.instance.table.clear()
    assert changes(host.commit()) == [("table", "clear", "True")]
    assert host.memory.version == 4


def test_large_integer_keys_survive() -> None:
    host = Host(Rememberer)
    key = hash("some text") * 3 + 2**62
    host.instance.table[key] = {"label": "POSITIVE"}
    host.commit()
    assert host.reload().table[key] == {"label": "POSITIVE"}


def test_containers_are_what_they_stand_for() -> None:
    host = Host(Rememberer)
    own = host.instance
    own.table["a"] = {"b": [1]}
    own.rows.append({"c": 1})
    own.members.add(1)
    host.commit()
    own = host.reload()
    assert isinstance(own.table, dict) and isinstance(own.rows, list) and isinstance(own.members, set)
    assert repr(own.table) == "{'a': {'b': [1]}}" and repr(own.rows) == "[{'c': 1}]" and repr(own.members) == "{1}"
    assert json.dumps(own.table) == '{"a": {"b": [1]}}'
    for value in (own.table, own.rows, own.members, own.table["a"], own.table["a"]["b"], own.rows[0]):
        for copied in (copy.copy(value), copy.deepcopy(value), value.copy(), pickle.loads(pickle.dumps(value))):
            assert copied == value
            assert type(copied) in (dict, list, set)
    assert type(own.table | {}) is dict and type(own.rows.__add__([])) is list and type(own.members | set()) is set
    assert type(own.rows[:]) is list
    assert not host.memory.changed


def test_a_raw_container_is_tracked_after_the_commit() -> None:
    host = Host(Rememberer)
    entry: dict[str, Any] = {}
    host.instance.table["k"] = entry
    entry["late"] = [1]
    assert host.instance.table["k"] is entry
    host.commit()
    assert host.instance.table["k"] is not entry
    host.instance.table["k"]["late"].append(2)
    host.commit()
    assert host.reload().table == {"k": {"late": [1, 2]}}


def test_a_container_in_two_places_becomes_two() -> None:
    host = Host(Rememberer)
    host.instance.table["a"] = {"n": [1]}
    host.commit()
    host.instance.table["b"] = host.instance.table["a"]
    host.instance.rows.append(host.instance.table["a"]["n"])
    host.instance.rows.append(host.instance.table)
    host.commit()
    host.instance.table["a"]["n"].append(2)
    host.instance.rows[1]["a"]["n"].append(3)
    host.commit()
    expected = {"a": {"n": [1, 2]}, "b": {"n": [1]}}
    assert host.instance.table == expected
    own = host.reload()
    assert own.table == expected
    assert own.rows == [[1], {"a": {"n": [1, 3]}, "b": {"n": [1]}}]


def test_what_was_removed_no_longer_counts() -> None:
    host = Host(Rememberer)
    host.instance.table["a"] = [1]
    host.commit()
    removed = host.instance.table.pop("a")
    host.commit()
    removed.append(2)
    assert not host.memory.changed


def test_rollback_undoes_everything_since_the_commit() -> None:
    host = Host(Rememberer)
    host.instance.table["a"] = {"n": [1]}
    host.instance.rows.extend([[1], [2], [3]])
    host.instance.count = 5
    host.commit()
    taken = host.instance.table.pop("a")
    taken["n"].append(9)
    host.instance.rows.reverse()
    host.instance.rows[0].append(9)
    host.instance.rows.insert(1, "x")
    host.instance.count += 1
    host.instance.members.add("m")
    assert host.memory.rollback()
    own = host.instance
    assert (own.table, own.rows, own.count, own.members) == ({"a": {"n": [1]}}, [[1], [2], [3]], 5, set())
    own.rows[2].append(4)
    own.table["a"]["n"].append(2)
    host.commit()
    assert host.reload().rows == [[1], [2], [3, 4]]
    assert host.instance.table == {"a": {"n": [1, 2]}}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1: "a"}, "key 1 is not text"),
        ({"t": timedelta(1)}, "does not come back"),
        ({1, 2}, "does not come back"),
        (float("nan"), "finite"),
        (object(), "does not come back"),
    ],
)
def test_values_that_would_not_come_back_are_refused_and_undone(value: Any, said: str) -> None:
    host = Host(Rememberer)
    host.instance.table["good"] = 1
    host.instance.table["bad"] = {"inner": [value]}
    effects = link_pb2.Effects()
    with pytest.raises(InvalidValue, match=said) as caught:
        host.memory.collect(effects)
    assert "bad" in caught.value.pointer
    assert not effects.memory
    assert host.memory.rollback()
    assert host.instance.table == {}


@pytest.mark.parametrize("key", [timedelta(1), frozenset(), float("inf"), (1, b"")])
def test_keys_that_would_not_come_back_are_refused_at_once(key: Any) -> None:
    host = Host(Rememberer)
    with pytest.raises(InvalidValue, match="memory key"):
        host.instance.table[key] = 1
    with pytest.raises(InvalidValue, match="memory key"):
        host.instance.members.add(key)
    assert host.instance.table == {} and host.instance.members == set()
    assert not host.memory.changed


def test_tuples_come_back_as_lists_before_and_after_a_reload() -> None:
    host = Host(Rememberer)
    host.instance.table["t"] = (1, (2,))
    host.commit()
    assert host.instance.table == {"t": [1, [2]]} == host.reload().table


@dataclass
class Account:
    owner: str
    balance: int = 0
    history: list[str] = field(default_factory=list)


@Agent
class Bank:
    accounts: dict[str, Account] = memory(persistent=True, default_factory=dict)
    journal: list[Account] = memory(persistent=True, default_factory=list)
    main: Account = memory(persistent=True, default_factory=lambda: Account("bank"))
    pairs: dict[tuple[int, int], tuple[int, str]] = memory(default_factory=dict)
    nested: dict[str, dict[int, set[str]]] = memory()  # type: ignore[assignment]
    days: set[timedelta] = memory(default_factory=set)

    @handler
    async def run(self) -> None: ...


def test_annotated_memories_hold_objects_and_notice_changes_inside_them() -> None:
    host = Host(Bank)
    own = host.instance
    own.accounts["a"] = Account("ann")
    own.journal.append(Account("joe"))
    own.pairs[(1, 2)] = (3, "x")
    own.nested["n"] = {1: {"a"}}
    own.days.add(timedelta(days=1))
    host.commit()
    own = host.reload()
    assert own.accounts == {"a": Account("ann")} and own.main == Account("bank")
    assert own.pairs == {(1, 2): (3, "x")} and own.days == {timedelta(days=1)}
    own.accounts["a"].balance += 5
    own.journal[0].history.append("opened")
    own.main.balance = 7
    own.nested["n"][1].add("b")
    assert sorted(changes(host.commit())) == [
        ("accounts", "put", '"a"'),
        ("journal", "put", "0"),
        ("main", "put", ""),
        ("nested", "put", '"n"'),
    ]
    for account in own.accounts.values():
        assert account.balance == 5
    assert not changes(host.commit())
    own.accounts["a"].balance = 100
    own.main.balance = 100
    host.memory.rollback()
    assert own.accounts["a"].balance == 5 and own.main.balance == 7
    own = host.reload()
    assert own.accounts == {"a": Account("ann", 5)} and own.journal == [Account("joe", 0, ["opened"])]
    assert own.main == Account("bank", 7) and own.nested == {"n": {1: {"a", "b"}}}


def test_annotated_memories_refuse_other_types() -> None:
    host = Host(Bank)
    host.instance.accounts["a"] = {"owner": "ann"}
    with pytest.raises(InvalidValue, match="expected a Account"):
        host.commit()
    assert host.memory.rollback()
    with pytest.raises(TypeError, match="is a dict"):
        host.instance.accounts = []


def test_entries_expire_between_messages() -> None:
    cls = agent_with(
        table=memory(ttl="10s", default_factory=dict, persistent=True),
        rows=memory(ttl=timedelta(seconds=10), default_factory=list),
        members=memory(ttl="10s", default_factory=set),
        value=memory(ttl="10s", default=1),
    )
    host = Host(cls)
    own = host.instance
    own.table["old"] = [1]
    own.table["kept"] = [1]
    own.rows.append("old")
    own.members.add("old")
    own.value = 2
    assert {change.put.expires_in_ms for change in host.commit().memory} == {10_000}
    host.clock.now += 6
    own.table["kept"].append(2)
    own.rows.append("new")
    own.members.add("new")
    host.commit()
    host.clock.now += 6
    assert own.table == {"kept": [1, 2]} and own.rows == ["new"] and own.members == {"new"} and own.value == 1
    assert not host.memory.changed
    own.rows.append("newer")
    assert changes(host.commit()) == [("rows", "put", "2")]
    host.clock.now += 100
    assert own.table == {} and own.rows == [] and own.members == set()


def test_entries_have_lifetimes_of_their_own() -> None:
    cls = agent_with(
        table=memory(ttl="1h", default_factory=dict),
        rows=memory(default_factory=list),
        members=memory(default_factory=set),
        value=memory(default="initial"),
    )
    host = Host(cls)
    own = host.instance
    own.table.put("short", 1, ttl="10s")
    own.table["memory's"] = 1
    own.table.put("long", 1, ttl=timedelta(hours=2))
    own.rows.append("short", ttl="10s")
    own.rows.append("endless")
    own.members.add("short", ttl="10s")
    own.members |= {"endless"}
    own.value = "set"
    expire(own, "value", timedelta(seconds=10))
    lifetimes = {(change.name, change.put.id): change.put.expires_in_ms for change in host.commit().memory}
    assert lifetimes == {
        ("table", '"short"'): 10_000,
        ("table", '"memory\'s"'): 3_600_000,
        ("table", '"long"'): 7_200_000,
        ("rows", "0"): 10_000,
        ("rows", "1"): 0,
        ("members", '"short"'): 10_000,
        ("members", '"endless"'): 0,
        ("value", ""): 10_000,
    }
    host.clock.now += 11
    assert own.table.keys() == {"memory's", "long"} and own.rows == ["endless"]
    assert own.members == {"endless"} and own.value == "initial"
    assert not host.memory.changed
    host.clock.now += 3600
    assert own.table.keys() == {"long"}


def test_writing_without_a_lifetime_ends_the_entrys_own() -> None:
    host = Host(Rememberer)
    own = host.instance
    for name in ("written", "assigned", "inside", "failed"):
        own.table.put(name, [1], ttl="10s")
        own.members.add(name, ttl="10s")
    own.count = 5
    expire(own, "count", "10s")
    host.commit()
    own.table["failed"] = [2]
    own.members.add("failed")
    host.memory.rollback()
    own.table["written"] = [2]
    own.table |= {"assigned": [2]}
    own.table["inside"].append(2)  # a detail: the entry still has its end
    own.members.add("written")
    own.members |= {"assigned"}
    own.count = 6
    host.commit()
    host.clock.now += 11
    assert own.table == {"written": [2], "assigned": [2]}
    assert own.members == {"written", "assigned"} and own.count == 6


def test_values_that_move_in_a_list_take_their_lifetimes_along() -> None:
    host = Host(Rememberer)
    own = host.instance
    own.rows.extend([3, 1])
    own.rows.append(2, ttl="10s")
    own.rows.append(0, ttl="20s")
    host.commit()
    own.rows.sort()
    own.rows.reverse()
    own.rows.insert(1, 9)
    own.rows.insert(1, 8)
    host.commit()
    assert own.rows == [3, 8, 9, 2, 1, 0]
    host.reload()
    host.clock.now += 11
    assert host.instance.rows == [3, 8, 9, 1, 0]
    host.clock.now += 10
    assert host.instance.rows == [3, 8, 9, 1]


def test_an_entry_can_be_given_a_lifetime_after_it_was_written() -> None:
    host = Host(Rememberer)
    own = host.instance
    own.table["a"] = own.table["b"] = 1
    own.rows.extend(["a", "b"])
    own.members |= {"a", "b"}
    host.commit()
    expire(own, "table", "10s", item="a")
    expire(own, "rows", "10s", item=-1)
    expire(own, "members", "10s", item="a")
    assert changes(host.commit()) == [("table", "put", '"a"'), ("rows", "put", "1"), ("members", "put", '"a"')]
    host.clock.now += 11
    assert (own.table, own.rows, own.members) == ({"b": 1}, ["a"], {"b"})


def test_lifetimes_that_cannot_be_are_refused_and_change_nothing() -> None:
    host = Host(Rememberer)
    own = host.instance
    for ttl in ("0s", timedelta(0), timedelta(seconds=-1), "soon"):
        for write in (
            lambda ttl=ttl: own.table.put("a", 1, ttl=ttl),
            lambda ttl=ttl: own.members.add("a", ttl=ttl),
            lambda ttl=ttl: own.rows.append("a", ttl=ttl),
            lambda ttl=ttl: expire(own, "count", ttl),
        ):
            with pytest.raises(InvalidInput, match="ttl"):
                write()
    for name, options, said in (
        ("nothing", {}, "no memory 'nothing'"),
        ("table", {}, "which of its entries"),
        ("count", {"item": 1}, "single value"),
    ):
        with pytest.raises(InvalidInput, match=said):
            expire(own, name, "1s", **options)
    with pytest.raises(KeyError):
        expire(own, "table", "1s", item="a")
    with pytest.raises(KeyError):
        expire(own, "members", "1s", item="a")
    with pytest.raises(IndexError):
        expire(own, "rows", "1s", item=0)
    assert not host.memory.changed and not host.commit().memory


@pytest.mark.parametrize("size", [10, 10_000])
def test_image_is_kept_until_its_memory_is_used_and_no_longer(size: int) -> None:
    host = Host(Rememberer)
    host.instance.table["a"] = "x" * size
    host.instance.rows.append(1)
    host.commit()
    own = host.reload()
    assert own.table == {"a": "x" * size} and set(host.memory._images) == {"rows"}
    assert own.rows == [1] and not host.memory._images


def test_equal_images_of_instances_that_come_one_after_the_other_are_held_once() -> None:
    hosts = [Host(Rememberer), Host(Rememberer), Host(Rememberer)]
    for host, value in zip(hosts, (1, 1, 2), strict=True):
        host.instance.rows.append(value)
        host.commit()
        host.reload()
    first, second, other = (host.memory._images["rows"] for host in hosts)
    assert first is second and other != first
    hosts[0].instance.rows.append(3)
    assert list(hosts[1].instance.rows) == [1]


def test_memory_that_cannot_be_decoded_is_never_taken_for_an_empty_one() -> None:
    host = Host(agent_with(table=memory(persistent=True, default_factory=dict)))
    host.instance.table["a"] = 1
    host.commit()
    host.store.memories["table"] = dict.fromkeys(host.store.memories["table"], (b"\xff", 0))
    own = host.reload()
    for _ in range(2):
        with pytest.raises(InvalidValue):
            _ = own.table


def test_what_unchanged_memories_share_cannot_be_written() -> None:
    with pytest.raises(TypeError):
        NOTHING["a"] = 1
    host = Host(Rememberer)
    host.instance.table["a"] = 1
    host.instance.members.add("m")
    host.commit()
    del host.instance.table["a"]
    host.memory.rollback()
    assert host.instance.table == {"a": 1} and not NOTHING


def test_lifetimes_of_entries_written_over_and_over_take_little_room() -> None:
    host = Host(agent_with(table=memory(ttl="24h", default_factory=dict)))
    own = host.instance
    for round in range(2000):
        own.table["hot"] = round
        own.table.put("shorter", 1, ttl=timedelta(seconds=4000 - round))
        own.table[f"gone {round}"] = 1
        del own.table[f"gone {round}"]
    host.commit()
    expiry = host.memory._roots["table"]._log.expiring
    assert expiry is not None and len(expiry.due) == 2 and len(expiry._heap) < 100
    host.clock.now += 2002
    assert own.table.keys() == {"hot"}


def test_initial_entries_whose_removal_failed_are_stored() -> None:
    host = Host(agent_with(table=memory(persistent=True)(lambda self: {"start": 1}), count=memory(default=0)))
    del host.instance.table["start"]
    host.memory.rollback()
    host.instance.count = 1
    host.commit()
    assert host.reload().table == {"start": 1}


def test_remaining_lifetimes_are_loaded() -> None:
    host = Host(agent_with(table=memory(ttl="10s", default_factory=dict, persistent=True)))
    image = memory_pb2.InstanceMemory()
    entries = image.memories.add(name="table").entries
    entries.add(id='"a"', value=b"1", expires_in_ms=2000)
    entries.add(id='"b"', value=b"1", expires_in_ms=500)
    host.memory.load(image, 3)
    host.clock.now += 1
    assert host.instance.table == {"a": 1}
    host.clock.now += 2
    assert host.instance.table == {}


def test_what_no_longer_fits_its_declaration_is_an_error_that_names_the_memory() -> None:
    before = Host(agent_with(counts=memory(persistent=True)(lambda self: {})))
    before.instance.counts["Ada"] = "many"
    before.commit()

    @Agent(name="Counts")
    class Annotated:
        counts: dict[str, int] = memory(persistent=True, default_factory=dict)

        @handler
        async def count(self, name: str) -> int:
            return self.counts[name]

    for changed, reason in (
        (Annotated, '"Ada": expected an integer, got the text'),
        (agent_with(counts=memory(persistent=True)(lambda self: [])), "it was no list before"),
        (agent_with(counts=memory(persistent=True, default=0)), "it was no value before"),
    ):
        after = Host(changed)
        after.memory.load(before.store.image(), before.store.version)
        with pytest.raises(InvalidInput, match=f"memory 'counts' remembers .*{reason}"):
            _ = after.instance.counts


def test_the_least_recently_used_entry_goes_first() -> None:
    cls = agent_with(
        table=memory(max_entries=2, default_factory=dict, persistent=True),
        rows=memory(max_entries=2, default_factory=list),
        members=memory(max_entries=2, default_factory=set),
    )
    host = Host(cls)
    own = host.instance
    own.table.update(a=1, b=2)
    own.rows.extend([1, 2])
    own.members |= {1}
    own.members |= {2}
    host.commit()
    assert own.table["a"] == 1 and 1 in own.members
    own.table["c"] = 3
    own.rows.append(3)
    own.members.add(3)
    assert len(own.table) == 3
    sent = changes(host.commit())
    assert own.table == {"a": 1, "c": 3} and own.rows == [2, 3] and own.members == {1, 3}
    assert ("table", "remove", '"b"') in sent and ("table", "touch", '"a"') in sent
    own = host.reload()
    own.table["d"] = 4
    host.commit()
    assert own.table == {"c": 3, "d": 4}


def test_a_rolled_back_eviction_is_decided_anew() -> None:
    host = Host(agent_with(table=memory(max_entries=2, default_factory=dict)))
    own = host.instance
    own.table.update(a=1, b=2)
    host.commit()
    own.table["c"] = object()
    with pytest.raises(InvalidValue):
        host.commit()
    host.memory.rollback()
    assert own.table == {"a": 1, "b": 2}
    own.table["c"] = 3
    host.commit()
    assert len(own.table) == 2 and own.table["c"] == 3


def test_initial_values_are_stored_with_the_first_commit() -> None:
    cls = agent_with(
        table=memory(persistent=True)(lambda self: {"start": [1]}),
        rows=memory(persistent=True, default_factory=lambda: [1]),
        words=memory(persistent=True)(lambda self: defaultdict(list)),
        count=memory(default=0),
    )
    host = Host(cls)
    assert host.instance.table == {"start": [1]}
    assert not host.memory.changed
    host.instance.words["a"].append(1)
    assert changes(host.commit()) == [("table", "put", '"start"'), ("words", "put", '"a"'), ("rows", "put", "0")]
    host.instance.table.clear()
    host.instance.rows.clear()
    host.commit()
    own = host.reload()
    assert own.table == {} and own.rows == [] and own.words == {"a": [1]}
    own.words["b"].append(2)
    host.commit()
    assert host.reload().words == {"a": [1], "b": [2]}


def test_an_object_without_engine_remembers_by_itself() -> None:
    plain = Rememberer()
    other = Rememberer()
    plain.count += 1
    plain.table["a"] = 1
    assert (plain.count, plain.table, other.count, other.table) == (1, {"a": 1}, 0, {})


def test_changes_in_the_constructor_are_refused() -> None:
    class Eager:
        def __init__(self) -> None:
            self.count = 5

        @memory  # type: ignore[no-redef]
        def count(self) -> int:
            return 0

        @handler
        async def run(self) -> None: ...

    with pytest.raises(DefinitionError, match="initial value in its declaration"):
        Host(Agent(Eager))


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (memory(), "no initial value"),
        (memory(default_factory=frozenset), "frozenset"),
        (memory(lambda self: self.missing), "annotate what it returns"),
    ],
)
def test_memories_that_cannot_be_say_why(declared: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        HostedAgent.of(agent_with(bad=declared))


def test_definitions_of_memories() -> None:
    cls = agent_with(
        cache=memory(persistent=True, ttl="24h", max_entries=5, default_factory=dict, description="A cache.")
    )
    (definition,) = HostedAgent.of(cls).definition.memories
    assert (definition.name, definition.persistent, definition.ttl_ms) == ("cache", True, 86_400_000)
    assert (definition.max_entries, definition.description) == (5, "A cache.")


def test_values_that_other_languages_would_round_are_refused() -> None:
    host = Host(Rememberer)
    host.instance.table["a"] = {"id": 2**60}
    with pytest.raises(InvalidValue, match="Int64") as caught:
        host.commit()
    assert caught.value.pointer.endswith("id")
