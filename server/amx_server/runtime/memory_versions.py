"""Versions of what instances remember: listed, read, named, forked and restored, in turn with the instances' messages.

How versions are stored is the store's business; when they are forgotten is that of `memory_upkeep`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from amx.v1 import common_pb2, memory_pb2
from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import ALREADY_EXISTS, FAILED_PRECONDITION, AmxError, invalid, not_found
from amx_server.memory.blobs import ContentBlobs
from amx_server.memory.instance_memory import InstanceMemory, MemoryLimits, MemorySpec
from amx_server.runtime.dispatch import DEFAULT_KEY, Dispatcher, is_empty
from amx_server.runtime.instances import Agent, Instance
from amx_server.runtime.memory_access import find_agent, find_memory
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.placement import Placement
from amx_server.storage.interface import Commit, Store, StoredFork, StoredVersion

MAX_NAME_BYTES: Final = 128


@dataclass(frozen=True, slots=True)
class Past:
    """What an instance remembered at one version: the entries that were alive when it was committed."""

    agent: Agent
    key: str
    version: int
    at_ms: int
    memory: InstanceMemory

    def entry(self, name: str, entry_id: str) -> memory_pb2.MemoryEntry | None:
        """One entry, or None. Raises AmxError MEMORY_UNKNOWN, MEMORY_NOT_PERSISTENT."""
        self._require(name)
        return self.memory.get(name, entry_id, self.at_ms)

    def search(self, name: str, prefix: str, limit: int) -> tuple[MemorySpec, list[memory_pb2.MemoryEntry], bool]:
        """Entries by the beginning of their id, and whether there are more. Raises as `entry` does."""
        spec = self._require(name)
        return spec, *self.memory.search(name, spec.kind, prefix, self.at_ms, limit)

    def infos(self) -> list[memory_pb2.MemoryInfo]:
        """Every persistent memory with its size, by name."""
        ref = common_pb2.InstanceRef(agent=self.agent.name, key=self.key)
        sizes = {name: (entries, size) for name, entries, size, _ in self.memory.sizes()}
        infos = []
        for name, spec in sorted(self.agent.memories.items()):
            if spec.persistent:
                entries, size = sizes.get(name, (0, 0))
                infos.append(
                    memory_pb2.MemoryInfo(
                        instance=ref, name=name, kind=spec.kind, entries=entries, bytes=size, persistent=True
                    )
                )
        return infos

    def _require(self, name: str) -> MemorySpec:
        spec = find_memory(self.agent, name)
        if not spec.persistent:
            raise AmxError(
                FAILED_PRECONDITION,
                "MEMORY_NOT_PERSISTENT",
                f"memory '{name}' of agent '{self.agent.name}' is not persistent, so no versions of it are kept;"
                " read it without a version",
            )
        return spec


class MemoryVersions:
    """Works on what is stored: memory that is not persistent has no versions."""

    def __init__(
        self,
        config: EngineConfig,
        clock: Clock,
        store: Store,
        placement: Placement,
        dispatcher: Dispatcher,
        blobs: ContentBlobs,
    ) -> None:
        self._config = config
        self._clock = clock
        self._store = store
        self._placement = placement
        self._dispatcher = dispatcher
        self._blobs = blobs
        self._limits = MemoryLimits(max_instance_bytes=config.limits.max_memory_bytes)

    # --- looking

    async def listing(
        self, namespace: Namespace, ref: common_pb2.InstanceRef, before: int, limit: int
    ) -> list[StoredVersion]:
        """Versions below `before` (0: all), newest first. Raises AmxError AGENT_UNKNOWN."""
        agent = find_agent(namespace, ref.agent)
        return await self._store.memory_versions(namespace.name, agent.name, _key(ref), before, limit)

    async def origin(self, namespace: Namespace, ref: common_pb2.InstanceRef) -> StoredFork | None:
        """What the instance was forked from; None: it was not. Raises AmxError AGENT_UNKNOWN."""
        agent = find_agent(namespace, ref.agent)
        return await self._store.memory_fork(namespace.name, agent.name, _key(ref))

    async def past(self, namespace: Namespace, ref: common_pb2.InstanceRef, version: int) -> Past:
        """What the instance remembered at `version`. Raises AmxError AGENT_UNKNOWN, MEMORY_VERSION_UNKNOWN."""
        agent = find_agent(namespace, ref.agent)
        await self._require_reached(agent, _key(ref), version)
        found = await self._store.memory_at(namespace.name, agent.name, _key(ref), version)
        memory = InstanceMemory()
        memory.load(row for row in found.rows if not 0 < row.expires_at_ms <= found.at_ms)
        return Past(agent, _key(ref), found.version, found.at_ms, memory)

    # --- naming

    async def create_snapshot(
        self, namespace: Namespace, ref: common_pb2.InstanceRef, name: str, version: int = 0
    ) -> StoredVersion:
        """Gives a version (0: the newest) a name and keeps it while it has one; stored when this returns.

        Naming a version again as it is named changes nothing. Raises AmxError AGENT_UNKNOWN, MEMORY_VERSION_UNKNOWN,
        SNAPSHOT_NAME_INVALID, SNAPSHOT_EXISTS (the name is another version's).
        """
        agent = find_agent(namespace, ref.agent)
        _check_name(name)
        await self._require_reached(agent, _key(ref), version)
        return await self._store.create_snapshot(
            namespace.name, agent.name, _key(ref), name, version, self._clock.now_ms()
        )

    async def delete_snapshot(self, namespace: Namespace, ref: common_pb2.InstanceRef, name: str) -> bool:
        """Deletes a name; its version goes with its age. False: there was none. Raises AmxError AGENT_UNKNOWN."""
        agent = find_agent(namespace, ref.agent)
        return await self._store.delete_snapshot(namespace.name, agent.name, _key(ref), name)

    # --- forking and restoring

    async def fork(
        self,
        namespace: Namespace,
        source: common_pb2.InstanceRef,
        target: common_pb2.InstanceRef,
        version: int = 0,
        snapshot: str = "",
    ) -> int:
        """Makes `target` remember what `source` did at a version (neither given: the newest), and returns that.

        Costs one row, whatever is remembered. No message of the target runs meanwhile; when it fails nothing has
        changed. Raises AmxError AGENT_UNKNOWN, INVALID_FORK (not the same agent, or the same instance),
        FORK_TARGET_EXISTS, SNAPSHOT_UNKNOWN, MEMORY_VERSION_UNKNOWN, MEMORY_NOT_PERSISTENT, KEY_TOO_LONG.
        """
        agent = find_agent(namespace, source.agent)
        key, new = _key(source), _key(target)
        if target.agent != agent.name:
            raise invalid(
                "INVALID_FORK",
                f"{target.agent}/{new} is not an instance of '{agent.name}', whose memory it would get;"
                " fork to another key of the same agent",
            )
        if new == key:
            raise invalid("INVALID_FORK", f"{agent.name}/{key} cannot be forked to itself; give a new key")
        self._check_key(new)
        _require_persistent(agent)
        if snapshot:
            version = await self._store.snapshot_version(namespace.name, agent.name, key, snapshot)
        await self._require_reached(agent, key, version)
        instance = await self._idle(agent, new, _require_empty, hold=True)
        forking = asyncio.ensure_future(
            self._store.fork_memory(namespace.name, agent.name, key, version, new, self._clock.now_ms())
        )
        forking.add_done_callback(partial(self._forked, instance))  # also when the caller leaves
        return (await asyncio.shield(forking)).source_version

    def _forked(self, instance: Instance, forking: asyncio.Future[StoredFork]) -> None:
        # Asking for the exception also tells asyncio that nobody else has to: the caller may have gone.
        if not forking.cancelled() and forking.exception() is None:
            self._placement.void_memory(instance)  # it is read again, with what it has inherited
        self._dispatcher.release(instance)

    async def restore(
        self, namespace: Namespace, ref: common_pb2.InstanceRef, version: int = 0, snapshot: str = ""
    ) -> int:
        """Sets persistent memory to what it was at a version, as one more version, and returns that.

        What has expired since stays away. Where nothing differs nothing is committed. No message of the instance runs
        meanwhile; when it fails nothing has changed. Raises AmxError AGENT_UNKNOWN, SNAPSHOT_UNKNOWN,
        MEMORY_VERSION_UNKNOWN, MEMORY_NOT_PERSISTENT, INVALID_MEMORY_CHANGE (with what is not persistent it would be
        more than an instance may remember), QUOTA_STORED_BYTES, CONTENT_QUOTA_EXCEEDED.
        """
        agent, key = find_agent(namespace, ref.agent), _key(ref)
        _require_persistent(agent)
        if snapshot:
            version = await self._store.snapshot_version(namespace.name, agent.name, key, snapshot)
        elif not version:
            raise invalid("INVALID_OPERATION", "the request says not what to restore; give a version or a snapshot")
        past = await self.past(namespace, ref, version)  # never changes again
        stored: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            await self._idle(agent, key, partial(self._restore, past.memory, stored))
            return await stored
        except asyncio.CancelledError:
            stored.cancel()
            raise

    def _restore(self, past: InstanceMemory, stored: asyncio.Future[int], instance: Instance) -> None:
        agent = instance.agent
        namespace = agent.namespace
        memory = instance.memory
        if memory is None:
            memory = instance.memory = InstanceMemory()
        commit = Commit(done=_nothing)
        before = memory.stored_bytes
        namespace.quota.require_room(past.stored_bytes - before)
        memory.restore(
            past,
            agent.memories,
            self._clock.now_ms(),
            namespace.name,
            agent.name,
            instance.key,
            commit,
            self._limits,
            self._blobs,
        )
        namespace.quota.store(memory.stored_bytes - before)
        if is_empty(commit):
            stored.set_result(memory.version)
            return
        self._dispatcher.hold(instance)
        commit.done = partial(self._restored, instance, memory.version, stored)
        self._store.submit(commit)

    def _restored(
        self, instance: Instance, version: int, stored: asyncio.Future[int], error: BaseException | None
    ) -> None:
        if error is not None:
            self._placement.void_memory(instance)
        if not stored.done():  # otherwise the caller has gone
            if error is not None:
                stored.set_exception(error)
            else:
                stored.set_result(version)
        self._dispatcher.release(instance)

    # --- inside

    async def _require_reached(self, agent: Agent, key: str, version: int) -> None:
        """Raises AmxError MEMORY_VERSION_UNKNOWN for a number that the memory has not come to yet.

        What is stored may be older than what an instance that is awake has: some changes are not to persistent memory.
        """
        instance = agent.instances.get(key)
        if instance is not None and instance.memory is not None and version <= instance.memory.version:
            return
        newest = await self._store.memory_versions(agent.namespace.name, agent.name, key, 0, 1)
        if version > (newest[0].version if newest else 0):
            raise not_found(
                "MEMORY_VERSION_UNKNOWN",
                f"the memory of {agent.name}/{key} has no version {version} yet;"
                f" `amx memory history {agent.name}/{key}` lists those it has",
                version=str(version),
            )

    async def _idle(
        self, agent: Agent, key: str, action: Callable[[Instance], None], *, hold: bool = False
    ) -> Instance:
        """Does `action` once the instance is idle and its memory is there, unless the caller has gone; raises what it
        raises. hold: the instance is then held, and the caller must see to its release.
        """
        done: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()

        def run(instance: Instance) -> None:
            if done.done():
                return
            try:
                action(instance)
            except AmxError as error:
                done.set_exception(error)
                return
            if hold:
                self._dispatcher.hold(instance)
            done.set_result(instance)

        self._dispatcher.operate(agent, key, run)
        try:
            return await done
        except asyncio.CancelledError:
            if hold and not done.cancelled() and done.exception() is None:
                self._dispatcher.release(done.result())  # it was held in the moment in which the caller left
            raise

    def _check_key(self, key: str) -> None:
        limit = self._config.limits.max_key_bytes
        if len(key.encode()) > limit:
            raise invalid("KEY_TOO_LONG", f"the instance key has {len(key.encode())} bytes, {limit} are allowed")


def _key(ref: common_pb2.InstanceRef) -> str:
    return ref.key or DEFAULT_KEY


def _require_persistent(agent: Agent) -> None:
    if not any(spec.persistent for spec in agent.memories.values()):
        raise AmxError(
            FAILED_PRECONDITION,
            "MEMORY_NOT_PERSISTENT",
            f"agent '{agent.name}' declares no persistent memory, so no versions of it are kept",
        )


def _require_empty(instance: Instance) -> None:
    if instance.memory:
        raise AmxError(
            ALREADY_EXISTS,
            "FORK_TARGET_EXISTS",
            f"{instance.address} remembers something already; fork to a key that is not in use",
        )


def _check_name(name: str) -> None:
    why = ""
    if not name:
        why = "is empty"
    elif len(name.encode()) > MAX_NAME_BYTES:
        why = f"has {len(name.encode())} bytes, {MAX_NAME_BYTES} are allowed"
    elif name.isdigit():
        why = "is a number, which would be taken for a version"
    elif not name.isprintable():
        why = "has characters that cannot be printed"
    if why:
        raise invalid("SNAPSHOT_NAME_INVALID", f"the snapshot's name {why}; give it a short text, e.g. before-import")


def _nothing(error: BaseException | None) -> None:
    """Replaced before the commit is submitted."""
