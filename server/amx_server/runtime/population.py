"""Many instances at once: awake, with their first memory, stored in a few commits. One message each would do the same
for a hundred times the price.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice

from amx.v1 import memory_pb2
from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import not_found
from amx_server.memory.instance_memory import InstanceMemory, MemoryLimits
from amx_server.runtime.dispatch import Dispatcher, is_empty
from amx_server.runtime.instances import Agent, Instance
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.placement import Placement
from amx_server.storage.interface import Commit, Store

BATCH = 100
"""Instances made before the loop may do something else: about 2 ms."""
_PAGE = 10_000


class Population:
    """Makes instances of one agent by the hundred."""

    def __init__(
        self, config: EngineConfig, clock: Clock, store: Store, placement: Placement, dispatcher: Dispatcher
    ) -> None:
        self._clock = clock
        self._store = store
        self._placement = placement
        self._dispatcher = dispatcher
        self._limits = MemoryLimits(max_instance_bytes=config.limits.max_memory_bytes)

    async def spawn(
        self,
        namespace: Namespace,
        agent: str,
        keys: Iterable[str],
        memory: Sequence[memory_pb2.MemoryChange] = (),
    ) -> int:
        """Wakes an instance for each key, with what `memory` writes as its first memory, and returns how many are new.

        An instance that is awake or remembers something already stays as it is. When this returns, what they remember
        is stored; messages that come meanwhile wait for that. Raises AmxError AGENT_UNKNOWN, INSTANCE_LIMIT,
        INVALID_MEMORY_CHANGE, or the store's reason; the batches before stay.
        """
        found = namespace.agents.get(agent)
        if found is None:
            raise not_found("AGENT_UNKNOWN", f"no agent named '{agent}' is known in namespace '{namespace.name}'")
        known = await self._remembering(found)
        stored: list[asyncio.Future[None]] = []
        left = iter(keys)
        made = 0
        while batch := list(islice(left, BATCH)):
            fresh = [key for key in batch if key not in found.instances and key not in known]
            made += len(fresh)
            stored.append(self._make(found, fresh, memory))
            await asyncio.sleep(0)
        for outcome in await asyncio.gather(*stored, return_exceptions=True):
            if outcome is not None:
                raise outcome
        return made

    async def _remembering(self, agent: Agent) -> set[str]:
        """Keys of the agent's instances that the store knows."""
        known: set[str] = set()
        after = ("", "")
        while True:
            page = await self._store.memory_instances(agent.namespace.name, agent.name, after, _PAGE)
            known.update(key for _, key in page)
            if len(page) < _PAGE:
                return known
            after = page[-1]

    def _make(
        self, agent: Agent, keys: Sequence[str], changes: Sequence[memory_pb2.MemoryChange]
    ) -> asyncio.Future[None]:
        namespace, specs, limits = agent.namespace, agent.memories, self._limits
        now, now_ms = self._clock.monotonic(), self._clock.now_ms()
        commit = Commit(done=_nothing)
        instances = []
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            for key in keys:
                instance = self._placement.wake(agent, key, now)
                memory = InstanceMemory()
                memory.apply(changes, specs, now_ms, namespace.name, agent.name, key, commit, limits)
                instance.memory = memory
                namespace.quota.store(memory.stored_bytes)
                self._dispatcher.hold(instance)
                instances.append(instance)
        except Exception as error:
            self._stored(instances, future, error)
            return future
        if is_empty(commit):
            self._stored(instances, future, None)
        else:
            commit.done = partial(self._stored, instances, future)
            self._store.submit(commit)
        return future

    def _stored(self, instances: Sequence[Instance], future: asyncio.Future[None], error: BaseException | None) -> None:
        for instance in instances:
            if error is not None:
                self._placement.void_memory(instance)
            self._dispatcher.release(instance)
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


def _nothing(error: BaseException | None) -> None:
    """Replaced before the commit is submitted."""
