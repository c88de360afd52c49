"""Durations and sizes as people write them, read into seconds and bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, NamedTuple

from msgspec import Meta

from amx_server.core.wording import shown

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|s|m|h|d|w)")
_DURATION_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_ISO_DURATION = re.compile(
    r"P(?:(?P<w>\d+(?:\.\d+)?)W)?(?:(?P<d>\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(?P<h>\d+(?:\.\d+)?)H)?(?:(?P<m>\d+(?:\.\d+)?)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?",
    re.IGNORECASE,
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(b|[kmgt]i?b?)?", re.IGNORECASE)
_SIZE_POWER = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_duration(value: object) -> float:
    """Seconds from `24h`, `1h30m`, `500ms`, ISO 8601 (`PT5M`, `P1DT2H`), a timedelta or a number of seconds.

    Raises ValueError, which says what can be written, for anything else, negative durations included.
    """
    seconds: float | None = None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value
    elif isinstance(value, str):
        seconds = _duration_of_text(value.strip())
    if seconds is None or not 0 <= seconds < 1e11:
        raise ValueError(
            f"{shown(value)} is not a duration; write for example 30s, 500ms, 24h, PT5M or seconds as a number"
        )
    return float(seconds)


def _duration_of_text(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        pass
    if text and _DURATION_PART.sub("", text).strip() == "":
        return sum(float(number) * _DURATION_SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    match = _ISO_DURATION.fullmatch(text)
    if match and any(match.groups()) and text[-1] not in "Tt":
        return sum(float(number or 0) * _DURATION_SECONDS[unit] for unit, number in match.groupdict().items())
    return None


def parse_size(value: object) -> int:
    """Bytes from `16MiB`, `4 kB`, `512` or a number. `KiB`, `MiB`, … are powers of 1024, `kB`, `MB`, … of 1000.

    Raises ValueError, which says what can be written, for anything else, negative sizes and those of 2^63 bytes and
    more included.
    """
    size: float = -1
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        unit = (match[2] or "").lower()
        base: int = 1024 if "i" in unit else 1000
        size = float(match[1]) * float(base ** _SIZE_POWER[unit[:1]])
    if not 0 <= size < 1 << 63:
        raise ValueError(f"{shown(value)} is not a size; write for example 16MiB, 256KiB, 4MB or bytes as a number")
    return round(size)


class Written(NamedTuple):
    """In an annotation: how people write such a value.

    parse: the value of what is written; raises ValueError, which says what can be written. noun, unit: what messages
    about its bounds call it, and what they count in.
    """

    parse: Callable[[object], float]
    noun: str
    unit: str


Duration = Annotated[float, Written(parse_duration, "a duration", "seconds")]
"""Seconds."""
Size = Annotated[int, Written(parse_size, "a size", "bytes")]
"""Bytes."""
Port = Annotated[int, Meta(ge=0, le=65_535)]
"""A TCP port; 0: any free one."""
