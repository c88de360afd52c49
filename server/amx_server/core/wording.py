"""What messages call the values that people wrote."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType

_SHOWN_CHARS = 60


def kind_of(value: object) -> str:
    """What a message calls a value that it does not show, in the words of a YAML document."""
    if value is None:
        return "null"
    kinds: tuple[tuple[type | UnionType, str], ...] = (
        (str, "text"), (bool, "true or false"), (int | float, "a number"), (Mapping, "a mapping"),
        (list | tuple, "a list"),
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(value, kind)), f"a {type(value).__name__}")


def shown(value: object) -> str:
    """A text, number, true or false in a message, shortened where it is long; of anything else its kind."""
    if not isinstance(value, str | int | float):
        return kind_of(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 64:
        return "so large a number"
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
