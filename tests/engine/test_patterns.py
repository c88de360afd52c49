"""Broadcasts, message routers and performance monitors."""

from __future__ import annotations

from typing import Any

import pytest

from amx.v1 import agent_pb2, link_pb2, message_pb2
from tests.engine.link_driver import DURABLE, VOLATILE, Rig, Sdk, Work, agent, configured, content, message, running

ROUTER, MONITOR = agent_pb2.AGENT_KIND_ROUTER, agent_pb2.AGENT_KIND_MONITOR


def broadcast(value: object = None, **scope: Any) -> link_pb2.Broadcast:
    return link_pb2.Broadcast(scope=message_pb2.BroadcastScope(**scope), message=message("", value))


def router(name: str, order: int = 0) -> agent_pb2.AgentDefinition:
    return agent(name, "route", kind=ROUTER, order=order)


# --- broadcasts ------------------------------------------------------------------------------------------------------


async def wake(sdk: Sdk, *addresses: str) -> None:
    for address in addresses:
        name, _, key = address.partition("/")
        call = sdk.request(name, key=key)
        (await sdk.work()).succeed()
        await sdk.result(call)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"all": True}, {"gold/a", "gold/b", "silver/default", "plain/default"}),
        ({"agent": "gold"}, {"gold/a", "gold/b"}),
        ({"agent": "plain"}, {"plain/default"}),
        ({"group": "metal"}, {"gold/a", "gold/b", "silver/default"}),
        ({"group": "empty"}, set()),
        ({"labels": "tier = 1"}, {"gold/a", "gold/b"}),
        ({"labels": "tier in (1, 2), shiny != no"}, {"gold/a", "gold/b", "silver/default"}),
    ],
    ids=str,
)
async def test_broadcast_reaches_every_instance_in_its_scope(
    rig: Rig, scope: dict[str, Any], expected: set[str]
) -> None:
    worker = await rig.worker(
        agent("gold", groups=("metal",), labels={"tier": "1"}),
        agent("silver", groups=("metal", "cheap"), labels={"tier": "2"}),
        agent("plain"),
    )
    await rig.worker(router("router"), agent("monitor", kind=MONITOR))
    await wake(worker, "gold/a", "gold/b")
    client = await rig.client()
    call = client.call("broadcast", broadcast(1, **scope))
    await rig.settle()
    works = [Work(worker, item.id, item.invoke) for item in worker.items["invoke"]]
    assert {work.address for work in works} == expected
    for work in works:
        work.succeed(work.address)
    result = (await client.reply(call)).broadcast
    assert (result.succeeded, result.failed) == (len(expected), 0)
    assert {content(recipient.result) for recipient in result.recipients} == expected
    assert result.message_id


