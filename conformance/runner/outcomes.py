"""What became of a case: outcomes, results, and what they mean for the whole run. Standard library only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    """What became of one case with one testee on one transport."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNSUPPORTED = "UNSUPPORTED"
    """A feature that the case needs is not claimed."""
    KNOWN_FAIL = "KNOWN_FAIL"
    """It fails, and the known list says so."""
    UNEXPECTED_PASS = "UNEXPECTED_PASS"
    """It passes, and the known list says that it fails."""
    ERROR = "ERROR"
    """The runner, the testee or the engine broke down."""
    NOT_RUN = "NOT_RUN"
    """There is no result."""


BAD = frozenset({Outcome.FAIL, Outcome.UNEXPECTED_PASS, Outcome.ERROR, Outcome.NOT_RUN})


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one case with one testee on one transport, and how it came about."""

    case: str
    testee: str
    transport: str
    outcome: Outcome
    message: str = ""
    seconds: float = 0.0
    trace: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """The last lines of the testee's standard error, or of the engine's log."""

    @property
    def name(self) -> str:
        """`testee/transport: case`."""
        return f"{self.testee}/{self.transport}: {self.case}"

    @property
    def repeat(self) -> str:
        """A command that runs this again."""
        return f"python -m conformance run --testee {self.testee} --transport {self.transport} --case '{self.case}'"


def counts(results: Iterable[Result]) -> Counter[Outcome]:
    """How many results there are of each outcome."""
    return Counter(result.outcome for result in results)


def exit_code(results: Iterable[Result], problems: Iterable[str] = ()) -> int:
    """0 only if nothing is bad and no problem (such as a known list that is out of date) was found."""
    return int(any(result.outcome in BAD for result in results) or any(True for _ in problems))
