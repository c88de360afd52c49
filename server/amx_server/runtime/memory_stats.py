"""What memory holds, in numbers, as it travels."""

from __future__ import annotations

from typing import Final

from amx.v1 import engine_pb2
from amx_server.memory.content import ContentStore
from amx_server.storage.interface import VersionCounts

_OWNERS: Final = 100
_DAMAGES: Final = 100


def memory_stats(
    content: ContentStore, versions: VersionCounts, namespace: str | None
) -> engine_pb2.GetMemoryStatsResponse:
    """All but what instances that are awake remember. namespace: whose owners are shown; None: everybody's."""
    stats = content.stats()
    response = engine_pb2.GetMemoryStatsResponse(
        objects=stats.objects,
        referenced_bytes=stats.retained_bytes,
        unique_bytes=stats.plain_bytes,
        stored_bytes=stats.hot.bytes + stats.warm.bytes + stats.disk_bytes,
        versions=versions.versions,
        snapshots=versions.snapshots,
        damages=[str(damage) for damage in content.damages[-_DAMAGES:] if not damage.healed],
    )
    if stats.lost:
        response.damages.append(
            f"{stats.lost} objects that are needed are lost; `amx memory verify` names them and who needs them"
        )
    tiers = {"hot": stats.hot, "warm": stats.warm, "cold": stats.cold}
    for name, tier in tiers.items():
        response.tiers.add(
            name=name,
            objects=tier.objects,
            bytes=tier.bytes,
            plain_bytes=tier.plain_bytes,
            budget_bytes=tier.budget,
        )
    reads = sum(tier.hits for tier in tiers.values())
    response.hit_rate = stats.hot.hits / reads if reads else 0.0
    for owner, held in content.owners(_OWNERS, namespace):
        response.owners.add(namespace=owner.namespace, agent=owner.agent, bytes=held)
    return response
