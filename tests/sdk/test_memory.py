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
from amx_engine import Agent, DefinitionError, handler, memory
from amx_engine._definition import HostedAgent
from amx_engine._memory import InstanceMemory
from amx_engine._values import InvalidValue


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


KEYS = st.one_of(
    st.text(max_size=3),
    st.integers(-3, 3),
    st.booleans(),
    st.none(),
    st.sampled_from([0.5, 1.0, 2.0, 2**60, -(2**60)]),
    st.tuples(st.integers(0, 2), st.text(max_size=1)),
)
ATOMS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


def mutate(value: Any, choice: int, new: Any) -> None:
    """One change somewhere inside a container; the same for equal containers."""
    while isinstance(value, (list, dict)) and value:
        inner = value[sorted(value)[choice % len(value)]] if isinstance(value, dict) else value[choice % len(value)]
        if not isinstance(inner, (list, dict)) or choice % 3 == 0:
            break
        value = inner
    if isinstance(value, dict):
        [
            lambda: value.__setitem__("n", new),
            lambda: value.pop("n", None),
            lambda: value.update({"u": new}),
            lambda: value.setdefault("d", []).append(new),
            value.clear,
        ][choice % 5]()
    elif isinstance(value, list):
        [
            lambda: value.append(new),
            lambda: value.insert(0, new),
            lambda: value.pop() if value else None,
            lambda: value.extend([new, new]),
            value.reverse,
            lambda: value.__setitem__(slice(0, 1), [new, new]),
        ][choice % 6]()


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
TestMemoryMachine.settings = settings(max_examples=600, stateful_step_count=30, deadline=None)
