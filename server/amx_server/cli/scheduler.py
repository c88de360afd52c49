"""`amx scheduler`: how busy the engine is, who gets which share of it, what it decided and why."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from amx_server.cli.command import Session, engine_command, seconds
from amx_server.cli.output import Output, Page, duration, moment, plain

app = typer.Typer(help="See how the engine shares its capacity, and choose how.", no_args_is_help=True)

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on until interrupted; with --json a line each time.")]
Interval = Annotated[
    float,
    typer.Option("--interval", parser=seconds, metavar="DURATION", help="With --watch: how often.", show_default="1s"),
]


@engine_command(app, "status")
def show_status(session: Session, watch: Watch = False, interval: Interval = 1.0) -> None:
    """Show pressure, shares, waits and blocks."""
    _show(session, watch, interval, lambda found: found, _status)


@engine_command(app, "decisions")
def show_decisions(session: Session, watch: Watch = False, interval: Interval = 1.0) -> None:
    """Show what the allocation policy decided, newest first, with its reasons."""
    _show(session, watch, interval, lambda found: found["decisions"], _decisions)


@engine_command(app, "policy")
def choose_policy(
    session: Session,
    policy: Annotated[
        str,
        typer.Argument(metavar="[POLICY]", help="fair-share, priority, performance or adaptive; left out: show it."),
    ] = "",
) -> None:
    """Choose how capacity is shared, until the engine restarts, or show how it is."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    previous = None
    if policy:
        request = engine_pb2.SetAllocationPolicyRequest(policy=policy)
        previous = client.call(client.engine.SetAllocationPolicy, request).previous
    found = client.call(client.engine.GetScheduler, engine_pb2.GetSchedulerRequest())
    if output.as_json:
        output.json({"policy": found.policy, "mode": found.mode, "previous": previous})
    elif previous is not None and previous != found.policy:
        output.text(f"{found.policy}, {previous} before; allocation.policy keeps it over restarts")
    else:
        output.text(found.policy if found.mode == found.policy else f"{found.policy}, now {found.mode}")


def _show(
    session: Session,
    watch: bool,
    interval: float,
    part: Callable[[dict[str, Any]], Any],
    show: Callable[[Output, dict[str, Any]], None],
) -> None:
    """Asks the engine and prints, once or again and again: on a terminal in one place, else one after another."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    while True:
        found = plain(client.call(client.engine.GetScheduler, engine_pb2.GetSchedulerRequest()))
        if output.as_json:
            (output.json_line if watch else output.json)(part(found))
        elif watch and output.terminal:
            page = Page()
            show(page, found)
            page.show()
        else:
            show(output, found)
        if not watch:
            return
        time.sleep(max(0.1, interval))


def _status(output: Output, found: dict[str, Any]) -> None:
    policy, mode = found["policy"], found["mode"]
    output.facts(
        {
            "pressure": f"{found['pressure']}: {found['pressure_because']}",
            "policy": policy if mode == policy else f"{policy}, now {mode}",
            "refused": f"{found['refused']} messages and events because of pressure" if found["refused"] else None,
        }
    )
    output.text("")
    output.table(
        ("READING", "NOW", "ELEVATED", "HIGH", "CRITICAL"),
        (
            (reading["signal"].replace("_", " "), *(_reading(reading, name) for name in _COLUMNS))
            for reading in found["readings"]
        ),
        "",
    )
    output.text("")
    output.table(
        ("AGENT", "WEIGHT", "USED", "RUNNING", "READY"),
        (
            (share["agent"], f"{share['weight']:.2f}", f"{share['used']:.0%}", share["running"], share["ready"])
            for share in found["shares"]
        ),
        "No agent works or waits.",
    )
    if found["waits"]:
        output.text("")
        output.table(("WAITS FOR", "INSTANCES"), ((wait["reason"], wait["instances"]) for wait in found["waits"]), "")
    if found["blocks"]:
        output.text("")
        output.table(
            ("LOOP BLOCKED AT", "FOR", "BY", "WHERE"),
            (
                (
                    moment(block["at_ms"]),
                    duration(block["for_ms"]),
                    f"{block['instance']}#{block['handler']}" if block["instance"] else "the engine",
                    _place(block["place"], output.terminal),
                )
                for block in found["blocks"][:10]
            ),
            "",
        )


def _place(place: str, terminal: bool) -> str:
    """Where a block was; on a terminal, which is narrow, without the beginning of a long path."""
    parts = place.split("/")
    return "…/" + "/".join(parts[-2:]) if terminal and len(parts) > 3 else place


_COLUMNS = ("value", "elevated", "high", "critical")


def _reading(reading: dict[str, Any], name: str) -> str:
    """A reading, or a threshold for it, in its unit."""
    value: float = reading[name]
    if name != "value" and not value:
        return "never"
    if not reading["signal"].endswith("delay"):
        return f"{value:.0%}"
    return f"{value * 1000:.0f}ms" if value < 1 else f"{value:.3g}s"


def _decisions(output: Output, found: dict[str, Any]) -> None:
    output.table(
        ("AT", "DECISION", "AGENT", "AMOUNT", "DONE", "BECAUSE"),
        (
            (
                moment(decision["at_ms"]),
                decision["kind"].replace("_", " "),
                decision["agent"] or "all",
                "" if decision["kind"] == "switch_policy" else f"{decision['amount']:g}",
                "yes" if decision["applied"] else "advice",
                decision["because"],
            )
            for decision in found["decisions"]
        ),
        "No decisions yet.",
    )
