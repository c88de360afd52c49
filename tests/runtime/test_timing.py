"""Schedules: every kind of timing, every policy for missed runs, clocks that jump, restarts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx.v1 import agent_pb2
from amx_server.core.clock import ManualClock
from amx_server.core.errors import AmxError
from amx_server.runtime.timing import MAX_OCCURRENCES, MAX_WAIT_SECONDS, ScheduleState, validate_schedule

START = int(datetime(2026, 6, 1, 10, 30, tzinfo=UTC).timestamp()) * 1000
SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
Schedule = agent_pb2.ScheduleDefinition
SKIP, ONCE, ALL = (
    agent_pb2.MISSED_RUNS_SKIP,
    agent_pb2.MISSED_RUNS_RUN_ONCE,
    agent_pb2.MISSED_RUNS_RUN_ALL,
)


class Driver:
    """A schedule and a clock, and what ran."""

    def __init__(self, definition: agent_pb2.ScheduleDefinition) -> None:
        self.clock = ManualClock(START)
        self.definition = definition
        self.state = ScheduleState.new(definition, START, self.clock.monotonic())
        self.ran: list[int] = []

    def run_due(self) -> list[int]:
        occurrences = self.state.due(self.clock.now_ms(), self.clock.monotonic())
        self.ran += occurrences
        if occurrences:
            self.state.completed(self.clock.now_ms(), self.clock.monotonic())
        return occurrences

    def live(self, seconds: float, step: float = 1.0) -> list[int]:
        """Passes time in steps and returns what ran meanwhile."""
        before = len(self.ran)
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            self.run_due()
        return self.ran[before:]

    def restart(self) -> None:
        state = self.state
        self.state = ScheduleState(
            self.definition,
            state.next_run_at_ms,
            state.last_run_at_ms,
            self.clock.now_ms(),
            self.clock.monotonic(),
        )


def test_fixed_rate_is_anchored_to_its_start() -> None:
    driver = Driver(Schedule(name="s", fixed_rate_ms=2500))
    assert driver.live(10) == [START + 2500, START + 5000, START + 7500, START + 10_000]


def test_fixed_delay_counts_from_the_end_of_the_run() -> None:
    driver = Driver(Schedule(name="s", fixed_delay_ms=2000))
    clock, state = driver.clock, driver.state
    clock.advance(2)
    assert state.due(clock.now_ms(), clock.monotonic()) == [START + 2000]
    clock.advance(60)  # the run takes a minute
    assert state.due(clock.now_ms(), clock.monotonic()) == []
    assert state.wait_seconds(clock.now_ms(), clock.monotonic()) is None
    assert not state.finished
    assert state.completed(clock.now_ms(), clock.monotonic())
    assert state.next_run_at_ms == START + 64_000
    assert driver.live(2) == [START + 64_000]


def test_initial_delay_replaces_the_first_interval() -> None:
    driver = Driver(Schedule(name="s", fixed_rate_ms=10_000, initial_delay_ms=1000))
    assert driver.live(12) == [START + 1000, START + 11_000]


def test_once_runs_once() -> None:
    driver = Driver(Schedule(name="s", once_after_ms=3000))
    assert driver.live(20) == [START + 3000]
    assert driver.state.finished
    driver.restart()
    assert driver.state.finished and driver.live(20) == []


def test_once_without_wait_is_due_at_once() -> None:
    assert Driver(Schedule(name="s", once_after_ms=0)).run_due() == [START]


def test_cron_runs_at_its_moments() -> None:
    driver = Driver(Schedule(name="s", cron="*/5 * * * * *"))
    assert driver.live(11) == [START + 5000, START + 10_000]


@pytest.mark.parametrize("timing", [{"fixed_rate_ms": HOUR}, {"cron": "30 * * * *"}])
@pytest.mark.parametrize(("missed", "expected"), [(SKIP, []), (ONCE, [5]), (ALL, [1, 2, 3, 4, 5]), (0, [5])])
def test_missed_occurrences_while_the_process_was_down(
    timing: dict[str, int | str], missed: agent_pb2.MissedRuns, expected: list[int]
) -> None:
    driver = Driver(Schedule(name="s", missed=missed, **timing))  # type: ignore[arg-type]
    driver.clock.jump(5.5 * 3600)
    driver.restart()
    assert driver.run_due() == [START + n * HOUR for n in expected]
    assert driver.run_due() == []
    assert driver.live(3600, step=10) == [START + 6 * HOUR]


def test_missed_once_is_forgotten_or_made_up_for() -> None:
    for missed, expected in ((SKIP, []), (ONCE, [START + MINUTE])):
        driver = Driver(Schedule(name="s", once_after_ms=MINUTE, missed=missed))
        driver.clock.jump(3600)
        driver.restart()
        assert driver.run_due() == expected
        assert driver.state.finished


def test_missed_fixed_delay_is_skipped_by_a_whole_delay() -> None:
    driver = Driver(Schedule(name="s", fixed_delay_ms=MINUTE, missed=SKIP))
    driver.clock.jump(3600)
    assert driver.run_due() == []
    assert driver.live(61) == [START + HOUR + MINUTE]


def test_slightly_late_is_not_missed() -> None:
    driver = Driver(Schedule(name="s", fixed_rate_ms=MINUTE, missed=SKIP))
    driver.clock.advance(63)
    assert driver.run_due() == [START + MINUTE]


def test_run_all_makes_up_for_a_bounded_number() -> None:
    for timing in ({"fixed_rate_ms": SECOND}, {"cron": "* * * * * *"}):
        driver = Driver(Schedule(name="s", missed=ALL, **timing))
        driver.clock.jump(1_000_000)
        ran = driver.run_due()
        assert len(ran) == MAX_OCCURRENCES
        assert ran[-1] == driver.clock.now_ms()
        assert driver.live(2) == [ran[-1] + SECOND, ran[-1] + 2 * SECOND]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("timing", [{"fixed_rate_ms": MINUTE}, {"fixed_delay_ms": MINUTE}])
def test_intervals_go_on_when_the_wall_clock_goes_back(timing: dict[str, int], restarted: bool) -> None:
    driver = Driver(Schedule(name="s", **timing))  # type: ignore[arg-type]
    assert len(driver.live(180)) == 3
    driver.clock.jump(-3600)
    if restarted:
        driver.restart()
    assert len(driver.live(180)) == 3
    assert len(set(driver.ran)) == len(driver.ran) == 6


def test_once_fires_in_time_when_the_wall_clock_goes_back() -> None:
    driver = Driver(Schedule(name="s", once_after_ms=5 * MINUTE))
    driver.live(60)
    driver.clock.jump(-3600)
    assert driver.live(239) == []
    assert driver.live(2) == [START + 5 * MINUTE]


def test_cron_never_repeats_when_the_wall_clock_goes_back_and_goes_on_when_it_has_caught_up() -> None:
    driver = Driver(Schedule(name="s", cron="*/10 * * * *"))
    assert len(driver.live(HOUR / 1000, step=5)) == 6
    driver.clock.jump(-3600)
    driver.restart()
    assert driver.live(HOUR / 1000 - 5, step=5) == []
    assert driver.live(21 * 60, step=5) == [START + HOUR + 10 * MINUTE, START + HOUR + 20 * MINUTE]


@pytest.mark.parametrize("missed", [SKIP, ONCE, ALL])
@given(
    timing=st.sampled_from(
        [{"fixed_rate_ms": 7000}, {"fixed_delay_ms": 7000}, {"cron": "*/7 * * * * *"}, {"cron": "30 10,11 * * *"}]
    ),
    steps=st.lists(st.one_of(st.floats(0.1, 30), st.sampled_from([-3600, 3600, -30, 30, "restart"])), max_size=30),
)
def test_no_occurrence_runs_twice_whatever_the_clock_does(
    missed: agent_pb2.MissedRuns, timing: dict[str, int | str], steps: list[float | int | str]
) -> None:
    driver = Driver(Schedule(name="s", missed=missed, **timing))  # type: ignore[arg-type]
    for step in steps:
        if isinstance(step, str):
            driver.restart()
        elif isinstance(step, int):
            driver.clock.jump(step)
        else:
            driver.clock.advance(step)
        driver.run_due()
    assert driver.ran == sorted(set(driver.ran))
    if "cron" not in timing:
        assert driver.state.wait_seconds(driver.clock.now_ms(), driver.clock.monotonic()) is not None
        driver.clock.advance(7.1)
        assert len(driver.run_due()) in ((1, 2) if missed == ALL else (1,))


def test_restart_during_the_run_of_a_fixed_delay_plans_another() -> None:
    driver = Driver(Schedule(name="s", fixed_delay_ms=MINUTE))
    driver.clock.advance(60)
    assert driver.state.due(driver.clock.now_ms(), driver.clock.monotonic()) == [START + MINUTE]
    driver.restart()
    assert driver.state.next_run_at_ms == START + 2 * MINUTE
    driver.clock.advance(60)
    assert driver.state.due(driver.clock.now_ms(), driver.clock.monotonic()) == [START + 2 * MINUTE]
    driver.clock.jump(-3600)
    driver.restart()
    assert len(driver.live(61)) == 1


def test_paused_schedule_skips_what_passed() -> None:
    driver = Driver(Schedule(name="s", fixed_rate_ms=MINUTE, missed=ALL))
    driver.clock.advance(600)
    driver.state.skip(driver.clock.now_ms(), driver.clock.monotonic())
    assert driver.run_due() == []
    assert driver.live(60) == [START + 11 * MINUTE]


def test_replacing_a_schedule_does_not_repeat_what_ran() -> None:
    clock = ManualClock(START)
    once = Schedule(name="s", once_after_ms=0)
    state = ScheduleState.new(once, START, clock.monotonic(), START + HOUR)
    assert state.due(START, clock.monotonic()) == [START + HOUR + 1]
    cron = ScheduleState.new(Schedule(name="s", cron="* * * * *"), START, clock.monotonic(), START + HOUR)
    assert cron.next_run_at_ms == START + HOUR + MINUTE


def test_waiting_is_bounded_because_the_wall_clock_may_jump() -> None:
    driver = Driver(Schedule(name="s", fixed_rate_ms=HOUR))
    assert driver.state.wait_seconds(START, driver.clock.monotonic()) == MAX_WAIT_SECONDS
    driver.clock.advance(3599)
    assert driver.state.wait_seconds(driver.clock.now_ms(), driver.clock.monotonic()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("definition", "field", "words"),
    [
        (Schedule(name="s"), "timing", "none of fixed_delay_ms"),
        (Schedule(name="s", fixed_rate_ms=0), "fixed_rate_ms", "at least 1"),
        (Schedule(name="s", fixed_delay_ms=2**63), "fixed_delay_ms", "100 years"),
        (Schedule(name="s", cron="99 * * * *"), "cron", "minute field '99'"),
        (Schedule(name="s", cron="* * * * *", time_zone="Nowhere/At_All"), "time_zone", "Nowhere/At_All"),
        (Schedule(name="s", cron="* * * * *", initial_delay_ms=5), "initial_delay_ms", "no meaning"),
        (Schedule(name="s", fixed_rate_ms=5, time_zone="UTC"), "time_zone", "no meaning"),
    ],
)
def test_bad_schedule_is_refused_by_field(definition: agent_pb2.ScheduleDefinition, field: str, words: str) -> None:
    with pytest.raises(AmxError) as raised:
        validate_schedule(definition)
    assert raised.value.reason == "INVALID_SCHEDULE"
    assert raised.value.metadata == {"schedule": "s", "field": field}
    assert words in raised.value.message and "'s'" in raised.value.message
