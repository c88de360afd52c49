"""The memory of one instance, read and written from outside its handlers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amx.v1 import agent_pb2, memory_pb2
from amx_engine import _values
from amx_engine._lifetimes import Lifetime, lifetime_ms

if TYPE_CHECKING:
    from amx_engine._context import Calls

_TIMEOUT_MS = 30_000


@dataclass(frozen=True, slots=True)
class MemorySnapshot:
    """What a memory held at one version. value: a dict, list, set or value. truncated: there is more."""

    value: Any
    version: int
    truncated: bool


class RemoteMemory:
    """One instance's memory, by name. Writes are committed between messages, never during a handler's run.

    item: a key of a dict, a member of a set, the number of a list's entry; leave it out for a single value. Every
    method raises AmxError: AGENT_UNKNOWN, MEMORY_UNKNOWN, PERMISSION_DENIED, MEMORY_VERSION_MISMATCH.
    """

    def __init__(self, link: Calls, agent: str, key: str, invocation_id: int = 0) -> None:
        self._link = link
        self._invocation_id = invocation_id
        self._agent = agent
        self._key = key

    async def get(self, name: str, item: Any = None, default: Any = None) -> Any:
        """The entry `item`, or `default` if there is none. Without `item`: the whole memory, as `read` gives it."""
        if item is None:
            snapshot = await self.read(name)
            return default if snapshot.value is None else snapshot.value
        result = await self._operate(name, get=_values.encode_canonical(item))
        if not result.found:
            return default
        if result.kind == agent_pb2.MEMORY_KIND_SET:
            return item
        return _values.decode(result.entries[0].value)

    async def contains(self, name: str, item: Any = None) -> bool:
        """Whether there is such an entry."""
        result = await self._operate(name, get="" if item is None else _values.encode_canonical(item))
        return result.found

    async def read(self, name: str, limit: int = 10_000) -> MemorySnapshot:
        """The whole memory as a dict, list, set or value, and its version; at most `limit` entries."""
        result = await self._operate(name, list="", limit=limit)
        entries = result.entries
        value: Any
        if result.kind == agent_pb2.MEMORY_KIND_MAP:
            value = {_hashable(_values.decode_key(entry.id)): _values.decode(entry.value) for entry in entries}
        elif result.kind == agent_pb2.MEMORY_KIND_SET:
            value = {_hashable(_values.decode_key(entry.id)) for entry in entries}
        elif result.kind == agent_pb2.MEMORY_KIND_LIST:
            value = [_values.decode(entry.value) for entry in sorted(entries, key=lambda entry: int(entry.id))]
        else:
            value = _values.decode(entries[0].value) if entries else None
        return MemorySnapshot(value, result.version, result.truncated)

    async def list(self, name: str, prefix: str = "", limit: int = 1000) -> list[Any]:
        """Keys of a dict, or members of a set, whose JSON text begins with `prefix`."""
        result = await self._operate(name, list=prefix, limit=limit)
        return [_values.decode_key(entry.id) if entry.id else None for entry in result.entries]

    async def put(
        self, name: str, value: Any = None, *, item: Any = None, ttl: Lifetime | None = None, if_version: int = 0
    ) -> int:
        """Writes an entry and returns the version of the memory after it.

        ttl: its own lifetime, from now on; None: what the memory says. if_version: only if the memory has this version.
        """
        entry = memory_pb2.MemoryEntry()
        if item is not None:
            entry.id = _values.encode_canonical(item)
        if value is not None or item is None:
            entry.value = _values.encode(value)
        if ttl is not None:
            entry.expires_in_ms = lifetime_ms(ttl)
        result = await self._operate(name, put=entry, if_version=if_version)
        return result.version

    async def delete(self, name: str, item: Any = None, *, if_version: int = 0) -> bool:
        """Removes an entry; returns whether it was there."""
        entry_id = "" if item is None else _values.encode_canonical(item)
        result = await self._operate(name, remove=entry_id, if_version=if_version)
        return result.found

    async def _operate(self, name: str, **fields: Any) -> memory_pb2.MemoryOperationResult:
        operation = memory_pb2.MemoryOperation(name=name, **fields)
        operation.instance.agent = self._agent
        operation.instance.key = self._key
        return await self._link.memory(operation, timeout_ms=_TIMEOUT_MS, invocation_id=self._invocation_id)


def _hashable(value: Any) -> Any:
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value
