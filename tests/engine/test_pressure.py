"""A busy engine: what it refuses by name, what goes on, and that everything is taken again afterwards."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from amx.v1 import common_pb2, link_pb2
from amx_server.core.clock import ManualClock
from amx_server.runtime.engine import Engine
from amx_server.runtime.scheduling.pressure import HOLD_SECONDS, Level
from amx_server.runtime.scheduling.sensors import memory_limit, own_bytes
from tests.engine.link_driver import DURABLE, VOLATILE, Rig, agent, configured, message, running, value_memory

LIMIT = 1 << 30
CRITICAL, HIGH, NORMAL, LOW, BACKGROUND = range(1, 6)
SHARES = {Level.NORMAL: 0.1, Level.ELEVATED: 0.8, Level.HIGH: 0.9, Level.CRITICAL: 0.99}


async def under(rig: Rig, level: Level) -> None:
    """Lets the engine's memory grow until it means `level`."""
    monitor = rig.engine.monitor
    monitor.limit = LIMIT
    monitor.own_bytes = lambda: int(LIMIT * SHARES[level])
    await rig.pass_time(0.5)
    assert monitor.pressure.level == level


# --- what is refused -------------------------------------------------------------------------------------------------


async def test_low_priorities_are_refused_by_name_under_high_pressure(rig: Rig) -> None:
    sdk = await rig.worker(agent("Echo"))
    await under(rig, Level.HIGH)
    for priority in (LOW, BACKGROUND):
        failure = await sdk.refusal(sdk.request("Echo", priority=priority))
        assert (failure.code, failure.reason, failure.retryable) == (8, "ENGINE_PRESSURE", True)
        assert failure.retry_delay_ms == 1000
        assert failure.metadata["level"] == "high"
        assert "memory: 922 MiB of 1.00 GiB are taken (90%)" in failure.message
    call = sdk.request("Echo", "as ever")
    (await sdk.work()).succeed("served")
    assert await sdk.result(call) == "served"
    assert rig.engine._gauges().pressure_refusals == 2


async def test_nothing_sleeping_wakes_for_low_priorities_but_what_is_awake_may_store(rig: Rig) -> None:
    sdk = await rig.worker(agent("Echo"))
    call = sdk.request("Echo", key="awake")
    (await sdk.work()).succeed()
    await sdk.result(call)
    await under(rig, Level.HIGH)
    assert (await sdk.refusal(sdk.send("Echo", key="asleep", priority=LOW))).reason == "ENGINE_PRESSURE"
    assert (await sdk.accepted(sdk.send("Echo", key="awake", priority=LOW))).message_id
    assert (await sdk.work()).message.key == "awake"


async def test_only_urgent_work_is_taken_under_critical_pressure(rig: Rig) -> None:
    sdk = await rig.worker(agent("Echo"))
    await under(rig, Level.CRITICAL)
    for priority in (NORMAL, LOW, BACKGROUND):
        assert (await sdk.refusal(sdk.request("Echo", priority=priority))).reason == "ENGINE_PRESSURE"
        assert (await sdk.refusal(sdk.send("Echo", priority=priority))).reason == "ENGINE_PRESSURE"
    for priority in (CRITICAL, HIGH):
        call = sdk.request("Echo", priority=priority)
        (await sdk.work()).succeed(priority)
        assert await sdk.result(call) == priority


async def test_events_are_refused_like_messages(rig: Rig) -> None:
    sdk = await rig.worker(agent("Echo"))
    await under(rig, Level.HIGH)
    failure = await sdk.refusal(sdk.publish("orders.new", priority=BACKGROUND))
    assert failure.reason == "ENGINE_PRESSURE"
    assert "subscribers of 'orders.new'" in failure.message
    assert (await sdk.reply(sdk.publish("orders.new"))).HasField("published")


async def test_everything_is_taken_under_elevated_pressure(rig: Rig) -> None:
    sdk = await rig.worker(agent("Echo"))
    await under(rig, Level.ELEVATED)
    call = sdk.request("Echo", priority=BACKGROUND)
    (await sdk.work()).succeed()
    await sdk.result(call)


# --- what goes on ----------------------------------------------------------------------------------------------------


