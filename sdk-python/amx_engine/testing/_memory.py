"""What instances remember between the messages of a harness."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from amx.v1 import memory_pb2


class KeptMemory:
    """One instance's memory, as an engine would keep it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._memories: dict[str, dict[str, tuple[bytes, float]]] = {}
        self.version = 0

    def apply(self, changes: Iterable[memory_pb2.MemoryChange]) -> bool:
        """Takes the changes of one message over; returns whether there were any."""
        changed = False
        for change in changes:
            changed = True
            entries = self._memories.setdefault(change.name, {})
            what = change.WhichOneof("change")
            if what == "put":
                put = change.put
                entries.pop(put.id, None)
                entries[put.id] = (put.value, self._clock() + put.expires_in_ms / 1000 if put.expires_in_ms else 0.0)
            elif what == "remove":
                entries.pop(change.remove, None)
            elif what == "clear":
                entries.clear()
            elif what == "touch" and change.touch in entries:
                entries[change.touch] = entries.pop(change.touch)
        self.version += changed
        return changed

    def image(self) -> memory_pb2.InstanceMemory:
        """Everything that has not expired."""
        now = self._clock()
        image = memory_pb2.InstanceMemory()
        for name, entries in self._memories.items():
            kept = image.memories.add(name=name)
            for entry_id, (value, expires) in entries.items():
                if not expires or expires > now:
                    remaining = max(1, int((expires - now) * 1000)) if expires else 0
                    kept.entries.add(id=entry_id, value=value, expires_in_ms=remaining)
        return image
