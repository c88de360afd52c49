"""Micro-batching: operations of one group wait for each other, a little, and travel together."""

from __future__ import annotations

from collections.abc import Callable

from amx_server.core.clock import Clock
from amx_server.inference.io.alarms import Alarm, Alarms
from amx_server.inference.io.flights import Flight
from amx_server.inference.io.providers import BatchPolicy


class _Group:
    __slots__ = ("alarm", "flights", "tokens")

    def __init__(self) -> None:
        self.flights: dict[Flight, None] = {}
        self.tokens = 0
        self.alarm: Alarm | None = None


class Batcher:
    """Collects the flights of one provider by group and hands over each group when it is full or has waited enough."""

    __slots__ = ("_alarms", "_clock", "_groups", "_policy", "_ready", "waiting")

    def __init__(
        self, policy: BatchPolicy, clock: Clock, alarms: Alarms, ready: Callable[[list[Flight]], None]
    ) -> None:
        """ready: gets the flights of a group, in the order in which they came; never none."""
        self._policy = policy
        self._clock = clock
        self._alarms = alarms
        self._ready = ready
        self._groups: dict[str, _Group] = {}
        self.waiting = 0

    def add(self, flight: Flight) -> None:
        """Takes in a flight, whose operation names a group."""
        policy, name = self._policy, flight.operation.batch
        group = self._groups.get(name)
        if group is not None and policy.max_tokens and group.tokens + flight.operation.tokens > policy.max_tokens:
            self._flush(name)
            group = None
        if group is None:
            group = self._groups[name] = _Group()
            group.alarm = self._alarms.at(self._clock.monotonic() + policy.max_wait, lambda: self._flush(name))
        group.flights[flight] = None
        group.tokens += flight.operation.tokens
        self.waiting += 1
        if len(group.flights) >= policy.max_items or (policy.max_tokens and group.tokens >= policy.max_tokens):
            self._flush(name)

    def discard(self, flight: Flight) -> None:
        """Nobody waits for this one any more. Does nothing if it has left."""
        group = self._groups.get(flight.operation.batch)
        if group is None or flight not in group.flights:
            return
        del group.flights[flight]
        group.tokens -= flight.operation.tokens
        self.waiting -= 1
        if not group.flights:
            self._close(flight.operation.batch)

    def close(self) -> list[Flight]:
        """Takes out everything that still waits."""
        flights = [flight for group in self._groups.values() for flight in group.flights]
        for name in list(self._groups):
            self._close(name)
        self.waiting = 0
        return flights

    def _flush(self, name: str) -> None:
        group = self._close(name)
        self.waiting -= len(group.flights)
        self._ready(list(group.flights))

    def _close(self, name: str) -> _Group:
        group = self._groups.pop(name)
        if group.alarm is not None:
            group.alarm.cancel()
        return group
