"""Testees as processes: how they are started, shared, stopped, and what is said of them when they break."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conformance.runner import suite
from conformance.runner.loader import load_case
from conformance.runner.outcomes import Outcome, Result
from conformance.runner.stdio import StdioTestee
from conformance.runner.testees import Testee

pytestmark = pytest.mark.process

TINY = (sys.executable, str(Path(__file__).with_name("tiny_testee.py")))
ECHO = "  - {exchange: {agent: Echo, payload: {$json: 1}}, expect: {result: {$json: 1}}, within: 30s}\n"
ADVANCE = "  - advance: 1s\n"


async def outcomes(tmp_path: Path, steps: list[str], *options: str) -> list[Result]:
    """What becomes of cases with these steps, one after the other, with the tiny testee."""
    cases = []
    for number, text in enumerate(steps):
        path = tmp_path / "tests" / f"case-{number}.yaml"
        path.parent.mkdir(exist_ok=True)
        head = "title: A case of the runner's own tests\nclause: docs/protocol.md#items\nlevel: must\nsubject: sdk\n"
        path.write_text(f"{head}transports: [stdio]\nsteps:\n{text}")
        cases.append(load_case(path, tmp_path))
    testee = Testee("tiny", "Tiny", (*TINY, *options))
    return await suite.run(suite.plan(cases, [testee]), lambda result: None, jobs=1)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands by which testees were started."""
    found: list[list[str]] = []
    start = StdioTestee.start

    async def noted(command: list[str]) -> StdioTestee:
        found.append(command)
        return await start(command)

    monkeypatch.setattr(StdioTestee, "start", noted)
    return found


async def test_cases_of_a_session_share_a_process(tmp_path: Path, starts: list[list[str]]) -> None:
    results = await outcomes(tmp_path, [ECHO, ECHO, ECHO])
    assert [result.outcome for result in results] == [Outcome.PASS] * 3
    assert len(starts) == 1


async def test_case_that_moves_time_has_a_process_of_its_own(tmp_path: Path, starts: list[list[str]]) -> None:
    results = await outcomes(tmp_path, [ECHO, ECHO + ADVANCE, ECHO])
    assert [result.outcome for result in results] == [Outcome.PASS] * 3
    assert len(starts) == 2


async def test_what_fails_in_a_shared_process_counts_as_it_ends_alone(tmp_path: Path, starts: list[list[str]]) -> None:
    results = await outcomes(tmp_path, [ECHO, ECHO], "--fault", "remembers")
    assert [result.outcome for result in results] == [Outcome.PASS] * 2
    assert len(starts) == 2


async def test_process_that_dies_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    first, second = await outcomes(tmp_path, [ECHO, ECHO], "--fault", "dies")
    assert (first.outcome, second.outcome) == (Outcome.ERROR, Outcome.ERROR)
    assert first.message == "the testee ended unexpectedly with exit code 7"
    assert first.complaints == ["something is very wrong"]


async def test_line_that_is_not_of_the_contract_is_an_error(tmp_path: Path) -> None:
    (result,) = await outcomes(tmp_path, [ECHO], "--fault", "garbage")
    assert result.outcome is Outcome.ERROR
    assert "not a line of the contract" in result.message


async def test_sdk_that_does_not_answer_fails(tmp_path: Path) -> None:
    (result,) = await outcomes(tmp_path, [ECHO.replace("30s", "50ms")], "--fault", "deaf")
    assert result.outcome is Outcome.FAIL
    assert "expected the Complete of invocation" in result.message
    assert any("invoke" in line for line in result.trace)


async def test_stop_that_is_not_polite_fails(tmp_path: Path) -> None:
    (result,) = await outcomes(tmp_path, [ECHO + ADVANCE], "--fault", "impolite")
    assert result.outcome is Outcome.FAIL
    assert result.message == "at the end: the testee stopped with exit code 3, 0 is what a polite stop ends with"
