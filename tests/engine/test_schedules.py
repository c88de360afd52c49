"""Schedules in the engine: run as messages, kept over restarts, never twice for one occurrence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from amx.v1 import agent_pb2, common_pb2, link_pb2
from amx_server.core.clock import ManualClock
from amx_server.core.errors import AmxError
from tests.engine.link_driver import Rig, Sdk, agent, content, running

MINUTE = 60.0
HOUR = 3600.0


def schedule(name: str = "tick", **fields: Any) -> agent_pb2.ScheduleDefinition:
    return agent_pb2.ScheduleDefinition(name=name, handler="handle", **fields)


def clock_agent(*schedules: agent_pb2.ScheduleDefinition, version: str = "1.0.0") -> agent_pb2.AgentDefinition:
    return agent("clock", schedules=schedules, version=version)


async def runs(rig: Rig, sdk: Sdk, seconds: float = 0.0, step: float = 1.0) -> list[int]:
    """Lets time pass and completes what runs. Returns the planned moments, as the message ids say them."""
    occurrences = []
    passed = 0.0
    while True:
        await rig.settle()
        while sdk.waiting:
            work = await sdk.work()
            occurrences.append(int(work.message.message_id.rpartition(":")[2]))
            work.succeed()
            await rig.settle()
        if passed >= seconds:
            return occurrences
        await rig.pass_time(min(step, seconds - passed))
        passed += step


async def test_fixed_rate_runs_at_every_interval(rig: Rig) -> None:
    start = rig.clock.now_ms()
    sdk = await rig.worker(clock_agent(schedule(fixed_rate_ms=10_000)))
    assert await runs(rig, sdk, 35) == [start + 10_000, start + 20_000, start + 30_000]
    assert rig.counters.schedule_runs == 3


async def test_initial_delay_comes_before_the_first_run(rig: Rig) -> None:
    start = rig.clock.now_ms()
    sdk = await rig.worker(clock_agent(schedule(fixed_rate_ms=10_000, initial_delay_ms=3000)))
    assert await runs(rig, sdk, 14) == [start + 3000, start + 13_000]


async def test_fixed_delay_counts_from_the_end_of_a_run(rig: Rig) -> None:
    sdk = await rig.worker(clock_agent(schedule(fixed_delay_ms=10_000)))
    await rig.pass_time(11)
    work = await sdk.work()
    await rig.pass_time(25, step=5)
    assert sdk.waiting == 0
    work.succeed()
    await rig.pass_time(9)
    assert sdk.waiting == 0
    await rig.pass_time(2)
    assert sdk.waiting == 1


async def test_fixed_delay_goes_on_after_a_run_that_failed_for_good(rig: Rig) -> None:
    sdk = await rig.worker(clock_agent(schedule(fixed_delay_ms=10_000)))
    await rig.pass_time(11)
    (await sdk.work()).fail("BROKEN")
    await rig.pass_time(11)
    assert sdk.waiting == 1


async def test_cron_runs_at_the_moments_it_names(rig: Rig) -> None:
    sdk = await rig.worker(clock_agent(schedule(cron="*/10 * * * * *")))
    occurrences = await runs(rig, sdk, 35)
    assert len(occurrences) in (3, 4)
    assert all(occurrence % 10_000 == 0 for occurrence in occurrences)


async def test_once_runs_once_and_not_again_after_restarts(tmp_path: Path) -> None:
    path, clock = str(tmp_path / "amx.db"), ManualClock()
    definition = clock_agent(schedule(once_after_ms=5000))
    async with running(store=path, clock=clock) as rig:
        sdk = await rig.worker(definition)
        assert len(await runs(rig, sdk, 30)) == 1
    for _ in range(2):
        async with running(store=path, clock=clock) as rig:
            sdk = await rig.worker(definition)
            assert await runs(rig, sdk, 30) == []


async def test_schedule_carries_its_key_and_content(rig: Rig) -> None:
    payload = common_pb2.Payload(data=b'{"n": 1}')
    sdk = await rig.worker(clock_agent(schedule(fixed_rate_ms=1000, key="k", payload=payload)))
    await rig.pass_time(1.5)
    work = await sdk.work()
    assert (work.address, work.value) == ("clock/k", {"n": 1})
    assert work.message.sender == "schedule:clock/k/tick"
    assert work.message.sent_at_ms == rig.clock.now_ms()


# --- missed runs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        (agent_pb2.MISSED_RUNS_SKIP, []),
        (agent_pb2.MISSED_RUNS_RUN_ONCE, [5]),
        (agent_pb2.MISSED_RUNS_UNSPECIFIED, [5]),
        (agent_pb2.MISSED_RUNS_RUN_ALL, [1, 2, 3, 4, 5]),
    ],
)
async def test_missed_runs_are_treated_as_the_schedule_says(
    tmp_path: Path, missed: agent_pb2.MissedRuns, expected: list[int]
) -> None:
    path, clock = str(tmp_path / "amx.db"), ManualClock()
    start = clock.now_ms()
    definition = clock_agent(schedule(fixed_rate_ms=60_000, missed=missed))
    async with running(store=path, clock=clock) as rig:
        await rig.worker(definition)
    clock.advance(5 * MINUTE + 30)  # the engine is down
    async with running(store=path, clock=clock) as rig:
        sdk = await rig.worker(definition)
        occurrences = await runs(rig, sdk, 20)
        assert [(occurrence - start) // 60_000 for occurrence in occurrences] == expected
        assert [(o - start) // 60_000 for o in await runs(rig, sdk, 20)] == [6]


async def test_runs_wait_for_a_worker_that_is_away(rig: Rig) -> None:
    sdk = await rig.worker(clock_agent(schedule(fixed_rate_ms=10_000)))
    sdk.drain()
    await rig.pass_time(25, step=5)
    sdk.feed(link_pb2.LinkItem(drained=link_pb2.Drained()))
    again = await rig.worker(clock_agent(schedule(fixed_rate_ms=10_000)))
    assert len(await runs(rig, again)) == 2


# --- restarts and clocks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", [{"fixed_rate_ms": 10_000}, {"cron": "*/10 * * * * *"}], ids=["rate", "cron"])
async def test_occurrence_never_runs_twice_over_restarts(tmp_path: Path, timing: dict[str, Any]) -> None:
    path, clock = str(tmp_path / "amx.db"), ManualClock()
    seen: list[int] = []
    for _ in range(6):
        async with running(store=path, clock=clock) as rig:
            sdk = await rig.worker(clock_agent(schedule(**timing)))
            seen += await runs(rig, sdk, 15)
        clock.advance(3)
    assert len(seen) == len(set(seen))
    assert len(seen) >= 9
    assert seen == sorted(seen)


@pytest.mark.parametrize("hours", [1, -1])
@pytest.mark.parametrize(
    "timing",
    [
        {"fixed_rate_ms": 10_000, "missed": agent_pb2.MISSED_RUNS_RUN_ALL},
        {"fixed_delay_ms": 10_000},
        {"cron": "*/10 * * * * *", "missed": agent_pb2.MISSED_RUNS_RUN_ALL},
    ],
    ids=["rate", "delay", "cron"],
)
@pytest.mark.parametrize("restarted", [False, True])
async def test_occurrence_never_runs_twice_when_the_wall_clock_jumps(
    tmp_path: Path, timing: dict[str, Any], hours: int, restarted: bool
) -> None:
    path, clock = str(tmp_path / "amx.db"), ManualClock()
    definition = clock_agent(schedule(**timing))
    seen: list[int] = []

    async def session(acts: Callable[[Rig, Sdk], Awaitable[None]]) -> None:
        async with running(store=path, clock=clock) as rig:
            await acts(rig, await rig.worker(definition))

    async def before(rig: Rig, sdk: Sdk) -> None:
        seen.extend(await runs(rig, sdk, 35))
        assert len(seen) == 3
        if not restarted:
            clock.jump(hours * HOUR)
            seen.extend(await runs(rig, sdk, 25))
            clock.jump(-hours * HOUR)
            seen.extend(await runs(rig, sdk, 25))

    async def after(rig: Rig, sdk: Sdk) -> None:
        seen.extend(await runs(rig, sdk, 25))

    await session(before)
    if restarted:
        clock.jump(hours * HOUR)
        await session(after)
        clock.jump(-hours * HOUR)
        await session(after)
    assert len(seen) == len(set(seen))
    if "cron" not in timing or hours > 0:
        assert len(seen) > 3  # nothing stood still for an hour


# --- what handlers and people do -------------------------------------------------------------------------------------


async def test_timer_set_by_a_handler_runs_once_at_its_instance(rig: Rig) -> None:
    sdk = await rig.worker(agent("clock", "handle", "remind", default_handler="handle"))
    sdk.request("clock", key="k")
    timer = agent_pb2.ScheduleDefinition(name="later", handler="remind", once_after_ms=5000)
    timer.payload.data = b'"now"'
    (await sdk.work()).succeed(effects=link_pb2.Effects(schedules=[timer]))
    await rig.pass_time(6)
    work = await sdk.work()
    assert (work.address, work.message.handler, work.value) == ("clock/k", "remind", "now")
    work.succeed()
    assert await runs(rig, sdk, 30) == []
    assert await rig.engine.store.schedules() == []


async def test_timer_set_again_replaces_and_removed_does_not_run(rig: Rig) -> None:
    sdk = await rig.worker(clock_agent())

    async def effect(**effects: Any) -> None:
        call = sdk.request("clock")
        (await sdk.work()).succeed(effects=link_pb2.Effects(**effects))
        await sdk.result(call)

    await effect(schedules=[schedule(once_after_ms=5000)])
    await effect(schedules=[schedule(once_after_ms=20_000)])
    await rig.pass_time(15, step=5)
    assert sdk.waiting == 0
    await effect(cancelled_schedules=["tick"])
    await rig.pass_time(30, step=5)
    assert sdk.waiting == 0


async def test_schedule_set_by_a_handler_survives_restarts(tmp_path: Path) -> None:
    path, clock = str(tmp_path / "amx.db"), ManualClock()
    async with running(store=path, clock=clock) as rig:
        sdk = await rig.worker(clock_agent())
        call = sdk.request("clock", key="k")
        effects = link_pb2.Effects(schedules=[schedule(fixed_rate_ms=10_000)])
        (await sdk.work()).succeed(effects=effects)
        await sdk.result(call)
    async with running(store=path, clock=clock) as rig:
        sdk = await rig.worker(clock_agent())
        assert len(await runs(rig, sdk, 25)) == 2


async def test_pause_stops_runs_and_resume_forgets_what_fell_due(rig: Rig) -> None:
    sdk = await rig.worker(clock_agent(schedule(fixed_rate_ms=10_000, missed=agent_pb2.MISSED_RUNS_RUN_ALL)))
    (info,) = rig.engine.schedules.listing("default", "", "", 10)
    assert info.schedule_id == "clock/default/tick"
    assert info.next_run_at_ms == rig.clock.now_ms() + 10_000
    paused = await rig.engine.schedules.pause("default", info.schedule_id, True)
    assert paused.paused
    assert await runs(rig, sdk, 35) == []
    await rig.engine.schedules.pause("default", info.schedule_id, False)
    assert len(await runs(rig, sdk, 10)) == 1


async def test_pause_survives_a_restart(tmp_path: Path) -> None:
    path, clock = str(tmp_path / "amx.db"), ManualClock()
    definition = clock_agent(schedule(fixed_rate_ms=10_000))
    async with running(store=path, clock=clock) as rig:
        await rig.worker(definition)
        await rig.engine.schedules.pause("default", "clock/default/tick", True)
    async with running(store=path, clock=clock) as rig:
        sdk = await rig.worker(definition)
        assert await runs(rig, sdk, 25) == []
        await rig.engine.schedules.pause("default", "clock/default/tick", False)
        assert len(await runs(rig, sdk, 12)) == 1


async def test_trigger_runs_at_once_beside_the_plan(rig: Rig) -> None:
    payload = common_pb2.Payload(data=b'"tock"')
    sdk = await rig.worker(clock_agent(schedule(fixed_rate_ms=10_000, payload=payload)))
    message_id = await rig.engine.schedules.trigger("default", "clock/default/tick")
    work = await sdk.work()
    assert work.message.message_id == message_id
    assert content(work.message.payload) == "tock"
    work.succeed()
    assert len(await runs(rig, sdk, 12)) == 1
    with pytest.raises(AmxError, match="no schedule 'x/y/z'"):
        await rig.engine.schedules.trigger("default", "x/y/z")


async def test_new_version_changes_adds_and_removes_declared_schedules(rig: Rig) -> None:
    await rig.worker(clock_agent(schedule("gone", fixed_rate_ms=10_000), schedule("kept", fixed_rate_ms=10_000)))
    await rig.pass_time(5)
    new = clock_agent(schedule("kept", fixed_rate_ms=10_000), schedule("new", fixed_rate_ms=3_000), version="2.0.0")
    sdk = await rig.worker(new)
    listed = {info.definition.name: info for info in rig.engine.schedules.listing("default", "clock", "", 10)}
    assert set(listed) == {"kept", "new"}
    assert listed["kept"].next_run_at_ms == rig.clock.now_ms() + 5_000  # unchanged: goes on where it was
    await rig.pass_time(6, step=1)
    await rig.settle()
    assert sdk.waiting == 1  # the first; its successor waits behind it
