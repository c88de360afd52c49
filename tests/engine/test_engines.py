"""Two engines that share an address, in one process: what they see to together, and what each does alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest_asyncio

from amx.v1 import common_pb2, message_pb2
from amx_engine import Agent, AmxEngine, Context, Message, MessageRouter, handler, memory, scheduled, subscribe
from amx_engine._ownership import owner_of
from amx_server.api.server import Server
from amx_server.cluster.shards import Shard, ShardedStore
from amx_server.cluster.trust import PeerTrust
from amx_server.core.config import EngineConfig, GrpcConfig, HttpConfig, LoggingConfig, StorageConfig
from amx_server.runtime.engine import Engine
from amx_server.security.identity import ANONYMOUS
from tests.process.harness import until


class Both:
    """Engines 0 and 1, each of which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._sockets = tuple(str(folder / f"{number}.sock") for number in (0, 1))
        self._config = EngineConfig(
            storage=StorageConfig(path=str(folder / "amx.db")),
            grpc=GrpcConfig(port=0),
            http=HttpConfig(enabled=False),
            logging=LoggingConfig(level="error"),
        )
        self._stacks: dict[int, AsyncExitStack] = {}
        self.engines: dict[int, Engine] = {}

    async def start(self, number: int) -> None:
        config = ShardedStore(self._config).config(self._config, number, 2)
        config = config.replace(grpc=GrpcConfig(port=0, unix_socket=self._sockets[number]))
        shard = Shard(number, self._sockets, (0, 0), True, "secret")
        stack = self._stacks[number] = AsyncExitStack()
        engine = self.engines[number] = await stack.enter_async_context(Engine(config, shard=shard))
        await stack.enter_async_context(Server(engine, config, trust=PeerTrust("secret")))

    async def stop(self, number: int) -> None:
        del self.engines[number]
        await self._stacks.pop(number).aclose()

    def app(self, *agents: type) -> AmxEngine:
        builder = AmxEngine.builder().with_address(f"unix:{self._sockets[0]}")
        for agent in agents:
            builder = builder.with_agent(agent)
        return builder.build()


@pytest_asyncio.fixture
async def both(tmp_path: Path) -> AsyncIterator[Both]:
    both = Both(tmp_path)
    for number in (0, 1):
        await both.start(number)
    yield both
    for number in list(both.engines):
        await both.stop(number)


def key_of(engine: int, agent: str) -> str:
    return next(str(number) for number in range(999) if owner_of("default", agent, str(number), 2) == engine)


@Agent
class Counter:
    @memory(persistent=True)
    def count(self) -> int:
        return 0

    @handler(default=True)
    async def add(self) -> int:
        self.count += 1
        return self.count

    @handler
    @subscribe("orders.*")
    async def ordered(self, number: int) -> None:
        self.count += number


@Agent
class Shop:
    @handler(default=True)
    async def order(self, number: int, context: Context) -> None:
        for each in (0, 1):
            context.publish("orders.new", number, durable=True, key=key_of(each, "Counter"))
            context.send("Counter", None, key=key_of(each, "Counter"), handler="add")


async def counted(app: AmxEngine, engine: int) -> int:
    found: int = await app.memory("Counter", key_of(engine, "Counter")).get("count", default=0)
    return found


async def _has(app: AmxEngine, engine: int, count: int) -> bool:
    return await counted(app, engine) == count


async def test_durable_effects_wait_for_an_engine_that_is_away_and_arrive_once(both: Both) -> None:
    async with both.app(Counter, Shop) as app:
        await both.stop(1)
        shop = key_of(0, "Shop")
        await app.request("Shop", 10, key=shop)
        await until(partial(_has, app, 0, 11), "what was sent to an instance here")
        outbox = both.engines[0].engines.outbox  # type: ignore[union-attr]
        assert outbox.waiting == 3  # a message, and both events: the other engine knows its subscribers
        # They outlive the engine that sent them, too.
        await both.stop(0)
        await both.start(0)
        outbox = both.engines[0].engines.outbox  # type: ignore[union-attr]
        assert outbox.waiting == 3  # a message, and both events: the other engine knows its subscribers
        await both.start(1)
        await until(partial(_has, app, 1, 11), "what was stored for engine 1")
        await until(lambda: outbox.waiting == 0, "an empty outbox")
        assert await counted(app, 0) == 11


async def test_a_declared_schedule_belongs_to_the_owner_of_its_instance(both: Both) -> None:
    @Agent
    class Clock:
        @scheduled(interval=timedelta(hours=1))
        async def strike(self) -> None:
            pass

    async with both.app(Clock):
        owner = owner_of("default", "Clock", "default", 2)
        found = {number: engine.schedules.listing("default", "", "", 10) for number, engine in both.engines.items()}
        assert [each.schedule_id for each in found[owner]] == ["Clock/default/strike"]
        assert found[1 - owner] == []


async def test_a_router_sends_to_instances_of_either_engine(both: Both) -> None:
    @MessageRouter
    class ByKey:
        async def route(self, message: Message) -> str | None:
            return f"Counter/{message.content}"

    async with both.app(Counter, ByKey) as app:
        for engine in (0, 1):
            assert await app.request("", key_of(engine, "Counter"), type="count") == 1
            assert await app.request("Counter", key=key_of(engine, "Counter")) == 2


async def test_message_ids_of_engines_never_meet(both: Both) -> None:
    async with both.app(Counter) as app:
        keys = [str(number) for number in range(20)]
        receipts = await asyncio.gather(*(app.request("Counter", key=key, durable=True) for key in keys))
        assert receipts == [1] * 20
        ids = []
        for engine in both.engines.values():
            await engine.store.flush()
            ids += [row.message_id for row in await engine.store.messages("default", "", None, 0, 100)]
        assert len(ids) == len(set(ids)) == 20


async def test_an_engine_that_stops_leaves_nothing_behind_for_the_others(both: Both) -> None:
    """Calls that wait for an engine which is away end with the one that passes them on."""
    async with both.app(Counter):
        await both.stop(1)
        sink = _Sink()
        engine = both.engines[0]
        message = message_pb2.Message(agent="Counter", key=key_of(1, "Counter"), handler="add")
        engine.acceptance.accept(engine.namespace("default"), ANONYMOUS, "test", message, sink)
        assert sink.outcome is None
        await both.stop(0)
        await until(lambda: sink.outcome == "SHUTTING_DOWN", "the end of the call")
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "amx-link"] == []


class _Sink:
    def __init__(self) -> None:
        self.outcome: str | None = None

    def accepted(self, message_id: str, duplicate: bool) -> None:
        self.outcome = "accepted"

    def result(self, payload: common_pb2.Payload) -> None:
        self.outcome = "result"

    def chunk(self, payload: common_pb2.Payload) -> None:
        pass

    def fail(self, failure: common_pb2.Failure) -> None:
        self.outcome = failure.reason
