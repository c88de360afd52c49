"""Whose turn it is: five priorities; inside each, namespaces and their agents by weight; nobody waits for ever.

`Lane` holds what waits of one agent. `RunQueue` chooses among the lanes that one link (or one event loop) serves; a
lane may be served by many. Neither knows the time, and neither has bounds: see quotas and admission.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from heapq import heappop, heappush, heapreplace
from typing import Generic, TypeVar

from amx_server.runtime.scheduling.shares import Share

H = TypeVar("H", bound=Hashable)

LEVELS = 5  # amx.v1.Priority: 1 (critical) to 5 (background)
FLOOR = 1 / 16
"""The part that every priority gets at least while something waits there, however much that is more urgent comes."""


class Lane(Generic[H]):
    """What waits of one agent: each item once, the most urgent first, then in order of arrival."""

    __slots__ = ("_levels", "_of", "_queues", "share")

    def __init__(self, share: Share) -> None:
        self.share = share
        self._levels: list[OrderedDict[H, float]] = [OrderedDict() for _ in range(LEVELS)]  # item -> since
        self._of: dict[H, int] = {}  # item -> index of its level
        self._queues: tuple[RunQueue[H], ...] = ()

    def push(self, item: H, priority: int, since: float) -> bool:
        """Queues `item`, or moves it up if it waits at a less urgent priority. Returns whether it was not queued.

        priority: 1 (critical) to 5 (background). since: kept for whoever takes it out; of an item that was queued
        already, the first one holds.
        """
        index = priority - 1
        before = self._of.get(item)
        if before is not None:
            if index >= before:
                return False
            since = self._levels[before].pop(item)
        self._of[item] = index
        level = self._levels[index]
        if not level:
            for queue in self._queues:
                queue._enter(self, index)
        level[item] = since
        return before is None

    def discard(self, item: H) -> bool:
        """Takes `item` out in constant time. Returns whether it was there."""
        index = self._of.pop(item, None)
        if index is None:
            return False
        del self._levels[index][item]
        return True

    def since(self, item: H) -> float | None:
        """When `item` was pushed; None if it does not wait."""
        index = self._of.get(item)
        return None if index is None else self._levels[index][item]

    def oldest(self, least: int = LEVELS) -> float | None:
        """When what has waited longest was pushed; None if nothing waits. Exact where nothing was moved up.

        least: of this priority and more urgent ones.
        """
        return min((level[next(iter(level))] for level in self._levels[:least] if level), default=None)

    def counts(self) -> tuple[int, int, int, int, int]:
        """How many wait at each priority, critical first."""
        critical, high, normal, low, background = map(len, self._levels)
        return critical, high, normal, low, background

    def serve_by(self, queues: Iterable[RunQueue[H]]) -> None:
        """From now on these queues take from the lane, and no others."""
        self._queues = tuple(dict.fromkeys(queues))
        for index, level in enumerate(self._levels):
            if level:
                for queue in self._queues:
                    queue._enter(self, index)

    def is_served_by(self, queue: RunQueue[H]) -> bool:
        """Whether `queue` takes from the lane."""
        return queue in self._queues

    def __contains__(self, item: object) -> bool:
        return item in self._of

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[H]:
        """Items from the most urgent priority to the least, in order of arrival inside each."""
        for level in self._levels:
            yield from level


class _Member:
    """One share among its like, at one priority."""

    __slots__ = ("passed", "share")

    def __init__(self, share: Share, passed: float) -> None:
        self.share = share
        self.passed = passed  # what it has used there, divided by its weight


K = TypeVar("K", bound=Hashable)
M = TypeVar("M", bound=_Member)


class _Members(Generic[K, M]):
    """Members by pass, the least first (stride scheduling: Waldspurger and Weihl, MIT/LCS/TM-528, 1995).

    A member stays until it is found with nothing to do when its turn comes: only then does it owe nothing to those
    that waited meanwhile. One that comes, or comes back, starts level with whose turn it is, so that rest earns no
    credit. Who is alone pays nothing: there is nobody to be fair to.
    """

    __slots__ = ("_order", "heap", "of", "virtual")

    def __init__(self) -> None:
        self.of: dict[K, M] = {}
        self.heap: list[tuple[float, int, K, M]] = []
        self.virtual = 0.0  # pass of the member whose turn was last
        self._order = 0

    def add(self, key: K, member: M) -> None:
        self.of[key] = member
        self._order += 1
        heappush(self.heap, (member.passed, self._order, key, member))

    def first(self) -> M:
        """The member whose turn it is. There must be one; it may have nothing to do."""
        heap = self.heap
        passed, order, key, member = heap[0]
        while passed < member.passed:  # it has paid since it was put there
            heapreplace(heap, (member.passed, order, key, member))
            passed, order, key, member = heap[0]
        if passed > self.virtual:
            self.virtual = passed
        return member

    def drop_first(self) -> None:
        """`first` has nothing to do."""
        del self.of[heappop(self.heap)[2]]
        if not self.heap:
            self.virtual = 0.0


class _Namespace(_Member, Generic[H]):
    """A namespace, with its agents."""

    __slots__ = ("agents",)

    def __init__(self, share: Share, passed: float) -> None:
        super().__init__(share, passed)
        self.agents: _Members[Lane[H], _Member] = _Members()


class _Level(_Members[Share, _Namespace[H]], Generic[H]):
    """Everything of one priority."""

    __slots__ = ()

    def enter(self, lane: Lane[H]) -> None:
        share = lane.share.parent or lane.share
        namespace = self.of.get(share)
        if namespace is None:
            namespace = _Namespace(share, self.virtual)
            self.add(share, namespace)
        agents = namespace.agents
        if lane not in agents.of:
            agents.add(lane, _Member(lane.share, agents.virtual))

    def charge(self, lane: Lane[H], cost: float) -> None:
        """The lane has used so much; who is not here has left it behind."""
        share = lane.share
        namespace = self.of.get(share.parent or share)
        if namespace is None:
            return
        if len(self.heap) > 1:
            namespace.passed += cost / namespace.share.weight
        agents = namespace.agents
        if len(agents.heap) > 1:
            member = agents.of.get(lane)
            if member is not None:
                member.passed += cost / share.weight


class RunQueue(Generic[H]):
    """Chooses among what waits in the lanes that name this queue in `serve_by`.

    Guarantees, whatever is pushed:
    - Something more urgent goes first, but for each priority where something waits a FLOOR of all that is used.
    - Inside a priority, namespaces that always have something waiting use what is used in proportion to their weights,
      within the cost of one turn each; so do the agents inside a namespace. Inside an agent: first come, first served.
    - So an item with n of its agent before it has its turn when the agent's part of its namespace's part of the
      priority's FLOOR amounts to n + 1 turns.
    `pop` and `push` take constant time for one agent, O(log agents) for many.
    """

    __slots__ = ("_levels", "_owed", "_unit", "busy")

    def __init__(self, unit: float = 1.0) -> None:
        """unit: the cost of a usual turn. What the numbers mean (turns, seconds) is the owner's choice."""
        self._levels: list[_Level[H]] = [_Level() for _ in range(LEVELS)]
        self._owed = [0.0] * LEVELS
        self._unit = unit
        self.busy: list[int] = []
        """Levels where something waits, or did when they were last looked at, the most urgent first. Not to be changed
        by others; always the same list.
        """

    def pop(self, cost: float | None = None) -> tuple[H, float, Lane[H], int] | None:
        """Takes out what is next and charges its share with `cost` (default: one unit); None: nothing waits.

        Returns the item, its `since`, its lane and the priority it waited at.
        """
        busy = self.busy
        while busy:
            index = busy[0] if len(busy) == 1 else self._choose()
            namespace = self._next_namespace(index)
            if namespace is None:
                busy.remove(index)
                self._owed[index] = 0.0
                continue
            agents = namespace.agents
            lane = agents.heap[0][2]
            item, since = lane._levels[index].popitem(last=False)
            del lane._of[item]
            if cost is None:
                cost = self._unit
            lane.share.charge(cost)
            if len(self._levels[index].heap) > 1:
                namespace.passed += cost / namespace.share.weight
            if len(agents.heap) > 1:
                agents.heap[0][3].passed += cost / lane.share.weight
            if len(busy) > 1:
                self._owe(index, cost)
            return item, since, lane, index + 1
        return None

    def charge(self, lane: Lane[H], priority: int, cost: float) -> None:
        """What was popped cost so much more than it was charged with; cost: at least 0."""
        lane.share.charge(cost)
        self._levels[priority - 1].charge(lane, cost)
        self._owe(priority - 1, cost)

    def next_since(self, least: int = LEVELS) -> float | None:
        """When what is next was pushed, of priority `least` and more urgent; None: nothing of that kind waits."""
        for index in self.busy:
            namespace = self._next_namespace(index) if index < least else None
            if namespace is not None:
                return next(iter(namespace.agents.heap[0][2]._levels[index].values()))
        return None

    def _choose(self) -> int:
        """The level that is owed most, if that is a turn; else the most urgent."""
        owed, busy = self._owed, self.busy
        most = max(busy, key=owed.__getitem__)
        if owed[most] >= self._unit:
            return most
        owed[busy[0]] = 0.0  # it has all that the others leave
        return busy[0]

    def _owe(self, index: int, cost: float) -> None:
        """A level has used so much: the others that wait are owed their part of it."""
        owed = self._owed
        for other in self.busy:
            if other != index:
                owed[other] += cost * FLOOR
            elif owed[index] > 0.0:
                owed[index] -= cost

    def _next_namespace(self, index: int) -> _Namespace[H] | None:
        """Whose turn it is at a level; the first of its agents has something waiting. Drops those that have nothing;
        None: none is left.
        """
        level = self._levels[index]
        heap = level.heap
        while heap:
            namespace = heap[0][3] if len(heap) == 1 else level.first()
            agents = namespace.agents
            lanes = agents.heap
            while lanes:
                if len(lanes) > 1:
                    agents.first()
                lane = lanes[0][2]
                if lane._levels[index] and self in lane._queues:
                    return namespace
                agents.drop_first()
            level.drop_first()
        return None

    def _enter(self, lane: Lane[H], index: int) -> None:
        if index not in self.busy:
            insort(self.busy, index)
        self._levels[index].enter(lane)
