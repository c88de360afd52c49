"""`amx agents`: what agents there are, what they can do, which version takes new messages."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amx_server.cli.command import Limit, Session, engine_command
from amx_server.cli.output import duration, enum_name, plain

app = typer.Typer(help="List, describe and switch agents.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="AGENT", help="Name of the agent.")]


@engine_command(app, "list")
def list_agents(session: Session, limit: Limit = 100) -> None:
    """List agents."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    agents = client.pages(client.engine.ListAgents, engine_pb2.ListAgentsRequest(), "agents", limit)
    if output.as_json:
        output.json([plain(agent) for agent in agents])
        return
    output.table(
        ("AGENT", "KIND", "VERSION", "LINKS", "INSTANCES", "QUEUED", "PROCESSED", "FAILED"),
        (
            (
                agent.definition.name,
                _kind(agent.definition),
                _active_version(agent),
                sum(version.links for version in agent.versions),
                agent.active_instances,
                agent.queued_messages,
                agent.processed,
                agent.failed,
            )
            for agent in agents
        ),
        "No agents yet. Host some: amx dev --load your_module",
    )


@engine_command(app, "describe")
def describe_agent(session: Session, name: Name) -> None:
    """Describe an agent: versions, handlers, memories, schedules."""
    from amx.v1 import engine_pb2

    client = session.client
    response = client.call(client.engine.GetAgent, engine_pb2.GetAgentRequest(name=name))
    _show(session, response.agent)


@engine_command(app, "activate")
def activate_version(
    session: Session,
    name: Name,
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="Version; left out: the newest connected, as without a pin.")
    ] = "",
) -> None:
    """Pin the version of an agent that takes new messages, or unpin it."""
    from amx.v1 import engine_pb2

    client = session.client
    request = engine_pb2.ActivateAgentVersionRequest(name=name, version=version)
    _show(session, client.call(client.engine.ActivateAgentVersion, request).agent)


def _show(session: Session, agent: Any) -> None:
    output = session.output
    if output.as_json:
        output.json(plain(agent))
        return
    definition = agent.definition
    output.facts(
        {
            "agent": definition.name,
            "kind": _kind(definition),
            "about": definition.description,
            "versions": ", ".join(
                f"{version.version} ({version.links} links{', active' if version.active else ''})"
                for version in agent.versions
            ),
            "pinned": agent.pinned_version,
            "instances": agent.active_instances,
            "queued": agent.queued_messages,
            "processed": f"{agent.processed} ({agent.failed} failed)",
            "groups": ", ".join(definition.groups),
            "labels": ", ".join(f"{key}={value}" for key, value in sorted(definition.labels.items())),
        }
    )
    output.text("")
    output.table(
        ("HANDLER", "TRAITS", "PERMISSIONS", "TOPICS", "ABOUT"),
        (
            (
                handler.name,
                " ".join(trait for trait in ("streaming", "concurrent") if getattr(handler, trait)),
                " ".join(handler.permissions),
                " ".join(subscription.pattern for subscription in handler.subscriptions),
                handler.description.partition("\n")[0],
            )
            for handler in definition.handlers
        ),
        "No handlers.",
    )
    if definition.memories:
        output.text("")
        output.table(
            ("MEMORY", "KIND", "PERSISTENT", "TTL", "ENTRIES"),
            (
                (
                    memory.name,
                    enum_name(memory.DESCRIPTOR.fields_by_name["kind"].enum_type, memory.kind),
                    "yes" if memory.persistent else "no",
                    duration(memory.ttl_ms) if memory.ttl_ms else "",
                    f"at most {memory.max_entries}" if memory.max_entries else "",
                )
                for memory in definition.memories
            ),
            "",
        )
    if definition.schedules:
        output.text("")
        output.table(
            ("SCHEDULE", "HANDLER", "WHEN"),
            ((schedule.name, schedule.handler, timing(schedule)) for schedule in definition.schedules),
            "",
        )


def timing(schedule: Any) -> str:
    """When a schedule runs, for people."""
    kind = schedule.WhichOneof("timing")
    if kind == "cron":
        return f"cron {schedule.cron} {schedule.time_zone or 'UTC'}"
    if kind == "fixed_delay_ms":
        return f"{duration(schedule.fixed_delay_ms)} after each run"
    if kind == "fixed_rate_ms":
        return f"every {duration(schedule.fixed_rate_ms)}"
    if kind == "once_after_ms":
        return f"once after {duration(schedule.once_after_ms)}"
    return ""


def _kind(definition: Any) -> str:
    name = enum_name(definition.DESCRIPTOR.fields_by_name["kind"].enum_type, definition.kind)
    return "agent" if name == "unspecified" else name


def _active_version(agent: Any) -> str:
    active = [version.version for version in agent.versions if version.active]
    return str(active[0] if active else agent.definition.version)
