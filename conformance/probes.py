"""What the client of one language asks the agents of another, and what it must get: for `python -m conformance matrix`.

A probe is an operation of the Interpreter, and its outcome. Values are compared as what they are: numbers by value,
text and the order of keys exactly, absent and null apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Matches an object with these fields, and perhaps others; or a text that contains this one."""

    what: Any


ANYTHING = AtLeast({})


@dataclass(frozen=True, slots=True)
class Probe:
    """name: for people. operation: without its agent's prefix. outcome: what the Interpreter must show.

    features: what both sides must claim. ordered: keys of objects must come in this order.
    """

    name: str
    operation: dict[str, Any]
    outcome: Any
    features: tuple[str, ...] = ()
    ordered: bool = True


def decode(text: bytes | str) -> Any:
    """JSON with exact numbers."""
    return json.loads(text, parse_float=Decimal)


def difference(expected: Any, found: Any, where: str = "outcome", ordered: bool = True) -> str:
    """Where `found` is not what was expected, and how; empty if it is."""
    if isinstance(expected, AtLeast):
        if isinstance(expected.what, str):
            fits = isinstance(found, str) and expected.what in found
            return "" if fits else f"{where}: expected text with {expected.what!r}, got {_short(found)}"
        if expected.what == {}:
            return ""
        if not isinstance(found, dict):
            return f"{where}: expected an object, got {_short(found)}"
        for name, value in expected.what.items():
            if name not in found:
                return f"{where}.{name}: expected {_short(value)}, got nothing"
            if problem := difference(value, found[name], f"{where}.{name}", ordered):
                return problem
        return ""
    if isinstance(expected, dict) and isinstance(found, dict):
        if set(expected) != set(found) or (ordered and list(expected) != list(found)):
            return f"{where}: expected the keys {list(expected)}, got {list(found)}"
        for name, value in expected.items():
            if problem := difference(value, found[name], f"{where}.{name}", ordered):
                return problem
        return ""
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            if problem := difference(one, other, f"{where}[{index}]", ordered):
                return problem
        return ""
    if _kind(expected) == _kind(found) and _exact(expected) == _exact(found):
        return ""
    return f"{where}: expected {_short(expected)}, got {_short(found)}"


def _kind(value: Any) -> type:
    return float if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool) else type(value)


def _exact(value: Any) -> Any:
    return Decimal(repr(value)) if isinstance(value, float) else value


def _short(value: Any) -> str:
    text = str(value.what) if isinstance(value, AtLeast) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"


LARGEST = 2**53 - 1

VALUES: tuple[tuple[str, Any], ...] = (
    ("null", None),
    ("true", True),
    ("false", False),
    ("zero", 0),
    ("a negative number", -17),
    ("the largest integer", LARGEST),
    ("the smallest integer", -LARGEST),
    ("a fraction", 0.1),
    ("a small fraction", 5e-324),
    ("a large number", 1.7976931348623157e308),
    ("empty text", ""),
    ("Unicode", "Zoë – 日本語 – 😀 – e\u0301 – \u2028 – \ufeff"),
    ("control characters", "\u0000\t\n\u001f\u007f"),
    ("text that looks like JSON", '{"a": [1, null]}'),
    ("an empty list", []),
    ("an empty object", {}),
    ("null in a list", [None, [None]]),
    ("null in an object", {"there": None}),
    ("the empty key", {"": {"": 1}}),
    ("order of keys", {"b": 1, "a": 2, "ä": 3, "B": 4}),
    ("order of keys that look like numbers", {"10": 1, "9": 2, "x": 3, "1": 4}),
    ("names of languages' own", {"__proto__": 1, "constructor": 2, "toString": 3, "class": 4, "self": 5}),
    ("a deep value", [[[[[[[[[[[[[[[[[[[["down here"]]]]]]]]]]]]]]]]]]]]),
    ("many numbers", list(range(2000))),
    ("large text", "größer " * 40_000),
)

EVERYTHING: dict[str, Any] = {
    "text": "Grüße 😀",
    "flag": False,
    "small": -(2**31),
    "large": "9223372036854775807",
    "ratio": 0.1,
    "amount": "-12345678901234567890.00000012345678900",
    "data": "AAECA/79/P8=",
    "at": "2026-02-28T23:59:59.123Z",
    "on": "2024-02-29",
    "lasting": "PT1.5S",
    "color": "GREEN",
    "tags": ["a", "", "ä"],
    "scores": {"x": 1, "": -1},
    "nested": {"name": "n", "depth": 2},
    "maybe": None,
}

