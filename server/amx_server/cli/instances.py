"""`amx instances`: which instances are awake, where, and with how much to do; spawn, suspend, resume, move, kill."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amx_server.cli.command import Limit, Session, choice, engine_command, instance_ref
from amx_server.cli.output import duration, plain, size

app = typer.Typer(help="List, describe, spawn, suspend, resume, migrate and kill instances.", no_args_is_help=True)

Instance = Annotated[str, typer.Argument(metavar="AGENT/KEY", help="The instance.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; for people and the log.")]


@engine_command(app, "list")
def list_instances(
    session: Session,
    agent: Annotated[str, typer.Option("--agent", help="Only of this agent.")] = "",
    state: Annotated[
        str | None, typer.Option("--state", help="Only idle, running, queued, hibernated or suspended ones.")
    ] = None,
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
        ("INSTANCE", "STATE", "QUEUED", "LINK", "MEMORY", "IDLE", "WAITS FOR"),
        (
            (
                found["instance"],
                found["state"],
                found["queued_messages"],
                found["link_id"],
                size(found["memory_bytes"]),
                duration(found["idle_ms"]),
                ", ".join(dict.fromkeys(wait["reason"] for wait in found["waits"])),
            )
            for found in instances
        ),
        "No instances. The first message to agent/key makes one.",
    )


@engine_command(app, "describe")
def describe_instance(session: Session, instance: Instance) -> None:
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
            "waits for": ", ".join(map(_wait, found["waits"])),
            "suspended": found["suspended_because"],
            "supervisor": found["supervisor"],
        }
    )


def _wait(wait: dict[str, Any]) -> str:
    what = f"{wait['reason']} ({wait['detail']})" if wait["detail"] else wait["reason"]
    return f"{what} for {duration(wait['for_ms'])}"


@engine_command(app, "spawn")
def spawn_instance(session: Session, instance: Instance) -> None:
    """Make an instance awake before its first message."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    answer = client.call(client.engine.SpawnInstance, engine_pb2.SpawnInstanceRequest(instance=instance_ref(instance)))
    if output.as_json:
        output.json(plain(answer))
    else:
        found = plain(answer.instance)
        where = f"on {found['link_id']}" if found["link_id"] else "on no link yet"
        output.text(f"{found['instance']} is awake, {where}." if answer.created else "It was awake already.")


@engine_command(app, "suspend")
def suspend_instance(
    session: Session,
    instance: Instance,
    reason: Reason = "",
    cancel_running: Annotated[
        bool, typer.Option("--cancel-running", help="Stop what runs; it runs again after the resume.")
    ] = False,
) -> None:
    """Keep an instance from running; its messages wait, over restarts of the engine, too."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.SuspendInstanceRequest(
        instance=instance_ref(instance), reason=reason, cancel_running=cancel_running
    )
    found = plain(client.call(client.engine.SuspendInstance, request).instance)
    if output.as_json:
        output.json(found)
    else:
        running = "; what runs may end" if found["state"] == "running" else ""
        output.text(f"{found['instance']} is suspended{running}; {found['queued_messages']} messages wait.")


@engine_command(app, "resume")
def resume_instance(session: Session, instance: Instance) -> None:
    """Let a suspended instance run again."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    answer = client.call(
        client.engine.ResumeInstance, engine_pb2.ResumeInstanceRequest(instance=instance_ref(instance))
    )
    if output.as_json:
        output.json(plain(answer))
    else:
        output.text("Resumed." if answer.resumed else "It was not suspended.")


@engine_command(app, "migrate")
def migrate_instance(
    session: Session,
    instance: Instance,
    link: Annotated[str, typer.Option("--link", help="Link to move to; else the one with most room.")] = "",
) -> None:
    """Move an instance to another worker, between two messages. Waits for what it runs."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.MigrateInstanceRequest(instance=instance_ref(instance), link_id=link)
    found = plain(client.call(client.engine.MigrateInstance, request).instance)
    if output.as_json:
        output.json(found)
    else:
        output.text(f"{found['instance']} is on {found['link_id']}.")


@engine_command(app, "kill")
def kill_instance(
    session: Session,
    instance: Instance,
    reason: Reason = "",
    purge: Annotated[
        bool, typer.Option("--purge", help="Stored messages become dead letters; else they stay and run.")
    ] = False,
) -> None:
    """Stop what an instance runs, and let it begin anew with its persistent memory."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.KillInstanceRequest(instance=instance_ref(instance), reason=reason, purge=purge)
    answer = client.call(client.engine.KillInstance, request)
    if output.as_json:
        output.json(plain(answer))
    else:
        output.text(f"Killed; {answer.cancelled} handlers cancelled, {answer.dropped} waiting messages dropped.")
