"""What agents and links do, looked at a few at a time so that the loop is never held up; a round gives a Snapshot."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from heapq import nlargest
from typing import TYPE_CHECKING, TypeVar

from amx_server.runtime.scheduling.allocation import (
    AIM,
    IMBALANCE,
    SCALE_DOWN_BELOW,
    LinkUse,
    Pool,
    ProviderUse,
    ShareKey,
    Snapshot,
    Usage,
)
from amx_server.runtime.scheduling.shares import Share

if TYPE_CHECKING:
    from amx_server.inference.io.accounting import IoStats, ProviderStats
    from amx_server.runtime.instances import Agent, Instance
    from amx_server.runtime.links import LinkSession
    from amx_server.runtime.namespaces import Namespace

_PER_STEP = 500  # agents, handlers that run, or instances: about half a millisecond
_BUSY_COST = 10  # an agent that has something to do takes as long as so many others
_MAX_USAGES = 500  # agents in one snapshot, those with most to do
_MAX_POOLS = 1_000
_MAX_MOVABLE = 1_000  # idle instances remembered per link
_NAMES = 3  # agents of a pool that are named
_URGENT = 2  # least urgent priority that counts as urgent: high
_SMOOTHING = 0.3  # weight of the newest value in an average

T = TypeVar("T")
PoolKey = tuple[str, tuple[str, ...]]
"""Namespace and link ids, in order."""


class _PoolRecord:
    """What is known of one pool over rounds, and what this round has found of it so far."""

    __slots__ = (
        "agents",
        "calm_since",
        "hosts",
        "idle",
        "index",
        "instances",
        "movable",
        "names",
        "namespace",
        "ready",
        "size",
        "utilisation",
    )

    def __init__(self) -> None:
        self.utilisation = -1.0  # not known yet
        self.calm_since: float | None = None
        self.begin("", ())

    def begin(self, namespace: str, hosts: tuple[LinkSession, ...]) -> None:
        self.namespace = namespace
        self.hosts = hosts
        self.index = -1  # in the snapshot; -1: nothing is to do there so far
        self.agents: list[Agent] = []  # that are awake
        self.names: list[str] = []  # the first few
        self.size = 0  # agents in all
        self.ready = 0
        self.instances = 0
        self.idle: dict[LinkSession, int] = {}
        self.movable: dict[LinkSession, list[Instance]] = {}

    def name(self, agent: str) -> None:
        """One more agent is hosted by the pool."""
        self.size += 1
        if len(self.names) < _NAMES or agent < self.names[-1]:
            insort(self.names, agent)
            del self.names[_NAMES:]


class _Record:
    """What is known of one agent over rounds."""

    __slots__ = ("efficiency", "processed", "seconds")

    def __init__(self) -> None:
        self.processed = 0
        self.seconds = 0.0
        self.efficiency = 0.0


class Census:
    """Goes round over links and agents. `step` goes on a little; when it returns True, `snapshot` is the newest.

    A round takes as many steps as there is to look at: with a hundred thousand agents some two hundred.
    """

    def __init__(
        self,
        namespaces: Callable[[], Iterable[Namespace]],
        links: Callable[[], Iterable[LinkSession]],
        weights: Mapping[str, float],
        providers: Callable[[], IoStats],
    ) -> None:
        """weights: configured ones, by `namespace` or `namespace/agent`. providers: the I/O manager's numbers."""
        self._providers = providers
        self._namespaces = namespaces
        self._links = links
        self._weights = weights
        self._namespace_weights = {name: weight for name, weight in weights.items() if "/" not in name}
        self._walk: Iterator[None] | None = None
        self._began_at = float("-inf")
        self._elapsed = 0.0
        self._records: dict[Agent, _Record] = {}
        self._pools: dict[PoolKey, _PoolRecord] = {}
        self.snapshot = Snapshot(0.0)
        """What the last round found. Pressure and mode are for the reader to fill in."""
        self.shares: dict[ShareKey, Share] = {}
        """Of the agents and namespaces in the snapshot."""
        self.movable: dict[str, list[Instance]] = {}
        """Link id -> instances that were idle there, of lopsided pools."""

    def weight(self, namespace: str, agent: str = "") -> float:
        """The configured weight of a namespace or an agent; 1 where none is."""
        return self._weights.get(f"{namespace}/{agent}" if agent else namespace, 1.0)

    def step(self, now: float, interval: float) -> bool:
        """Looks at some more. Rounds begin at least `interval` seconds apart. Returns whether one has ended."""
        if self._walk is None:
            if now - self._began_at < interval:
                return False
            self._elapsed = now - self._began_at
            self._began_at = now
            self._walk = self._round(now)
        for _ in self._walk:
            return False
        self._walk = None
        return True

    def round(self, now: float, interval: float) -> bool:
        """A whole round at once, for manual clocks."""
        if self._walk is None and now - self._began_at < interval:
            return False
        while not self.step(now, 0.0):
            pass
        return True

    def _round(self, now: float) -> Iterator[None]:
        running: dict[Agent, list[int]] = defaultdict(lambda: [0] * 5)  # by priority
        for link in list(self._links()):
            for some in _chunks(list(link.running.values())):
                for inv in some:
                    running[inv.instance.agent][inv.priority - 1] += 1
                yield
        usages: list[tuple[Usage, Agent]] = []
        records, self._records = self._records, {}
        pools, self._pools = self._pools, {}
        seen: list[_PoolRecord] = []  # those that agents with something to do are in
        looked = 0
        for agent in [agent for namespace in self._namespaces() for agent in namespace.agents.values()]:
            pool = self._enter_pool(agent, pools)
            if pool is not None and (agent.instances or agent in running):
                if pool.index < 0:
                    pool.index = len(seen)
                    seen.append(pool)
                usage = self._usage(agent, pool, running.get(agent), records.get(agent), now)
                if usage.ready or usage.running or usage.used:
                    usages.append((usage, agent))
                looked += _BUSY_COST
            elif agent in records:
                self._records[agent] = records[agent]
            looked += 1
            if looked >= _PER_STEP:
                looked = 0
                yield
                if len(usages) > 2 * _MAX_USAGES:
                    usages = nlargest(_MAX_USAGES, usages, key=_to_do)
        yield
        for pool in self._pools.values():
            if _lopsided(pool.hosts):
                yield from _count_idle(pool)
        rest = [pool for pool in self._pools.values() if pool.index < 0 and len(pool.hosts) > 1]
        described: list[Pool] = []
        for some_pools in _chunks((seen + rest)[: max(len(seen), _MAX_POOLS)]):
            described += [_described(pool, now) for pool in some_pools]
            yield
        usages = nlargest(_MAX_USAGES, usages, key=_to_do)
        self.movable = {link.link_id: idle for pool in seen for link, idle in pool.movable.items()}
        self.shares = {(usage.namespace, usage.agent): agent.share for usage, agent in usages}
        self.shares.update({(usage.namespace, ""): agent.namespace.share for usage, agent in usages})
        self.snapshot = Snapshot(
            now,
            tuple(usage for usage, _ in usages),
            tuple(described),
            tuple(_provider(name, stats) for name, stats in self._providers().providers.items()),
            weights=self._namespace_weights,
        )
        yield  # whoever acts on it does so in a step of its own

    def _enter_pool(self, agent: Agent, before: Mapping[PoolKey, _PoolRecord]) -> _PoolRecord | None:
        hosts = agent.active.hosts if agent.active is not None else ()
        if not hosts:
            return None
        key: PoolKey = (agent.namespace.name, tuple(sorted([host.link_id for host in hosts])))
        pool = self._pools.get(key)
        if pool is None:
            pool = before.get(key) or _PoolRecord()
            pool.begin(agent.namespace.name, tuple(hosts))
            self._pools[key] = pool
        pool.name(agent.name)
        if agent.instances:
            pool.agents.append(agent)
        pool.ready += len(agent.ready)
        pool.instances += len(agent.instances)
        return pool

    def _usage(
        self, agent: Agent, pool: _PoolRecord, running: list[int] | None, before: _Record | None, now: float
    ) -> Usage:
        processed = sum(handler.stats.processed for handler in agent.handlers.values())
        seconds = sum(handler.stats.seconds for handler in agent.handlers.values())
        record = self._records[agent] = before or _Record()
        ended, busy = processed - record.processed, seconds - record.seconds
        record.processed, record.seconds = processed, seconds
        if ended and busy > 0:
            efficiency = ended / busy
            known = record.efficiency or efficiency
            record.efficiency = known + _SMOOTHING * (efficiency - known)
        slots = sum(host.credit for host in pool.hosts)
        # What ended is known exactly; handlers that take longer than a round are seen while they run.
        used = busy / self._elapsed if ended and busy < ended * self._elapsed else float(sum(running or ()))
        waiting = agent.ready.counts()
        urgent = agent.ready.oldest(_URGENT)
        counts = running or [0] * 5
        critical, high, normal, low, background = (a + b for a, b in zip(waiting, counts, strict=True))
        return Usage(
            agent.namespace.name,
            agent.name,
            pool.index,
            self.weight(agent.namespace.name, agent.name),
            len(agent.ready),
            sum(counts),
            (critical, high, normal, low, background),
            max(0.0, now - urgent) if urgent is not None else 0.0,
            min(1.0, used / slots) if slots else 0.0,
            record.efficiency,
        )


