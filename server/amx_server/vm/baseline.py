"""One operating system process for each agent: the same agents, the same model, measured beside the machine. As many as
are asked for really run; what a thousand would take is extrapolated, and says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from blake3 import blake3

import amx_server
from amx_server.core.errors import FAILED_PRECONDITION, AmxError
from amx_server.inference.io import HttpProvider, HttpRequest
from amx_server.vm.conversation import prompt_of, tool_set
from amx_server.vm.footprint import Footprint, extrapolated, footprint
from amx_server.vm.machine import model
from amx_server.vm.options import VmOptions

_START_SECONDS = 120.0
_PROGRAM = "from amx_server.vm.process_agent import main; main()"


@dataclass(frozen=True, slots=True)
class Baseline:
    """What agents take as processes. Seconds and bytes; `start`, `memory` and `cpu` are of one agent, `total_…` of as
    many as the machine runs: extrapolated unless so many processes ran.

    start: wall time until it has prompt and tools, when they are started together. memory: proportional set size at the
    end of the work, with what they share counted once for all. cpu: from its start to the end of the work. steps: model
    calls of all.
    """

    imports: str
    processes: int
    agents: int
    start: float
    memory: float
    cpu: float
    steps: int
    total_start: float
    total_memory: int
    total_cpu: float

    @property
    def extrapolated(self) -> bool:
        """Whether fewer ran than the machine has agents."""
        return self.processes < self.agents


async def measure(options: VmOptions, processes: int, *, openai: bool = False, python: str = "") -> Baseline:
    """Runs `processes` agents as processes for `options.seconds`. openai: they use that package. python: the
    interpreter that has it; empty: this one.

    Raises AmxError BASELINE_FAILED with what a process said last.
    """
    python = python or sys.executable
    async with model(options) as provider:
        with TemporaryDirectory(prefix="amx-vm-") as folder:
            prompt = prompt_of(options.prompt_bytes)
            await _teach(provider, prompt)
            (Path(folder) / "prompt").write_bytes(prompt)
            (Path(folder) / "tools").write_text(json.dumps(tool_set()), encoding="ascii")
            address = urlsplit(provider)
            arguments: dict[str, object] = {
                "prompt_file": f"{folder}/prompt",
                "tools_file": f"{folder}/tools",
                "prompt": blake3(prompt).hexdigest(),
                "host": address.hostname,
                "port": address.port,
                "openai": openai,
                "steps": options.steps,
            }
            return await _measure(options, processes, python, arguments, "openai" if openai else "")


async def _measure(options: VmOptions, count: int, python: str, arguments: dict[str, object], imports: str) -> Baseline:
    began = time.perf_counter()
    async with _agents(python, [arguments | {"number": number} for number in range(count)]) as agents:
        for agent in agents:
            await _line(agent)
        start = (time.perf_counter() - began) / count
        until = time.time() + options.seconds
        for agent in agents:
            assert agent.stdin is not None
            agent.stdin.write(f"{until}\n".encode())
        outcomes = [json.loads(await _line(agent)) for agent in agents]
        memory: list[Footprint] = [footprint(agent.pid) for agent in agents]
    cpu = sum(outcome["cpu"] for outcome in outcomes) / count
    total = extrapolated(memory, options.agents)
    return Baseline(
        imports=imports,
        processes=count,
        agents=options.agents,
        start=start,
        memory=total / options.agents,
        cpu=cpu,
        steps=sum(outcome["steps"] for outcome in outcomes),
        total_start=start * options.agents,
        total_memory=total,
        total_cpu=cpu * options.agents,
    )


@asynccontextmanager
async def _agents(python: str, arguments: list[dict[str, object]]) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """The processes, started all at once and ended on leaving."""
    root = str(Path(amx_server.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    started: list[asyncio.subprocess.Process] = []
    try:
        for one in arguments:
            started.append(
                await asyncio.create_subprocess_exec(
                    python, "-c", _PROGRAM, json.dumps(one),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=environment,
                )
            )  # fmt: skip
        yield started
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                process.kill()
        for process in started:
            await process.wait()


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None and process.stderr is not None
    try:
        async with asyncio.timeout(_START_SECONDS):
            line = await process.stdout.readline()
            if line:
                return line
            said = (await process.stderr.read())[-1000:].decode(errors="replace").strip()
    except TimeoutError:
        said = f"it said nothing for {_START_SECONDS:.0f} s"
    raise AmxError(FAILED_PRECONDITION, "BASELINE_FAILED", f"an agent's process ended or hangs: {said}")


async def _teach(provider: str, prompt: bytes) -> None:
    """Gives the model the prompt, as the machine does."""
    async with HttpProvider("model", provider) as http:
        request = HttpRequest("PUT", f"/prompts/{blake3(prompt).hexdigest()}", prompt, content_type="text/plain")
        await http.send(request, None, 1 << 20)
