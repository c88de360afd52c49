"""How capacity is shared, and when there is too little or too much of it: functions of a snapshot, with no effects.

A policy gives every agent that works or waits a share; run queues take turns by its weight. Scaling and rebalancing
are decisions about pools, which are the links that host the same agents. Every decision carries its numbers. Who
measures is in `census`, who carries decisions out in `allocator`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, fsum

from amx_server.runtime.scheduling.pressure import Level

# The numbers of the specification, "Resource Allocation Strategies".
RESERVED = 0.8
"""Part of a fair share that is guaranteed; the rest goes to whoever can use it."""
PRIORITY_WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.1)
"""Weight of work by its priority, critical to background."""
SCALE_UP_ABOVE = 0.8
"""Utilisation of a pool above which it is too small, if work waits for it."""
SCALE_DOWN_BELOW = 0.3
"""Utilisation below which it is too large, if that lasts for CALM_SECONDS."""

# Ours: the specification leaves them open.
CALM_SECONDS = 30.0
AIM = 0.6
"""Utilisation that scaling aims at; under it the adaptive policy shares fairly."""
EFFICIENCY_BOUNDS = (0.5, 2.0)
"""How far the performance policy goes from equal shares: nobody starves for being slow."""
IMBALANCE = 1.5
"""The busiest link of a pool may be this many times as busy as its links are on average."""
MOVED_PART = 0.01
"""Part of a pool's instances that one decision to rebalance moves, at most."""
URGENT_SECONDS = 0.25
"""Wait of urgent work at which the adaptive policy goes by priority."""
SWITCH_SECONDS = 10.0
"""Time between two switches of the adaptive policy, at least."""

ShareKey = tuple[str, str]
"""Namespace and agent; a namespace as a whole has the empty agent."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One agent that works or waits.

    pool: position of its pool in the snapshot. weight: as configured. ready: instances that wait for a slot.
    running: its handlers that run. urgency: of those that run or wait, how many have each priority, critical first.
    urgent_wait: seconds that the longest waiting of critical or high priority has waited; 0: none does.
    used: part of the pool's slots that it had lately, 0 to 1.
    efficiency: handlers it ended for each second that it held a slot, smoothed; 0: not known.
    """

    namespace: str
    agent: str
    pool: int
    weight: float = 1.0
    ready: int = 0
    running: int = 0
    urgency: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    urgent_wait: float = 0.0
    used: float = 0.0
    efficiency: float = 0.0


@dataclass(frozen=True, slots=True)
class LinkUse:
    """One link: how many slots it offers, how many are taken, and how many idle instances are placed on it."""

    link_id: str
    slots: int
    in_flight: int
    idle_instances: int = 0

    @property
    def utilisation(self) -> float:
        """Part of its slots that is taken, 0 to 1."""
        return min(1.0, self.in_flight / self.slots) if self.slots else 1.0


@dataclass(frozen=True, slots=True)
class Pool:
    """Links that host the same agents of one namespace.

    agents: some by name, in order; more: how many others. instances: of all of them, awake. ready: of those, the ones
    that wait for a slot. utilisation: part of the slots taken, smoothed. calm: seconds for which it has been below
    SCALE_DOWN_BELOW.
    """

    namespace: str
    agents: tuple[str, ...]
    links: tuple[LinkUse, ...]
    utilisation: float = 0.0
    ready: int = 0
    instances: int = 0
    calm: float = 0.0
    more: int = 0

    @property
    def names(self) -> str:
        """Whom it is for, for people."""
        shown = ", ".join(self.agents)
        return f"{shown} and {self.more} more" if self.more else shown

    @property
    def slots(self) -> int:
        """Slots of all its links."""
        return sum(link.slots for link in self.links)

    @property
    def in_flight(self) -> int:
        """Slots taken."""
        return sum(link.in_flight for link in self.links)


