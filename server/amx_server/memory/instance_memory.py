"""What one instance remembers, while it is in the engine: entries, expiry, size limits, version.

Changes are checked, applied all or not at all, and turned into rows of a storage commit. Storing is not done here.
"""

from __future__ import annotations

import re
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from amx.v1 import agent_pb2, memory_pb2
from amx_server.core.errors import ABORTED, AmxError, invalid
from amx_server.memory.blobs import ContentBlobs
from amx_server.storage.interface import Commit, MemoryRow

VALUE = agent_pb2.MEMORY_KIND_VALUE
MAP = agent_pb2.MEMORY_KIND_MAP
SET = agent_pb2.MEMORY_KIND_SET
LIST = agent_pb2.MEMORY_KIND_LIST

_ENTRY_OVERHEAD = 16  # bytes of framing that an entry costs in an image, rounded up
_PRUNE_INTERVAL_MS = 1000  # expired entries are invisible at once, and looked for at most this often

_ORDINAL = re.compile(r"0|-?[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class MemorySpec:
    """What the engine needs of an amx.v1.MemoryDefinition. ttl_ms and max_entries: 0 means no limit."""

    name: str
    kind: agent_pb2.MemoryKind = VALUE
    persistent: bool = False
    ttl_ms: int = 0
    max_entries: int = 0

    @classmethod
    def from_definition(cls, definition: agent_pb2.MemoryDefinition) -> MemorySpec:
        return cls(
            definition.name,
            definition.kind or VALUE,
            definition.persistent,
            definition.ttl_ms,
            definition.max_entries,
        )


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """Bounds in bytes. An instance's whole memory must fit into one item of a link, with room for the message."""

    max_id_bytes: int = 4 * 1024
    max_value_bytes: int = 1024 * 1024
    max_instance_bytes: int = 3 * 1024 * 1024


DEFAULT_LIMITS = MemoryLimits()


class Entry(NamedTuple):
    """One entry. expires_at_ms: 0 means never. used: order of use in the instance."""

    value: bytes
    expires_at_ms: int
    used: int


class _Memory:
    """One named memory. Entries are in order of `used`. shared: several instances have it, so nobody changes it."""

    __slots__ = ("bytes", "entries", "persistent", "shared")

    def __init__(self, persistent: bool) -> None:
        self.entries: dict[str, Entry] = {}
        self.bytes = 0
        self.persistent = persistent
        self.shared = False

    def copy(self) -> _Memory:
        copy = _Memory(self.persistent)
        copy.entries = self.entries.copy()
        copy.bytes = self.bytes
        return copy

    def alive(self, now_ms: int) -> _Memory:
        """A copy without what has expired."""
        copy = _Memory(self.persistent)
        copy.entries = {id: each for id, each in self.entries.items() if not 0 < each.expires_at_ms <= now_ms}
        copy.bytes = sum(_size(entry_id, entry.value) for entry_id, entry in copy.entries.items())
        return copy

    def oldest(self) -> str:
        """Id of the least recently used entry, in constant time."""
        entries: dict[str, Entry] = self.entries
        if not isinstance(entries, OrderedDict):
            entries = self.entries = OrderedDict(entries)  # dict scans over what was deleted at its front
        oldest: str = next(iter(entries))
        return oldest

    def front(self) -> str:
        """Id of a list's first entry. Only writes from outside need it: handlers' commits keep the bound themselves."""
        return min(self.entries, key=int)


class InstanceMemory:
    """Everything one instance remembers.

    version grows by one with every `apply` that was given at least one change, even if the change had no effect:
    both ends of a link count alike. Expiry and eviction do not change it; the SDK sees both happen by the same rules.
    bytes counts ids, values and 16 bytes an entry over all memories, stored_bytes over persistent ones.
    """

    __slots__ = ("_memories", "_next_expiry_ms", "_shared", "_touched", "_used", "bytes", "stored_bytes", "version")

    def __init__(self, version: int = 0) -> None:
        self.version = version
        self.bytes = 0
        self.stored_bytes = 0
        self._memories: dict[str, _Memory] = {}
        self._shared = False  # others have the same dictionary of memories
        self._used = 0
        self._next_expiry_ms = 0  # nothing expires before; 0: nothing expires
        self._touched: set[tuple[str, str]] | None = None  # persistent entries whose stored order of use is old

    def load(self, rows: Iterable[MemoryRow]) -> None:
        """Takes over what the store holds; `rows` come least recently used first. Call once, on a new object.

        Rows of memories that the present definition lacks are kept: an older version may be rolled back to.
        """
        for row in rows:
            if not row.name:  # keeps the version where nothing else does
                self.version = max(self.version, row.version)
                continue
            memory = self._memories.get(row.name)
            if memory is None:
                memory = self._memories[row.name] = _Memory(persistent=True)
            memory.entries[row.entry] = Entry(row.value, row.expires_at_ms, row.used)
            memory.bytes += _size(row.entry, row.value)
            if row.version > self.version:
                self.version = row.version
            if row.used > self._used:
                self._used = row.used
            if row.expires_at_ms:
                self._expires(row.expires_at_ms)
        self._count_bytes()

    def twin(self) -> InstanceMemory:
        """The memory of another instance that remembers the same, in the same version. What both have is held once,
        until one of them changes it.
        """
        twin = InstanceMemory(self.version)
        for memory in self._memories.values():
            memory.shared = True
        self._shared = twin._shared = True
        twin._memories = self._memories
        twin._used = self._used
        twin._next_expiry_ms = self._next_expiry_ms
        twin.bytes = self.bytes
        twin.stored_bytes = self.stored_bytes
        return twin

    def _own(self) -> None:
        """Before the first change to a twin: from now on its dictionary of memories is its own."""
        if self._shared:
            self._memories = self._memories.copy()
            self._shared = False

    def __bool__(self) -> bool:
        """Whether anything is remembered."""
        return any(memory.entries for memory in self._memories.values())

    @property
    def next_expiry_ms(self) -> int:
        """`prune` does nothing before this moment (milliseconds since the Unix epoch); 0: nothing expires."""
        return self._next_expiry_ms

    def image(self, definitions: Mapping[str, MemorySpec], now_ms: int, into: memory_pb2.InstanceMemory) -> None:
        """Adds every defined memory with its live entries to `into`, least recently used entry first."""
        for name, memory in self._memories.items():
            if not memory.entries or name not in definitions:
                continue
            entries = into.memories.add(name=name).entries
            for entry_id, (value, expires_at_ms, _) in memory.entries.items():
                if expires_at_ms:
                    if expires_at_ms <= now_ms:
                        continue
                    entry = entries.add()
                    entry.expires_in_ms = expires_at_ms - now_ms
                else:
                    entry = entries.add()
                entry.id = entry_id
                if value:
                    entry.value = value

    def get(self, name: str, entry_id: str, now_ms: int) -> memory_pb2.MemoryEntry | None:
        """The live entry, or None. Reading from outside a handler does not count as use."""
        memory = self._memories.get(name)
        entry = memory.entries.get(entry_id) if memory is not None else None
        if entry is None or 0 < entry.expires_at_ms <= now_ms:
            return None
        return _as_proto(entry_id, entry, now_ms)

    def search(
        self, name: str, kind: agent_pb2.MemoryKind, prefix: str, now_ms: int, limit: int
    ) -> tuple[list[memory_pb2.MemoryEntry], bool]:
        """Live entries whose id starts with `prefix`, ordered by id (lists: by ordinal), and whether there are more."""
        memory = self._memories.get(name)
        if memory is None:
            return [], False
        found = [
            (entry_id, entry)
            for entry_id, entry in memory.entries.items()
            if entry_id.startswith(prefix) and not 0 < entry.expires_at_ms <= now_ms
        ]
        found.sort(key=(lambda pair: int(pair[0])) if kind == LIST else (lambda pair: pair[0]))
        return [_as_proto(entry_id, entry, now_ms) for entry_id, entry in found[:limit]], len(found) > limit

    def sizes(self) -> Iterator[tuple[str, int, int, bool]]:
        """(name, entries, bytes of ids and values, persistent) of every memory that is not empty."""
        for name, memory in self._memories.items():
            count = len(memory.entries)
            if count:
                yield name, count, memory.bytes - count * _ENTRY_OVERHEAD, memory.persistent

    def require_version(self, expected: int) -> None:
        """Raises AmxError MEMORY_VERSION_MISMATCH unless the version is `expected`; 0 accepts any."""
        if expected and expected != self.version:
            raise AmxError(
                ABORTED,
                "MEMORY_VERSION_MISMATCH",
                f"the memory has version {self.version}, not {expected}: it changed since it was read;"
                " read it again and repeat the change",
                metadata={"version": str(self.version), "expected": str(expected)},
            )

    def apply(
        self,
        changes: Iterable[memory_pb2.MemoryChange],
        definitions: Mapping[str, MemorySpec],
        now_ms: int,
        namespace: str,
        agent: str,
        key: str,
        commit: Commit,
        limits: MemoryLimits = DEFAULT_LIMITS,
        message_id: str = "",
        blobs: ContentBlobs | None = None,
    ) -> None:
        """Applies `changes` in order and adds what they mean for the store to `commit`. message_id: see StoredVersion.

        blobs: gives large values that are known already as the object that all share, and says what may be kept.
        Raises AmxError INVALID_MEMORY_CHANGE, naming memory and entry, and CONTENT_QUOTA_EXCEEDED; then neither this
        object nor `commit` changed.
        """
        growth = large = 0
        threshold = blobs.threshold if blobs is not None else sys.maxsize
        checked: list[tuple[str, MemorySpec, str, bytes, int]] = []
        for change in changes:
            name = change.name
            spec = definitions.get(name)
            if spec is None:
                known = ", ".join(sorted(definitions)) or "none"
                raise _refused(name, "", f"the agent declares no memory '{name}' (it has: {known})")
            what = change.WhichOneof("change")
            if what == "put":
                put = change.put
                entry_id, value = put.id, put.value
                _check_put(spec, entry_id, value, limits)
                growth += _size(entry_id, value)
                if len(value) >= threshold:
                    large += len(value) if spec.persistent else 0
                checked.append((what, spec, entry_id, value, put.expires_in_ms))
            elif what == "remove":
                checked.append((what, spec, change.remove, b"", 0))
            elif what == "touch":
                checked.append((what, spec, change.touch, b"", 0))
            elif what == "clear":
                checked.append((what, spec, "", b"", 0))
            else:
                raise _refused(name, "", "it says neither put, remove, clear nor touch")
        if not checked:
            return
        if large and blobs is not None:
            blobs.require_room(namespace, agent, large)
        before = None
        if self.bytes + growth > limits.max_instance_bytes:  # may still fit, if it overwrites: only trying will tell
            copies = {name: memory.copy() for name, memory in self._memories.items()}
            before = copies, self._used, set(self._touched) if self._touched else None
        dirty: dict[tuple[str, str], bool] = {}  # persistent entries that changed, and whether they were stored before
        cleared: set[str] = set()
        self._own()
        if 0 < self._next_expiry_ms <= now_ms:
            self._expire(now_ms, dirty)
        for what, spec, entry_id, value, expires_in_ms in checked:
            memory = self._memories.get(spec.name)
            if memory is None:
                memory = self._memories[spec.name] = _Memory(spec.persistent)
            elif memory.shared:
                memory = self._memories[spec.name] = memory.copy()
            if memory.persistent != spec.persistent:
                _change_persistence(memory, spec, dirty, cleared)
            if what == "put":
                if len(value) >= threshold and blobs is not None:
                    value = blobs.shared(value)
                self._put(memory, spec, entry_id, value, expires_in_ms or spec.ttl_ms, now_ms, dirty)
            elif what == "remove":
                _remove(memory, spec.name, entry_id, dirty)
            elif what == "touch":
                self._touch(memory, spec, entry_id)
            else:
                if memory.entries and memory.persistent:
                    cleared.add(spec.name)
                memory.entries = {}
                memory.bytes = 0
        self._count_bytes()
        if before is not None and self.bytes > limits.max_instance_bytes:
            size = self.bytes
            self._memories, self._used, self._touched = before
            self._count_bytes()
            self._find_next_expiry(now_ms)
            raise _refused(
                checked[-1][1].name,
                checked[-1][2],
                f"the instance would remember {size} bytes, more than the {limits.max_instance_bytes} it may;"
                " remove entries, or declare max_entries or a time to live",
            )
        self.version += 1
        touches = len(commit.memory_touch)
        written = self._write(dirty, cleared, namespace, agent, key, commit, self.version)
        if written or len(commit.memory_touch) > touches:
            commit.memory_version += ((namespace, agent, key, self.version, now_ms, message_id, written),)

    def restore(
        self,
        past: InstanceMemory,
        definitions: Mapping[str, MemorySpec],
        now_ms: int,
        namespace: str,
        agent: str,
        key: str,
        commit: Commit,
        limits: MemoryLimits = DEFAULT_LIMITS,
        blobs: ContentBlobs | None = None,
    ) -> None:
        """Makes stored memories what they are in `past`, and adds what differs to `commit`, as one version.

        What has expired by now stays away, and memory that is not persistent stays as it is. Where nothing differs
        nothing changes. Raises AmxError INVALID_MEMORY_CHANGE if the instance would remember more than it may, and
        CONTENT_QUOTA_EXCEEDED; then neither this object nor `commit` changed.
        """
        memories: dict[str, _Memory] = {}
        for name, memory in self._memories.items():
            memories[name] = _Memory(memory.persistent) if memory.persistent else memory
        for name, memory in past._memories.items():
            spec = definitions.get(name)
            if spec is None or spec.persistent:
                memories[name] = memory.alive(now_ms)
        total = sum(memory.bytes for memory in memories.values())
        if total > limits.max_instance_bytes:
            raise _refused(
                next(iter(memories)),
                "",
                f"the instance would remember {total} bytes, more than the {limits.max_instance_bytes} it may;"
                " remove entries of memories that are not persistent, and restore again",
            )
        dirty: dict[tuple[str, str], bool] = {}
        touched: set[tuple[str, str]] = set()
        for name, memory in memories.items():
            before = self._memories.get(name)
            if memory is before:
                continue
            had = before.entries if before is not None else {}
            stored = before is not None and before.persistent
            for entry_id in {**had, **memory.entries}:
                old, new = had.get(entry_id) if stored else None, memory.entries.get(entry_id)
                if old is None or new is None or old[:2] != new[:2]:
                    dirty[name, entry_id] = stored and entry_id in had
                elif old.used != new.used:
                    touched.add((name, entry_id))
        if not dirty and not touched:
            return
        if blobs is not None:
            entries = [memories[name].entries.get(entry_id) for name, entry_id in dirty]
            large = sum(len(entry.value) for entry in entries if entry and len(entry.value) >= blobs.threshold)
            if large:
                blobs.require_room(namespace, agent, large)
        self._memories = memories
        self._shared = False
        self._used = max(self._used, past._used)
        self._touched = touched or None
        self._count_bytes()
        self._find_next_expiry(now_ms)
        self.version += 1
        written = self._write(dirty, set(), namespace, agent, key, commit, self.version)
        commit.memory_version += ((namespace, agent, key, self.version, now_ms, "", written),)

    def prune(self, now_ms: int, namespace: str, agent: str, key: str, commit: Commit | None) -> int:
        """Forgets what has expired and adds its removal to `commit`. Returns how many entries went.

        Without a commit only memories that are not stored are pruned.
        """
        if not 0 < self._next_expiry_ms <= now_ms:
            return 0
        dirty: dict[tuple[str, str], bool] = {}
        count = self._expire(now_ms, dirty, stored=commit is not None)
        self._count_bytes()
        if commit is not None:
            self._write(dirty, set(), namespace, agent, key, commit, self.version + 1)
        return count

    def store_touches(self, namespace: str, agent: str, key: str, commit: Commit) -> bool:
        """Adds to `commit` the order of use that only reads changed since the last commit. Returns whether any did.

        Reads alone never cause a commit; without this call before hibernation their order of use is forgotten.
        """
        if not self._touched:
            return False
        self._write({}, set(), namespace, agent, key, commit, self.version + 1)
        return True

    def _put(
        self,
        memory: _Memory,
        spec: MemorySpec,
        entry_id: str,
        value: bytes,
        lifetime_ms: int,
        now_ms: int,
        dirty: dict[tuple[str, str], bool],
    ) -> None:
        entries = memory.entries
        used = self._used = self._used + 1
        old = entries.get(entry_id)
        if old is None:
            memory.bytes += _size(entry_id, value)
        else:
            memory.bytes += len(value) - len(old.value)
            if spec.max_entries or 0 < old.expires_at_ms <= now_ms:
                del entries[entry_id]  # so that it goes to the end
            else:
                used = old.used  # like a dict: overwriting keeps the place
        expires_at_ms = now_ms + lifetime_ms if lifetime_ms else 0
        entries[entry_id] = Entry(value, expires_at_ms, used)
        if expires_at_ms:
            self._expires(expires_at_ms)
        if memory.persistent:
            dirty.setdefault((spec.name, entry_id), old is not None)
        if spec.max_entries:
            while len(memory.entries) > spec.max_entries:
                _remove(memory, spec.name, memory.front() if spec.kind == LIST else memory.oldest(), dirty)

    def _touch(self, memory: _Memory, spec: MemorySpec, entry_id: str) -> None:
        entry = memory.entries.pop(entry_id, None) if spec.max_entries else None
        if entry is None:
            return
        self._used += 1
        memory.entries[entry_id] = entry._replace(used=self._used)
        if memory.persistent:
            if self._touched is None:
                self._touched = set()
            self._touched.add((spec.name, entry_id))

    def _expires(self, at_ms: int) -> None:
        if not 0 < self._next_expiry_ms <= at_ms:
            self._next_expiry_ms = at_ms

    def _expire(self, now_ms: int, dirty: dict[tuple[str, str], bool], stored: bool = True) -> int:
        count = 0
        self._own()
        for name, memory in self._memories.items():
            if memory.persistent and not stored:
                continue
            dead = [i for i, entry in memory.entries.items() if 0 < entry.expires_at_ms <= now_ms]
            if dead and memory.shared:
                memory = self._memories[name] = memory.copy()
            for entry_id in dead:
                _remove(memory, name, entry_id, dirty)
            count += len(dead)
        self._find_next_expiry(now_ms)
        return count

    def _find_next_expiry(self, now_ms: int) -> None:
        times = (e.expires_at_ms for memory in self._memories.values() for e in memory.entries.values())
        soonest = min(filter(None, times), default=0)
        self._next_expiry_ms = max(soonest, now_ms + _PRUNE_INTERVAL_MS) if soonest else 0

    def _count_bytes(self) -> None:
        total = stored = 0
        for memory in self._memories.values():
            total += memory.bytes
            if memory.persistent:
                stored += memory.bytes
        self.bytes = total
        self.stored_bytes = stored

    def _write(
        self,
        dirty: dict[tuple[str, str], bool],
        cleared: set[str],
        namespace: str,
        agent: str,
        key: str,
        commit: Commit,
        gone_from: int,
    ) -> int:
        """Adds the present state of what changed to `commit`; of several changes to one entry only the outcome.

        Returns how many entries or memories that writes or removes. gone_from: version without what is removed.
        """
        owner = (namespace, agent, key)
        if self._touched:
            for name, entry_id in self._touched:
                if (name, entry_id) not in dirty and name not in cleared:
                    used = self._memories[name].entries[entry_id].used
                    commit.memory_touch += ((*owner, name, entry_id, used),)
            self._touched = None
        removed: set[tuple[str, str]] = set()
        for name in cleared:
            commit.memory_clear += ((*owner, name, gone_from),)
        version = self.version
        puts: list[tuple[str, str, str, MemoryRow]] = []
        for (name, entry_id), was_stored in dirty.items():
            memory = self._memories[name]
            entry = memory.entries.get(entry_id)
            if entry is not None and memory.persistent:
                row = MemoryRow(name, entry_id, entry.value, entry.expires_at_ms, version, entry.used)
                puts.append((namespace, agent, key, row))
            elif was_stored and name not in cleared:
                removed.add((name, entry_id))
        commit.memory_remove += tuple((*owner, name, entry_id, gone_from) for name, entry_id in removed)
        if commit.memory_put and (removed or cleared):
            # Rows are written after removals, so earlier ones of this commit would come back.
            commit.memory_put = tuple(
                put
                for put in commit.memory_put
                if put[:3] != owner or not (put[3].name in cleared or (put[3].name, put[3].entry) in removed)
            )
        commit.memory_put += tuple(puts)
        return len(puts) + len(removed) + len(cleared)


def _size(entry_id: str, value: bytes) -> int:
    return _ENTRY_OVERHEAD + len(value) + (len(entry_id) if entry_id.isascii() else len(entry_id.encode()))


def _as_proto(entry_id: str, entry: Entry, now_ms: int) -> memory_pb2.MemoryEntry:
    expires_in_ms = entry.expires_at_ms - now_ms if entry.expires_at_ms else 0
    return memory_pb2.MemoryEntry(id=entry_id, value=entry.value, expires_in_ms=expires_in_ms)


def _remove(memory: _Memory, name: str, entry_id: str, dirty: dict[tuple[str, str], bool]) -> None:
    entry = memory.entries.pop(entry_id, None)
    if entry is None:
        return
    memory.bytes -= _size(entry_id, entry.value)
    if memory.persistent:
        dirty.setdefault((name, entry_id), True)


def _change_persistence(
    memory: _Memory, spec: MemorySpec, dirty: dict[tuple[str, str], bool], cleared: set[str]
) -> None:
    """The definition changed: from now on everything in the memory is stored, or nothing."""
    memory.persistent = spec.persistent
    if spec.persistent:
        for entry_id in memory.entries:
            dirty.setdefault((spec.name, entry_id), False)
    else:
        cleared.add(spec.name)


def _check_put(spec: MemorySpec, entry_id: str, value: bytes, limits: MemoryLimits) -> None:
    kind = spec.kind
    if kind == VALUE:
        if entry_id:
            raise _refused(spec.name, entry_id, "it holds one value, whose entry id is empty")
    elif kind == LIST:
        if not _ORDINAL.fullmatch(entry_id):
            raise _refused(spec.name, entry_id, "it is a list, whose entry ids are decimal ordinals")
    else:
        if 4 * len(entry_id) > limits.max_id_bytes and len(entry_id.encode()) > limits.max_id_bytes:
            raise _refused(spec.name, entry_id, f"the entry id is longer than {limits.max_id_bytes} bytes")
        try:
            msgspec.json.decode(entry_id)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            what = "a map, whose entry ids are keys" if kind == MAP else "a set, whose entry ids are members"
            raise _refused(spec.name, entry_id, f"it is {what} as JSON text; {error}") from None
    if kind == SET:
        if value:
            raise _refused(spec.name, entry_id, "it is a set, whose entries have no value")
    elif not value:
        raise _refused(spec.name, entry_id, "the value is empty; a missing value is the JSON text null")
    elif len(value) > limits.max_value_bytes:
        raise _refused(
            spec.name, entry_id, f"the value has {len(value)} bytes, more than the {limits.max_value_bytes} it may"
        )


def _refused(name: str, entry_id: str, why: str) -> AmxError:
    shown = entry_id if len(entry_id) <= 64 else entry_id[:61] + "..."
    where = f"memory '{name}', entry '{shown}'" if entry_id else f"memory '{name}'"
    return invalid("INVALID_MEMORY_CHANGE", f"{where}: {why}", memory=name, entry=shown)
