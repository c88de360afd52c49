"""The programs in docs/io.md run as they stand, against the local model provider."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from amx_engine.testing import EmbeddedEngine
from amx_server.core.config import EngineConfig
from amx_server.inference.io import IoManager, errors
from amx_server.inference.local_provider import LocalProvider, LocalProviderOptions


def programs(repository: Path) -> list[str]:
    text = (repository / "docs" / "io.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


async def run(program: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    code = compile(program, "docs/io.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    if result is not None:
        await result
    return names


async def test_first_program_prints_an_answer_and_its_parts(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with LocalProvider(LocalProviderOptions(latency_min=0, latency_max=0)) as server, asyncio.timeout(30):
        program = programs(repository)[1]
        assert "http://127.0.0.1:8000/v1" in program
        await run(program.replace("http://127.0.0.1:8000/v1", server.address))
        assert server.counts["requests"] == 2
    output = capsys.readouterr().out
    assert "[hello]" in output and "chat.completion.chunk" in output


async def test_agent_asks_the_provider_of_the_configuration(repository: Path) -> None:
    agent = (await run(programs(repository)[0]))["Assistant"]
    async with LocalProvider(LocalProviderOptions(latency_min=0, latency_max=0)) as server, asyncio.timeout(30):
        config = EngineConfig.read({"io": {"providers": {"model": {"base_url": server.address}}}})
        async with EmbeddedEngine(agent, engine_config=config) as engine:
            assert (await engine.request("Assistant/1", "hello")).startswith("[hello]")
            assert (await engine.request("Assistant/1", "and now?")).startswith("[and now?]")


async def test_provider_of_ones_own_answers(repository: Path) -> None:
    weather = (await run(programs(repository)[2]))["Weather"]()
    async with IoManager() as io:
        await io.add(weather)
        assert await io.call(weather.at("Oslo")) == await io.call(weather.at("Oslo")) == 21.5
        assert io.stats().cache_hits == 1


def test_every_reason_is_documented(repository: Path) -> None:
    text = (repository / "docs" / "io.md").read_text()
    reason = r'"((?:IO|PROVIDER|STREAM|OPERATION|RESPONSE|TOOL|FILE)_[A-Z_]+)"'
    named = set(re.findall(reason, Path(errors.__file__).read_text()))
    assert len(named) > 25
    assert not [name for name in named if f"`{name}`" not in text]