TYPED: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    ("nothing at all", {}, ("types",)),
    ("null is not absent", {"maybe": None}, ("types",)),
    ("text in place of null", {"maybe": ""}, ("types",)),
    ("empty containers", {"text": "", "tags": [], "scores": {}, "nested": {}}, ("types",)),
    ("the largest 64-bit integer", {"large": "9223372036854775807"}, ("types.int64",)),
    ("the smallest 64-bit integer", {"large": "-9223372036854775808"}, ("types.int64",)),
    ("the first integer that needs text", {"large": "9007199254740992"}, ("types.int64",)),
    ("a 64-bit integer that is small", {"large": -5}, ("types.int64",)),
    ("a decimal with its zeros", {"amount": "1.10"}, ("types.decimal",)),
    ("a long decimal", {"amount": "0.0000000000000000000000000000012345"}, ("types.decimal",)),
    ("no bytes", {"data": ""}, ("types.bytes",)),
    ("every byte", {"data": "+/+/AP8="}, ("types.bytes",)),
    ("an instant before the epoch", {"at": "1969-12-31T23:59:59Z"}, ("types.instant",)),
    ("milliseconds", {"at": "2026-01-02T03:04:05.678Z", "lasting": "PT0.001S"}, ("types.instant", "types.duration")),
    ("microseconds", {"at": "2026-01-02T03:04:05.123456Z", "lasting": "PT0.000001S"}, ("types.microseconds",)),
    ("nanoseconds", {"at": "2026-01-02T03:04:05.123456789Z", "lasting": "PT0.000000001S"}, ("types.nanoseconds",)),
    ("a date", {"on": "1582-10-15"}, ("types.date",)),
    ("no time at all", {"lasting": "PT0S"}, ("types.duration",)),
    ("every enum name", {"color": "BLUE"}, ("types.enum",)),
    (
        "everything at once",
        EVERYTHING,
        ("types.int64", "types.decimal", "types.bytes", "types.instant", "types.date", "types.duration", "types.enum"),
    ),
)

MISFITS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("text for an integer", {"small": "1"}, "small"),
    ("a fraction for an integer", {"small": 1.5}, "small"),
    ("no date", {"on": "2026-02-30"}, "on"),
    ("no enum name", {"color": "PINK"}, "color"),
    ("null where it is not allowed", {"text": None}, "text"),
    ("inside an object", {"nested": {"depth": "deep"}}, "nested.depth"),
    ("inside a list", {"tags": ["a", 1]}, "tags[1]"),
)

RESULTS: tuple[dict[str, Any], ...] = (
    {"status": "success", "data": {"n": [1, None]}, "message": "", "metadata": {}},
    {"status": "warning", "data": None, "message": "nearly", "metadata": {"left": 3}},
    {"status": "error", "data": "x", "message": "no", "metadata": {"error_type": "SOLD_OUT"}},
)

FAILURE: dict[str, Any] = {
    "code": 9,
    "reason": "SEAT_TAKEN",
    "message": "seat 4A is taken – „leider“ 😀",
    "retryable": True,
    "metadata": {"seat": "4A", "ö": ""},
    "details": [{"free": ["4B", None]}, "text", 7],
}


