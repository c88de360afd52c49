"""Agents that compute for long: their messages go where the least runs; processes that the engine watches may be silent
while they work, and what they ran goes on at once when they die.
"""

from __future__ import annotations

import pytest

from amx.v1 import agent_pb2
from tests.engine.link_driver import Rig, Sdk, agent, configured, running, value_memory

COMPUTES = agent_pb2.HandlerDefinition(name="compute", execution=agent_pb2.HANDLER_EXECUTION_PROCESS)
ASIDE = agent_pb2.HandlerDefinition(name="look", concurrent=True)


def solver(*more: agent_pb2.HandlerDefinition) -> agent_pb2.AgentDefinition:
    return agent("solver", COMPUTES, *more, memories=(value_memory(),), default_handler="compute")


async def watched(rig: Rig, *agents: agent_pb2.AgentDefinition) -> Sdk:
    """A worker whose process the engine's side watches."""
    sdk = rig.sdk()
    sdk.watched = True
    await sdk.connect(*agents)
    return sdk


def dies(sdk: Sdk) -> None:
    """The process is gone, and whoever watched it says so."""
    assert sdk.connection is not None
    sdk.connection.process_ended()


async def test_messages_of_what_computes_go_where_the_least_runs(rig: Rig) -> None:
    one, other = await rig.worker(solver()), await rig.worker(solver())
    client = await rig.client()
    for key in ("a", "b"):
        client.request("solver", key=key)
    first = await one.work(), await other.work()
    for key in ("c", "d", "e", "f"):
        client.request("solver", key=key)
    await rig.settle()
    assert (one.waiting, other.waiting) == (2, 2)
    assert {work.message.key for work in first} == {"a", "b"}


async def test_instance_that_computes_leaves_a_busy_link_for_a_free_one_and_keeps_its_memory(rig: Rig) -> None:
    one = await rig.worker(solver())
    client = await rig.client()
    call = client.request("solver", key="mover")
    (await one.work()).succeed()
    await client.result(call)
    client.request("solver", key="long")
    await one.work()  # runs and runs
    other = await rig.worker(solver())
    client.request("solver", key="mover")
    await rig.settle()
    assert (one.waiting, other.waiting) == (0, 1)
    assert (await other.work()).message.key == "mover"


async def test_instance_that_computes_stays_where_it_is_while_nothing_else_runs_there(rig: Rig) -> None:
    one, other = await rig.worker(solver()), await rig.worker(solver())
    client = await rig.client()
    for _ in range(4):
        call = client.request("solver", key="settled")
        await rig.settle()
        worker = one if one.waiting else other
        assert worker is one
        (await worker.work()).succeed()
        await client.result(call)


async def test_instance_that_is_in_use_does_not_move(rig: Rig) -> None:
    one = await rig.worker(solver(ASIDE))
    client = await rig.client()
    client.request("solver", key="busy", handler="look")
    await one.work()
    client.request("solver", key="other")
    await one.work()
    other = await rig.worker(solver(ASIDE))
    client.request("solver", key="busy", handler="look")
    await rig.settle()
    assert (one.waiting, other.waiting) == (1, 0)  # it must not run in two places


async def test_work_of_a_process_that_died_runs_again_elsewhere_at_once(rig: Rig) -> None:
    one, other = await watched(rig, solver()), await watched(rig, solver())
    client = await rig.client()
    call = client.request("solver", 7, key="a")
    assert (await one.work()).value == 7
    dies(one)
    again = await other.work()
    assert (again.value, again.invoke.attempt) == (7, 2)
    again.succeed("done")
    assert await client.result(call) == "done"


async def test_messages_wait_for_the_process_that_is_started_again(rig: Rig) -> None:
    worker = await watched(rig, solver())
    client = await rig.client()
    running_then = client.request("solver", 1, key="a")
    await worker.work()
    dies(worker)
    asked_meanwhile = client.request("solver", 2, key="b")
    await rig.settle()
    assert not client.replies
    again = await watched(rig, solver())
    for _ in range(2):
        work = await again.work()
        work.succeed(work.value)
    assert [await client.result(running_then), await client.result(asked_meanwhile)] == [1, 2]


async def test_messages_are_refused_when_no_process_comes_back_in_time(rig: Rig) -> None:
    worker = await watched(rig, solver())
    client = await rig.client()
    volatile = client.request("solver", key="a")
    await worker.work()
    dies(worker)
    await rig.pass_time(9.0)
    assert not client.replies
    await rig.pass_time(1.5)
    assert (await client.refusal(volatile)).reason == "NO_WORKER"
    assert (await client.refusal(client.request("solver", key="b"))).reason == "NO_WORKER"


async def test_process_that_comes_and_dies_again_is_waited_for_anew(rig: Rig) -> None:
    first = await watched(rig, solver())
    client = await rig.client()
    dies(first)
    await rig.pass_time(8.0)
    second = await watched(rig, solver())
    dies(second)
    call = client.request("solver", key="a")
    await rig.pass_time(8.0)  # the first wait has long ended
    assert not client.replies
    third = await watched(rig, solver())
    (await third.work()).succeed(3)
    assert await client.result(call) == 3


@pytest.mark.parametrize("busy", [True, False])
async def test_silence_of_a_watched_process_ends_its_link_only_when_nothing_runs(busy: bool) -> None:
    async with running(configured(links={"heartbeat_interval": 5, "resume_window": 10})) as rig:
        worker = await watched(rig, solver())
        worker.answers_pings = False
        client = await rig.client()
        if busy:
            client.request("solver", timeout_ms=60_000)
            await worker.work()
        await rig.pass_time(30, step=5)
        assert worker.over is not busy


async def test_silent_process_is_given_up_when_what_it_ran_is_out_of_time() -> None:
    async with running(configured(links={"heartbeat_interval": 5}, delivery={"cancel_grace": 2})) as rig:
        worker = await watched(rig, solver())
        worker.answers_pings = False
        client = await rig.client()
        call = client.request("solver", timeout_ms=20_000)
        await worker.work()
        await rig.pass_time(60, step=1)
        assert (await client.refusal(call)).reason == "DEADLINE_EXCEEDED"
        assert worker.over
