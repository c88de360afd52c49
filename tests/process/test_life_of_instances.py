"""The life of instances with real processes: SDK workers behind an engine over gRPC, moved, suspended and killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from amx.v1 import common_pb2, engine_pb2
from amx_engine import AmxError
from tests.process.harness import client, engine_process, hosted, unary, until, worker_process

pytestmark = pytest.mark.process

COUNTER = common_pb2.InstanceRef(agent="Counter", key="c")


def ref(agent: str, key: str = "default") -> common_pb2.InstanceRef:
    return common_pb2.InstanceRef(agent=agent, key=key)


async def test_suspended_instance_keeps_its_mail_when_the_engine_is_killed(tmp_path: Path) -> None:
    with engine_process(tmp_path) as engine, worker_process(tmp_path, engine.address, "Counter"):
        async with client(engine.address) as application:
            async with unary(engine.address) as stub:
                await stub.SuspendInstance(engine_pb2.SuspendInstanceRequest(instance=COUNTER, reason="audit"))
            for amount in range(10):
                await application.send("Counter", amount, key="c")
            await engine.restart()
            await hosted(engine.address, "Counter")
            async with unary(engine.address) as stub:
                found = (await stub.GetInstance(engine_pb2.GetInstanceRequest(instance=COUNTER))).instance
                assert (found.state, found.suspended_because, found.queued_messages) == (
                    engine_pb2.INSTANCE_STATE_SUSPENDED,
                    "audit",
                    10,
                )
                assert (await stub.ResumeInstance(engine_pb2.ResumeInstanceRequest(instance=COUNTER))).resumed
            assert await application.request("Counter", handler="totals", key="c", timeout=60) == [10, 45]


async def test_instance_that_is_moved_between_workers_under_load_loses_and_repeats_nothing(tmp_path: Path) -> None:
    with (
        engine_process(tmp_path) as engine,
        worker_process(tmp_path, engine.address, "Counter", name="one"),
        worker_process(tmp_path, engine.address, "Counter", name="two"),
    ):
        async with client(engine.address) as application, unary(engine.address) as stub:
            places: set[str] = set()
            over = asyncio.Event()

            async def move() -> None:
                while not over.is_set():
                    answer = await stub.MigrateInstance(engine_pb2.MigrateInstanceRequest(instance=COUNTER))
                    places.add(answer.instance.link_id)

            moving = asyncio.create_task(move())
            results = await asyncio.gather(*(application.request("Counter", 1, key="c") for _ in range(500)))
            over.set()
            await moving
            assert sorted(results) == list(range(1, 501))
            assert len(places) == 2


async def test_handler_that_ignores_its_cancellation_does_not_keep_a_killed_instance(tmp_path: Path) -> None:
    with engine_process(tmp_path) as engine, worker_process(tmp_path, engine.address, "Echo"):
        async with client(engine.address) as application, unary(engine.address) as stub:
            stuck = asyncio.create_task(application.request("Echo", handler="stubborn"))

            async def runs() -> bool:
                answer = await stub.ListInstances(engine_pb2.ListInstancesRequest(agent="Echo"))
                return [found.state for found in answer.instances] == [engine_pb2.INSTANCE_STATE_RUNNING]

            await until(runs, "the handler")
            answer = await stub.KillInstance(engine_pb2.KillInstanceRequest(instance=ref("Echo"), reason="stuck"))
            assert answer.cancelled == 1
            with pytest.raises(AmxError) as killed:
                await stuck
            assert killed.value.reason == "INSTANCE_KILLED"
            assert await application.request("Echo", "works", timeout=20) == "works"


async def test_handler_that_is_stopped_by_a_suspension_runs_again_after_the_resume(tmp_path: Path) -> None:
    slow = {"TEST_SLOW_SECONDS": "3600"}
    with (
        engine_process(tmp_path) as engine,
        worker_process(tmp_path, engine.address, "Counter", name="slow", **slow) as worker,
    ):
        async with client(engine.address) as application, unary(engine.address) as stub:
            receipt = await application.send("Counter", 5, key="c", handler="add_slowly")
            await asyncio.to_thread(worker.wait_for, "adding 5")
            await stub.SuspendInstance(engine_pb2.SuspendInstanceRequest(instance=COUNTER, cancel_running=True))
            with worker_process(tmp_path, engine.address, "Counter", name="quick", TEST_SLOW_SECONDS="0"):
                worker.kill()  # what it hosted runs at the other one
                await stub.ResumeInstance(engine_pb2.ResumeInstanceRequest(instance=COUNTER))
                waited = await stub.WaitInvocation(
                    engine_pb2.WaitInvocationRequest(message_id=receipt.message_id), timeout=60
                )
                assert waited.invocation.state == engine_pb2.INVOCATION_STATE_SUCCEEDED
                assert waited.invocation.attempts == 1
                assert await application.request("Counter", handler="totals", key="c") == [1, 5]
