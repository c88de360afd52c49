"""`amx supervisors`: who keeps whom running, and how often that was necessary."""

from __future__ import annotations

from typing import Any

import typer

from amx_server.cli.command import Session, engine_command
from amx_server.cli.output import duration, plain


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    engine_command(app, "supervisors")(list_supervisors)


def list_supervisors(session: Session) -> None:
    """List supervisors with their children, restarts and those they gave up on."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    answer = client.call(client.engine.ListSupervisors, engine_pb2.ListSupervisorsRequest())
    supervisors = [plain(found) for found in answer.supervisors]
    if output.as_json:
        output.json(supervisors)
        return
    if not supervisors:
        output.text("No supervisors. An agent that declares one is one.")
    for index, supervisor in enumerate(supervisors):
        if index:
            output.text("")
        _show(output, supervisor)


def _show(output: Any, supervisor: dict[str, Any]) -> None:
    policy = supervisor["policy"]
    within = duration(policy["within_ms"] or 5_000)
    strategy = "one_for_one" if policy["strategy"] == "unspecified" else policy["strategy"]
    output.text(
        f"{supervisor['agent']}: {strategy}, {policy['max_restarts'] or 3} restarts within {within};"
        f" {supervisor['restarts']} so far, gave up {supervisor['escalations']} times"
    )
    known = {child["instance"]: child for child in supervisor["children"]}
    declared = [f"{child['agent']}/{child['key'] or 'default'}" for child in policy["children"]]
    rows = [(address, known.pop(address, None)) for address in declared]
    output.table(
        ("CHILD", "RESTARTS", "LAST REASON", "STATE"),
        (
            (address, child["restarts"], child["last_reason"], "given up" if child["given_up"] else "")
            if child is not None
            else (address, "", "", "")
            for address, child in [*rows, *known.items()]
        ),
        "",
    )
