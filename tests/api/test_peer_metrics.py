"""The metrics of several engines on one page."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from amx_server.api.peer_metrics import together
from amx_server.telemetry.metrics import EngineMetrics

FIRST = '# HELP a_total Some.\n# TYPE a_total counter\na_total 1.0\n# HELP b B.\n# TYPE b gauge\nb{x="y z"} 2.0\n'
SECOND = "# HELP b B.\n# TYPE b gauge\nb{} 3.0\n# HELP a_total Some.\n# TYPE a_total counter\na_total 4.0\n"


def test_each_sample_says_of_which_engine_it_is() -> None:
    page = together([(0, FIRST), (1, SECOND)])
    assert page == (
        '# HELP a_total Some.\n# TYPE a_total counter\na_total{engine="0"} 1.0\na_total{engine="1"} 4.0\n'
        '# HELP b B.\n# TYPE b gauge\nb{engine="0",x="y z"} 2.0\nb{engine="1"} 3.0\n'
    )


def test_pages_of_real_engines_can_be_read_together() -> None:
    for accept in ("", "application/openmetrics-text; version=1.0.0"):
        pages = []
        for number in range(2):
            metrics = EngineMetrics()
            metrics.handler("Echo", "echo")
            pages.append((number, metrics.render(accept)[1].decode()))
        page = together(pages)
        assert page.endswith("# EOF\n") == bool(accept)
        samples = [
            (sample.labels["engine"], sample.value)
            for family in text_string_to_metric_families(page.replace("# EOF\n", ""))
            for sample in family.samples
            if sample.name == "amx_active_agents"
        ]
        assert samples == [("0", 0.0), ("1", 0.0)]
