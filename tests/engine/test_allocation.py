"""The allocation of a running engine: what its census sees, weights that run queues keep to, decisions carried out."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

import pytest

from amx.v1 import engine_pb2
from amx_server.core.errors import AmxError
from amx_server.inference.io import ConcurrencyPolicy, Operation, ProviderPolicy, WaitReason
from amx_server.runtime.scheduling.allocation import Usage
from amx_server.runtime.scheduling.allocator import MAX_DECISIONS, REPEAT_SECONDS
from amx_server.runtime.scheduling.pressure import Level, Pressure
from amx_server.runtime.scheduling.watchdog import Block
from amx_server.security.identity import Identity
from tests.engine.link_driver import Rig, Sdk, agent, configured, running
from tests.inference.io.support import Scripted

CRITICAL, HIGH, NORMAL, LOW, BACKGROUND = range(1, 6)


def usages(rig: Rig) -> dict[str, Usage]:
    return {usage.agent: usage for usage in rig.engine.allocator.snapshot.usages}


def decisions(rig: Rig, kind: str) -> list[Any]:
    """Recorded decisions of this kind, oldest first."""
    return [recorded for recorded in rig.engine.allocator.decisions if recorded.decision.kind == kind]


def pressure(rig: Rig) -> Pressure:
    return rig.engine.monitor.pressure


async def flood(sdk: Sdk, name: str, count: int, **fields: Any) -> None:
    """As many requests, each to an instance of its own."""
    for number in range(count):
        sdk.request(name, number, key=f"k{number}", timeout_ms=3_600_000, **fields)


# --- the census ------------------------------------------------------------------------------------------------------


async def test_census_sees_who_runs_who_waits_and_how_urgently(rig: Rig) -> None:
    sdk = await rig.worker(agent("Busy"), agent("Idle"), credit=3)
    await flood(sdk, "Busy", 5)
    sdk.request("Busy", key="urgent", priority=HIGH, timeout_ms=3_600_000)
    await rig.pass_time(2)
    (usage,) = rig.engine.allocator.snapshot.usages
    assert (usage.agent, usage.running, usage.ready) == ("Busy", 3, 3)
    assert usage.urgency == (0, 1, 5, 0, 0)
    assert usage.urgent_wait == pytest.approx(2.0)
    (pool,) = rig.engine.allocator.snapshot.pools
    assert (pool.agents, pool.slots, pool.in_flight, pool.ready, pool.instances) == (("Busy", "Idle"), 3, 3, 3, 6)


async def test_census_tells_how_much_of_its_slots_an_agent_used_and_how_efficiently(rig: Rig) -> None:
    sdk = await rig.worker(agent("Busy"), credit=4)
    await rig.pass_time(1)
    for key in "ab":
        sdk.request("Busy", key=key, timeout_ms=3_600_000)
    work = [await sdk.work() for _ in range(2)]
    rig.clock.advance(1.0)
    for one in work:
        one.succeed()
    await rig.pass_time(1)
    usage = usages(rig)["Busy"]
    assert usage.used == pytest.approx(2 * 1.0 / (2.0 * 4))
    assert usage.efficiency == pytest.approx(1.0)


async def test_handlers_that_take_longer_than_a_round_count_while_they_run(rig: Rig) -> None:
    sdk = await rig.worker(agent("Slow"), credit=4)
    await flood(sdk, "Slow", 3)
    await rig.pass_time(5, step=1)
    assert usages(rig)["Slow"].used == 0.75
    for _ in range(3):
        (await sdk.work()).succeed()
    await rig.pass_time(2, step=1)
    assert "Slow" not in usages(rig)


async def test_agents_of_the_same_links_are_one_pool_and_others_another(rig: Rig) -> None:
    await rig.worker(agent("A"), agent("B"), agent("C"), agent("D"), agent("E"))
    both = await rig.worker(agent("Z"))
    await rig.worker(agent("Z"))
    await flood(both, "Z", 2)
    await flood(both, "A", 1)
    await rig.pass_time(1)
    names = {pool.names: len(pool.links) for pool in rig.engine.allocator.snapshot.pools}
    assert names == {"A, B, C and 2 more": 1, "Z": 2}


async def test_census_of_many_agents_takes_many_short_steps(rig: Rig) -> None:
    await rig.worker(*(agent(f"a{number}") for number in range(1200)))
    census = rig.engine.allocator._census
    now = rig.clock.monotonic() + 100
    steps = 1
    while not census.step(now, 1.0):
        steps += 1
    assert steps >= 3
    assert not census.step(now + 0.5, 1.0)


# --- shares ----------------------------------------------------------------------------------------------------------


async def served(rig: Rig, sdk: Sdk, turns: int) -> Counter[str]:
    """Ends handlers one by one and counts whose turn it was."""
    turns_of: Counter[str] = Counter()
    for _ in range(turns):
        work = await sdk.work()
        turns_of[work.message.agent] += 1
        work.succeed()
    return turns_of


async def test_configured_weights_decide_whose_turn_it_is() -> None:
    async with running(configured(allocation={"weights": {"default/Heavy": 3.0}})) as rig:
        sdk = await rig.worker(agent("Heavy"), agent("Light"), credit=1)
        await flood(sdk, "Light", 60)
        await flood(sdk, "Heavy", 60)
        await rig.pass_time(1)
        turns = await served(rig, sdk, 41)
        assert turns["Heavy"] == pytest.approx(30, abs=1)
        response = rig.engine.scheduler.describe(rig.engine.namespace("default"))
        assert {share.agent: share.weight for share in response.shares} == {"Heavy": 3.0, "Light": 1.0}


async def test_weights_return_to_what_is_configured_when_there_is_nothing_to_do() -> None:
    async with running(configured(allocation={"policy": "priority", "weights": {"default/Echo": 2.0}})) as rig:
        sdk = await rig.worker(agent("Echo"), credit=1)
        await flood(sdk, "Echo", 2, priority=BACKGROUND)
        await rig.pass_time(1)
        share = rig.engine.namespace("default").agents["Echo"].share
        assert share.weight == pytest.approx(0.2)
        await served(rig, sdk, 2)
        await rig.pass_time(3, step=1)
        assert share.weight == 2.0


async def test_namespaces_are_weighed_against_each_other_as_configured() -> None:
    async with running(configured(allocation={"weights": {"bank": 5.0}})) as rig:
        sdk = rig.sdk(identity=Identity("b", "bank", permissions=["*"]))
        await sdk.connect(agent("Echo"), credit=1)
        await flood(sdk, "Echo", 2)
        await rig.pass_time(1)
        assert rig.engine.namespace("bank").share.weight == 5.0
        assert rig.engine.namespace("default").share.weight == 1.0


# --- decisions -------------------------------------------------------------------------------------------------------


async def test_pool_that_is_too_small_is_advised_to_grow_and_the_advice_is_not_repeated_at_once(rig: Rig) -> None:
    sdk = await rig.worker(agent("Busy"), credit=3)
    await flood(sdk, "Busy", 9)
    await rig.pass_time(5, step=1)
    (recorded,) = decisions(rig, "scale_up")
    assert not recorded.applied
    assert (recorded.decision.namespace, recorded.decision.agent, recorded.decision.amount) == ("default", "Busy", 12)
    assert recorded.decision.because.startswith("100% of 3 slots are taken, above 80%, and 6 instances wait")
    assert recorded.at_ms <= rig.clock.now_ms()
    assert rig.engine.allocator.advice == {("default", "Busy"): 12}
    await rig.pass_time(REPEAT_SECONDS, step=1)
    assert len(decisions(rig, "scale_up")) == 2


async def test_pool_whose_links_are_idle_is_advised_to_shrink(rig: Rig) -> None:
    await rig.worker(agent("Idle"), credit=10)
    await rig.worker(agent("Idle"), credit=10)
    await rig.pass_time(40, step=1)
    (recorded,) = decisions(rig, "scale_down")
    assert recorded.decision.amount == 10
    assert rig.engine.allocator.advice == {("default", "Idle"): -10}


async def test_idle_instances_move_to_a_link_that_joined_later(rig: Rig) -> None:
    first = await rig.worker(agent("Echo"), credit=10, link_id="first")
    for number in range(300):
        call = first.request("Echo", key=f"k{number}")
        (await first.work()).succeed()
        await first.result(call)
    await rig.worker(agent("Echo"), credit=10, link_id="second")
    await flood(first, "Echo", 8)
    await rig.settle()
    rig.engine.tick()
    await rig.pass_time(1)
    moved = decisions(rig, "rebalance")
    assert moved
    assert all(recorded.applied and recorded.decision.target == "second" for recorded in moved)
    placed = Counter(
        instance.link.link_id
        for instance in rig.engine.namespace("default").agents["Echo"].instances.values()
        if instance.link is not None
    )
    assert placed["second"] == sum(recorded.decision.amount for recorded in moved) > 0


async def test_adaptive_policy_goes_by_priority_while_urgent_work_waits() -> None:
    async with running(configured(allocation={"policy": "adaptive"})) as rig:
        sdk = await rig.worker(agent("Busy"), credit=1)
        await flood(sdk, "Busy", 3, priority=HIGH)
        await rig.pass_time(2, step=1)
        (recorded,) = decisions(rig, "switch_policy")
        assert recorded.applied
        assert re.match(r"urgent work waits \d+ ms for a slot, above 250 ms: priority", recorded.decision.because)
        assert (rig.engine.allocator.policy, rig.engine.allocator.mode) == ("adaptive", "priority")
        await served(rig, sdk, 3)
        await rig.pass_time(30, step=1)
        assert rig.engine.allocator.mode == "fair-share"


async def test_remembered_decisions_are_bounded(rig: Rig) -> None:
    for number in range(120):
        sdk = await rig.worker(agent(f"a{number}"), credit=1)
        await flood(sdk, f"a{number}", 2)
    await rig.pass_time(1)
    assert len(rig.engine.allocator.decisions) == MAX_DECISIONS
    assert rig.engine.allocator.counts["scale_up", False] == 120


# --- the policy ------------------------------------------------------------------------------------------------------


async def test_policy_can_be_chosen_while_the_engine_runs(rig: Rig) -> None:
    allocator = rig.engine.allocator
    assert allocator.choose("performance") == "fair-share"
    assert allocator.choose("priority-based") == "performance"
    assert allocator.policy == "priority"


async def test_policy_that_does_not_exist_is_refused_with_those_that_do(rig: Rig) -> None:
    with pytest.raises(AmxError, match="there are: fair-share, priority, performance, adaptive") as caught:
        rig.engine.allocator.choose("nepotism")
    assert caught.value.reason == "POLICY_UNKNOWN"
    assert rig.engine.allocator.policy == "fair-share"


# --- what is shown ---------------------------------------------------------------------------------------------------


async def test_overview_shows_a_namespace_its_own_alone(rig: Rig) -> None:
    bank = rig.sdk(identity=Identity("b", "bank", permissions=["*"]))
    await bank.connect(agent("Vault"), credit=1)
    await flood(bank, "Vault", 3)
    shop = await rig.worker(agent("Cart"), credit=1)
    await flood(shop, "Cart", 2)
    await rig.pass_time(1)
    seen = rig.engine.scheduler.describe(rig.engine.namespace("bank"))
    assert [(share.agent, share.running, share.ready) for share in seen.shares] == [("Vault", 1, 2)]
    assert {decision.agent for decision in seen.decisions} == {"Vault"}
    assert {wait.reason: wait.instances for wait in seen.waits} == {8: 2}
    assert (seen.policy, seen.mode) == ("fair-share", "fair-share")
    assert seen.pressure == engine_pb2.PRESSURE_LEVEL_NORMAL


async def test_overview_names_who_blocked_the_loop_to_its_own_namespace_alone(rig: Rig) -> None:
    rig.engine.watchdog.blocks.appendleft(Block(5, 0.3, "default", "Cart/c1", "add", "carts.py:7 in add"))
    (block,) = rig.engine.scheduler.describe(rig.engine.namespace("default")).blocks
    assert (block.at_ms, block.for_ms, block.instance, block.handler) == (5, 300, "Cart/c1", "add")
    assert not rig.engine.scheduler.describe(rig.engine.namespace("bank")).blocks


async def test_overview_shows_readings_with_their_thresholds(rig: Rig) -> None:
    rig.engine.monitor.limit = 1 << 30
    rig.engine.monitor.own_bytes = lambda: 1 << 29
    await rig.pass_time(1)
    seen = rig.engine.scheduler.describe(rig.engine.namespace("default"))
    readings = {r.signal: (r.value, r.elevated, r.high, r.critical) for r in seen.readings}
    assert readings["memory"] == (0.5, 0.75, 0.85, 0.95)
    assert readings["loop_delay"][1:] == (0.1, 0.4, 1.6)
    assert readings["queue_delay"][1:] == (2.0, 8.0, 0.0)


async def test_work_that_waits_for_slots_everywhere_is_pressure_and_room_anywhere_is_none(rig: Rig) -> None:
    full = await rig.worker(agent("Busy"), credit=1)
    await flood(full, "Busy", 3)
    await rig.pass_time(3, step=0.1)
    assert pressure(rig).level == Level.ELEVATED
    assert pressure(rig).because.startswith("slots: work waits at least 2.")
    await rig.worker(agent("Other"), credit=1)
    await rig.pass_time(3, step=0.1)
    assert pressure(rig).level == Level.NORMAL


async def test_background_work_that_waits_is_no_pressure(rig: Rig) -> None:
    full = await rig.worker(agent("Busy"), credit=1)
    await flood(full, "Busy", 3, priority=BACKGROUND)
    await rig.pass_time(20, step=0.2)
    assert rig.engine.monitor.pressure.level == Level.NORMAL


async def test_decisions_are_counted_for_monitoring(rig: Rig) -> None:
    sdk = await rig.worker(agent("Busy"), credit=3)
    await flood(sdk, "Busy", 9)
    await rig.pass_time(1)
    _, text = rig.engine.render_metrics("")
    assert b'amx_allocation_decisions_total{applied="false",kind="scale_up"} 1.0' in text
    assert b'amx_allocation_advice_slots{agents="Busy",namespace="default"} 12.0' in text
    assert b"amx_pressure_level 1.0" in text


async def test_provider_whose_bound_is_reached_is_named(rig: Rig) -> None:
    provider = Scripted("llm")
    await rig.engine.io.add(provider, ProviderPolicy(concurrency=ConcurrencyPolicy(2, 1, 2)))
    operations: list[Operation[int, bytes]] = [Operation("llm", "chat", n, WaitReason.MODEL) for n in range(5)]
    asked = [asyncio.create_task(rig.engine.io.call(operation)) for operation in operations]
    await rig.pass_time(1)
    (recorded,) = decisions(rig, "scale_up")
    assert not recorded.applied
    assert recorded.decision.because.startswith("provider llm: 2 operations of 2 at most are under way")
    assert rig.engine.allocator.advice == {}
    for task in asked:
        task.cancel()
