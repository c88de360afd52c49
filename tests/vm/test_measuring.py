"""What the comparison is made of: prompts and questions, footprints, pauses, and how it is shown."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from amx_server.vm.baseline import Baseline
from amx_server.vm.conversation import message, prompt_of, question_of, request_of, system_message, tool_set
from amx_server.vm.footprint import Footprint, extrapolated, footprint
from amx_server.vm.machine import Report
from amx_server.vm.options import VmOptions
from amx_server.vm.pauses import Pauses
from amx_server.vm.running import State
from amx_server.vm.view import comparison, lines, size

REPORT = Report(
    "ended", 12.0, 4.0, agents=1000, spawn=0.03, active=47, waiting={"model": 953}, steps=4000, rate=666.6,
    latency=1.5, pause=0.004, objects=8002, plain=3_000_000, retained=1_050_000_000, stored=1_000_000,
    disk=1_000_000, packed=3.04,
)  # fmt: skip
STATE = State(REPORT, Footprint(50_000_000, 45_000_000))
BASELINE = Baseline("", 20, 1000, 0.04, 10e6, 0.05, 140, 40.0, 10_000_000_000, 50.0)


def test_prompt_has_exactly_the_size_and_is_the_same_every_time() -> None:
    assert len(prompt_of(1 << 20)) == 1 << 20
    assert prompt_of(1000) == prompt_of(5000)[:1000]
    assert prompt_of(5000).isascii()


def test_request_is_json_with_the_prompt_by_address_and_the_messages_in_order() -> None:
    body = request_of(system_message("ab" * 32), [question_of(7, 1), message("assistant", 'say "yes"')])
    asked = json.loads(body)
    assert [one["role"] for one in asked["messages"]] == ["system", "user", "assistant"]
    assert asked["messages"][0]["content"] == {"prompt": "ab" * 32}
    assert asked["messages"][2]["content"] == 'say "yes"'
    assert len({tool["function"]["name"] for tool in tool_set()}) == len(tool_set())


def test_footprint_of_a_process_is_what_the_system_says() -> None:
    mine = footprint(os.getpid())
    assert 0 < mine.private <= mine.pss
    with pytest.raises(ProcessLookupError):
        footprint(2**22 + 1)


def test_extrapolation_counts_what_is_private_for_each_and_what_is_shared_once() -> None:
    ran = [Footprint(pss=12, private=10), Footprint(pss=12, private=10)]
    assert extrapolated(ran, 2) == 24
    assert extrapolated(ran, 1000) == 4 + 10_000


def test_quantile_of_pauses_is_that_of_what_was_counted() -> None:
    pauses = Pauses()
    assert pauses.quantile(0.999) == 0.0
    for late in [0.00005] * 998 + [0.0201, 5.0]:
        pauses.count(late)
    assert pauses.quantile(0.5) == 0.0001
    assert pauses.quantile(0.999) == pytest.approx(0.0202)
    assert pauses.longest == 5.0


@pytest.mark.parametrize("wrong", [{"agents": 0}, {"prompt_bytes": 0}, {"latency_min": 2.0, "latency_max": 1.0}])
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).partition("_")[0]):
        replace(VmOptions(), **wrong)  # type: ignore[arg-type]
    assert VmOptions.from_json(VmOptions(agents=5).to_json()) == VmOptions(agents=5)


def test_view_says_who_runs_who_waits_and_what_is_shared() -> None:
    shown = "\n".join(lines(STATE))
    for part in ("1,000", "50.0 MB", "dedup 99.7%", "3.0:1", "47  (953 model waiting)", "667", "1,500 ms", "4.0 ms"):
        assert part in shown
    assert "1,000 µs for each of 4,000 steps" in shown


def test_comparison_says_how_many_really_ran() -> None:
    shown = comparison(STATE, BASELINE)
    assert "extrapolated from 20" in shown[0]
    table = "\n".join(shown)
    assert "200 x" in table and "1,333 x" in table and "12 x" in table
    assert "extrapolated" not in comparison(STATE, replace(BASELINE, processes=1000))[0]


def test_sizes_are_written_for_people() -> None:
    assert [size(value) for value in (12, 1500, 3.2e6, 16e9)] == ["12 bytes", "1.5 kB", "3.2 MB", "16.0 GB"]
