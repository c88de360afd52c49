"""What handlers on the engine's loop say that they wait for: `context.waiting` and `context.sleep`."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from amx_engine import Agent, AmxError, Context, handler
from amx_engine.testing import EmbeddedEngine
from amx_server.runtime.engine import Engine
from amx_server.runtime.scheduling.waits import Wait, WaitReason


@Agent(name="Clerk")
class Clerk:
    entered = asyncio.Event()
    approved = asyncio.Event()

    @handler()
    async def order(self, context: Context) -> None:
        with context.waiting("user", "approval"):
            self.entered.set()
            await self.approved.wait()

    @handler()
    async def rest(self, context: Context) -> None:
        self.entered.set()
        await context.sleep(timedelta(hours=1))

    @handler()
    async def guess(self, context: Context) -> None:
        context.waiting("luck")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def fresh() -> None:
    Clerk.entered, Clerk.approved = asyncio.Event(), asyncio.Event()


def said(engine: EmbeddedEngine) -> list[tuple[WaitReason, str]]:
    """What the instance `Clerk/a` waits for."""
    running = engine._process.engine
    assert isinstance(running, Engine)
    instance = running.namespace("default").instance("Clerk", "a")
    waits: list[Wait] = running.waits.of(instance) if instance is not None else []
    return [(wait.reason, wait.detail) for wait in waits]


async def test_handler_that_waits_for_a_person_says_so_until_it_goes_on() -> None:
    async with EmbeddedEngine(Clerk) as engine:
        call = asyncio.create_task(engine.request("Clerk/a", handler="order"))
        await Clerk.entered.wait()
        assert said(engine) == [(WaitReason.USER, "approval")]
        Clerk.approved.set()
        await call
        assert said(engine) == []


async def test_handler_that_sleeps_waits_for_a_timer_until_it_is_cancelled() -> None:
    async with EmbeddedEngine(Clerk) as engine:
        call = asyncio.create_task(engine.request("Clerk/a", handler="rest"))
        await Clerk.entered.wait()
        assert said(engine) == [(WaitReason.TIMER, "3600 s")]
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        while said(engine):
            await asyncio.sleep(0)


async def test_reason_that_is_none_is_refused_with_those_that_are() -> None:
    async with EmbeddedEngine(Clerk) as engine:
        with pytest.raises(AmxError, match="one of model, tool, file, timer, user"):
            await engine.request("Clerk/a", handler="guess")
