"""The content store as agents in the engine have it: `context.content`, and memory values that are addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from amx_engine import Agent, AmxError, Context, handler, memory
from amx_engine.testing import EmbeddedEngine
from amx_server.runtime.engine import Engine


@Agent(name="Talker")
class Talker:
    @memory(persistent=True)
    def conversation(self) -> str:
        return ""

    @handler()
    async def say(self, text: str, context: Context) -> str:
        self.conversation = context.content.append(self.conversation, text.encode())
        return self.conversation

    @handler()
    async def said(self, last: int, context: Context) -> list[str]:
        return [message.decode() for message in context.content.messages(self.conversation, last)]

    @handler()
    async def fork(self, other: str) -> None:
        self.conversation = other

    @handler()
    async def get(self, address: str, context: Context) -> str:
        return context.content.get(address).decode()

    @handler()
    async def put(self, text: str, context: Context) -> str:
        return context.content.put(text.encode())


def inside(engine: EmbeddedEngine) -> Engine:
    found = engine._process.engine
    assert found is not None
    return found


async def test_conversation_survives_collections_and_a_restart(tmp_path: Path) -> None:
    long = "and " * 1000
    async with EmbeddedEngine(Talker, data_dir=tmp_path) as engine:
        for text in ("one", "two", long):
            await engine.request("Talker/a", text, handler="say")
    async with EmbeddedEngine(Talker, data_dir=tmp_path) as engine:
        for _ in range(3):
            inside(engine).content.collect()
        assert await engine.request("Talker/a", 0, handler="said") == ["one", "two", long]
        assert await engine.request("Talker/a", 1, handler="said") == [long]


async def test_forked_conversation_shares_what_was_said_and_goes_its_own_way() -> None:
    async with EmbeddedEngine(Talker) as engine:
        head = await engine.request("Talker/a", "one", handler="say")
        await engine.request("Talker/b", head, handler="fork")
        objects = len(inside(engine).content)
        await engine.request("Talker/b", "two", handler="say")
        assert len(inside(engine).content) == objects + 1
        assert await engine.request("Talker/a", 0, handler="said") == ["one"]
        assert await engine.request("Talker/b", 0, handler="said") == ["one", "two"]


async def test_what_no_memory_refers_to_goes() -> None:
    async with EmbeddedEngine(Talker) as engine:
        address = await engine.request("Talker/a", "nobody keeps this", handler="put")
        assert await engine.request("Talker/a", address, handler="get") == "nobody keeps this"
        for _ in range(2):
            inside(engine).content.collect()
        with pytest.raises(AmxError) as caught:
            await engine.request("Talker/a", address, handler="get")
        assert caught.value.reason == "CONTENT_NOT_FOUND"


async def test_text_that_is_no_address_is_refused_by_name() -> None:
    async with EmbeddedEngine(Talker) as engine:
        for text in ("hello", "content:" + "x" * 64):
            with pytest.raises(AmxError, match="no address of content") as caught:
                await engine.request("Talker/a", text, handler="get")
            assert caught.value.reason == "CONTENT_ADDRESS_INVALID"
