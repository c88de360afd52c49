"""Results as a table for people and as files for `bench-check`, and the check itself."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Collection, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from amx import wire
from benchmarks.rows import RATIOS, ROWS, Better, Ratio, Row
from benchmarks.runner import OURS, Results

RESULTS = Path(__file__).resolve().parent / "results"
_PACKAGES = ("grpcio", "protobuf", "uvloop", "apsw")


def machine(cores: Collection[int]) -> dict[str, Any]:
    """What the results were measured on."""
    return {
        "cpu": _cpu_model(),
        "cores_used": len(cores),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "frame_codec": "compiled" if wire.COMPILED else "plain Python",
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def reaches(value: float | None, better: Better, bound: float) -> bool:
    """Whether a figure keeps its bound. What was not measured does not."""
    if value is None:
        return False
    return value >= bound if better == "higher" else value <= bound


def table(results: Results, rows: Collection[Row], ratios: Collection[Ratio]) -> str:
    """Everything measured, with bounds, spread over the rounds, peers and how many times theirs ours is."""
    by_id = {row.id: row for row in ROWS}
    peers = [name for name in _peers(rows) if any(system == name for system, _ in results.rounds)]
    lines = [("", "id", "measured", "result", "rounds", "must reach", *(f"{peer} (ours is)" for peer in peers))]
    for row in rows:
        value = results.value(OURS, row)
        lines.append(
            (
                "ok" if reaches(value, row.better, row.bound) else "MISS",
                row.id,
                row.title,
                _figure(value, row.unit),
                "..".join(_number(one) for one in results.spread(OURS, row) or ()),
                _bound(row),
                *(_beside(value, results.value(peer, row) if peer in row.peers else None, row.unit) for peer in peers),
            )
        )
    for ratio in ratios:
        value = results.ratio(ratio, by_id[ratio.of])
        title = f"{by_id[ratio.of].title}: ours / {ratio.peer}"
        mark = "ok" if reaches(value, ratio.better, ratio.bound) else "MISS"
        lines.append((mark, ratio.id, title, _figure(value, ratio.unit), "", _bound(ratio), *("" for _ in peers)))
    return _aligned(lines)


def _peers(rows: Collection[Row]) -> list[str]:
    return list(dict.fromkeys(peer for row in rows for peer in row.peers))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "not measured"
    return f"{_number(value)}{unit}" if unit in ("/s", "x") else f"{_number(value)} {unit}"


def _bound(row: Row | Ratio) -> str:
    return f"{'≥' if row.better == 'higher' else '≤'} {_figure(row.bound, row.unit)}"


def _beside(ours: float | None, theirs: float | None, unit: str) -> str:
    if theirs is None:
        return ""
    return _figure(theirs, unit) + (f" ({_number(ours / theirs)}x)" if ours is not None else "")


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def write(results: Results, rows: Collection[Row], ratios: Collection[Ratio], on: dict[str, Any]) -> list[Path]:
    """Writes what was measured into results/<file>.json; rows of a file that were not part of this run stay."""
    by_id = {row.id: row for row in ROWS}
    fresh: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        peers = {peer: results.value(peer, row) for peer in row.peers}
        fresh.setdefault(row.file, []).append(_entry(row, results.value(OURS, row), peers))
    for ratio in ratios:
        row = by_id[ratio.of]
        entry = _entry(ratio, results.ratio(ratio, row), {ratio.peer: results.value(ratio.peer, row)})
        fresh.setdefault(row.file, []).append(entry)
    RESULTS.mkdir(exist_ok=True)
    written = []
    for name, entries in fresh.items():
        path = RESULTS / f"{name}.json"
        ids = {entry["id"] for entry in entries}
        kept = [entry for entry in _rows_of(path) if entry["id"] not in ids]
        path.write_text(json.dumps({"machine": on, "rows": kept + entries}, indent=2) + "\n", encoding="utf-8")
        written.append(path)
    return written


def _entry(row: Row | Ratio, value: float | None, peers: dict[str, float | None]) -> dict[str, Any]:
    return {
        "id": row.id,
        "value": value,
        "unit": row.unit,
        "better": row.better,
        "bound": row.bound,
        "peers": {name: figure for name, figure in peers.items() if figure is not None},
    }


def _rows_of(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def missed() -> Iterable[str]:
    """One line for each row whose last result does not keep its bound, or that has none."""
    stored = {entry["id"]: entry for path in sorted(RESULTS.glob("*.json")) for entry in _rows_of(path)}
    known: tuple[Row | Ratio, ...] = (*ROWS, *RATIOS)
    for row in known:
        value = stored.get(row.id, {}).get("value")
        if not reaches(value, row.better, row.bound):
            yield f"{row.id}: {_figure(value, row.unit)}, must be {_bound(row)}"
