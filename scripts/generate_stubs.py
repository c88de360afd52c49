"""Generates the Python stubs in sdk-python/amx/v1 from proto/ with a pinned generator, or checks that they are current.

The generator is older than the runtime on purpose: what it writes runs on every protobuf from 5.26.1 on.
It lives in its own environment (.venv-proto), so its pins never meet the project's.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
STUBS = ROOT / "sdk-python"
ENVIRONMENT = ROOT / ".venv-proto"
PINS = (
    "grpcio==1.71.2",
    "grpcio-tools==1.71.2",
    "mypy-protobuf==3.7.0",
    "protobuf==5.29.6",
    "setuptools==80.9.0",
    "types-protobuf==6.32.1.20251210",
)
GENERATED = "amx/v1/*_pb2*.py*"


def generator() -> Path:
    """The Python of the generator's environment, which is created when absent or when the pins have changed."""
    bin_dir = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
    stamp = ENVIRONMENT / "pins.txt"
    wanted = "\n".join(PINS)
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"installing the stub generator into {ENVIRONMENT.name}", file=sys.stderr)
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        subprocess.run(
            [bin_dir / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS], check=True
        )
        stamp.write_text(wanted)
    return bin_dir / "python"


def generate(out: Path) -> None:
    """Writes the stubs of every contract below `out`."""
    python = generator()
    protos = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    outputs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    # The plug-in is found through PATH; "quiet" keeps it from listing every file.
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run(
        [python, "-m", "grpc_tools.protoc", f"-I{PROTO}", *outputs, f"--mypy_grpc_out=quiet:{out}", *protos],
        check=True,
        env=environment,
    )
    for path in out.rglob("*_pb2_grpc.py"):
        if "_to_server" not in path.read_text():  # a contract without a service has nothing to say here
            path.unlink()
            path.with_suffix(".pyi").unlink()


def contents(root: Path) -> dict[str, str]:
    """The generated files below `root`, by path relative to it."""
    return {path.relative_to(root).as_posix(): path.read_text() for path in sorted(root.glob(GENERATED))}


def drift(current: dict[str, str], fresh: dict[str, str]) -> list[str]:
    """Lines of a unified diff from what is checked in to what the contracts say now. Empty when they agree."""
    lines: list[str] = []
    for name in sorted(current.keys() | fresh.keys()):
        before, after = current.get(name, ""), fresh.get(name, "")
        if before != after:
            lines += difflib.unified_diff(
                before.splitlines(), after.splitlines(), f"checked in: {name}", f"generated: {name}", lineterm=""
            )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; print what differs and exit with 1")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        generate(out)
        fresh, current = contents(out), contents(STUBS)
        if arguments.check:
            lines = drift(current, fresh)
            print("\n".join(lines) if lines else f"{len(fresh)} stub files agree with proto/")
            if lines:
                print("The checked-in stubs are old: run `make proto` and commit sdk-python/amx.", file=sys.stderr)
            return 1 if lines else 0
        for name in current.keys() - fresh.keys():
            (STUBS / name).unlink()
        for name in fresh:
            (STUBS / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(out / name, STUBS / name)
        print(f"wrote {len(fresh)} stub files below {STUBS.relative_to(ROOT)}/amx/v1")
    return 0


if __name__ == "__main__":
    sys.exit(main())
