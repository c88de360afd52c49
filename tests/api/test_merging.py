"""Answers of several engines made into one: the scheduler's, and those about memory."""

from __future__ import annotations

import pytest

from amx.v1 import engine_pb2
from amx_server.api.merging import merge


def answer(level: int, because: str, memory: float, used: float, at_ms: int) -> engine_pb2.GetSchedulerResponse:
    response = engine_pb2.GetSchedulerResponse(
        policy="priority",
        mode="priority",
        pressure=level,  # type: ignore[arg-type]
        pressure_because=because,
        refused=2,
    )
    response.readings.add(signal="memory", value=memory, elevated=0.75, high=0.85, critical=0.95)
    response.shares.add(namespace="default", agent="Cart", weight=0.5, used=used, ready=1, running=2)
    response.waits.add(reason=engine_pb2.WAIT_REASON_LINK, instances=1)
    response.decisions.add(at_ms=at_ms, kind="scale_up", agent="Cart")
    response.blocks.add(at_ms=at_ms, for_ms=300)
    return response


def test_scheduler_of_several_engines_tells_the_highest_pressure_with_its_reason() -> None:
    for first, second in ((1, 3), (3, 1)):
        texts = {1: "nothing is scarce", 3: "memory: 14 GiB"}
        whole = merge([answer(first, texts[first], 0.1, 0.2, 5), answer(second, texts[second], 0.9, 0.4, 7)])
        assert (whole.pressure, whole.pressure_because) == (3, "memory: 14 GiB")
        (reading,) = whole.readings
        assert (reading.value, reading.elevated, reading.critical) == (0.9, 0.75, 0.95)


def test_scheduler_of_several_engines_adds_up_what_agents_do() -> None:
    whole = merge([answer(1, "", 0.1, 0.2, 5), answer(1, "", 0.1, 0.4, 7)])
    (share,) = whole.shares
    assert (share.weight, share.ready, share.running) == (0.5, 2, 4)
    assert share.used == pytest.approx(0.3)  # of twice the capacity
    assert [wait.instances for wait in whole.waits] == [2]
    assert (whole.policy, whole.mode, whole.refused) == ("priority", "priority", 4)


def test_scheduler_of_several_engines_lists_what_happened_last_first() -> None:
    whole = merge([answer(1, "", 0.1, 0.2, 5), answer(1, "", 0.1, 0.4, 7)])
    assert [decision.at_ms for decision in whole.decisions] == [7, 5]
    assert [block.at_ms for block in whole.blocks] == [7, 5]


def memory_of(hot: int, hit_rate: float, agent: str) -> engine_pb2.GetMemoryStatsResponse:
    response = engine_pb2.GetMemoryStatsResponse(objects=hot, versions=3, hit_rate=hit_rate, damages=[agent])
    response.tiers.add(name="hot", objects=hot, bytes=100, budget_bytes=1000)
    response.owners.add(namespace="default", bytes=10)
    response.owners.add(namespace="default", agent=agent, bytes=5)
    return response


def test_memory_of_several_engines_adds_up_and_averages_its_hit_rate() -> None:
    whole = merge([memory_of(1, 0.9, "Cart"), memory_of(2, 0.5, "Till"), memory_of(4, 0.1, "Cart")])
    assert (whole.objects, whole.versions, list(whole.damages)) == (7, 9, ["Cart", "Till", "Cart"])
    assert whole.hit_rate == pytest.approx(0.5)
    (hot,) = whole.tiers
    assert (hot.objects, hot.bytes, hot.budget_bytes) == (7, 300, 3000)
    assert [(owner.agent, owner.bytes) for owner in whole.owners] == [("", 30), ("Cart", 10), ("Till", 5)]
