"""Puts idle instances to sleep, a few at a time so that the loop is never held up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.memory.instance_memory import InstanceMemory
from amx_server.runtime.dispatch import is_empty
from amx_server.runtime.instances import Agent, Instance
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.placement import Placement
from amx_server.storage.interface import Commit, Store
from amx_server.telemetry.logs import get_logger
from amx_server.telemetry.metrics import EngineCounters

log = get_logger(__name__)

_PER_TURN = 500  # instances looked at in one go: about half a millisecond


class Hibernation:
    """Walks over all instances again and again."""

    def __init__(
        self, config: EngineConfig, clock: Clock, store: Store, placement: Placement, counters: EngineCounters
    ) -> None:
        self._idle_timeout = config.instances.idle_timeout
        self._clock = clock
        self._store = store
        self._placement = placement
        self._counters = counters
        self._walk: Iterator[Instance] = iter(())
        self._rested_at = float("-inf")
        self.hurry = 1.0
        """Part of their idle time after which instances sleep already: less than 1 where memory is scarce."""

    def tick(self, namespaces: Iterable[Namespace], now: float) -> None:
        """Looks at the next instances; a new round begins a second after the last one ended at the earliest."""
        for _ in range(_PER_TURN):
            instance = next(self._walk, None)
            if instance is None:
                if now - self._rested_at < 1.0:
                    return
                self._rested_at = now
                # A snapshot of the keys: instances come and go while the walk is under way.
                self._walk = _all_instances([agent for ns in namespaces for agent in ns.agents.values()])
                return
            self._consider(instance, now)

    def sweep(self, namespaces: Iterable[Namespace], now: float) -> None:
        """A whole round at once; for tests with a manual clock."""
        for instance in _all_instances([agent for ns in namespaces for agent in ns.agents.values()]):
            self._consider(instance, now)

    def _consider(self, instance: Instance, now: float) -> None:
        agent = instance.agent
        limit = (agent.active.spec.idle_timeout if agent.active is not None else 0.0) or self._idle_timeout
        memory = instance.memory
        idle = now - instance.last_active
        if idle >= limit * self.hurry:
            if memory is not None and not instance.busy:
                self._prune(instance, memory, touches=True)
            if self._placement.hibernate(instance):
                self._counters.hibernations += 1
        elif memory is not None and memory.next_expiry_ms and not instance.busy:
            self._prune(instance, memory)

    def _prune(self, instance: Instance, memory: InstanceMemory, touches: bool = False) -> None:
        """Removes what has expired from the store too, and writes down what was used last."""
        agent = instance.agent
        commit = Commit(done=_logged)
        if touches:
            memory.store_touches(agent.namespace.name, agent.name, instance.key, commit)
        before = memory.stored_bytes
        memory.prune(self._clock.now_ms(), agent.namespace.name, agent.name, instance.key, commit)
        agent.namespace.quota.store(memory.stored_bytes - before)
        if not is_empty(commit):
            self._store.submit(commit)


def _all_instances(agents: list[Agent]) -> Iterator[Instance]:
    for agent in agents:
        for key in list(agent.instances):
            instance = agent.instances.get(key)
            if instance is not None:
                yield instance


def _logged(error: BaseException | None) -> None:
    if error is not None:
        log.warning("expired_memory_not_removed", error=str(error))
