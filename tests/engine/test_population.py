"""Many instances at once: what they remember is theirs, is stored, and leaves alone what was there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amx_engine import Agent, handler, memory
from amx_engine.testing import EmbeddedEngine
from amx_server.core.errors import AmxError
from amx_server.runtime.engine import Engine
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
