"""What a case is once loaded: its steps, where it can run; and which cases a pattern chooses. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
"""The repository."""

DEFAULT_WITHIN = 30.0
"""Seconds that a step may take unless it says so itself: far more than any needs, also on a busy machine."""

FIXTURES = (
    "Echo",
    "Counter",
    "Failing",
    "Slow",
    "Stream",
    "Blocking",
    "Scheduled",
    "Router",
    "Monitor",
    "Listener",
    "Overseer",
    "Interpreter",
)
"""The agents that every testee has."""

# The first of these keys that a step has says what it does; `expect` alone is one, and a part of others.
KINDS = (
    "exchange",
    "send",
    "send_frame",
    "send_raw",
    "expect_frame",
    "expect_nothing",
    "expect_closed",
    "expect_no_connection",
    "hibernate",
    "connect",
    "disconnect",
    "refuse",
    "advance",
    "stop",
    "expect_stopped",
    "kill",
    "restart",
    "unary",
    "outcome",
    "hang_up",
    "note",
    "expect",
)
ENGINE_ONLY = frozenset({"kill", "restart", "unary", "outcome", "hang_up"})
SDK_ONLY = frozenset({"exchange", "refuse", "hibernate", "expect_no_connection"})
TRANSPORTS = ("stdio", "grpc", "engine")

# What an exchange through a real engine can tell of its outcome.
VISIBLE = frozenset({"result", "failure", "chunks"})

# What an exchange says beside the fields of its Message, and a connect beside those of its Hello.
EXCHANGE_KEYS = frozenset({"stream", "timeout_ms", "attempt"})
CONNECT_KEYS = frozenset({"agents", "resume", "lost", "token", "expect"})

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(duration: str) -> float:
    """Seconds of a duration such as `250ms`."""
    match = re.fullmatch(r"([0-9.]+)(ms|s|m|h|d)", duration)
    if match is None:
        raise ValueError(f"'{duration}' is not a duration such as 250ms, 2s, 5m, 1h or 1d")
    return float(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True, slots=True)
class Step:
    """One step. kind: its key; args: the key's value; more: what else it says; line: in its file."""

    kind: str
    args: Any
    more: Mapping[str, Any]
    line: int
    number: int

    @property
    def within(self) -> float:
        """Seconds of real time it may take."""
        text = self.more.get("within")
        return seconds(text) if text else DEFAULT_WITHIN

    @property
    def times(self) -> int:
        """How often it is done."""
        return int(self.more.get("times", 1))

    @property
    def on(self) -> str:
        """The link it is about."""
        return str(self.more.get("on", "main"))

    def __str__(self) -> str:
        return f"step {self.number} ({self.kind}, line {self.line})"


@dataclass(frozen=True, slots=True)
class Case:
    """One case, checked."""

    id: str
    file: Path
    title: str
    clause: str
    level: str
    subject: str
    steps: tuple[Step, ...]
    transports: tuple[str, ...]
    """Those it runs on."""
    features: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    """Fixtures to host; empty: all."""
    credit: int | None = None
    welcome: Mapping[str, Any] = field(default_factory=dict)
    manual_handshake: bool = False
    answer_pings: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)
    stop: bool = True

    @property
    def category(self) -> str:
        """The folder it is in."""
        return self.id.rpartition("/")[0]

    @property
    def connects_itself(self) -> bool:
        """Whether its steps say when the first connection is taken."""
        first = next((step.kind for step in self.steps if step.kind != "note"), "")
        return first in ("connect", "refuse")

    def uses(self, *kinds: str) -> bool:
        """Whether a step is of one of these kinds."""
        return any(step.kind in kinds for step in self.steps)


def fitting(subject: str, steps: Iterable[Step], plain: bool) -> tuple[str, ...]:
    """The transports on which such steps can run. plain: the case changes nothing about the engine's behaviour."""
    if subject == "engine":
        return ("grpc",)
    steps = [step for step in steps if step.kind != "note"]
    found = ["stdio"]
    if not any(step.kind in ("advance", "expect_no_connection") for step in steps):
        found.append("grpc")
    through_engine = all(
        step.kind == "exchange" and step.more.get("expect", {}).keys() <= VISIBLE and "attempt" not in step.args
        for step in steps
    )
    if plain and through_engine:
        found.append("engine")
    return tuple(found)


def chosen(case_id: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns names the case: `*` is any text in a segment, `**` any number of segments."""
    return any(_glob(pattern).fullmatch(case_id) is not None for pattern in patterns)


@lru_cache(maxsize=256)
def _glob(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/?|\*|\?)", pattern)
    rules = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(rules.get(part) or re.escape(part) for part in parts))
