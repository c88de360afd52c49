"""Agents that several engines load: each hosts them, in its loop and in helper processes of its own, and kill -9 of any
of these processes loses nothing.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from pathlib import Path

import pytest

from amx.v1 import engine_pb2
from amx_engine import AmxEngine
from amx_engine._errors import AmxError
from amx_engine._ownership import owner_of
from tests.process.harness import PATIENCE, EngineProcess, client, engine_process, unary, until

pytestmark = [pytest.mark.process]

AGENTS = """
import os
import time

from amx_engine import Agent, Context, handler, memory


@Agent
class Solver:
    count: int = memory(persistent=True, default=0)
    sum: int = memory(persistent=True, default=0)

    @handler(default=True, execution="process")
    def solve(self, number: int) -> list[int]:
        self.count += 1
        self.sum += number
        until = time.perf_counter() + 0.005
        while time.perf_counter() < until:
            pass
        return [os.getpid(), self.count]

    @handler(execution="process")
    def block(self, until: str) -> int:
        print(f"blocking {os.getpid()}", flush=True)
        while not os.path.exists(until):
            pass
        return os.getpid()

    @handler
    async def say(self, what: str, context: Context) -> None:
        context.logger.info(what)

    @handler
    async def totals(self) -> list[int]:
        return [self.count, self.sum]


@Agent
class Front:
    @handler
    async def pid(self) -> int:
        return os.getpid()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "solver.py").write_text(AGENTS)
    return tmp_path


def key_of(engine: int, agent: str) -> str:
    """A key whose instance of `agent` that engine, of two, owns."""
    return next(key for key in map(str, range(1000)) if owner_of("default", agent, key, 2) == engine)


def processes(engine: EngineProcess) -> dict[int, int]:
    """Engine -> the process that runs it now, by the log."""
    found = re.findall(r'"event":"engine_opened".*"engine":(\d+),"process":(\d+)', engine.output)
    return {int(number): int(process) for number, process in found}


def helpers(engine: EngineProcess) -> list[int]:
    """Process ids of all helpers that there have been, in the order of their start."""
    return [int(pid) for pid in re.findall(r'"helper_started".*?"pid":(\d+)', engine.output)]


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


async def asked(app: AmxEngine, agent: str, content: object, key: str, handler: str = "") -> object:
    """The answer; asked again while engines and helpers move."""
    while True:
        try:
            return await app.request(agent, content, key=key, handler=handler, timeout=PATIENCE)
        except AmxError as error:
            if not error.retryable and error.reason != "AGENT_UNKNOWN":
                raise
            await asyncio.sleep(0.05)


async def test_each_of_several_engines_hosts_what_it_loaded_and_has_its_log(folder: Path) -> None:
    with engine_process(folder, "scheduler.processes=2", workers=2, load="solver") as engine:
        async with client(engine.address) as app, unary(engine.address) as stub:
            pids = processes(engine)
            for number in (0, 1):
                assert await app.request("Front", key=key_of(number, "Front")) == pids[number]
            solved = [(await app.request("Solver", 1, key=key_of(number, "Solver")))[0] for number in (0, 1)]
            assert len(set(solved)) == 2  # each engine has helpers of its own
            assert set(solved) <= set(helpers(engine))
            for number in (0, 1):
                await app.request("Solver", f"in {number}", key=key_of(number, "Solver"), handler="say")

            async def both() -> bool:
                request = engine_pb2.ReadLogRequest(lines=1000, agent="Solver")
                said = [line.event async for line in stub.ReadLog(request)]
                return said.count("in 0") == said.count("in 1") == 1

            await until(both, "the log to have what both helpers said")
        assert engine.stop() == 0
        assert not any(map(alive, helpers(engine)))


async def test_work_in_a_helper_of_a_killed_engine_process_goes_on_elsewhere(folder: Path) -> None:
    with engine_process(folder, "scheduler.processes=2", workers=2, load="solver") as engine:
        async with client(engine.address) as app:
            key = key_of(1, "Solver")
            await app.send("Solver", "done", key=key, handler="block", message_id="a-job", timeout=PATIENCE)
            first = int(engine.wait_for(r"blocking (\d+)")[1])
            os.kill(processes(engine)[1], signal.SIGKILL)
            await until(lambda: not alive(first), "the helper to end with its engine")
            await until(lambda: engine.output.count("blocking ") == 2, "the job to run again")
            (folder / "done").touch()
            assert await asked(app, "Solver", 1, key) != [first, 1]


async def test_engines_and_helpers_killed_under_load_lose_nothing_acknowledged(folder: Path) -> None:
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    settings = ("scheduler.processes=2", "delivery.redelivery_attempts=100", "links.resume_window=20")
    with engine_process(folder, *settings, workers=2, load="solver") as engine:
        async with client(engine.address) as app:
            keys = [f"k{number}" for number in range(8)]
            acknowledged: dict[str, list[int]] = {key: [] for key in keys}
            stopping = asyncio.Event()

            async def send(key: str) -> None:
                number = 0
                while not stopping.is_set():
                    number += 1
                    try:
                        await app.send("Solver", number, key=key, message_id=f"{key}-{number}", timeout=PATIENCE)
                    except AmxError as error:
                        if not error.retryable and error.reason != "AGENT_UNKNOWN":
                            raise
                        number -= 1  # the same message again: one message, whatever became of the first try
                        await asyncio.sleep(0.05)
                    else:
                        acknowledged[key].append(number)
                        await asyncio.sleep(0.01)

            def count() -> int:
                return sum(map(len, acknowledged.values()))

            senders = [asyncio.create_task(send(key)) for key in keys]
            for victim in ("helper", "engine", "helper", "helper"):
                before = count()

                def victims(victim: str = victim, before: int = before) -> list[int]:
                    if count() < before + 40:
                        return []
                    pids = helpers(engine) if victim == "helper" else list(processes(engine).values())
                    return [pid for pid in pids if alive(pid)]

                os.kill(chance.choice(await until(victims, "progress, and somebody to kill")), signal.SIGKILL)
            stopping.set()
            await asyncio.gather(*senders)
            for key, numbers in acknowledged.items():

                async def complete(key: str = key, numbers: list[int] = numbers) -> bool:
                    return await asked(app, "Solver", None, key, "totals") == [len(numbers), sum(numbers)]

                await until(complete, f"seed {seed}: everything sent to {key}, once", 2 * PATIENCE)
