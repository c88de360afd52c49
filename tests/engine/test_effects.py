"""What handlers do beside their result: all of it with the result in one commit, or none of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amx.v1 import agent_pb2, common_pb2, link_pb2, message_pb2
from amx_server.security.identity import Identity
from tests.engine.link_driver import (
    DURABLE,
    VOLATILE,
    Rig,
    agent,
    configured,
    event,
    map_memory,
    message,
    put,
    remembered,
    running,
    value_memory,
)


def everything(**changed: object) -> link_pb2.Effects:
    """One effect of every kind."""
    effects = link_pb2.Effects(
        memory=[put("total", 1)],
        messages=[message("other", "hello", message_id="emitted")],
        events=[event("news", "event", durability=DURABLE)],
        subscriptions=[message_pb2.Subscription(pattern="weather.*", handler="handle")],
    )
    effects.schedules.append(
        agent_pb2.ScheduleDefinition(name="tick", handler="handle", fixed_rate_ms=60_000, payload=_payload("tick"))
    )
    for name, value in changed.items():
        effects.ClearField(name)
        getattr(effects, name).append(value)
    return effects


def _payload(value: object) -> common_pb2.Payload:
    return common_pb2.Payload(data=json.dumps(value).encode())


COUNTER = agent("counter", memories=(value_memory(),))
LISTENER = agent(
    "listener",
    agent_pb2.HandlerDefinition(name="handle", subscriptions=[message_pb2.Subscription(pattern="news")]),
)


async def test_effects_of_every_kind_take_place_with_the_result(rig: Rig) -> None:
    worker = await rig.worker(COUNTER, LISTENER, agent("other"))
    call = worker.request("counter", key="k")
    work = await worker.work()
    work.succeed("done", everything())
    assert await worker.result(call) == "done"
    got = {}
    for _ in range(2):
        arrived = await worker.work()
        got[arrived.address] = arrived
        arrived.succeed()
    assert got["other/default"].value == "hello"
    assert got["other/default"].message.sender == "counter/k"
    assert got["listener/default"].value == "event"
    assert got["listener/default"].message.topic == "news"
    worker.publish("weather.rain", "wet")
    deliver = await worker.next("deliver")
    assert deliver.deliver.event.topic == "weather.rain"
    worker.delivered(deliver)
    await rig.pass_time(61)
    tick = await worker.work()
    assert (tick.address, tick.value) == ("counter/k", "tick")
    assert tick.invoke.memory_version == 1


async def test_effects_survive_a_restart_together(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        worker = await rig.worker(COUNTER, LISTENER, agent("other"))
        call = worker.request("counter", key="k")
        (await worker.work()).succeed("done", everything())
        await worker.result(call)
    async with running(store=path) as rig:
        worker = await rig.worker(COUNTER, LISTENER, agent("other"))
        await rig.settle()
        addresses = sorted([(await worker.work()).address for _ in range(2)])
        assert addresses == ["listener/default", "other/default"]
        worker.publish("weather.sun")
        await rig.settle()
        assert rig.counters.event_deliveries >= 1
        worker.request("counter", key="k")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"memory": put("unknown", 1)}, "INVALID_MEMORY_CHANGE"),
        ({"messages": message("nobody")}, "AGENT_UNKNOWN"),
        ({"messages": message("other", handler="missing")}, "HANDLER_UNKNOWN"),
        ({"messages": message("other", key="k" * 600)}, "KEY_TOO_LONG"),
        ({"events": event("not..a topic", durability=DURABLE)}, "INVALID_TOPIC"),
        ({"schedules": agent_pb2.ScheduleDefinition(name="x", handler="handle")}, "INVALID_SCHEDULE"),
        ({"schedules": agent_pb2.ScheduleDefinition(name="x", handler="no", once_after_ms=1)}, "HANDLER_UNKNOWN"),
        ({"subscriptions": message_pb2.Subscription(pattern="a.b*", handler="handle")}, "INVALID_PATTERN"),
        ({"subscriptions": message_pb2.Subscription(pattern="a", handler="no")}, "HANDLER_UNKNOWN"),
        ({"subscriptions": message_pb2.Subscription(pattern="a", filter="=", handler="handle")}, "INVALID_FILTER"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
async def test_effect_that_is_refused_refuses_all_of_them(rig: Rig, changed: dict[str, object], reason: str) -> None:
    worker = await rig.worker(COUNTER, LISTENER, agent("other"))
    call = worker.request("counter", key="k")
    (await worker.work()).succeed("done", everything(**changed))
    assert (await worker.refusal(call)).reason == reason
    await rig.pass_time(120, step=60)
    worker.publish("weather.rain")
    await rig.settle()
    assert worker.waiting == 0
    assert not worker.items["deliver"]
    assert await rig.engine.store.message("default", "emitted") is None
    worker.request("counter", key="k")
    after = await worker.work()
    assert after.invoke.memory_version == 0
    assert after.invoke.HasField("memory")  # what the handler's process remembers is wrong now


async def test_effects_of_a_failed_attempt_are_void(rig: Rig) -> None:
    worker = await rig.worker(COUNTER)
    call = worker.request("counter")
    work = await worker.work()
    item = link_pb2.LinkItem(id=work.id)
    item.complete.attempt, item.complete.epoch = 1, work.invoke.epoch
    item.complete.failure.reason = "BROKEN"
    item.complete.effects.memory.append(put("total", 1))
    worker.feed(item)
    await worker.refusal(call)
    worker.request("counter")
    assert (await worker.work()).invoke.memory_version == 0


async def test_emitted_message_that_is_volatile_is_sent_after_the_commit(rig: Rig) -> None:
    worker = await rig.worker(COUNTER, agent("other"))
    worker.request("counter")
    effects = link_pb2.Effects(memory=[put("total", 1)], messages=[message("other", 1, durability=VOLATILE)])
    (await worker.work()).succeed(effects=effects)
    assert worker.waiting == 0
    assert (await worker.work()).value == 1


async def test_emitted_messages_arrive_in_the_order_they_were_made(rig: Rig) -> None:
    worker = await rig.worker(COUNTER, agent("other"))
    worker.request("counter")
    emitted = [message("other", n, durability=DURABLE if n % 2 else VOLATILE) for n in range(6)]
    (await worker.work()).succeed(effects=link_pb2.Effects(messages=emitted))
    for number in range(6):
        work = await worker.work()
        assert work.value == number
        work.succeed()


async def test_emitted_message_with_an_id_that_exists_is_one_message(rig: Rig) -> None:
    worker = await rig.worker(COUNTER, agent("other"))
    for _ in range(2):
        worker.request("counter")
        (await worker.work()).succeed(effects=link_pb2.Effects(messages=[message("other", message_id="same")]))
    await rig.settle()
    assert worker.waiting == 1
    assert rig.counters.duplicates == 1


async def test_effects_need_the_permissions_of_the_link(rig: Rig) -> None:
    limited = Identity("limited", "default", (), {"agents:register", "messages:send"})
    sdk = rig.sdk(identity=limited)
    await sdk.connect(COUNTER)
    call = sdk.request("counter")
    (await sdk.work()).succeed(effects=link_pb2.Effects(events=[event("news")]))
    failure = await sdk.refusal(call)
    assert failure.reason == "PERMISSION_DENIED"
    assert failure.metadata["permission"] == "events:publish"


# --- memory ----------------------------------------------------------------------------------------------------------


async def test_memory_image_is_sent_only_to_a_link_that_does_not_hold_it(rig: Rig) -> None:
    worker = await rig.worker(COUNTER)
    worker.request("counter")
    first = await worker.work()
    assert first.invoke.HasField("memory")
    assert first.invoke.memory_version == 0
    first.succeed(effects=link_pb2.Effects(memory=[put("total", 1)]))
    worker.request("counter")
    second = await worker.work()
    assert not second.invoke.HasField("memory")
    assert second.invoke.memory_version == 1
    second.succeed()
    worker.request("counter")
    assert (await worker.work()).invoke.memory_version == 1


async def test_memory_that_the_link_dropped_is_sent_again(rig: Rig) -> None:
    worker = await rig.worker(COUNTER)
    worker.request("counter")
    (await worker.work()).succeed(effects=link_pb2.Effects(memory=[put("total", 7)]))
    call = worker.request("counter")
    (await worker.work()).fail("MEMORY_NOT_HELD", memory_dropped=True)
    work = await worker.work()
    assert remembered(work.invoke) == 7
    assert work.invoke.attempt == 1  # nothing was tried yet
    work.succeed("fine")
    assert await worker.result(call) == "fine"
    worker.request("counter")
    failing = await worker.work()
    failing.fail("BROKEN", memory_dropped=True)
    worker.request("counter")
    assert remembered((await worker.work()).invoke) == 7


async def test_memory_that_the_link_never_holds_does_not_go_round_for_ever(rig: Rig) -> None:
    worker = await rig.worker(COUNTER)
    call = worker.request("counter")
    for _ in range(rig.engine.config.delivery.redelivery_attempts + 1):
        (await worker.work()).fail("MEMORY_NOT_HELD", memory_dropped=True)
    assert (await worker.refusal(call)).reason == "MEMORY_NOT_HELD"


async def test_memory_survives_hibernation_if_persistent_and_only_then(rig: Rig) -> None:
    definition = agent(
        "counter",
        memories=(value_memory("kept"), value_memory("lost", persistent=False)),
        idle_timeout_ms=10_000,
    )
    worker = await rig.worker(definition)
    worker.request("counter")
    work = await worker.work()
    work.succeed(effects=link_pb2.Effects(memory=[put("kept", 1), put("lost", 2)]))
    await rig.pass_time(5)
    assert rig.instance("counter") is not None
    await rig.pass_time(6)
    assert rig.instance("counter") is None
    assert list((await worker.next("deactivate")).deactivate.epochs) == [work.invoke.epoch]
    worker.request("counter")
    again = await worker.work()
    assert again.invoke.epoch > work.invoke.epoch
    assert remembered(again.invoke, "kept") == 1
    assert remembered(again.invoke, "lost") is None
    assert (rig.counters.hibernations, rig.counters.wakes) == (1, 1)


async def test_instance_that_works_or_waits_does_not_hibernate(rig: Rig) -> None:
    worker = await rig.worker(agent("counter", idle_timeout_ms=1000))
    worker.request("counter", timeout_ms=600_000)
    work = await worker.work()
    await rig.pass_time(100, step=10)
    assert rig.instance("counter") is not None
    work.succeed()
    await rig.pass_time(2)
    assert rig.instance("counter") is None


async def test_memory_forgets_entries_by_time_to_live_and_by_least_use(rig: Rig) -> None:
    definition = agent(
        "cache", memories=(map_memory("recent", max_entries=2), map_memory("short", ttl_ms=5000)), idle_timeout_ms=1
    )
    worker = await rig.worker(definition)
    worker.request("cache")
    changes = [put("recent", n, id=f'"{n}"') for n in range(3)] + [put("short", 1, id='"a"')]
    (await worker.work()).succeed(effects=link_pb2.Effects(memory=changes))
    await rig.pass_time(3)
    worker.request("cache")
    work = await worker.work()
    assert [entry.id for entry in work.invoke.memory.memories[0].entries] == ['"1"', '"2"']
    assert work.invoke.memory.memories[1].entries[0].expires_in_ms == 2000
    work.succeed()
    await rig.pass_time(3)
    worker.request("cache")
    assert [memory.name for memory in (await worker.work()).invoke.memory.memories] == ["recent"]


# --- emitted messages that name no agent -----------------------------------------------------------------------------

ROUTER = agent("router", "route", kind=agent_pb2.AGENT_KIND_ROUTER)


async def test_emitted_message_without_an_agent_is_stored_with_the_commit_of_its_sender(tmp_path: Path) -> None:
    async with running(store=str(tmp_path / "amx.db")) as rig:
        worker = await rig.worker(COUNTER, ROUTER, agent("other"))
        call = worker.request("counter", key="k")
        effects = link_pb2.Effects(memory=[put("total", 1)], messages=[message("", "hello", message_id="emitted")])
        (await worker.work()).succeed("done", effects)
        question = await worker.work()
        assert question.message.agent == "router"
        await rig.settle()
        assert call not in worker.replies  # nothing has happened before the routers have chosen
        question.succeed({"agent": "other", "key": "o"})
        assert await worker.result(call) == "done"
    async with running(store=str(tmp_path / "amx.db")) as rig:  # the message never ran
        worker = await rig.worker(COUNTER, ROUTER, agent("other"))
        arrived = await worker.work()
        assert (arrived.address, arrived.value, arrived.message.sender) == ("other/o", "hello", "counter/k")
        arrived.succeed()


async def test_emitted_message_that_no_router_knows_fails_the_attempt_and_undoes_the_rest(rig: Rig) -> None:
    worker = await rig.worker(COUNTER, ROUTER)
    effects = link_pb2.Effects(memory=[put("total", 1)], messages=[message("", "a"), message("", "b")])
    call = worker.request("counter", key="k")
    (await worker.work()).succeed("done", effects)
    for _ in range(2):
        (await worker.work()).succeed(None)
    assert (await worker.refusal(call)).reason == "NO_ROUTE"
    call = worker.request("counter", key="k")
    work = await worker.work()
    assert remembered(work.invoke) is None
    assert work.invoke.memory_version == 0
    work.succeed("again")
    assert await worker.result(call) == "again"


async def test_emitted_message_without_an_agent_waits_for_no_router_where_none_is(rig: Rig) -> None:
    worker = await rig.worker(COUNTER)
    call = worker.request("counter", key="k")
    (await worker.work()).succeed("done", link_pb2.Effects(messages=[message("", "a")]))
    assert (await worker.refusal(call)).reason == "NO_ROUTE"


async def test_sender_of_a_message_without_an_agent_may_lose_its_link_while_it_is_routed() -> None:
    async with running(configured(links={"resume_window": 1})) as rig:
        routing = await rig.worker(ROUTER, agent("other"))
        worker = await rig.worker(COUNTER)
        client = await rig.client()
        call = client.request("counter", key="k")
        (await worker.work()).succeed("done", link_pb2.Effects(memory=[put("total", 1)], messages=[message("", "a")]))
        question = await routing.work()
        worker.disconnect()
        await rig.pass_time(2)
        question.succeed("other")
        assert await client.result(call) == "done"
        (await routing.work()).succeed()


async def test_event_handler_emits_a_message_without_an_agent(rig: Rig) -> None:
    worker = await rig.worker(LISTENER, ROUTER, agent("other"))
    worker.publish("news", 1)
    deliver = await worker.next("deliver")
    worker.delivered(deliver, link_pb2.DeliveredTarget(effects=link_pb2.Effects(messages=[message("", "a")])))
    (await worker.work()).succeed("other")
    arrived = await worker.work()
    assert (arrived.address, arrived.message.durability) == ("other/default", DURABLE)
    arrived.succeed()
    await rig.settle()
    instance = rig.instance("listener")
    assert instance is not None and not instance.busy
