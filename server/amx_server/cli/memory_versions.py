"""`amx memory history|snapshot|fork|restore`: versions of what an instance remembers, kept, copied and brought back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amx_server.cli.command import Limit, Session, engine_command, instance_ref, usage
from amx_server.cli.output import moment, plain
from amx_server.core.errors import NOT_FOUND, AmxError

Instance = Annotated[str, typer.Argument(metavar="AGENT/KEY", help="The instance.")]
Version = Annotated[int, typer.Option("--version", min=0, help="A version that `history` lists; without, the present.")]
FromSnapshot = Annotated[str, typer.Option("--snapshot", help="The version that has this name.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    engine_command(app, "history")(list_versions)
    engine_command(app, "snapshot")(name_version)
    engine_command(app, "fork")(fork_instance)
    engine_command(app, "restore")(restore_memory)


def list_versions(session: Session, instance: Instance, limit: Limit = 100) -> None:
    """List the versions of an instance's memory that can still be read, newest first."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.ListMemoryVersionsRequest(instance=instance_ref(instance), page_size=min(limit or 1000, 1000))
    first = client.call(client.engine.ListMemoryVersions, request)
    found = list(first.versions)
    request.page_token = first.next_page_token
    if first.next_page_token and (not limit or len(found) < limit):
        found += client.pages(client.engine.ListMemoryVersions, request, "versions", limit and limit - len(found))
    versions = [plain(each) for each in found]
    origin = plain(first)["forked_from"]
    if output.as_json:
        output.json({"versions": versions, "forked_from": origin, "forked_version": first.forked_version})
        return
    output.table(
        ("VERSION", "WHEN", "CHANGES", "MESSAGE", "SNAPSHOTS"),
        (
            (each["version"], moment(each["at_ms"]), each["changes"], each["message_id"], ", ".join(each["snapshots"]))
            for each in versions
        ),
        "No versions are kept: it remembers nothing persistent, or has not changed it yet.",
    )
    if origin:
        output.text(f"Forked from {origin} at version {first.forked_version}.")


def name_version(
    session: Session,
    instance: Instance,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the snapshot, unique for the instance.")],
    version: Version = 0,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the name; the version goes with its age.")] = False,
) -> None:
    """Give a version of an instance's memory a name, and keep it until the name is deleted."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    if delete:
        if version:
            usage("--delete takes no --version; a name is deleted whatever it names")
        gone = engine_pb2.DeleteSnapshotRequest(instance=instance_ref(instance), name=name)
        if not client.call(client.engine.DeleteSnapshot, gone).found:
            raise AmxError(NOT_FOUND, "SNAPSHOT_UNKNOWN", f"{instance} has no snapshot '{name}'")
        if output.as_json:
            output.json({"name": name, "found": True})
        else:
            output.text(f"Deleted snapshot '{name}' of {instance}.")
        return
    request = engine_pb2.CreateSnapshotRequest(instance=instance_ref(instance), name=name, version=version)
    found = plain(client.call(client.engine.CreateSnapshot, request).version)
    if output.as_json:
        output.json(found)
    else:
        output.text(f"Snapshot '{name}' keeps version {found['version']} of {instance}.")


def fork_instance(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="AGENT/KEY", help="The instance to fork.")],
    target: Annotated[str, typer.Argument(metavar="AGENT/NEW", help="The instance to make, of the same agent.")],
    version: Version = 0,
    snapshot: FromSnapshot = "",
) -> None:
    """Make a new instance that remembers what another did."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    request = engine_pb2.ForkInstanceRequest(
        source=instance_ref(source), target=instance_ref(target), **_at(version, snapshot)
    )
    version = client.call(client.engine.ForkInstance, request).version
    if output.as_json:
        output.json({"source": source, "target": target, "version": version})
    else:
        output.text(f"{target} remembers what {source} did at version {version}.")


def restore_memory(session: Session, instance: Instance, version: Version = 0, snapshot: FromSnapshot = "") -> None:
    """Set an instance's memory to what it was, as one more version."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    if not version and not snapshot:
        usage("say what to restore: --version N, as `amx memory history` lists them, or --snapshot NAME")
    request = engine_pb2.RestoreMemoryRequest(instance=instance_ref(instance), **_at(version, snapshot))
    version = client.call(client.engine.RestoreMemory, request).version
    if output.as_json:
        output.json({"version": version})
    else:
        output.text(f"Restored. The memory of {instance} now has version {version}.")


def version_at(session: Session, instance: str, at: str) -> int:
    """The version that `--at` means: a number, or the name of a snapshot; 0 for the present.

    Raises AmxError SNAPSHOT_UNKNOWN.
    """
    from amx.v1 import engine_pb2

    if not at or (at.isascii() and at.isdigit()):
        return int(at or 0)
    client = session.client
    request = engine_pb2.ListMemoryVersionsRequest(instance=instance_ref(instance))
    for version in client.pages(client.engine.ListMemoryVersions, request, "versions", 0):
        if at in version.snapshots:
            return int(version.version)
    raise AmxError(NOT_FOUND, "SNAPSHOT_UNKNOWN", f"{instance} has no snapshot '{at}'; give a name it has, or a number")


def _at(version: int, snapshot: str) -> dict[str, Any]:
    if version and snapshot:
        usage("--version and --snapshot say the same in two ways; give one of them")
    return {"snapshot": snapshot} if snapshot else {"version": version} if version else {}
