"""The scripts that keep contracts and stubs honest: what drift looks like, which commit contracts are held against."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import check_protos
from scripts.generate_stubs import drift

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Git in a new repository that check_protos takes for the project, with one commit of contracts on main."""
    monkeypatch.setattr(check_protos, "ROOT", tmp_path)
    monkeypatch.delenv("AMX_PROTO_BASE", raising=False)
    for variable in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):  # set where a hook runs the tests
        monkeypatch.delenv(variable, raising=False)

    def run(*arguments: str) -> str:
        identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    run("init", "-q", "-b", "main")
    (tmp_path / "proto").mkdir()
    (tmp_path / "proto" / "a.proto").write_text('syntax = "proto3";\n')
    run("add", ".")
    run("commit", "-q", "-m", "first")
    return run


def test_drift_of_equal_files_is_empty() -> None:
    assert drift({"a.py": "x\n"}, {"a.py": "x\n"}) == []


@pytest.mark.parametrize(
    ("current", "fresh", "line"),
    [
        ({"a.py": "old\n"}, {"a.py": "new\n"}, "+new"),
        ({}, {"a.py": "new\n"}, "+new"),
        ({"a.py": "old\n"}, {}, "-old"),
    ],
)
def test_drift_shows_changed_missing_and_superfluous_files(
    current: dict[str, str], fresh: dict[str, str], line: str
) -> None:
    lines = drift(current, fresh)
    assert lines[0] == "--- checked in: a.py"
    assert line in lines


def test_base_of_the_first_commit_is_nothing(git: Git) -> None:
    assert check_protos.base_commit() is None


def test_base_of_uncommitted_contracts_is_head(git: Git, tmp_path: Path) -> None:
    (tmp_path / "proto" / "a.proto").write_text("changed")
    assert check_protos.base_commit() == git("rev-parse", "HEAD")


def test_base_on_main_is_the_commit_before(git: Git) -> None:
    first = git("rev-parse", "HEAD")
    git("commit", "-q", "--allow-empty", "-m", "second")
    assert check_protos.base_commit() == first


def test_base_on_a_branch_is_where_it_left_main(git: Git) -> None:
    first = git("rev-parse", "HEAD")
    git("checkout", "-q", "-b", "topic")
    git("commit", "-q", "--allow-empty", "-m", "second")
    git("commit", "-q", "--allow-empty", "-m", "third")
    assert check_protos.base_commit() == first


def test_contracts_of_a_commit_are_extracted_as_they_were(git: Git, tmp_path: Path) -> None:
    (tmp_path / "proto" / "a.proto").write_text("changed")
    out = tmp_path / "out"
    assert check_protos.extract("HEAD", out)
    assert (out / "proto" / "a.proto").read_text().strip() == 'syntax = "proto3";'
    assert not check_protos.extract("0" * 40, out)
