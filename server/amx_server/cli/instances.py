"""`amx instances`: which instances are awake, where, and with how much to do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amx_server.cli.command import Limit, Session, choice, engine_command, instance_ref
from amx_server.cli.output import duration, plain, size

app = typer.Typer(help="List and describe agent instances.", no_args_is_help=True)


@engine_command(app, "list")
def list_instances(
    session: Session,
    agent: Annotated[str, typer.Option("--agent", help="Only of this agent.")] = "",
    state: Annotated[str | None, typer.Option("--state", help="Only idle, running, queued or hibernated ones.")] = None,
    limit: Limit = 100,
) -> None:
    """List instances."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    number = choice(engine_pb2.InstanceState.DESCRIPTOR, state, "--state")
    request = engine_pb2.ListInstancesRequest(agent=agent, state=number)  # type: ignore[arg-type]
    instances = [plain(found) for found in client.pages(client.engine.ListInstances, request, "instances", limit)]
    if output.as_json:
        output.json(instances)
        return
    output.table(
        ("INSTANCE", "STATE", "QUEUED", "LINK", "MEMORY", "IDLE"),
        (
            (
                found["instance"],
                found["state"],
                found["queued_messages"],
                found["link_id"],
                size(found["memory_bytes"]),
                duration(found["idle_ms"]),
            )
            for found in instances
        ),
        "No instances. The first message to agent/key makes one.",
    )


@engine_command(app, "describe")
def describe_instance(
    session: Session, instance: Annotated[str, typer.Argument(metavar="AGENT/KEY", help="The instance.")]
) -> None:
    """Describe an instance."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.GetInstanceRequest(instance=instance_ref(instance))
    found: dict[str, Any] = plain(client.call(client.engine.GetInstance, request).instance)
    if output.as_json:
        output.json(found)
        return
    output.facts(
        {
            "instance": found["instance"],
            "state": found["state"],
            "queued": found["queued_messages"],
            "link": found["link_id"],
            "epoch": found["epoch"],
            "memory": f"{size(found['memory_bytes'])}, version {found['memory_version']}",
            "idle": duration(found["idle_ms"]),
        }
    )
