"""docs/conformance.md: which language passes how much of what, in Markdown, and whether that is still true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from conformance.runner.cases import Case
from conformance.runner.outcomes import Outcome, Result
from conformance.runner.testees import ENGINE, Testee

_INTRODUCTION = """\
# Conformance

What every language and the engine pass of the [conformance suite](../conformance/README.md), as `make conformance`
found it. The numbers are cases; a case counts as passed if it passes on every transport it runs on. This file is
written by `python -m conformance run --matrix docs/conformance.md`; continuous integration checks that it is current.
"""
_ROW = "| {} |"


def render(results: Sequence[Result], cases: Mapping[str, Case], testees: Sequence[Testee]) -> str:
    """The document. Every testee has a column."""
    columns = [testee for testee in testees if any(result.testee == testee.name for result in results)]
    parts = [_INTRODUCTION, "## Cases passed\n", _cases(results, cases, columns)]
    sdks = [testee for testee in columns if testee.name != ENGINE]
    if sdks:
        parts += ["## Features claimed\n", _features(cases, sdks)]
    known = [
        f"- {testee.language}, `{entry.case}`{f' on {entry.transport}' if entry.transport else ''}: {entry.because}"
        for testee in columns
        for entry in testee.known
    ]
    parts += ["## Known to fail\n", "\n".join(known) + "\n" if known else "Nothing.\n"]
    return "\n".join(parts)


def differences(committed: str, found: str) -> list[str]:
    """Where two such documents disagree, one sentence each.

    A language that `found` has no column for, because its toolchain is absent, is passed over.
    """
    before, now = _tables(committed), _tables(found)
    problems = []
    for (table, row, column), cell in now.items():
        old = before.get((table, row, column))
        if old != cell:
            problems.append(f"{table}, {row}, {column}: the document says '{old or 'nothing'}', the run '{cell}'")
    columns = {(table, column) for table, _, column in now}
    for (table, row, column), cell in before.items():
        if cell and (table, column) in columns and (table, row, column) not in now:
            problems.append(f"{table}, {row}: the document has this row, the run has not")
    return problems


def _cases(results: Sequence[Result], cases: Mapping[str, Case], columns: Sequence[Testee]) -> str:
    categories = sorted({cases[result.case].category for result in results})
    lines = _head("category", columns)
    for category in categories:
        lines.append(_line(category, [_cell(results, cases, column, category) for column in columns]))
    lines.append(_line("**all**", [_cell(results, cases, column, "") for column in columns]))
    return "\n".join(lines) + "\n"


def _cell(results: Sequence[Result], cases: Mapping[str, Case], testee: Testee, category: str) -> str:
    by_case: dict[str, set[Outcome]] = {}
    for result in results:
        if result.testee == testee.name and category in ("", cases[result.case].category):
            by_case.setdefault(result.case, set()).add(result.outcome)
    if not by_case:
        return ""
    passed = sum(outcomes == {Outcome.PASS} for outcomes in by_case.values())
    unsupported = sum(outcomes == {Outcome.UNSUPPORTED} for outcomes in by_case.values())
    claimed = len(by_case) - unsupported
    text = f"{passed} of {claimed}" if claimed else ""
    return ", ".join(part for part in (text, f"{unsupported} not claimed" if unsupported else "") if part)


def _features(cases: Mapping[str, Case], sdks: Sequence[Testee]) -> str:
    used = {feature for case in cases.values() for feature in case.features}
    lines = _head("feature", sdks)
    for feature in sorted(used.union(*(sdk.features for sdk in sdks))):
        lines.append(_line(f"`{feature}`", ["yes" if feature in sdk.features else "no" for sdk in sdks]))
    return "\n".join(lines) + "\n"


def _head(corner: str, columns: Sequence[Testee]) -> list[str]:
    names = [column.language for column in columns]
    return [_line(corner, names), _line("---", ["---" for _ in names])]


def _line(first: str, cells: Sequence[str]) -> str:
    return _ROW.format(" | ".join([first, *cells]))


def _tables(document: str) -> dict[tuple[str, str, str], str]:
    """Cells by title of the table, first cell of the row, and head of the column."""
    found: dict[tuple[str, str, str], str] = {}
    title = ""
    head: list[str] = []
    for line in document.splitlines():
        if line.startswith("## "):
            title, head = line[3:], []
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not head:
                head = cells
            elif set(cells[0]) != {"-"}:
                found.update(((title, cells[0], name), cell) for name, cell in zip(head[1:], cells[1:], strict=False))
    return found
