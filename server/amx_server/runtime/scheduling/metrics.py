"""The allocation's decisions as metric families."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from amx_server.runtime.scheduling.allocator import Allocator
from amx_server.telemetry import families

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def allocation_metrics(allocator: Allocator) -> Iterable[Metric]:
    """What one allocator decided. Called on the scraping thread."""
    decisions = families.counter(
        "amx_allocation_decisions", "Decisions of the allocation policy.", labels=("kind", "applied")
    )
    for (kind, applied), count in dict(allocator.counts).items():
        decisions.add_metric((kind, str(applied).lower()), count)
    yield decisions
    advice = families.gauge(
        "amx_allocation_advice_slots", "Slots to add, or, below 0, to remove.", labels=("namespace", "agents")
    )
    for labels, slots in dict(allocator.advice).items():
        advice.add_metric(labels, slots)
    yield advice
