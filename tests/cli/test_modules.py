"""Which modules are the developer's, and what it takes to know."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amx_server.cli.modules import AgentModules

AGENT = """
import watched_names

from amx_engine import Agent, handler

@Agent
class Watched:
    @handler
    async def greet(self, name: str) -> str:
        return name
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "watched_agents.py").write_text(AGENT)
    (tmp_path / "watched_names.py").write_text("")
    yield tmp_path.resolve()
    for name in ("watched_agents", "watched_names"):
        sys.modules.pop(name, None)


def test_watched_are_the_named_module_and_what_it_imports_from_the_folder(folder: Path) -> None:
    modules = AgentModules(["watched_agents"], folder)
    modules.load()
    assert set(modules.states()) == {str(folder / "watched_agents.py"), str(folder / "watched_names.py")}


def test_looking_for_changes_resolves_no_path_but_those_of_the_developers_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An environment in the folder holds hundreds of modules: their paths, each time, kept the event loop for 200 ms.
    modules = AgentModules(["watched_agents"], folder)
    modules.load()
    before = modules.states()
    resolved: list[str] = []
    realpath = os.path.realpath

    def counting(path: str, *arguments: object, **options: object) -> str:
        resolved.append(os.fspath(path))
        return realpath(path)

    monkeypatch.setattr(os.path, "realpath", counting)
    assert modules.states() == before
    assert sorted(resolved) == sorted(before)
