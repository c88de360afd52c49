"""Supervision: children that end are restarted as their supervisor declares, or kept from running."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from amx.v1 import agent_pb2, common_pb2, engine_pb2, link_pb2
from amx_server.runtime.scheduling.supervisor import ONE_FOR_ALL, ONE_FOR_ONE, REST_FOR_ONE, TEMPORARY, TRANSIENT
from tests.engine.link_driver import Rig, Sdk, Work, agent, configured, put, remembered, running, value_memory

NOT_THE_CHILDS_FAULT = 3  # google.rpc.Code INVALID_ARGUMENT


def child(name: str = "child", key: str = "", **fields: object) -> agent_pb2.SupervisedChild:
    return agent_pb2.SupervisedChild(agent=name, key=key, **fields)  # type: ignore[arg-type]


def boss(
    *children: agent_pb2.SupervisedChild,
    name: str = "boss",
    strategy: agent_pb2.RestartStrategy = ONE_FOR_ONE,
    version: str = "1.0.0",
    **policy: int,
) -> agent_pb2.AgentDefinition:
    definition = agent(name, version=version)
    definition.supervisor.strategy = strategy
    definition.supervisor.children.extend(children or (child(),))
    for field, value in policy.items():
        setattr(definition.supervisor, field, value)
    return definition


CHILD = agent("child", memories=(value_memory("total"), value_memory("mood", persistent=False)))


async def crash(sdk: Sdk, name: str = "child", **fields: Any) -> None:
    """A message to the child fails for good."""
    call = sdk.request(name, "crash", **fields)
    (await sdk.work()).fail("BROKEN")
    assert (await sdk.refusal(call)).reason == "BROKEN"


def supervisors(rig: Rig) -> list[engine_pb2.SupervisorInfo]:
    return rig.engine.supervision.describe(rig.engine.namespace("default"))


def state(rig: Rig, name: str = "child", key: str = "default") -> engine_pb2.InstanceInfo:
    return rig.engine.queries.instance(rig.engine.namespace("default"), name, key)


async def addresses(sdk: Sdk, count: int) -> list[str]:
    """Whose messages come next; each succeeds."""
    found = []
    for _ in range(count):
        work = await sdk.work()
        found.append(work.address)
        work.succeed()
    return found


# --- restarts --------------------------------------------------------------------------------------------------------


async def test_child_that_fails_waits_and_begins_anew_with_what_is_stored(rig: Rig) -> None:
    sdk = await rig.worker(boss(), CHILD)
    sdk.request("child")
    (await sdk.work()).succeed(effects=link_pb2.Effects(memory=[put("total", 1), put("mood", "good")]))
    await crash(sdk)
    call = sdk.request("child", "next")
    await rig.settle()
    assert not sdk.waiting
    await rig.pass_time(0.11)
    work = await sdk.work()
    assert (remembered(work.invoke), remembered(work.invoke, "mood")) == (1, None)
    work.succeed("well again")
    assert await sdk.result(call) == "well again"
    (info,) = supervisors(rig)
    assert (info.agent, info.restarts, info.escalations) == ("boss", 1, 0)
    (kept,) = info.children
    assert (kept.instance.key, kept.restarts, kept.last_reason, kept.given_up) == ("default", 1, "BROKEN", False)
    assert state(rig).supervisor == "boss"
    assert rig.counters.instance_restarts == 1


async def test_attempts_that_are_repeated_and_faults_of_the_caller_do_not_count(rig: Rig) -> None:
    sdk = await rig.worker(boss(), CHILD)
    await sdk.accepted(sdk.send("child"))
    (await sdk.work()).fail("BROKEN", retryable=True)
    sdk.request("child")
    (await sdk.work()).fail("WRONG_INPUT", code=NOT_THE_CHILDS_FAULT)
    sdk.request("child", "next")
    assert (await sdk.work()).value == "next"
    assert supervisors(rig)[0].restarts == 0


async def test_handler_that_exceeds_its_own_time_ends_its_child(rig: Rig) -> None:
    slow = agent("child", agent_pb2.HandlerDefinition(name="handle", timeout_ms=1000))
    sdk = await rig.worker(boss(), slow)
    sdk.request("child")
    await sdk.work()
    await rig.pass_time(1.01)
    sdk.request("child", "next")
    await rig.settle()
    assert not sdk.waiting
    await rig.pass_time(0.2)
    assert (await sdk.work()).value == "next"
    assert supervisors(rig)[0].children[0].last_reason == "DEADLINE_EXCEEDED"


async def test_message_after_a_restart_comes_before_what_waits(rig: Rig) -> None:
    warming = agent("child", "handle", "warm_up", default_handler="handle")
    sdk = await rig.worker(boss(child(on_restart="warm_up")), warming)
    await crash(sdk)
    sdk.request("child", "waits", priority=common_pb2.PRIORITY_HIGH)
    await rig.pass_time(0.2)
    first = await sdk.work()
    assert first.message.handler == "warm_up"
    first.succeed()
    assert (await sdk.work()).value == "waits"


async def test_what_else_the_child_ran_runs_again_after_its_restart(rig: Rig) -> None:
    busy = agent("child", "handle", agent_pb2.HandlerDefinition(name="look", concurrent=True), default_handler="handle")
    sdk = await rig.worker(boss(), busy)
    looking = sdk.request("child", "looks", handler="look")
    assert (await sdk.work()).value == "looks"
    await crash(sdk)
    await rig.pass_time(0.2)
    again = await sdk.work()
    assert (again.value, again.invoke.attempt) == ("looks", 1)
    again.succeed("seen")
    assert await sdk.result(looking) == "seen"


async def test_strategies_restart_others_for_the_sake_of_one(rig: Rig) -> None:
    group = [child(name) for name in ("a", "b", "c")]
    for strategy, restarted in ((ONE_FOR_ALL, "abc"), (REST_FOR_ONE, "bc"), (ONE_FOR_ONE, "b")):
        async with running() as rig:
            sdk = await rig.worker(boss(*group, strategy=strategy), *(agent(name) for name in "abc"))
            for name in "abc":
                sdk.request(name)
            await addresses(sdk, 3)
            await crash(sdk, "b")
            for name in "abc":
                sdk.request(name)
            untouched = 3 - len(restarted)
            assert await addresses(sdk, untouched) == [f"{name}/default" for name in "abc" if name not in restarted]
            await rig.settle()
            assert not sdk.waiting
            await rig.pass_time(0.2)
            assert await addresses(sdk, len(restarted)) == [f"{name}/default" for name in restarted]


async def test_child_that_fails_while_another_restart_waits_joins_it_in_order(rig: Rig) -> None:
    group = [child(name) for name in ("a", "b")]
    sdk = await rig.worker(boss(*group, strategy=REST_FOR_ONE), agent("a"), agent("b"))
    for name in "ab":
        sdk.request(name)
    await addresses(sdk, 2)
    await crash(sdk, "b")
    await crash(sdk, "a")
    for name in "ab":
        sdk.request(name)
    await rig.pass_time(0.15)  # b alone would have begun by now
    assert not sdk.waiting
    await rig.pass_time(0.1)
    assert await addresses(sdk, 2) == ["a/default", "b/default"]
    assert supervisors(rig)[0].restarts == 2


async def test_children_are_stopped_last_first(rig: Rig) -> None:
    group = [child(name) for name in ("a", "b", "c")]
    sdk = await rig.worker(boss(*group, strategy=ONE_FOR_ALL), *(agent(name) for name in "abc"))
    running_ids = {}
    for name in ("b", "c"):
        sdk.request(name)
        running_ids[(await sdk.work()).id] = name
    await crash(sdk, "a")
    assert [running_ids[(await sdk.next("cancel")).id] for _ in range(2)] == ["c", "b"]


async def test_child_does_not_fall_asleep_while_it_waits_for_its_restart(rig: Rig) -> None:
    sdk = await rig.worker(boss(), agent("child", idle_timeout_ms=10))
    await crash(sdk)
    await rig.pass_time(0.05)
    sdk.request("child", "next")
    await rig.settle()
    assert not sdk.waiting
    await rig.pass_time(0.06)
    assert (await sdk.work()).value == "next"


async def test_instances_of_a_child_that_stands_for_many_are_restarted_each_for_itself(rig: Rig) -> None:
    sdk = await rig.worker(boss(child(key="*"), strategy=ONE_FOR_ALL), CHILD)
    for key in "ab":
        sdk.request("child", key=key)
    await addresses(sdk, 2)
    await crash(sdk, key="a")
    for key in "ab":
        sdk.request("child", key=key)
    assert await addresses(sdk, 1) == ["child/b"]
    await rig.pass_time(0.2)
    assert await addresses(sdk, 1) == ["child/a"]


async def test_killed_child_is_restarted_if_it_is_permanent(rig: Rig) -> None:
    sdk = await rig.worker(
        boss(child("permanent"), child("transient", restart=TRANSIENT), child("temporary", restart=TEMPORARY)),
        *(agent(name) for name in ("permanent", "transient", "temporary")),
    )
    namespace = rig.engine.namespace("default")
    for name in ("permanent", "transient", "temporary"):
        await rig.engine.lifecycle.spawn(namespace.agents[name], "default")
        await rig.engine.lifecycle.kill(namespace.agents[name], "default")
    (info,) = supervisors(rig)
    assert {kept.instance.agent for kept in info.children if kept.last_reason} == {
        "permanent",
        "transient",
        "temporary",
    }
    await rig.pass_time(0.2)
    assert {kept.instance.agent: kept.restarts for kept in supervisors(rig)[0].children} == {
        "permanent": 1,
        "transient": 0,
        "temporary": 0,
    }
    sdk.request("permanent")
    await sdk.work()


async def test_restarts_of_all_supervisors_together_are_bounded_per_second() -> None:
    async with running(configured(supervision={"restarts_per_second": 10})) as rig:
        sdk = await rig.worker(boss(child(key="*")), CHILD, credit=1000)
        keys = [str(number) for number in range(50)]
        for key in keys:
            await crash(sdk, key=key)
        for key in keys:
            sdk.request("child", key=key)
        await rig.pass_time(0.12, step=0.02)
        assert supervisors(rig)[0].restarts == 10  # a second's worth at once
        await rig.pass_time(2.0, step=0.02)
        assert supervisors(rig)[0].restarts == 30
        await rig.pass_time(2.1, step=0.02)
        assert supervisors(rig)[0].restarts == 50
        assert len(await addresses(sdk, 50)) == 50


async def test_failures_of_supervised_instances_give_no_rest_to_others(rig: Rig) -> None:
    sdk = await rig.worker(boss(child(key="*"), max_restarts=100), CHILD)
    for number in range(30):  # more in a row than the engine's circuit breaker takes
        await crash(sdk, key=f"bad-{number}")
    call = sdk.request("child", key="good")
    (await sdk.work()).succeed("fine")
    assert await sdk.result(call) == "fine"


async def test_breaker_that_the_handler_declares_counts_for_supervised_instances(rig: Rig) -> None:
    fragile = agent_pb2.HandlerDefinition(name="handle")
    fragile.circuit_breaker.failure_threshold = 2
    sdk = await rig.worker(boss(child(key="*")), agent("child", fragile))
    for number in range(2):
        await crash(sdk, key=str(number))
    assert (await sdk.refusal(sdk.request("child", key="other"))).reason == "CIRCUIT_OPEN"


# --- giving up -------------------------------------------------------------------------------------------------------


async def crash_until_given_up(rig: Rig, sdk: Sdk, name: str = "child", times: int = 4, **fields: Any) -> None:
    for _ in range(times):
        await crash(sdk, name, **fields)
        await rig.pass_time(1.0, step=0.1)


async def test_child_that_fails_too_often_is_suspended_and_says_so(rig: Rig) -> None:
    sdk = await rig.worker(boss(), CHILD)
    listener = await rig.client()
    listener.subscribe("amx.supervision")
    await rig.settle()
    await crash_until_given_up(rig, sdk)
    info = state(rig)
    assert info.state == engine_pb2.INSTANCE_STATE_SUSPENDED
    assert info.suspended_because.startswith("SUPERVISOR_GAVE_UP")
    assert "BROKEN" in info.suspended_because
    event = (await listener.next("event")).event
    assert dict(event.attributes) == {
        "supervisor": "boss",
        "instance": "child/default",
        "reason": "BROKEN",
        "what": "gave_up",
    }
    call = sdk.request("child", "waits")
    await rig.pass_time(5)
    assert not sdk.waiting
    assert (supervisors(rig)[0].escalations, supervisors(rig)[0].children[0].given_up) == (1, True)

    namespace = rig.engine.namespace("default")
    await rig.engine.lifecycle.resume(namespace.agents["child"], "default")
    (await sdk.work()).succeed("again")
    assert await sdk.result(call) == "again"
    assert not supervisors(rig)[0].children[0].given_up
    await crash(sdk)  # it is supervised as before
    await rig.pass_time(0.2)
    assert supervisors(rig)[0].restarts == 4


async def test_instance_of_many_that_fails_too_often_is_suspended_alone(rig: Rig) -> None:
    sdk = await rig.worker(boss(child(key="*")), CHILD)
    sdk.request("child", key="good")
    await addresses(sdk, 1)
    await crash_until_given_up(rig, sdk, key="bad")
    assert state(rig, key="bad").state == engine_pb2.INSTANCE_STATE_SUSPENDED
    sdk.request("child", key="good")
    assert await addresses(sdk, 1) == ["child/good"]


async def test_nothing_starts_between_giving_up_and_its_suspension(rig: Rig) -> None:
    sdk = await rig.worker(boss(max_restarts=1, within_ms=100_000), CHILD)
    await crash(sdk)
    await rig.pass_time(0.2)
    first, second = sdk.request("child"), sdk.request("child", "waits")
    (await sdk.work()).fail("BROKEN")
    assert (await sdk.refusal(first)).reason == "BROKEN"
    await rig.settle()
    assert not sdk.waiting
    assert second not in sdk.replies


async def test_what_a_supervisor_gave_up_stays_suspended_over_a_restart_of_the_engine(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        await crash_until_given_up(rig, await rig.worker(boss(), CHILD))
    async with running(store=path) as rig:
        sdk = await rig.worker(boss(), CHILD)
        sdk.request("child")
        await rig.settle()
        assert not sdk.waiting
        assert state(rig).suspended_because.startswith("SUPERVISOR_GAVE_UP")


async def test_supervisor_that_gives_up_is_restarted_by_its_own_with_its_children(rig: Rig) -> None:
    sdk = await rig.worker(
        boss(child("a"), child("b"), strategy=ONE_FOR_ONE), boss(child("boss"), name="chief"), agent("a"), agent("b")
    )
    for name in "ab":
        sdk.request(name)
    await addresses(sdk, 2)
    for _ in range(3):
        await crash(sdk, "a")
        await rig.pass_time(0.5, step=0.1)
    await crash(sdk, "a")
    for name in "ab":
        sdk.request(name)
    await rig.settle()
    assert not sdk.waiting  # both wait for their supervisor's restart
    await rig.pass_time(0.2)
    assert await addresses(sdk, 2) == ["a/default", "b/default"]
    found = {info.agent: info for info in supervisors(rig)}
    assert (found["boss"].escalations, found["chief"].restarts, found["chief"].escalations) == (1, 1, 0)
    assert state(rig, "a").state == engine_pb2.INSTANCE_STATE_IDLE


async def test_supervisor_of_supervisors_that_gives_up_suspends_everything_below(rig: Rig) -> None:
    sdk = await rig.worker(
        boss(child("a"), child("b"), max_restarts=1, within_ms=100_000),
        boss(child("boss"), name="chief", max_restarts=1, within_ms=100_000),
        agent("a"),
        agent("b"),
    )
    await crash_until_given_up(rig, sdk, "a")
    await rig.settle()
    for name in ("a", "b", "boss"):
        assert state(rig, name).state == engine_pb2.INSTANCE_STATE_SUSPENDED, name


async def test_restart_from_above_takes_up_again_what_was_given_up_below(rig: Rig) -> None:
    sdk = await rig.worker(
        boss(child(key="*")),
        boss(child("boss"), child("other"), name="chief", strategy=ONE_FOR_ALL),
        CHILD,
        agent("other"),
    )
    await crash_until_given_up(rig, sdk, key="bad")
    sdk.request("child", "waits", key="bad")
    await rig.settle()
    assert not sdk.waiting
    await crash(sdk, "other")
    await rig.pass_time(0.2)
    assert (await sdk.work()).value == "waits"
    assert await rig.engine.store.suspensions() == []


async def test_supervisors_that_supervise_each_other_come_to_an_end(rig: Rig) -> None:
    sdk = await rig.worker(
        boss(child("second"), child("a"), name="first", max_restarts=1, within_ms=100_000),
        boss(child("first"), name="second", max_restarts=1, within_ms=100_000),
        agent("a"),
    )
    for _ in range(10):
        if state(rig, "a").state == engine_pb2.INSTANCE_STATE_SUSPENDED:
            break
        await crash(sdk, "a")
        await rig.pass_time(1, step=0.1)
    assert state(rig, "a").state == engine_pb2.INSTANCE_STATE_SUSPENDED


# --- declarations ----------------------------------------------------------------------------------------------------


async def test_new_version_of_a_supervisor_replaces_what_it_declared(rig: Rig) -> None:
    await rig.worker(boss(), CHILD, agent("other"))
    await rig.worker(boss(child("other"), version="2.0.0"))
    assert (state(rig).supervisor, state(rig, "other").supervisor) == ("", "boss")


async def test_child_of_two_supervisors_belongs_to_the_first_in_order_of_name(rig: Rig) -> None:
    await rig.worker(boss(name="zoe"), CHILD)
    await rig.worker(boss(name="adam"))
    assert state(rig).supervisor == "adam"
    await rig.worker(boss(child("another"), name="adam", version="2.0.0"))
    assert state(rig).supervisor == "zoe"


async def test_restart_of_a_supervisor_leaves_alone_what_another_holds(rig: Rig) -> None:
    sdk = await rig.worker(
        boss(child("boss"), child("other"), name="chief", strategy=ONE_FOR_ALL),
        boss(child(), child("own")),
        boss(child(), name="adam"),
        *(agent(name) for name in ("child", "own", "other")),
    )
    await crash(sdk, "other")
    for name in ("child", "own"):
        sdk.request(name)
    assert await addresses(sdk, 1) == ["child/default"]
    await rig.pass_time(0.2)
    assert {kept.instance.agent for info in supervisors(rig) for kept in info.children} == {"boss", "own", "other"}


async def test_key_that_is_named_comes_before_one_that_stands_for_many(rig: Rig) -> None:
    await rig.worker(boss(child(key="*"), name="all"), boss(child(key="vip"), name="one"), CHILD)
    assert (state(rig, key="vip").supervisor, state(rig, key="x").supervisor) == ("one", "all")


async def test_supervisor_goes_on_while_its_own_agent_is_not_hosted(rig: Rig) -> None:
    sdk = await rig.worker(CHILD)
    (await rig.worker(boss())).drain()
    await crash(sdk)
    sdk.request("child", "next")
    await rig.pass_time(0.2)
    assert (await sdk.work()).value == "next"
    assert supervisors(rig)[0].restarts == 1


async def test_of_several_engines_each_restarts_the_children_that_it_owns(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = [child(name) for name in ("a", "b")]
    sdk = await rig.worker(boss(*group, strategy=ONE_FOR_ALL), agent("a"), agent("b"))
    monkeypatch.setattr(rig.engine.acceptance, "owns", lambda namespace, agent, key: agent != "b")
    await crash(sdk, "a")
    await rig.pass_time(0.2)
    assert [kept.instance.agent for kept in supervisors(rig)[0].children] == ["a"]


# --- crash loops -----------------------------------------------------------------------------------------------------


async def steps_of_the_healthy(rig: Rig, bad: Iterable[int], agents: int, rounds: int) -> tuple[int, int]:
    """Every agent has one request waiting at any time, and the worker does as many steps a round as there are agents.
    Returns how many steps the healthy and the bad ones got.
    """
    failing = {f"k{number}" for number in bad}
    sdk = await rig.worker(boss(child(key="*")), CHILD, credit=500)
    asked: dict[int, str] = {}
    for number in range(agents):
        asked[sdk.request("child", key=f"k{number}", timeout_ms=10**9)] = f"k{number}"
    healthy = crashes = 0
    for _ in range(rounds):
        for _ in range(agents):
            if not sdk.waiting:
                await rig.settle()
                if not sdk.waiting:
                    break
            work: Work = await sdk.work()
            if work.message.key in failing:
                crashes += 1
                work.fail("BROKEN")
            else:
                healthy += 1
                work.succeed()
        await rig.pass_time(1.0)
        for id in [id for id in asked if id in sdk.replies]:
            key = asked.pop(id)
            del sdk.replies[id]
            asked[sdk.request("child", key=key, timeout_ms=10**9)] = key
    return healthy, crashes


async def test_of_ten_thousand_agents_a_quarter_crashing_in_loops_leaves_the_rest_their_throughput() -> None:
    agents, rounds = 10_000, 3
    bad = range(agents // 4)  # they come first, and in a row
    async with running(configured(limits={"max_calls_in_flight": agents})) as rig:
        undisturbed, _ = await steps_of_the_healthy(rig, (), agents, rounds)
    async with running(configured(limits={"max_calls_in_flight": agents})) as rig:
        healthy, crashes = await steps_of_the_healthy(rig, bad, agents, rounds)
        restarts = rig.counters.instance_restarts
    assert undisturbed == agents * rounds
    assert healthy >= 0.9 * undisturbed * 0.75
    # A crash loop costs its first step, and as many more as there are restarts a second.
    assert restarts <= 500 * (rounds + 1)
    assert crashes <= len(bad) + restarts
