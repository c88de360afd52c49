"""`amx status` and `amx version`: which engine answers, and which command this is."""

from __future__ import annotations

import platform
from typing import Annotated

import typer

from amx_server.cli.command import Session, engine_command
from amx_server.cli.output import Output, duration, plain
from amx_server.core.version import PROTOCOL_MAX, PROTOCOL_MIN, VERSION


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    engine_command(app, "status")(show_status)
    app.command("version")(show_version)


def show_status(session: Session) -> None:
    """Describe the engine: version, load, where it stores."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    found = plain(client.call(client.engine.GetEngine, engine_pb2.GetEngineRequest()))
    if output.as_json:
        output.json({"address": client.address, **found})
        return
    output.facts(
        {
            "engine": f"{found['version']} at {client.address}",
            "up": duration(found["uptime_ms"]),
            "storage": found["storage"],
            "links": found["links"],
            "agents": found["agents"],
            "instances": found["instances"],
            "queued": found["queued_messages"],
            "processed": found["processed"],
            "dead letters": found["dead_letters"],
        }
    )


def show_version(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False) -> None:
    """Print the version of this command."""
    python = platform.python_version()
    if as_json:
        Output(True).json(
            {"version": VERSION, "python": python, "protocol_min": PROTOCOL_MIN, "protocol_max": PROTOCOL_MAX}
        )
    else:
        typer.echo(f"amx {VERSION} (python {python}, link protocol {PROTOCOL_MIN}-{PROTOCOL_MAX})")
