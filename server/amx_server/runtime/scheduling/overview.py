"""The scheduler as people look at it: pressure, shares, waits, decisions and blocks of one namespace. Reads; changes
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amx.v1 import engine_pb2
from amx_server.runtime.scheduling.allocator import Allocator, Recorded
from amx_server.runtime.scheduling.pressure import Pressure
from amx_server.runtime.scheduling.waits import Waits

if TYPE_CHECKING:
    from amx_server.runtime.namespaces import Namespace

MAX_SHARES = 1_000
"""Agents described, those with most to do."""


class SchedulerOverview:
    """Describes one engine's scheduler."""

    def __init__(self, pressure: Pressure, allocator: Allocator, waits: Waits) -> None:
        self._pressure = pressure
        self._allocator = allocator
        self._waits = waits

    def describe(self, namespace: Namespace) -> engine_pb2.GetSchedulerResponse:
        """As one namespace sees it: its own agents and waits, decisions about it and about all."""
        response = engine_pb2.GetSchedulerResponse(
            policy=self._allocator.policy,
            mode=self._allocator.mode,
            pressure=int(self._pressure.level),  # type: ignore[arg-type]
            pressure_because=self._pressure.because,
            shares=self._shares(namespace.name),
            decisions=[
                _decision(recorded)
                for recorded in reversed(self._allocator.decisions)
                if recorded.decision.namespace in ("", namespace.name)
            ],
        )
        for reason, count in self._waits.by_reason(namespace).items():
            number = engine_pb2.WaitReason.Value(f"WAIT_REASON_{reason.name}")
            response.waits.add(reason=number, instances=count)
        return response

    def _shares(self, namespace: str) -> list[engine_pb2.AllocationShare]:
        usages = [usage for usage in self._allocator.snapshot.usages if usage.namespace == namespace]
        return [
            engine_pb2.AllocationShare(
                namespace=namespace,
                agent=usage.agent,
                weight=self._allocator.weight(usage),
                used=usage.used,
                ready=usage.ready,
                running=usage.running,
            )
            for usage in usages[:MAX_SHARES]
        ]


def _decision(recorded: Recorded) -> engine_pb2.AllocationDecision:
    decision = recorded.decision
    return engine_pb2.AllocationDecision(
        at_ms=recorded.at_ms,
        kind=decision.kind,
        namespace=decision.namespace,
        agent=decision.agent,
        amount=decision.amount,
        because=decision.because,
        applied=recorded.applied,
    )
