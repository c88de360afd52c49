"""Results for programs: lines of JSON, JUnit XML. Standard library only."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.runner.cases import Case
from conformance.runner.outcomes import BAD, Outcome, Result

# What XML 1.0 cannot hold.
_UNWRITABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_jsonl(path: Path, results: Sequence[Result], cases: Mapping[str, Case]) -> None:
    """One line for each result, in the order of the run."""
    with path.open("w", encoding="utf-8") as file:
        for result in results:
            case = cases[result.case]
            line: dict[str, Any] = {
                "case": result.case,
                "testee": result.testee,
                "transport": result.transport,
                "outcome": result.outcome.value,
                "level": case.level,
                "clause": case.clause,
                "title": case.title,
                "seconds": round(result.seconds, 3),
            }
            if result.outcome is not Outcome.PASS:
                line |= {"message": result.message, "trace": result.trace, "complaints": result.complaints}
                line["repeat"] = result.repeat
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_junit(path: Path, results: Sequence[Result]) -> None:
    """A suite for each testee and transport."""
    root = ElementTree.Element("testsuites", name="conformance")
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(f"{result.testee}/{result.transport}", []).append(result)
    for name, group in groups.items():
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=name,
            tests=str(len(group)),
            failures=str(sum(one.outcome in BAD and one.outcome is not Outcome.ERROR for one in group)),
            errors=str(sum(one.outcome is Outcome.ERROR for one in group)),
            skipped=str(sum(one.outcome in (Outcome.UNSUPPORTED, Outcome.KNOWN_FAIL) for one in group)),
            time=f"{sum(one.seconds for one in group):.3f}",
        )
        for result in group:
            category, _, case = result.case.rpartition("/")
            test = ElementTree.SubElement(
                suite, "testcase", classname=f"{name}.{category}", name=case, time=f"{result.seconds:.3f}"
            )
            if result.outcome is Outcome.PASS:
                continue
            kind = "failure" if result.outcome in BAD else "skipped"
            if result.outcome is Outcome.ERROR:
                kind = "error"
            first = result.message.splitlines()[0] if result.message else result.outcome.value
            detail = ElementTree.SubElement(test, kind, message=_writable(f"{result.outcome.value}: {first}"))
            detail.text = _writable("\n".join([result.message, *result.trace, *result.complaints, result.repeat]))
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _writable(text: str) -> str:
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)
