"""What README.md shows works as it is shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.check_docs import FENCE

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the first agent of the README, as `greeter.py`."""
    found = FENCE.finditer((ROOT / "README.md").read_text())
    (first,) = [match.group(3) for match in found if match.group(2) == "python"]
    assert len([line for line in first.splitlines() if line.strip()]) <= 15
    (tmp_path / "greeter.py").write_text(first)
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    paths = [str(ROOT / "server"), str(ROOT / "sdk-python"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def test_first_agent_remembers_over_restarts(folder: Path, environment: dict[str, str]) -> None:
    said = [
        subprocess.run(
            [sys.executable, "greeter.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
        for _ in range(2)
    ]
    assert [one.stdout for one in said] == [f"Hello, Ada! This is time {time}.\n" for time in (1, 2)], said


@pytest.fixture
def engine(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """`amx dev` with the first agent; gives its address."""
    log = folder / "amx.log"
    command = [sys.executable, "-m", "amx_server.cli", "dev", "--load", "greeter.py"]
    command += ["--grpc-port", "0", "--http-port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + SECONDS
        while "Try: " not in log.read_text() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        found = re.search(r"gRPC on (\S+?),", log.read_text())
        assert found, log.read_text()
        yield found[1]
    finally:
        process.terminate()
        process.wait(SECONDS)


def test_agent_in_amx_dev_answers_the_command_line(folder: Path, environment: dict[str, str], engine: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "amx_server.cli", "request", "Greeter", '"Ada"', "--address", engine],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Hello, Ada! This is time 1." in done.stdout
