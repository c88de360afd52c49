"""The machine's process, started, watched and ended; the parent's end of `machine.serve`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from tempfile import TemporaryDirectory
from typing import Any

from amx_server.core.errors import INTERNAL, AmxError
from amx_server.vm.footprint import Footprint, footprint
from amx_server.vm.machine import Report
from amx_server.vm.options import VmOptions

# The log's library brings rich along where it is installed, 3 MB for tracebacks in colour: the machine has no terminal.
_PROGRAM = "import sys; sys.modules['rich'] = None; from amx_server.vm.machine import main; main()"
# One arena for all threads, and large pieces (training, batches, the prompt) given back to the system at once. Measured
# with 1,000 agents at work: 1 to 5 MB less than with the C library's own ideas of both, at the same CPU.
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(128 << 10), "MALLOC_TRIM_THRESHOLD_": str(128 << 10)
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    """What the machine reported, and what its process took of the memory at that moment."""

    report: Report
    memory: Footprint

    def to_json(self) -> dict[str, Any]:
        """As a program reads it."""
        return {**asdict(self.report), "memory": asdict(self.memory)}


class RunningMachine:
    """Iterate over it: states come about once a second, `ended` last."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def stop(self) -> None:
        """Tells it to end; its last state still comes."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    async def __aiter__(self) -> AsyncIterator[State]:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            state = State(Report(**json.loads(line)), footprint(self._process.pid))
            yield state
            if state.report.event == "ended":
                return
        raise AmxError(INTERNAL, "MACHINE_FAILED", "the machine's process ended before its time; see what it printed")


@asynccontextmanager
async def running(options: VmOptions) -> AsyncIterator[RunningMachine]:
    """A machine at work, in a process of its own; left, it is gone, with everything it stored."""
    with TemporaryDirectory(prefix="amx-vm-") as folder:
        settings = VmOptions(**{**asdict(options), "folder": folder})
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _PROGRAM, settings.to_json(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_ALLOCATOR | os.environ,
            start_new_session=True,
            limit=1 << 20,
        )  # fmt: skip
        try:
            yield RunningMachine(process)
            assert process.stdin is not None
            process.stdin.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 10)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it, and its model
            await process.wait()