async def test_what_runs_ends_and_commits_under_critical_pressure(rig: Rig) -> None:
    sdk = await rig.worker(agent("Echo", memories=(value_memory(),)))
    call = sdk.request("Echo", priority=BACKGROUND)
    work = await sdk.work()
    await under(rig, Level.CRITICAL)
    effects = link_pb2.Effects()
    effects.messages.add().CopyFrom(message("Echo", "next", key="other", durability=DURABLE, priority=BACKGROUND))
    work.succeed("done", effects)
    assert await sdk.result(call) == "done"
    assert (await sdk.work()).value == "next"


async def test_running_handlers_may_ask_for_more_than_newcomers(rig: Rig) -> None:
    sdk = await rig.worker(agent("Echo"))
    sdk.request("Echo", "outer", key="outer")
    outer = await sdk.work()
    await under(rig, Level.CRITICAL)
    inner = message("Echo", "inner", key="inner", durability=VOLATILE)
    call = sdk.call("request", inner, invocation_id=outer.id)
    (await sdk.work()).succeed("answered")
    assert await sdk.result(call) == "answered"
    inner.priority = common_pb2.PRIORITY_LOW
    assert (await sdk.refusal(sdk.call("request", inner, invocation_id=outer.id))).reason == "ENGINE_PRESSURE"


async def test_stored_messages_and_retries_run_under_critical_pressure(rig: Rig) -> None:
    sdk = await rig.worker(agent("Echo"))
    await sdk.accepted(sdk.send("Echo", priority=BACKGROUND))
    first = await sdk.work()
    await under(rig, Level.CRITICAL)
    first.fail(retryable=True)
    await rig.pass_time(2)
    assert (await sdk.work()).invoke.attempt == 2


# --- its end ---------------------------------------------------------------------------------------------------------


async def test_everything_is_taken_again_when_the_pressure_is_gone(rig: Rig) -> None:
    sdk = await rig.worker(agent("Echo"))
    await under(rig, Level.CRITICAL)
    rig.engine.monitor.own_bytes = lambda: 0
    await rig.pass_time(HOLD_SECONDS + 1, step=0.5)
    call = sdk.request("Echo", priority=BACKGROUND)
    (await sdk.work()).succeed()
    await sdk.result(call)
    assert not rig.engine.acceptance.guarded


async def test_engine_is_not_ready_under_critical_pressure_and_says_why(rig: Rig) -> None:
    await under(rig, Level.HIGH)
    assert rig.engine.not_ready() == []
    await under(rig, Level.CRITICAL)
    (reason,) = rig.engine.not_ready()
    assert reason.startswith("the engine takes urgent work only: memory: 1014 MiB of 1.00 GiB")


async def test_instances_sleep_four_times_as_early_where_memory_is_scarce(rig: Rig) -> None:
    sdk = await rig.worker(agent("Echo"))
    call = sdk.request("Echo")
    (await sdk.work()).succeed()
    await sdk.result(call)
    await rig.pass_time(80)
    assert rig.engine.placement.instances == 1
    await under(rig, Level.ELEVATED)
    assert rig.engine.placement.instances == 0


async def test_content_gives_memory_back_under_pressure_of_memory_alone(tmp_path: Path) -> None:
    config = configured(storage={"path": str(tmp_path / "amx.db")})
    async with Engine(config, clock := ManualClock(), ticking=False) as engine:
        rig = Rig(engine, clock)
        hot = engine.blobs.store._contents.hot
        whole = hot.budget
        await under(rig, Level.HIGH)
        assert hot.budget == whole // 2
        rig.engine.monitor.own_bytes = lambda: 0
        await rig.pass_time(HOLD_SECONDS + 1, step=0.5)
        assert hot.budget == whole
        rig.engine.monitor.loop_delay = 1.0
        await rig.pass_time(1, step=0.1)
        assert rig.engine.monitor.pressure.level == Level.HIGH
        assert hot.budget == whole


