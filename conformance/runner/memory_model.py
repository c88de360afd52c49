"""What an instance remembers, as the scripted engine keeps it. Needs the standard library and protobuf only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from amx.v1 import agent_pb2, memory_pb2


class _Entry(NamedTuple):
    value: bytes
    expires_at_ms: int  # by the scripted engine's clock; 0: never


class Memory:
    """The memories of one instance: entries by id, least recently used first."""

    def __init__(self) -> None:
        self.version = 0
        self._memories: dict[str, dict[str, _Entry]] = {}

    def load(self, image: memory_pb2.InstanceMemory, version: int, now_ms: int) -> None:
        """Becomes what a case says that it is."""
        self.version = version
        self._memories = {
            memory.name: {
                entry.id: _Entry(entry.value, now_ms + entry.expires_in_ms if entry.expires_in_ms else 0)
                for entry in memory.entries
            }
            for memory in image.memories
        }

    def apply(
        self,
        changes: Iterable[memory_pb2.MemoryChange],
        definitions: Mapping[str, agent_pb2.MemoryDefinition],
        now_ms: int,
    ) -> str:
        """Applies changes in order. Returns what is wrong with them, empty if nothing is."""
        changed = False
        for change in changes:
            definition = definitions.get(change.name)
            if definition is None:
                return f"a change to memory '{change.name}', which the agent does not declare"
            entries = self._memories.setdefault(change.name, {})
            what = change.WhichOneof("change")
            changed = True
            if what == "put":
                put = change.put
                lifetime = put.expires_in_ms or definition.ttl_ms
                if definition.max_entries:
                    entries.pop(put.id, None)
                entries[put.id] = _Entry(put.value, now_ms + lifetime if lifetime else 0)
                while definition.max_entries and len(entries) > definition.max_entries:
                    del entries[next(iter(entries))]
            elif what == "remove":
                entries.pop(change.remove, None)
            elif what == "clear":
                entries.clear()
            elif what == "touch":
                entry = entries.pop(change.touch, None)
                if entry is not None:
                    entries[change.touch] = entry
            else:
                return f"a change to memory '{change.name}' that says neither put, remove, clear nor touch"
        self.version += changed
        return ""

    def image(self, into: memory_pb2.InstanceMemory, now_ms: int) -> None:
        """Writes what is alive into a message."""
        for name, entries in self._memories.items():
            alive = {id: entry for id, entry in entries.items() if not 0 < entry.expires_at_ms <= now_ms}
            if alive:
                memory = into.memories.add(name=name)
                for id, entry in alive.items():
                    left = entry.expires_at_ms - now_ms if entry.expires_at_ms else 0
                    memory.entries.add(id=id, value=entry.value, expires_in_ms=left)
