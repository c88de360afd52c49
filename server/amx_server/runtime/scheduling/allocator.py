"""Carries out what the allocation policy in force decides: weights of run queues, and decisions, which it remembers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from amx_server.core.errors import invalid
from amx_server.runtime.scheduling.allocation import POLICIES, Decision, Plan, Snapshot, Usage, plan
from amx_server.runtime.scheduling.census import Census, is_idle
from amx_server.runtime.scheduling.pressure import Pressure
from amx_server.telemetry.logs import get_logger

if TYPE_CHECKING:
    from amx_server.runtime.links import LinkSession
    from amx_server.runtime.placement import Placement
    from amx_server.runtime.scheduling.shares import Share

log = get_logger(__name__)

MAX_DECISIONS = 100
"""Decisions that are remembered."""
REPEAT_SECONDS = 30.0
"""A decision that nobody here can carry out, and that stands, is remembered this often."""

Lever = Callable[[Decision], int]
"""Carries one kind of decision out, as far as it can. Returns how much it did; 0: nothing."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision as it was taken. at_ms: since the Unix epoch, UTC. applied: it has been carried out, at least in
    part; otherwise it is advice to whoever runs the workers.
    """

    at_ms: int
    decision: Decision
    applied: bool


class Allocator:
    """Owns the allocation policy of one engine. `tick` is called about fifty times a second."""

    def __init__(
        self,
        census: Census,
        pressure: Pressure,
        policy: str,
        *,
        interval: float,
        now_ms: Callable[[], int],
        levers: Mapping[str, Lever],
    ) -> None:
        """interval: seconds between two looks. levers: by kind of decision; without one it stays advice.

        Raises AmxError POLICY_UNKNOWN.
        """
        self._census = census
        self._pressure = pressure
        self._policy = _known(policy)
        self._interval = interval
        self._now_ms = now_ms
        self._levers = levers
        self._mode = "fair-share"
        self._mode_since = float("-inf")
        self._weighted: dict[tuple[str, str], Share] = {}
        self._advised: dict[tuple[str, str, str], float] = {}
        self._plan = Plan({}, ())
        self.snapshot = Snapshot(0.0)
        """The situation that the last plan was made for."""
        self.decisions: deque[Recorded] = deque(maxlen=MAX_DECISIONS)
        """The latest, newest last."""
        self.counts: Counter[tuple[str, bool]] = Counter()
        """Decisions by kind, and whether they were carried out."""
        self.advice: dict[tuple[str, str], float] = {}
        """(namespace, agents) -> slots that its links should have more, or fewer, as of the last plan."""

    @property
    def policy(self) -> str:
        """The name of the policy in force."""
        return self._policy

    @property
    def mode(self) -> str:
        """How capacity is shared now: the policy, or, of the adaptive one, what it has chosen."""
        return self._mode if self._policy == "adaptive" else self._policy

    def choose(self, policy: str) -> str:
        """Puts `policy` in force from the next look on. Returns the one before. Raises AmxError POLICY_UNKNOWN."""
        before, self._policy = self._policy, _known(policy)
        if before != self._policy:
            log.info("allocation_policy_chosen", policy=self._policy, before=before)
            self._mode_since = float("-inf")
        return before

    def weight(self, usage: Usage) -> float:
        """The weight that the last plan gave an agent of its snapshot."""
        return self._plan.shares[usage.namespace, usage.agent].weight

    def tick(self, now: float, *, whole_round: bool = False) -> None:
        """Looks at some more, and acts when all has been looked at. whole_round: at all at once, for manual clocks."""
        advance = self._census.round if whole_round else self._census.step
        if advance(now, self._interval):
            self._act(now)

    def _act(self, now: float) -> None:
        pressure = self._pressure
        snapshot = self.snapshot = replace(
            self._census.snapshot,
            now=now,
            pressure=pressure.level,
            cpu_bound=pressure.cpu_bound,
            mode=self._mode,
            mode_since=self._mode_since,
        )
        self._plan = plan(self._policy, snapshot)
        self._weigh()
        self.advice = {}
        for decision in self._plan.decisions:
            self._carry_out(decision, now)

    def _weigh(self) -> None:
        weighted, shares = self._weighted, self._census.shares
        for key, allotment in self._plan.shares.items():
            shares[key].weight = allotment.weight
            weighted.pop(key, None)
        for key, share in weighted.items():  # of those that have nothing to do any more
            share.weight = self._census.weight(*key)
        self._weighted = dict(shares)

    def _carry_out(self, decision: Decision, now: float) -> None:
        if decision.kind == "switch_policy":
            self._mode, self._mode_since = decision.policy, now
            self._record(decision, applied=True)
            return
        lever = self._levers.get(decision.kind)
        done = lever(decision) if lever is not None else 0
        if done:
            self._record(replace(decision, amount=done), applied=True)
            return
        if decision.agent and decision.kind != "rebalance":
            sign = 1 if decision.kind == "scale_up" else -1
            self.advice[decision.namespace, decision.agent] = sign * decision.amount
        name = (decision.kind, decision.namespace, decision.agent or decision.provider)
        if now - self._advised.get(name, float("-inf")) >= REPEAT_SECONDS:
            self._advised = {key: at for key, at in self._advised.items() if now - at < REPEAT_SECONDS}
            self._advised[name] = now
            self._record(decision, applied=False)

    def _record(self, decision: Decision, *, applied: bool) -> None:
        self.decisions.append(Recorded(self._now_ms(), decision, applied))
        self.counts[decision.kind, applied] += 1
        log.info(
            "allocation_decided",
            decision=decision.kind,
            namespace=decision.namespace,
            agent=decision.agent,
            amount=decision.amount,
            because=decision.because,
            applied=applied,
        )


def _known(policy: str) -> str:
    """The name of a policy, also as the specification writes it (`priority-based`)."""
    name = policy.removesuffix("-based")
    if name not in POLICIES:
        raise invalid(
            "POLICY_UNKNOWN", f"'{policy}' is no allocation policy; there are: {', '.join(POLICIES)}", policy=policy
        )
    return name


class IdleMoves:
    """The lever for `rebalance`: idle instances leave one link for another, between two messages."""

    def __init__(self, census: Census, placement: Placement, link: Callable[[str, str], LinkSession | None]) -> None:
        """link: (namespace, link id) -> the link if it is open."""
        self._census = census
        self._placement = placement
        self._link = link

    def __call__(self, decision: Decision) -> int:
        source = self._link(decision.namespace, decision.source)
        target = self._link(decision.namespace, decision.target)
        if source is None or target is None or not target.accepting:
            return 0
        moved = 0
        for instance in self._census.movable.get(decision.source, ()):
            if moved >= decision.amount:
                break
            active = instance.agent.active
            awake = instance.agent.instances.get(instance.key) is instance
            if (
                awake
                and instance.link is source
                and active is not None
                and target in active.hosts
                and is_idle(instance)
            ):
                self._placement.bar(instance)
                self._placement.move(instance, target)
                self._placement.unbar(instance)
                moved += 1
        return moved
