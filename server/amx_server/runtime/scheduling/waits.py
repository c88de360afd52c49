"""Why instances do nothing just now: `Waits` keeps every wait while it lasts, and counts them by reason.

One record for all reasons. Whoever makes an instance wait says so here; the engine's metrics, `InstanceInfo.waits` and
the scheduler's views read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from sys import intern
from typing import TYPE_CHECKING

from amx_server.telemetry.metrics import DurationHistogram

if TYPE_CHECKING:
    from amx_server.inference.io.accounting import Wait as IoWait
    from amx_server.runtime.instances import Instance
    from amx_server.runtime.namespaces import Namespace


class WaitReason(StrEnum):
    """What an instance waits for. Named as in amx.v1.WaitReason; the first three are those of the I/O manager."""

    MODEL = "model"
    TOOL = "tool"
    FILE = "file"
    MESSAGE = "message"
    TIMER = "timer"
    USER = "user"
    MEMORY = "memory"
    LINK = "link"


class Wait:
    """One instance that waits for one thing. Made by `Waits.began`."""

    __slots__ = ("_earlier", "_later", "detail", "instance", "over", "reason", "since")

    def __init__(self, instance: Instance, reason: WaitReason, detail: str, since: float) -> None:
        self.instance = instance
        self.reason = reason
        self.detail = detail  # for people: which provider, which address
        self.since = since  # monotonic seconds
        self.over = False
        self._earlier: Wait | None = None  # the neighbours among those of the same instance
        self._later: Wait | None = None


class Waits:
    """Every wait of an engine that has not ended. Each takes half a microsecond and about 200 bytes while it lasts.

    An instance may wait for several things at once. Nothing here keeps a wait from being forgotten: whoever began one
    ends it, once, on every path. Runs on the event loop's thread only; `counts` and `seconds` may be read on another.
    """

    __slots__ = ("_counts", "_in_line_seconds", "_latest", "in_line", "seconds")

    def __init__(self) -> None:
        self._latest: dict[Instance, Wait] = {}
        self._counts = dict.fromkeys(WaitReason, 0)
        self.in_line = 0
        """Waits for a LINK. They are not entered here but in the lanes of agents; the dispatcher counts them."""
        self.seconds: Mapping[WaitReason, DurationHistogram] = {reason: DurationHistogram() for reason in WaitReason}
        """How long those that ended took."""
        self._in_line_seconds = self.seconds[WaitReason.LINK]

    @property
    def counts(self) -> dict[WaitReason, int]:
        """Waits under way, by reason."""
        return {**self._counts, WaitReason.LINK: self.in_line}

    def began(self, instance: Instance, reason: WaitReason, detail: str, now: float) -> Wait:
        """`instance` does not go on before the wait that this returns is given to `ended`. now: monotonic seconds.

        reason: any but LINK.
        """
        wait = Wait(instance, reason, detail, now)
        earlier = self._latest.get(instance)
        if earlier is not None:
            wait._earlier = earlier
            earlier._later = wait
        self._latest[instance] = wait
        self._counts[reason] += 1
        return wait

    def ended(self, wait: Wait, now: float) -> None:
        """It waits no longer. Does nothing if this was said before."""
        if wait.over:
            return
        wait.over = True
        earlier, later = wait._earlier, wait._later
        if later is not None:
            later._earlier = earlier
        elif earlier is not None:
            self._latest[wait.instance] = earlier
        else:
            del self._latest[wait.instance]
        if earlier is not None:
            earlier._later = later
        wait._earlier = wait._later = None
        self._counts[wait.reason] -= 1
        self.seconds[wait.reason].observe(now - wait.since)

    def had_turn(self, seconds: float) -> None:
        """An instance that lined up got what it waited for, after so long."""
        self.in_line -= 1
        self._in_line_seconds.observe(seconds)

    def of(self, instance: Instance) -> list[Wait]:
        """What one instance waits for, what it waited for first at the front."""
        found = []
        wait = self._latest.get(instance)
        while wait is not None:
            found.append(wait)
            wait = wait._earlier
        since = instance.agent.ready.since(instance)
        if since is not None:
            found.append(Wait(instance, WaitReason.LINK, "", since))
        return sorted(found, key=lambda wait: wait.since)

    def __iter__(self) -> Iterator[Wait]:
        """Every wait under way, but those for a link: they are in the lanes."""
        for latest in list(self._latest.values()):
            wait: Wait | None = latest
            while wait is not None:
                yield wait
                wait = wait._earlier

    def __len__(self) -> int:
        return sum(self.counts.values())

    def by_reason(self, namespace: Namespace) -> dict[WaitReason, int]:
        """Reason -> instances of one namespace that wait for it now, at least one. Walks over all waits."""
        found: dict[WaitReason, set[Instance]] = {}
        for wait in self:
            if wait.instance.agent.namespace is namespace:
                found.setdefault(wait.reason, set()).add(wait.instance)
        for agent in namespace.agents.values():
            if agent.ready:
                found.setdefault(WaitReason.LINK, set()).update(agent.ready)
        return {reason: len(found[reason]) for reason in WaitReason if reason in found}


class IoWaits:
    """Enters the waits of the I/O manager (it is a `WaitObserver`). Waiters that are no awake instance are passed
    over: the manager counts those by itself.
    """

    __slots__ = ("_find", "_now", "_under_way", "_waits")

    def __init__(
        self, waits: Waits, find: Callable[[str, str, str], Instance | None], now: Callable[[], float]
    ) -> None:
        """find: (namespace, agent, key) -> the instance if it is awake; makes nothing. now: monotonic seconds."""
        self._waits = waits
        self._find = find
        self._now = now
        self._under_way: dict[int, Wait] = {}  # by identity of the manager's record

    def wait_began(self, wait: IoWait) -> None:
        """Called by the I/O manager."""
        agent, _, key = wait.waiter.agent.partition("/")
        instance = self._find(wait.waiter.namespace, agent, key) if agent else None
        if instance is not None:
            reason = WaitReason(wait.reason.value)
            detail = intern(f"{wait.provider}: {wait.kind}")  # there are few, and many that wait for the same
            self._under_way[id(wait)] = self._waits.began(instance, reason, detail, wait.since)

    def wait_ended(self, wait: IoWait, seconds: float, failure: str) -> None:
        """Called by the I/O manager, with the record that it gave to `wait_began`."""
        entered = self._under_way.pop(id(wait), None)
        if entered is not None:
            self._waits.ended(entered, self._now())
