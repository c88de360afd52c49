"""Callbacks at moments of the clock: in order, once, not when taken back, and with real time without being asked."""

from __future__ import annotations

import asyncio

import pytest

from amx_server.core.clock import ManualClock, SystemClock
from amx_server.inference.io.alarms import Alarms


def test_alarms_fire_in_order_of_their_moments_and_once() -> None:
    clock = ManualClock()
    alarms = Alarms(clock, ticking=False)
    fired: list[int] = []
    for number in (3, 1, 2):
        alarms.at(clock.monotonic() + number, lambda number=number: fired.append(number))  # type: ignore[misc]
    clock.advance(2)
    assert alarms.fire() == 2 and fired == [1, 2] and len(alarms) == 1
    clock.advance(2)
    assert alarms.fire() == 1 and alarms.fire() == 0 and fired == [1, 2, 3]


def test_alarm_that_is_taken_back_does_not_fire_and_is_not_kept() -> None:
    clock = ManualClock()
    alarms = Alarms(clock, ticking=False)
    taken_back = [alarms.at(clock.monotonic() + 1, lambda: pytest.fail("it fired")) for _ in range(1000)]
    fired: list[bool] = []
    alarms.at(clock.monotonic() + 1, lambda: fired.append(True))
    for alarm in taken_back:
        alarm.cancel()
        alarm.cancel()
    assert len(alarms) == 1 and len(alarms._heap) < 200
    clock.advance(1)
    assert alarms.fire() == 1 and fired


def test_alarm_that_raises_does_not_hold_up_the_others() -> None:
    clock = ManualClock()
    alarms = Alarms(clock, ticking=False)
    fired: list[bool] = []
    alarms.at(clock.monotonic(), lambda: 1 // 0)  # type: ignore[arg-type]
    alarms.at(clock.monotonic(), lambda: fired.append(True))
    assert alarms.fire() == 2 and fired


async def test_alarms_fire_by_themselves_in_real_time() -> None:
    alarms = Alarms(SystemClock())
    later = asyncio.create_task(alarms.sleep(0.05))
    sooner = asyncio.create_task(alarms.sleep(0.01))
    await sooner
    assert not later.done()
    await later
    assert len(alarms) == 0
    alarms.close()


async def test_timeout_is_raised_by_the_clock_and_not_for_others_cancellations() -> None:
    clock = ManualClock()
    alarms = Alarms(clock, ticking=False)

    async def wait() -> str:
        try:
            async with alarms.timeout(5):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            return "timeout"
        return "never"

    waiting, cancelled, both = (asyncio.create_task(wait()) for _ in range(3))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    clock.advance(5)
    alarms.fire()
    both.cancel()
    assert await waiting == "timeout"
    for task in (cancelled, both):
        with pytest.raises(asyncio.CancelledError):
            await task