def _provider(name: str, stats: ProviderStats) -> ProviderUse:
    return ProviderUse(name, stats.in_flight, stats.queued, stats.concurrency_limit, stats.concurrency_maximum)


def _to_do(entry: tuple[Usage, Agent]) -> tuple[int, int, float, str, str]:
    usage = entry[0]
    return usage.ready, usage.running, usage.used, usage.namespace, usage.agent


def _described(pool: _PoolRecord, now: float) -> Pool:
    links = tuple(
        LinkUse(host.link_id, max(0, host.credit), host.in_flight, pool.idle.get(host, 0)) for host in pool.hosts
    )
    names = tuple(pool.names)
    described = Pool(pool.namespace, names, links, 0.0, pool.ready, pool.instances, more=pool.size - len(names))
    taken = min(1.0, described.in_flight / described.slots) if described.slots else 1.0
    known = pool.utilisation if pool.utilisation >= 0 else taken
    pool.utilisation = known + _SMOOTHING * (taken - known)
    if pool.utilisation >= SCALE_DOWN_BELOW:
        pool.calm_since = None
    elif pool.calm_since is None:
        pool.calm_since = now
    calm = now - pool.calm_since if pool.calm_since is not None else 0.0
    return replace(described, utilisation=pool.utilisation, calm=calm)


def _lopsided(hosts: tuple[LinkSession, ...]) -> bool:
    """Whether it is worth counting who could move from the busiest link of a pool."""
    if len(hosts) < 2:
        return False
    shares = [host.in_flight / host.credit if host.credit > 0 else 1.0 for host in hosts]
    return max(shares) >= max(AIM, IMBALANCE * sum(shares) / len(shares) - 1e-9)


def _count_idle(pool: _PoolRecord) -> Iterator[None]:
    for agent in pool.agents:
        for some in _chunks(list(agent.instances.values())):
            for instance in some:
                link = instance.link
                if link is not None and is_idle(instance):
                    pool.idle[link] = pool.idle.get(link, 0) + 1
                    movable = pool.movable.setdefault(link, [])
                    if len(movable) < _MAX_MOVABLE:
                        movable.append(instance)
            yield


def is_idle(instance: Instance) -> bool:
    """Whether nothing of the instance runs or waits, so that it can move at once."""
    return not (
        instance.busy or instance.loading or instance.storing or instance.operations or instance.mailbox is not None
    )


def _chunks(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), _PER_STEP):
        yield items[start : start + _PER_STEP]
