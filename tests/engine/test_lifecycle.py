"""Spawn, suspend, resume, migrate and kill: what they stop, what they keep, and that they race nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from amx.v1 import agent_pb2, engine_pb2, link_pb2
from amx_server.core.errors import AmxError
from amx_server.runtime.instances import Agent
from amx_server.storage import MessageState, Store, open_store
from tests.engine.failing_store import FailingStore, everything, nothing
from tests.engine.link_driver import DURABLE, Rig, Sdk, Work, agent, put, remembered, running, value_memory

COUNTER = agent("counter", memories=(value_memory("total"), value_memory("mood", persistent=False)))
SUSPENDED = engine_pb2.INSTANCE_STATE_SUSPENDED


def known(rig: Rig, name: str = "counter") -> Agent:
    return rig.engine.namespace("default").agents[name]


def described(rig: Rig, name: str = "counter", key: str = "default") -> engine_pb2.InstanceInfo:
    return rig.engine.queries.instance(rig.engine.namespace("default"), name, key)


async def suspend(rig: Rig, key: str = "default", *, cancel_running: bool = False) -> None:
    await rig.engine.lifecycle.suspend(known(rig), key, "maintenance", cancel_running=cancel_running)


async def nothing_comes(rig: Rig, sdk: Sdk) -> None:
    await rig.settle()
    assert not sdk.waiting


# --- spawn -----------------------------------------------------------------------------------------------------------


async def test_spawned_instance_is_awake_on_a_link_that_has_its_memory(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    sdk.request("counter")
    (await sdk.work()).succeed(effects=link_pb2.Effects(memory=[put("total", 7)]))
    await rig.pass_time(10_000)  # it sleeps
    assert await rig.engine.lifecycle.spawn(known(rig), "default")
    activate = (await sdk.next("activate")).activate
    assert (activate.instance.agent, activate.instance.key) == ("counter", "default")
    assert activate.memory.memories[0].entries[0].value == b"7"
    sdk.request("counter")
    work = await sdk.work()
    assert work.invoke.epoch == activate.epoch
    assert not work.invoke.HasField("memory")  # it is there already
    assert not await rig.engine.lifecycle.spawn(known(rig), "default")


async def test_instance_can_be_spawned_while_nobody_hosts_its_agent(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    sdk.drain()
    await rig.settle()
    assert await rig.engine.lifecycle.spawn(known(rig), "early")
    assert described(rig, key="early").state == engine_pb2.INSTANCE_STATE_IDLE
    assert described(rig, key="early").link_id == ""


# --- suspend and resume ----------------------------------------------------------------------------------------------


async def test_suspended_instance_starts_nothing_and_goes_on_in_order_when_resumed(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    await suspend(rig)
    calls = [sdk.request("counter", number) for number in range(3)]
    await sdk.accepted(sdk.send("counter", 3, durability=DURABLE))
    await nothing_comes(rig, sdk)
    info = described(rig)
    assert (info.state, info.suspended_because, info.queued_messages) == (SUSPENDED, "maintenance", 4)
    assert await rig.engine.lifecycle.resume(known(rig), "default")
    for number, call in enumerate(calls):
        work = await sdk.work()
        assert work.value == number
        work.succeed(number)
        assert await sdk.result(call) == number
    assert (await sdk.work()).value == 3
    assert not await rig.engine.lifecycle.resume(known(rig), "default")


async def test_what_runs_may_end_while_its_instance_is_suspended(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    call = sdk.request("counter")
    work = await sdk.work()
    await suspend(rig)
    sdk.request("counter", "later")
    work.succeed("done", effects=link_pb2.Effects(memory=[put("total", 1)]))
    assert await sdk.result(call) == "done"
    await nothing_comes(rig, sdk)
    await rig.engine.lifecycle.resume(known(rig), "default")
    work = await sdk.work()
    assert (work.value, remembered(work.invoke) or "held") == ("later", "held")


@pytest.mark.parametrize("durable", [False, True])
async def test_what_is_cancelled_by_a_suspension_runs_again_first_and_that_is_no_attempt(
    rig: Rig, durable: bool
) -> None:
    sdk = await rig.worker(COUNTER)
    if durable:
        await sdk.accepted(sdk.send("counter", "first"))
    else:
        call = sdk.request("counter", "first")
    work = await sdk.work()
    sdk.request("counter", "second")
    await suspend(rig, cancel_running=True)
    assert (await sdk.next("cancel")).id == work.id
    work.succeed("void", effects=link_pb2.Effects(memory=[put("total", 99)]))
    await nothing_comes(rig, sdk)
    await rig.engine.lifecycle.resume(known(rig), "default")
    again = await sdk.work()
    assert (again.value, again.invoke.attempt) == ("first", 1)
    assert remembered(again.invoke) is None
    again.succeed("real")
    if not durable:
        assert await sdk.result(call) == "real"
    assert (await sdk.work()).value == "second"


async def test_concurrent_handlers_are_cancelled_by_a_suspension_as_well(rig: Rig) -> None:
    sdk = await rig.worker(agent("counter", agent_pb2.HandlerDefinition(name="look", concurrent=True)))
    calls = [sdk.request("counter", number) for number in range(2)]
    first = {(await sdk.work()).value for _ in calls}
    await suspend(rig, cancel_running=True)
    await nothing_comes(rig, sdk)
    await rig.engine.lifecycle.resume(known(rig), "default")
    again = [await sdk.work() for _ in calls]
    assert {work.value for work in again} == first
    for work in again:
        work.succeed(work.value)
    assert {await sdk.result(call) for call in calls} == first


async def test_stream_that_has_sent_chunks_fails_when_a_suspension_cancels_it(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    call = sdk.stream("counter")
    work = await sdk.work()
    work.chunk("part")
    await rig.settle()
    await suspend(rig, cancel_running=True)
    assert (await sdk.refusal(call)).reason == "INSTANCE_STOPPED"


async def test_deadline_of_a_request_holds_while_its_instance_is_suspended(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    await suspend(rig)
    call = sdk.request("counter", timeout_ms=1000)
    await rig.pass_time(2)
    assert (await sdk.refusal(call)).reason == "DEADLINE_EXCEEDED"


async def test_mail_of_a_suspended_instance_is_bounded(rig: Rig) -> None:
    sdk = await rig.worker(agent("counter", mailbox_capacity=2))
    await suspend(rig)
    for _ in range(2):
        await sdk.accepted(sdk.send("counter"))
    await rig.settle()
    assert (await sdk.refusal(sdk.send("counter"))).reason == "MAILBOX_FULL"


async def test_events_wait_for_a_suspended_instance_and_pass_others_by(rig: Rig) -> None:
    listening = agent_pb2.HandlerDefinition(name="handle")
    listening.subscriptions.add(pattern="news")
    sdk = await rig.worker(agent("counter", listening))
    for key in ("a", "b"):
        await rig.engine.lifecycle.spawn(known(rig), key)
    effects = link_pb2.Effects()
    effects.subscriptions.add(pattern="weather", handler="handle")
    for key in ("a", "b"):
        sdk.request("counter", key=key)
        (await sdk.work()).succeed(effects=effects)
    await rig.settle()
    await suspend(rig, "a")
    await sdk.reply(sdk.publish("weather", "rain"))
    deliver = await sdk.next("deliver")
    assert len(deliver.deliver.epochs) == 1
    sdk.delivered(deliver)
    await nothing_comes(rig, sdk)
    await rig.engine.lifecycle.resume(known(rig), "a")
    work = await sdk.work()
    assert (work.message.key, work.value) == ("a", "rain")


async def test_memory_of_a_suspended_instance_can_be_read_and_written(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    sdk.request("counter")
    await sdk.work()
    await suspend(rig, cancel_running=True)  # its message waits: it has the instance to itself, but does not run
    operation = link_pb2.Call().memory
    operation.instance.agent, operation.name = "counter", "total"
    operation.put.value = b"5"
    assert (await sdk.reply(sdk.call("memory", operation))).memory.version == 1
    await rig.engine.lifecycle.resume(known(rig), "default")
    assert remembered((await sdk.work()).invoke) == 5


async def test_resume_while_memory_is_being_written_from_outside_goes_on_when_it_is_stored(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    sdk.request("counter", "goes on")
    await sdk.work()
    await suspend(rig, cancel_running=True)
    instance = rig.instance("counter")
    assert instance is not None
    rig.engine.dispatcher.hold(instance)  # as a write does until it is stored
    await rig.engine.lifecycle.resume(known(rig), "default")
    await nothing_comes(rig, sdk)
    rig.engine.dispatcher.release(instance)
    assert (await sdk.work()).value == "goes on"


async def test_suspended_instance_sleeps_and_wakes_suspended(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    sdk.request("counter")
    (await sdk.work()).succeed()
    await suspend(rig)
    await rig.pass_time(10_000)
    assert rig.instance("counter") is None
    assert described(rig).state == SUSPENDED
    sdk.request("counter", "woken")
    await nothing_comes(rig, sdk)
    await rig.engine.lifecycle.resume(known(rig), "default")
    assert (await sdk.work()).value == "woken"


async def test_suspended_instance_keeps_its_mail_over_a_restart_of_the_engine(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        sdk = await rig.worker(COUNTER)
        await suspend(rig)
        for number in range(3):
            await sdk.accepted(sdk.send("counter", number))
    async with running(store=path) as rig:
        info = described(rig)
        assert (info.state, info.suspended_because, info.queued_messages) == (SUSPENDED, "maintenance", 3)
        sdk = await rig.worker(COUNTER)
        await nothing_comes(rig, sdk)
        await rig.engine.lifecycle.resume(known(rig), "default")
        for number in range(3):
            work = await sdk.work()
            assert work.value == number
            work.succeed()
    async with running(store=path) as rig:
        sdk = await rig.worker(COUNTER)
        sdk.request("counter", "free")
        assert (await sdk.work()).value == "free"


async def test_suspension_that_cannot_be_stored_does_not_happen() -> None:
    store = FailingStore(open_store(":memory:"))
    async with running(store=cast(Store, store)) as rig:
        sdk = await rig.worker(COUNTER)
        await rig.settle()
        store.refuses = everything
        with pytest.raises(AmxError):
            await suspend(rig)
        store.refuses = nothing
        sdk.request("counter", "runs")
        assert (await sdk.work()).value == "runs"


async def test_resumption_that_cannot_be_stored_leaves_the_instance_suspended() -> None:
    store = FailingStore(open_store(":memory:"))
    async with running(store=cast(Store, store)) as rig:
        sdk = await rig.worker(COUNTER)
        await suspend(rig)
        store.refuses = everything
        with pytest.raises(AmxError):
            await rig.engine.lifecycle.resume(known(rig), "default")
        sdk.request("counter")
        await nothing_comes(rig, sdk)
        assert described(rig).state == SUSPENDED


async def test_suspensions_and_resumptions_at_once_end_as_the_last_one_says(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    lifecycle = rig.engine.lifecycle
    steps = [suspend(rig), lifecycle.resume(known(rig), "default"), suspend(rig)] * 10
    await asyncio.gather(*steps, lifecycle.resume(known(rig), "default"))
    sdk.request("counter", "free")
    assert (await sdk.work()).value == "free"
    assert await rig.engine.store.suspensions() == []


async def test_listing_finds_suspended_instances(rig: Rig) -> None:
    await rig.worker(COUNTER)
    await suspend(rig, "never-seen")
    found = await rig.engine.queries.instances(rig.engine.namespace("default"), "", SUSPENDED, ("", ""), 10)
    assert [(info.instance.key, info.suspended_because) for info in found] == [("never-seen", "maintenance")]


# --- migrate ---------------------------------------------------------------------------------------------------------


async def test_instance_moves_with_its_memory_to_the_link_that_is_named(rig: Rig) -> None:
    one = await rig.worker(COUNTER, link_id="one")
    one.request("counter")
    (await one.work()).succeed(effects=link_pb2.Effects(memory=[put("total", 3), put("mood", "good")]))
    await rig.settle()
    two = await rig.worker(COUNTER, link_id="two")
    await rig.engine.lifecycle.migrate(known(rig), "default", "two")
    assert len((await one.next("deactivate")).deactivate.epochs) == 1
    activate = (await two.next("activate")).activate
    assert {memory.name: memory.entries[0].value for memory in activate.memory.memories} == {
        "total": b"3",
        "mood": b'"good"',
    }
    one.request("counter")
    assert (await two.work()).invoke.epoch == activate.epoch
    assert described(rig).link_id == "two"


async def test_instance_moves_when_what_it_runs_has_ended_and_what_waits_runs_there(rig: Rig) -> None:
    one = await rig.worker(COUNTER, link_id="one")
    call = one.request("counter")
    work = await one.work()
    two = await rig.worker(COUNTER, link_id="two")
    later = one.request("counter", "later")
    migration = asyncio.create_task(rig.engine.lifecycle.migrate(known(rig), "default"))
    await rig.settle()
    assert not migration.done()
    work.succeed("on one", effects=link_pb2.Effects(memory=[put("total", 1)]))
    assert await one.result(call) == "on one"
    await migration
    moved = await two.work()
    assert moved.value == "later"
    moved.succeed("on two")
    assert await one.result(later) == "on two"


async def test_instance_moves_when_its_concurrent_handlers_have_ended_too(rig: Rig) -> None:
    looking = agent("counter", agent_pb2.HandlerDefinition(name="look", concurrent=True))
    one = await rig.worker(looking, link_id="one")
    one.request("counter", "first")
    first = await one.work()
    two = await rig.worker(looking, link_id="two")
    migration = asyncio.create_task(rig.engine.lifecycle.migrate(known(rig), "default", "two"))
    await rig.settle()
    one.request("counter", "second")
    await nothing_comes(rig, two)
    assert not migration.done()
    first.succeed()
    await migration
    assert (await two.work()).value == "second"


async def test_instance_that_is_suspended_while_its_migration_waits_moves_when_what_ran_is_stopped(rig: Rig) -> None:
    one = await rig.worker(COUNTER, link_id="one")
    one.request("counter", "again")
    await one.work()
    two = await rig.worker(COUNTER, link_id="two")
    migration = asyncio.create_task(rig.engine.lifecycle.migrate(known(rig), "default", "two"))
    await rig.settle()
    await suspend(rig, cancel_running=True)
    await migration
    assert (described(rig).link_id, described(rig).state) == ("two", SUSPENDED)
    await rig.engine.lifecycle.resume(known(rig), "default")
    assert (await two.work()).value == "again"


async def test_migration_whose_caller_leaves_is_called_off(rig: Rig) -> None:
    one = await rig.worker(COUNTER, link_id="one")
    one.request("counter")
    work = await one.work()
    await rig.worker(COUNTER, link_id="two")
    one.request("counter", "later")
    migration = asyncio.create_task(rig.engine.lifecycle.migrate(known(rig), "default", "two"))
    await rig.settle()
    migration.cancel()
    await asyncio.gather(migration, return_exceptions=True)
    work.succeed()
    assert (await one.work()).value == "later"
    assert described(rig).link_id == "one"


async def test_migration_to_a_link_that_does_not_host_the_agent_names_those_that_do(rig: Rig) -> None:
    await rig.worker(COUNTER, link_id="one")
    await rig.worker(agent("other"), link_id="two")
    with pytest.raises(AmxError, match="these links do: one") as refused:
        await rig.engine.lifecycle.migrate(known(rig), "default", "two")
    assert refused.value.reason == "LINK_UNSUITABLE"


async def test_target_that_leaves_while_the_migration_waits_calls_it_off(rig: Rig) -> None:
    one = await rig.worker(COUNTER, link_id="one")
    one.request("counter")
    work = await one.work()
    two = await rig.worker(COUNTER, link_id="two")
    migration = asyncio.create_task(rig.engine.lifecycle.migrate(known(rig), "default", "two"))
    await rig.settle()
    two.drain()
    await rig.settle()
    work.succeed()
    with pytest.raises(AmxError, match="link 'two'"):
        await migration
    one.request("counter", "goes on")
    assert (await one.work()).value == "goes on"


async def test_migrations_under_load_lose_repeat_and_reorder_nothing(rig: Rig) -> None:
    """Two workers that count in memory, three instances that are moved all the time, 300 stored messages."""
    workers = [await rig.worker(COUNTER, link_id=name) for name in ("one", "two")]
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    totals: dict[str, int] = dict.fromkeys(seen, 0)

    async def serve(sdk: Sdk) -> None:
        held: dict[int, int] = {}  # by epoch: what this process holds of the instance
        while True:
            await sdk.until(lambda: bool(sdk.items["invoke"] or sdk.items["activate"]), "work")
            while sdk.items["activate"]:
                activate = sdk.items["activate"].popleft().activate
                entries = [m.entries[0].value for m in activate.memory.memories if m.name == "total"]
                held[activate.epoch] = int(entries[0]) if entries else 0
            if not sdk.items["invoke"]:
                continue
            work = await sdk.work()
            key = work.message.key
            if work.invoke.HasField("memory"):
                held[work.invoke.epoch] = remembered(work.invoke) or 0
            await asyncio.sleep(0)
            seen[key].append(work.value)
            total = held[work.invoke.epoch] = held[work.invoke.epoch] + 1
            totals[key] = total
            work.succeed(effects=link_pb2.Effects(memory=[put("total", total)]))

    serving = [asyncio.create_task(serve(sdk)) for sdk in workers]
    client = await rig.client()
    moves = 0
    for number in range(100):
        for key in seen:
            client.send("counter", number, key=key)
        for key in seen:
            target = workers[(number + len(key)) % 2].link_id
            await rig.engine.lifecycle.migrate(known(rig), key, target)
            moves += 1
    async with asyncio.timeout(20):
        while any(len(values) < 100 for values in seen.values()):
            await asyncio.sleep(0.01)
    for task in serving:
        task.cancel()
    assert moves == 300
    assert seen == {key: list(range(100)) for key in seen}
    assert totals == dict.fromkeys(seen, 100)


# --- kill ------------------------------------------------------------------------------------------------------------


async def test_killed_instance_answers_its_callers_and_begins_anew_with_what_is_stored(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    sdk.request("counter")
    (await sdk.work()).succeed(effects=link_pb2.Effects(memory=[put("total", 1), put("mood", "good")]))
    call = sdk.request("counter")
    work = await sdk.work()
    waiting = sdk.request("counter")
    await rig.settle()
    assert await rig.engine.lifecycle.kill(known(rig), "default", "it hangs") == (1, 1)
    assert (await sdk.next("cancel")).id == work.id
    for one in (call, waiting):
        refusal = await sdk.refusal(one)
        assert (refusal.reason, refusal.retryable) == ("INSTANCE_KILLED", True)
        assert "it hangs" in refusal.message
    work.succeed("void", effects=link_pb2.Effects(memory=[put("total", 99)]))
    sdk.request("counter")
    anew = await sdk.work()
    assert (remembered(anew.invoke), remembered(anew.invoke, "mood")) == (1, None)


async def test_stored_message_of_a_killed_instance_has_its_next_attempt(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    await sdk.accepted(sdk.send("counter", "kept"))
    await sdk.work()
    await sdk.accepted(sdk.send("counter", "waits"))
    await rig.settle()
    assert await rig.engine.lifecycle.kill(known(rig), "default") == (1, 0)
    waits = await sdk.work()
    assert waits.value == "waits"
    waits.succeed()
    await rig.pass_time(1)
    work = await sdk.work()
    assert (work.value, work.invoke.attempt) == ("kept", 2)


async def test_purge_makes_dead_letters_of_stored_messages_running_waiting_or_between_attempts(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    for value in ("between", "running", "waiting"):
        await sdk.accepted(sdk.send("counter", value))
    (await sdk.work()).fail(retryable=True)
    assert (await sdk.work()).value == "running"
    await rig.settle()
    assert await rig.engine.lifecycle.kill(known(rig), "default", purge=True) == (1, 2)
    await rig.pass_time(100, step=10)
    assert not sdk.waiting
    letters, _ = await rig.engine.queries.dead_letters(rig.engine.namespace("default"), "", 0, 10)
    assert sorted(letter.message.payload.data for letter in letters) == [b'"between"', b'"running"', b'"waiting"']
    assert {letter.failure.reason for letter in letters} == {"INSTANCE_KILLED"}


async def test_what_is_being_stored_when_its_instance_is_killed_has_happened(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    call = sdk.request("counter")
    (await sdk.work()).succeed("stored", effects=link_pb2.Effects(memory=[put("total", 8)]))
    killing = asyncio.create_task(rig.engine.lifecycle.kill(known(rig), "default"))
    assert await sdk.result(call) == "stored"
    assert await killing == (0, 0)
    sdk.request("counter")
    assert remembered((await sdk.work()).invoke) == 8


async def test_kill_of_an_instance_that_sleeps_does_nothing(rig: Rig) -> None:
    await rig.worker(COUNTER)
    assert await rig.engine.lifecycle.kill(known(rig), "nobody") == (0, 0)
    assert rig.instance("counter", "nobody") is None


async def test_suspended_instance_that_is_killed_stays_suspended(rig: Rig) -> None:
    sdk = await rig.worker(COUNTER)
    await suspend(rig)
    await sdk.accepted(sdk.send("counter", "kept"))
    await rig.engine.lifecycle.kill(known(rig), "default")
    await nothing_comes(rig, sdk)
    await rig.engine.lifecycle.resume(known(rig), "default")
    assert (await sdk.work()).value == "kept"


async def test_operations_at_once_leave_an_instance_that_works(rig: Rig) -> None:
    one = await rig.worker(COUNTER, link_id="one")
    two = await rig.worker(COUNTER, link_id="two")
    for number in range(20):
        await one.accepted(one.send("counter", number))
    lifecycle, counter = rig.engine.lifecycle, known(rig)
    operations = [
        lifecycle.suspend(counter, "default", "x", cancel_running=True),
        lifecycle.migrate(counter, "default", "two"),
        lifecycle.kill(counter, "default"),
        lifecycle.migrate(counter, "default", "one"),
        lifecycle.resume(counter, "default"),
        lifecycle.spawn(counter, "default"),
    ]
    await asyncio.gather(*operations)
    await lifecycle.resume(counter, "default")
    done: set[int] = set()

    async def serve(sdk: Sdk) -> None:
        while True:
            work: Work = await sdk.work()
            done.add(work.value)
            work.succeed()

    serving = [asyncio.create_task(serve(sdk)) for sdk in (one, two)]
    await rig.pass_time(10, step=0.5)
    for task in serving:
        task.cancel()
    assert done == set(range(20))
    instance = rig.instance("counter")
    assert instance is not None
    assert instance.barred is None
    assert instance.delivering == 0
    assert await rig.engine.store.count_messages("default", MessageState.PENDING) == 0
