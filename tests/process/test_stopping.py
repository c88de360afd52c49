"""Polite ends: engines and workers that are asked to stop, and newer versions that take over, under load."""

from __future__ import annotations

import asyncio
import signal
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from amx.v1 import engine_pb2
from amx_engine import AmxEngine, AmxError
from tests.process.harness import client, engine_process, hosted, unary, until, worker_process

pytestmark = pytest.mark.process


async def test_engine_asked_to_stop_lets_handlers_finish_and_says_that_it_does_not_serve(tmp_path: Path) -> None:
    with engine_process(tmp_path) as engine, worker_process(tmp_path, engine.address, "Echo") as worker:
        async with client(engine.address) as application, grpc.aio.insecure_channel(engine.address) as channel:
            asking = asyncio.create_task(application.request("Echo", 1.0, handler="slow"))
            await asyncio.to_thread(worker.wait_for, "slow began")
            engine.signal(signal.SIGTERM)
            health: Any = health_pb2_grpc.HealthStub(channel)
            no = health_pb2.HealthCheckResponse.NOT_SERVING

            async def refuses() -> bool:
                return bool((await health.Check(health_pb2.HealthCheckRequest())).status == no)

            await until(refuses, "NOT_SERVING")
            with pytest.raises(AmxError) as caught:
                await application.request("Echo", 1, key="too-late", timeout=5)
            assert caught.value.reason == "SHUTTING_DOWN"
            assert await asking == "finished 1.0.0"
            assert await asyncio.to_thread(engine.ended) == 0
        assert "engine_stopped" in engine.output


async def test_engine_stopped_under_load_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    with engine_process(tmp_path) as engine, worker_process(tmp_path, engine.address, "Counter"):
        async with client(engine.address) as application:
            acknowledged = 0
            refusals: set[str] = set()

            async def send() -> None:
                nonlocal acknowledged
                for _ in range(200):
                    id = uuid.uuid4().hex
                    while True:
                        try:
                            await application.send("Counter", 1, message_id=id, timeout=60)
                            break
                        except AmxError as error:
                            refusals.add(error.reason)
                            await asyncio.sleep(0.1)
                    acknowledged += 1

            senders = [asyncio.create_task(send()) for _ in range(10)]
            await until(lambda: acknowledged > 300, "messages")
            assert await asyncio.to_thread(engine.stop) == 0
            await asyncio.to_thread(engine.start)
            await asyncio.gather(*senders)
            await hosted(engine.address, "Counter")

            async def totals() -> bool:
                return bool(await application.request("Counter", handler="totals", timeout=60) == [2000, 2000])

            await until(totals, "every message, once")
            assert refusals <= {"SHUTTING_DOWN"}


async def test_worker_asked_to_stop_finishes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        engine_process(tmp_path) as engine,
        worker_process(tmp_path, engine.address, "Echo", name="first") as first,
    ):
        async with client(engine.address) as application:
            asking = asyncio.create_task(application.request("Echo", 0.5, handler="slow", key="mine"))
            await asyncio.to_thread(first.wait_for, "slow began")
            first.signal(signal.SIGTERM)
            assert await asking == "finished 1.0.0"
            assert await asyncio.to_thread(first.ended) == 0
            with pytest.raises(AmxError) as caught:
                await application.request("Echo", 1, key="mine")
            assert caught.value.reason == "NO_WORKER"
            with worker_process(tmp_path, engine.address, "Echo", name="second"):
                assert await application.request("Echo", 1, key="mine") == 1


class Load:
    """Requests one after the other at several instances; every answer and every failure is kept."""

    def __init__(self, application: AmxEngine) -> None:
        self._application = application
        self.answers: list[str] = []
        self.failures: list[AmxError] = []
        self._stopping = False
        self._tasks = [asyncio.create_task(self._ask(f"k{number}")) for number in range(16)]

    async def _ask(self, key: str) -> None:
        while not self._stopping:
            try:
                self.answers.append(await self._application.request("Echo", handler="version", key=key))
            except AmxError as error:
                self.failures.append(error)

    async def hears(self, version: str, times: int = 50) -> None:
        """Returns when the last answers all came from this version."""
        await until(
            lambda: len(self.answers) >= times and set(self.answers[-times:]) == {version}, f"answers of {version}"
        )

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)


async def test_update_and_rollback_under_load_without_one_failed_request(tmp_path: Path) -> None:
    with (
        engine_process(tmp_path) as engine,
        worker_process(tmp_path, engine.address, "Echo", name="old", TEST_AGENT_VERSION="1.0.0") as old,
    ):
        async with client(engine.address) as application, unary(engine.address) as stub:
            load = Load(application)
            await load.hears("1.0.0")
            slow = asyncio.create_task(application.request("Echo", 1.0, handler="slow", key="busy"))
            await asyncio.to_thread(old.wait_for, "slow began")
            with worker_process(tmp_path, engine.address, "Echo", name="new", TEST_AGENT_VERSION="1.1.0") as new:
                await load.hears("1.1.0")
                assert await slow == "finished 1.0.0"
                # Back, by pinning the older version while both are there; and forward again.
                pin = engine_pb2.ActivateAgentVersionRequest(name="Echo", version="1.0.0")
                await stub.ActivateAgentVersion(pin)
                await load.hears("1.0.0")
                await stub.ActivateAgentVersion(engine_pb2.ActivateAgentVersionRequest(name="Echo"))
                await load.hears("1.1.0")
                # Back, by stopping the newer one: the older one, still there, takes over.
                assert await asyncio.to_thread(new.stop) == 0
                await load.hears("1.0.0")
            with worker_process(tmp_path, engine.address, "Echo", name="newest", TEST_AGENT_VERSION="1.2.0"):
                await load.hears("1.2.0")
                assert await asyncio.to_thread(old.stop) == 0
                seen = len(load.answers)
                await until(lambda: len(load.answers) > seen + 100, "answers without the old version")
                await load.stop()
    assert load.failures == []


async def test_memory_follows_an_instance_to_the_newer_version(tmp_path: Path) -> None:
    with engine_process(tmp_path) as engine:
        async with client(engine.address) as application:
            with worker_process(tmp_path, engine.address, "Counter", name="old", TEST_AGENT_VERSION="1.0.0"):
                assert await application.request("Counter", 5) == 1
                with worker_process(tmp_path, engine.address, "Counter", name="new", TEST_AGENT_VERSION="2.0.0"):
                    assert await application.request("Counter", 6) == 2
