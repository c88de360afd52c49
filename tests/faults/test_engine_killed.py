"""The engine dies by SIGKILL, at any moment: nothing acknowledged is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from amx_server.storage import open_store
from tests.faults.killing import kill_rounds
from tests.process.harness import EngineProcess, Process, client, engine_process, hosted, worker_process

pytestmark = [pytest.mark.process, pytest.mark.fault, pytest.mark.slow]

KILLS = int(os.environ.get("AMX_TEST_KILLS", "20"))
STARTS = int(os.environ.get("AMX_TEST_KILLED_STARTS", "5"))


async def test_engine_killed_under_load_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    seed = int(os.environ.get("AMX_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)
    report = await kill_rounds(tmp_path, KILLS, seed, longest=0.5)
    print(report)
    assert report.acknowledged > KILLS


async def test_engine_killed_while_it_starts_starts_the_next_time(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    engine = EngineProcess(tmp_path)
    try:
        for _ in range(STARTS):  # the first ones make the store, with all its migrations
            engine.launch()
            await asyncio.sleep(generator.uniform(0.2, 1.2))
            engine.kill()
        await asyncio.to_thread(engine.start)
        with worker_process(tmp_path, engine.address, "Counter"):
            async with client(engine.address) as application:
                await application.send("Counter", 5, message_id="only")
                for _ in range(STARTS):
                    engine.kill()
                    engine.launch()
                    await asyncio.sleep(generator.uniform(0.2, 1.2))
                await engine.restart()
                receipt = await application.send("Counter", 5, message_id="only", timeout=60)
                assert receipt.duplicate
                await hosted(engine.address, "Counter")
                assert await application.request("Counter", handler="totals", timeout=60) == [1, 5]
    finally:
        engine.kill()


OPENING = """
import asyncio, os, signal, sys
import apsw
from amx_server.storage import open_store

left = int(sys.argv[2])


def trace(cursor, sql, bindings):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return True


apsw.connection_hooks.append(lambda connection: connection.set_exec_trace(trace))


async def main():
    async with open_store(sys.argv[1]):
        pass


asyncio.run(main())
print(int(sys.argv[2]) - left, "statements")
"""


async def test_store_opens_after_a_kill_at_any_statement_of_its_first_opening(tmp_path: Path) -> None:
    (tmp_path / "opening.py").write_text(OPENING)

    def opened(path: Path, statements: int) -> Process:
        process = Process("opening", [str(tmp_path / "opening.py"), str(path), str(statements)], tmp_path)
        process.launch()
        process.ended()
        return process

    whole = opened(tmp_path / "whole.db", 10**9)
    count = int(whole.wait_for(r"(\d+) statements")[1])
    for statement in range(0, count, max(1, count // 16)):
        path = tmp_path / f"{statement}.db"
        assert opened(path, statement).ended() == -signal.SIGKILL
        async with open_store(str(path)) as store:
            assert store.next_seq == 1
            assert await store.pending_messages(0, 1) == []


async def test_second_engine_on_the_same_store_is_refused(tmp_path: Path) -> None:
    with engine_process(tmp_path) as engine:
        (tmp_path / "second").mkdir()
        second = EngineProcess(tmp_path / "second", data=engine.data)
        second.launch()
        assert await asyncio.to_thread(second.ended) == 1
        assert "STORE" in second.output or "STORAGE" in second.output, second.output
