"""What is measured: AMX Engine and the systems it is compared with, each in one file with all its processes.

`System` is what they share. A file's module level needs the standard library only, because the same file also runs
inside the measured system's own environment.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

from benchmarks.load import Figures
from benchmarks.processes import Child
from benchmarks.rows import Load

PEERS = Path(__file__).resolve().parent.parent / ".peers"


class System(ABC):
    """Something that answers requests. `start()` yields it running, with fresh state, on the loopback interface."""

    name: ClassVar[str]
    about: ClassVar[str]  # one line for the reader of the table: what ran, and how it differs from ours

    @abstractmethod
    def missing(self) -> str:
        """Why it cannot run here; empty if it can."""

    @abstractmethod
    def start(self, directory: Path) -> contextlib.AbstractAsyncContextManager[Running]:
        """Starts it; `directory` is empty and its to write to."""


class Running(ABC):
    """A started system."""

    @abstractmethod
    async def measure(self, load: Load, *, warmup_s: float, seconds: float) -> Figures:
        """Puts one load on it."""


class RemoteClient(Running):
    """A system driven by one client process that has an operation `request` for every load."""

    def __init__(self, client: Child) -> None:
        self._client = client

    async def measure(self, load: Load, *, warmup_s: float, seconds: float) -> Figures:
        figures: Figures = await self._client.ask(
            "request", in_flight=load.in_flight, warmup_s=warmup_s, seconds=seconds
        )
        return figures


@contextlib.asynccontextmanager
async def running(system: System) -> AsyncIterator[Running]:
    """The system running in a temporary directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{system.name}-", ignore_cleanup_errors=True) as directory:
        async with system.start(Path(directory)) as started:
            yield started


def peer_python(name: str) -> Path:
    """Interpreter of the peer's own environment; may not exist."""
    return PEERS / name / "bin" / "python"


def role_argv(python: Path | str, module: str, role: str, *arguments: object) -> list[str]:
    """Command line that runs one role of a system's file."""
    return [str(python), "-m", f"benchmarks.systems.{module}", role, *map(str, arguments)]


def role_and_arguments() -> tuple[str, list[str]]:
    """What role_argv() said, seen from the inside."""
    return sys.argv[1], sys.argv[2:]
