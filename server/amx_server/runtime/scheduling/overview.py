"""The scheduler as people look at it: pressure, shares, waits, decisions and blocks of one namespace. Reads; changes
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amx.v1 import engine_pb2
from amx_server.runtime.scheduling.admission import Admission
from amx_server.runtime.scheduling.allocator import Allocator, Recorded
from amx_server.runtime.scheduling.pressure import Pressure
from amx_server.runtime.scheduling.waits import Waits
from amx_server.runtime.scheduling.watchdog import Watchdog

if TYPE_CHECKING:
    from amx_server.runtime.namespaces import Namespace

MAX_SHARES = 1_000
"""Agents described, those with most to do."""


class SchedulerOverview:
    """Describes one engine's scheduler."""

    def __init__(
        self, pressure: Pressure, admission: Admission, allocator: Allocator, waits: Waits, watchdog: Watchdog
    ) -> None:
        self._pressure = pressure
        self._admission = admission
        self._allocator = allocator
        self._waits = waits
        self._watchdog = watchdog

    def describe(self, namespace: Namespace) -> engine_pb2.GetSchedulerResponse:
        """As one namespace sees it: its own agents and waits, decisions about it and about all."""
        response = engine_pb2.GetSchedulerResponse(
            policy=self._allocator.policy,
            mode=self._allocator.mode,
            pressure=int(self._pressure.level),  # type: ignore[arg-type]
            pressure_because=self._pressure.because,
            readings=self._readings(),
            refused=self._admission.refused,
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
        for block in tuple(self._watchdog.blocks):
            if block.namespace in ("", namespace.name):
                response.blocks.add(
                    at_ms=block.at_ms,
                    for_ms=int(block.seconds * 1000),
                    instance=block.instance,
                    handler=block.handler,
                    place=block.place,
                )
        return response

    def _readings(self) -> list[engine_pb2.PressureReading]:
        thresholds = self._pressure.thresholds()
        return [
            engine_pb2.PressureReading(
                signal=signal,
                value=value,
                elevated=_finite(thresholds[signal].elevated),
                high=_finite(thresholds[signal].high),
                critical=_finite(thresholds[signal].critical),
            )
            for signal, value in self._pressure.readings.by_signal().items()
        ]

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


def _finite(threshold: float) -> float:
    return threshold if threshold < float("inf") else 0.0


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
