"""The matrix of languages: what it compares, and that it notices a language that loses something."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from conformance.matrix import Cell, is_good, run, table
from conformance.probes import ANYTHING, AtLeast, decode, difference, probes, wanted
from conformance.runner import testees


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ("0.1", "0.1"),
        ("1", "1.0"),
        ("5e-324", "5E-324"),
        ('{"a": 1, "b": [null, "x"]}', '{"a": 1, "b": [null, "x"]}'),
    ],
)
def test_values_that_are_the_same(expected: str, found: str) -> None:
    assert difference(decode(expected), decode(found)) == ""


@pytest.mark.parametrize(
    ("expected", "found", "place"),
    [
        ("1", "2", "outcome"),
        ("1", '"1"', "outcome"),
        ("1", "true", "outcome"),
        ("0.1", "0.10000000000000002", "outcome"),
        ("9007199254740993", "9007199254740992", "outcome"),
        ('{"a": null}', "{}", "outcome"),
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', "outcome"),
        ('{"a": {"b": "ä"}}', '{"a": {"b": "a\\u0308"}}', "outcome.a.b"),
        ("[1, 2]", "[1]", "outcome"),
        ("[1, [2]]", "[1, [3]]", "outcome[1][0]"),
    ],
)
def test_values_that_differ_are_told_with_their_place(expected: str, found: str, place: str) -> None:
    assert difference(decode(expected), decode(found)).startswith(f"{place}: expected")


@pytest.mark.parametrize(
    ("expected", "found", "fits"),
    [
        (AtLeast({"a": 1}), {"a": 1, "b": 2}, True),
        (AtLeast({"a": 1}), {"b": 2}, False),
        (AtLeast({"a": AtLeast("part")}), {"a": "a part of it"}, True),
        (AtLeast({"a": AtLeast("part")}), {"a": "all of it"}, False),
        (AtLeast({"a": 1}), None, False),
        (ANYTHING, None, True),
    ],
)
def test_a_part_of_what_is_found(expected: AtLeast, found: Any, fits: bool) -> None:
    assert (difference(expected, found) == "") is fits


def test_probes_need_what_both_sides_claim() -> None:
    everything = list(probes("a.", "b."))
    all_features = frozenset(feature for probe in everything for feature in probe.features)
    assert wanted(iter(everything), (all_features, all_features)) == everything
    fewer = [probe.name for probe in wanted(iter(everything), (all_features, all_features - {"types.nanoseconds"}))]
    assert fewer == [probe.name for probe in everything if probe.name != "typed: nanoseconds"]


def test_a_table_shows_every_pair_and_what_is_wrong() -> None:
    cells = [
        Cell(client, agent, 3, (("echo: null", "outcome: …"),) if client != agent else ())
        for client in ("python", "ts")
        for agent in ("python", "ts")
    ]
    assert table(cells).splitlines() == [
        "client \\ agent  python  ts",
        "python          3/3     2/3",
        "ts              2/3     3/3",
        "FAIL python asks ts: echo: null",
        "  outcome: …",
        "FAIL ts asks python: echo: null",
        "  outcome: …",
    ]
    assert not is_good(cells)
    assert not is_good([Cell("a", "a", 0, ())]) and not is_good([]) and is_good([Cell("a", "a", 1, ())])


@pytest.mark.process
def test_a_language_that_loses_something_is_noticed_on_both_sides() -> None:
    python = testees.load()["python"]
    start = (sys.executable, "-m", "conformance.testees.broken", "--break", "lost-cause")
    broken = testees.Testee("broken", "Broken", start, python.features)
    cells = asyncio.run(run([python, broken]))
    wrong = {(cell.client, cell.agent): [name for name, _ in cell.problems] for cell in cells}
    assert wrong == {
        ("python", "python"): [],
        ("python", "broken"): ["failure: causes"],
        ("broken", "python"): [],
        ("broken", "broken"): ["failure: causes"],
    }
    assert "FAIL python asks broken: failure: causes" in table(cells)
