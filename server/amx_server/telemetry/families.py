"""Metric families as Prometheus reads them. Its library is loaded when somebody scrapes, not before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily


def counter(
    name: str, text: str, value: float | None = None, labels: Sequence[str] | None = None
) -> CounterMetricFamily:
    """What only grows. value: without labels; with labels, `add_metric` takes them."""
    from prometheus_client.metrics_core import CounterMetricFamily

    return CounterMetricFamily(name, text, value=value, labels=labels)


def gauge(name: str, text: str, value: float | None = None, labels: Sequence[str] | None = None) -> GaugeMetricFamily:
    """What rises and falls. As `counter`."""
    from prometheus_client.metrics_core import GaugeMetricFamily

    return GaugeMetricFamily(name, text, value=value, labels=labels)


def histogram(
    name: str,
    text: str,
    buckets: Sequence[tuple[str, float]] | None = None,
    sum_value: float | None = None,
    labels: Sequence[str] | None = None,
) -> HistogramMetricFamily:
    """Values by size. buckets: upper bound and values up to it; sum_value: of all; both without labels."""
    from prometheus_client.metrics_core import HistogramMetricFamily

    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=sum_value, labels=labels)
