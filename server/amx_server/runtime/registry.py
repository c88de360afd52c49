"""Which agents exist, in which versions, and which links host them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from amx.v1 import agent_pb2
from amx_server.core import errors
from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import AmxError, invalid, not_found
from amx_server.runtime.acceptance import Acceptance
from amx_server.runtime.breaker import BreakerPolicy, CircuitBreaker
from amx_server.runtime.definitions import AgentSpec, HandlerSpec, difference
from amx_server.runtime.dispatch import Dispatcher, no_worker
from amx_server.runtime.events import Events
from amx_server.runtime.instances import Agent, AgentVersion, HandlerState
from amx_server.runtime.interruptions import Interruptions
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.retry import RetryPlan
from amx_server.runtime.timers import Timers
from amx_server.runtime.versions import newest, precedence
from amx_server.storage.interface import Commit, Store, StoredAgent, StoredSchedule
from amx_server.telemetry.logs import get_logger
from amx_server.telemetry.metrics import EngineMetrics

if TYPE_CHECKING:
    from amx_server.runtime.links import LinkSession
    from amx_server.runtime.schedules import Schedules
    from amx_server.runtime.scheduling.supervision import Supervision

log = get_logger(__name__)

MAX_AGENTS = 100_000


class Registry:
    """Owns agents and their versions; decides which version takes new messages."""

    def __init__(
        self,
        config: EngineConfig,
        clock: Clock,
        store: Store,
        timers: Timers,
        acceptance: Acceptance,
        dispatcher: Dispatcher,
        interruptions: Interruptions,
        events: Events,
        schedules: Schedules,
        supervision: Supervision,
        metrics: EngineMetrics,
    ) -> None:
        self._config = config
        self._clock = clock
        self._store = store
        self._timers = timers
        self._acceptance = acceptance
        self._dispatcher = dispatcher
        self._interruptions = interruptions
        self._events = events
        self._schedules = schedules
        self._supervision = supervision
        self._metrics = metrics
        self._expected: dict[Agent, float] = {}  # monotonic second until which agents without hosts are waited for
        delivery, breaker = config.delivery, config.breaker
        self._breaker = BreakerPolicy(breaker.failure_threshold, int(breaker.open_for * 1000))
        self._retry = RetryPlan(
            durable_attempts=delivery.durable_attempts,
            initial_backoff_ms=int(delivery.initial_backoff * 1000),
            multiplier=delivery.multiplier,
            max_backoff_ms=int(delivery.max_backoff * 1000),
        )

    # --- links that come and go --------------------------------------------------------------------------------------

    def register(self, session: LinkSession, definitions: Iterable[agent_pb2.AgentDefinition]) -> None:
        """Hosts agents on a link. Raises AmxError if one of them is not well-formed or differs from what is known
        under its version; nothing has changed then.
        """
        namespace = session.namespace
        specs: list[AgentSpec] = []
        for definition in definitions:
            spec = AgentSpec.compile(definition)
            if any(other.name == spec.name for other in specs):
                raise invalid("DUPLICATE_AGENT", f"the link names agent '{spec.name}' twice; give each agent one name")
            known = namespace.agents.get(spec.name)
            earlier = known.versions.get(spec.version) if known else None
            if earlier is not None and not self._config.agents.allow_redefinition:
                changed = difference(earlier.spec.definition, spec.definition)
                if changed:
                    raise AmxError(
                        errors.FAILED_PRECONDITION,
                        "DEFINITION_CHANGED",
                        f"agent '{spec.name}' {spec.version} is known with another definition: {changed};"
                        " give the changed agent a new version",
                        metadata={"agent": spec.name, "version": spec.version},
                    )
            specs.append(spec)
        if len(namespace.agents) + len(specs) > MAX_AGENTS:
            raise errors.exhausted("AGENT_LIMIT", f"a namespace has at most {MAX_AGENTS} agents", retry_delay_ms=0)
        rows: list[StoredAgent] = []
        for spec in specs:
            agent = self._define(namespace, spec)
            version = agent.versions[spec.version]
            agent.restored = False
            if session not in version.hosts:
                version.hosts.append(session)
            for other in agent.versions.values():
                other.displaced = [entry for entry in other.displaced if entry[1] is not session]
                if other is not version and session in other.hosts:
                    other.hosts.remove(session)
            if agent not in session.hosted:
                session.hosted.append(agent)
            self._choose(agent)
            rows.append(_row(agent, spec))
        self._keep(namespace, rows)

    def _keep(self, namespace: Namespace, rows: list[StoredAgent]) -> None:
        """Stores definitions, again and again if need be: messages to their agents are of no use without them."""
        if rows:
            commit = Commit(done=partial(self._kept, namespace, rows))
            commit.agent_put = tuple(rows)
            self._store.submit(commit)

    def _kept(self, namespace: Namespace, rows: list[StoredAgent], error: BaseException | None) -> None:
        if error is None:
            return
        log.error("definitions_not_stored", agents=[row.name for row in rows], error=str(error))
        for row in rows:
            row.pinned = namespace.agents[row.name].pinned == row.version  # it may have changed since
        self._timers.at(self._clock.monotonic() + 1.0, partial(self._keep, namespace, rows))

    def restore(self, namespace: Namespace, rows: Iterable[StoredAgent], schedules: Iterable[StoredSchedule]) -> None:
        """Takes definitions of earlier runs up again, so that durable messages to their agents find a mailbox.

        schedules: theirs; taken up before the agents declare them, so that an unchanged one goes on where it was.
        """
        touched: dict[str, Agent] = {}
        for row in rows:
            if not row.definition:
                log.error("definition_damaged", agent=row.name, version=row.version, namespace=row.namespace)
                continue  # until a worker brings it again
            spec = AgentSpec.compile(agent_pb2.AgentDefinition.FromString(row.definition))
            agent = touched[row.name] = self._define(namespace, spec)
            agent.restored = True
            if row.pinned:
                agent.pinned = row.version
        for schedule in schedules:
            self._schedules.restore(namespace, schedule)
        for agent in touched.values():
            self._choose(agent)

    def _define(self, namespace: Namespace, spec: AgentSpec) -> Agent:
        agent = namespace.agents.get(spec.name)
        if agent is None:
            agent = namespace.agents[spec.name] = Agent(namespace, spec.name)
        version = agent.versions.get(spec.version)
        if version is None:
            agent.versions[spec.version] = AgentVersion(spec)
        elif version.spec.definition != spec.definition:
            version.displaced.extend((version.spec, host) for host in version.hosts)
            self._redefine(agent, version, spec)
        return agent

    def _redefine(self, agent: Agent, version: AgentVersion, spec: AgentSpec) -> None:
        """Hosts of this definition serve again; what the others host is displaced already."""
        version.hosts = [host for old, host in version.displaced if old.definition == spec.definition]
        version.displaced = [entry for entry in version.displaced if entry[0].definition != spec.definition]
        version.spec = spec
        if agent.active is version:
            agent.active = None  # chosen anew, with the new definition

    def remove(self, session: LinkSession, names: Iterable[str]) -> None:
        """The link no longer hosts these agents."""
        for name in names:
            agent = session.namespace.agents.get(name)
            if agent is not None and agent in session.hosted:
                session.hosted.remove(agent)
                self._leave(session, agent)

    def left(self, session: LinkSession) -> None:
        """The link takes no new work."""
        for agent in session.hosted:
            self._leave(session, agent)

    def _leave(self, session: LinkSession, agent: Agent) -> None:
        for version in agent.versions.values():
            version.displaced = [entry for entry in version.displaced if entry[1] is not session]
            if session in version.hosts:
                version.hosts.remove(session)
            if not version.hosts and version.displaced:
                # Who brought the definition in force has gone: the one before has hosts still.
                self._redefine(agent, version, version.displaced[-1][0])
                self._keep(agent.namespace, [_row(agent, version.spec)])
        self._choose(agent)
        self._serve(agent)
        if not agent.restored and (agent.active is None or not agent.active.hosts):
            self._interruptions.refuse_waiting(agent, no_worker(agent))

    def expect(self, session: LinkSession) -> None:
        """The process behind a link ended and is being started again: what only it hosts is waited for."""
        until = self._clock.monotonic() + self._config.links.resume_window
        for agent in session.hosted:
            if not any(host is not session for version in agent.versions.values() for host in version.hosts):
                agent.restored = True
                self._expected[agent] = until
                self._timers.at(until, partial(self.stop_waiting, agent))

    def stop_waiting(self, agent: Agent) -> None:
        """Workers of an earlier run or process have had their time to come: who asks for those that did not is told.

        Does nothing while a process that ended later is still waited for.
        """
        if self._expected.get(agent, 0.0) > self._clock.monotonic():
            return
        self._expected.pop(agent, None)
        if agent.restored:
            agent.restored = False
            self._interruptions.refuse_waiting(agent, no_worker(agent))

    def joined(self, session: LinkSession) -> None:
        """The link may run what has been waiting."""
        self._dispatcher.serve(session)

    def _serve(self, agent: Agent) -> None:
        if agent.active is not None:
            for host in list(agent.active.hosts):
                self._dispatcher.serve(host)

    # --- versions ----------------------------------------------------------------------------------------------------

    def pin(self, namespace: Namespace, name: str, version: str) -> Agent:
        """Makes one version take new messages, or, with an empty version, the newest connected one again.

        Raises AmxError AGENT_UNKNOWN or VERSION_UNKNOWN.
        """
        agent = self.agent(namespace, name)
        if version and version not in agent.versions:
            known = ", ".join(sorted(agent.versions, key=precedence, reverse=True))
            raise not_found("VERSION_UNKNOWN", f"agent '{name}' has no version '{version}'; it has: {known}")
        agent.pinned = version
        self._keep(namespace, [_row(agent, known.spec) for known in agent.versions.values()])
        self._choose(agent)
        self._serve(agent)
        return agent

    def agent(self, namespace: Namespace, name: str) -> Agent:
        """The agent `name`. Raises AmxError AGENT_UNKNOWN."""
        agent = namespace.agents.get(name)
        if agent is None:
            raise not_found(
                "AGENT_UNKNOWN",
                f"no agent named '{name}' has ever registered in namespace '{namespace.name}';"
                " `amx agents list` shows those that have",
            )
        return agent

    def _choose(self, agent: Agent) -> None:
        """Decides which version takes new messages, and so whose turn it is to serve those that wait."""
        self._choose_version(agent)
        hosts = agent.active.hosts if agent.active is not None else ()
        agent.ready.serve_by(host.run_queue for host in hosts)

    def _choose_version(self, agent: Agent) -> None:
        """The version that takes new messages: the pinned one, else the newest that a link hosts, else the one
        that did before.
        """
        hosted = [name for name, version in agent.versions.items() if version.hosts]
        if agent.pinned and (agent.versions[agent.pinned].hosts or not hosted):
            name = agent.pinned
        elif hosted:
            name = newest(hosted)
        elif agent.active is not None:
            return
        else:
            name = newest(agent.versions)
        chosen = agent.versions[name]
        if chosen is agent.active:
            return
        before = agent.active
        agent.active = chosen
        spec = chosen.spec
        agent.memories = spec.memories
        for handler in spec.handlers.values():
            self._handler(agent, handler)
        for gone in [name for name in agent.handlers if name not in spec.handlers]:
            del agent.handlers[gone]
        namespace = agent.namespace
        for members, kind in (
            (namespace.routers, agent_pb2.AGENT_KIND_ROUTER),
            (namespace.monitors, agent_pb2.AGENT_KIND_MONITOR),
        ):
            if spec.kind == kind and agent not in members:
                members.append(agent)
                members.sort(key=lambda member: -member.active.spec.order if member.active else 0)
            elif spec.kind != kind and agent in members:
                members.remove(agent)
        self._events.declare(agent)
        self._schedules.declare(agent)
        self._supervision.declare(agent)
        self._acceptance.place(agent)
        if before is not None:
            log.info("agent_version_active", agent=agent.name, version=name, before=before.spec.version)

    def _handler(self, agent: Agent, spec: HandlerSpec) -> None:
        state = agent.handlers.get(spec.name)
        policy = self._breaker.resolve(spec.breaker)
        retry = self._retry.resolve(spec.retry)
        if state is None:
            breaker = CircuitBreaker(policy) if policy else None
            stats = self._metrics.handler(agent.name, spec.name)
            agent.handlers[spec.name] = HandlerState(agent, spec, breaker, retry, stats)
        else:
            if spec != state.spec:
                state.breaker = CircuitBreaker(policy) if policy else None
            state.spec = spec
            state.retry = retry


def _row(agent: Agent, spec: AgentSpec) -> StoredAgent:
    definition = spec.definition.SerializeToString(deterministic=True)
    return StoredAgent(agent.namespace.name, agent.name, spec.version, definition, agent.pinned == spec.version)
