"""Order of agent versions: semantic versioning 2.0 precedence, read leniently."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

from amx_server.core.errors import invalid

Precedence: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int, str], ...]]

_VERSION = re.compile(
    r"\s*[vV]?(?P<numbers>[0-9]{1,18}(?:\.[0-9]{1,18}){0,7})"
    r"(?:-(?P<pre>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
    r"(?:\+(?P<build>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?\s*"
)
MAX_VERSION_CHARACTERS = 128


@lru_cache(maxsize=4096)
def precedence(version: str) -> Precedence:
    """A key that sorts versions, https://semver.org/#spec-item-11; build metadata does not count.

    Also read: a leading `v`, fewer or more than three numbers, leading zeros, and empty text as 0.0.0.
    Raises AmxError INVALID_VERSION for anything else.
    """
    match = _VERSION.fullmatch(version or "0") if len(version) <= MAX_VERSION_CHARACTERS else None
    if match is None:
        shown = version[:MAX_VERSION_CHARACTERS]
        raise invalid(
            "INVALID_VERSION",
            f"version '{shown}' is not a semantic version; write it like 1.4.0 or 2.0.0-rc.1",
            version=shown,
        )
    numbers = [int(number) for number in match["numbers"].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()  # 1.0 is 1.0.0
    if match["pre"] is None:
        return tuple(numbers), (1,), ()
    identifiers = tuple((0, int(i), "") if i.isdigit() else (1, 0, i) for i in match["pre"].split("."))
    return tuple(numbers), (0,), identifiers


def newest(versions: Iterable[str]) -> str:
    """The version with the highest precedence; of equal ones the first. Raises ValueError if there is none."""
    return max(versions, key=precedence)
