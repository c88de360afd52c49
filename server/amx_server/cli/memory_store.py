"""`amx memory stats|gc|verify`: what memory holds and how well, tidied up, and checked."""

from __future__ import annotations

from typing import Any

import typer

from amx_server.cli.command import Session, engine_command
from amx_server.cli.exits import FAILED
from amx_server.cli.output import plain, size
from amx_server.cli.progress import follow


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    engine_command(app, "stats")(show_stats)
    engine_command(app, "gc", timeout=None)(collect)
    engine_command(app, "verify", timeout=None)(verify)


def show_stats(session: Session) -> None:
    """Describe what memory holds: tiers, sharing, compression, versions, and who holds most."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    found = plain(client.call(client.engine.GetMemoryStats, engine_pb2.GetMemoryStatsRequest()))
    if output.as_json:
        output.json(found)
        return
    referenced, unique = found["referenced_bytes"], found["unique_bytes"]
    tiers = {tier["name"]: tier for tier in found["tiers"]}
    in_memory = sum(tier["bytes"] for name, tier in tiers.items() if name != "cold")
    cold = tiers.get("cold", {"bytes": 0, "plain_bytes": 0})
    output.facts(
        {
            "content": f"{found['objects']} objects",
            "referred to": f"{size(referenced)} as if nothing were shared",
            "each once": f"{size(unique)}{_times(referenced, unique, 'less by sharing')}",
            "in memory": size(in_memory),
            "on disk": size(found["stored_bytes"] - in_memory)
            + _times(cold["plain_bytes"], cold["bytes"], "less by compression"),
            "hot reads": f"{found['hit_rate']:.1%}",
            "instances awake": f"{found['instances_awake']}, which remember {size(found['instance_bytes'])}",
            "versions kept": found["versions"],
            "snapshots": found["snapshots"],
        }
    )
    output.text("")
    output.table(
        ("TIER", "OBJECTS", "SIZE", "PLAIN", "BUDGET"),
        (
            (
                tier["name"],
                tier["objects"],
                size(tier["bytes"]),
                size(tier["plain_bytes"]),
                size(tier["budget_bytes"]) if tier["budget_bytes"] else "none",
            )
            for tier in found["tiers"]
        ),
        "No tiers.",
    )
    if found["owners"]:
        output.text("")
        output.table(
            ("OWNER", "HOLDS"),
            ((_owner(each), size(each["bytes"])) for each in found["owners"]),
            "",
        )
    for damage in found["damages"]:
        output.text(f"damaged: {damage}")


def collect(session: Session) -> None:
    """Forget versions whose time is over, collect content that nothing refers to, and give its space back."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    parts = client.stream(client.engine.CollectMemory, engine_pb2.CollectMemoryRequest(), timeout=client.timeout)
    last: Any = follow(parts, "Collecting", output)
    if last is not None and not output.as_json:
        output.text(
            f"Forgot {_count(last.versions, 'version')}, collected {_count(last.objects, 'object')}"
            f" of {size(last.bytes)}, gave {size(last.disk_bytes)} back to the disk."
        )


def verify(session: Session) -> None:
    """Check everything stored against its address. Exit code 1 if something is damaged or missing."""
    from amx.v1 import engine_pb2

    client, output = session.client, session.output
    parts = client.stream(client.engine.VerifyMemory, engine_pb2.VerifyMemoryRequest(), timeout=client.timeout)
    last: Any = follow(parts, "Verifying", output)
    if last is None:
        return
    if not output.as_json:
        for damage in last.damages:
            output.text(f"damaged: {damage}")
        found = _count(len(last.damages), "problem") if last.damages else "all is what its address says"
        healed = f", {last.healed} of them healed from another copy" if last.healed else ""
        output.text(f"Checked {_count(last.objects, 'object')}, {size(last.bytes)}: {found}{healed}.")
    if len(last.damages) > last.healed:
        raise typer.Exit(FAILED)


def _owner(owner: dict[str, Any]) -> str:
    return f"{owner['namespace']} {owner['agent']}".strip() or "engine"


def _times(before: int, after: int, why: str) -> str:
    return f", {before / after:.1f} × {why}" if before > after > 0 else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
