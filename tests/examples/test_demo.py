"""The demo's comparison finds what it should find, and the demo itself passes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("airportsdata", reason="the data set of the demo is not installed: pip install 'amx-engine[demo]'")

from examples import demo


def test_account_that_differs_is_told_apart_by_place_and_number() -> None:
    expected = demo.count_file(demo.read_rows(500))
    counted = demo.count_file(demo.read_rows(500))
    assert list(expected.differences(counted)) == []
    counted.tally["skipped"] += 1
    country = max(counted.countries)
    counted.countries[country] = replace(counted.countries[country], airports=0)
    found = list(expected.differences(counted))
    assert len(found) == 2
    assert "intake, skipped" in found[0]
    assert f"countries, {country}" in found[1]


def test_rows_of_a_sample_come_from_all_over_the_file() -> None:
    rows, sample = demo.read_rows(None), demo.read_rows(100)
    assert len(sample) == 100
    assert len({row["country"] for row in sample}) > 10
    assert all(row in rows for row in sample)


@pytest.mark.process
@pytest.mark.fault
def test_demo_with_engine_and_worker_killed_counts_every_row_once(repository: Path) -> None:
    paths = [str(repository), str(repository / "server"), str(repository / "sdk-python")]
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--records", "1200"],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("killed with SIGKILL") == 2
    assert "every number equals the file's" in done.stdout
    assert "\x1b[" not in done.stdout  # colour is for terminals