@dataclass(frozen=True, slots=True)
class ProviderUse:
    """One provider of the I/O manager: operations under way and waiting, how many may be under way now, and at most."""

    name: str
    in_flight: int
    queued: int
    limit: float
    maximum: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the engine does at one moment, as far as sharing its capacity goes.

    now: monotonic seconds. pressure: the level in force. cpu_bound: the event loop is what is scarce.
    weights: configured ones of namespaces; 1 where there is none. mode, mode_since: what the adaptive policy does now.
    """

    now: float
    usages: tuple[Usage, ...] = ()
    pools: tuple[Pool, ...] = ()
    providers: tuple[ProviderUse, ...] = ()
    pressure: Level = Level.NORMAL
    cpu_bound: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    mode: str = "fair-share"
    mode_since: float = float("-inf")

    @property
    def utilisation(self) -> float:
        """That of the fullest pool."""
        return max((pool.utilisation for pool in self.pools), default=0.0)

    @property
    def urgent_wait(self) -> float:
        """The longest wait of urgent work, in seconds."""
        return max((usage.urgent_wait for usage in self.usages), default=0.0)


@dataclass(frozen=True, slots=True)
class Allotment:
    """weight: against the others in its namespace, or, of a namespace, against other namespaces; above 0.
    guaranteed: slots that it has for certain while everybody wants some.
    """

    weight: float
    guaranteed: float


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing to do. kind: `scale_up`, `scale_down`, `rebalance` or `switch_policy`.

    amount: slots, operations, instances, or, of a switch, utilisation. because: why, with its numbers. source, target:
    ids of links, to rebalance between. provider: to scale. policy: to switch to.
    """

    kind: str
    amount: float
    because: str
    namespace: str = ""
    agent: str = ""
    source: str = ""
    target: str = ""
    provider: str = ""
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Shares of all agents of a snapshot and their namespaces, and what else is to be done."""

    shares: Mapping[ShareKey, Allotment]
    decisions: Sequence[Decision]


# --- policies --------------------------------------------------------------------------------------------------------


def fair_share(snapshot: Snapshot) -> dict[ShareKey, float]:
    """Everybody the same, or as configured."""
    return {(usage.namespace, usage.agent): usage.weight for usage in snapshot.usages}


def by_priority(snapshot: Snapshot) -> dict[ShareKey, float]:
    """By what waits and runs: the mean of PRIORITY_WEIGHTS over it. Namespaces keep their weights: a tenant that
    calls everything critical takes from itself alone.
    """
    weights = {}
    for usage in snapshot.usages:
        count = sum(usage.urgency)
        total = sum(n * weight for n, weight in zip(usage.urgency, PRIORITY_WEIGHTS, strict=True))
        weights[usage.namespace, usage.agent] = usage.weight * (total / count if count else PRIORITY_WEIGHTS[2])
    return weights


def by_performance(snapshot: Snapshot) -> dict[ShareKey, float]:
    """By efficiency against the mean of the agents with which it shares a pool, within EFFICIENCY_BOUNDS."""
    known: dict[int, list[float]] = defaultdict(list)
    for usage in snapshot.usages:
        if usage.efficiency > 0:
            known[usage.pool].append(usage.efficiency)
    mean = {pool: fsum(values) / len(values) for pool, values in known.items()}
    low, high = EFFICIENCY_BOUNDS
    return {
        (usage.namespace, usage.agent): usage.weight
        * (min(high, max(low, usage.efficiency / mean[usage.pool])) if usage.efficiency > 0 else 1.0)
        for usage in snapshot.usages
    }


def adaptive(snapshot: Snapshot) -> dict[ShareKey, float]:
    """As the mode that `switch` has chosen last."""
    return MODES[snapshot.mode](snapshot)


MODES: Mapping[str, Callable[[Snapshot], dict[ShareKey, float]]] = {
    "fair-share": fair_share,
    "priority": by_priority,
    "performance": by_performance,
}
POLICIES: Mapping[str, Callable[[Snapshot], dict[ShareKey, float]]] = {**MODES, "adaptive": adaptive}


def plan(policy: str, snapshot: Snapshot) -> Plan:
    """What to do in the situation `snapshot` under `policy`, one of POLICIES."""
    weights = POLICIES[policy](snapshot)
    found = [
        switch(snapshot) if policy == "adaptive" else None,
        *(scale_provider(provider, snapshot.pressure) for provider in snapshot.providers),
        *(decide(pool) for pool in snapshot.pools for decide in (scale, rebalance)),
    ]
    return Plan(_shares(weights, snapshot), [decision for decision in found if decision is not None])


def _shares(weights: Mapping[ShareKey, float], snapshot: Snapshot) -> dict[ShareKey, Allotment]:
    """Weights with what they guarantee: a namespace's part of each pool, an agent's part of its namespace's."""
    members: dict[int, dict[str, list[Usage]]] = defaultdict(lambda: defaultdict(list))
    for usage in snapshot.usages:
        members[usage.pool][usage.namespace].append(usage)
    shares: dict[ShareKey, Allotment] = {}
    promised: dict[str, list[float]] = defaultdict(list)
    for pool, namespaces in members.items():
        slots = RESERVED * snapshot.pools[pool].slots
        everyone = fsum(snapshot.weights.get(name, 1.0) for name in namespaces)
        for name, usages in namespaces.items():
            part = slots * snapshot.weights.get(name, 1.0) / everyone
            promised[name].append(part)
            together = fsum(weights[name, usage.agent] for usage in usages)
            for usage in usages:
                weight = weights[name, usage.agent]
                shares[name, usage.agent] = Allotment(weight, part * weight / together)
    for name, parts in promised.items():
        shares[name, ""] = Allotment(snapshot.weights.get(name, 1.0), fsum(parts))
    return shares


