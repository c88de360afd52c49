"""What an engine lends the agents of its own process: reachable from handlers, and named where it is missing."""

from __future__ import annotations

from typing import Any

import pytest

from amx_engine import Agent, AmxError, Context, Message, handler
from amx_engine._services import Services
from amx_engine.testing import AgentHarness


class Model:
    """Stands for the I/O manager."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def provider(self, name: str) -> Any:
        raise NotImplementedError

    async def call(self, operation: Any, *, timeout: float | None = None) -> Any:
        self.asked.append(operation)
        return f"answer to {operation}"

    def stream(self, operation: Any, *, timeout: float | None = None) -> Any:
        raise NotImplementedError


@Agent(name="Asker")
class Asker:
    @handler()
    async def ask(self, question: str, context: Context) -> str:
        answer: str = await context.io.call(question)
        return answer


async def test_agents_in_the_engine_reach_its_io_through_their_context() -> None:
    model = Model()
    async with AgentHarness(Asker, io=model) as agent:
        assert await agent.request("why?") == "answer to why?"
    assert model.asked == ["why?"]


async def test_services_are_made_once_an_invocation_when_first_asked_for() -> None:
    made: list[Context] = []

    def lend(context: Context) -> Model:
        made.append(context)
        return Model()

    context = Context(Message(), services=Services(io=lend))
    assert made == []
    assert context.io is context.io
    assert made == [context]


async def test_agents_elsewhere_are_told_that_services_are_not_lent() -> None:
    async with AgentHarness(Asker) as agent:
        with pytest.raises(AmxError, match="amx dev --load") as caught:
            await agent.request("why?")
    assert caught.value.reason == "NOT_IN_ENGINE"
    with pytest.raises(AmxError, match=r"context\.content"):
        _ = Context(Message()).content
