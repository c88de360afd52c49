"""Supervision: tells supervisors how their children end, and carries out what they decide, a bounded number of restarts
a second.
"""

from __future__ import annotations

import heapq
import json
from collections import OrderedDict
from functools import partial
from itertools import count

from amx.v1 import common_pb2, engine_pb2, message_pb2
from amx_server.core.clock import Clock
from amx_server.core.config import SupervisionConfig
from amx_server.core.errors import AmxError
from amx_server.inference.io.rates import RateBucket
from amx_server.runtime.acceptance import Acceptance
from amx_server.runtime.dispatch import DEFAULT_KEY, VOLATILE
from amx_server.runtime.effects import Unheard
from amx_server.runtime.events import Events
from amx_server.runtime.instances import Agent, Instance
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.scheduling.lifecycle import Lifecycle
from amx_server.runtime.scheduling.supervisor import (
    EVERY,
    Child,
    Intensity,
    Supervisor,
    SupervisorSpec,
)
from amx_server.security.identity import Identity
from amx_server.telemetry.logs import get_logger
from amx_server.telemetry.metrics import EngineCounters

log = get_logger(__name__)

TOPIC = "amx.supervision"
GAVE_UP = "SUPERVISOR_GAVE_UP"
MAX_RECORDS = 100_000  # children remembered of one supervisor; the longest quiet are forgotten first
MAX_LISTED = 1_000  # children in one listing


class _Record:
    """One child that ended at least once."""

    __slots__ = ("agent", "due", "given_up", "intensity", "key", "last_reason", "restarts", "stopped")

    def __init__(self, agent: str, key: str) -> None:
        self.agent = agent
        self.key = key
        self.intensity = Intensity()  # used if its child stands for many
        self.restarts = 0
        self.last_reason = ""
        self.due = 0.0  # when its restart is planned for; 0: it is not
        self.stopped: Instance | None = None  # what runs nothing until then
        self.given_up = False


class _Group:
    """One supervisor with what happened to its children."""

    __slots__ = ("agent", "escalations", "records", "restarts", "spec", "supervisor")

    def __init__(self, agent: Agent, spec: SupervisorSpec) -> None:
        self.agent = agent
        self.spec = spec
        self.supervisor = Supervisor(spec)
        self.records: OrderedDict[tuple[str, str], _Record] = OrderedDict()  # the latest change last
        self.restarts = 0
        self.escalations = 0

    def record(self, agent: str, key: str) -> _Record:
        """Of one child; made if there is none. The longest quiet one is forgotten for it."""
        found = self.records.get((agent, key))
        if found is None:
            if len(self.records) >= MAX_RECORDS:
                quiet = next((name for name, record in self.records.items() if not record.due), None)
                if quiet is not None:
                    del self.records[quiet]
            found = self.records[(agent, key)] = _Record(agent, key)
        else:
            self.records.move_to_end((agent, key))
        return found


class _Target:
    """One instance that a decision is about, as a child of one supervisor. below: the supervisor that it is itself."""

    __slots__ = ("below", "child", "group", "key")

    def __init__(self, group: _Group, child: Child, key: str, below: _Group | None) -> None:
        self.group = group
        self.child = child
        self.key = key
        self.below = below


