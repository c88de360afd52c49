"""The watchdog names who blocks the loop and where, while it lasts, and says afterwards for how long; nobody else."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Callable

import pytest

from amx.v1 import message_pb2
from amx_engine import Agent, Message, handler
from amx_engine._definition import HostedAgent
from amx_engine._link import Link
from amx_engine._transport import EmbeddedConnector
from amx_server.core.config import EngineConfig, LoggingConfig
from amx_server.runtime.engine import Engine
from amx_server.runtime.scheduling.watchdog import Block, Watchdog
from amx_server.runtime.services import services
from amx_server.storage import open_store
from amx_server.telemetry.logs import EngineLog

PATIENCE_SECONDS = 10.0


def spin(until: Callable[[], bool]) -> float:
    """Keeps the thread busy until then. Returns for how long, at most PATIENCE_SECONDS."""
    began = time.monotonic()
    while not until() and time.monotonic() - began < PATIENCE_SECONDS:
        pass
    return time.monotonic() - began


class Told:
    """What a watchdog told, and when."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._event = threading.Event()

    def __call__(self, block: Block) -> None:
        self.blocks.append(block)
        self._event.set()

    async def wait(self) -> None:
        assert await asyncio.to_thread(self._event.wait, PATIENCE_SECONDS), "nothing was told"


async def test_block_of_the_loop_is_told_with_its_place_and_length() -> None:
    told = Told()
    with Watchdog(0.05, told, interval=0.005) as watchdog:
        before_ms = int(time.time() * 1000)
        enough = time.monotonic() + 0.2
        took = spin(lambda: time.monotonic() > enough)
        await told.wait()
    block = told.blocks[0]  # a busy machine may have made more
    assert (block.instance, block.handler) == ("", "")
    assert "test_watchdog.py" in block.place
    assert 0.1 <= block.seconds <= took + 5.0
    assert before_ms - 1000 <= block.at_ms <= before_ms + 5000
    assert watchdog.blocks[-1] is block
    assert watchdog.counts[("", "")] == sum(watchdog.durations.counts) == len(told.blocks)


async def test_loop_that_waits_is_not_blocked() -> None:
    told = Told()
    with Watchdog(5.0, told, interval=0.001):
        for _ in range(50):
            await asyncio.sleep(0.002)
    assert told.blocks == []


async def test_watchdog_without_a_limit_watches_nothing() -> None:
    with Watchdog(0.0):
        assert not any(thread.name == "amx-watchdog" for thread in threading.enumerate())


@pytest.mark.parametrize("waits_first", [False, True])
async def test_handler_in_the_engines_process_that_blocks_is_named_while_it_does(waits_first: bool) -> None:
    log = EngineLog(LoggingConfig(level="warning"), stream=io.StringIO())
    config = EngineConfig.read({"scheduler": {"block_warning": 0.05}})

    def lines(event: str) -> list[dict[str, str]]:
        return [entry.fields for entry in log.recent() if entry.event == event]

    @Agent(name="Cart", version="1.0.0")
    class Cart:
        @handler
        async def add(self, message: Message) -> None:
            if waits_first:
                await asyncio.sleep(0)
            spin(lambda: any(line["agent"] for line in lines("loop_blocked")))  # goes on until it has been named

    async with Engine(config, store=open_store(":memory:"), log=log) as engine:
        link = Link(EmbeddedConnector(engine.open_link, services=services(engine)), [HostedAgent.of(Cart)])
        await link.open(PATIENCE_SECONDS)
        await link.request(message_pb2.Message(agent="Cart", key="7", handler="add"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while ("Cart", "add") not in engine.watchdog.counts:
                await asyncio.sleep(0.001)
        await link.close(0.0)
    (named,) = [line for line in lines("loop_blocked") if line["agent"]]
    assert (named["agent"], named["key"], named["handler"]) == ("Cart", "7", "add")
    assert "test_watchdog.py" in named["place"]
    (shown,) = [b for b in engine.scheduler.describe(engine.namespace("default")).blocks if b.instance]
    assert (shown.instance, shown.handler, shown.place) == ("Cart/7", "add", named["place"]) and shown.for_ms >= 50
    assert not any(b.instance for b in engine.scheduler.describe(engine.namespace("tenant")).blocks)
    block = next(block for block in engine.watchdog.blocks if block.instance)
    assert (block.instance, block.handler) == ("Cart/7", "add") and block.seconds >= 0.05
    assert ("Cart", "add") in engine.watchdog.counts and lines("loop_free")
    assert 'amx_loop_blocks_total{agent_name="Cart",handler_name="add"} 1.0' in engine.render_metrics("")[1].decode()
