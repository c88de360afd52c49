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
from amx_server.storage.interface import Commit, MemoryRow, Store

BATCH = 100
"""Instances made before the loop may do something else: about a millisecond."""
_STORED_AT_ONCE = 1000
"""Instances in one commit, at most: about 15 ms of the storage thread."""
_PAGE = 10_000


class _Batch:
    """Instances that were made and are to be stored together."""

    __slots__ = ("instances", "puts", "versions")

    def __init__(self) -> None:
        self.instances: list[Instance] = []
        self.puts: list[tuple[str, str, str, MemoryRow]] = []
        self.versions: list[tuple[str, str, str, int, int, str, int]] = []


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
        INVALID_MEMORY_CHANGE, or the store's reason; what was stored by then stays.
        """
        found = namespace.agents.get(agent)
        if found is None:
            raise not_found("AGENT_UNKNOWN", f"no agent named '{agent}' is known in namespace '{namespace.name}'")
        known = await self._remembering(found)
        left = iter(keys)
        made = 0
        storing: list[asyncio.Future[None]] = []  # the commit under way
        batch = _Batch()
        try:
            while some := list(islice(left, BATCH)):
                fresh = [key for key in some if key not in found.instances and key not in known]
                self._make(found, fresh, memory, batch)
                made += len(fresh)
                # What is made while a commit is under way shares the next one.
                if not storing or storing[0].done() or len(batch.instances) >= _STORED_AT_ONCE:
                    await asyncio.gather(*storing)
                    storing, batch = [self._submit(batch)], _Batch()
                await asyncio.sleep(0)
        except BaseException as error:
            self._release(batch.instances, error)
            await asyncio.gather(*storing, return_exceptions=True)
            raise
        storing.append(self._submit(batch))
        for outcome in await asyncio.gather(*storing, return_exceptions=True):
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
        self, agent: Agent, keys: Sequence[str], changes: Sequence[memory_pb2.MemoryChange], batch: _Batch
    ) -> None:
        """Adds instances to the batch. Raises AmxError; those that were made by then are in the batch."""
        if not keys:
            return
        namespace, name = agent.namespace, agent.name
        now = self._clock.monotonic()
        # Checked and written once, for all: what differs is only whose it is.
        first, written = InstanceMemory(), Commit(done=_nothing)
        first.apply(changes, agent.memories, self._clock.now_ms(), namespace.name, name, "", written, self._limits)
        rows = [put[3] for put in written.memory_put]
        versions = [version[3:] for version in written.memory_version]
        for key in keys:
            instance = self._placement.wake(agent, key, now)
            instance.memory = first.twin()
            self._dispatcher.hold(instance)
            batch.instances.append(instance)
            namespace.quota.store(first.stored_bytes)
            batch.puts += [(namespace.name, name, key, row) for row in rows]
            batch.versions += [(namespace.name, name, key, *version) for version in versions]

    def _submit(self, batch: _Batch) -> asyncio.Future[None]:
        """Stores a batch. The future ends, with the store's error if there is one, when its instances are released."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done = partial(self._stored, batch.instances, future)
        commit = Commit(done=done, memory_put=tuple(batch.puts), memory_version=tuple(batch.versions), prompt=True)
        if is_empty(commit):
            done(None)
        else:
            self._store.submit(commit)
        return future

    def _stored(self, instances: Sequence[Instance], future: asyncio.Future[None], error: BaseException | None) -> None:
        self._release(instances, error)
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _release(self, instances: Sequence[Instance], error: BaseException | None) -> None:
        for instance in instances:
            if error is not None:
                self._placement.void_memory(instance)
            self._dispatcher.release(instance)


def _nothing(error: BaseException | None) -> None:
    """Of a commit that is never submitted."""
