"""The agent virtual machine: a thousand agents at work, a hundred thousand idle ones, and the switch between two.

What works is `amx vm`'s own machine in a process of its own; its baselines are in `systems/processes_each.py`. What
idles and switches runs in this process, on an engine as it is.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any

from amx.v1 import memory_pb2
from amx_engine import Agent, handler, memory
from amx_engine._definition import HostedAgent
from amx_engine._link import Link
from amx_engine._message import outgoing
from amx_engine._transport import EmbeddedConnector
from amx_server.core.config import EngineConfig
from amx_server.runtime.engine import Engine
from amx_server.runtime.services import LentContent, services
from amx_server.vm.conversation import prompt_of, tool_set
from amx_server.vm.footprint import footprint
from amx_server.vm.options import VmOptions
from amx_server.vm.running import running
from benchmarks import child
from benchmarks.load import Figures

AGENTS = 1000
STEPS = 6
_FULL_SECONDS = 3.0  # of a load in a whole run; shorter ones are for trying
_PATIENCE_S = 60.0
_WARM_UP = 1000
_AT_ONCE = 100
_SWITCHES = 100_000


def options_of(seconds: float) -> VmOptions:
    """The work that machine and baselines do: STEPS model calls for each agent, fewer in a quick run."""
    steps = max(2, round(STEPS * min(1.0, seconds / _FULL_SECONDS)))
    return VmOptions(agents=AGENTS, memory=256 << 20, seconds=_PATIENCE_S, steps=steps)


async def machine(warmup_s: float, seconds: float) -> Figures:
    """AGENTS agents with a shared prompt and tools, talking to a model: what the process takes."""
    last, options = None, options_of(seconds)
    async with running(options) as process:
        async for state in process:
            last = state
    assert last is not None
    report = last.report
    if report.failures or report.agents != AGENTS or report.steps < AGENTS * options.steps:
        raise RuntimeError(f"not every agent did its work: {report}")
    return {
        "memory_mb": last.memory.pss / 1e6,
        "start_ms": report.spawn * 1000,
        "spawn_us": report.spawn / AGENTS * 1e6,
        "cpu_s": report.cpu,
        "cpu_us": report.cpu / report.steps * 1e6,
        "pause_p999_ms": report.pause * 1000,
        "ratio": report.plain / report.retained,
    }


@Agent(name="Sleeper")
class Sleeper:
    """Has what the working agents have, and does nothing."""

    @memory(persistent=True)
    def prompt(self) -> str:
        return ""

    @memory(persistent=True)
    def tools(self) -> str:
        return ""

    @memory(persistent=True)
    def conversation(self) -> str:
        return ""

    @handler()
    async def rest(self) -> None:
        return None


async def idle(warmup_s: float, seconds: float, agents: int) -> Figures:
    """`agents` agents with prompt, tools and memory in this process: bytes for each, and of all with the engine.

    used_bytes: after each has handled a message, so that its object exists as well.
    """
    count = int(agents * min(1.0, seconds / _FULL_SECONDS)) // _AT_ONCE * _AT_ONCE
    async with _hosting(Sleeper) as (engine, link):
        content = LentContent(engine.content)
        addresses = {
            "prompt": content.put(prompt_of(1 << 20)),
            "tools": content.put(json.dumps(tool_set()).encode()),
        }
        first = [_written(name, address) for name, address in addresses.items()]
        population, namespace = engine.population, engine.namespace("default")
        await population.spawn(namespace, "Sleeper", [f"w{number}" for number in range(_WARM_UP)], first)
        await _rest(link, [f"w{number}" for number in range(_WARM_UP)])
        keys = [str(number) for number in range(count)]
        gc.collect()
        before = footprint(os.getpid()).pss
        began = time.perf_counter()
        if await population.spawn(namespace, "Sleeper", keys, first) != count:
            raise RuntimeError("not every agent is new")
        spawn = time.perf_counter() - began
        gc.collect()
        spawned = footprint(os.getpid()).pss
        await _rest(link, keys)
        gc.collect()
        used = footprint(os.getpid()).pss
    return {
        "spawn_us": spawn / count * 1e6,
        "idle_bytes": (spawned - before) / count,
        "used_bytes": (used - before) / count,
        "memory_mb": used / 1e6,
    }


async def _rest(link: Link, keys: list[str]) -> None:
    for first in range(0, len(keys), _AT_ONCE):
        part = keys[first : first + _AT_ONCE]
        await asyncio.gather(*(link.request(outgoing("Sleeper", None, key, handler="rest")) for key in part))


class Table:
    """Where two players meet: each waits for the other, again and again."""

    def __init__(self, rounds: int) -> None:
        loop = asyncio.get_running_loop()
        self.rounds = rounds
        self.turns: dict[str, asyncio.Future[None]] = {key: loop.create_future() for key in "ab"}


table: Table


@Agent(name="Player")
class Player:
    """Hands over to the other one, which is at another instance."""

    @handler()
    async def play(self, me: str) -> float:
        other = "b" if me == "a" else "a"
        turns, loop = table.turns, asyncio.get_running_loop()
        began = time.thread_time()
        for _ in range(table.rounds):
            await turns[me]
            turns[me] = loop.create_future()
            turns[other].set_result(None)
        return time.thread_time() - began


async def switch(warmup_s: float, seconds: float) -> Figures:
    """Two agents that wait for each other in turn: microseconds of CPU from the step of one to the step of the other,
    the event loop's part included.
    """
    global table
    rounds = int(_SWITCHES * min(1.0, seconds / _FULL_SECONDS))
    async with _hosting(Player) as (_, link):
        for each in (rounds // 10, rounds):
            table = Table(each)
            asyncio.get_running_loop().call_later(0.05, table.turns["a"].set_result, None)
            took = await asyncio.gather(
                *(link.request(outgoing("Player", key, key, handler="play")) for key in ("a", "b"))
            )
    return {"switch_us": float(json.loads(took[0].data)) / (2 * rounds) * 1e6}


@asynccontextmanager
async def _hosting(agent: Any) -> AsyncIterator[tuple[Engine, Link]]:
    """An engine in this process with one agent class in it."""
    with TemporaryDirectory(prefix="bench-vm-") as folder:
        changes = {"storage": {"path": f"{folder}/vm.db"}, "logging": {"level": "error"}}
        async with Engine(EngineConfig.read(changes)) as engine:
            connector = EmbeddedConnector(engine.open_link, services=services(engine))
            link = Link(connector, [HostedAgent.of(agent)])
            await link.open(0.0)
            try:
                yield engine, link
            finally:
                await link.close(0.0)


def _written(name: str, value: str) -> memory_pb2.MemoryChange:
    change = memory_pb2.MemoryChange(name=name)
    change.put.value = json.dumps(value).encode()
    return change


async def measure(what: str, warmup_s: float, seconds: float, agents: int) -> Figures:
    """One of the loads above."""
    if what == "idle":
        return await idle(warmup_s, seconds, agents)
    return await {"machine": machine, "switch": switch}[what](warmup_s, seconds)


if __name__ == "__main__":
    child.run(lambda: child.obey({"measure": measure}))
