"""What a run as a whole means, and its reports."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.runner import matrix, reports, suite, testees
from conformance.runner.cases import Case
from conformance.runner.console import Console
from conformance.runner.loader import CorpusProblem
from conformance.runner.outcomes import Outcome, Result, exit_code
from conformance.runner.suite import judged, plan, run
from conformance.runner.testees import Known, Testee

CASE = Case(
    "errors/one", Path("one.yaml"), "One of the tests", "docs/protocol.md#failures", "must", "sdk", (), ("stdio",)
)
OTHER = replace(CASE, id="errors/two", features=("memory.ttl",))
ENGINES = replace(CASE, id="drain/three", subject="engine", transports=("grpc",))
TESTEE = Testee("python", "Python", ("false",))
PASSED = Result("errors/one", "python", "stdio", Outcome.PASS, seconds=0.25)
FAILED = replace(
    PASSED, outcome=Outcome.FAIL, message="expected 1, got 2", trace=["sdk → {}"], complaints=["oops \x00"]
)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_exit_code_is_zero_only_if_nothing_is_bad(outcome: Outcome) -> None:
    good = outcome in (Outcome.PASS, Outcome.UNSUPPORTED, Outcome.KNOWN_FAIL)
    assert (exit_code([PASSED, replace(PASSED, outcome=outcome)]) == 0) is good


def test_exit_code_counts_other_problems() -> None:
    assert exit_code([PASSED], ["the known list is out of date"]) == 1


def test_failure_that_is_known_is_no_news() -> None:
    found = judged(FAILED, "it was never written")
    assert found.outcome is Outcome.KNOWN_FAIL
    assert found.message.startswith("it was never written")
    assert judged(FAILED, "").outcome is Outcome.FAIL


def test_pass_that_is_known_to_fail_is_unexpected() -> None:
    assert judged(PASSED, "it was never written").outcome is Outcome.UNEXPECTED_PASS


def test_breakdown_is_an_error_even_if_a_failure_is_known() -> None:
    assert judged(replace(PASSED, outcome=Outcome.ERROR), "it was never written").outcome is Outcome.ERROR


async def test_feature_that_is_not_claimed_is_unsupported() -> None:
    (result,) = await run(plan([OTHER], [TESTEE]), lambda result: None)
    assert (result.outcome, result.message) == (Outcome.UNSUPPORTED, "not claimed: memory.ttl")


async def test_testee_that_cannot_be_started_is_an_error() -> None:
    missing = replace(TESTEE, start=("/no/such/program",))
    (result,) = await run(plan([CASE], [missing]), lambda result: None)
    assert result.outcome is Outcome.ERROR
    assert "cannot start /no/such/program" in result.message


async def test_testee_that_dies_is_an_error() -> None:
    (result,) = await run(plan([CASE], [TESTEE]), lambda result: None)
    assert result.outcome is Outcome.ERROR
    assert "exit code 1" in result.message


async def test_result_that_does_not_come_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(self: suite.Workplace, task: suite.Task) -> Result:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr(suite.Workplace, "run", breaks)
    (result,) = await run(plan([CASE], [TESTEE]), lambda result: None)
    assert result.outcome is Outcome.NOT_RUN
    assert exit_code([result]) == 1


def test_plan_has_every_transport_and_keeps_subjects_apart() -> None:
    engine = Testee(testees.ENGINE, "Engine")
    both = replace(CASE, transports=("stdio", "grpc"))
    tasks = plan([both, ENGINES], [TESTEE, engine])
    assert [(task.case.id, task.testee.name, task.transport) for task in tasks] == [
        ("errors/one", "python", "stdio"),
        ("errors/one", "python", "grpc"),
        ("drain/three", "engine", "grpc"),
    ]
    assert [task.transport for task in plan([both], [TESTEE], ["grpc"])] == ["grpc"]


def test_known_entry_that_speaks_of_no_case_is_stale() -> None:
    known = (Known("errors/*", "because"), Known("error/*", "because"), Known("errors/one", "because", "grpc"))
    found = testees.stale([replace(TESTEE, known=known)], [CASE, ENGINES])
    assert len(found) == 2
    assert "'error/*'" in found[0]
    assert "'errors/one' on grpc" in found[1]


def test_testees_are_read_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "testees.yaml"
    file.write_text("go: {language: Go, start: ['{python}', -m, x], known: [{case: a/*, because: not written yet}]}\n")
    found = testees.load(file)
    assert set(found) == {"engine", "go"}
    assert found["go"].start[1:] == ("-m", "x")
    assert found["go"].known == (Known("a/*", "not written yet"),)
    assert found["go"].command(replace(CASE, agents=("Echo", "Slow"), credit=2), "--x")[3:] == [
        "--x", "--agents", "Echo,Slow", "--credit", "2",
    ]  # fmt: skip
    file.write_text("go: {language: Go, start: [go], knwon: []}\n")
    with pytest.raises(CorpusProblem, match="knwon"):
        testees.load(file)
    file.write_text("go: {language: Go}\n")
    with pytest.raises(CorpusProblem, match="needs 'start'"):
        testees.load(file)


def test_draft_runs_only_when_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "testees.yaml"
    file.write_text("go: {language: Go, start: [go]}\nzig: {language: Zig, draft: true, start: [zig]}\n")
    found = testees.load(file)
    assert set(found) == {"engine", "go", "zig"}
    assert [testee.name for testee in testees.finished(found)] == ["engine", "go"]


def test_the_testees_of_the_repository_are_well_formed() -> None:
    found = testees.load()
    assert {"engine", "python"} <= set(found)


async def test_testee_without_its_toolchain_says_what_is_missing() -> None:
    assert "there is no no-such-tool here" in await replace(TESTEE, toolchain=("no-such-tool",)).available()
    assert "ended with 1" in await replace(TESTEE, toolchain=("false",)).available()
    assert await replace(TESTEE, toolchain=("true",)).available() == ""
    assert "'false' ended with 1" in await replace(TESTEE, build=(("true",), ("false",))).built()


def test_console_shows_frames_and_how_to_repeat_a_failure() -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.begin(2)
    console.result(PASSED)
    console.result(FAILED)
    console.end([PASSED, FAILED], ["something else"])
    text = stream.getvalue()
    assert "FAIL python/stdio: errors/one" in text
    assert "sdk → {}" in text
    assert "python -m conformance run --testee python --transport stdio --case 'errors/one'" in text
    assert "1 PASS, 1 FAIL" in text
    assert "PROBLEM something else" in text
    assert "\x1b" not in text, "colours are for terminals"


def test_jsonl_has_a_line_for_each_result(tmp_path: Path) -> None:
    reports.write_jsonl(tmp_path / "r.jsonl", [PASSED, FAILED], {CASE.id: CASE})
    passed, failed = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
    assert (passed["outcome"], passed["level"], passed["seconds"]) == ("PASS", "must", 0.25)
    assert (failed["outcome"], failed["message"], failed["trace"]) == ("FAIL", "expected 1, got 2", ["sdk → {}"])


def test_junit_has_a_suite_for_each_testee_and_transport(tmp_path: Path) -> None:
    broken = replace(PASSED, outcome=Outcome.ERROR, transport="grpc")
    reports.write_junit(tmp_path / "r.xml", [PASSED, FAILED, broken])
    first, second = ElementTree.parse(tmp_path / "r.xml").getroot()
    assert (first.get("name"), first.get("tests"), first.get("failures")) == ("python/stdio", "2", "1")
    assert (second.get("name"), second.get("errors")) == ("python/grpc", "1")
    failure = first.find("testcase/failure")
    assert failure is not None and failure.get("message") == "FAIL: expected 1, got 2"
    assert "\x00" not in (failure.text or "")


def test_matrix_counts_a_case_once_over_its_transports() -> None:
    results = [
        PASSED,
        replace(FAILED, transport="grpc"),
        replace(PASSED, case="errors/two", outcome=Outcome.UNSUPPORTED),
    ]
    cases = {case.id: case for case in (CASE, OTHER)}
    document = matrix.render(results, cases, [TESTEE])
    assert "| errors | 0 of 1, 1 not claimed |" in document
    assert "| `memory.ttl` | no |" in document
    assert "## Known to fail\n\nNothing." in document


def test_matrix_that_is_out_of_date_is_told_cell_by_cell() -> None:
    cases = {case.id: case for case in (CASE, ENGINES)}
    engine = Testee(testees.ENGINE, "Engine")
    before = matrix.render([PASSED, replace(PASSED, testee="engine", case=ENGINES.id)], cases, [engine, TESTEE])
    assert matrix.differences(before, before) == []
    alone = matrix.render([PASSED], cases, [TESTEE])
    assert matrix.differences(before, alone) == [], "a language that did not run is passed over"
    failed = matrix.render([FAILED], cases, [TESTEE])
    assert "Cases passed, errors, Python: the document says '1 of 1', the run '0 of 1'" in matrix.differences(
        before, failed
    )
