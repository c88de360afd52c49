"""One operating system process for each agent, doing what the agents of the machine do: plain Python, and Python with
the `openai` package. A few really run at the same time; what a thousand take is extrapolated (see docs/agent-vm.md).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.load import Figures
from benchmarks.processes import Absent, BenchmarkError
from benchmarks.rows import Load
from benchmarks.systems import Running, System, peer_python

PROCESSES = 20


class BareProcesses(System):
    """The standard library only."""

    name = "process"
    about = (
        f"the same agents as one Python process each, with the standard library's HTTP client; {PROCESSES} ran at the"
        " same time, the figures are of 1,000, extrapolated"
    )

    def missing(self) -> str:
        return ""

    @contextlib.asynccontextmanager
    async def start(self, directory: Path) -> AsyncIterator[Running]:
        yield RunningProcesses("")


class OpenAiProcesses(System):
    """The package that such agents import."""

    name = "openai"
    about = f"as process, with the openai package as client; {PROCESSES // 2} ran at the same time"

    def missing(self) -> str:
        return "" if peer_python(self.name).exists() else "the openai package is not installed"

    @contextlib.asynccontextmanager
    async def start(self, directory: Path) -> AsyncIterator[Running]:
        yield RunningProcesses(str(peer_python(self.name)))


class RunningProcesses(Running):
    """Nothing runs between loads."""

    def __init__(self, openai: str) -> None:
        """openai: the interpreter that has it; empty: without."""
        self._openai = openai

    async def measure(self, load: Load, *, warmup_s: float, seconds: float) -> Figures:
        from amx_server.vm import baseline
        from benchmarks.agent_vm import options_of

        if load.kind != "vm_machine":
            raise Absent(f"processes have nothing to compare with '{load.kind}'")
        count = PROCESSES // 2 if self._openai else PROCESSES
        options = options_of(seconds)
        found = await baseline.measure(options, count, openai=bool(self._openai), python=self._openai)
        if found.steps != count * options.steps:
            raise BenchmarkError(f"{count} processes made {found.steps} steps, not {options.steps} each")
        return {
            "memory_mb": found.total_memory / 1e6,
            "start_ms": found.total_start * 1000,
            "spawn_us": found.start * 1e6,
            "cpu_s": found.total_cpu,
            "cpu_us": found.cpu * found.processes / found.steps * 1e6,
        }
