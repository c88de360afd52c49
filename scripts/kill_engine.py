"""Kills an engine with SIGKILL N times under load and checks that nothing acknowledged was lost or counted twice.

    python scripts/kill_engine.py 1000
    python scripts/kill_engine.py 50 --seed 4711 --keep /tmp/killed

Exit code 1, with the seed, when something is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "server"), str(ROOT / "sdk-python")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=20, help="how often; 20 unless said")
    parser.add_argument("--seed", type=int, default=0, help="repeats the moments of an earlier run")
    parser.add_argument("--longest", type=float, default=1.0, help="seconds between two kills, at most")
    parser.add_argument("--keep", type=Path, help="folder for store and logs, kept afterwards")
    arguments = parser.parse_args()

    from tests.faults.killing import kill_rounds

    seed = arguments.seed or random.SystemRandom().getrandbits(32)
    with tempfile.TemporaryDirectory(prefix="amx-kill-") as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            report = asyncio.run(kill_rounds(folder, arguments.kills, seed, longest=arguments.longest))
        except AssertionError as wrong:
            print(f"kill_engine: {wrong}", file=sys.stderr)
            return 1
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
