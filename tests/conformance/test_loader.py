"""Cases are checked when they are loaded; what is wrong with them is said with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.runner.cases import chosen, seconds
from conformance.runner.loader import CASES, CorpusProblem, load, load_case

HEAD = """\
title: A case of the loader's tests
clause: docs/protocol.md#invocations
level: must
subject: sdk
"""
ECHO = "steps:\n  - exchange: {agent: Echo}\n    expect: {result: {$json: null}}\n"


def write(folder: Path, text: str, name: str = "errors/one.yaml") -> Path:
    """A case's file below `folder`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def problem(folder: Path, text: str, name: str = "errors/one.yaml") -> str:
    """What is wrong with a case."""
    path = write(folder, text, name)
    with pytest.raises(CorpusProblem) as caught:
        load_case(path, folder)
    return "\n".join(caught.value.problems)


def test_case_has_the_id_of_its_place(tmp_path: Path) -> None:
    case = load_case(write(tmp_path, HEAD + ECHO), tmp_path)
    assert (case.id, case.category, case.level, case.subject) == ("errors/one", "errors", "must", "sdk")
    assert case.steps[0].kind == "exchange"
    assert case.steps[0].line == 6


def test_yaml_is_read_as_json_would_be(tmp_path: Path) -> None:
    text = HEAD + "steps:\n  - exchange: {agent: on, payload: {$json: [yes, 1.50, 1e3, 2020-01-01, ~, null, 010]}}\n"
    case = load_case(write(tmp_path, text + "    expect: {result: {}}\n"), tmp_path)
    values = case.steps[0].args["payload"]["$json"]
    assert [str(one) for one in values] == ["yes", "1.50", "1e3", "2020-01-01", "~", "None", "010"]
    assert case.steps[0].args["agent"] == "on"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + "stepps: []\n" + ECHO, "Additional properties are not allowed ('stepps' was unexpected)"),
        (HEAD + "steps:\n  - exchnge: {agent: Echo}\n", ":6: steps[0].exchnge: unknown key"),
        (
            HEAD + "steps:\n  - send: {id: 1, invok: {}}\n",
            ":6: steps[0].send.invok: unknown key: a LinkItem has no",
        ),
        (HEAD + "steps:\n  - expect: {ping: {nonc: 1}}\n", "steps[0].expect.ping.nonc: unknown key"),
        (HEAD + "steps:\n  - expect: {id: {$bnd: x}}\n", "there is no $bnd here"),
        (HEAD + "steps:\n  - expect: {chunk: {payload: {$json: {a: {$mtch: 1}}}}}\n", "there is no $mtch here"),
        (HEAD + "steps:\n  - advance: 5 seconds\n", "steps[0].advance"),
        (HEAD + "steps:\n  - expect: {id: 1}\n    within: soon\n", "steps[0].within"),
        (HEAD + "steps:\n  - kill: true\n", "'kill' is not for subject sdk"),
        (HEAD + "transports: [engine]\nsteps:\n  - send: {id: 1}\n", "cannot run on 'engine', only on stdio, grpc"),
        (HEAD + "transports: [grpc]\nsteps:\n  - advance: 5s\n", "cannot run on 'grpc', only on stdio"),
        (HEAD + "config: {}\n" + ECHO, "'config' is for subject engine"),
        (HEAD.replace("#invocations", "#nothing") + ECHO, ":2: clause: docs/protocol.md has no heading 'nothing'"),
        (HEAD.replace("protocol.md", "no.md") + ECHO, "there is no docs/no.md"),
        (HEAD + "title: Twice is once too often\n" + ECHO, ":5: the key 'title' appears twice"),
        (HEAD + "steps: [\n", "is not YAML"),
        (HEAD, "'steps' is a required property"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    found = problem(tmp_path, text)
    assert expected in found
    assert "errors/one.yaml" in found


def test_name_of_a_file_is_plain(tmp_path: Path) -> None:
    assert "in lower case" in problem(tmp_path, HEAD + ECHO, "errors/One.yaml")


def test_every_problem_of_a_corpus_is_reported(tmp_path: Path) -> None:
    write(tmp_path, HEAD, "a/one.yaml")
    write(tmp_path, HEAD, "b/two.yaml")
    with pytest.raises(CorpusProblem) as caught:
        load(tmp_path)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("more", "steps", "transports"),
    [
        ("", ECHO, ("stdio", "grpc", "engine")),
        ("", ECHO.replace("{result: {$json: null}}", "{effects: {}}"), ("stdio", "grpc")),
        ("welcome: {protocol: 1}\n", ECHO, ("stdio", "grpc")),
        ("", ECHO + "  - advance: 1s\n", ("stdio",)),
        ("transports: [stdio]\n", ECHO, ("stdio",)),
    ],
)
def test_transports_are_those_that_fit(tmp_path: Path, more: str, steps: str, transports: tuple[str, ...]) -> None:
    assert load_case(write(tmp_path, HEAD + more + steps), tmp_path).transports == transports


@pytest.mark.parametrize(
    ("pattern", "id", "fits"),
    [
        ("streaming/**", "streaming/chunks", True),
        ("streaming/*", "streaming/chunks", True),
        ("stream*", "streaming/chunks", False),
        ("**", "streaming/chunks", True),
        ("**/chunks", "streaming/chunks", True),
        ("*/chunk?", "streaming/chunks", True),
        ("streaming/chunks", "streaming/chunks-more", False),
    ],
)
def test_patterns_choose_cases(pattern: str, id: str, fits: bool) -> None:
    assert chosen(id, [pattern]) is fits


def test_durations_have_units() -> None:
    assert [seconds(text) for text in ("250ms", "2s", "1.5m", "1h", "1d")] == [0.25, 2, 90, 3600, 86400]


def test_the_corpus_is_large_enough_and_well_formed() -> None:
    cases = load(CASES)
    assert len(cases) >= 150
    assert {case.subject for case in cases} == {"sdk", "engine"}
    assert len({case.title for case in cases}) == len(cases), "two cases have one title"
