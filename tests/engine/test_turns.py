"""Whose turn it is on a link without free credit, and what instances are seen to wait for."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from amx.v1 import agent_pb2, common_pb2, engine_pb2, link_pb2, message_pb2
from amx_server.runtime.scheduling.waits import WaitReason
from tests.engine.link_driver import Rig, Sdk, Work, agent, message, value_memory

CONCURRENT = agent_pb2.HandlerDefinition(name="handle", concurrent=True)


async def served(worker: Sdk, turns: int) -> list[str]:
    """Agents of the next invocations, each of which ends before the next one begins."""
    names = []
    for _ in range(turns):
        work = await worker.work()
        names.append(work.message.agent)
        work.succeed()
    return names


def waits(rig: Rig, name: str, key: str = "default") -> list[tuple[str, str]]:
    """(reason, detail) of what an instance waits for."""
    instance = rig.instance(name, key)
    assert instance is not None
    info = rig.engine.queries.describe_instance(instance)
    return [(engine_pb2.WaitReason.Name(wait.reason), wait.detail) for wait in info.waits]


async def test_instance_with_a_full_mailbox_gives_way_to_others_after_each_message(rig: Rig) -> None:
    worker = await rig.worker(agent("busy"), agent("other"), credit=1)
    for _ in range(50):
        worker.request("busy")
    worker.request("other")
    assert "other" in await served(worker, 3)


async def test_concurrent_handler_does_not_take_every_slot_that_frees(rig: Rig) -> None:
    worker = await rig.worker(agent("busy", CONCURRENT), agent("other"), credit=0)
    for _ in range(50):
        worker.request("busy")
    for number in range(50):
        worker.request("other", key=str(number))
    worker.grant(10)
    await rig.settle()
    first = [await worker.work() for _ in range(10)]
    assert Counter(work.message.agent for work in first) == {"busy": 5, "other": 5}


async def test_agents_of_a_link_have_equal_turns_however_many_instances_wait(rig: Rig) -> None:
    worker = await rig.worker(agent("large"), agent("small"), credit=1)
    for number in range(100):
        worker.request("large", key=str(number))
    for number in range(10):
        worker.request("small", key=str(number))
    assert (await served(worker, 20)).count("small") in (9, 10)


async def test_agents_have_turns_by_their_weights(rig: Rig) -> None:
    worker = await rig.worker(agent("heavy"), agent("light"), credit=1)
    rig.engine.namespace("default").agents["heavy"].share.weight = 3.0
    for number in range(50):
        worker.request("heavy", key=str(number))
        worker.request("light", key=str(number))
    assert (await served(worker, 40)).count("heavy") in range(29, 32)


async def test_urgent_messages_of_one_agent_go_before_others_that_came_earlier(rig: Rig) -> None:
    worker = await rig.worker(agent("batch"), agent("chat"), credit=0)
    for number in range(10):
        worker.request("batch", key=str(number), priority=common_pb2.PRIORITY_BACKGROUND)
    for number in range(3):
        worker.request("chat", key=str(number), priority=common_pb2.PRIORITY_HIGH)
    worker.grant(1)
    assert await served(worker, 5) == ["chat"] * 3 + ["batch"] * 2


async def test_background_work_has_its_part_beside_urgent_work_that_never_ends(rig: Rig) -> None:
    worker = await rig.worker(agent("batch"), agent("chat"), credit=1)
    for number in range(5):
        worker.request("batch", key=str(number), priority=common_pb2.PRIORITY_BACKGROUND)
    for number in range(100):
        worker.request("chat", key=str(number), priority=common_pb2.PRIORITY_CRITICAL)
    assert (await served(worker, 80)).count("batch") >= 4


async def test_events_and_messages_that_wait_for_credit_take_turns(rig: Rig) -> None:
    listener = agent(
        "listener", agent_pb2.HandlerDefinition(name="handle", subscriptions=[message_pb2.Subscription(pattern="t")])
    )
    worker = await rig.worker(listener, agent("echo"), credit=1)
    client = await rig.client()
    client.publish("t", 0)
    worker.delivered(await worker.next("deliver"))
    client.request("echo", key="first")
    running = await worker.work()
    for number in range(4):
        client.publish("t", number)
        client.request("echo", key=str(number))
    await rig.settle()
    order = []
    running.succeed()
    for _ in range(8):
        await worker.until(lambda: bool(worker.items["deliver"] or worker.waiting), "a turn")
        if worker.waiting:
            order.append("message")
            (await worker.work()).succeed()
        else:
            order.append("event")
            worker.delivered(worker.items["deliver"].popleft())
    assert order.count("event") == 4
    assert all(one != two for one, two in pairwise(order))


async def test_instance_whose_host_has_lost_its_credit_goes_on_at_another_one(rig: Rig) -> None:
    first = await rig.worker(agent("busy"), credit=2)
    for key in ("a", "b", "a", "b"):
        first.request("busy", key=key)
    await rig.settle()
    works = {work.address: work for work in (await first.work(), await first.work())}
    first.grant(0)
    works["busy/a"].succeed()
    second = await rig.worker(agent("busy"), credit=2)
    assert (await second.work()).address == "busy/a"
    works["busy/b"].succeed()
    assert (await second.work()).address == "busy/b"


async def test_slot_of_a_message_that_waits_to_be_sent_again_goes_to_another_instance(rig: Rig) -> None:
    worker = await rig.worker(agent("echo", CONCURRENT, "alone", memories=(value_memory(),)), credit=2)
    worker.request("echo", 1, key="a", handler="handle")
    beside = await worker.work()
    for value, key in ((2, "a"), (3, "a"), (4, "b")):
        worker.request("echo", value, key=key, handler="alone")
    await rig.settle()  # the memory of both is there
    assert (await worker.work()).value == 2
    beside.fail("MEMORY_NOT_HELD", memory_dropped=True)
    assert (await worker.work()).value == 4


async def test_instance_gives_way_to_one_that_is_at_work_on_the_link_and_goes_on_at_another(rig: Rig) -> None:
    definition = agent("echo", CONCURRENT, "alone")
    first = await rig.worker(definition, credit=2)
    first.request("echo", 1, key="bound", handler="handle")
    await first.work()  # its exclusive message can run here only
    for value, key in ((2, "free"), (3, "free"), (4, "bound")):
        first.request("echo", value, key=key, handler="alone")
    work = await first.work()
    second = await rig.worker(definition, credit=2)
    await rig.settle()
    assert (work.value, first.waiting, second.waiting) == (2, 0, 0)
    work.succeed()
    assert (await first.work()).value == 4
    assert (await second.work()).value == 3


async def test_instances_that_wait_are_served_by_whichever_host_has_credit_first(rig: Rig) -> None:
    full = await rig.worker(agent("echo"), credit=0)
    calls = [full.request("echo", number, key=str(number)) for number in range(4)]
    other = await rig.worker(agent("echo"), credit=2)
    await rig.settle()
    assert (full.waiting, other.waiting) == (0, 2)
    full.grant(2)
    await rig.settle()
    assert (full.waiting, other.waiting) == (2, 2)
    for sdk in (full, other):
        for _ in range(2):
            (await sdk.work()).succeed()
    for call in calls:
        await full.result(call)


async def test_instance_at_work_on_a_full_link_waits_for_that_link_and_holds_nobody_up(rig: Rig) -> None:
    """Its exclusive message cannot run elsewhere while its concurrent one runs here."""
    definition = agent("echo", CONCURRENT, "alone")
    first = await rig.worker(definition, credit=1)
    first.request("echo", 1, handler="handle")
    running = await first.work()
    second = await rig.worker(definition, credit=1)
    first.request("echo", 2, handler="alone")
    first.request("echo", 3, key="other", handler="alone")
    await rig.settle()
    assert (await second.work()).value == 3
    assert first.waiting == 0
    first.grant(2)
    assert (await first.work()).value == 2
    running.succeed()


async def test_waiting_for_a_link_is_seen_and_counted(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"), credit=1)
    worker.request("echo", key="1")
    worker.request("echo", key="2", timeout_ms=60_000)
    await rig.settle()
    await rig.pass_time(2.0)
    instance = rig.instance("echo", "2")
    assert instance is not None
    (wait,) = rig.engine.queries.describe_instance(instance).waits
    assert (wait.reason, wait.for_ms) == (engine_pb2.WAIT_REASON_LINK, 2000)
    namespace = rig.engine.namespace("default")
    assert rig.engine.waits.by_reason(namespace) == {WaitReason.LINK: 1}
    assert rig.engine.waits.counts[WaitReason.LINK] == 1
    (await worker.work()).succeed()
    (await worker.work()).succeed()
    await rig.settle()
    assert rig.engine.waits.counts[WaitReason.LINK] == 0 and waits(rig, "echo", "2") == []
    assert rig.engine.waits.seconds[WaitReason.LINK].total_seconds == pytest.approx(2.0)


async def test_message_that_is_cancelled_while_it_waits_for_a_link_leaves_no_wait(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"), credit=0)
    call = worker.request("echo")
    await rig.settle()
    worker.cancel(call)
    await worker.refusal(call)
    assert len(rig.engine.waits) == 0 and waits(rig, "echo") == []


async def caller(rig: Rig) -> tuple[Sdk, Work]:
    """A worker and a handler of its agent `cart` that is at work."""
    worker = await rig.worker(agent("cart"), agent("stock"))
    worker.request("cart", key="7", timeout_ms=60_000)
    return worker, await worker.work()


@pytest.mark.parametrize("operation", ["request", "stream"])
@pytest.mark.parametrize("fails", [False, True])
async def test_handler_that_calls_another_waits_for_its_message(rig: Rig, operation: str, fails: bool) -> None:
    worker, cart = await caller(rig)
    worker.call(operation, message("stock", key="9"), invocation_id=cart.id, timeout_ms=60_000)
    stock = await worker.work()
    await rig.pass_time(3.0)
    assert waits(rig, "cart", "7") == [("WAIT_REASON_MESSAGE", "stock/9")]
    assert rig.engine.waits.counts[WaitReason.MESSAGE] == 1
    if fails:
        stock.fail()
    else:
        stock.succeed()
    await rig.settle()
    assert waits(rig, "cart", "7") == [] and len(rig.engine.waits) == 0
    assert rig.engine.waits.seconds[WaitReason.MESSAGE].total_seconds == pytest.approx(3.0)


async def test_refused_call_of_a_handler_leaves_no_wait(rig: Rig) -> None:
    worker, cart = await caller(rig)
    call = worker.call("request", message("nobody"), invocation_id=cart.id)
    await worker.refusal(call)
    assert len(rig.engine.waits) == 0


async def test_handler_that_broadcasts_waits_until_all_have_answered(rig: Rig) -> None:
    worker, cart = await caller(rig)
    await worker.result(await _ended(worker, worker.request("stock", key="9")))
    broadcast = link_pb2.Broadcast(scope=message_pb2.BroadcastScope(agent="stock"), message=message("stock", 1))
    worker.call("broadcast", broadcast, invocation_id=cart.id, timeout_ms=60_000)
    stock = await worker.work()
    assert [reason for reason, _ in waits(rig, "cart", "7")] == ["WAIT_REASON_MESSAGE"]
    stock.succeed()
    await rig.settle()
    assert len(rig.engine.waits) == 0


async def _ended(worker: Sdk, call: int) -> int:
    (await worker.work()).succeed()
    return call


async def test_link_that_ends_leaves_no_waits_of_its_handlers(rig: Rig) -> None:
    worker, cart = await caller(rig)
    worker.call("request", message("stock", key="9"), invocation_id=cart.id)
    await worker.work()
    assert len(rig.engine.waits) == 1
    worker.disconnect()
    await rig.pass_time(60)
    assert len(rig.engine.waits) == 0


async def test_memory_that_is_read_is_waited_for(rig: Rig) -> None:
    worker = await rig.worker(agent("cart", memories=(value_memory(),)))
    worker.request("cart")
    await _ended(worker, 0)
    await rig.settle()
    assert sum(rig.engine.waits.seconds[WaitReason.MEMORY].counts) == 1
    assert rig.engine.waits.counts[WaitReason.MEMORY] == 0


async def test_another_attempt_is_waited_for_by_the_clock(rig: Rig) -> None:
    definition = agent("cart")
    definition.handlers[0].retry.max_attempts = 2
    definition.handlers[0].retry.initial_backoff_ms = 5_000
    worker = await rig.worker(definition)
    worker.send("cart")
    work = await worker.work()
    work.fail(retryable=True)
    await rig.settle()
    assert waits(rig, "cart") == [("WAIT_REASON_TIMER", "another attempt at handle")]
    await rig.pass_time(10)
    (await worker.work()).succeed()
    await rig.settle()
    assert len(rig.engine.waits) == 0
