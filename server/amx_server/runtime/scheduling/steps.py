"""Whose turn it is among the handlers of this process that could go on: `Steps`, one for each engine and event loop.

A step is what a handler does between two waits. While there is time for all of them, each goes on at once; when a
turn of the loop has taken its slice, the others wait here, and go on by priority and by the shares of their agents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import TYPE_CHECKING

from amx_server.runtime.scheduling.run_queue import Lane, RunQueue
from amx_server.runtime.scheduling.shares import Account, Share
from amx_server.telemetry import families
from amx_server.telemetry.metrics import DurationHistogram

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from amx_engine._runs import Run

SLICE_SECONDS = 0.002
"""How long steps may keep the loop from its sockets and commits; one that takes longer cannot be interrupted."""
_PAST = -1.0
_WINDOW_SECONDS = SLICE_SECONDS / 2  # steps of one turn of the loop may go on at once in two of them
_USUAL_SECONDS = SLICE_SECONDS / 4  # of a step of which nothing is known yet


class _StepLane(Lane["asyncio.Future[None]"]):
    """The steps of one agent that wait, and what a step of it is likely to cost."""

    __slots__ = ("_unpaid", "expected")

    def __init__(self, share: Share, queue: RunQueue[asyncio.Future[None]]) -> None:
        super().__init__(share)
        self.expected = _USUAL_SECONDS
        self._unpaid = 0.0  # what steps have taken beyond what they were charged with
        self.serve_by((queue,))

    def price(self) -> float:
        """What the next step is charged with: what it is expected to take, and what earlier ones took beyond that."""
        price = max(0.0, self.expected + self._unpaid)
        self._unpaid -= price
        return price

    def ran(self, seconds: float) -> None:
        self.expected = max(seconds, self.expected + (seconds - self.expected) / 8)  # learns quickly what takes long
        self._unpaid += seconds


class Steps:
    """The order of steps. `of` gives what the SDK asks before each one. Runs on one event loop's thread only.

    A step that goes on at once costs a look at the clock; one that waits, some microseconds.
    """

    __slots__ = ("_accounts", "_lanes", "_loop", "_queue", "_turned", "delays", "now", "until", "waiting")

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        """now: seconds."""
        self.now = now
        self.until = _PAST
        """Until when steps go on at once; afterwards they ask `later`."""
        self._turned = True  # the loop, since `later` last said "at once"; False: `_next` is about to be called
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: RunQueue[asyncio.Future[None]] = RunQueue(unit=_USUAL_SECONDS)
        self._lanes: dict[tuple[str, str], _StepLane] = {}
        self._accounts: dict[Share, Account] = {}
        self.waiting = 0
        """Steps that wait for their turn, those that were cancelled meanwhile included."""
        self.delays = DurationHistogram()
        """Seconds for which those that waited did."""

    def of(self, namespace: str, share: Callable[[str], Share]) -> NamespaceSteps:
        """For one namespace. share: agent's name -> its share, whose weight counts here, too."""
        return NamespaceSteps(self, namespace, share)

    def later(
        self, namespace: str, agent: str, priority: int, share: Callable[[str], Share]
    ) -> asyncio.Future[None] | None:
        """Asked before a step once `until` has passed: None: at once; else a future that is done in its turn."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        now = self.now()
        if self._turned:  # and so nobody waits
            self._turned = False
            self.until = now + _WINDOW_SECONDS
            loop.call_soon(self._next)
            return None
        self.until = _PAST
        lane = self._lanes.get((namespace, agent))
        if lane is None:
            lane = self._lanes[namespace, agent] = _StepLane(self._account(share(agent)), self._queue)
        future: asyncio.Future[None] = loop.create_future()
        lane.push(future, priority if 1 <= priority <= 5 else 3, now)
        self.waiting += 1
        return future

    def ran(self, namespace: str, agent: str, seconds: float) -> None:
        """A step that had waited took so long."""
        self._lanes[namespace, agent].ran(seconds)

    def metrics(self) -> Iterable[Metric]:
        """For Prometheus."""
        yield families.gauge("amx_steps_waiting", "Steps of handlers that wait for their turn.", value=self.waiting)
        yield families.histogram(
            "amx_step_delay_seconds",
            "Seconds for which steps that could not go on at once waited for their turn.",
            buckets=self.delays.buckets(),
            sum_value=self.delays.total_seconds,
        )

    def _next(self) -> None:
        """The loop has turned. Lets those go on whose turn it is, as many as fit into a slice; they run before this is
        called again.
        """
        granted = 0.0
        if self.waiting:
            queue = self._queue
            now = self.now()
            while granted < SLICE_SECONDS and (turn := queue.pop(0.0)) is not None:
                future, since, lane, priority = turn
                self.waiting -= 1
                if future.done():
                    continue  # cancelled while it waited
                assert isinstance(lane, _StepLane)
                granted += lane.expected
                queue.charge(lane, priority, lane.price())
                self.delays.observe(now - since)
                future.set_result(None)
            if not self.waiting:
                self.until = now + _WINDOW_SECONDS
        if granted:
            assert self._loop is not None
            self._loop.call_soon(self._next)
        else:
            self._turned = True

    def _account(self, share: Share) -> Account:
        account = self._accounts.get(share)
        if account is None:
            parent = self._account(share.parent) if share.parent is not None else None
            account = self._accounts[share] = Account(share, parent)
        return account


class NamespaceSteps:
    """What the SDK asks (`amx_engine._services.Turns`) for the agents of one namespace."""

    __slots__ = ("_share", "_steps", "namespace")

    def __init__(self, steps: Steps, namespace: str, share: Callable[[str], Share]) -> None:
        self._steps = steps
        self.namespace = namespace
        self._share = share

    def ready(self, run: Run) -> asyncio.Future[None] | None:
        """Called by the SDK before each step of a handler that has waited for something."""
        steps = self._steps
        if steps.now() < steps.until:
            return None
        return steps.later(self.namespace, run.activation.agent.name, int(run.message.priority), self._share)

    def ran(self, run: Run, seconds: float) -> None:
        """Called by the SDK after a step that had to wait for its turn."""
        self._steps.ran(self.namespace, run.activation.agent.name, seconds)
