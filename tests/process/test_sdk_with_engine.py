"""The Python SDK and the engine together: in one process, and over gRPC to an engine that is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from amx_engine import (
    Agent,
    AgentReference,
    AmxEngine,
    AmxError,
    BaseMessageRouter,
    BasePerformanceMonitor,
    Context,
    HandlerError,
    Message,
    MessageRouter,
    PerformanceMonitor,
    Pipeline,
    ProcessingResult,
    Scope,
    error_handler,
    handler,
    memory,
    scheduled,
    stage,
    subscribe,
)
from amx_engine._embedded import EmbeddedProcess
from amx_engine._transport import Connection, ConnectionLost, Connector
from amx_engine.testing import EmbeddedEngine

log: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    log.clear()


async def logged(entry: str) -> None:
    """Returns when the log has it."""
    async with asyncio.timeout(30):
        while entry not in log:
            await asyncio.sleep(0.001)


@Agent(labels={"tier": "gold"}, groups=["desk"])
class Counter:
    @memory(persistent=True)
    def counts(self) -> dict[str, int]:
        return {}

    @handler(default=True)
    async def count(self, message: Message) -> int:
        name = str(message.content)
        self.counts[name] = self.counts.get(name, 0) + 1
        return self.counts[name]

    @handler
    async def count_and_fail(self, message: Message) -> None:
        self.counts[str(message.content)] = 1000
        raise HandlerError("seat taken", reason="SEAT_TAKEN")

    @handler
    def plain(self, message: Message) -> ProcessingResult:
        return ProcessingResult.success(data=dict(self.counts), from_cache=True)

    @handler
    async def numbers(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    @handler
    async def endless(self, message: Message) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            log.append("closed")

    @handler
    async def forever(self, message: Message) -> None:
        log.append("waiting")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    @handler
    async def relay(self, message: Message, context: Context) -> str:
        answer = await context.request("Counter", message.content, key="relayed")
        context.send("Counter", "staged", key="staged")
        context.publish("counter.relayed", answer)
        return f"relayed {answer}"

    @handler
    @subscribe("orders.*", filter="region = eu")
    async def on_order(self, message: Message) -> None:
        self.counts[message.topic] = self.counts.get(message.topic, 0) + 1

    @handler
    async def later(self, message: Message, context: Context) -> None:
        context.schedule("later", "count", "timer", after=timedelta(minutes=5))


@Agent
class Ticker:
    @memory(persistent=True)
    def ticks(self) -> list[int]:
        return []

    @handler
    @scheduled(interval=timedelta(hours=6))
    async def tick(self) -> None:
        self.ticks.append(len(self.ticks))


@Pipeline(name="Double")
class Double:
    @stage(order=1)
    async def double(self, context: Any) -> int:
        return int(context.input) * 2

    @stage(order=2)
    async def settings(self, context: Any) -> dict[str, Any]:
        if context.previous_result > 100:
            raise ValueError("too much")
        return {"value": context.previous_result, "region": context.config["aws"]["region"]}

    @error_handler
    async def failed(self, context: Any, error: Exception) -> str:
        return f"{context.current_stage}: {error}"


@MessageRouter
class ByType(BaseMessageRouter):
    async def route(self, message: Message) -> AgentReference | None:
        return AgentReference("Counter", "routed") if message.type == "countable" else None


@PerformanceMonitor
class Watch(BasePerformanceMonitor):
    async def on_message_processed(
        self, agent_name: str, message: Message, result: ProcessingResult, duration: timedelta
    ) -> None:
        log.append((agent_name, result.status, duration >= timedelta(0)))


@pytest.fixture
async def engine() -> AsyncIterator[EmbeddedEngine]:
    async with EmbeddedEngine(Counter, Ticker, Double, ByType, Watch, config={"aws": {"region": "eu"}}) as made:
        yield made


async def test_requests_change_memory_one_at_a_time(engine: EmbeddedEngine) -> None:
    results = await asyncio.gather(*(engine.request("Counter", "a", key="k") for _ in range(100)))
    assert sorted(results) == list(range(1, 101))
    assert await engine.memory("Counter", "k").get("counts") == {"a": 100}


async def test_failure_reaches_the_caller_and_changes_nothing(engine: EmbeddedEngine) -> None:
    await engine.request("Counter", "a")
    with pytest.raises(AmxError, match="seat taken") as caught:
        await engine.request("Counter", "a", handler="count_and_fail")
    assert caught.value.reason == "SEAT_TAKEN"
    assert caught.value.source == "Counter/default#count_and_fail"
    assert await engine.request("Counter", "a") == 2


async def test_send_message_gives_a_processing_result(engine: EmbeddedEngine) -> None:
    result = await engine.send_message(agent_name="Counter", message=Message(content="a", priority="normal"))
    assert (result.status, result.data) == ("success", 1)
    result = await engine.send_message("Counter", None, handler="plain")
    assert (result.data, result.metadata) == ({"a": 1}, {"from_cache": True})


async def test_unknown_agents_and_handlers_are_named(engine: EmbeddedEngine) -> None:
    for agent, name, reason in (("Nobody", "", "AGENT_UNKNOWN"), ("Counter", "nothing", "HANDLER_UNKNOWN")):
        with pytest.raises(AmxError) as caught:
            await engine.request(agent, handler=name)
        assert caught.value.reason == reason


async def test_stream_flows_at_the_readers_pace_and_ends_with_it(engine: EmbeddedEngine) -> None:
    assert [number async for number in engine.stream("Counter", 500, handler="numbers")] == list(range(500))
    assert await engine.request("Counter", 3, handler="numbers") == [0, 1, 2]
    endless = engine.stream("Counter", handler="endless")
    assert await anext(endless) == 1
    await endless.aclose()
    await engine.settle()
    assert "closed" in log


async def test_caller_that_leaves_cancels_the_handler(engine: EmbeddedEngine) -> None:
    call = asyncio.ensure_future(engine.request("Counter", handler="forever"))
    await logged("waiting")
    call.cancel()
    await logged("cancelled")


async def test_sent_twice_with_one_id_is_one_message(engine: EmbeddedEngine) -> None:
    first = await engine.send("Counter", "a", message_id="m-1")
    second = await engine.send("Counter", "a", message_id="m-1")
    assert (first.message_id, first.duplicate, second.duplicate) == ("m-1", False, True)
    await engine.settle()
    assert await engine.request("Counter", "a") == 2


async def test_effects_are_committed_with_the_result(engine: EmbeddedEngine) -> None:
    async with engine.subscribe("counter.*") as events:
        assert await engine.request("Counter", "x", key="r", handler="relay") == "relayed 1"
        event = await anext(events)
        assert (event.topic, event.content) == ("counter.relayed", 1)
    await engine.settle()
    assert await engine.memory("Counter", "staged").get("counts", "staged") == 1


async def test_published_events_reach_subscribed_agents_and_clients(engine: EmbeddedEngine) -> None:
    async with engine.subscribe("orders.**", filter="region = us") as events:
        await engine.publish("orders.created", {"id": 1}, attributes={"region": "eu"}, key="k")
        await engine.publish("orders.created", {"id": 2}, attributes={"region": "us"}, key="k")
        event = await anext(events)
        assert (event.content, dict(event.headers)) == ({"id": 2}, {"region": "us"})
    await engine.settle()
    assert await engine.memory("Counter", "k").get("counts") == {"orders.created": 1}


async def test_broadcast_reports_every_recipient(engine: EmbeddedEngine) -> None:
    for key in ("a", "b", "c"):
        await engine.request("Counter", "x", key=key)
    for scope in (Scope.agent("Counter"), Scope.group("desk"), Scope.labels("tier = gold")):
        outcome = await engine.broadcast(scope, "x")
        assert (outcome.succeeded, outcome.failed) == (3, 0)
        assert {one.instance.key for one in outcome.recipients} == {"a", "b", "c"}
    assert {one.value for one in outcome.recipients} == {4}


@Agent
class Town:
    @handler(default=True)
    async def announce(self, message: Message, context: Context) -> dict[str, Any]:
        outcome = await context.broadcast(
            Scope.agent("Counter"), "x", headers={"by": "town"}, timeout=timedelta(seconds=5)
        )
        return {one.instance.key: one.value for one in outcome.recipients}


async def test_handler_broadcasts_and_sees_every_outcome(engine: EmbeddedEngine) -> None:
    await engine.host(Town)
    for key in ("a", "b"):
        await engine.request("Counter", "x", key=key)
    assert await engine.request("Town") == {"a": 2, "b": 2}


async def test_memory_can_be_read_and_written_from_outside(engine: EmbeddedEngine) -> None:
    remote = engine.memory("Counter", "k")
    await engine.request("Counter", "a", key="k")
    version = await remote.put("counts", 41, item="a")
    assert await remote.get("counts", "a") == 41
    with pytest.raises(AmxError) as caught:
        await remote.put("counts", 0, item="a", if_version=version - 1 or version + 1)
    assert caught.value.reason == "MEMORY_VERSION_MISMATCH"
    assert await engine.request("Counter", "a", key="k") == 42
    assert await remote.list("counts") == ["a"]
    assert await remote.delete("counts", "a")
    assert await remote.get("counts", "a") is None
    assert await engine.request("Counter", "a", key="k") == 1


async def test_router_pipeline_and_monitor(engine: EmbeddedEngine) -> None:
    assert await engine.request("", Message("x", type="countable")) == 1
    assert await engine.memory("Counter", "routed").get("counts", "x") == 1
    assert await engine.request("Double", 21) == {"value": 42, "region": "eu"}
    assert await engine.request("Double", 80) == "settings: too much"
    await engine.settle()
    assert ("Counter", "success", True) in log


async def test_schedules_and_timers_run_when_the_clock_says_so(engine: EmbeddedEngine) -> None:
    await engine.request("Counter", handler="later")
    await engine.advance(timedelta(minutes=4))
    assert await engine.memory("Counter").get("counts", "timer") is None
    await engine.advance(timedelta(minutes=2))
    assert await engine.memory("Counter").get("counts", "timer") == 1
    await engine.advance(timedelta(hours=24), step=timedelta(minutes=1))
    assert len(await engine.memory("Ticker").get("ticks")) == 4


async def test_hibernated_instances_wake_with_their_memory(engine: EmbeddedEngine) -> None:
    await engine.request("Counter", "a")
    await engine.advance(timedelta(days=1))
    assert await engine.request("Counter", "a") == 2


async def test_memory_survives_the_end_of_the_process_that_held_it(tmp_path: Path) -> None:
    for expected in (1, 2):
        async with EmbeddedEngine(Counter, data_dir=tmp_path) as engine:
            assert await engine.request("Counter", "a") == expected


async def test_agents_join_and_leave_while_the_link_is_open(engine: EmbeddedEngine) -> None:
    @Agent
    class Late:
        @handler
        async def hello(self, message: Message) -> str:
            return "here"

    await engine.host(Late)
    assert await engine.request("Late") == "here"
    await engine.host(removed=["Late"])
    with pytest.raises(AmxError) as caught:
        await engine.request("Late")
    assert caught.value.reason == "NO_WORKER"


@Agent(name="Sentiment", version="2.1.0")
class Sentiment:
    @memory(persistent=True, ttl=timedelta(hours=24))
    def cache(self) -> Any:
        return {}

    @handler
    async def analyze(self, message: Message) -> ProcessingResult:
        text = message.content.get("text", "")
        known = hash(text) in self.cache
        self.cache[hash(text)] = {"label": "POSITIVE"}
        return ProcessingResult.success(data=self.cache[hash(text)], from_cache=known)

    @scheduled(interval=timedelta(hours=6))
    async def clean_up(self) -> None:
        self.cache.clear()


async def test_program_with_a_configuration_file_and_an_object_as_agent(tmp_path: Path) -> None:
    config = tmp_path / "amx-config.yaml"
    config.write_text("engine:\n  embedded: true\n")
    engine = AmxEngine.builder().with_config(str(config)).with_agent(Sentiment()).build()
    await engine.start()
    for known in (False, True):
        result = await engine.send_message(
            agent_name="Sentiment", message=Message(content={"text": "lovely"}, priority="normal")
        )
        assert result.data == {"label": "POSITIVE"}
        assert result.metadata["from_cache"] is known
    await engine.stop()


_ENGINE = """
import asyncio, sys
from amx_server.api.server import Server
from amx_server.core.config import EngineConfig, GrpcConfig, HttpConfig, LoggingConfig, StorageConfig
from amx_server.runtime.engine import Engine

