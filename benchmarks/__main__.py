"""`python -m benchmarks`: run, check, peers-install. See README.md."""

from __future__ import annotations

import argparse
import asyncio
import compileall
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import install, report
from benchmarks.rows import RATIOS, ROWS, Ratio, Row
from benchmarks.runner import FULL, QUICK, run
from benchmarks.systems import System
from benchmarks.systems.amx import Amx
from benchmarks.systems.autogen import AutoGen
from benchmarks.systems.nats import Nats
from benchmarks.systems.processes_each import BareProcesses, OpenAiProcesses
from benchmarks.systems.ray import Ray
from benchmarks.systems.restate import Restate

PEERS: tuple[type[System], ...] = (Nats, AutoGen, Ray, Restate, BareProcesses, OpenAiProcesses)
CORES = 2


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all works; keeps no results")
    parser.add_argument("--only", action="append", metavar="ID", help="this row, or this file of rows; may be repeated")
    parser.add_argument("--no-peers", action="store_true", help="only AMX Engine")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("check", help="print the rows that miss their bound; exit status 1 if there are any")
    peers = commands.add_parser("peers-install", help="install what we compare with into benchmarks/.peers")
    peers.add_argument("peer", nargs="?", choices=list(install.PYTHON_PACKAGES), help="only this one")
    return parser.parse_args(argv)


def _select(only: Sequence[str] | None) -> tuple[list[Row], list[Ratio]]:
    if not only:
        return list(ROWS), list(RATIOS)
    wanted = set(only)
    ratios = [ratio for ratio in RATIOS if ratio.id in wanted]
    wanted |= {ratio.of for ratio in ratios}
    rows = [row for row in ROWS if row.id in wanted or row.file in wanted]
    ratios += [ratio for ratio in RATIOS if ratio not in ratios and ratio.of in {row.id for row in rows}]
    known = {row.id for row in ROWS} | {row.file for row in ROWS} | {ratio.id for ratio in RATIOS}
    if unknown := set(only) - known:
        raise SystemExit(f"no row is called {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}")
    return rows, ratios


def _use_cores(count: int) -> set[int]:
    """Confines this process, and so every process it starts, to `count` cores. Returns those in use."""
    cores = set(sorted(os.sched_getaffinity(0))[:count])
    os.sched_setaffinity(0, cores)
    return cores


def _compile() -> None:
    """Keeps what importing compiles, as installing a package does, even where the environment says otherwise: what
    starts is measured without the compiler.
    """
    root = Path(__file__).resolve().parent.parent
    for folder in ("server/amx_server", "sdk-python/amx", "sdk-python/amx_engine"):
        compileall.compile_dir(root / folder, quiet=2)


def _measure(options: argparse.Namespace) -> int:
    _compile()
    rows, ratios = _select(options.only)
    effort = QUICK if options.quick else FULL
    cores = _use_cores(CORES)
    systems: list[System] = [Amx()] + ([] if options.no_peers else [peer() for peer in PEERS])
    machine = report.machine(cores)
    print(
        f"on {machine['cpu']}, {len(cores)} cores, {machine['system']}, Python {machine['python']}, frame codec"
        f" {machine['frame_codec']}",
        flush=True,
    )
    results = asyncio.run(run(systems, rows, effort, lambda line: print(f"  {line}", file=sys.stderr, flush=True)))

    shown = [] if options.no_peers else ratios
    print(f"\n{report.table(results, rows, shown)}\n")
    print(
        f"Engine, worker and client are three processes on the same {len(cores)} cores; 256-byte payloads; closed"
        f" loop; medians of {effort.rounds} interleaved round(s) of {effort.seconds:g} s after {effort.warmup_s:g} s of"
        " warm-up."
    )
    for system in systems:
        if any(name == system.name for name, _ in results.rounds):
            print(f"{system.name}: {system.about}.")
    for name, why in results.absent.items():
        print(f"{name}: not measured, {why}. `python -m benchmarks peers-install` installs what is missing.")
    for row in rows:
        if row.load in results.skipped:
            print(f"{row.id}: skipped, {results.skipped[row.load]}.")
    for failure in results.failures:
        print(f"FAILED {failure}", file=sys.stderr)
    print(f"Repeat: make bench, or python -m benchmarks {' '.join(sys.argv[1:])}".rstrip())
    if not options.quick:
        for path in report.write(results, rows, shown, machine):
            print(f"wrote {path}")
    return 1 if results.failures else 0


def _check() -> int:
    lines = list(report.missed())
    for line in lines:
        print(line)
    print(f"{len(lines)} of {len(ROWS) + len(RATIOS)} rows miss their bound" if lines else "every row keeps its bound")
    return 1 if lines else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    options = _arguments(sys.argv[1:] if argv is None else argv)
    if options.command == "check":
        return _check()
    if options.command == "peers-install":
        return 1 if install.install(options.peer) else 0
    return _measure(options)


if __name__ == "__main__":
    sys.exit(main())
