"""Publishing and subscribing: patterns, filters, one item for many instances, order, back pressure, durability."""

from __future__ import annotations

from pathlib import Path

import pytest

from amx.v1 import agent_pb2, common_pb2, link_pb2, message_pb2
from amx_server.security.identity import Identity
from tests.engine.link_driver import (
    DURABLE,
    Rig,
    Sdk,
    agent,
    configured,
    content,
    entry_of,
    failure,
    put,
    remembered,
    running,
    value_memory,
)


def subscriber(
    name: str, *patterns: str, filter: str = "", memories: tuple[agent_pb2.MemoryDefinition, ...] = (), **fields: object
) -> agent_pb2.AgentDefinition:
    """An agent whose handler is subscribed by its definition."""
    handler = agent_pb2.HandlerDefinition(name="on_event", **fields)  # type: ignore[arg-type]
    for pattern in patterns:
        handler.subscriptions.append(message_pb2.Subscription(pattern=pattern, filter=filter))
    return agent(name, handler, memories=memories)


async def subscribe(sdk: Sdk, agent: str, key: str, *patterns: str, handler: str = "on_event") -> None:
    """Lets an instance subscribe by an effect."""
    call = sdk.request(agent, key=key)
    effects = link_pb2.Effects()
    for pattern in patterns:
        effects.subscriptions.append(message_pb2.Subscription(pattern=pattern, handler=handler))
    (await sdk.work()).succeed(effects=effects)
    await sdk.result(call)


async def published(sdk: Sdk, topic: str, value: object = None, **fields: object) -> int:
    """Publishes; returns the number of subscribers."""
    reply = await sdk.reply(sdk.publish(topic, value, **fields))
    assert reply.HasField("published"), reply
    assert reply.published.event_id
    return reply.published.subscribers


# --- who gets an event -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("orders.eu.created", "orders.eu.created", True),
        ("orders.*.created", "orders.eu.created", True),
        ("orders.*", "orders.eu.created", False),
        ("orders.**", "orders.eu.created", True),
        ("orders.>", "orders.eu.created", True),
        ("**.created", "orders.eu.created", True),
        ("*", "orders", True),
        ("**", "a.b.c", True),
        ("orders", "order", False),
    ],
)
async def test_event_reaches_the_subscribers_whose_pattern_matches(
    rig: Rig, pattern: str, topic: str, matches: bool
) -> None:
    worker = await rig.worker(subscriber("listener", pattern))
    assert await published(worker, topic, 1) == matches
    await rig.settle()
    assert len(worker.items["deliver"]) == matches


