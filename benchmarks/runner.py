"""Runs the loads: in each round every system is started afresh, measured and ended, so that rounds interleave them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from benchmarks.load import Figures, medians
from benchmarks.processes import Absent, BenchmarkError
from benchmarks.rows import Load, Ratio, Row
from benchmarks.systems import System, running

OURS = "amx"


@dataclass(frozen=True, slots=True)
class Effort:
    """How long each load runs, and how often."""

    rounds: int
    warmup_s: float
    seconds: float


FULL = Effort(rounds=3, warmup_s=1.0, seconds=3.0)
QUICK = Effort(rounds=1, warmup_s=0.2, seconds=0.5)


@dataclass(slots=True)
class Results:
    """What came out. Failures and absences are kept by name rather than raised: the other rows still count."""

    rounds: dict[tuple[str, Load], list[Figures]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)  # system -> why it could not be measured
    skipped: dict[Load, str] = field(default_factory=dict)  # what it would have needed
    failures: list[str] = field(default_factory=list)

    def value(self, system: str, row: Row) -> float | None:
        """Median over the rounds; None: not measured."""
        rounds = self.rounds.get((system, row.load))
        return medians(rounds)[row.figure] if rounds else None

    def spread(self, system: str, row: Row) -> tuple[float, float] | None:
        """Least and greatest over the rounds; None: not measured."""
        values = [one[row.figure] for one in self.rounds.get((system, row.load), ())]
        return (min(values), max(values)) if values else None

    def ratio(self, ratio: Ratio, row: Row) -> float | None:
        """Ours divided by the peer's; None: one of them was not measured."""
        ours, theirs = self.value(OURS, row), self.value(ratio.peer, row)
        return ours / theirs if ours is not None and theirs else None


async def run(
    systems: Collection[System], rows: Collection[Row], effort: Effort, progress: Callable[[str], None]
) -> Results:
    """Measures every load of `rows` on ours and on the peers that the row names, as far as they are in `systems`."""
    results = Results()
    loads: dict[str, list[Load]] = {}
    for row in rows:
        for name in (OURS, *row.peers):
            of_system = loads.setdefault(name, [])
            if row.load not in of_system:
                of_system.append(row.load)
    present: list[System] = []
    for system in systems:
        if not loads.get(system.name):
            continue
        if why := system.missing():
            results.absent[system.name] = why
            progress(f"{system.name}: {why}")
        else:
            present.append(system)
    for number in range(effort.rounds):
        for system in present:
            progress(f"round {number + 1} of {effort.rounds}: {system.name}")
            try:
                await _measure(system, loads[system.name], effort, results)
            except BenchmarkError as error:
                results.failures.append(f"{system.name}: {error}")
                progress(f"{system.name} failed: {error}")
    return results


async def _measure(system: System, loads: Collection[Load], effort: Effort, results: Results) -> None:
    async with running(system) as started:
        for load in loads:
            try:
                figures = await started.measure(load, warmup_s=effort.warmup_s, seconds=effort.seconds)
            except Absent as why:
                results.skipped[load] = str(why)
            except BenchmarkError as error:
                results.failures.append(f"{system.name}, {load}: {error}")
            else:
                results.rounds.setdefault((system.name, load), []).append(figures)
