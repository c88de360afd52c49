"""A store that fails: refusals by name, nothing acknowledged lost, memory as it is stored, service afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from amx.v1 import agent_pb2, link_pb2, memory_pb2, message_pb2
from amx_server.storage import MessageState, open_store
from tests.engine.failing_store import FailingStore, everything, nothing
from tests.engine.link_driver import (
    DURABLE,
    Rig,
    agent,
    event,
    message,
    put,
    remembered,
    running,
    value_memory,
)

COUNTER = agent("counter", memories=(value_memory(),), idle_timeout_ms=3_600_000)


@asynccontextmanager
async def failing() -> AsyncIterator[tuple[Rig, FailingStore]]:
    store = FailingStore(open_store(":memory:"))
    async with running(store=store) as rig:
        yield rig, store


async def test_store_that_is_full_refuses_sends_by_name_and_takes_them_again_after() -> None:
    async with failing() as (rig, store):
        worker = await rig.worker(agent("echo"))
        assert rig.engine.not_ready() == []
        store.refuses = everything
        for call in (worker.send("echo"), worker.request("echo", durability=DURABLE)):
            failure = await worker.refusal(call)
            assert failure.reason == "STORAGE_FULL"
            assert failure.retryable
        assert (await worker.refusal(worker.publish("t", durability=DURABLE))).reason == "STORAGE_FULL"
        assert "full" in rig.engine.not_ready()[0]
        assert worker.waiting == 0
        call = worker.request("echo", "volatile requests need no disk")
        (await worker.work()).succeed("served")
        assert await worker.result(call) == "served"
        store.refuses = nothing
        await worker.accepted(worker.send("echo"))
        assert rig.engine.not_ready() == []
        await worker.work()
        assert rig.engine.namespace("default").quota.stored_bytes > 0


async def test_store_that_refuses_a_batch_of_sends_gives_everything_back() -> None:
    async with failing() as (rig, store):
        worker = await rig.worker(agent("echo", mailbox_capacity=5))
        store.refuses = everything
        calls = [worker.send("echo") for _ in range(5)]
        for call in calls:
            assert (await worker.refusal(call)).reason == "STORAGE_FULL"
        namespace = rig.engine.namespace("default")
        assert namespace.quota.stored_bytes == 0
        assert not namespace.durable
        store.refuses = nothing
        for _ in range(5):
            await worker.accepted(worker.send("echo"))


async def test_completion_that_cannot_be_stored_is_tried_again_until_it_can() -> None:
    async with failing() as (rig, store):
        worker = await rig.worker(COUNTER)
        await worker.accepted(worker.send("counter", message_id="m"))
        store.refuses = lambda commit: bool(commit.finish)
        for _ in range(3):
            work = await worker.work()
            assert work.invoke.attempt == 1  # the handler did nothing wrong
            assert work.invoke.HasField("memory")
            assert remembered(work.invoke) is None
            work.succeed(effects=link_pb2.Effects(memory=[put("total", 1)]))
            await rig.pass_time(1.1)
        store.refuses = nothing
        (await worker.work()).succeed(effects=link_pb2.Effects(memory=[put("total", 1)]))
        await rig.settle()
        row = await rig.engine.store.message("default", "m")
        assert row is not None
        assert row.state == MessageState.SUCCEEDED
        await rig.pass_time(5)
        assert worker.waiting == 0


async def test_volatile_request_whose_effects_cannot_be_stored_fails_and_memory_is_rolled_back() -> None:
    async with failing() as (rig, store):
        worker = await rig.worker(COUNTER)
        call = worker.request("counter")
        (await worker.work()).succeed(effects=link_pb2.Effects(memory=[put("total", 1)]))
        await worker.result(call)
        store.refuses = lambda commit: bool(commit.memory_put)
        call = worker.request("counter")
        (await worker.work()).succeed("not stored", link_pb2.Effects(memory=[put("total", 2)]))
        assert (await worker.refusal(call)).reason == "STORAGE_FULL"
        store.refuses = nothing
        call = worker.request("counter")
        work = await worker.work()
        assert remembered(work.invoke) == 1
        work.succeed(effects=link_pb2.Effects(memory=[put("total", 3)]))
        await worker.result(call)
        rows = await rig.engine.store.memory("default", "counter", "default")
        assert [row.value for row in rows] == [b"3"]


async def test_emitted_messages_of_a_commit_that_failed_are_not_sent() -> None:
    async with failing() as (rig, store):
        worker = await rig.worker(COUNTER, agent("other"))
        store.refuses = lambda commit: bool(commit.insert)
        call = worker.request("counter")
        effects = link_pb2.Effects(messages=[message("other")], events=[event("t")])
        (await worker.work()).succeed(effects=effects)
        assert (await worker.refusal(call)).reason == "STORAGE_FULL"
        await rig.settle()
        assert worker.waiting == 0
        assert rig.counters.events_published == 0


async def test_write_from_outside_that_cannot_be_stored_is_refused_and_forgotten() -> None:
    async with failing() as (rig, store):
        worker = await rig.worker(COUNTER)
        store.refuses = lambda commit: bool(commit.memory_put)
        write = memory_pb2.MemoryOperation(name="total")
        write.instance.agent = "counter"
        write.put.value = b"9"
        call = worker.call("memory", write)
        request = worker.request("counter")
        assert (await worker.refusal(call)).reason == "STORAGE_FULL"
        work = await worker.work()
        assert remembered(work.invoke) is None
        store.refuses = nothing
        work.succeed(effects=link_pb2.Effects(memory=[put("total", 1)]))
        await worker.result(request)
        rows = await rig.engine.store.memory("default", "counter", "default")
        assert [row.value for row in rows] == [b"1"]


async def test_delivery_whose_changes_cannot_be_stored_leaves_memory_as_it_was() -> None:
    async with failing() as (rig, store):
        handler = agent_pb2.HandlerDefinition(name="handle", subscriptions=[message_pb2.Subscription(pattern="t")])
        worker = await rig.worker(agent("listener", handler, memories=(value_memory(),)))
        call = worker.request("listener")
        (await worker.work()).succeed(effects=link_pb2.Effects(memory=[put("total", 1)]))
        await worker.result(call)
        worker.publish("t", 1)
        worker.publish("t", 2)
        first, second = await worker.next("deliver"), await worker.next("deliver")
        store.refuses = lambda commit: bool(commit.memory_put)
        change = link_pb2.DeliveredTarget(index=0, effects=link_pb2.Effects(memory=[put("total", 2)]))
        worker.delivered(first, change)
        await rig.settle()
        store.refuses = nothing
        worker.delivered(second, change)  # made on top of what was not stored
        await rig.settle()
        worker.request("listener")
        work = await worker.work()
        assert remembered(work.invoke) == 1


async def test_schedule_that_cannot_be_stored_runs_once_when_it_can() -> None:
    async with failing() as (rig, store):
        tick = agent_pb2.ScheduleDefinition(name="tick", handler="handle", fixed_rate_ms=10_000)
        worker = await rig.worker(agent("clock", schedules=(tick,)))
        await rig.settle()
        store.refuses = lambda commit: bool(commit.insert)
        await rig.pass_time(15, step=1)
        assert store.refused > 1
        assert worker.waiting == 0
        store.refuses = nothing
        await rig.pass_time(2, step=1)
        assert worker.waiting == 1
        assert rig.counters.schedule_runs == 1


async def test_end_that_cannot_be_stored_is_stored_later() -> None:
    async with failing() as (rig, store):
        worker = await rig.worker(agent("echo"))
        await worker.accepted(worker.send("echo", message_id="m"))
        store.refuses = everything
        (await worker.work()).fail("BROKEN")
        await rig.pass_time(3, step=1)
        row = await rig.engine.store.message("default", "m")
        assert row is not None
        assert row.state == MessageState.PENDING
        store.refuses = nothing
        await rig.pass_time(2, step=1)
        row = await rig.engine.store.message("default", "m")
        assert row is not None
        assert row.state == MessageState.DEAD


async def test_memory_that_cannot_be_read_holds_its_instance_up_and_no_other() -> None:
    async with failing() as (rig, store):
        worker = await rig.worker(COUNTER, agent("echo"))
        store.unreadable = True
        worker.request("counter", timeout_ms=60_000)
        await rig.pass_time(3, step=1)
        assert worker.waiting == 0
        call = worker.request("echo")
        (await worker.work()).succeed()
        await worker.result(call)
        store.unreadable = False
        await rig.pass_time(2, step=1)
        assert (await worker.work()).message.agent == "counter"


async def test_broken_commit_counters_are_kept() -> None:
    async with failing() as (rig, store):
        worker = await rig.worker(COUNTER)
        call = worker.request("counter")
        (await worker.work()).succeed(effects=link_pb2.Effects(memory=[put("total", 1)]))
        await worker.result(call)
        text = rig.engine.render_metrics("")[1].decode()
        assert "amx_commits_total" in text
        assert store.refused == 0


async def test_definition_that_could_not_be_stored_is_stored_later() -> None:
    async with failing() as (rig, store):
        store.refuses = lambda commit: bool(commit.agent_put)
        await rig.worker(agent("echo"))
        await rig.pass_time(3, step=1)
        assert await rig.engine.store.agents() == []
        store.refuses = nothing
        await rig.pass_time(2, step=1)
        assert [row.name for row in await rig.engine.store.agents()] == ["echo"]


async def test_stored_message_whose_handler_is_not_known_waits_for_it(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        await rig.worker(agent("echo", "a", "b", version="1.0.0"), credit=0)
        client = await rig.client()
        await client.accepted(client.send("echo", "waits", handler="b"))
        await rig.worker(agent("echo", "a", version="2.0.0"), credit=0)
    async with running(store=path) as rig:
        new = await rig.worker(agent("echo", "a", version="2.0.0"))
        await rig.settle()
        assert new.waiting == 0
        newer = await rig.worker(agent("echo", "a", "b", version="3.0.0"))
        assert (await newer.work()).value == "waits"
