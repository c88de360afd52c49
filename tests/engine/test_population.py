"""Many instances at once: what they remember is theirs, is stored, and leaves alone what was there."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from amx_engine import Agent, handler, memory
from amx_engine.testing import EmbeddedEngine
from amx_server.core.errors import AmxError, unavailable
from amx_server.runtime.engine import Engine
from amx_server.storage.interface import Commit
from tests.engine.link_driver import put


@Agent(name="Reader")
class Reader:
    @memory(persistent=True)
    def book(self) -> str:
        return "none"

    @handler()
    async def read(self) -> str:
        return self.book

    @handler()
    async def take(self, book: str) -> None:
        self.book = book


@Agent(name="Shelf")
class Shelf:
    @memory(persistent=True)
    def books(self) -> dict[str, str]:
        return {}

    @handler()
    async def add(self, id: str, title: str) -> None:
        self.books[id] = title

    @handler()
    async def drop(self, id: str) -> None:
        del self.books[id]

    @handler()
    async def titles(self) -> list[str]:
        return sorted(self.books.values())


def inside(engine: EmbeddedEngine) -> Engine:
    found = engine._process.engine
    assert found is not None
    return found


async def spawn(engine: EmbeddedEngine, keys: int, book: str = "Ulysses") -> int:
    inner = inside(engine)
    return await inner.population.spawn(
        inner.namespace("default"), "Reader", map(str, range(keys)), [put("book", book)]
    )


async def test_instances_spawned_by_the_hundred_have_their_memory() -> None:
    async with EmbeddedEngine(Reader) as engine:
        assert await spawn(engine, 250) == 250
        assert inside(engine).placement.instances == 250
        assert await engine.request("Reader/249", handler="read") == "Ulysses"
        await engine.request("Reader/7", "Emma", handler="take")
        assert await engine.request("Reader/7", handler="read") == "Emma"
        assert await engine.request("Reader/8", handler="read") == "Ulysses"


async def test_spawned_instances_survive_a_restart(tmp_path: Path) -> None:
    async with EmbeddedEngine(Reader, data_dir=tmp_path) as engine:
        await spawn(engine, 120)
    async with EmbeddedEngine(Reader, data_dir=tmp_path) as engine:
        assert inside(engine).placement.instances == 0
        assert await engine.request("Reader/119", handler="read") == "Ulysses"


async def test_instances_that_remember_something_stay_as_they_are(tmp_path: Path) -> None:
    async with EmbeddedEngine(Reader, data_dir=tmp_path) as engine:
        await engine.request("Reader/3", "Emma", handler="take")
    async with EmbeddedEngine(Reader, data_dir=tmp_path) as engine:
        await engine.request("Reader/4", "Middlemarch", handler="take")
        assert await spawn(engine, 10) == 8
        assert await engine.request("Reader/3", handler="read") == "Emma"
        assert await engine.request("Reader/4", handler="read") == "Middlemarch"
        assert await engine.request("Reader/5", handler="read") == "Ulysses"


async def test_agents_that_are_not_known_and_memory_that_is_not_declared_are_refused() -> None:
    async with EmbeddedEngine(Reader) as engine:
        inner = inside(engine)
        namespace = inner.namespace("default")
        with pytest.raises(AmxError, match="no agent named 'Nobody'"):
            await inner.population.spawn(namespace, "Nobody", ["1"])
        with pytest.raises(AmxError, match="declares no memory 'shelf'"):
            await inner.population.spawn(namespace, "Reader", ["1"], [put("shelf", json.dumps("top"))])
        assert await engine.request("Reader/1", handler="read") == "none"


async def test_instances_with_the_same_first_memory_go_their_own_ways() -> None:
    async with EmbeddedEngine(Shelf) as engine:
        inner = inside(engine)
        changes = [put("books", "Ulysses", json.dumps("a")), put("books", "Emma", json.dumps("b"))]
        await inner.population.spawn(inner.namespace("default"), "Shelf", map(str, range(3)), changes)
        await engine.request("Shelf/0", {"id": "a", "title": "Persuasion"}, handler="add")
        await engine.request("Shelf/1", "b", handler="drop")
        titles = [await engine.request(f"Shelf/{key}", handler="titles") for key in range(3)]
        assert titles == [["Emma", "Persuasion"], ["Ulysses"], ["Emma", "Ulysses"]]


async def test_every_spawned_instance_has_its_version_in_the_history(tmp_path: Path) -> None:
    async with EmbeddedEngine(Reader, data_dir=tmp_path) as engine:
        await spawn(engine, 1300)
        await engine.request("Reader/1299", "Emma", handler="take")
        store = inside(engine).store
        for key, versions in (("0", [(1, 1)]), ("1298", [(1, 1)]), ("1299", [(2, 1), (1, 1)])):
            page = await store.memory_versions("default", "Reader", key, 0, 10)
            assert [(one.version, one.changes) for one in page] == versions


async def test_instances_that_the_store_refused_are_free_and_remember_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with EmbeddedEngine(Reader) as engine:
        inner = inside(engine)
        submit = inner.store.submit

        def refuse(commit: Commit) -> None:
            asyncio.get_running_loop().call_soon(commit.done, unavailable("STORAGE_UNAVAILABLE", "the disk is away"))

        monkeypatch.setattr(inner.store, "submit", refuse)
        with pytest.raises(AmxError, match="the disk is away"):
            await spawn(engine, 1500)
        monkeypatch.setattr(inner.store, "submit", submit)
        assert await engine.request("Reader/0", handler="read") == "none"
        for instance in inner.namespace("default").agents["Reader"].instances.values():
            assert not instance.delivering