async def main(path, port):
    config = EngineConfig(
        grpc=GrpcConfig(port=int(port)), http=HttpConfig(enabled=False), storage=StorageConfig(path=path),
        logging=LoggingConfig(level="error"),
    )
    async with Engine(config) as engine, Server(engine, config) as server:
        print(server.grpc_address, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


_ROOT = Path(__file__).resolve().parents[2]


class EngineProcess:
    """An engine of its own, to be killed."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "amx.db"
        self.address = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> str:
        port = self.address.rpartition(":")[2] or "0"
        environment = {**os.environ, "PYTHONPATH": f"{_ROOT / 'server'}{os.pathsep}{_ROOT / 'sdk-python'}"}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _ENGINE, str(self._path), port, stdout=asyncio.subprocess.PIPE, env=environment
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            self.address = (await self._process.stdout.readline()).decode().strip()
        assert self.address, "the engine did not start"
        return self.address

    async def kill(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[EngineProcess]:
    made = EngineProcess(tmp_path)
    await made.start()
    yield made
    await made.kill()


@pytest.mark.process
async def test_worker_and_client_over_grpc(process: EngineProcess) -> None:
    worker = AmxEngine.builder().with_address(process.address).with_agent(Counter).build()
    client = AmxEngine.builder().with_address(process.address).build()
    async with worker, client:
        results = await asyncio.gather(*(client.request("Counter", "a", key=str(n % 10)) for n in range(1000)))
        assert sum(results) == 10 * sum(range(1, 101))
        assert [n async for n in client.stream("Counter", 300, handler="numbers")] == list(range(300))


@pytest.mark.process
@pytest.mark.fault
async def test_killed_engine_loses_nothing_that_was_acknowledged(process: EngineProcess) -> None:
    worker = AmxEngine.builder().with_address(process.address).with_agent(Counter).build()
    client = AmxEngine.builder().with_address(process.address).build()
    async with worker, client:
        await client.request("Counter", "a")  # the agent is known from here on
        acknowledged = 0

        async def send(times: int) -> None:
            nonlocal acknowledged
            for _ in range(times):
                await client.send("Counter", "a", timeout=60)
                acknowledged += 1

        senders = [asyncio.ensure_future(send(50)) for _ in range(8)]
        async with asyncio.timeout(60):
            while acknowledged < 100:
                await asyncio.sleep(0.001)
        await process.kill()
        await process.start()
        await asyncio.gather(*senders)
        assert acknowledged == 400
        async with asyncio.timeout(60):
            while await client.memory("Counter").get("counts", "a") != 401:
                await asyncio.sleep(0.05)


@pytest.mark.process
@pytest.mark.fault
async def test_worker_whose_engine_was_killed_serves_the_next_one(process: EngineProcess) -> None:
    worker = AmxEngine.builder().with_address(process.address).with_agent(Counter).build()
    async with worker:
        assert await worker.request("Counter", "a") == 1
        hanging = asyncio.ensure_future(worker.request("Counter", handler="forever"))
        await logged("waiting")
        await process.kill()
        await process.start()
        with pytest.raises(AmxError) as caught:
            await hanging
        assert caught.value.reason == "ENGINE_RESTARTED"
        assert log == ["waiting", "cancelled"]
        assert await worker.request("Counter", "a", idempotency_key="k") == 2


class Flaky:
    """A connector whose connections last for a few frames; the last one may be lost on its way, either way."""

    address = "flaky"

    def __init__(self, connector: Connector, seed: int) -> None:
        self._connector = connector
        self._random = random.Random(seed)
        self.breaks = 0

    async def connect(self) -> Connection:
        return FlakyConnection(self, await self._connector.connect(), self._random)


class FlakyConnection:
    def __init__(self, owner: Flaky, connection: Connection, random: random.Random) -> None:
        self._owner = owner
        self._connection = connection
        self._random = random
        self._left = random.randrange(4, 20)
        self.abort = connection.abort
        self.close = connection.close

    def _breaks(self) -> bool:
        self._left -= 1
        if self._left == 0:
            self._owner.breaks += 1
            return True
        return False

    async def write(self, frame: bytes) -> None:
        breaks = self._breaks()
        if not breaks or self._random.random() < 0.5:
            await self._connection.write(frame)
        if breaks:
            self.abort()

    async def read(self) -> bytes:
        frame = await self._connection.read()
        if self._breaks():
            self.abort()
            raise ConnectionLost("the frame that came last is lost")
        return frame


@pytest.mark.fault
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_connections_that_break_all_the_time_lose_and_repeat_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amx_engine._link._LONGEST_BACKOFF_SECONDS", 0.02)
    process = EmbeddedProcess()
    async with process as connector:
        ends = [Flaky(connector, seed), Flaky(connector, seed + 100)]
        worker = AmxEngine.builder().with_connector(ends[0]).with_agent(Counter).build()
        client = AmxEngine.builder().with_connector(ends[1]).build()
        async with worker, client:

            async def ask(number: int) -> list[int]:
                return [await client.request("Counter", "n", key=str(number)) for _ in range(60)]

            counts = await asyncio.gather(*(ask(number) for number in range(20)))
            numbers = [number async for number in client.stream("Counter", 300, handler="numbers")]
            assert counts == [list(range(1, 61))] * 20
            assert numbers == list(range(300))
            assert min(end.breaks for end in ends) > 3
