"""Every way to talk, between real processes: the SDK over its link, everyone else over EngineService."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from amx.v1 import common_pb2, engine_pb2, message_pb2
from amx_engine import AmxError, Priority, Scope
from tests.process.harness import (
    EngineProcess,
    WorkerProcess,
    client,
    engine_process,
    json_payload,
    unary,
    until,
    worker_process,
)

pytestmark = pytest.mark.process


@dataclass
class Machines:
    """One engine and one worker that hosts Echo and Counter."""

    engine: EngineProcess
    worker: WorkerProcess

    @property
    def address(self) -> str:
        return self.engine.address


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder: Path = tmp_path_factory.mktemp("machines")
    with engine_process(folder) as engine, worker_process(folder, engine.address, "Echo", "Counter") as worker:
        yield Machines(engine, worker)


# --- the SDK ---------------------------------------------------------------------------------------------------------


async def test_request_brings_back_what_the_handler_returned(machines: Machines) -> None:
    value = {"text": "ä\u0000😀", "numbers": [1, -2.5, 2**53 - 1], "none": None}
    async with client(machines.address) as application:
        assert await application.request("Echo", value) == value
        large = "x" * 3_000_000
        assert await application.request("Echo", large) == large


async def test_many_requests_at_once_get_each_its_own_reply(machines: Machines) -> None:
    async with client(machines.address) as application:
        replies = await asyncio.gather(*(application.request("Echo", n, key=f"k{n % 50}") for n in range(1000)))
        assert replies == list(range(1000))


async def test_durable_send_is_handled_once_per_message_id(machines: Machines) -> None:
    async with client(machines.address) as application:
        receipts = [await application.send("Counter", 7, key="once", message_id="the-same") for _ in range(5)]
        assert [receipt.duplicate for receipt in receipts] == [False, True, True, True, True]

        async def totals() -> bool:
            return bool(await application.request("Counter", key="once", handler="totals") == [1, 7])

        await until(totals, "one message")


async def test_stream_longer_than_its_window_arrives_whole_and_in_order(machines: Machines) -> None:
    async with client(machines.address) as application:
        assert [part async for part in application.stream("Echo", 1000, handler="count")] == list(range(1000))


async def test_exception_reaches_the_caller_with_reason_message_cause_and_stack(machines: Machines) -> None:
    async with client(machines.address) as application:
        with pytest.raises(AmxError) as caught:
            await application.request("Echo", "4A", handler="refuse", key="front")
    error = caught.value
    assert (error.reason, error.message) == ("SEAT_TAKEN", "seat 4A is taken")
    assert error.metadata["seat"] == "4A"
    assert error.source == "Echo/front#refuse"
    assert "in refuse" in error.stack and "HandlerError" in error.stack
    cause = error.__cause__
    assert isinstance(cause, AmxError)
    assert cause.metadata["exception"] == "KeyError"
    assert "4A" in cause.message


async def test_event_reaches_agents_and_clients_that_subscribed(machines: Machines) -> None:
    async with client(machines.address) as publisher, client(machines.address) as reader:
        async with reader.subscribe("news.**", "lang = en") as events:
            await publisher.publish("news.eu.late", {"title": "no"}, attributes={"lang": "de"})
            published = await publisher.publish("news.eu", "it rains", attributes={"lang": "en"}, key="reporter")
            assert published.subscribers == 2
            event = await asyncio.wait_for(anext(aiter(events)), 30)
            assert (event.topic, event.content, event.id) == ("news.eu", "it rains", published.event_id)

        async def heard() -> bool:
            return bool(await publisher.memory("Echo", "reporter").get("heard") == ["it rains"])

        await until(heard, "the event at the agent")


async def test_broadcast_tells_what_became_of_it_at_each_recipient(machines: Machines) -> None:
    async with client(machines.address) as application:
        for key in ("b1", "b2"):
            await application.request("Echo", 1, key=key)
        for scope in (Scope.agent("Echo"), Scope.group("talkers"), Scope.labels("tier = gold")):
            outcome = await application.broadcast(scope, "hello", handler="echo")
            keys = {one.instance.key for one in outcome.recipients if one.value == "hello"}
            assert {"b1", "b2"} <= keys
            assert (outcome.failed, outcome.succeeded) == (0, len(outcome.recipients))


async def test_unknown_targets_are_answered_at_once_by_name(machines: Machines) -> None:
    async with client(machines.address) as application:
        for agent, handler, reason in (("Nobody", "", "AGENT_UNKNOWN"), ("Echo", "sing", "HANDLER_UNKNOWN")):
            with pytest.raises(AmxError) as caught:
                await application.request(agent, 1, handler=handler)
            assert caught.value.reason == reason


async def test_deadline_cancels_the_handler(machines: Machines) -> None:
    async with client(machines.address) as application:
        with pytest.raises(AmxError) as caught:
            await application.request("Echo", handler="hang", key="overdue", timeout=0.3)
        assert caught.value.reason == "DEADLINE_EXCEEDED"
        await asyncio.to_thread(machines.worker.wait_for, "hang ended")
        assert await application.request("Echo", 5, key="overdue") == 5


async def test_cancelled_caller_cancels_the_handler(machines: Machines) -> None:
    async with client(machines.address) as application:
        ended = machines.worker.output.count("hang ended")
        began = machines.worker.output.count("hang began")
        asking = asyncio.create_task(application.request("Echo", handler="hang", key="given-up"))
        await until(lambda: machines.worker.output.count("hang began") > began, "the handler")
        asking.cancel()
        await until(lambda: machines.worker.output.count("hang ended") > ended, "the end of the handler")
        assert await application.request("Echo", 6, key="given-up") == 6


async def test_priority_and_headers_reach_a_handler_over_two_processes(machines: Machines) -> None:
    async with client(machines.address) as application:
        assert await application.request("Echo", 1, priority=Priority.CRITICAL, headers={"a": "b"}) == 1
        with pytest.raises(AmxError) as caught:
            await application.request("Echo", 1, headers={"a": "b" * 9000})
        assert caught.value.reason == "HEADERS_TOO_LARGE"


# --- everyone else ---------------------------------------------------------------------------------------------------


def to(agent: str, value: object = None, **fields: object) -> message_pb2.Message:
    return message_pb2.Message(agent=agent, payload=json_payload(value), **fields)  # type: ignore[arg-type]


async def test_unary_calls_send_request_stream_publish_and_broadcast(machines: Machines) -> None:
    async with unary(machines.address) as stub:
        reply = await stub.Request(engine_pb2.RequestRequest(message=to("Echo", [1, 2])))
        assert json.loads(reply.result.data) == [1, 2]
        sent = await stub.Send(engine_pb2.SendRequest(message=to("Counter", 3, key="unary", message_id="unary-1")))
        assert (sent.message_id, sent.duplicate) == ("unary-1", False)
        ended = await stub.WaitInvocation(engine_pb2.WaitInvocationRequest(message_id="unary-1"), timeout=30)
        assert ended.invocation.state == engine_pb2.INVOCATION_STATE_SUCCEEDED
        request = engine_pb2.StreamRequestRequest(message=to("Echo", 200, handler="count"))
        parts = [part async for part in stub.StreamRequest(request)]
        assert [json.loads(part.chunk.data) for part in parts if part.HasField("chunk")] == list(range(200))
        assert parts[-1].HasField("result")
        scope = message_pb2.BroadcastScope(agent="Counter")
        told = await stub.Broadcast(engine_pb2.BroadcastRequest(scope=scope, message=to("", handler="totals")))
        assert told.result.succeeded >= 1 and told.result.failed == 0

        subscription = message_pb2.Subscription(pattern="unary.*")
        events: Any = stub.Subscribe(engine_pb2.SubscribeRequest(subscription=subscription))
        first = await asyncio.wait_for(events.read(), 30)
        assert first is not grpc.aio.EOF and not first.HasField("event")
        event = message_pb2.Event(topic="unary.a", payload=json_payload("x"))
        published = await stub.Publish(engine_pb2.PublishRequest(event=event))
        assert published.subscribers == 1
        second = await asyncio.wait_for(events.read(), 30)
        assert second is not grpc.aio.EOF and second.event.event_id == published.event_id
        events.cancel()


async def test_unary_failure_says_reason_and_advice_as_google_rpc_details(machines: Machines) -> None:
    async with unary(machines.address) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Request(engine_pb2.RequestRequest(message=to("Nobody")))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
        assert status is not None
        info = error_details_pb2.ErrorInfo()
        assert any(detail.Unpack(info) for detail in status.details)
        assert (info.reason, info.domain) == ("AGENT_UNKNOWN", "amx")


async def test_unary_calls_show_agents_instances_memory_and_dead_letters(machines: Machines) -> None:
    async with unary(machines.address) as stub:
        await stub.Request(engine_pb2.RequestRequest(message=to("Counter", 3, key="seen")))
        agents = await stub.ListAgents(engine_pb2.ListAgentsRequest())
        assert [agent.definition.name for agent in agents.agents] == ["Counter", "Echo"]
        ref = common_pb2.InstanceRef(agent="Counter", key="seen")
        instance = await stub.GetInstance(engine_pb2.GetInstanceRequest(instance=ref))
        assert instance.instance.memory_version >= 1
        memory = await stub.GetMemory(engine_pb2.GetMemoryRequest(instance=ref, name="sum"))
        assert json.loads(memory.entry.value) == 3
        listed = await stub.ListMemory(engine_pb2.ListMemoryRequest(instance=ref))
        assert [one.name for one in listed.memories] == ["count", "sum"]
        message = to("Echo", "9Z", handler="refuse", message_id="dead-1")
        await stub.Send(engine_pb2.SendRequest(message=message))
        await stub.WaitInvocation(engine_pb2.WaitInvocationRequest(message_id="dead-1"), timeout=30)
        dead = await stub.ListDeadLetters(engine_pb2.ListDeadLettersRequest(agent="Echo"))
        assert [(letter.message.message_id, letter.failure.reason) for letter in dead.dead_letters] == [
            ("dead-1", "SEAT_TAKEN")
        ]
        dropped = await stub.DropDeadLetters(engine_pb2.DropDeadLettersRequest(message_ids=["dead-1"]))
        assert dropped.count == 1


async def test_log_is_read_and_followed(machines: Machines) -> None:
    async with unary(machines.address) as stub:
        past = [line.event async for line in stub.ReadLog(engine_pb2.ReadLogRequest(lines=1000))]
        assert "engine_started" in past and "link_opened" in past
        following: Any = stub.ReadLog(engine_pb2.ReadLogRequest(lines=1, follow=True))
        assert await asyncio.wait_for(following.read(), 30) is not grpc.aio.EOF
        async with client(machines.address):
            line = await asyncio.wait_for(following.read(), 30)
            assert line is not grpc.aio.EOF and line.event == "link_opened"
        following.cancel()


async def test_health_and_reflection_are_served(machines: Machines) -> None:
    async with grpc.aio.insecure_channel(machines.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", "amx.v1.EngineService", "amx.v1.LinkService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
        wish = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in reflection.ServerReflectionInfo(iter([wish]))]
        names = {service.name for service in answers[0].list_services_response.service}
        assert {"amx.v1.EngineService", "amx.v1.LinkService", "grpc.health.v1.Health"} <= names


async def test_http_answers_health_and_metrics_under_their_names(machines: Machines) -> None:
    async with client(machines.address) as application:
        await application.request("Echo", 1)

    def get(path: str) -> tuple[int, str]:
        with urllib.request.urlopen(f"http://{machines.engine.http}{path}", timeout=30) as response:
            return response.status, response.read().decode()

    assert (await asyncio.to_thread(get, "/health/live"))[0] == 200
    assert (await asyncio.to_thread(get, "/health/ready"))[0] == 200
    _, metrics = await asyncio.to_thread(get, "/metrics")
    for name in (
        "amx_messages_processed_total{",
        "amx_message_processing_duration",
        "amx_active_agents ",
        "amx_memory_usage_bytes{",
    ):
        assert name in metrics, name
