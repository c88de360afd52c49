"""The wall clock of a running engine jumps by an hour, forth and back: no occurrence of a schedule runs twice."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.process.harness import engine_process, until, worker_process

pytestmark = [pytest.mark.process, pytest.mark.fault, pytest.mark.slow]

HOUR = 3600.0
ENTRY = ("-m", "tests.faults.jumping_engine")


class Clock:
    """What the engine takes for the time: this machine's, and an offset."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0)

    def set(self, seconds: float) -> None:
        temporary = self.file.with_suffix(".new")
        temporary.write_text(str(seconds))
        os.replace(temporary, self.file)


class Ticks:
    """What the schedules of `Ticker` have run."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> list[tuple[str, str]]:
        """Name of the schedule and id of the message, one for each run."""
        if not self.file.exists():
            return []
        lines = [line.split() for line in self.file.read_text().splitlines()]
        return [(line[0], line[1]) for line in lines]

    def count(self, name: str) -> int:
        return sum(one == name for one, _ in self.read())

    async def more(self, name: str, times: int) -> None:
        """Returns when it has run so often again."""
        before = self.count(name)
        await until(lambda: self.count(name) >= before + times, f"{times} more runs of {name}")

    def assert_none_ran_twice(self) -> None:
        twice = {id: times for (_, id), times in Counter(self.read()).items() if times > 1}
        assert not twice, f"ran more than once: {twice}"


async def test_clock_that_jumps_an_hour_both_ways_runs_no_occurrence_twice(tmp_path: Path) -> None:
    clock, ticks = Clock(tmp_path / "clock"), Ticks(tmp_path / "ticks")
    with (
        engine_process(tmp_path, entry=ENTRY, environment={"AMX_TEST_CLOCK": str(clock.file)}) as engine,
        worker_process(tmp_path, engine.address, "Ticker", TEST_TICKS=str(ticks.file)),
    ):
        await ticks.more("often", 2)
        await ticks.more("every_second", 1)
        assert ticks.count("on_the_hour") <= 1
        hourly = ticks.count("on_the_hour")

        clock.set(HOUR)  # past exactly one full hour
        await until(lambda: ticks.count("on_the_hour") == hourly + 1, "the hour that was jumped over")
        await ticks.more("often", 2)
        await ticks.more("every_second", 2)
        ticks.assert_none_ran_twice()
        before = ticks.count("every_second")

        clock.set(0)  # an hour back: what has run is not due again until its time has come
        await ticks.more("often", 3)  # intervals do not care what people call the time
        assert ticks.count("on_the_hour") <= hourly + 1
        ticks.assert_none_ran_twice()
        assert ticks.count("every_second") <= before + 6

        clock.set(HOUR + 10)  # and forth again, past what ran before the jump back
        await ticks.more("every_second", 1)
        assert ticks.count("on_the_hour") <= hourly + 2
        ticks.assert_none_ran_twice()


async def test_clock_that_is_back_an_hour_after_a_restart_runs_no_occurrence_twice(tmp_path: Path) -> None:
    clock, ticks = Clock(tmp_path / "clock"), Ticks(tmp_path / "ticks")
    with (
        engine_process(tmp_path, entry=ENTRY, environment={"AMX_TEST_CLOCK": str(clock.file)}) as engine,
        worker_process(tmp_path, engine.address, "Ticker", TEST_TICKS=str(ticks.file)),
    ):
        await ticks.more("often", 1)
        for offset in (HOUR, 0, -HOUR, 0):
            # Politely: a run that a kill interrupts is repeated, and what it wrote to the file is there twice.
            await asyncio.to_thread(engine.stop)
            clock.set(offset)
            await asyncio.to_thread(engine.start)
            await ticks.more("often", 2)
            ticks.assert_none_ran_twice()
        assert ticks.count("on_the_hour") <= 2
