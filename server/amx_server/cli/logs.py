"""`amx logs`: what the engine says about itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from amx_server.cli.command import Session, engine_command, usage
from amx_server.cli.output import plain

_LEVELS = ("debug", "info", "warning", "error")


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    engine_command(app, "logs")(read_logs)


def read_logs(
    session: Session,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until interrupted.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="Most lines of the past.")] = 100,
    level: Annotated[str, typer.Option("--level", help="Lowest level: debug, info, warning, error.")] = "info",
    agent: Annotated[str, typer.Option("--agent", help="Only about this agent.")] = "",
) -> None:
    """Read the engine's log. With --json, one object a line."""
    from amx.v1 import engine_pb2

    if level not in _LEVELS:
        usage(f"--level '{level}' is not known; write one of: {', '.join(_LEVELS)}")
    client, output = session.client, session.output
    request = engine_pb2.ReadLogRequest(lines=lines, follow=follow, level=level, agent=agent)
    timeout = None if follow else client.timeout
    for line in client.stream(client.engine.ReadLog, request, timeout=timeout):
        if output.as_json:
            output.json_line(plain(line))
        else:
            output.text(_line(line))


def _line(line: Any) -> str:
    at = datetime.fromtimestamp(line.at_ms / 1000).isoformat(sep=" ", timespec="milliseconds")
    fields = dict(line.fields)
    exception = fields.pop("exception", "")
    facts = " ".join(f"{key}={value}" for key, value in sorted(fields.items()))
    text = f"{at} {line.level:<8} {line.event:<24} {facts}".rstrip()
    return f"{text}\n{exception}" if exception else text
