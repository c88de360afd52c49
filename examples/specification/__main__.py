"""`python -m examples.specification`: both programs of the specification, with the services they use started for them.

Name one to run it alone: `python -m examples.specification sentiment`, or `ingestion`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

from examples.specification import services
from examples.specification.exports import fill_bucket

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent


def run_program(module: str, environment: services.Environment, *, capture: bool = False) -> CompletedProcess[str]:
    """Runs a program of this folder with the stand-ins on its path. capture: its output is returned, not shown."""
    paths = [str(FOLDER / "stand_ins"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", f"examples.specification.{module}"]
    inherited = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    return subprocess.run(command, cwd=FOLDER, env={**inherited, **environment}, capture_output=capture, text=True)


def sentiment() -> int:
    """The sentiment agent, with a PostgreSQL server."""
    with services.postgres() as environment:
        return run_program("sentiment_analysis", environment).returncode


def ingestion() -> int:
    """The ingestion pipeline, with an S3 server that has something to ingest, and a search engine."""
    with services.s3() as storage, services.search_engine() as search:
        fill_bucket(storage)
        return run_program("data_ingestion", {**storage, **search}).returncode


PROGRAMS = {"sentiment": sentiment, "ingestion": ingestion}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.specification", description=__doc__)
    parser.add_argument("program", nargs="?", choices=sorted(PROGRAMS))
    chosen = parser.parse_args().program
    failed = False
    for name, program in PROGRAMS.items():
        if chosen not in (None, name):
            continue
        try:
            failed |= program() != 0
        except services.ServiceMissing as problem:
            print(f"{name}: {problem}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
