"""Workers that die, freeze, hang or stop reading: their work goes elsewhere, others go on, the culprit is told why."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import grpc
import pytest

from amx.v1 import common_pb2, engine_pb2, message_pb2
from amx_engine import AmxError
from tests.process.agents import Counter, Echo
from tests.process.harness import (
    EngineProcess,
    Process,
    RawLink,
    client,
    definition,
    engine_process,
    json_payload,
    unary,
    until,
    worker_process,
)

pytestmark = [pytest.mark.process, pytest.mark.fault]

QUICK = ("links.heartbeat_interval=300ms", "links.resume_window=300ms")


async def logged(engine: EngineProcess) -> list[engine_pb2.ReadLogResponse]:
    """What the engine has said about itself."""
    async with unary(engine.address) as stub:
        return [line async for line in stub.ReadLog(engine_pb2.ReadLogRequest(lines=5000))]


async def test_killed_worker_has_its_messages_redelivered_with_effects_once(tmp_path: Path) -> None:
    with engine_process(tmp_path, *QUICK, "delivery.redelivery_attempts=50") as engine:
        async with client(engine.address) as application:
            with worker_process(tmp_path, engine.address, "Counter", TEST_SLOW_SECONDS="0.02") as worker:
                for number in range(200):
                    await application.send(
                        "Counter", number, key=f"k{number % 10}", handler="add_slowly", message_id=f"m-{number}"
                    )
                for kill in range(4):
                    # In the middle of a handler: it has begun, and takes its time.
                    await until(lambda: worker.output.count("adding") > 5, "handlers at work")
                    worker.kill()
                    worker.name = f"worker-{kill}"
                    await asyncio.to_thread(worker.start)

                async def totals() -> list[int]:
                    counts = [0, 0]
                    for key in range(10):
                        for place, number in enumerate(
                            await application.request("Counter", key=f"k{key}", handler="totals")
                        ):
                            counts[place] += number
                    return counts

                async def all_counted() -> bool:
                    return (await totals())[0] >= 200

                await until(all_counted, "every message")
                assert await totals() == [200, sum(range(200))]
        attempts = [line.fields["reason"] for line in await logged(engine) if line.event == "link_ended"]
        assert "not resumed in time" in attempts


async def test_request_at_a_killed_worker_runs_at_another(tmp_path: Path) -> None:
    with (
        engine_process(tmp_path, *QUICK) as engine,
        worker_process(tmp_path, engine.address, "Echo", name="first") as first,
    ):
        async with client(engine.address) as application:
            asking = asyncio.create_task(application.request("Echo", handler="hang"))
            await asyncio.to_thread(first.wait_for, "hang began")
            with worker_process(tmp_path, engine.address, "Echo", name="second") as second:
                first.kill()
                await asyncio.to_thread(second.wait_for, "hang began")
                asking.cancel()
                await asyncio.to_thread(second.wait_for, "hang ended")


async def test_request_at_the_only_worker_fails_by_name_when_it_is_killed(tmp_path: Path) -> None:
    with (
        engine_process(tmp_path, *QUICK) as engine,
        worker_process(tmp_path, engine.address, "Echo") as worker,
    ):
        async with client(engine.address) as application:
            asking = asyncio.create_task(application.request("Echo", handler="hang"))
            await asyncio.to_thread(worker.wait_for, "hang began")
            worker.kill()
            with pytest.raises(AmxError) as caught:
                await asking
            assert caught.value.reason == "LINK_LOST"


async def test_frozen_worker_is_noticed_replaced_and_welcomed_back(tmp_path: Path) -> None:
    with (
        engine_process(tmp_path, *QUICK) as engine,
        worker_process(tmp_path, engine.address, "Counter", TEST_SLOW_SECONDS="0.3") as frozen,
    ):
        async with client(engine.address) as application:
            await application.send("Counter", 5, handler="add_slowly", message_id="one")
            await asyncio.to_thread(frozen.wait_for, "adding 5")
            frozen.signal(signal.SIGSTOP)  # the kernel still takes what is sent to it: only heartbeats tell
            async with client(engine.address, Counter):

                async def counted() -> bool:
                    return bool(await application.request("Counter", handler="totals") == [1, 5])

                await until(counted, "the message at the other worker")
                frozen.signal(signal.SIGCONT)  # what it says of its old work comes too late

                async def back() -> bool:
                    async with unary(engine.address) as stub:
                        return bool((await stub.GetEngine(engine_pb2.GetEngineRequest())).links == 3)

                await until(back, "the frozen worker's new link")
                assert await application.request("Counter", handler="totals") == [1, 5]
        assert "link_silent" in [line.event for line in await logged(engine)]


async def test_worker_that_never_completes_loses_only_its_own_slots(tmp_path: Path) -> None:
    with (
        engine_process(tmp_path, "delivery.cancel_grace=300ms") as engine,
        worker_process(tmp_path, engine.address, "Echo") as worker,
    ):
        async with client(engine.address) as application:
            with pytest.raises(AmxError) as caught:
                await application.request("Echo", handler="stubborn", key="stuck", timeout=0.3)
            assert caught.value.reason == "DEADLINE_EXCEEDED"
            await asyncio.to_thread(worker.wait_for, "stubborn goes on")
            # After the grace its instance goes on without it; other instances never waited.
            assert await application.request("Echo", 1, key="other") == 1
            assert await application.request("Echo", 2, key="stuck") == 2
        assert "handler_does_not_stop" in [line.event for line in await logged(engine)]


async def test_durable_message_at_a_handler_that_hangs_ends_in_the_dead_letters(tmp_path: Path) -> None:
    settings = ("delivery.attempt_timeout=200ms", "delivery.durable_attempts=2", "delivery.cancel_grace=200ms")
    with engine_process(tmp_path, *settings) as engine:
        async with client(engine.address, Echo) as application, unary(engine.address) as stub:
            await application.send("Echo", handler="hang", key="stuck", message_id="hung")
            await application.send("Echo", 1, key="stuck", message_id="behind")
            for id, state in (
                ("behind", engine_pb2.INVOCATION_STATE_SUCCEEDED),
                ("hung", engine_pb2.INVOCATION_STATE_DEAD),
            ):
                ended = await stub.WaitInvocation(engine_pb2.WaitInvocationRequest(message_id=id), timeout=30)
                assert ended.invocation.state == state
            dead = await stub.ListDeadLetters(engine_pb2.ListDeadLettersRequest())
            assert [(letter.failure.reason, letter.attempts) for letter in dead.dead_letters] == [
                ("DEADLINE_EXCEEDED", 2)
            ]


async def test_link_that_never_reads_is_told_why_it_ends_and_others_go_on(tmp_path: Path) -> None:
    settings = ("links.heartbeat_interval=500ms", "links.max_unacked_bytes=1MiB", "links.resume_window=0s")
    with engine_process(tmp_path, *settings) as engine:
        async with (
            RawLink(engine.address, "deaf") as deaf,
            client(engine.address, Echo) as application,
            unary(engine.address) as stub,
        ):
            await deaf.open(definition("Deaf"), credit=1000, features=["resume"])
            before = engine.resident_bytes()
            payload = json_payload("x" * 100_000)
            for number in range(100):
                message = message_pb2.Message(agent="Deaf", key=f"k{number}", payload=payload)
                await stub.Send(engine_pb2.SendRequest(message=message))
                assert await application.request("Echo", number) == number

            async def ended() -> bool:
                return "link_does_not_read" in [line.event for line in await logged(engine)]

            await until(ended, "the end of the link that does not read")
            assert await application.request("Echo", 1) == 1
            code, details = await deaf.end()
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED, details
            assert "LINK_DOES_NOT_READ" in details or "read" in details
            assert engine.resident_bytes() - before < 100 << 20


async def test_client_that_is_killed_has_its_requests_cancelled(tmp_path: Path) -> None:
    (tmp_path / "asker.py").write_text(
        "import asyncio\n"
        "from amx_engine import AmxEngine\n\n\n"
        "async def main():\n"
        "    async with AmxEngine.builder().build() as engine:\n"
        "        await engine.request('Echo', handler='hang')\n\n\n"
        "asyncio.run(main())\n"
    )
    with engine_process(tmp_path, *QUICK) as engine, worker_process(tmp_path, engine.address, "Echo") as worker:
        asker = Process("asker", ["asker.py"], tmp_path, {"AMX_ADDRESS": engine.address})
        asker.launch()
        await asyncio.to_thread(worker.wait_for, "hang began")
        asker.kill()
        await asyncio.to_thread(worker.wait_for, "hang ended")
        # The same for a unary call whose client goes away.
        async with unary(engine.address) as stub:
            request = engine_pb2.RequestRequest(message=message_pb2.Message(agent="Echo", handler="hang", key="u"))
            call = stub.Request(request)
            await until(lambda: worker.output.count("hang began") == 2, "the handler")
            call.cancel()
            await until(lambda: worker.output.count("hang ended") == 2, "the end of the handler")
            ref = common_pb2.InstanceRef(agent="Echo", key="u")
            instance = await stub.GetInstance(engine_pb2.GetInstanceRequest(instance=ref))
            assert instance.instance.queued_messages == 0