async def test_draining_engine_refuses_everything_as_before(rig: Rig) -> None:
    sdk = await rig.worker(agent("Echo"))
    call = sdk.request("Echo")
    work = await sdk.work()
    draining = asyncio.create_task(rig.engine.drain(30.0))
    await sdk.next("go_away")
    assert (await sdk.refusal(sdk.request("Echo", priority=CRITICAL))).reason == "SHUTTING_DOWN"
    work.succeed("in time")
    assert await sdk.result(call) == "in time"
    assert await draining


# --- settings and sensors --------------------------------------------------------------------------------------------


async def test_admission_can_be_switched_off() -> None:
    async with running(configured(admission={"enabled": False, "memory": "1MiB"})) as rig:
        sdk = await rig.worker(agent("Echo"))
        await rig.pass_time(1)
        call = sdk.request("Echo", priority=BACKGROUND)
        (await sdk.work()).succeed()
        await sdk.result(call)


async def test_engine_that_takes_more_than_it_may_notices_by_itself() -> None:
    async with running(configured(admission={"memory": "1MiB"})) as rig:
        await rig.pass_time(1)
        assert rig.engine.monitor.pressure.level == Level.CRITICAL


async def test_late_turns_of_the_loop_are_pressure() -> None:
    async with running(configured(admission={"loop_delay": "50ms"})) as rig:
        rig.engine.monitor.loop_delay = 0.06
        await rig.pass_time(1, step=0.1)
        assert rig.engine.monitor.pressure.level == Level.ELEVATED
        assert rig.engine.monitor.pressure.because.startswith("event loop: at least 60 ms late at every turn")


def test_own_memory_is_measured() -> None:
    assert own_bytes() > 1 << 20


def files(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MACHINE = {"proc/meminfo": "MemTotal:       16777216 kB\nMemFree: 1 kB\n"}


@pytest.mark.parametrize(
    ("texts", "limit"),
    [
        ({}, 0),
        (MACHINE, int((16 << 30) * 0.8)),
        ({**MACHINE, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{1 << 30}\n"}, 1 << 30),
        ({**MACHINE, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, int((16 << 30) * 0.8)),
        (
            {
                **MACHINE,
                "proc/self/cgroup": "0::/shop/amx\n",
                "sys/fs/cgroup/shop/amx/memory.max": "max\n",
                "sys/fs/cgroup/shop/memory.max": f"{2 << 30}\n",
            },
            2 << 30,
        ),
        (
            {
                **MACHINE,
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{3 << 30}\n",
            },
            3 << 30,
        ),
        (
            {
                **MACHINE,
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            int((16 << 30) * 0.8),
        ),
        ({"proc/meminfo": "nonsense", "proc/self/cgroup": "nonsense\n\n:::\n"}, 0),
    ],
    ids=["nothing known", "machine", "group", "unlimited group", "group around", "version 1", "no limit", "nonsense"],
)
def test_memory_limit_is_that_of_the_control_group_else_a_part_of_the_machine(
    texts: dict[str, str], limit: int, tmp_path: Path
) -> None:
    assert memory_limit(files(tmp_path, texts)) == limit


async def test_refused_volatile_message_of_an_effect_is_logged_not_lost_silently() -> None:
    async with running(configured(logging={"level": "warning"})) as rig:
        sdk = await rig.worker(agent("Echo"))
        call = sdk.request("Echo")
        work = await sdk.work()
        await under(rig, Level.CRITICAL)
        effects = link_pb2.Effects()
        effects.messages.add().CopyFrom(message("Echo", key="other", durability=VOLATILE, priority=BACKGROUND))
        work.succeed("done", effects)
        assert await sdk.result(call) == "done"
        events = [entry.event for entry in rig.engine.log.recent(20, "warning")]
        assert events == ["pressure_changed", "emitted_message_refused"]


async def test_engine_notices_by_itself_that_its_loop_is_late() -> None:
    config = configured(admission={"loop_delay": "5ms", "memory": 0}, storage={"path": ":memory:"})
    async with Engine(config) as engine, asyncio.timeout(30):
        while engine.monitor.pressure.level == Level.NORMAL:
            time.sleep(0.05)  # noqa: ASYNC251 - it is what makes the loop late
            await asyncio.sleep(0)
        assert engine.monitor.pressure.because.startswith("event loop: at least ")