class Supervision:
    """Every supervisor of an engine. Runs on the event loop's thread; a failure costs two look-ups where there is none.

    A child has ended when a message to it failed for good through its own fault (what counts against a circuit
    breaker), its handler did not end in its time, the links that ran it were lost too often, or it was killed.
    """

    def __init__(
        self,
        config: SupervisionConfig,
        clock: Clock,
        lifecycle: Lifecycle,
        acceptance: Acceptance,
        events: Events,
        counters: EngineCounters,
    ) -> None:
        self._now = clock.monotonic
        self._lifecycle = lifecycle
        self._acceptance = acceptance
        self._events = events
        self._counters = counters
        self._bucket = RateBucket(config.restarts_per_second)
        self._groups: dict[tuple[str, str], _Group] = {}  # (namespace, agent that supervises)
        self._children: dict[tuple[str, str], dict[str, tuple[_Group, Child]]] = {}  # (namespace, agent) -> key or `*`
        self._due: list[tuple[float, int, _Target]] = []  # restarts; void if the record says another time
        self._order = count()
        self._identity = Identity("engine", "", ("admin",), frozenset({"*"}))

    # --- who supervises whom -----------------------------------------------------------------------------------------

    def declare(self, agent: Agent) -> None:
        """Takes over what the active version of `agent` declares. What happened so far is kept if that is the same."""
        name = (agent.namespace.name, agent.name)
        before = self._groups.get(name)
        definition = agent.active.spec.definition if agent.active is not None else None
        if definition is None or not definition.HasField("supervisor"):
            if before is None:
                return
            del self._groups[name]
        else:
            spec = SupervisorSpec.compile(agent.name, definition.supervisor)
            if before is not None and before.spec == spec:
                return
            self._groups[name] = _Group(agent, spec)
        if before is None:
            self._claim(self._groups[name])
            return
        for known in [known for known in self._children if known[0] == agent.namespace.name]:
            del self._children[known]
        for group in self._of(agent.namespace):
            self._claim(group)

    def _claim(self, group: _Group) -> None:
        """Notes whom a supervisor has. The first in order of name has a child that two declare."""
        for child in group.spec.children:
            keys = self._children.setdefault((group.agent.namespace.name, child.agent), {})
            holder, _ = keys.setdefault(child.key, (group, child))
            if holder is group:
                continue
            first, second = sorted((holder, group), key=lambda each: each.spec.agent)
            if first is group:
                keys[child.key] = (group, child)
            log.warning(
                "child_has_two_supervisors",
                agent=child.agent,
                key=child.key,
                supervisor=first.spec.agent,
                ignored=second.spec.agent,
            )

    def _of(self, namespace: Namespace) -> list[_Group]:
        return [self._groups[name] for name in sorted(self._groups) if name[0] == namespace.name]

    def _find(self, namespace: str, agent: str, key: str) -> tuple[_Group, Child] | None:
        keys = self._children.get((namespace, agent))
        return None if keys is None else keys.get(key) or keys.get(EVERY)

    def supervisor_of(self, agent: Agent, key: str) -> str:
        """Name of the agent that supervises an instance; empty: none."""
        found = self._find(agent.namespace.name, agent.name, key)
        return found[0].spec.agent if found is not None else ""

    def covers(self, instance: Instance) -> bool:
        """Whether the instance has a supervisor."""
        return bool(self._children) and bool(self.supervisor_of(instance.agent, instance.key))

    def describe(self, namespace: Namespace) -> list[engine_pb2.SupervisorInfo]:
        """The supervisors of a namespace in order of name, each with the children that changed last, at most 1,000."""
        return [_describe(group) for group in self._of(namespace)]

    # --- what happens to children ------------------------------------------------------------------------------------

    def failed(self, instance: Instance, failure: common_pb2.Failure) -> None:
        """A message failed for good at the instance, through its own fault."""
        if self._children:
            self._ended(instance.agent, instance.key, failure.reason or "UNKNOWN", killed=False)

    def killed(self, instance: Instance) -> None:
        """Somebody killed the instance."""
        if self._children:
            self._ended(instance.agent, instance.key, "INSTANCE_KILLED", killed=True)

    def resumed(self, agent: Agent, key: str) -> None:
        """Somebody has resumed a suspended instance: if its supervisor had given up on it, it takes it up again."""
        found = self._find(agent.namespace.name, agent.name, key)
        if found is None:
            return
        group, child = found
        record = group.records.get((agent.name, key))
        if record is not None:
            record.given_up = False
            record.intensity = Intensity()
        if child.key != EVERY:
            group.supervisor.forgive()

    def _ended(self, agent: Agent, key: str, reason: str, *, killed: bool) -> None:
        found = self._find(agent.namespace.name, agent.name, key)
        if found is None:
            return
        group, child = found
        record = group.record(agent.name, key)
        if record.due or record.given_up:
            return
        own = record.intensity if child.key == EVERY else None
        decision = group.supervisor.ended(child, self._now(), killed=killed, own=own)
        targets = self._targets(group, decision.children, key if own is not None else "", {group})
        record.last_reason = reason
        if decision.gave_up:
            self._give_up(group, _Target(group, child, key, None), targets, reason)
        elif targets:
            self._restart(targets, decision.delay, f"{agent.name}/{key} ended with {reason}")

    def _targets(self, group: _Group, children: tuple[Child, ...], key: str, seen: set[_Group]) -> list[_Target]:
        """The instances of this engine that these children are now, each followed by those that it supervises in turn.
        key: the only one meant of a child that stands for many; empty: all that are awake.
        """
        namespace = group.agent.namespace
        found = []
        for child in children:
            agent = namespace.agents.get(child.agent)
            if agent is None:
                continue  # no process has ever hosted it
            keys = [child.key] if child.key != EVERY else [key] if key else list(agent.instances)
            keys = [each for each in keys if self._has(group, child, each)]
            below = self._groups.get((namespace.name, child.agent))
            if below in seen:
                below = None  # they supervise each other
            found += [_Target(group, child, each, below) for each in keys]
            if below is not None:
                seen.add(below)
                found += self._targets(below, below.spec.children, "", seen)
        return found

    def _has(self, group: _Group, child: Child, key: str) -> bool:
        """Whether the instance is this supervisor's by this declaration, and this engine's: of several behind one
        address, each supervises the instances that it owns.
        """
        namespace = group.agent.namespace.name
        return self._find(namespace, child.agent, key) == (group, child) and self._acceptance.owns(
            namespace, child.agent, key
        )

    # --- restarts ----------------------------------------------------------------------------------------------------

    def _restart(self, targets: list[_Target], delay: float, reason: str) -> None:
        """Stops the targets now, last first, and plans their starts, first first."""
        due = self._now() + delay
        for target in reversed(targets):
            record = target.group.record(target.child.agent, target.key)
            if not record.due:  # else it is stopped already, for its own or another's sake
                record.stopped = self._agent(target).instances.get(target.key)
                if record.stopped is not None:
                    self._lifecycle.stop(record.stopped, reason)
            record.due = max(record.due, due)
        for target in targets:
            due = target.group.record(target.child.agent, target.key).due
            heapq.heappush(self._due, (due, next(self._order), target))

    def tick(self, now: float) -> None:
        """Begins the restarts that are due, as fast as `supervision.restarts_per_second` allows."""
        planned, bucket = self._due, self._bucket
        while planned and planned[0][0] <= now and not bucket.wait(now):
            due, _, target = heapq.heappop(planned)
            record = target.group.record(target.child.agent, target.key)
            if record.due == due:
                bucket.take(now)
                self._start(target, record)

    def _start(self, target: _Target, record: _Record) -> None:
        group, child, key = target.group, target.child, target.key
        stopped, record.stopped, record.due = record.stopped, None, 0.0
        record.restarts += 1
        group.restarts += 1
        self._counters.instance_restarts += 1
        log.debug("instance_restarted", agent=child.agent, key=key, supervisor=group.spec.agent)
        agent = self._agent(target)
        if target.below is not None:
            target.below.supervisor.forgive()
        if record.given_up:
            self._lifecycle.resume_later(agent, key)
        if child.on_restart:
            self._tell(agent, key, child.on_restart)
        if stopped is not None:
            self._lifecycle.begin_anew(stopped)

    @staticmethod
    def _agent(target: _Target) -> Agent:
        return target.group.agent.namespace.agents[target.child.agent]

    def _tell(self, agent: Agent, key: str, handler: str) -> None:
        """Sends the message after a restart. It goes before what waits."""
        message = message_pb2.Message(agent=agent.name, key=key, handler=handler, durability=VOLATILE)
        message.priority = common_pb2.PRIORITY_CRITICAL
        try:
            self._acceptance.accept(agent.namespace, self._identity, "engine", message, Unheard(message), one_way=True)
        except AmxError as error:
            log.warning("restart_message_refused", agent=agent.name, key=key, handler=handler, reason=error.reason)

    # --- giving up ---------------------------------------------------------------------------------------------------

    def _give_up(self, group: _Group, ended: _Target, targets: list[_Target], reason: str) -> None:
        """Passes a failure that was one too many on to whoever supervises the supervisor; without one, keeps the
        targets from running until somebody resumes them.
        """
        group.escalations += 1
        self._counters.supervisors_gave_up += 1
        address = f"{ended.child.agent}/{ended.key}"
        log.warning(
            "supervisor_gave_up",
            supervisor=group.spec.agent,
            agent=ended.child.agent,
            key=ended.key,
            reason=reason,
            restarts=group.record(ended.child.agent, ended.key).restarts,
        )
        self._publish(group, address, reason)
        if ended.child.key != EVERY and self._escalate(group):
            return
        why = f"{GAVE_UP}: '{group.spec.agent}' restarts it no more; {address} ended with {reason}"
        for target in targets:
            record = target.group.record(target.child.agent, target.key)
            record.given_up = True
            done = partial(self._suspended, target.group, record)
            self._lifecycle.suspend_later(self._agent(target), target.key, why, done)

    def _escalate(self, group: _Group) -> bool:
        """Tells the supervisor of the supervisor. Returns whether there is one that deals with it."""
        agent = group.agent
        keys = self._children.get((agent.namespace.name, agent.name))
        if keys is None:
            return False
        key = DEFAULT_KEY if DEFAULT_KEY in keys or EVERY in keys else next(iter(keys))
        above, _ = keys.get(key) or keys[EVERY]
        self._ended(agent, key, GAVE_UP, killed=False)
        record = above.record(agent.name, key)
        return bool(record.due) or record.given_up

    def _suspended(self, group: _Group, record: _Record, error: BaseException | None) -> None:
        if error is not None:
            record.given_up = False  # it may run, and may end again
            group.supervisor.forgive()
            log.error("child_not_suspended", agent=record.agent, key=record.key, error=str(error))

    def _publish(self, group: _Group, address: str, reason: str) -> None:
        facts = {"supervisor": group.spec.agent, "instance": address, "reason": reason, "what": "gave_up"}
        event = message_pb2.Event(topic=TOPIC, attributes=facts, publisher="engine")
        event.payload.data = json.dumps(facts).encode()
        try:
            self._events.publish(group.agent.namespace, self._identity, event, _published)
        except AmxError as error:
            log.warning("supervision_event_refused", supervisor=group.spec.agent, reason=error.reason)


def _describe(group: _Group) -> engine_pb2.SupervisorInfo:
    info = engine_pb2.SupervisorInfo(agent=group.spec.agent, restarts=group.restarts, escalations=group.escalations)
    if group.agent.active is not None:
        info.policy.CopyFrom(group.agent.active.spec.definition.supervisor)
    for record in list(group.records.values())[: -MAX_LISTED - 1 : -1]:
        child = info.children.add(restarts=record.restarts, last_reason=record.last_reason, given_up=record.given_up)
        child.instance.agent = record.agent
        child.instance.key = record.key
    return info


def _published(subscribers: int, error: BaseException | None) -> None:
    """Nobody waits for it."""
