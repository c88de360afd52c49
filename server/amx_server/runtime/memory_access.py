"""Memory of an instance from outside its handlers: read at once, written in turn with its messages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from amx.v1 import common_pb2, memory_pb2
from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import AmxError, invalid, not_found
from amx_server.memory.blobs import ContentBlobs
from amx_server.memory.instance_memory import InstanceMemory, MemoryLimits, MemorySpec
from amx_server.runtime.dispatch import DEFAULT_KEY, Dispatcher, is_empty
from amx_server.runtime.instances import Agent, Instance
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.placement import Placement
from amx_server.storage.interface import Commit, Store

Done = Callable[[memory_pb2.MemoryOperationResult | None, BaseException | None], None]


class MemoryAccess:
    """Reads and writes of single entries, listings, searches."""

    def __init__(
        self,
        config: EngineConfig,
        clock: Clock,
        store: Store,
        placement: Placement,
        dispatcher: Dispatcher,
        blobs: ContentBlobs,
    ) -> None:
        self._clock = clock
        self._store = store
        self._placement = placement
        self._dispatcher = dispatcher
        self._blobs = blobs
        self._limits = MemoryLimits(max_instance_bytes=config.limits.max_memory_bytes)

    def operate(self, namespace: Namespace, operation: memory_pb2.MemoryOperation, done: Done) -> None:
        """Carries `operation` out when no handler of the instance runs. `done` gets the result, once it is stored.

        Raises AmxError if instance or memory is not known.
        """
        agent, spec = self._find(namespace, operation.instance, operation.name)
        what = operation.WhichOneof("operation")
        if what is None:
            raise invalid("INVALID_OPERATION", "the memory operation says neither get, put, remove nor list")
        copy = memory_pb2.MemoryOperation()
        copy.CopyFrom(operation)
        key = operation.instance.key or DEFAULT_KEY
        self._dispatcher.operate(agent, key, partial(self._operate, spec, copy, what, done))

    def _find(self, namespace: Namespace, ref: common_pb2.InstanceRef, name: str) -> tuple[Agent, MemorySpec]:
        agent = find_agent(namespace, ref.agent)
        return agent, find_memory(agent, name)

    def _operate(
        self, spec: MemorySpec, operation: memory_pb2.MemoryOperation, what: str, done: Done, instance: Instance
    ) -> None:
        memory = instance.memory
        if memory is None:
            memory = instance.memory = InstanceMemory()
        now_ms = self._clock.now_ms()
        result = memory_pb2.MemoryOperationResult(kind=spec.kind)
        try:
            if what == "get":
                entry = memory.get(spec.name, operation.get, now_ms)
                if entry is not None:
                    result.found = True
                    result.entries.append(entry)
            elif what == "list":
                entries, truncated = memory.search(
                    spec.name, spec.kind, operation.list, now_ms, operation.limit or 1000
                )
                result.entries.extend(entries)
                result.truncated = truncated
            else:
                memory.require_version(operation.if_version)
                self._write(spec, operation, what, done, instance, memory, result, now_ms)
                return
        except AmxError as error:
            done(None, error)
            return
        result.version = memory.version
        done(result, None)

    def _write(
        self,
        spec: MemorySpec,
        operation: memory_pb2.MemoryOperation,
        what: str,
        done: Done,
        instance: Instance,
        memory: InstanceMemory,
        result: memory_pb2.MemoryOperationResult,
        now_ms: int,
    ) -> None:
        agent = instance.agent
        change = memory_pb2.MemoryChange(name=spec.name)
        if what == "put":
            change.put.CopyFrom(operation.put)
        else:
            change.remove = operation.remove
            result.found = memory.get(spec.name, operation.remove, now_ms) is not None
        commit = Commit(done=_nothing)
        quota = agent.namespace.quota
        quota.require_room(change.ByteSize() if what == "put" else 0)
        stored_before = memory.stored_bytes
        memory.apply(
            [change],
            agent.memories,
            now_ms,
            agent.namespace.name,
            agent.name,
            instance.key,
            commit,
            self._limits,
            blobs=self._blobs,
        )
        quota.store(memory.stored_bytes - stored_before)
        result.version = memory.version
        if is_empty(commit):
            done(result, None)
        else:
            self._dispatcher.hold(instance)
            commit.done = partial(self._written, instance, result, done)
            self._store.submit(commit)

    def _written(
        self,
        instance: Instance,
        result: memory_pb2.MemoryOperationResult,
        done: Done,
        error: BaseException | None,
    ) -> None:
        if error is not None:
            self._placement.void_memory(instance)
            done(None, error)
        else:
            done(result, None)
        self._dispatcher.release(instance)

    def listing(
        self,
        namespace: Namespace,
        ref: common_pb2.InstanceRef,
        done: Callable[[list[memory_pb2.MemoryInfo], int], None],
    ) -> None:
        """What the instance remembers, by name, and its memory's version. Raises AmxError AGENT_UNKNOWN."""
        agent = find_agent(namespace, ref.agent)

        def look(instance: Instance) -> None:
            memory = instance.memory
            sizes = {name: (entries, size, kept) for name, entries, size, kept in memory.sizes()} if memory else {}
            infos = []
            for name, spec in sorted(agent.memories.items()):
                entries, size, kept = sizes.get(name, (0, 0, spec.persistent))
                info = memory_pb2.MemoryInfo(name=name, kind=spec.kind, entries=entries, bytes=size, persistent=kept)
                info.instance.agent = agent.name
                info.instance.key = instance.key
                infos.append(info)
            done(infos, memory.version if memory else 0)

        self._dispatcher.operate(agent, ref.key or DEFAULT_KEY, look)


def find_agent(namespace: Namespace, name: str) -> Agent:
    """The agent of that name. Raises AmxError AGENT_UNKNOWN."""
    agent = namespace.agents.get(name)
    if agent is None:
        raise not_found("AGENT_UNKNOWN", f"no agent named '{name}' is known in namespace '{namespace.name}'")
    return agent


def find_memory(agent: Agent, name: str) -> MemorySpec:
    """The memory of that name. Raises AmxError MEMORY_UNKNOWN."""
    spec = agent.memories.get(name)
    if spec is None:
        known = ", ".join(sorted(agent.memories)) or "none"
        raise not_found("MEMORY_UNKNOWN", f"agent '{agent.name}' has no memory '{name}'; it has: {known}")
    return spec


def _nothing(error: BaseException | None) -> None:
    """Replaced before the commit is submitted."""
