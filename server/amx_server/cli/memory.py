"""`amx memory`: read and change what instances remember."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from amx_server.cli.command import Limit, Session, engine_command, instance_ref, json_bytes, seconds, usage
from amx_server.cli.memory_versions import version_at
from amx_server.cli.output import compact, duration, plain, size
from amx_server.core.errors import NOT_FOUND, AmxError

app = typer.Typer(help="Read and change what instances remember.", no_args_is_help=True)

Instance = Annotated[str, typer.Argument(metavar="AGENT/KEY", help="The instance.")]
Name = Annotated[str, typer.Argument(metavar="MEMORY", help="Name of the memory.")]
Entry = Annotated[
    str,
    typer.Argument(metavar="[ENTRY]", help="Key of a map, member of a set, ordinal of a list; nothing for a value."),
]
At = Annotated[
    str, typer.Option("--at", metavar="VERSION", help="As it was: number of a version, or name of a snapshot.")
]
IfVersion = Annotated[int, typer.Option("--if-version", min=0, help="Only if the instance's memory has this version.")]


@engine_command(app, "list")
def list_memories(session: Session, instance: Instance, at: At = "") -> None:
    """List the memories of an instance."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.ListMemoryRequest(
        instance=instance_ref(instance), at_version=version_at(session, instance, at)
    )
    found = plain(client.call(client.engine.ListMemory, request))
    if output.as_json:
        output.json(found)
        return
    output.table(
        ("MEMORY", "KIND", "ENTRIES", "SIZE", "PERSISTENT"),
        (
            (each["name"], each["kind"], each["entries"], size(each["bytes"]), "yes" if each["persistent"] else "no")
            for each in found["memories"]
        ),
        "It remembers nothing.",
    )


@engine_command(app, "get")
def get_entry(session: Session, instance: Instance, name: Name, entry: Entry = "", at: At = "") -> None:
    """Read one entry. Prints its value as JSON."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    entry_id = _entry_id(session, instance, name, entry)
    request = engine_pb2.GetMemoryRequest(
        instance=instance_ref(instance),
        name=name,
        entry_id=entry_id,
        at_version=version_at(session, instance, at),
    )
    found = plain(client.call(client.engine.GetMemory, request))
    output.json(found if output.as_json else found["entry"]["value"])


@engine_command(app, "put")
def put_entry(
    session: Session,
    instance: Instance,
    name: Name,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="JSON, or - to read it from standard input.")],
    entry: Annotated[str, typer.Option("--entry", "-e", help="Key of a map, ordinal of a list.")] = "",
    ttl: Annotated[
        float | None,
        typer.Option(
            "--ttl", parser=seconds, metavar="DURATION", help="Its own lifetime, e.g. 24h; else the memory's."
        ),
    ] = None,
    if_version: IfVersion = 0,
) -> None:
    """Write one entry. For a set, VALUE is the member."""
    from amx.v1 import agent_pb2, engine_pb2, memory_pb2

    client, output = session.client, session.output
    if ttl == 0:
        usage("--ttl is zero; give a positive duration, or leave it out for what the memory says")
    kind = _kind(session, instance, name)
    data = json_bytes(value, "VALUE")
    written = memory_pb2.MemoryEntry()
    if ttl is not None:
        written.expires_in_ms = max(1, round(ttl * 1000))
    if kind == agent_pb2.MEMORY_KIND_SET:
        written.id = _canonical(data.decode())
    else:
        if kind in (agent_pb2.MEMORY_KIND_MAP, agent_pb2.MEMORY_KIND_LIST) and not entry:
            usage(f"'{name}' is a map or a list; say which entry with --entry")
        written.id = _id_text(kind, entry)
        written.value = data
    request = engine_pb2.PutMemoryRequest(
        instance=instance_ref(instance), name=name, entry=written, if_version=if_version
    )
    version = client.call(client.engine.PutMemory, request).version
    if output.as_json:
        output.json({"version": version})
    else:
        output.text(f"Written. The memory of {instance} now has version {version}.")


@engine_command(app, "delete")
def delete_entry(
    session: Session, instance: Instance, name: Name, entry: Entry = "", if_version: IfVersion = 0
) -> None:
    """Remove one entry. Exit code 4 if it was not there."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.DeleteMemoryRequest(
        instance=instance_ref(instance),
        name=name,
        entry_id=_entry_id(session, instance, name, entry),
        if_version=if_version,
    )
    response = client.call(client.engine.DeleteMemory, request)
    if not response.found:
        raise AmxError(NOT_FOUND, "ENTRY_UNKNOWN", f"{instance} has no entry '{entry}' in '{name}'")
    if output.as_json:
        output.json({"version": response.version, "found": True})
    else:
        output.text("Removed.")


@engine_command(app, "search")
def search_entries(
    session: Session,
    instance: Instance,
    name: Name,
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="Beginning of the keys; nothing for all.")] = "",
    at: At = "",
    limit: Limit = 100,
) -> None:
    """Find entries by the beginning of their key."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.SearchMemoryRequest(
        instance=instance_ref(instance),
        name=name,
        prefix=_prefix(session, instance, name, prefix),
        at_version=version_at(session, instance, at),
    )
    found = [plain(each) for each in client.pages(client.engine.SearchMemory, request, "entries", limit)]
    if output.as_json:
        output.json(found)
        return
    output.table(
        ("ENTRY", "VALUE", "EXPIRES IN"),
        (
            (each["id"], compact(each["value"], 100), duration(each["expires_in_ms"]) if each["expires_in_ms"] else "")
            for each in found
        ),
        "Nothing found.",
    )


# --- entry ids: what people write -> what the contract says (MemoryKind in agent.proto) -------------------------------


def _kind(session: Session, instance: str, name: str) -> int:
    """Shape of a memory, from the agent's definition. Ends the command if the agent has no such memory."""
    from amx.v1 import engine_pb2

    client = session.client
    agent = instance.partition("/")[0]
    definition = client.call(client.engine.GetAgent, engine_pb2.GetAgentRequest(name=agent)).agent.definition
    for memory in definition.memories:
        if memory.name == name:
            return int(memory.kind)
    known = ", ".join(memory.name for memory in definition.memories) or "none"
    raise AmxError(NOT_FOUND, "MEMORY_UNKNOWN", f"'{agent}' declares no memory '{name}'; it has: {known}")


def _entry_id(session: Session, instance: str, name: str, entry: str) -> str:
    return _id_text(_kind(session, instance, name), entry)


def _id_text(kind: int, entry: str) -> str:
    from amx.v1 import agent_pb2

    if kind in (agent_pb2.MEMORY_KIND_MAP, agent_pb2.MEMORY_KIND_SET):
        return _canonical(entry)
    return entry


def _canonical(text: str) -> str:
    """`text` as canonical JSON if it is JSON (`7`, `"a"`), or as a JSON text if it is a bare word (`alice`)."""
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = text
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _prefix(session: Session, instance: str, name: str, prefix: str) -> str:
    from amx.v1 import agent_pb2

    kind = _kind(session, instance, name)
    if not prefix or kind not in (agent_pb2.MEMORY_KIND_MAP, agent_pb2.MEMORY_KIND_SET):
        return prefix
    if prefix[0] in '"[{-0123456789':
        return prefix
    return json.dumps(prefix, ensure_ascii=False)[:-1]
