"""The I/O manager's numbers as Prometheus reads them. Made when somebody scrapes; nothing is counted here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from amx_server.inference.io.accounting import ProviderStats
from amx_server.inference.io.manager import IoManager
from amx_server.telemetry import families

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_COUNTERS: tuple[tuple[str, str, Callable[[ProviderStats], float]], ...] = (
    ("amx_io_requests", "Attempts that reached a provider; a batch is one.", lambda stats: stats.requests),
    ("amx_io_operations", "Operations that began at a provider.", lambda stats: stats.operations),
    ("amx_io_failed", "Operations that failed, after all repeats.", lambda stats: stats.failed),
    ("amx_io_retries", "Attempts that followed a failed one.", lambda stats: stats.retries),
    ("amx_io_rate_limited", "Answers by which a provider limits its rate.", lambda stats: stats.rate_limited),
    ("amx_io_tokens", "Tokens that providers counted.", lambda stats: stats.tokens),
)
_GAUGES: tuple[tuple[str, str, Callable[[ProviderStats], float]], ...] = (
    ("amx_io_in_flight", "Operations under way at a provider.", lambda stats: stats.in_flight),
    ("amx_io_queued", "Operations that wait for their turn at a provider.", lambda stats: stats.queued),
    ("amx_io_limit", "Operations that may be under way at a provider.", lambda stats: stats.concurrency_limit),
)


def io_metrics(io: IoManager) -> Iterator[Metric]:
    """All families, at this moment."""
    stats = io.stats()
    yield families.counter("amx_io_asked", "Operations that agents asked for.", value=stats.operations)
    yield families.counter("amx_io_coalesced", "Of these, joined one that was under way.", value=stats.coalesced)
    yield families.counter("amx_io_cache_hits", "Of these, answered from the cache.", value=stats.cache_hits)
    failures = families.counter("amx_io_failures", "Callers that got no answer.", labels=("reason",))
    for reason, count in stats.failures.items():
        failures.add_metric((reason,), count)
    yield failures
    waiting = families.gauge("amx_io_waiting", "Callers that wait.", labels=("reason",))
    for kind, callers in stats.waiting_by_reason.items():
        waiting.add_metric((kind,), callers)
    yield waiting
    for name, text, read in _COUNTERS:
        counter = families.counter(name, text, labels=("provider",))
        for provider, figures in stats.providers.items():
            counter.add_metric((provider,), read(figures))
        yield counter
    for name, text, read in _GAUGES:
        gauge = families.gauge(name, text, labels=("provider",))
        for provider, figures in stats.providers.items():
            gauge.add_metric((provider,), read(figures))
        yield gauge
    durations = families.histogram(
        "amx_io_duration_seconds", "Seconds that requests to a provider took.", labels=("provider",)
    )
    for provider in stats.providers:
        histogram = io.durations(provider)
        durations.add_metric((provider,), histogram.buckets(), histogram.total_seconds)
    yield durations