# --- decisions -------------------------------------------------------------------------------------------------------


def scale(pool: Pool) -> Decision | None:
    """Whether the pool needs more slots, or fewer would do. None: it is as it should be."""
    slots, used = pool.slots, pool.utilisation
    wanted = ceil((pool.in_flight + pool.ready) / AIM)
    if used > SCALE_UP_ABOVE and pool.ready and wanted > slots:
        return Decision(
            "scale_up",
            wanted - slots,
            f"{used:.0%} of {slots} slots are taken, above {SCALE_UP_ABOVE:.0%}, and {pool.ready} instances wait;"
            f" {wanted} slots would be {AIM:.0%} taken",
            pool.namespace,
            pool.names,
        )
    if used < SCALE_DOWN_BELOW and pool.calm >= CALM_SECONDS:
        wanted = max(1, ceil(pool.in_flight / AIM))
        spare = _spare(pool.links, wanted)
        if spare > 0:
            return Decision(
                "scale_down",
                spare,
                f"{used:.0%} of {slots} slots are taken, below {SCALE_DOWN_BELOW:.0%} for {pool.calm:.0f} s;"
                f" {wanted} slots would be {AIM:.0%} taken",
                pool.namespace,
                pool.names,
            )
    return None


def _spare(links: Iterable[LinkUse], wanted: int) -> int:
    """Slots of the links, the smallest first, that can end so that others with `wanted` slots are left."""
    sizes = sorted(link.slots for link in links)
    left, spare = sum(sizes), 0
    for size in sizes[:-1]:  # one stays in any case
        if left - size < wanted:
            break
        left -= size
        spare += size
    return spare


def scale_provider(provider: ProviderUse, pressure: Level) -> Decision | None:
    """Whether a provider could be asked for more at a time than its bound allows. None: no, or it would not help.

    Where the provider itself is the limit, its limit is below the bound. Under pressure the engine could not do more.
    """
    most, used = provider.maximum, provider.in_flight / provider.maximum
    wanted = ceil((provider.in_flight + provider.queued) / AIM)
    if pressure > Level.NORMAL or used <= SCALE_UP_ABOVE or not provider.queued or provider.limit < most:
        return None
    return Decision(
        "scale_up",
        wanted - most,
        f"provider {provider.name}: {provider.in_flight} operations of {most} at most are under way, above"
        f" {SCALE_UP_ABOVE:.0%}, and {provider.queued} wait; {wanted} would be {AIM:.0%} taken, if it can take so many",
        provider=provider.name,
    )


def rebalance(pool: Pool) -> Decision | None:
    """Which idle instances should move from the busiest link of a pool to the least busy one; None: none."""
    if len(pool.links) < 2:
        return None
    busiest = max(pool.links, key=lambda link: (link.utilisation, link.link_id))
    idlest = min(pool.links, key=lambda link: (link.utilisation, link.link_id))
    mean = fsum(link.utilisation for link in pool.links) / len(pool.links)
    most = busiest.utilisation
    if most < AIM or most < IMBALANCE * mean or not busiest.idle_instances:
        return None
    excess = ceil(busiest.idle_instances * (most - mean) / most)
    amount = min(excess, max(1, int(pool.instances * MOVED_PART)))
    return Decision(
        "rebalance",
        amount,
        f"link {busiest.link_id} has {most:.0%} of its slots taken, {len(pool.links)} links have {mean:.0%} on average;"
        f" {amount} of its {busiest.idle_instances} idle instances move to link {idlest.link_id}"
        f" ({idlest.utilisation:.0%})",
        pool.namespace,
        pool.names,
        busiest.link_id,
        idlest.link_id,
    )


def switch(snapshot: Snapshot) -> Decision | None:
    """What the adaptive policy should do from now on; None: what it does.

    By priority while urgent work waits too long; by performance while the event loop is what is scarce; fairly when
    there is room for all; otherwise as before.
    """
    waited, used = snapshot.urgent_wait, snapshot.utilisation
    if waited > URGENT_SECONDS:
        mode = "priority"
        because = f"urgent work waits {waited * 1000:.0f} ms for a slot, above {URGENT_SECONDS * 1000:.0f} ms"
    elif snapshot.cpu_bound:
        mode = "performance"
        because = f"the event loop is what is scarce, and {used:.0%} of the fullest pool are taken"
    elif used < AIM:
        mode = "fair-share"
        because = f"{used:.0%} of the fullest pool are taken, below {AIM:.0%}"
    else:
        return None
    if mode == snapshot.mode or snapshot.now - snapshot.mode_since < SWITCH_SECONDS:
        return None
    return Decision("switch_policy", used, f"{because}: {mode} instead of {snapshot.mode}", policy=mode)
