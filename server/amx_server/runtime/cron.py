"""Cron expressions with seconds and time zones: the moments at which one occurs. Parsing is cronsim's.

Daylight saving time, as in Debian's cron: an expression with a fixed minute and hour occurs once a day, the first time
where the clock is set back, right after the gap where it is set forward. One with `*` in its minute or hour counts
real time: it occurs whenever the local clock matches, also while an hour repeats, and not in a gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_SEGMENT_DAYS = 400
_NAMES = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CronError(ValueError):
    """What is wrong with an expression, for people."""


class Cron:
    """One expression in one time zone. All times are milliseconds since the Unix epoch."""

    __slots__ = ("_at_fixed_times", "_expression", "_segment", "_zone")

    def __init__(self, expression: str, time_zone: str = "") -> None:
        """Raises CronError: a field that cannot be read, an unknown time zone, or no occurrence in 50 years."""
        self._expression = expression
        self._zone = _zone(time_zone)
        try:
            naive = next(CronSim(expression, datetime(2000, 1, 1)), None)
        except (CronSimError, ValueError) as error:
            raise CronError(_explain(expression, str(error))) from None
        if naive is None:
            raise CronError(f"'{expression}' never occurs")
        minute, hour = expression.split()[-5:-3]
        self._at_fixed_times = minute[0] != "*" and hour[0] != "*"
        # The last stretch of time without a change of the UTC offset: (from, until, offset).
        self._segment = (_EPOCH, _EPOCH, timedelta())

    def next_after(self, after_ms: int) -> int | None:
        """The first occurrence later than `after_ms`; None if there is none within decades."""
        return next(self.occurrences(after_ms), None)

    def latest(self, after_ms: int, until_ms: int, count: int) -> list[int]:
        """The last `count` occurrences later than `after_ms` and not later than `until_ms`, in order."""
        # Look back in growing steps: there may be millions since `after_ms`.
        window_ms = 1000 * count
        while True:
            start = max(after_ms, until_ms - window_ms)
            found: deque[int] = deque(maxlen=count)
            for occurrence in self.occurrences(start):
                if occurrence > until_ms:
                    break
                found.append(occurrence)
            if len(found) == count or start == after_ms:
                return list(found)
            window_ms *= 8

    def occurrences(self, after_ms: int) -> Iterator[int]:
        """Every occurrence later than `after_ms`, in order, each once."""
        after = _EPOCH + timedelta(milliseconds=after_ms)
        moments = self._fixed_times(after) if self._at_fixed_times else self._matching_times(after)
        for moment in moments:
            yield int((moment - _EPOCH) / _SECOND) * 1000

    def _fixed_times(self, after: datetime) -> Iterator[datetime]:
        last = after
        for local in CronSim(self._expression, self._local(after)):
            moment = self._first_moment(local)
            if moment > last:
                last = moment
                yield moment

    def _matching_times(self, after: datetime) -> Iterator[datetime]:
        start = after.replace(microsecond=0) + _SECOND
        while True:
            until, offset = self._offset_segment(start)
            for local in CronSim(self._expression, (start + offset).replace(tzinfo=None) - _SECOND):
                moment = local.replace(tzinfo=UTC) - offset
                if moment >= until:
                    break
                yield moment
            else:
                return
            start = until

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone).replace(tzinfo=None)

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self._zone).utcoffset() or timedelta()

    def _first_moment(self, local: datetime) -> datetime:
        """The first moment at which the local clock shows `local`, or passes over it."""
        moment = local.replace(tzinfo=self._zone).astimezone(UTC)
        if self._local(moment) == local:
            return moment
        before = local.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        return self._change_between(before, moment)

    def _offset_segment(self, moment: datetime) -> tuple[datetime, timedelta]:
        """Until when the UTC offset surely is what it is at `moment`, and that offset."""
        since, until, offset = self._segment
        if not since <= moment < until:
            offset = self._offset(moment)
            until = moment
            for _ in range(_SEGMENT_DAYS):
                until += _DAY
                if self._offset(until) != offset:
                    until = self._change_between(until - _DAY, until)
                    break
            self._segment = (moment, until, offset)
        return until, offset

    def _change_between(self, before: datetime, after: datetime) -> datetime:
        """The first moment with another offset than `before` has; `after` has another one."""
        offset = self._offset(before)
        while after - before > _SECOND:
            middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
            if self._offset(middle) == offset:
                before = middle
            else:
                after = middle
        return after


def _zone(name: str) -> tzinfo:
    if name in ("", "UTC"):
        return UTC  # works where no time zone database is installed
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise CronError(f"time zone '{name}' is unknown; use an IANA name such as Europe/Berlin") from None


def _explain(expression: str, error: str) -> str:
    fields = expression.split()
    if len(fields) not in (5, 6):
        return (
            f"'{expression}' has {len(fields)} fields; write five (minute hour day-of-month month day-of-week)"
            " or six (with second first)"
        )
    names = _NAMES[6 - len(fields) :]
    for name, text in zip(names, fields, strict=True):
        if error == f"Bad {name}":
            return f"'{expression}': the {name} field '{text}' is not valid or never occurs"
    return f"'{expression}': {error}"
