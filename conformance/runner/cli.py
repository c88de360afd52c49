"""The command line: `list`, `run` and `matrix`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.runner import matrix, reports, suite, testees
from conformance.runner.cases import TRANSPORTS, Case, chosen
from conformance.runner.console import Console
from conformance.runner.loader import CorpusProblem, load
from conformance.runner.outcomes import exit_code
from conformance.runner.testees import ENGINE, Testee

USAGE = 2
STOPPED = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns its exit code: 0, 1 if something is bad, 2 if it was not asked for something sensible."""
    options = _parser().parse_args(arguments)
    try:
        everything = load()
        known = testees.load()
    except CorpusProblem as problem:
        for line in problem.problems:
            print(line, file=sys.stderr)
        return USAGE
    if options.command == "matrix":
        return _matrix(known, options)
    cases = [case for case in everything if _wanted(case, options)]
    if not cases:
        print("no case fits; `python -m conformance list` shows what there is", file=sys.stderr)
        return USAGE
    if options.command == "list":
        return _list(cases)
    unknown = [name for name in options.testee or () if name not in known]
    if unknown:
        print(f"there is no testee '{unknown[0]}'; there are: {', '.join(known)}", file=sys.stderr)
        return USAGE
    finished = testees.finished(known)
    selected = [known[name] for name in options.testee] if options.testee else finished
    if (options.matrix or options.check_matrix) and any(
        (options.case, options.subject, options.level, options.transport)
    ):
        print("a matrix needs a whole run: leave --case, --subject, --level and --transport out", file=sys.stderr)
        return USAGE
    try:
        return asyncio.run(_until_told(_run(everything, cases, selected, finished, options)))
    except asyncio.CancelledError:
        return STOPPED


async def _until_told(running: Coroutine[Any, Any, int]) -> int:
    """Runs it; SIGTERM ends it with everything that was started."""
    task = asyncio.ensure_future(running)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _outdated(path: Path, found: str) -> list[str]:
    """What is wrong with the committed matrix."""
    again = f"write it again: python -m conformance run --matrix {path}"
    if not path.is_file():
        return [f"there is no {path}; {again}"]
    problems = matrix.differences(path.read_text(encoding="utf-8"), found)
    return [f"{path} is out of date: {'; '.join(problems[:5])}; {again}"] if problems else []


async def _run(
    everything: list[Case],
    cases: list[Case],
    selected: list[Testee],
    known: list[Testee],
    options: argparse.Namespace,
) -> int:
    console = Console(sys.stdout)
    problems = testees.stale(selected, everything)
    ready: list[Testee] = []
    for testee in selected:
        if not any((case.subject == "engine") == (testee.name == ENGINE) for case in cases):
            continue
        if why := await testee.available():
            console.skipped(testee.name, why)
        elif not options.no_build and (why := await testee.built()):
            problems.append(f"{testee.name} cannot be built: {why}")
        else:
            ready.append(testee)
    tasks = suite.plan(cases, ready, options.transport or ())
    console.begin(len(tasks))
    results = await suite.run(tasks, console.result, options.jobs)
    by_id = {case.id: case for case in everything}
    if options.jsonl:
        reports.write_jsonl(options.jsonl, results, by_id)
    if options.junit:
        reports.write_junit(options.junit, results)
    if options.matrix:
        if len(ready) == len(known):
            options.matrix.write_text(matrix.render(results, by_id, ready), encoding="utf-8")
        else:
            absent = [testee.name for testee in known if testee not in ready]
            problems.append(
                f"{options.matrix} is not written: it needs every language, and {', '.join(absent)} did not run"
            )
    if options.check_matrix:
        problems += _outdated(options.check_matrix, matrix.render(results, by_id, ready))
    console.end(results, problems)
    return exit_code(results, problems)


def _wanted(case: Case, options: argparse.Namespace) -> bool:
    return (
        (not options.case or chosen(case.id, options.case))
        and (not options.subject or case.subject == options.subject)
        and (not options.level or case.level == options.level)
        and (not options.transport or any(one in case.transports for one in options.transport))
    )


def _matrix(known: Mapping[str, Testee], options: argparse.Namespace) -> int:
    from conformance import matrix as languages

    unknown = [name for name in options.testee or () if name not in known or name == ENGINE]
    if unknown:
        there = ", ".join(name for name in known if name != ENGINE)
        print(f"there is no language '{unknown[0]}'; there are: {there}", file=sys.stderr)
        return USAGE
    selected = [known[name] for name in options.testee] if options.testee else testees.finished(known)
    return languages.main(selected, build=not options.no_build)


def _list(cases: list[Case]) -> int:
    width = max(len(case.id) for case in cases)
    for case in cases:
        print(f"{case.id:<{width}}  {case.subject:<6}  {case.level:<6}  {case.title}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance", description="One corpus of cases for every language."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    choice = argparse.ArgumentParser(add_help=False)
    choice.add_argument("--case", action="append", metavar="PATTERN", help="ids, e.g. 'streaming/**'; repeatable")
    choice.add_argument("--subject", choices=("sdk", "engine"), help="only cases of this subject")
    choice.add_argument("--level", choices=("must", "should"), help="only cases of this level")
    choice.add_argument("--transport", action="append", choices=TRANSPORTS, help="only on this transport; repeatable")
    commands.add_parser("list", parents=[choice], help="show the cases")
    languages = commands.add_parser("matrix", help="let every language ask every language, through the real engine")
    languages.add_argument("--testee", action="append", metavar="NAME", help="only these languages; repeatable")
    languages.add_argument("--no-build", action="store_true", help="the testees are built already")
    running = commands.add_parser("run", parents=[choice], help="run the cases")
    running.add_argument("--testee", action="append", metavar="NAME", help="from testees.yaml, or engine; repeatable")
    running.add_argument("--no-build", action="store_true", help="the testees are built already")
    running.add_argument("--jobs", type=int, default=2, metavar="N", help="cases at a time (2)")
    running.add_argument("--jsonl", type=Path, metavar="FILE", help="results as lines of JSON")
    running.add_argument("--junit", type=Path, metavar="FILE", help="results as JUnit XML")
    running.add_argument("--matrix", type=Path, metavar="FILE", help="write the matrix of languages (Markdown)")
    running.add_argument("--check-matrix", type=Path, metavar="FILE", help="fail if that matrix is out of date")
    return parser
