"""The engine dies by SIGKILL, at any moment: nothing acknowledged is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from amx_server.storage import open_store
from tests.faults.killing import kill_rounds
from tests.process.harness import EngineProcess, client, engine_process, worker_process

pytestmark = [pytest.mark.process, pytest.mark.fault, pytest.mark.slow]

KILLS = int(os.environ.get("AMX_TEST_KILLS", "20"))
STARTS = int(os.environ.get("AMX_TEST_KILLED_STARTS", "8"))


async def test_engine_killed_under_load_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    seed = int(os.environ.get("AMX_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)
    report = await kill_rounds(tmp_path, KILLS, seed)
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
                assert await application.request("Counter", handler="totals", timeout=60) == [1, 5]
    finally:
        engine.kill()


async def test_store_opens_after_a_kill_in_the_middle_of_its_migrations(tmp_path: Path) -> None:
    """A process dies at every statement of the first opening in turn; the next one finds a store or makes one."""
    for statement in range(0, 40, 2):
        path = tmp_path / f"{statement}.db"
        program = (
            "import asyncio, os, signal, apsw\n"
            "left = [STATEMENT]\n"
            "def trace(cursor, sql, bindings):\n"
            "    left[0] -= 1\n"
            "    if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
            "    return True\n"
            "apsw.connection_hooks.append(lambda connection: connection.set_exec_trace(trace))\n"
            "from amx_server.storage import open_store\n"
            "async def main():\n"
            f"    async with open_store({str(path)!r}): pass\n"
            "asyncio.run(main())\n"
        ).replace("STATEMENT", str(statement))
        (tmp_path / "opening.py").write_text(program)
        from tests.process.harness import Process

        process = Process("opening", [str(tmp_path / "opening.py")], tmp_path)
        process.launch()
        assert process.running is not None
        code = process.running.wait(60)
        assert code in (0, -9), process.output
        async with open_store(str(path)) as store:
            assert store.next_seq == 1
            assert await store.pending_messages(0, 1) == []
        if code == 0:
            break  # it had opened before so many statements
    else:
        pytest.fail("the opening never came to its end: look at more statements")


async def test_second_engine_on_the_same_store_is_refused(tmp_path: Path) -> None:
    with engine_process(tmp_path) as engine:
        (tmp_path / "second").mkdir()
        second = EngineProcess(tmp_path / "second", data=engine.data)
        second.launch()
        assert second.running is not None
        assert await asyncio.to_thread(second.running.wait, 60) == 1
        assert "STORE" in second.output or "STORAGE" in second.output, second.output
