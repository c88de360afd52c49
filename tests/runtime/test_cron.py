"""Cron against brute force: every minute around changes of daylight saving time is asked whether it matches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amx_server.runtime.cron import Cron, CronError

MINUTE = timedelta(minutes=1)

# Zone and a day near a change: by an hour at night, by half an hour, at midnight, and none.
CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 28, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 24, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 10, 31, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 3, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 2, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 11, 3, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 2, 16, tzinfo=UTC)),
    ("Asia/Kolkata", datetime(2026, 3, 28, tzinfo=UTC)),
    ("UTC", datetime(2026, 3, 28, tzinfo=UTC)),
]


def field(low: int, high: int) -> st.SearchStrategy[tuple[str, set[int]]]:
    number = st.integers(low, high)
    return st.one_of(
        st.just(("*", set(range(low, high + 1)))),
        st.sampled_from([2, 7, 15]).map(lambda step: (f"*/{step}", set(range(low, high + 1, step)))),
        st.sets(number, min_size=1, max_size=3).map(lambda some: (",".join(map(str, some)), some)),
        st.tuples(number, number)
        .map(sorted)
        .map(lambda ends: (f"{ends[0]}-{ends[1]}", set(range(ends[0], ends[1] + 1)))),
    )


def ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def brute_force(minutes: set[int], hours: set[int], fixed: bool, zone: ZoneInfo, start: datetime) -> list[int]:
    """Occurrences of `minutes hours * * *` in the two days after `start`."""
    end = start + timedelta(days=2)

    def matches(local: datetime) -> bool:
        return local.minute in minutes and local.hour in hours

    moments = [start + n * MINUTE for n in range(1, 2 * 24 * 60 + 1)]
    if not fixed:
        return [ms(m) for m in moments if matches(m.astimezone(zone))]
    # What the local clock shows or passes over, minute by minute, with the first moment at which it does.
    first: dict[datetime, datetime] = {}
    shown = start.astimezone(zone).replace(tzinfo=None)
    for moment in moments:
        local = moment.astimezone(zone).replace(tzinfo=None)
        passed = shown + MINUTE
        while passed <= local:
            first.setdefault(passed, moment)
            passed += MINUTE
        shown = max(shown, local)
    return sorted({ms(m) for local, m in first.items() if matches(local) and m <= end})


@settings(max_examples=80, deadline=None)
@given(field(0, 59), field(0, 23), st.sampled_from(CHANGES), st.booleans())
def test_cron_agrees_with_brute_force_around_clock_changes(
    minute: tuple[str, set[int]], hour: tuple[str, set[int]], change: tuple[str, datetime], seconds: bool
) -> None:
    zone, start = change
    fixed = minute[0][0] != "*" and hour[0][0] != "*"
    expected = brute_force(minute[1], hour[1], fixed, ZoneInfo(zone), start)
    cron = Cron(f"{'0 ' if seconds else ''}{minute[0]} {hour[0]} * * *", zone)
    end = ms(start + timedelta(days=2))
    found = []
    for occurrence in cron.occurrences(ms(start)):
        if occurrence > end:
            break
        found.append(occurrence)
    assert found == expected
    # One at a time, as after restarts, and backwards.
    for previous, occurrence in zip([ms(start), *expected[:20]], expected[:21], strict=False):
        assert cron.next_after(previous) == occurrence
    assert cron.latest(ms(start), end, 5) == expected[-5:]


def local_times(cron: Cron, zone: str, start: datetime, count: int) -> list[str]:
    moments = islice(cron.occurrences(ms(start)), count)
    return [datetime.fromtimestamp(m / 1000, ZoneInfo(zone)).strftime("%d. %H:%M:%S%z") for m in moments]


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *"])
def test_cron_at_a_time_in_the_gap_occurs_right_after_it(expression: str) -> None:
    times = local_times(Cron(expression, "Europe/Berlin"), "Europe/Berlin", datetime(2026, 3, 28, tzinfo=UTC), 3)
    assert times == ["28. 02:30:00+0100", "29. 03:00:00+0200", "30. 02:30:00+0200"]


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *"])
def test_cron_at_a_time_that_comes_twice_occurs_the_first_time(expression: str) -> None:
    times = local_times(Cron(expression, "Europe/Berlin"), "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC), 2)
    assert times == ["25. 02:30:00+0200", "26. 02:30:00+0100"]


def test_cron_every_half_hour_goes_on_through_the_repeated_hour() -> None:
    times = local_times(
        Cron("*/30 * * * *", "Europe/Berlin"), "Europe/Berlin", datetime(2026, 10, 24, 23, 45, tzinfo=UTC), 5
    )
    assert times == [
        "25. 02:00:00+0200",
        "25. 02:30:00+0200",
        "25. 02:00:00+0100",
        "25. 02:30:00+0100",
        "25. 03:00:00+0100",
    ]


def test_cron_with_seconds() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert local_times(Cron("*/20 59 23 L * *"), "UTC", start, 3) == [
        "31. 23:59:00+0000",
        "31. 23:59:20+0000",
        "31. 23:59:40+0000",
    ]


def test_cron_latest_of_millions_is_found_without_counting_them() -> None:
    start, end = ms(datetime(2020, 1, 1, tzinfo=UTC)), ms(datetime(2026, 1, 1, tzinfo=UTC)) + 500
    assert Cron("* * * * * *").latest(start, end, 2) == [end - 1500, end - 500]
    assert Cron("0 0 29 2 *").latest(start, end, 5) == [ms(datetime(y, 2, 29, tzinfo=UTC)) for y in (2020, 2024)]


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("61 * * * *", "", "the minute field '61'"),
        ("* 24 * * *", "", "the hour field '24'"),
        ("* * 0 * *", "", "the day-of-month field '0'"),
        ("* * * 13 *", "", "the month field '13'"),
        ("* * * * 9", "", "the day-of-week field '9'"),
        ("99 * * * * *", "", "the second field '99'"),
        ("* * * *", "", "has 4 fields"),
        ("", "", "has 0 fields"),
        ("* * * * * * *", "", "has 7 fields"),
        ("0 0 31 2 *", "", "the day-of-month field '31'"),
        ("*/0 * * * *", "", "the minute field '*/0'"),
        ("²  * * * *", "", "the minute field"),
        ("0 0 * * *", "Mars/Olympus", "time zone 'Mars/Olympus' is unknown"),
        ("0 0 * * *", "../../etc/passwd", "is unknown"),
        ("0 0 * * *", "Europe", "time zone 'Europe' is unknown"),
    ],
)
def test_cron_error_names_the_field(expression: str, zone: str, words: str) -> None:
    with pytest.raises(CronError) as raised:
        Cron(expression, zone)
    assert words in str(raised.value)


@given(st.text("0123456789*/-,L#W MONJAN ", max_size=30))
@settings(max_examples=200, deadline=None)
def test_cron_of_any_text_is_read_or_refused(text: str) -> None:
    try:
        cron = Cron(text)
    except CronError:
        return
    first = cron.next_after(0)
    assert first is None or first > 0
