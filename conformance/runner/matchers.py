"""What cases expect: matchers of messages and of the JSON in them, and where something does not match.

Needs the standard library and protobuf only.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from conformance.runner import json_text
from conformance.runner.json_text import Real
from conformance.runner.messages import (
    BOOL,
    BYTES,
    ENUM,
    MESSAGE,
    REALS,
    STRING,
    FieldDescriptor,
    Obj,
    is_code,
    is_map,
    is_payload,
    is_repeated,
    shown,
)
from conformance.runner.values import integer, repeat, special

MATCHERS = frozenset(
    {
        "$exact",
        "$unordered",
        "$contains",
        "$regex",
        "$bind",
        "$match",
        "$ref",
        "$json",
        "$text",
        "$absent",
        "$any",
        "$not",
        "$one_of",
        "$range",
        "$length",
        "$bytes",
        "$repeat",
        "$above",
    }
)

JSON_TYPES = ("", "application/json")

_SHOWN = 300  # characters of a value in a message

Bindings = dict[str, Any]


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING: Any = _Missing()


class Mismatch(Exception):
    """What was expected is not what came: where, what was expected, what was there."""

    def __init__(self, where: str, expected: str, got: str) -> None:
        super().__init__(f"expected {expected} at {where or 'the top'}, got {got}")
        self.where = where
        self.expected = expected
        self.got = got


def match(matcher: Any, actual: Any, where: str, bindings: Bindings, *, field: FieldDescriptor | None = None) -> None:
    """Returns if `actual` matches; raises Mismatch if not. What `$bind` names is then in `bindings`.

    actual: what `messages.decode` gives, or parsed JSON. where: its place, for the message. field: its field, if it
    is one.
    """
    _match(matcher, actual, where, bindings, field, False)


def matches(matcher: Any, actual: Any, bindings: Bindings, *, field: FieldDescriptor | None = None) -> bool:
    """Whether it matches; `bindings` change only if it does."""
    return _try(matcher, actual, "", bindings, field, False) is None


def text(value: Any) -> str:
    """A value for a message, cut if it is long."""
    if value is MISSING:
        return "nothing"
    try:
        written = json_text.dump(shown(value))
    except ValueError:
        written = repr(value)
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}… ({len(written)} characters)"


def _match(
    matcher: Any, actual: Any, where: str, bindings: Bindings, field: FieldDescriptor | None, exact: bool
) -> None:
    name = special(matcher)
    if name:
        _match_special(name, matcher, actual, where, bindings, field, exact)
    elif isinstance(matcher, Mapping):
        if actual is MISSING and _may_be_absent(field):
            assert field is not None
            actual = Obj(field.message_type)
        if not isinstance(actual, dict):
            raise Mismatch(where, f"an object like {text(matcher)}", text(actual))
        _match_fields(matcher, actual, where, bindings, exact)
    elif isinstance(matcher, list):
        if not isinstance(actual, list):
            raise Mismatch(where, f"a list like {text(matcher)}", text(actual))
        inner = field if field is not None and not is_map(field) else None
        for index, (one, other) in enumerate(zip(matcher, actual, strict=False)):
            _match(one, other, f"{where}[{index}]", bindings, inner, exact)
        if len(matcher) != len(actual):
            raise Mismatch(where, f"{len(matcher)} elements", f"{len(actual)}: {text(actual)}")
    elif not _equal(matcher, actual, field):
        raise Mismatch(where, text(matcher), text(actual))


def _match_fields(
    matcher: Mapping[str, Any], actual: dict[str, Any], where: str, bindings: Bindings, exact: bool
) -> None:
    descriptor = actual.descriptor if isinstance(actual, Obj) else None
    for key, inner in matcher.items():
        place = f"{where}.{key}" if where else str(key)
        field = descriptor.fields_by_name.get(key) if descriptor is not None else None
        value = actual.get(key, MISSING)
        if value is MISSING and field is not None:
            value = _default(field)
        _match(inner, value, place, bindings, field, exact)
    if exact:
        further = [key for key in actual if key not in matcher]
        if further:
            found = {key: actual[key] for key in further}
            raise Mismatch(where, f"no fields but {', '.join(matcher) or 'none'}", text(found))


def _may_be_absent(field: FieldDescriptor | None) -> bool:
    """Whether it is a message whose absence says the same as an empty one."""
    return field is not None and field.type == MESSAGE and field.containing_oneof is None and not is_repeated(field)


def _default(field: FieldDescriptor) -> Any:
    if is_map(field):
        return {}
    if is_repeated(field):
        return []
    if field.type == MESSAGE or field.containing_oneof is not None:
        return MISSING
    if field.type == ENUM:
        return field.enum_type.values_by_number[0].name
    return field.default_value


def _equal(expected: Any, actual: Any, field: FieldDescriptor | None) -> bool:
    if actual is MISSING:
        return False
    if field is not None and not isinstance(actual, dict | list):
        if is_map(field):
            field = field.message_type.fields_by_name["value"]
        if field.type == BYTES:
            return isinstance(expected, str) and base64.b64encode(actual).decode() == expected
        if field.type == ENUM:
            if isinstance(expected, int) and isinstance(actual, str):
                return bool(field.enum_type.values_by_name[actual].number == expected)
            return bool(expected == actual)
        if field.type in REALS:
            return isinstance(expected, int | float) and float(expected) == float(actual)
        if field.type not in (STRING, BOOL, MESSAGE):
            return bool(integer(expected, is_code(field)) == actual)
    if isinstance(expected, bytes):
        return bool(expected == actual)
    if isinstance(expected, bool) or isinstance(actual, bool) or expected is None or actual is None:
        return expected is actual
    if isinstance(expected, float) or isinstance(actual, float):
        return isinstance(expected, Real) and isinstance(actual, Real) and expected.text == actual.text
    return type(expected) is type(actual) and bool(expected == actual)


def _match_special(
    name: str,
    matcher: Mapping[str, Any],
    actual: Any,
    where: str,
    bindings: Bindings,
    field: FieldDescriptor | None,
    exact: bool,
) -> None:
    value = matcher[name]
    if name == "$any":
        return
    if actual is MISSING and name in ("$json", "$text", "$exact", "$bytes") and _may_be_absent(field):
        assert field is not None
        actual = Obj(field.message_type)
    if name == "$exact":
        _match(value, actual, where, bindings, field, True)
    elif name == "$absent":
        absent = actual is MISSING or (field is not None and not isinstance(actual, Obj) and actual == _default(field))
        if absent != bool(value):
            raise Mismatch(where, "nothing" if value else "something", text(actual))
    elif name in ("$bind", "$match"):
        if "$match" in matcher:
            _match(matcher["$match"], actual, where, bindings, field, exact)
        if actual is MISSING:
            raise Mismatch(where, f"something to call '{matcher.get('$bind')}'", "nothing")
        bindings[matcher["$bind"]] = actual
    elif name == "$ref":
        if value not in bindings:
            raise Mismatch(where, f"what is bound to '{value}', which nothing is", text(actual))
        bound = bindings[value]
        if actual is MISSING or actual != bound or type(actual) is not type(bound):
            raise Mismatch(where, f"{text(bound)} (bound to '{value}')", text(actual))
    elif name == "$not":
        if _try(value, actual, where, bindings, field, exact) is None:
            raise Mismatch(where, f"anything but {text(value)}", text(actual))
    elif name == "$one_of":
        problems = [_try(one, actual, where, bindings, field, exact) for one in value]
        if None not in problems:
            raise Mismatch(where, f"one of {text(value)}", text(actual))
    elif name == "$repeat":
        found: Any = repeat(value, where)
        _match(found.encode() if isinstance(actual, bytes) else found, actual, where, bindings, None, exact)
    elif actual is MISSING:
        empty = name == "$json" and value is None  # a payload that is absent holds no value, like one that is empty
        if not (empty and _may_be_absent(field)):
            raise Mismatch(where, text(matcher), "nothing")
    elif name in ("$unordered", "$contains"):
        if not isinstance(actual, list):
            raise Mismatch(where, f"a list with {text(value)}", text(actual))
        if name == "$unordered" and len(value) != len(actual):
            raise Mismatch(where, f"{len(value)} elements", f"{len(actual)}: {text(actual)}")
        _match_any_order(value, actual, where, bindings, field, exact)
    elif name == "$regex":
        found = actual.decode("utf-8", "replace") if isinstance(actual, bytes) else actual
        if not isinstance(found, str) or re.search(value, found) is None:
            raise Mismatch(where, f"text containing /{value}/", text(actual))
    elif name == "$range":
        low, high = value
        number = actual if isinstance(actual, int | float) and not isinstance(actual, bool) else None
        if number is None or not float(low) <= float(number) <= float(high):
            raise Mismatch(where, f"a number from {low} to {high}", text(actual))
    elif name == "$above":
        low = bindings.get(value)
        if not isinstance(low, int | float) or not isinstance(actual, int | float) or not float(actual) > float(low):
            raise Mismatch(where, f"a number above {text(low)} (bound to '{value}')", text(actual))
    elif name == "$length":
        if not isinstance(actual, str | bytes | list):
            raise Mismatch(where, "text, bytes or a list", text(actual))
        _match(value, len(actual), f"{where} (its length)", bindings, None, exact)
    else:
        _match_content(name, value, actual, where, bindings, exact)


def _match_content(name: str, value: Any, actual: Any, where: str, bindings: Bindings, exact: bool) -> None:
    """`$json`, `$text` and `$bytes`: what is in a payload, in bytes, or in text."""
    if isinstance(actual, Obj) and is_payload(actual.descriptor):
        content_type = actual.get("content_type", "")
        if name == "$json" and content_type not in JSON_TYPES:
            raise Mismatch(f"{where}.content_type", "a payload of JSON", text(content_type))
        actual = actual.get("data", b"")
        where = f"{where}.data"
    elif isinstance(actual, str):
        actual = actual.encode("utf-8", "surrogatepass")
    if not isinstance(actual, bytes):
        raise Mismatch(where, f"a payload, bytes or text with {text(value)}", text(actual))
    if name == "$json":
        if not actual and value is None:
            return
        try:
            found = json_text.parse(actual)
        except (ValueError, RecursionError) as error:
            raise Mismatch(where, f"JSON like {text(value)}", f"{text(actual)}: {error}") from None
        _match(value, found, where, bindings, None, exact)
    elif name == "$text":
        try:
            found = actual.decode("utf-8")
        except UnicodeDecodeError:
            raise Mismatch(where, f"text like {text(value)}", text(actual)) from None
        _match(value, found, where, bindings, None, exact)
    elif base64.b64decode(value) != actual:
        raise Mismatch(where, text(base64.b64decode(value)), text(actual))


def _match_any_order(
    wanted: list[Any], actual: list[Any], where: str, bindings: Bindings, field: FieldDescriptor | None, exact: bool
) -> None:
    """Finds an element for each matcher, going back where an earlier choice was wrong."""
    taken: list[int] = []

    def place(position: int) -> bool:
        if position == len(wanted):
            return True
        for index, candidate in enumerate(actual):
            if index in taken:
                continue
            before = dict(bindings)
            if _try(wanted[position], candidate, where, bindings, field, exact) is None:
                taken.append(index)
                if place(position + 1):
                    return True
                taken.pop()
                _restore(bindings, before)
        return False

    if place(0):
        return
    for one in wanted:
        problems = [
            _try(one, candidate, f"{where}[{i}]", dict(bindings), field, exact) for i, candidate in enumerate(actual)
        ]
        if None not in problems:
            closest = f" (closest: {_closest(problems)})" if actual else ""
            raise Mismatch(where, f"an element like {text(one)}", f"{text(actual)}{closest}")
    raise Mismatch(where, f"different elements for each of {text(wanted)}", text(actual))


def _closest(problems: list[Mismatch | None]) -> str:
    deepest = max((one for one in problems if one is not None), key=lambda one: one.where.count("."))
    return str(deepest)


def _try(
    matcher: Any, actual: Any, where: str, bindings: Bindings, field: FieldDescriptor | None, exact: bool
) -> Mismatch | None:
    before = dict(bindings)
    try:
        _match(matcher, actual, where, bindings, field, exact)
    except Mismatch as mismatch:
        _restore(bindings, before)
        return mismatch
    return None


def _restore(bindings: Bindings, before: Bindings) -> None:
    bindings.clear()
    bindings.update(before)
