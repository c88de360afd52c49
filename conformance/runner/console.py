"""Results for a person: progress on a terminal, colours only there, failures with their frames."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TextIO

from conformance.runner.outcomes import BAD, Outcome, Result, counts

_COLOURS = {
    Outcome.PASS: "32",
    Outcome.FAIL: "31",
    Outcome.ERROR: "31",
    Outcome.NOT_RUN: "31",
    Outcome.UNEXPECTED_PASS: "31",
    Outcome.KNOWN_FAIL: "33",
    Outcome.UNSUPPORTED: "33",
}


class Console:
    """Writes to one stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._coloured = self._terminal and "NO_COLOR" not in os.environ
        self._total = 0
        self._done = 0
        self._began = time.monotonic()

    def begin(self, total: int) -> None:
        """So many results will come."""
        self._total = total

    def skipped(self, testee: str, why: str) -> None:
        """A testee that is not run here."""
        self._line(f"{self._paint('SKIPPED', '33')} {testee}: {why}")

    def result(self, result: Result) -> None:
        """A result: a line of progress, and everything there is to know if it is bad."""
        self._done += 1
        if result.outcome in BAD:
            self._failure(result)
        if self._terminal:
            self._stream.write(f"\r\x1b[2K{self._done}/{self._total} {result.name}"[:200])
            self._stream.flush()

    def end(self, results: Sequence[Result], problems: Sequence[str]) -> None:
        """The summary."""
        found = counts(results)
        for result in results:
            if result.outcome is Outcome.KNOWN_FAIL:
                self._line(f"{self._outcome(result.outcome)} {result.name}: {result.message.splitlines()[0]}")
        for problem in problems:
            self._line(f"{self._paint('PROBLEM', '31')} {problem}")
        words = [f"{found[outcome]} {self._outcome(outcome)}" for outcome in Outcome if found[outcome]]
        self._line(f"{len(results)} results in {time.monotonic() - self._began:.1f} s: {', '.join(words) or 'none'}")

    def _failure(self, result: Result) -> None:
        self._line(f"{self._outcome(result.outcome)} {result.name} ({result.seconds:.1f} s)")
        for line in result.message.splitlines():
            self._line(f"  {line}")
        for line in result.trace:
            self._line(f"    {line}")
        for line in result.complaints:
            self._line(f"    stderr: {line}")
        self._line(f"  repeat: {result.repeat}")

    def _line(self, text: str) -> None:
        start = "\r\x1b[2K" if self._terminal else ""
        self._stream.write(f"{start}{text}\n")

    def _outcome(self, outcome: Outcome) -> str:
        return self._paint(outcome.value, _COLOURS[outcome])

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured else text