def probes(client: str, agent: str) -> Iterator[Probe]:
    """Everything that the client `client` asks the agents of `agent`. Both are prefixes of names."""
    key = f"of-{client}"

    def ask(fixture: str, handler: str, **more: Any) -> dict[str, Any]:
        return {"op": "request", "agent": f"{agent}{fixture}", "key": key, "handler": handler, **more}

    for name, value in VALUES:
        yield Probe(f"echo: {name}", ask("Echo", "echo", payload=value), {"ok": value}, ("types",))
    yield Probe("echo: no value", ask("Echo", "nothing"), {"ok": None}, ("types",))
    for name, value, features in TYPED:
        yield Probe(f"typed: {name}", ask("Echo", "typed", payload=value), {"ok": value}, features, ordered=False)
    for name, value, field in MISFITS:
        refused = {"code": 3, "reason": "INVALID_INPUT", "metadata": AtLeast({"field": field})}
        yield Probe(
            f"misfit: {name}", ask("Echo", "typed", payload=value), {"failure": AtLeast(refused)}, ("types", "errors")
        )
    seen = {
        "agent": f"{agent}Echo",
        "key": key,
        "handler": "describe",
        "type": "inquiry",
        "headers": {"x": "1", "ü": "ä"},
        "source": "matrix",
        "sender": f"{client}Interpreter/default",
        "priority": "HIGH",
        "attempt": 1,
        "content": {"n": 1},
    }
    more = {"type": "inquiry", "headers": {"x": "1", "ü": "ä"}, "source": "matrix", "priority": "high"}
    yield Probe(
        "describe",
        ask("Echo", "describe", payload={"n": 1}, **more),
        {"ok": AtLeast(seen)},
        ("headers",),
        ordered=False,
    )
    for result in RESULTS:
        yield Probe(
            f"result: {result['status']}", ask("Failing", "result", payload=result), {"ok": result}, ("results",)
        )
    yield from _failures(agent, ask)
    yield from _streams(agent, ask)
    for total in (5, 6):
        payload = {"payload": 5} if total == 5 else {}
        yield Probe(f"counter: {total}", ask("Counter", "increment", **payload), {"ok": total}, ("memory.value",))
    late = {"code": 4, "reason": "DEADLINE_EXCEEDED"}
    yield Probe(
        "a deadline", ask("Slow", "wait", timeout_ms=200), {"failure": AtLeast(late)}, ("deadlines", "cancellation")
    )


def _failures(agent: str, ask: Any) -> Iterator[Probe]:
    shown = {**FAILURE, "source": f"{agent}Failing/{ask('Failing', 'fail')['key']}#fail"}
    yield Probe(
        "failure", ask("Failing", "fail", payload=FAILURE), {"failure": AtLeast(shown)}, ("errors.details",), False
    )
    cause = {"reason": "SOLD_OUT", "message": "none left", "cause": {"message": "the till is closed"}}
    with_cause = {"reason": "NO_SEAT", "message": "no seat", "cause": cause}
    inner = AtLeast({"reason": "HANDLER_FAILED", "message": AtLeast("the till is closed")})
    middle = AtLeast({"reason": "SOLD_OUT", "message": "none left", "cause": inner})
    outer = AtLeast({"code": 2, "reason": "NO_SEAT", "message": "no seat", "cause": middle})
    yield Probe("failure: causes", ask("Failing", "fail", payload=with_cause), {"failure": outer}, ("errors",))
    ordinary = AtLeast({"code": 2, "reason": "HANDLER_FAILED", "message": AtLeast("simply wrong"), "retryable": True})
    yield Probe(
        "failure: an ordinary exception",
        ask("Failing", "fail", payload={"message": "simply wrong"}),
        {"failure": ordinary},
        ("errors",),
    )
    for fixture, handler, reason in (("Nobody", "x", "AGENT_UNKNOWN"), ("Echo", "nowhere", "HANDLER_UNKNOWN")):
        yield Probe(
            f"failure: {reason}",
            ask(fixture, handler),
            {"failure": AtLeast({"code": 5, "reason": reason})},
            ("errors",),
        )


def _streams(agent: str, ask: Any) -> Iterator[Probe]:
    def read(handler: str, **more: Any) -> dict[str, Any]:
        return {**ask("Stream", handler, **more), "op": "stream"}

    needed = ("stream", "streaming")
    yield Probe("stream: no chunk", read("count", payload={"to": 0}), {"ok": []}, needed)
    yield Probe("stream: some chunks", read("count", payload={"to": 5}), {"ok": list(range(5))}, needed)
    yield Probe("stream: beyond the window", read("count", payload={"to": 500}), {"ok": list(range(500))}, needed)
    yield Probe("stream: the reader leaves", read("endless", take=70), {"ok": list(range(70))}, needed)
    broken = {"failure": AtLeast({"reason": "BROKEN"})}
    yield Probe("stream: broken off", read("count", payload={"to": 9, "fail_at": 3}), broken, needed)


def wanted(everything: Iterator[Probe], claimed: Sequence[frozenset[str]]) -> list[Probe]:
    """The probes for which both sides claim what is needed."""
    return [probe for probe in everything if all(set(probe.features) <= features for features in claimed)]
