"""An engine of its own process with agents to talk to, and `amx` to talk with."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

AGENTS = '''
"""Agents that the command line is tried on."""

import asyncio
from datetime import timedelta

from amx_engine import Agent, AmxError, Child, Context, Supervisor, handler, memory, scheduled, subscribe


@Agent(version="1.2.0", groups=["clerks"], labels={"tier": "gold"})
class Clerk:
    """Keeps notes."""

    @memory(persistent=True)
    def notes(self) -> dict[str, str]:
        return {}

    @memory(persistent=True)
    def tags(self) -> set[str]:
        return set()

    @memory(persistent=True)
    def motto(self) -> str:
        return "none"

    @handler(default=True)
    async def note(self, key: str, text: str) -> int:
        """Writes a note down."""
        self.notes[key] = text
        return len(self.notes)

    @handler
    async def count(self, up_to: int):
        for number in range(up_to):
            yield number

    @handler
    async def wait(self) -> None:
        await asyncio.sleep(3600)

    @handler
    async def ask(self, other: str, context: Context) -> None:
        await context.request("Clerk", key=other, handler="wait")

    @handler
    async def refuse(self) -> None:
        raise ValueError("not today")

    @handler
    @subscribe("orders.*")
    async def on_order(self, total: int) -> None:
        self.notes["order"] = str(total)

    @scheduled(interval=timedelta(hours=6))
    async def tidy(self) -> None:
        self.motto = "tidy"


@Agent(supervisor=Supervisor(Child("Clerk", key="supervised"), Child("Clerk", key="spare"), strategy="rest_for_one"))
class Manager:
    """Keeps a clerk running."""

    @handler
    async def status(self) -> str:
        return "watching"
'''


@dataclass
class EngineProcess:
    """A running `amx dev`."""

    process: subprocess.Popen[bytes]
    address: str
    http: str
    folder: Path

    @property
    def output(self) -> str:
        return (self.folder / "out.txt").read_text()

    def wait_for(self, text: str, times: int = 1) -> None:
        """Returns when the process has printed `text` so often."""
        until(lambda: self.output.count(text) >= times, f"{text!r} in the output", lambda: self.output)


def until(condition: Callable[[], bool], what: str, evidence: Callable[[], str] = str, seconds: float = 30.0) -> None:
    """Returns when `condition` holds; fails the test, with evidence, if it does not within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s in vain for {what}:\n{evidence()}")
        time.sleep(0.02)


def amx_process(*arguments: str, folder: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """`amx` as a process of its own whose output goes to `out.txt`."""
    with (folder / "out.txt").open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "amx_server.cli", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**clean_environment(), **(environment or {})},
        )


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of an engine.

    Output is buffered: unbuffered, `print` writes a line and its end apart, and another process comes between them."""
    roots = os.pathsep.join(str(Path(__file__).resolve().parents[2] / root) for root in ("server", "sdk-python"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AMX", "PYTHONUNBUFFERED"))}
    return {**kept, "PYTHONPATH": roots}


@contextlib.contextmanager
def running(*arguments: str, folder: Path, environment: dict[str, str] | None = None) -> Iterator[EngineProcess]:
    """An engine on any free ports, stopped at the end."""
    process = amx_process(*arguments, folder=folder, environment=environment)
    engine = EngineProcess(process, "", "", folder)
    try:
        until(
            lambda: "amx engine: gRPC on" in engine.output or process.poll() is not None,
            "the engine",
            lambda: engine.output,
        )
        match = re.search(r"amx engine: gRPC on (\S+?)(?:, HTTP on (\S+))?\n", engine.output)
        assert match, engine.output
        engine.address, engine.http = match[1], match[2] or ""
        yield engine
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """`amx dev` with the agents above."""
    folder = tmp_path_factory.mktemp("engine")
    (folder / "clerks.py").write_text(AGENTS)
    with running("dev", "--load", "clerks", "--grpc-port", "0", "--http-port", "0", folder=folder) as process:
        yield process


@dataclass
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Amx = Callable[..., Answer]


def call(*arguments: str, stdin: str | None = None, environment: dict[str, str] | None = None) -> Answer:
    """Runs `amx` in this process: the same code as the command, without a Python start for each call."""
    from amx_server.cli.app import app

    names = [name for name in os.environ if name.startswith("AMX")]
    unset: dict[str, str | None] = dict.fromkeys(names)
    result = CliRunner().invoke(app, list(arguments), input=stdin, env={**unset, **(environment or {})})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def amx(engine: EngineProcess) -> Amx:
    """`amx` with the engine above as its address."""

    def run(*arguments: str, stdin: str | None = None, **environment: str) -> Answer:
        return call(*arguments, stdin=stdin, environment={"AMX_ADDRESS": engine.address, **environment})

    return run
