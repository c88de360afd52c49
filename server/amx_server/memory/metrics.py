"""What the content store holds, as metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from amx_server.memory.content import ContentStore
from amx_server.telemetry import families

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def content_metrics(content: ContentStore) -> Iterator[Metric]:
    """All families, at this moment."""
    stats = content.stats()
    tiers = {"hot": stats.hot, "warm": stats.warm, "cold": stats.cold}
    objects = families.gauge("amx_content_objects", "Objects of the content store by tier.", labels=("tier",))
    sizes = families.gauge("amx_content_bytes", "Bytes they take there.", labels=("tier",))
    hits = families.counter("amx_content_hits", "Reads that a tier answered, approximately.", labels=("tier",))
    for name, tier in tiers.items():
        objects.add_metric((name,), tier.objects)
        sizes.add_metric((name,), tier.bytes)
        hits.add_metric((name,), tier.hits)
    yield objects
    yield sizes
    yield hits
    yield families.gauge("amx_content_plain_bytes", "Plain bytes, each content once.", value=stats.plain_bytes)
    yield families.gauge(
        "amx_content_retained_bytes", "Plain bytes, as often as something refers to them.", value=stats.retained_bytes
    )
    yield families.gauge("amx_content_disk_bytes", "Bytes of its files.", value=stats.disk_bytes)
    yield families.gauge(
        "amx_content_lost", "Objects that something refers to and whose bytes are gone.", value=stats.lost
    )
