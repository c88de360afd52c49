"""Links over a network that breaks: calls wait, nothing is lost, nothing runs twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from amx.v1 import engine_pb2
from amx_engine import AmxEngine, AmxError
from tests.process.agents import Counter, Echo
from tests.process.harness import EngineProcess, Proxy, client, engine_process, unary, until

pytestmark = [pytest.mark.process, pytest.mark.fault]

QUICK = "links.heartbeat_interval=500ms"


@asynccontextmanager
async def both_behind_proxies(engine: EngineProcess) -> AsyncIterator[tuple[AmxEngine, AmxEngine, Proxy, Proxy]]:
    """A worker and a client, each with a network of its own."""
    async with (
        Proxy(engine.address) as worker_net,
        Proxy(engine.address) as client_net,
        client(worker_net.address, Counter, Echo) as worker,
        client(client_net.address) as application,
    ):
        yield worker, application, worker_net, client_net


async def test_connections_cut_again_and_again_lose_no_call_and_run_none_twice(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    with engine_process(tmp_path) as engine:
        async with both_behind_proxies(engine) as (_, application, worker_net, client_net):
            done = 0
            stopping = False

            async def ask(number: int) -> int:
                nonlocal done
                asked = 0
                while not stopping:
                    # Volatile: neither stored nor repeated. Only the link itself keeps them from being lost.
                    assert await application.request("Counter", 1, key=f"k{number}") == asked + 1
                    asked += 1
                    done += 1
                return asked

            asking = [asyncio.create_task(ask(number)) for number in range(16)]
            cuts = [(worker_net,), (client_net,), (worker_net, client_net)] * 3
            generator.shuffle(cuts)
            for nets in cuts:
                before = done
                await until(lambda: done > before + 20, "replies")  # noqa: B023
                await asyncio.sleep(generator.uniform(0, 0.05))
                for net in nets:
                    net.cut()
            stopping = True
            counts = await asyncio.wait_for(asyncio.gather(*asking), 60)
            for number, count in enumerate(counts):
                assert await application.request("Counter", key=f"k{number}", handler="totals") == [count, count]
            assert min(worker_net.connections, client_net.connections) > 2
        async with unary(engine.address) as stub:
            log = [line.event async for line in stub.ReadLog(engine_pb2.ReadLogRequest(lines=1000))]
        assert log.count("link_resumed") >= 5
        assert "link_violated_protocol" not in log


async def test_stream_goes_on_after_its_connection_was_cut(tmp_path: Path) -> None:
    with engine_process(tmp_path) as engine:
        async with both_behind_proxies(engine) as (_, application, worker_net, client_net):
            parts = []
            async for part in application.stream("Echo", 3000, handler="count"):
                parts.append(part)
                if len(parts) in (500, 1500):
                    client_net.cut()
                if len(parts) in (1000, 1500):
                    worker_net.cut()
            assert parts == list(range(3000))


async def test_subscription_goes_on_after_its_connection_was_cut(tmp_path: Path) -> None:
    with engine_process(tmp_path) as engine:
        async with (
            both_behind_proxies(engine) as (worker, application, _, client_net),
            application.subscribe("n.*") as events,
        ):
            for number in range(50):
                if number % 10 == 5:
                    client_net.cut()
                await worker.publish("n.x", number)
            iterator = aiter(events)
            assert [(await asyncio.wait_for(anext(iterator), 30)).content for _ in range(50)] == list(range(50))


async def test_half_open_connection_is_noticed_by_both_sides(tmp_path: Path) -> None:
    with engine_process(tmp_path, QUICK) as engine:
        async with both_behind_proxies(engine) as (worker, application, worker_net, _):
            assert await application.request("Counter", 1) == 1
            worker_net.stall()  # no FIN, no RST: only the missing heartbeats tell

            async def engine_noticed() -> bool:
                async with unary(engine.address) as stub:
                    log = [line.event async for line in stub.ReadLog(engine_pb2.ReadLogRequest(lines=1000))]
                return "link_silent" in log

            await until(lambda: not worker.connected, "the SDK to notice")
            await until(engine_noticed, "the engine to notice")
            worker_net.cut()
            worker_net.flow()
            assert await application.request("Counter", 1, timeout=30) == 2


async def test_call_made_while_the_link_is_stalled_is_answered_when_it_flows(tmp_path: Path) -> None:
    with engine_process(tmp_path, QUICK) as engine:
        async with both_behind_proxies(engine) as (_, application, _, client_net):
            assert await application.request("Counter", 1) == 1
            client_net.stall()
            asking = asyncio.create_task(application.request("Counter", 1, timeout=60))
            await until(lambda: not application.connected, "the SDK to notice")
            assert not asking.done()
            client_net.cut()
            client_net.flow()
            assert await asking == 2
            assert await application.request("Counter", handler="totals") == [2, 2]


async def test_link_that_does_not_come_back_in_time_has_its_work_redelivered_once(tmp_path: Path) -> None:
    with engine_process(tmp_path, QUICK, "links.resume_window=500ms") as engine:
        async with (
            Proxy(engine.address) as net,
            client(net.address, Counter) as first,
            client(engine.address) as application,
        ):
            await application.request("Counter", 1)
            net.refusing = True
            net.cut()
            await until(lambda: not first.connected, "the loss")
            for number in range(20):
                await application.send("Counter", 1, message_id=f"m-{number}")
            async with client(engine.address, Counter):

                async def counted() -> bool:
                    try:
                        return bool(await application.request("Counter", handler="totals") == [21, 21])
                    except AmxError:  # it has neither come back nor been given up yet
                        return False

                await until(counted, "all messages")
                net.refusing = False
                await until(lambda: first.connected, "the first worker back")
                await application.send("Counter", 1, key="other", message_id="last")
                assert await application.request("Counter", handler="totals") == [21, 21]


async def test_slow_network_delays_but_loses_nothing(tmp_path: Path) -> None:
    with engine_process(tmp_path, QUICK) as engine:
        async with both_behind_proxies(engine) as (worker, application, worker_net, client_net):
            worker_net.delay = client_net.delay = 0.15
            replies = await asyncio.gather(*(application.request("Echo", n, key=f"k{n}") for n in range(300)))
            assert replies == list(range(300))
            assert (worker_net.connections, client_net.connections) == (1, 1)
            assert worker.connected
