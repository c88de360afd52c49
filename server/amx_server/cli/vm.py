"""`amx vm`: a thousand agents in one process, looked at while they run, and compared with one process each."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amx_server.cli.command import usage
from amx_server.cli.exits import FAILED

if TYPE_CHECKING:
    from amx_server.vm.baseline import Baseline
    from amx_server.vm.options import VmOptions
    from amx_server.vm.running import State

_SECONDS = 10.0  # where nobody can press Ctrl+C, or what follows should not wait for it


class Comparison(StrEnum):
    """What agents are compared with."""

    PROCESSES = "processes"
    OPENAI = "openai"


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("vm")(vm)


def vm(
    agents: Annotated[int, typer.Option("--agents", "-n", min=1, help="Agents to run.")] = 1000,
    memory: Annotated[str, typer.Option("--memory", help="Memory for content: prompts, conversations.")] = "16GB",
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.1, help="Time to run.", show_default="until Ctrl+C")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=0, help="Model calls for each agent; 0: as many as it can.")] = 0,
    prompt: Annotated[str, typer.Option("--prompt", help="Size of the prompt that all agents share.")] = "1MiB",
    latency: Annotated[
        tuple[str, str], typer.Option("--latency", metavar="LEAST MOST", help="Time that the model takes to answer.")
    ] = ("1s", "2s"),
    baseline: Annotated[
        list[Comparison] | None,
        typer.Option("--baseline", help="Measure the same agents as one process each, too; may be repeated."),
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="Processes that really run for --baseline; the rest is computed.")
    ] = 20,
    python: Annotated[
        str, typer.Option("--python", metavar="PATH", help="Python that has the package, for --baseline openai.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end, nothing else.")] = False,
) -> None:
    """Run many agents on one engine in one process, against a local model, and watch them.

    The agents share a prompt and tools, and their conversations grow. Nothing of it outlives the command.
    """
    from amx_server.core.errors import AmxError
    from amx_server.core.units import parse_duration, parse_size
    from amx_server.vm.options import VmOptions

    terminal = sys.stdout.isatty() and not as_json
    if seconds is None and (baseline or not terminal):
        seconds = _SECONDS
    try:
        options = VmOptions(
            agents=agents,
            memory=parse_size(memory),
            seconds=seconds or 0.0,
            steps=steps,
            prompt_bytes=parse_size(prompt),
            latency_min=parse_duration(latency[0]),
            latency_max=parse_duration(latency[1]),
        )
    except ValueError as error:
        usage(str(error))
    try:
        asyncio.run(_vm(options, baseline or [], min(processes, agents), python, as_json, terminal))
    except AmxError as error:
        typer.echo(f"amx: {error.message} [{error.reason}]", err=True)
        raise typer.Exit(FAILED) from None


async def _vm(
    options: VmOptions, wanted: list[Comparison], processes: int, python: str, as_json: bool, terminal: bool
) -> None:
    from amx_server.vm.baseline import measure
    from amx_server.vm.view import comparison

    state = await _run(options, _Screen(options, terminal) if not as_json else None)
    outcome: dict[str, Any] = {"options": asdict(options), "machine": state.to_json(), "baselines": []}
    for one in wanted:
        openai = one is Comparison.OPENAI
        if not as_json:
            typer.echo(f"\nStarting {processes} agents as processes{', with the openai package' if openai else ''}...")
        found: Baseline = await measure(options, processes, openai=openai, python=python if openai else "")
        if as_json:
            outcome["baselines"].append({**asdict(found), "extrapolated": found.extrapolated})
        else:
            typer.echo("\n".join(comparison(state, found)))
    if as_json:
        from amx_server.cli.output import Output

        Output(as_json=True).json(outcome)


async def _run(options: VmOptions, screen: _Screen | None) -> State:
    """Runs the machine; returns its last state."""
    from amx_server.vm.running import running

    last: State | None = None
    loop = asyncio.get_running_loop()
    async with running(options) as machine:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, machine.stop)
        try:
            async for state in machine:
                last = state
                if screen is not None:
                    screen.show(state)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
    assert last is not None
    return last


class _Screen:
    """Standard output: a terminal's lines are written over, others get the last state only."""

    def __init__(self, options: VmOptions, terminal: bool) -> None:
        from amx_server.vm.view import starting

        self._starting = list(starting(options))
        self._terminal = terminal
        self._until = "" if options.seconds else "\nPress Ctrl+C to stop"
        self._height = 0
        typer.echo("Agent VM starting...")

    def show(self, state: State) -> None:
        """Shows one state."""
        from amx_server.vm.view import lines, spawned

        event = state.report.event
        for when, line in self._starting:
            if when == event:
                typer.echo(line + (spawned(state) if event == "spawned" else ""))
        if event == "spawned":
            typer.echo()
        elif event == "ended" or (event == "running" and self._terminal):
            if self._height:
                sys.stdout.write(f"\x1b[{self._height}A\x1b[J")
            text = "\n".join(lines(state)) + (self._until if event == "running" else "")
            typer.echo(text)
            self._height = text.count("\n") + 1
