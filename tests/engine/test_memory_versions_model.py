"""Random histories of memory against dictionaries: changes, snapshots, forks, restores, forgetting, sleep, restarts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from amx.v1 import common_pb2, link_pb2, memory_pb2
from amx_server.core.clock import ManualClock
from amx_server.core.errors import AmxError
from amx_server.memory.content import address_of
from amx_server.runtime.engine import Engine
from amx_server.runtime.memory_versions import MemoryVersions
from amx_server.storage import sqlite_versions
from tests.engine.link_driver import Rig, Sdk, agent, configured, map_memory, put, value_memory

LIFETIME_S = 20
CART = agent(
    "cart",
    memories=(
        map_memory(),
        value_memory(),
        map_memory("brief", ttl_ms=LIFETIME_S * 1000),
        map_memory("light", persistent=False),
    ),
)
NAMES = ("items", "brief", "total")

KEYS = st.sampled_from(["a", "b", "c", "d"])
IDS = st.sampled_from(['"x"', '"y"', '"z"'])
LARGE = [f"text {number}, which is stored by its address; " * 30 for number in range(3)]
VALUES = st.one_of(st.integers(0, 9), st.sampled_from(LARGE))
PICK = st.integers(0, 99)


def put_change(name: str, id: str, value: Any) -> memory_pb2.MemoryChange:
    return put(name, value, "" if name == "total" else id)


CHANGES = st.lists(
    st.one_of(
        st.builds(put_change, st.sampled_from([*NAMES, "light"]), IDS, VALUES),
        st.builds(lambda name, id: memory_pb2.MemoryChange(name=name, remove=id), st.sampled_from(NAMES[:2]), IDS),
        st.builds(lambda name: memory_pb2.MemoryChange(name=name, clear=True), st.sampled_from(NAMES)),
    ),
    min_size=1,
    max_size=4,
)

Content = dict[tuple[str, str], tuple[bytes, int]]  # (memory, entry id) -> value, expiry in milliseconds (0: never)


@dataclass
class Kept:
    """One version: what it was, while it is kept."""

    number: int
    at_ms: int
    content: Content
    forgotten: bool = False


@dataclass
class Remembered:
    """What one instance should remember, now and before."""

    content: Content = field(default_factory=dict)
    present: int = 0  # its number; changes to memory that is not persistent count, until it sleeps
    versions: list[Kept] = field(default_factory=list)  # oldest first, forgotten ones included
    names: dict[str, int] = field(default_factory=dict)
    source: tuple[str, int] | None = None

    @property
    def kept(self) -> list[Kept]:
        return [version for version in self.versions if not version.forgotten]

    def commit(self, content: Content, now_ms: int, number: int = 0) -> None:
        self.present = number or self.present + 1
        self.content = content
        self.versions.append(Kept(self.present, now_ms, dict(content)))

    def sleep(self) -> None:
        """Only what is stored stays."""
        self.present = self.versions[-1].number if self.versions else 0


def alive(content: Content, now_ms: int) -> Content:
    return {place: entry for place, entry in content.items() if not 0 < entry[1] <= now_ms}


class MemoryHistory(RuleBasedStateMachine):
    """An engine on disk and one worker, and dictionaries beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.folder = tempfile.TemporaryDirectory()
        self.model = {key: Remembered() for key in "abcd"}
        self.stack = AsyncExitStack()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(sqlite_versions, "_WINDOW", 2)  # so that forgetting takes several looks
        self.rig: Rig
        self.sdk: Sdk
        self.runner.run(self.start())

    async def start(self) -> None:
        config = configured(
            storage={"path": str(Path(self.folder.name) / "amx.db")},
            memory={"content_threshold": 512, "budget": 1 << 20},
            instances={"idle_timeout": 1000.0},
        )
        engine = await self.stack.enter_async_context(Engine(config, self.clock, ticking=False))
        self.rig = Rig(engine, self.clock)
        self.sdk = await self.rig.worker(CART)

    @property
    def versions(self) -> MemoryVersions:
        return self.rig.engine.memory_versions

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms()

    def run(self, operation: Awaitable[Any]) -> Any:
        async def act() -> Any:
            return await operation

        return self.runner.run(act())

    def refusal(self, operation: Awaitable[Any]) -> str:
        """The reason for which an operation is refused; empty if it is not."""
        try:
            self.run(operation)
        except AmxError as error:
            return error.reason
        return ""

    def ref(self, key: str) -> common_pb2.InstanceRef:
        return common_pb2.InstanceRef(agent="cart", key=key)

    def chosen(self, key: str, pick: int) -> Kept | None:
        kept = self.model[key].kept
        return kept[pick % len(kept)] if kept else None

    # --- what happens

    @rule(key=KEYS, changes=CHANGES)
    def a_handler_changes_memory(self, key: str, changes: list[memory_pb2.MemoryChange]) -> None:
        async def change() -> None:
            call = self.sdk.request("cart", key=key)
            (await self.sdk.work()).succeed(effects=link_pb2.Effects(memory=changes), memory_dropped=True)
            await self.sdk.result(call)

        self.run(change())
        known = self.model[key]
        content = dict(known.content)
        stored = False
        for change_ in changes:
            if change_.name == "light":
                continue
            if change_.HasField("put"):
                expires = self.now_ms + LIFETIME_S * 1000 if change_.name == "brief" else 0
                content[change_.name, change_.put.id] = change_.put.value, expires
            elif change_.HasField("clear"):
                content = {place: entry for place, entry in content.items() if place[0] != change_.name}
            else:
                content.pop((change_.name, change_.remove), None)
            stored = True
        newest = self.run(self.versions.listing(self.rig.engine.namespace("default"), self.ref(key), 0, 1))
        if newest and newest[0].version > known.present:
            assert stored or alive(known.content, self.now_ms) != known.content, "a version of nothing"
            known.commit(content, self.now_ms)
        else:
            known.present += 1
            assert alive(content, self.now_ms) == alive(known.content, self.now_ms), "a change without a version"

    @rule(key=KEYS, name=st.sampled_from(["one", "two"]), pick=PICK)
    def a_version_is_named(self, key: str, name: str, pick: int) -> None:
        version, names = self.chosen(key, pick), self.model[key].names
        number = version.number if version else 1
        refusal = self.refusal(
            self.versions.create_snapshot(self.rig.engine.namespace("default"), self.ref(key), name, number)
        )
        if version is None:
            assert refusal == "MEMORY_VERSION_UNKNOWN"
        elif names.get(name, number) != number:
            assert refusal == "SNAPSHOT_EXISTS"
        else:
            assert not refusal
            names[name] = number

    @rule(key=KEYS, name=st.sampled_from(["one", "two"]))
    def a_name_is_deleted(self, key: str, name: str) -> None:
        found = self.run(self.versions.delete_snapshot(self.rig.engine.namespace("default"), self.ref(key), name))
        assert found == (self.model[key].names.pop(name, None) is not None)

    @rule(source=KEYS, new_key=KEYS, pick=PICK)
    def an_instance_is_forked(self, source: str, new_key: str, pick: int) -> None:
        version, new = self.chosen(source, pick), self.model[new_key]
        number = version.number if version else 0
        forking = self.versions.fork(self.rig.engine.namespace("default"), self.ref(source), self.ref(new_key), number)
        before = self.run(self.seen(new_key)) if source != new_key else {}
        refusal = self.refusal(forking)
        if source == new_key:
            assert refusal == "INVALID_FORK"
        elif before or new.source or version is None:
            assert refusal in ("FORK_TARGET_EXISTS", "MEMORY_VERSION_UNKNOWN")
        elif refusal:  # what has expired and is not removed yet, or is not persistent, is something, too
            assert refusal == "FORK_TARGET_EXISTS"
        else:
            new.source = source, number
            new.commit(dict(version.content), self.now_ms, (new.versions[-1].number if new.versions else 0) + 1)

    @rule(key=KEYS, pick=PICK)
    def a_version_is_restored(self, key: str, pick: int) -> None:
        version, known = self.chosen(key, pick), self.model[key]
        number = version.number if version else 1
        restoring = self.versions.restore(self.rig.engine.namespace("default"), self.ref(key), number)
        if version is None:
            assert self.refusal(restoring) == "MEMORY_VERSION_UNKNOWN"
            return
        present = self.run(restoring)
        restored = alive(version.content, self.now_ms)
        if present == known.present:
            assert alive(known.content, self.now_ms) == restored
        else:
            assert present == known.present + 1
            known.commit(restored, self.now_ms)

    @rule(keep=st.integers(1, 6), age_s=st.integers(0, 60))
    def versions_are_forgotten(self, keep: int, age_s: int) -> None:
        async def forget() -> None:
            after: tuple[str, str, str] | None = ("", "", "")
            while after is not None:
                after = (await self.rig.engine.store.forget_versions(before_ms, keep, after, 3)).after

        before_ms = self.now_ms - age_s * 1000
        self.run(forget())
        needed = {known.source for known in self.model.values() if known.source}
        for key, known in self.model.items():
            kept = known.kept
            old = [version.number for version in kept if version.at_ms < before_ms]
            bound = max([0, *old[-1:], *(version.number for version in kept[-keep:][:1] if len(kept) >= keep)])
            for version in kept[:-1]:
                named = version.number in known.names.values() or (key, version.number) in needed
                version.forgotten = version.number < bound and not named

    @rule()
    def content_is_collected_and_whole(self) -> None:
        async def look() -> tuple[list[str], int, int]:
            for _ in range(2):  # what is new survives one
                async for _ in self.rig.engine.memory_upkeep.collect():
                    pass
            async for found in self.rig.engine.memory_upkeep.verify():
                damages = found.damages
            stats = self.rig.engine.content.stats()
            return damages, stats.objects, stats.unreferenced

        damages, objects, unreferenced = self.run(look())
        needed = {
            value
            for known in self.model.values()
            for content, at_ms in ((known.content, self.now_ms), *((each.content, each.at_ms) for each in known.kept))
            for value, _ in alive(content, at_ms).values()
            if len(value) >= 512
        }
        assert not damages
        assert unreferenced == 0
        assert len(needed) <= objects <= len(LARGE)  # what has expired may be there for longer
        assert all(address_of(value) in self.rig.engine.content for value in needed)

    @rule(seconds=st.sampled_from([0.001, 1, 15]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.rig.pass_time(seconds))

    @rule()
    def everybody_sleeps(self) -> None:
        self.run(self.rig.pass_time(1001))
        for known in self.model.values():
            known.sleep()

    @rule()
    def the_engine_starts_again(self) -> None:
        async def again() -> None:
            await self.stack.aclose()
            await self.start()

        self.run(again())
        for known in self.model.values():
            known.sleep()

    # --- what holds

    async def seen(self, key: str) -> dict[tuple[str, str], bytes]:
        """What the next handler of an instance sees of persistent memory."""
        call = self.sdk.request("cart", key=key)
        work = await self.sdk.work()
        work.succeed(memory_dropped=True)
        await self.sdk.result(call)
        return {
            (memory.name, entry.id): entry.value
            for memory in work.invoke.memory.memories
            if memory.name != "light"
            for entry in memory.entries
        }

    @invariant()
    def the_present_is_what_the_model_says(self) -> None:
        for key, known in self.model.items():
            expected = {place: value for place, (value, _) in alive(known.content, self.now_ms).items()}
            assert self.run(self.seen(key)) == expected

    @invariant()
    def the_past_is_what_the_model_says(self) -> None:
        for key, known in self.model.items():
            self.run(self.compare(key, known))

    async def compare(self, key: str, known: Remembered) -> None:
        namespace, ref = self.rig.engine.namespace("default"), self.ref(key)
        listed = await self.versions.listing(namespace, ref, 0, 1000)
        names = {
            kept.number: tuple(sorted(name for name, number in known.names.items() if number == kept.number))
            for kept in known.kept
        }
        assert [(each.version, each.snapshots) for each in listed] == [(n, names[n]) for n in sorted(names)[::-1]]
        fork = await self.versions.origin(namespace, ref)
        assert (fork and (fork.source_key, fork.source_version)) == known.source
        for number in range(1, known.present + 2):
            earlier = [version for version in known.versions if version.number <= number]
            expected = earlier[-1] if earlier and number <= known.present and not earlier[-1].forgotten else None
            try:
                past = await self.versions.past(namespace, ref, number)
            except AmxError as error:
                if error.reason != "MEMORY_VERSION_UNKNOWN" or expected is not None:
                    raise
                continue
            assert expected is not None, f"version {number} of {key} can be read"
            found = {(name, entry.id): entry.value for name in NAMES for entry in past.search(name, "", 1000)[1]}
            lived = alive(expected.content, expected.at_ms)
            assert (past.version, past.at_ms) == (expected.number, expected.at_ms)
            assert found == {place: value for place, (value, _) in lived.items()}

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        self.patch.undo()
        self.folder.cleanup()


TestMemoryHistory = MemoryHistory.TestCase
TestMemoryHistory.settings = settings(max_examples=25, stateful_step_count=25)
