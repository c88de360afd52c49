"""`amx serve --workers`: several engine processes behind one address, with SDK processes, and kill -9."""

from __future__ import annotations

import asyncio
from pathlib import Path

from amx_engine import AmxEngine
from amx_engine._ownership import owner_of
from tests.process.harness import client, engine_process, until, worker_process


def key_of(engine: int, agent: str, engines: int = 2, start: int = 0) -> str:
    """A key whose instance of `agent` that engine owns."""
    return next(
        key
        for key in (f"key-{number}" for number in range(start, start + 1000))
        if owner_of("default", agent, key, engines) == engine
    )


async def test_sdk_hosts_on_all_engines_and_finds_the_owner(tmp_path: Path) -> None:
    with engine_process(tmp_path, workers=2) as engine, worker_process(tmp_path, engine.address, "Echo", "Counter"):
        async with client(engine.address) as app:
            answers = await asyncio.gather(*(app.request("Echo", n, key=f"k{n}") for n in range(100)))
            assert answers == list(range(100))
            for number in (0, 1):
                key = key_of(number, "Counter")
                assert await app.request("Counter", 5, key=key) == 1
                assert await app.request("Counter", 5, key=key) == 2


async def test_what_a_handler_sends_reaches_instances_of_other_engines_once(tmp_path: Path) -> None:
    with (
        engine_process(tmp_path, workers=2) as engine,
        worker_process(tmp_path, engine.address, "Relay", "Counter"),
    ):
        async with client(engine.address) as app:
            await asyncio.gather(*(app.request("Relay", n, key=f"k{n}") for n in range(40)))
            await until(lambda: _totals(app, [40, sum(range(40))]), "what the relays sent", 10)


async def _totals(app: AmxEngine, expected: list[int]) -> bool:
    found: list[int] = await app.request("Counter", None, key="relayed", handler="totals")
    return found == expected
