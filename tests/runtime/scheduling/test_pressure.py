"""How busy the engine is: what readings mean, how levels rise and fall, and what is taken in at which level."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx_server.core.errors import RESOURCE_EXHAUSTED, AmxError
from amx_server.runtime.scheduling.admission import Admission, admits
from amx_server.runtime.scheduling.pressure import (
    HOLD_SECONDS,
    NOTHING,
    Level,
    Pressure,
    PressurePolicy,
    Readings,
    StandingDelay,
    Thresholds,
)

GIB = 1 << 30
CALM = Readings(memory_bytes=GIB, memory_limit=16 * GIB)


def full(share: float) -> Readings:
    return Readings(memory_bytes=int(share * 1000), memory_limit=1000)


def sampled(*readings: Readings, step: float = 0.02) -> Pressure:
    """Pressure after these readings, one tick after the other."""
    pressure = Pressure()
    for number, reading in enumerate(readings):
        pressure.sample(number * step, reading)
    return pressure


# --- what readings mean ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("readings", "level", "because"),
    [
        (CALM, Level.NORMAL, NOTHING),
        (Readings(), Level.NORMAL, NOTHING),
        (full(0.749), Level.NORMAL, NOTHING),
        (full(0.75), Level.ELEVATED, "memory: 0 MiB of 0 MiB are taken (75%), ELEVATED from 75%"),
        (
            Readings(memory_bytes=14 * GIB, memory_limit=16 * GIB),
            Level.HIGH,
            "memory: 14.00 GiB of 16.00 GiB are taken (88%), HIGH from 85%",
        ),
        (full(0.96), Level.CRITICAL, "memory: 0 MiB of 0 MiB are taken (96%), CRITICAL from 95%"),
        (Readings(loop_delay=0.09), Level.NORMAL, NOTHING),
        (Readings(loop_delay=0.1), Level.ELEVATED, "event loop: at least 100 ms late at every turn, ELEVATED from 100"),
        (
            Readings(loop_delay=2.0),
            Level.CRITICAL,
            "event loop: at least 2.0 s late at every turn, CRITICAL from 1.6 s",
        ),
        (Readings(queue_delay=3.0), Level.ELEVATED, "slots: work waits at least 3.0 s for one on every link, ELEVATED"),
        (Readings(write_share=0.8), Level.HIGH, "storing: 80% of its queue is filled, HIGH from 75%"),
    ],
)
def test_level_follows_each_reading_and_says_why_with_its_numbers(
    readings: Readings, level: Level, because: str
) -> None:
    pressure = sampled(readings, readings, readings)
    assert pressure.level == level
    assert pressure.because.startswith(because)


def test_level_is_that_of_the_most_serious_reading() -> None:
    both = Readings(memory_bytes=76, memory_limit=100, loop_delay=0.5)
    pressure = sampled(both, both, both)
    assert pressure.level == Level.HIGH
    assert pressure.because.startswith("event loop")


def test_level_is_never_critical_because_work_waits_for_slots() -> None:
    waiting = Readings(queue_delay=1e9)
    assert sampled(waiting, waiting, waiting).level == Level.HIGH


def test_thresholds_must_rise() -> None:
    with pytest.raises(ValueError, match="thresholds rise"):
        Thresholds(0.9, 0.8, 0.95)


# --- delays that stand -----------------------------------------------------------------------------------------------


def test_single_late_turn_is_no_pressure_however_late() -> None:
    late = Readings(loop_delay=30.0)
    assert sampled(CALM, CALM, late, CALM, CALM).level == Level.NORMAL
    assert sampled(late).level == Level.NORMAL


def test_loop_that_is_late_at_every_turn_is_pressure_even_where_a_turn_is_longer_than_the_window() -> None:
    late = Readings(loop_delay=2.0)
    assert sampled(late, late, late, step=2.02).level == Level.CRITICAL


@given(st.lists(st.floats(0, 100), min_size=3, max_size=100))
def test_standing_delay_is_never_more_than_the_latest(delays: list[float]) -> None:
    standing = StandingDelay(window=0.5)
    for number, delay in enumerate(delays):
        found = standing.note(number * 0.02, delay)
        assert found <= delay
        assert found in (0.0, *delays)


# --- rising and falling ----------------------------------------------------------------------------------------------


def test_level_rises_at_once_and_falls_only_after_it_was_lower_for_a_while() -> None:
    pressure = Pressure()
    seen = []
    for now, share in ((0.0, 0.96), (1.0, 0.5), (1.0 + HOLD_SECONDS - 0.01, 0.5), (1.0 + HOLD_SECONDS, 0.5)):
        changed = pressure.sample(now, full(share))
        seen.append((changed, pressure.level, pressure.because.partition(":")[0]))
    assert seen == [
        (True, Level.CRITICAL, "memory"),
        (False, Level.CRITICAL, "memory"),
        (False, Level.CRITICAL, "memory"),
        (True, Level.NORMAL, NOTHING),
    ]


def test_level_falls_to_the_highest_that_readings_meant_meanwhile() -> None:
    pressure = Pressure()
    pressure.sample(0.0, full(0.96))
    pressure.sample(1.0, full(0.8))
    pressure.sample(2.0, full(0.1))
    assert pressure.sample(1.0 + HOLD_SECONDS, full(0.1))
    assert pressure.level == Level.ELEVATED


def test_memory_has_a_level_of_its_own_that_other_readings_do_not_hold() -> None:
    pressure = Pressure()
    waiting = Readings(memory_bytes=90, memory_limit=100, queue_delay=3.0)
    for number in range(5):
        pressure.sample(number * 0.1, waiting)
    assert (pressure.level, pressure.memory_level) == (Level.HIGH, Level.HIGH)
    for number in range(5):
        pressure.sample(1 + number, Readings(memory_bytes=10, memory_limit=100, queue_delay=3.0))
    assert (pressure.level, pressure.memory_level) == (Level.ELEVATED, Level.NORMAL)


def test_level_does_not_fall_while_readings_return_to_it() -> None:
    pressure = Pressure()
    for number in range(100):
        pressure.sample(number * 0.5, full(0.96 if number % 3 == 0 else 0.1))
    assert pressure.level == Level.CRITICAL


@given(st.lists(st.floats(0, 1.2), min_size=1, max_size=60), st.floats(0.01, 3.0))
def test_level_is_never_below_what_readings_mean(shares: list[float], step: float) -> None:
    pressure, policy = Pressure(), PressurePolicy()
    for number, share in enumerate(shares):
        before = pressure.level
        changed = pressure.sample(number * step, full(share))
        assert pressure.level >= policy.memory.level(int(share * 1000) / 1000)
        assert changed == (pressure.level != before)
        assert pressure.memory_level == pressure.level
        assert (pressure.because == NOTHING) == (pressure.level == Level.NORMAL)


# --- what is taken in ------------------------------------------------------------------------------------------------

N, E, H, C = Level


@pytest.mark.parametrize(
    ("level", "taken", "durable", "asleep", "durable_asleep", "continued"),
    [
        # Least urgent priority that is taken: volatile, durable, volatile for one asleep, durable for one asleep,
        # volatile from a running handler.
        (N, 5, 5, 5, 5, 5),
        (E, 5, 5, 5, 5, 5),
        (H, 3, 5, 3, 3, 5),
        (C, 2, 2, 2, 2, 3),
    ],
)
def test_admission_at_each_level(
    level: Level, taken: int, durable: int, asleep: int, durable_asleep: int, continued: int
) -> None:
    for priority in range(1, 6):
        assert admits(level, priority) == (priority <= taken)
        assert admits(level, priority, durable=True) == (priority <= durable)
        assert admits(level, priority, awake=False) == (priority <= asleep)
        assert admits(level, priority, durable=True, awake=False) == (priority <= durable_asleep)
        assert admits(level, priority, continues=True) == (priority <= continued)


@given(st.sampled_from(Level), st.integers(1, 5), st.booleans(), st.booleans(), st.booleans())
def test_admission_never_prefers_the_less_urgent_nor_a_busier_engine(
    level: Level, priority: int, durable: bool, awake: bool, continues: bool
) -> None:
    taken = admits(level, priority, durable=durable, awake=awake, continues=continues)
    if taken and priority > 1:
        assert admits(level, priority - 1, durable=durable, awake=awake, continues=continues)
    if taken and level > Level.NORMAL:
        assert admits(Level(level - 1), priority, durable=durable, awake=awake, continues=continues)
    if priority <= 2:
        assert taken


def test_refusal_says_what_is_scarce_and_when_to_try_again() -> None:
    admission = Admission()
    admission.level, admission.because = Level.HIGH, "memory: 14 GiB of 16 GiB are taken"
    admission.require(3)
    with pytest.raises(AmxError) as caught:
        admission.require(5, target="Echo/a")
    error = caught.value
    assert (error.code, error.reason, error.retryable, error.retry_delay_ms) == (
        RESOURCE_EXHAUSTED,
        "ENGINE_PRESSURE",
        True,
        1000,
    )
    assert error.metadata == {"level": "high", "priority": "background"}
    assert "14 GiB of 16 GiB" in error.message
    assert "no background work for Echo/a" in error.message
    assert admission.refused == 1


def test_nothing_is_asked_while_nothing_can_be_refused() -> None:
    admission = Admission()
    assert not admission.strict
    admission.level = Level.ELEVATED
    assert not admission.strict
    admission.level = Level.HIGH
    assert admission.strict
