"""JSON whose numbers keep their text, so that `1` is not `1.0` and no digit is lost. Standard library only."""

from __future__ import annotations

import json
from typing import Any


class Real(float):
    """A number with a fraction or an exponent (or `-0`): equal to another only if it is written the same."""

    text: str

    def __new__(cls, text: str) -> Real:
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Real) and self.text == other.text

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return self.text


def parse(data: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError if it is not JSON, or has a key twice."""
    if isinstance(data, bytes):
        data = data.decode("utf-8")
    return json.loads(
        data, parse_int=_integer, parse_float=Real, parse_constant=_refuse, object_pairs_hook=_without_repeats
    )


def dump(value: Any) -> str:
    """The value as compact JSON text. Raises ValueError if it has none."""
    return "".join(_written(value))


def _integer(text: str) -> int | Real:
    return Real(text) if text == "-0" else int(text)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)}' appears twice")
    return found


def _written(value: Any) -> list[str]:
    if isinstance(value, Real):
        return [value.text]
    if value is None or isinstance(value, bool | int | str):
        return [json.dumps(value, ensure_ascii=False)]
    if isinstance(value, float):
        return [json.dumps(value, allow_nan=False)]
    parts: list[str] = []
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is not text")
            parts += [",", json.dumps(key, ensure_ascii=False), ":", *_written(inner)]
        return ["{", *parts[1:], "}"]
    if isinstance(value, list | tuple):
        for inner in value:
            parts += [",", *_written(inner)]
        return ["[", *parts[1:], "]"]
    raise ValueError(f"{value!r} has no JSON form")
