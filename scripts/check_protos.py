"""Checks the contracts with buf: lint, format, and nothing broken since the last commit on main.

What "since" means: uncommitted contracts are compared with HEAD, a branch with the commit where it left main, a commit
on main with the one before it. AMX_PROTO_BASE names another commit. generate_stubs.py checks the generated stubs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ("buf.yaml", "proto")


def git(*arguments: str) -> str | None:
    """What git prints, or None where it fails: no repository, no such commit."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def base_commit() -> str | None:
    """The commit to compare with, or None where there is nothing older."""
    if named := os.environ.get("AMX_PROTO_BASE"):
        return named
    if git("status", "--porcelain", "--", *CONTRACTS):
        return git("rev-parse", "--verify", "--quiet", "HEAD")
    head = git("rev-parse", "HEAD")
    for main in ("origin/main", "main"):
        left_at = git("merge-base", main, "HEAD")
        if left_at and left_at != head:
            return left_at
    return git("rev-parse", "--verify", "--quiet", "HEAD~1")


def extract(commit: str, folder: Path) -> bool:
    """Puts the contracts of `commit` into `folder`. False when the commit has none, or is not in this clone."""
    names = git("ls-tree", "-r", "--name-only", commit, "--", *CONTRACTS)
    for name in (names or "").splitlines():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(git("show", f"{commit}:{name}") or "")
    return bool(names)


def main() -> int:
    buf = Path(sys.executable).parent / "buf"
    if not buf.is_file():
        print("skipped: buf (its wheel has no build for this platform)")
        return 0
    failed = False
    for arguments, meaning in ((("lint",), "lint"), (("format", "--diff", "--exit-code"), "format")):
        ok = subprocess.run([buf, *arguments], cwd=ROOT, check=False).returncode == 0
        print(f"buf {meaning}: {'ok' if ok else 'failed'}")
        failed |= not ok
    base = base_commit()
    with tempfile.TemporaryDirectory() as folder:
        if base is None or not extract(base, Path(folder)):
            print("buf breaking: no earlier contracts to compare with")
        else:
            ok = subprocess.run([buf, "breaking", "--against", folder], cwd=ROOT, check=False).returncode == 0
            print(f"buf breaking against {base[:12]}: {'ok' if ok else 'failed'}")
            failed |= not ok
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