async def test_broadcast_reports_each_recipient_by_itself(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"), agent("gone"))
    await wake(worker, "echo/good", "echo/bad", "echo/slow")
    client = await rig.client()
    call = client.call("broadcast", broadcast(agent="echo"), timeout_ms=1000)
    for _ in range(3):
        work = await worker.work()
        if work.message.key == "good":
            work.succeed("yes")
        elif work.message.key == "bad":
            work.fail("BROKEN")
    await rig.pass_time(1.5)
    result = (await client.reply(call)).broadcast
    outcomes = {
        one.instance.key: one.failure.reason if one.HasField("failure") else content(one.result)
        for one in result.recipients
    }
    assert outcomes == {"good": "yes", "bad": "BROKEN", "slow": "DEADLINE_EXCEEDED"}
    assert (result.succeeded, result.failed) == (1, 2)


async def test_broadcast_reaches_instances_that_sleep(rig: Rig) -> None:
    worker = await rig.worker(agent("echo", idle_timeout_ms=1000))
    await wake(worker, "echo/a", "echo/b")
    await rig.pass_time(2)
    assert rig.instance("echo", "a") is None
    worker.call("broadcast", broadcast(agent="echo"))
    await rig.settle()
    assert worker.waiting == 2


async def test_broadcast_with_a_malformed_scope_is_refused(rig: Rig) -> None:
    client = await rig.client()
    assert (await client.refusal(client.call("broadcast", broadcast(agent="nobody")))).reason == "AGENT_UNKNOWN"
    assert (await client.refusal(client.call("broadcast", link_pb2.Broadcast()))).reason == "INVALID_SCOPE"
    assert await client.refusal(client.call("broadcast", broadcast(labels="= =")))


# --- routers ---------------------------------------------------------------------------------------------------------


async def test_router_chooses_the_agent_of_a_message_that_names_none(rig: Rig) -> None:
    worker = await rig.worker(router("router"), agent("sales"))
    client = await rig.client()
    call = client.request("", {"text": "buy"}, type="inquiry", source="app", headers={"h": "v"})
    question = await worker.work()
    assert question.message.handler == "route"
    asked = question.value
    assert (asked["type"], asked["source"], asked["priority"]) == ("inquiry", "app", "NORMAL")
    assert asked["content"] == {"text": "buy"}
    assert asked["headers"] == {"h": "v"}
    question.succeed({"agent": "sales", "key": "k"})
    work = await worker.work()
    assert work.address == "sales/k"
    assert work.value == {"text": "buy"}
    assert work.message.sender == "anonymous"
    work.succeed("sold")
    assert await client.result(call) == "sold"


async def test_router_that_answers_null_passes_the_message_to_the_next(rig: Rig) -> None:
    worker = await rig.worker(router("second", 1), router("first", 2), agent("sales"))
    call = worker.request("", 1)
    question = await worker.work()
    assert question.message.agent == "first"
    question.succeed(None)
    question = await worker.work()
    assert question.message.agent == "second"
    question.succeed("sales")  # a name alone will do
    (await worker.work()).succeed("sold")
    assert await worker.result(call) == "sold"


async def test_message_that_no_router_knows_fails_with_no_route(rig: Rig) -> None:
    worker = await rig.worker(agent("sales"))
    assert (await worker.refusal(worker.request("", 1))).reason == "NO_ROUTE"
    await rig.worker(agent("other"))
    routing = await rig.worker(router("router"))
    call = worker.request("", 1)
    (await routing.work()).succeed(None)
    assert (await worker.refusal(call)).reason == "NO_ROUTE"


@pytest.mark.parametrize("answer", [17, {}, {"agent": ""}, {"key": "k"}, []])
async def test_router_that_answers_nonsense_fails_the_message(rig: Rig, answer: object) -> None:
    worker = await rig.worker(router("router"))
    call = worker.request("", 1)
    (await worker.work()).succeed(answer)
    assert (await worker.refusal(call)).reason == "NO_ROUTE"


async def test_router_that_fails_or_names_nobody_fails_the_message(rig: Rig) -> None:
    worker = await rig.worker(router("router"))
    call = worker.request("", 1)
    (await worker.work()).fail("BROKEN")
    assert (await worker.refusal(call)).reason == "BROKEN"
    call = worker.request("", 1)
    (await worker.work()).succeed({"agent": "nobody"})
    assert (await worker.refusal(call)).reason == "AGENT_UNKNOWN"


async def test_routed_send_is_acknowledged_when_it_is_stored(rig: Rig) -> None:
    worker = await rig.worker(router("router"), agent("sales"))
    call = worker.send("", 1, message_id="m")
    (await worker.work()).succeed("sales")
    assert (await worker.accepted(call)).message_id == "m"
    assert (await worker.work()).message.durability == DURABLE


async def test_routed_request_can_be_cancelled_and_routed_streams_flow() -> None:
    async with running(configured(limits={"stream_window": 1})) as rig:
        worker = await rig.worker(router("router"), agent("sales"))
        call = worker.request("", 1)
        (await worker.work()).succeed("sales")
        work = await worker.work()
        worker.cancel(call)
        assert (await worker.refusal(call)).reason == "CANCELLED"
        assert (await worker.next("cancel")).id == work.id
        work.fail("CANCELLED", code=1)
        stream = worker.stream("", 1)
        (await worker.work()).succeed("sales")
        work = await worker.work()
        for number in range(3):
            work.chunk(number)
            worker.grant_chunks(stream, 1)
            await worker.next("credit")
        work.succeed("end")
        assert await worker.result(stream) == "end"
        assert worker.chunks[stream] == [0, 1, 2]


async def test_request_cancelled_while_it_is_routed_does_not_run(rig: Rig) -> None:
    worker = await rig.worker(router("router"), agent("sales"))
    call = worker.request("", 1)
    question = await worker.work()
    worker.cancel(call)
    assert (await worker.refusal(call)).reason == "CANCELLED"
    question.succeed("sales")
    await rig.settle()
    assert worker.waiting == 0


# --- monitors --------------------------------------------------------------------------------------------------------


async def test_monitor_is_told_of_each_processed_message(rig: Rig) -> None:
    worker = await rig.worker(agent("watcher", "on_message_processed", kind=MONITOR), agent("echo"))
    worker.request("echo", {"n": 1}, type="order", key="k")
    work = await worker.work()
    rig.clock.advance(0.25)
    work.succeed("fine")
    report = await worker.work()
    assert report.message.agent == "watcher"
    told = report.value
    assert told["agent_name"] == "echo"
    assert told["message"]["type"] == "order"
    assert told["message"]["content"] == {"n": 1}
    assert told["result"] == {"status": "success", "error_type": None, "message": None, "data": "fine"}
    assert told["duration_ms"] == pytest.approx(250)
    report.succeed()
    worker.request("echo", key="k")
    (await worker.work()).fail("BROKEN")
    report = await worker.work()
    assert report.value["result"]["status"] == "error"
    assert report.value["result"]["error_type"] == "BROKEN"
    report.succeed()
    await rig.settle()
    assert worker.waiting == 0  # nobody is told of what monitors do


async def test_monitor_is_told_the_kind_of_an_error_that_is_a_result(rig: Rig) -> None:
    worker = await rig.worker(agent("watcher", "on_message_processed", kind=MONITOR), agent("echo"))
    worker.request("echo")
    work = await worker.work()
    facts = {"error_type": "SOLD_OUT", "left": 0}
    work.answer({"status": "error", "message": "no", "metadata": facts}, "application/vnd.amx.result+json")
    report = await worker.work()
    told = {"status": "error", "error_type": "SOLD_OUT", "message": "no", "data": None, "metadata": facts}
    assert report.value["result"] == told
    report.succeed()


async def test_monitor_is_not_told_of_what_never_ran(rig: Rig) -> None:
    watcher = await rig.worker(agent("watcher", "on_message_processed", kind=MONITOR))
    await rig.worker(agent("echo"), credit=0)
    call = watcher.request("echo", timeout_ms=1000)
    await rig.pass_time(2)
    assert (await watcher.refusal(call)).reason == "DEADLINE_EXCEEDED"
    assert watcher.waiting == 0


async def test_monitor_that_cannot_keep_up_slows_nobody(rig: Rig) -> None:
    watcher = await rig.worker(agent("watcher", "on_message_processed", kind=MONITOR, mailbox_capacity=2), credit=1)
    worker = await rig.worker(agent("echo"))
    for number in range(10):
        call = worker.request("echo", number)
        (await worker.work()).succeed(number)
        assert await worker.result(call) == number
    assert rig.engine.dispatcher.monitors.dropped == 7
    assert watcher.waiting == 1


async def test_monitors_are_told_in_their_order_and_of_events_too(rig: Rig) -> None:
    handler = agent_pb2.HandlerDefinition(name="handle", subscriptions=[message_pb2.Subscription(pattern="t")])
    worker = await rig.worker(
        agent("low", kind=MONITOR, order=1), agent("high", kind=MONITOR, order=9), agent("listener", handler)
    )
    worker.publish("t", "news")
    worker.delivered(await worker.next("deliver"))
    first, second = await worker.work(), await worker.work()
    assert [first.message.agent, second.message.agent] == ["high", "low"]
    assert first.value["message"]["topic"] == "t"
    assert first.message.durability == VOLATILE
