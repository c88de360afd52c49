"""What the engine does with large values: shared by those awake, charged to their owners, stored once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from amx_engine import Agent, AmxError, handler, memory
from amx_engine.testing import EmbeddedEngine
from amx_server.core.config import EngineConfig, MemoryConfig, load_config
from amx_server.memory.blobs import content_options
from amx_server.memory.content import Owner
from amx_server.runtime.engine import Engine

PROMPT = "You are a helpful assistant. " * 200


@Agent
class Helper:
    """Remembers what it is told."""

    @memory(persistent=True)
    def prompt(self) -> str:
        return ""

    @memory()
    def draft(self) -> str:
        return ""

    @handler(default=True)
    async def learn(self, prompt: str) -> None:
        self.prompt = prompt

    @handler
    async def note(self, draft: str) -> None:
        self.draft = draft

    @handler
    async def recall(self) -> str:
        return self.prompt


def inside(engine: EmbeddedEngine) -> Engine:
    found = engine._process.engine
    assert found is not None
    return found


def held(engine: EmbeddedEngine, key: str, name: str = "prompt") -> bytes:
    """The very object that an awake instance remembers."""
    instance = inside(engine).namespace("default").agents["Helper"].instances[key]
    assert instance.memory is not None
    return instance.memory._memories[name].entries[""].value


async def test_instances_that_remember_the_same_share_one_object(tmp_path: Path) -> None:
    async with EmbeddedEngine(Helper, data_dir=tmp_path) as engine:
        for key in ("a", "b"):
            await engine.request(f"Helper/{key}", PROMPT)
        await engine.request("Helper/c", PROMPT, handler="note")
        assert held(engine, "a") is held(engine, "b")
        assert held(engine, "a") is held(engine, "c", "draft")
        assert len(inside(engine).content) == 1
    async with EmbeddedEngine(Helper, data_dir=tmp_path) as engine:  # and so they do when they are read again
        for key in ("a", "b"):
            assert await engine.request(f"Helper/{key}", handler="recall") == PROMPT
        assert held(engine, "a") is held(engine, "b")


async def test_small_values_are_no_content() -> None:
    async with EmbeddedEngine(Helper) as engine:
        await engine.request("Helper/a", "short")
        assert len(inside(engine).content) == 0


async def test_forks_share_what_they_inherit(tmp_path: Path) -> None:
    async with EmbeddedEngine(Helper, data_dir=tmp_path) as engine:
        await engine.request("Helper/a", PROMPT)
        await inside(engine).store.fork_memory("default", "Helper", "a", 0, "b", 1)
        assert await engine.request("Helper/b", handler="recall") == PROMPT
        assert held(engine, "a") is held(engine, "b")


async def test_quota_of_content_is_refused_to_the_handler_and_leaves_its_memory_as_it_was(tmp_path: Path) -> None:
    config = EngineConfig(memory=MemoryConfig(agent_quota=2 * len(PROMPT)))
    async with EmbeddedEngine(Helper, data_dir=tmp_path, engine_config=config) as engine:
        await engine.request("Helper/a", PROMPT)
        with pytest.raises(AmxError, match="agent Helper of namespace default") as error:
            await engine.request("Helper/b", PROMPT[1:] + PROMPT)
        assert error.value.reason == "CONTENT_QUOTA_EXCEEDED"
        assert await engine.request("Helper/b", handler="recall") == ""
        await engine.request("Helper/b", "short")
        await engine.request("Helper/b", PROMPT, handler="note")  # not stored, and so not counted
        content = inside(engine).content
        assert content.held(Owner("default", "Helper")) == len(PROMPT) + 2


def test_memory_settings_become_budgets_and_quotas() -> None:
    settings = {
        "memory.budget": "1GB",
        "memory.disk_bytes": "2GB",
        "memory.namespace_quota": 10,
        "memory.agent_quota": 5,
        "memory.quotas": {"shop": 7, "shop/cart": 3},
    }
    options = content_options(load_config(None, settings, environment={}).memory)
    assert options.hot_bytes + options.warm_bytes + options.index_bytes == 1_000_000_000
    assert options.cold_bytes == 2_000_000_000
    limits = [Owner("shop"), Owner("shop", "cart"), Owner("shop", "other"), Owner("other"), Owner("other", "a")]
    assert [options.quotas.limit(owner) for owner in limits] == [7, 3, 5, 10, 5]


async def test_metrics_say_what_content_there_is() -> None:
    async with EmbeddedEngine(Helper) as engine:
        for key in ("a", "b"):
            await engine.request(f"Helper/{key}", PROMPT)
        text = inside(engine).render_metrics("")[1].decode()
        assert 'amx_content_objects{tier="hot"} 1.0' in text
        assert f"amx_content_plain_bytes {len(PROMPT) + 2}.0" in text
        assert f"amx_content_retained_bytes {2 * (len(PROMPT) + 2)}.0" in text


async def test_missing_content_is_named_at_the_start_and_does_not_hinder_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with EmbeddedEngine(Helper, data_dir=tmp_path) as engine:
        await engine.request("Helper/a", PROMPT)
        await engine.request("Helper/b", "short")
    shutil.rmtree(tmp_path / "amx.db-content")
    async with EmbeddedEngine(Helper, data_dir=tmp_path) as engine:
        assert await engine.request("Helper/b", handler="recall") == "short"
        (line,) = [line for line in capfd.readouterr().err.splitlines() if "content_missing" in line]
        assert "memory 'prompt', entry '' of Helper/a in default" in line
        await engine.request("Helper/b", PROMPT)  # the same bytes again heal it for all
        assert await engine.request("Helper/a", handler="recall") == PROMPT
