"""The machine on a terminal: what started, and then its state, written over itself about once a second."""

from __future__ import annotations

from collections.abc import Iterator

from amx_server.vm.baseline import Baseline
from amx_server.vm.options import VmOptions
from amx_server.vm.running import State

_LABEL = 20


def starting(options: VmOptions) -> Iterator[tuple[str, str]]:
    """(event after which it is shown, line) of the start."""
    yield "engine", f"✓ Memory manager initialized ({size(options.memory)} for content: hot, compressed, on disk)"
    yield "engine", "✓ Scheduler initialized (cooperative, one event loop)"
    yield "engine", "✓ I/O manager initialized (local model provider)"
    yield "spawned", f"✓ Spawned {options.agents:,} agents"


def spawned(state: State) -> str:
    """How long the agents took to start."""
    report = state.report
    each = report.spawn / max(1, report.agents) * 1e6
    return f" in {report.spawn * 1000:,.0f} ms ({each:.0f} µs each, with prompt, tools and memory; stored)"


def lines(state: State) -> list[str]:
    """The state as it is shown."""
    report = state.report
    waiting = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report.waiting.items()))
    plain = max(1, report.plain)
    saved = f"dedup {1 - plain / report.retained:.1%}" if report.retained > plain else "dedup 0 %"
    packed = f", compression {report.packed:.1f}:1" if report.disk else ""
    held = f"{size(report.retained)} referred to, {size(plain)} kept"
    if report.disk:
        held += f", {size(report.disk)} on disk"
    return [
        _row("Agents running", f"{report.agents:,}"),
        _row("Memory usage", f"{size(state.memory.pss)} ({saved}{packed})"),
        _row("Content", f"{report.objects:,} objects; {held}"),
        _row("Active agents", f"{report.active:,}  ({waiting or 'none'} waiting)"),
        _row("Requests/sec", f"{report.rate:,.0f}"),
        _row("Avg latency", f"{report.latency * 1000:,.0f} ms (of the model)"),
        _row("Loop pause", f"{report.pause * 1000:.1f} ms (99.9 % are shorter)"),
        _row("CPU", f"{report.cpu:,.1f} s, {cpu_of_step(state) * 1e6:,.0f} µs for each of {report.steps:,} steps"),
    ]


def cpu_of_step(state: State) -> float:
    """Seconds of processor for one step, the start of everything included."""
    return state.report.cpu / max(1, state.report.steps)


def comparison(state: State, baseline: Baseline) -> list[str]:
    """The machine beside the same agents as processes."""
    report = state.report
    what = f"process each ({baseline.imports})" if baseline.imports else "process each"
    how = f"extrapolated from {baseline.processes}" if baseline.extrapolated else "measured"
    rows = [
        ("", "machine", what, ""),
        (
            "memory",
            size(state.memory.pss),
            size(baseline.total_memory),
            _times(baseline.total_memory, state.memory.pss),
        ),
        ("start", _seconds(report.spawn), _seconds(baseline.total_start), _times(baseline.total_start, report.spawn)),
        ("CPU", _seconds(report.cpu), _seconds(baseline.total_cpu), _times(baseline.total_cpu, report.cpu)),
        (
            "steps of an agent",
            f"{report.steps / report.agents:.1f}",
            f"{baseline.steps / baseline.processes:.1f}",
            "",
        ),
    ]
    title = f"{report.agents:,} agents in one process, and as one process each ({how}):"
    return [title, *(f"  {name:18}{one:>12}{other:>28}{times:>10}".rstrip() for name, one, other, times in rows)]


def size(value: float) -> str:
    """Bytes for people."""
    for unit, power in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= power:
            return f"{value / power:.1f} {unit}"
    return f"{value:.0f} bytes"


def _seconds(value: float) -> str:
    return f"{value * 1000:,.0f} ms" if value < 1 else f"{value:,.1f} s"


def _times(theirs: float, ours: float) -> str:
    return f"{theirs / ours:,.0f} x" if ours else ""


def _row(label: str, value: str) -> str:
    return f"{label + ':':{_LABEL}}{value}"