async def test_event_is_filtered_by_its_attributes(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener", "alerts", filter="severity in (high, critical), region != eu"))
    assert await published(worker, "alerts", attributes={"severity": "high", "region": "us"}) == 1
    assert await published(worker, "alerts", attributes={"severity": "high", "region": "eu"}) == 0
    assert await published(worker, "alerts", attributes={"severity": "low"}) == 0


async def test_event_goes_to_the_instance_that_its_key_names(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener", "t"))
    await published(worker, "t", key="k")
    await worker.next("deliver")
    assert rig.instance("listener", "k") is not None
    await published(worker, "t")
    await worker.next("deliver")
    assert rig.instance("listener", "default") is not None


async def test_event_for_many_instances_on_one_link_is_one_item(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener"))
    for key in range(5):
        await subscribe(worker, "listener", str(key), "t.*")
    assert await published(worker, "t.x", {"n": 1}) == 5
    (item,) = [await worker.next("deliver")]
    assert item.deliver.agent == "listener"
    assert item.deliver.handler == "on_event"
    assert content(item.deliver.event.payload) == {"n": 1}
    epochs = list(item.deliver.epochs)
    assert len(set(epochs)) == 5
    worker.delivered(item)
    await rig.settle()
    assert not worker.items["deliver"]
    assert rig.counters.event_deliveries == 5
    assert rig.counters.events_published == 1


async def test_event_reaches_a_handler_once_however_many_of_its_patterns_match(rig: Rig) -> None:
    worker = await rig.worker(subscriber("declared", "t.*", "t.x", "**"), subscriber("dynamic"))
    await subscribe(worker, "dynamic", "k", "t.*", "**", "t.x")
    assert await published(worker, "t.x") == 2
    await rig.settle()
    epochs = [epoch for item in worker.items["deliver"] for epoch in item.deliver.epochs]
    assert len(epochs) == len(set(epochs)) == 2
    for item in worker.items["deliver"]:
        worker.delivered(item)
    assert await published(worker, "t.x", durability=DURABLE) == 2
    await rig.settle()
    assert worker.waiting == 2


async def test_event_without_subscribers_is_published_to_nobody(rig: Rig) -> None:
    client = await rig.client()
    assert await published(client, "nobody.listens") == 0
    assert (await client.refusal(client.publish("bad..topic"))).reason == "INVALID_TOPIC"
    assert (await client.refusal(client.publish("no.wildcards.*"))).reason == "INVALID_TOPIC"


async def test_event_is_not_kept_for_agents_that_nobody_hosts(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener", "t"))
    client = await rig.client()
    assert await published(client, "t") == 1
    worker.drain()
    worker.feed(link_pb2.LinkItem(drained=link_pb2.Drained()))
    await worker.ended()
    assert await published(client, "t") == 0
    assert rig.engine.dispatcher.queued == 0


async def test_event_goes_only_to_handlers_whose_permissions_the_publisher_holds(rig: Rig) -> None:
    worker = await rig.worker(subscriber("guarded", "t", permissions=["vault:open"]), subscriber("public", "t"))
    without = Identity("someone", "default", (), {"events:publish"})
    with_it = Identity("chief", "default", (), {"events:publish", "vault:open"})
    for identity, expected in ((without, 1), (with_it, 2)):
        client = await rig.client(identity)
        assert await published(client, "t") == expected
        assert await published(client, "t", durability=DURABLE) == expected
    assert worker.link_id


async def test_subscription_given_up_gets_nothing_more_even_after_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        worker = await rig.worker(subscriber("listener"))
        await subscribe(worker, "listener", "k", "a", "b")
        worker.request("listener", key="k")
        (await worker.work()).succeed(effects=link_pb2.Effects(cancelled_subscriptions=["a"]))
        await rig.settle()
        assert await published(worker, "a") == 0
        assert await published(worker, "b") == 1
    async with running(store=path) as rig:
        worker = await rig.worker(subscriber("listener"))
        assert await published(worker, "a") == 0
        assert await published(worker, "b") == 1


# --- turns and order -------------------------------------------------------------------------------------------------


async def test_event_for_an_instance_that_runs_waits_its_turn(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener", "t"))
    worker.request("listener", "message")
    work = await worker.work()
    await published(worker, "t", 1)
    await published(worker, "t", 2)
    worker.request("listener", "after")
    await rig.settle()
    assert not worker.items["deliver"]
    values = []
    for _ in range(3):
        work.succeed()
        work = await worker.work()
        values.append(work.value)
    assert values == [1, 2, "after"]
    assert work.message.topic == ""


async def test_message_waits_until_deliveries_have_ended(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener", "t"))
    await published(worker, "t", 1)
    item = await worker.next("deliver")
    worker.request("listener", "after")
    await rig.settle()
    assert worker.waiting == 0
    worker.delivered(item)
    assert (await worker.work()).value == "after"


async def test_deliveries_are_pipelined_and_keep_their_order(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener", "t"))
    for number in range(5):
        await published(worker, "t", number)
    items = [await worker.next("deliver") for _ in range(5)]
    assert [content(item.deliver.event.payload) for item in items] == [0, 1, 2, 3, 4]
    assert len({tuple(item.deliver.epochs) for item in items}) == 1


async def test_deliveries_count_against_credit_and_wait_without_it(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener", "t"), agent("echo"), credit=2)
    client = await rig.client()
    calls = [client.publish("t", number) for number in range(4)]
    await rig.settle()
    assert len(worker.items["deliver"]) == 2
    assert sum(call in client.replies for call in calls) == 2  # the others know that they must wait
    values = []
    for _ in calls:
        item = await worker.next("deliver")
        values.append(content(item.deliver.event.payload))
        worker.delivered(item)
    assert values == [0, 1, 2, 3]
    for call in calls:
        assert (await client.reply(call)).published.subscribers == 1


async def test_deliveries_that_wait_for_credit_go_on_when_a_message_ends(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener", "t"), agent("echo"), credit=1)
    client = await rig.client()
    await published(client, "t", 0)  # from now on the listener has its place on the link
    worker.delivered(await worker.next("deliver"))
    client.request("echo")
    work = await worker.work()
    call = client.publish("t", 1)
    await rig.settle()
    assert call not in client.replies
    work.succeed()
    worker.delivered(await worker.next("deliver"))
    assert (await client.reply(call)).published.subscribers == 1


async def test_deliveries_that_wait_at_a_draining_link_go_to_another(rig: Rig) -> None:
    leaving = await rig.worker(subscriber("listener", "t"), credit=1)
    client = await rig.client()
    await published(client, "t", 1)
    first = await leaving.next("deliver")
    call = client.publish("t", 2)
    await rig.settle()
    staying = await rig.worker(subscriber("listener", "t"))
    leaving.drain()
    assert (await client.reply(call)).HasField("published")
    leaving.delivered(first)
    assert (await staying.work()).value == 2


async def test_publisher_is_told_when_too_many_events_wait() -> None:
    async with running(configured(limits={"max_pending_events": 3})) as rig:
        worker = await rig.worker(subscriber("listener", "t"), credit=0)
        client = await rig.client()
        worker.grant(1)
        for number in range(4):
            client.publish("t", number)
        failure = await client.refusal(client.publish("t", "too much"))
        assert failure.reason == "SUBSCRIBERS_BUSY"
        assert failure.retryable


# --- what deliveries do ----------------------------------------------------------------------------------------------


async def test_delivery_effects_and_failures_are_per_target(rig: Rig) -> None:
    definition = subscriber("listener", memories=(value_memory(),))
    worker = await rig.worker(definition)
    for key in "abc":
        await subscribe(worker, "listener", key, "t")
    await published(worker, "t")
    item = await worker.next("deliver")
    effects = link_pb2.Effects(memory=[put("total", 1)])
    worker.delivered(
        item,
        link_pb2.DeliveredTarget(index=0, effects=effects),
        link_pb2.DeliveredTarget(index=0, effects=link_pb2.Effects(memory=[put("total", 666)])),  # a second time
        link_pb2.DeliveredTarget(index=1, failure=failure(), memory_dropped=True),
        link_pb2.DeliveredTarget(index=9, failure=failure()),  # there is no such target
    )
    await rig.settle()
    assert [memory_of(rig, key) for key in "abc"] == [1, None, None]
    stats = rig.engine.namespace("default").agents["listener"].handlers["on_event"].stats
    assert (stats.failed, stats.processed) == (1, 6)  # the three subscribing requests count, too
    worker.request("listener", key="a")
    work = await worker.work()
    assert work.invoke.memory_version == 1
    assert not work.invoke.HasField("memory")
    worker.request("listener", key="b")
    assert (await worker.work()).invoke.HasField("memory")


def memory_of(rig: Rig, key: str) -> object:
    instance = rig.instance("listener", key)
    assert instance is not None
    assert instance.memory is not None
    entry = instance.memory.get("total", "", rig.clock.now_ms())
    return None if entry is None else int(entry.value)


async def test_delivery_brings_the_memory_of_its_targets_first(rig: Rig) -> None:
    definition = subscriber("listener", memories=(value_memory(),))
    definition.idle_timeout_ms = 1000
    worker = await rig.worker(definition)
    await subscribe(worker, "listener", "k", "t")
    worker.request("listener", key="k")
    (await worker.work()).succeed(effects=link_pb2.Effects(memory=[put("total", 5)]))
    await rig.pass_time(2)
    assert rig.instance("listener", "k") is None
    await published(worker, "t", "wakes it")
    woken = await worker.work()  # the first one wakes the instance and takes the way of a message
    assert remembered(woken.invoke) == 5
    woken.succeed()
    await rig.settle()
    await published(worker, "t", "finds it awake")
    item = await worker.next("deliver")
    assert list(item.deliver.epochs) == [woken.invoke.epoch]
    worker.delivered(item, link_pb2.DeliveredTarget(index=0, memory_dropped=True))
    await published(worker, "t", "needs the memory again")
    activate = (await worker.next("activate")).activate
    assert activate.epoch == woken.invoke.epoch
    assert entry_of(activate.memory, "total") == 5


async def test_delivery_changes_are_stored_before_the_next_message_sees_them(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener", "t", memories=(value_memory(),)))
    worker.request("listener")
    (await worker.work()).succeed()
    await rig.settle()
    await published(worker, "t")
    item = await worker.next("deliver")
    worker.request("listener")
    worker.delivered(item, link_pb2.DeliveredTarget(index=0, effects=link_pb2.Effects(memory=[put("total", 3)])))
    await worker.work()
    rows = await rig.engine.store.memory("default", "listener", "default")
    assert [row.value for row in rows] == [b"3"]


async def test_delivery_that_is_answered_twice_counts_once(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener", "t"))
    await published(worker, "t")
    item = await worker.next("deliver")
    worker.delivered(item)
    worker.delivered(item)
    assert rig.counters.dropped_completions == 1
    worker.request("listener")
    await worker.work()


async def test_delivery_on_a_lost_link_frees_its_instances(rig: Rig) -> None:
    lost = await rig.worker(subscriber("listener", "t"))
    client = await rig.client()
    await published(client, "t")
    await lost.next("deliver")
    lost.disconnect()
    await rig.pass_time(11)
    other = await rig.worker(subscriber("listener", "t"))
    client.request("listener", "goes on")
    assert (await other.work()).value == "goes on"


# --- durable events --------------------------------------------------------------------------------------------------


async def test_durable_event_is_stored_for_each_subscriber_and_survives_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        worker = await rig.worker(subscriber("listener", "t"), subscriber("other", "t"), credit=0)
        client = await rig.client()
        assert await published(client, "t", "kept", durability=DURABLE, event_id="e") == 2
        assert worker.waiting == 0
    async with running(store=path) as rig:
        worker = await rig.worker(subscriber("listener", "t"), subscriber("other", "t"))
        works = [await worker.work(), await worker.work()]
        assert {work.message.agent for work in works} == {"listener", "other"}
        assert {work.value for work in works} == {"kept"}
        assert {work.message.topic for work in works} == {"t"}


async def test_durable_event_published_twice_is_delivered_once(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener", "t"))
    for _ in range(2):
        await published(worker, "t", durability=DURABLE, event_id="e")
    await rig.settle()
    assert worker.waiting == 1


async def test_durable_event_is_retried_like_a_message(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener", "t"))
    await published(worker, "t", durability=DURABLE)
    (await worker.work()).fail("FLAKY", retryable=True)
    await rig.pass_time(1)
    assert (await worker.work()).invoke.attempt == 2


# --- clients that subscribe ------------------------------------------------------------------------------------------


async def test_client_gets_events_from_its_subscription_until_it_cancels(rig: Rig) -> None:
    client, publisher = await rig.client(), await rig.client()
    call = client.subscribe("news.*", "lang = en")
    subscribed = await client.next("reply")
    assert subscribed.reply.subscribed.subscription_id == call
    assert await published(publisher, "news.today", "hello", attributes={"lang": "en"}) == 1
    assert await published(publisher, "news.today", "hallo", attributes={"lang": "de"}) == 0
    item = await client.next("event")
    assert item.id == call
    assert content(item.event.payload) == "hello"
    assert item.event.publisher == "anonymous"
    client.cancel(call)
    assert (await client.refusal(call)).reason == "CANCELLED"
    assert await published(publisher, "news.today", attributes={"lang": "en"}) == 0


async def test_client_with_a_malformed_subscription_is_refused(rig: Rig) -> None:
    client = await rig.client()
    assert (await client.refusal(client.subscribe("a.b*"))).reason == "INVALID_PATTERN"
    assert (await client.refusal(client.subscribe("a", "= nonsense ="))).reason == "INVALID_FILTER"


async def test_client_that_leaves_is_no_longer_subscribed(rig: Rig) -> None:
    client, publisher = await rig.client(), await rig.client()
    client.subscribe("t")
    assert await published(publisher, "t") == 1
    client.disconnect()
    await rig.pass_time(11)
    assert await published(publisher, "t") == 0


async def test_client_that_reads_too_slowly_loses_its_subscription_and_learns_it() -> None:
    async with running(configured(links={"max_unacked_bytes": 1 << 20})) as rig:
        slow, quick = await rig.client(), await rig.client()
        call = slow.subscribe("t")
        other = quick.subscribe("t")
        await rig.settle()
        for _ in range(40):
            quick.publish("t", "x" * 50_000)
            await rig.settle()
            quick.feed(link_pb2.LinkItem(pong=link_pb2.Pong()))  # acknowledges; the slow one never does
        assert (await slow.refusal(call)).reason == "SUBSCRIBER_TOO_SLOW"
        assert other not in quick.replies
        assert len(quick.items["event"]) == 40


async def test_durable_event_reaches_clients_too(rig: Rig) -> None:
    client = await rig.client()
    client.subscribe("t")
    assert await published(client, "t", 1, durability=DURABLE) == 1
    assert content((await client.next("event")).event.payload) == 1


async def test_event_priority_is_kept_in_the_mailbox(rig: Rig) -> None:
    worker = await rig.worker(subscriber("listener", "t"))
    worker.request("listener")
    work = await worker.work()
    worker.request("listener", "normal")
    await published(worker, "t", "critical", priority=common_pb2.PRIORITY_CRITICAL)
    work.succeed()
    assert (await worker.work()).value == "critical"
