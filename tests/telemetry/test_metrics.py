"""What is counted and how it is rendered."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from amx_server.telemetry.metrics import (
    DURATION_BOUNDS,
    MAX_MESSAGE_TYPES,
    DurationHistogram,
    EngineGauges,
    EngineMetrics,
)


def samples(metrics: EngineMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    _, text = metrics.render()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_processed_messages_have_the_names_and_labels_of_the_specification() -> None:
    metrics = EngineMetrics()
    handler = metrics.handler("Sentiment", "analyze")
    handler.record("inquiry", True, 0.002)
    handler.record("inquiry", False, 0.2)
    handler.record("", True, 0.002)
    found = samples(metrics)
    inquiry = (("agent_name", "Sentiment"), ("message_type", "inquiry"))
    assert found["amx_messages_processed_total", (*inquiry, ("status", "success"))] == 1
    assert found["amx_messages_processed_total", (*inquiry, ("status", "error"))] == 1
    assert found["amx_message_processing_duration_count", inquiry] == 2
    assert abs(found["amx_message_processing_duration_sum", inquiry] - 0.202) < 1e-9
    by_handler = (("agent_name", "Sentiment"), ("message_type", "analyze"), ("status", "success"))
    assert found["amx_messages_processed_total", by_handler] == 1
    assert (handler.processed, handler.failed) == (3, 1)


def test_duration_falls_into_the_bucket_of_its_bound() -> None:
    histogram = DurationHistogram()
    for seconds in (0.0, 0.0005, 0.00051, 61.0):
        histogram.observe(seconds)
    buckets = dict(histogram.buckets())
    assert buckets["0.0005"] == 2  # an upper bound belongs to its bucket
    assert buckets["0.001"] == 3
    assert buckets[str(DURATION_BOUNDS[-1])] == 3
    assert buckets["+Inf"] == 4


def test_message_types_are_bounded_per_handler() -> None:
    metrics = EngineMetrics()
    handler = metrics.handler("A", "h")
    for number in range(1000):
        handler.record(f"type-{number}", True, 0.001)
    handler.record("", True, 0.001)
    found = samples(metrics)
    counts = [value for (name, _), value in found.items() if name == "amx_messages_processed_total"]
    assert sum(counts) == 1001
    assert len(dict(handler.by_type())) == MAX_MESSAGE_TYPES + 2
    other = (("agent_name", "A"), ("message_type", "other"), ("status", "success"))
    assert found["amx_messages_processed_total", other] == 1000 - MAX_MESSAGE_TYPES


def test_handlers_of_equal_names_are_added_up() -> None:
    metrics = EngineMetrics()
    for _ in range(2):
        metrics.handler("A", "h").record("t", True, 0.001)
    labels = (("agent_name", "A"), ("message_type", "t"), ("status", "success"))
    assert samples(metrics)["amx_messages_processed_total", labels] == 2


def test_gauges_are_read_at_each_scrape() -> None:
    gauges = EngineGauges(active_agents=1, memory_bytes={"mailboxes": 10}, queued_messages={"A": 4})
    metrics = EngineMetrics(lambda: gauges)
    assert samples(metrics)["amx_active_agents", ()] == 1
    gauges.active_agents = 2
    gauges.breakers = {("A", "h"): 2}
    gauges.waits = {"model": 3}
    found = samples(metrics)
    assert found["amx_active_agents", ()] == 2
    assert found["amx_memory_usage_bytes", (("component", "mailboxes"),)] == 10
    assert found["amx_memory_usage_bytes", (("component", "process"),)] > 0
    assert found["amx_queued_messages", (("agent_name", "A"),)] == 4
    assert found["amx_waits", (("reason", "model"),)] == 3
    assert found["amx_circuit_breaker_state", (("agent_name", "A"), ("handler_name", "h"))] == 2


def test_counters_and_refusals_are_rendered() -> None:
    metrics = EngineMetrics()
    metrics.counters.redeliveries += 3
    metrics.counters.dropped_completions += 1
    metrics.refuse("MAILBOX_FULL")
    metrics.refuse("MAILBOX_FULL")
    metrics.commit_durations.observe(0.004)
    model = DurationHistogram()
    model.observe(1.5)
    metrics.wait_durations = {"model": model}
    found = samples(metrics)
    assert found["amx_wait_duration_seconds_sum", (("reason", "model"),)] == 1.5
    assert found["amx_redeliveries_total", ()] == 3
    assert found["amx_dropped_completions_total", ()] == 1
    assert found["amx_refusals_total", (("reason", "MAILBOX_FULL"),)] == 2
    assert found["amx_commit_duration_seconds_count", ()] == 1


def test_two_engines_count_apart() -> None:
    first, second = EngineMetrics(), EngineMetrics()
    first.counters.commits += 1
    assert samples(first)["amx_commits_total", ()] == 1
    assert samples(second)["amx_commits_total", ()] == 0


def test_format_follows_the_accept_header() -> None:
    metrics = EngineMetrics()
    content_type, text = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
    assert metrics.render()[0].startswith("text/plain")
