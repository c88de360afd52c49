"""The engine's I/O manager: from the configuration to the agents of its process, its waits, its numbers, its end."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from amx_engine import Agent, AmxError, Context, handler
from amx_engine.testing import EmbeddedEngine
from amx_server.core.config import ConfigError, EngineConfig, LoggingConfig, load_config
from amx_server.inference.io import Call, IoManager, Operation, Provider, Response, WaitReason
from amx_server.inference.io.metrics import io_metrics
from amx_server.runtime.engine import Engine
from amx_server.runtime.scheduling.waits import WaitReason as EngineWaitReason
from amx_server.storage import open_store

BODY = {"model": "local", "messages": [{"role": "user", "content": "hello"}]}


class Held(Provider):
    """Answers when it is told to."""

    name = "held"

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.cancelled = False

    async def perform(self, call: Call) -> Response[Any]:
        self.asked.set()
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return Response(call.operation.request, 8)


@Agent(name="Asker")
class Asker:
    @handler()
    async def ask(self, question: str, context: Context) -> str:
        answer: str = await context.io.call(Operation("held", "question", question, WaitReason.MODEL))
        return answer

    @handler()
    async def unknown(self, context: Context) -> None:
        context.io.provider("nobody")

    @handler()
    async def impatient(self, context: Context) -> str:
        try:
            await context.io.call(Operation("held", "question", "", WaitReason.MODEL), timeout=5)
        except AmxError as error:
            return error.reason
        return ""


@asynccontextmanager
async def asking() -> AsyncIterator[tuple[EmbeddedEngine, Engine, Held]]:
    held = Held()
    process = EmbeddedEngine(Asker)
    async with asyncio.timeout(30), process as engine:
        inner = process._process.engine
        assert inner is not None
        await inner.io.add(held)
        yield engine, inner, held


async def test_agent_that_waits_for_a_provider_is_known_to_wait_and_for_what() -> None:
    async with asking() as (engine, inner, held):
        waits = inner.waits
        asked = asyncio.ensure_future(engine.request("Asker/7", "why?", handler="ask"))
        await held.asked.wait()
        assert waits.counts[EngineWaitReason.MODEL] == 1
        (wait,) = [wait for wait in waits if wait.reason is EngineWaitReason.MODEL]
        assert wait.instance.address == "Asker/7"
        assert wait.detail == "held: question"
        held.answer.set()
        assert await asked == "why?"
        assert waits.counts[EngineWaitReason.MODEL] == 0


async def test_waiter_counts_with_the_priority_of_the_message_it_handles() -> None:
    async with asking() as (engine, inner, held):
        asked = asyncio.ensure_future(engine.request("Asker/7", "why?", handler="ask", priority="high"))
        await held.asked.wait()
        (wait,) = inner.io.waits()
        assert (wait.waiter.agent, wait.waiter.namespace, wait.waiter.priority) == ("Asker/7", "default", 2)
        held.answer.set()
        await asked


async def test_error_of_the_manager_reaches_the_caller_with_its_reason() -> None:
    async with asking() as (engine, _, _):
        with pytest.raises(AmxError, match="nobody") as caught:
            await engine.request("Asker/1", handler="unknown")
        assert caught.value.reason == "PROVIDER_UNKNOWN"


async def test_operations_go_by_the_clock_of_the_engine_and_end_in_time() -> None:
    async with asking() as (engine, _, held):
        asked = asyncio.ensure_future(engine.request("Asker/1", handler="impatient"))
        await held.asked.wait()
        await engine.advance(6, step=6)  # settling waits for handlers that run
        assert await asked == "OPERATION_DEADLINE"


async def test_operation_that_is_over_leaves_nothing_to_the_garbage_collector() -> None:
    async with asking() as (engine, _, held):
        held.answer.set()
        await engine.request("Asker/7", "why?", handler="ask")
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await engine.request("Asker/7", "why?", handler="ask")
            assert gc.collect() < 20
        finally:
            gc.enable()


async def test_stopping_engine_cancels_what_is_under_way_at_the_provider() -> None:
    held = Held()
    engine = Engine(EngineConfig(logging=LoggingConfig(level="error")), store=open_store(":memory:"))
    async with asyncio.timeout(30), engine:
        await engine.io.add(held)
        question: Operation[str, Any] = Operation("held", "question", "", WaitReason.MODEL)
        asked = asyncio.ensure_future(engine.io.call(question))
        await held.asked.wait()
    assert held.cancelled
    with pytest.raises(Exception, match="stopped"):
        await asked


def test_provider_without_an_address_is_a_problem_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"io\.providers\.model\.base_url"):
        load_config(None, {"io.providers": {"model": {"connections": 5}}}, environment={})
    limits = {"initial": 5, "maximum": 3}
    with pytest.raises(ConfigError, match="minimum <= initial"):
        load_config(None, {"io.providers": {"m": {"base_url": "http://m", "concurrency": limits}}}, environment={})


async def test_metrics_of_the_manager_are_rendered_and_documented(repository: Path) -> None:
    async with asking() as (engine, inner, held):
        held.answer.set()
        await engine.request("Asker/7", "why?", handler="ask")
        text = inner.render_metrics("")[1].decode()
    assert 'amx_io_requests_total{provider="held"} 1.0' in text
    assert "amx_io_asked_total 1.0" in text
    async with IoManager() as io:
        families = {family.name for family in io_metrics(io)}
    document = (repository / "docs" / "operations.md").read_text()
    assert not {name for name in families if not re.search(rf"`{name}(_total)?`", document)}
