"""The memories themselves: a dict, list, set or single value whose entries are loaded, changed, committed and undone.

Reads are those of the plain containers, at their speed; only MemoryMap's and MemorySet's watched forms observe them,
where the least recently used entry goes first or where values can change without telling.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, ValuesView
from operator import index as as_index
from typing import Any, SupportsIndex

from amx_engine._changes import NOTHING, ChangeLog, Entry
from amx_engine._lifetimes import Lifetime, lifetime_ms
from amx_engine._tracked import Adoption, PlainCopies, adopt, is_tracked
from amx_engine._values import encode_canonical

_MISSING: Any = object()


class Codec:
    """How values of a memory are stored: `encode(value, place) -> bytes`, `decode(bytes, place) -> value`.

    opaque: values can change without telling. lists: tuples come back as lists.
    """

    opaque = False
    lists = True

    def encode(self, value: Any, pointer: str) -> bytes:
        raise NotImplementedError

    def decode(self, data: bytes, pointer: str) -> Any:
        raise NotImplementedError

    def key_id(self, key: Any) -> str:
        """Entry id of a mapping key or set member."""
        return encode_canonical(key)

    def key_of(self, id: str) -> Any:
        """Mapping key or set member of an entry id."""
        raise NotImplementedError


class Root:
    """What every memory offers to InstanceMemory. Mixed into the containers, which keep the state."""

    __slots__ = ()

    _log: ChangeLog
    _codec: Codec

    def entries(self) -> Iterable[Entry]:
        """Every entry."""
        raise NotImplementedError

    def value_of(self, entry: Entry) -> Any:
        """The value of a live entry."""
        raise NotImplementedError

    def keep(self, entry: Entry, value: Any) -> None:
        """Puts an adopted value in place, unnoticed."""
        raise NotImplementedError

    def undo_structure(self) -> None:
        """Brings back the entries there were at the last commit; their values follow."""
        raise NotImplementedError

    def forget(self, entry: Entry) -> None:
        """Drops an expired entry, unnoticed."""
        raise NotImplementedError

    def evict(self, limit: int) -> None:
        """Removes entries until `limit` are left, least recently used first."""
        raise NotImplementedError

    def load(self, items: Iterable[tuple[str, bytes, float | None]]) -> None:
        """Takes (id, value, deadline), least recently used first, into an empty memory."""
        raise NotImplementedError

    def assign(self, value: Any) -> None:
        """Makes the memory equal to `value`: what assigning to the attribute does."""
        raise NotImplementedError

    def expire(self, item: Any, ttl: Lifetime) -> None:
        """Gives the entry of a key, a member or an index (None for a value) a lifetime that starts now."""
        raise NotImplementedError

    def fill(self, value: Any) -> None:
        """Takes the initial value; stored with the first commit, and not a reason for one."""
        self.assign(value)
        log = self._log
        log.initial = dict(log.dirty)
        active = log.active
        log.reset()
        log.active = active
        self.settle(list(log.initial))

    def encode(self, pointer: str) -> list[tuple[Entry, bytes]]:
        """The entries to write, encoded. Changes nothing. Raises InvalidValue naming the entry."""
        log, codec = self._log, self._codec
        writes = log.writes()
        encoded = []
        for entry in writes:
            encoded.append((entry, codec.encode(self.value_of(entry), f"{pointer}[{entry.id}]")))
        for entry in log.suspects:
            if entry not in writes:
                data = codec.encode(self.value_of(entry), f"{pointer}[{entry.id}]")
                if data != entry.encoded:
                    encoded.append((entry, data))
        return encoded

    def commit(self, encoded: list[tuple[Entry, bytes]]) -> None:
        """What `encode` gave is on its way: it is the new ground for changes and undoing."""
        log = self._log
        if self._codec.opaque:
            for entry, data in encoded:
                entry.encoded = data
        self.settle([entry for entry, _ in encoded])
        for entry in log.gone:
            entry.log = None
            entry.top = None
        if log.recency is not None:
            log.recency.commit(log.gone)
        log.initial = NOTHING
        log.reset()

    def settle(self, written: list[Entry]) -> None:
        """Adopts the values of entries that were written."""
        free = {id(entry.top) for entry in self._log.gone if entry.top is not None}
        for entry in written:
            if entry.top is not None and self.value_of(entry) is not entry.top:
                free.add(id(entry.top))
                entry.top = None
        by = Adoption(free, self._codec.lists)
        for entry in written:
            value = self.value_of(entry)
            adopted = adopt(value, entry, by)
            if adopted is not value:
                self.keep(entry, adopted)
            entry.top = adopted if is_tracked(adopted) else None

    def rollback(self) -> None:
        """Undoes everything since the last commit."""
        log, codec = self._log, self._codec
        for entry in log.gone:
            entry.dead = False
        self.undo_structure()
        by = Adoption(set(), codec.lists)
        alive = set(self.entries())
        for entry in log.saved.keys() & alive:
            value, entry.deadline = log.saved[entry]
            value = adopt(value, entry, by)
            self.keep(entry, value)
            entry.top = value if is_tracked(value) else None
        for entry in log.suspects:
            if entry in alive and entry.encoded is not None:
                value = adopt(codec.decode(entry.encoded, ""), entry, by)
                self.keep(entry, value)
                entry.top = value if is_tracked(value) else None
        log.undone(alive)


class MemoryMap(Root, PlainCopies, dict[Any, Any]):
    """A memory that is a dict. Keys are anything with a JSON form; 1 and "1" are two keys."""

    __slots__ = ("_codec", "_entries", "_factory", "_log", "_undo")

    def __init__(self, log: ChangeLog, codec: Codec, factory: Callable[[], Any] | None = None) -> None:
        super().__init__()
        self._log = log
        self._codec = codec
        self._factory = factory
        self._entries: dict[Any, Entry] = {}
        # Key -> its entry at the last commit, None if it had none; for keys that came or went since.
        self._undo: dict[Any, Entry | None] = {}

    def __setitem__(self, key: Any, value: Any) -> None:
        entry = self._entries.get(key)
        if entry is None:
            entry = Entry(self._log, key, self._codec.key_id(key))
            self._entries[key] = entry
            self._undo.setdefault(key, None)
        else:
            self._log.replacing(entry, dict.__getitem__(self, key))
        self._log.removed.pop(entry.id, None)
        dict.__setitem__(self, key, value)
        self._log.wrote(entry)

    def put(self, key: Any, value: Any, *, ttl: Lifetime | None = None) -> None:
        """Sets an item. ttl: its own lifetime, from now on; None: what the memory says, as for `d[key] = value`.

        Raises InvalidInput if `ttl` is no positive length of time; nothing is set then.
        """
        millis = None if ttl is None else lifetime_ms(ttl)
        self[key] = value
        if millis is not None:
            self._log.lives_for(self._entries[key], millis / 1000)

    def expire(self, item: Any, ttl: Lifetime) -> None:
        self.put(item, dict.__getitem__(self, item), ttl=ttl)

    def __delitem__(self, key: Any) -> None:
        old = dict.pop(self, key)
        entry = self._entries.pop(key)
        self._undo.setdefault(key, entry)
        self._log.took(entry, old)

    def __missing__(self, key: Any) -> Any:
        if self._factory is None:
            raise KeyError(key)
        value = self._factory()
        self[key] = value
        return value

    def __ior__(self, other: Any) -> MemoryMap:  # type: ignore[misc]
        self.update(other)
        return self

    def clear(self) -> None:
        if not self:
            return
        for key in list(self):
            del self[key]
        if not self._log.initial:
            self._log.took_all()

    def pop(self, key: Any, *default: Any) -> Any:
        if key not in self._entries:
            return dict.pop(self, key, *default)
        value = dict.__getitem__(self, key)
        del self[key]
        return value

    def popitem(self) -> tuple[Any, Any]:
        if not self:
            raise KeyError("popitem(): dictionary is empty")
        key = next(reversed(self))
        return key, self.pop(key)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self._entries:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(iterable, value)

    def entries(self) -> Iterable[Entry]:
        return self._entries.values()

    def value_of(self, entry: Entry) -> Any:
        return dict.__getitem__(self, entry.key)

    def keep(self, entry: Entry, value: Any) -> None:
        dict.__setitem__(self, entry.key, value)

    def undo_structure(self) -> None:
        for key, entry in self._undo.items():
            if self._entries.get(key, _MISSING) is entry:
                continue
            dict.pop(self, key, None)
            self._entries.pop(key, None)
            if entry is not None:
                self._entries[entry.key] = entry
                dict.__setitem__(self, entry.key, self._log.saved[entry][0])
        self._undo.clear()

    def commit(self, encoded: list[tuple[Entry, bytes]]) -> None:
        super().commit(encoded)
        self._undo.clear()

    def forget(self, entry: Entry) -> None:
        dict.pop(self, entry.key)
        self._entries.pop(entry.key)
        entry.log = None

    def evict(self, limit: int) -> None:
        assert self._log.recency is not None
        for entry in self._log.recency.oldest(len(self) - limit):
            del self[entry.key]

    def load(self, items: Iterable[tuple[str, bytes, float | None]]) -> None:
        codec, log, entries = self._codec, self._log, self._entries
        for id, data, deadline in items:
            key = codec.key_of(id)
            entry = Entry(log, key, id)
            entry.deadline = deadline
            value = adopt(codec.decode(data, id), entry, Adoption(set(), codec.lists))
            if is_tracked(value):
                entry.top = value
            if codec.opaque:
                entry.encoded = data
            entries[key] = entry
            dict.__setitem__(self, key, value)

    def assign(self, value: Any) -> None:
        if value is self:
            return
        items = dict(value)
        kept = {key for key in items if self._holds(key)}
        for key in [key for key in self if key not in kept]:
            del self[key]
        self.update(items)

    def _holds(self, key: Any) -> bool:
        """Whether this very key is here: 1 and True are equal, but not the same."""
        entry = self._entries.get(key)
        return entry is not None and (entry.key is key or entry.id == self._codec.key_id(key))

    def fill(self, value: Any) -> None:
        super().fill(value)
        self._undo.clear()


class WatchedMap(MemoryMap):
    """A MemoryMap that notices reads. Its order stays that of insertion, as in any dict."""

    __slots__ = ()

    def _use(self, key: Any) -> None:
        entry = self._entries.get(key)
        if entry is None:
            return
        self._log.touched(entry)
        if self._codec.opaque:
            self._log.handed_out(entry)

    def __getitem__(self, key: Any) -> Any:
        self._use(key)
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self._use(key)
        return dict.get(self, key, default)

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        self._use_all()
        return dict.values(self)

    def items(self) -> ItemsView[Any, Any]:  # type: ignore[override]
        self._use_all()
        return dict.items(self)

    def _use_all(self) -> None:
        """A look at everything says nothing about recency, but hands every value out."""
        if self._codec.opaque:
            for entry in self._entries.values():
                self._log.handed_out(entry)


class MemorySet(Root, PlainCopies, set[Any]):
    """A memory that is a set. Members are anything hashable with a JSON form."""

    __slots__ = ("_codec", "_entries", "_log", "_undo")

    def __init__(self, log: ChangeLog, codec: Codec) -> None:
        super().__init__()
        self._log = log
        self._codec = codec
        self._entries: dict[Any, Entry] = {}
        self._undo: dict[Any, Entry | None] = {}

    def __repr__(self) -> str:
        return repr(set(self))

    def add(self, member: Any, *, ttl: Lifetime | None = None) -> None:
        """Adds a member. ttl: its own lifetime, from now on; None: what the memory says.

        Raises InvalidInput if `ttl` is no positive length of time; nothing is added then.
        """
        millis = None if ttl is None else lifetime_ms(ttl)
        entry = self._entries.get(member)
        if entry is None:
            entry = Entry(self._log, member, self._codec.key_id(member))
            set.add(self, member)
            self._entries[member] = entry
            self._undo.setdefault(member, None)
            self._log.removed.pop(entry.id, None)
            self._log.wrote(entry)
        elif millis is not None or self._log.renews(entry):
            self._log.replacing(entry, None)  # written again: its lifetime starts anew
        if millis is not None:
            self._log.lives_for(entry, millis / 1000)

    def expire(self, item: Any, ttl: Lifetime) -> None:
        if not set.__contains__(self, item):
            raise KeyError(item)
        self.add(item, ttl=ttl)

    def discard(self, member: Any) -> None:
        if member in self:
            self.remove(member)

    def remove(self, member: Any) -> None:
        set.remove(self, member)
        entry = self._entries.pop(member)
        self._undo.setdefault(member, entry)
        self._log.took(entry, None)

    def pop(self) -> Any:
        if not self:
            raise KeyError("pop from an empty set")
        member = next(iter(self))
        self.remove(member)
        return member

    def clear(self) -> None:
        if not self:
            return
        for member in list(self):
            self.remove(member)
        if not self._log.initial:
            self._log.took_all()

    def update(self, *others: Iterable[Any]) -> None:
        for other in others:
            for member in list(other):
                self.add(member)

    def intersection_update(self, *others: Iterable[Any]) -> None:
        self._become(set(self).intersection(*others))

    def difference_update(self, *others: Iterable[Any]) -> None:
        self._become(set(self).difference(*others))

    def symmetric_difference_update(self, other: Iterable[Any]) -> None:
        self._become(set(self).symmetric_difference(other))

    def __ior__(self, other: Any) -> MemorySet:  # type: ignore[misc]
        self.update(_a_set(other))
        return self

    def __iand__(self, other: Any) -> MemorySet:  # type: ignore[misc]
        self._become(set(self) & _a_set(other))
        return self

    def __isub__(self, other: Any) -> MemorySet:  # type: ignore[misc]
        self._become(set(self) - _a_set(other))
        return self

    def __ixor__(self, other: Any) -> MemorySet:  # type: ignore[misc]
        self._become(set(self) ^ _a_set(other))
        return self

    def _become(self, members: set[Any]) -> None:
        """Makes the set hold `members`; those it holds already are not written again."""
        kept = {member for member in members if self._holds(member)}
        for member in set(self) - kept:
            self.remove(member)
        for member in members - kept:
            self.add(member)

    def _holds(self, member: Any) -> bool:
        entry = self._entries.get(member)
        return entry is not None and (entry.key is member or entry.id == self._codec.key_id(member))

    def entries(self) -> Iterable[Entry]:
        return self._entries.values()

    def value_of(self, entry: Entry) -> Any:
        return None

    def keep(self, entry: Entry, value: Any) -> None:
        pass

    def encode(self, pointer: str) -> list[tuple[Entry, bytes]]:
        return [(entry, b"") for entry in self._log.writes()]

    def undo_structure(self) -> None:
        for member, entry in self._undo.items():
            if self._entries.get(member, _MISSING) is entry:
                continue
            set.discard(self, member)
            self._entries.pop(member, None)
            if entry is not None:
                self._entries[entry.key] = entry
                set.add(self, entry.key)
        self._undo.clear()

    def commit(self, encoded: list[tuple[Entry, bytes]]) -> None:
        super().commit(encoded)
        self._undo.clear()

    def forget(self, entry: Entry) -> None:
        set.discard(self, entry.key)
        self._entries.pop(entry.key)
        entry.log = None

    def evict(self, limit: int) -> None:
        assert self._log.recency is not None
        for entry in self._log.recency.oldest(len(self) - limit):
            self.remove(entry.key)

    def load(self, items: Iterable[tuple[str, bytes, float | None]]) -> None:
        for id, _, deadline in items:
            member = self._codec.key_of(id)
            entry = Entry(self._log, member, id)
            entry.deadline = deadline
            self._entries[member] = entry
            set.add(self, member)

    def assign(self, value: Any) -> None:
        members = set(value)
        self._become(members)
        self.update(members)

    def fill(self, value: Any) -> None:
        super().fill(value)
        self._undo.clear()


class WatchedSet(MemorySet):
    """A MemorySet in which looking for a member makes it recently used."""

    __slots__ = ()

    def __contains__(self, member: object) -> bool:
        if not set.__contains__(self, member):
            return False
        self._use(member)
        return True

    def add(self, member: Any, *, ttl: Lifetime | None = None) -> None:
        if set.__contains__(self, member):
            self._use(member)
        super().add(member, ttl=ttl)

    def _use(self, member: object) -> None:
        self._log.touched(self._entries[member])


class MemoryList(Root, PlainCopies, list[Any]):
    """A memory that is a list. Entries are numbered in order, with gaps, so that most changes touch few of them."""

    __slots__ = ("_base", "_codec", "_entries", "_log", "_snapshot")

    def __init__(self, log: ChangeLog, codec: Codec) -> None:
        super().__init__()
        self._log = log
        self._codec = codec
        self._entries: list[Entry] = []
        # The entries and values at the last commit; kept from the first change that is not an append on.
        self._snapshot: tuple[list[Entry], list[Any]] | None = None
        self._base = 0  # length at the last commit

    def append(self, value: Any, *, ttl: Lifetime | None = None) -> None:
        """Appends a value. ttl: its own lifetime, from now on; None: what the memory says.

        Raises InvalidInput if `ttl` is no positive length of time; nothing is appended then.
        """
        millis = None if ttl is None else lifetime_ms(ttl)
        entry = self._new_entry(self._entries[-1].key + 1 if self._entries else 0)
        self._entries.append(entry)
        list.append(self, value)
        self._log.wrote(entry)
        if millis is not None:
            self._log.lives_for(entry, millis / 1000)

    def expire(self, item: Any, ttl: Lifetime) -> None:
        at = as_index(item)
        millis = lifetime_ms(ttl)
        self[at] = list.__getitem__(self, at)
        self._log.lives_for(self._entries[at], millis / 1000)

    def extend(self, values: Iterable[Any]) -> None:
        for value in list(values):
            self.append(value)

    def __iadd__(self, values: Iterable[Any]) -> MemoryList:  # type: ignore[misc]
        self.extend(values)
        return self

    def __imul__(self, count: SupportsIndex) -> MemoryList:
        self._become(list(self) * count)
        return self

    def insert(self, index: SupportsIndex, value: Any) -> None:
        size = len(self)
        at = index.__index__()
        at = max(0, at + size) if at < 0 else min(at, size)
        if at == size:
            self.append(value)
            return
        self._before_structure()
        entry = self._new_entry(self._number_before(at))
        self._entries.insert(at, entry)
        list.insert(self, at, value)
        self._log.wrote(entry)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            items = list(self)
            items[index] = value
            self._become(items)
            return
        old = list.__getitem__(self, index)
        list.__setitem__(self, index, value)
        self._log.replacing(self._entries[index], old)

    def __delitem__(self, index: Any) -> None:
        gone = range(len(self))[index]  # raises IndexError as the list would
        for at in sorted([gone] if isinstance(gone, int) else gone, reverse=True):
            self._take(at)

    def pop(self, index: SupportsIndex = -1) -> Any:
        if not self:
            raise IndexError("pop from empty list")
        try:
            at = range(len(self))[index]
        except IndexError:
            raise IndexError("pop index out of range") from None
        return self._take(at)

    def remove(self, value: Any) -> None:
        self._take(self.index(value))

    def clear(self) -> None:
        if not self:
            return
        while self:
            self._take(len(self) - 1)
        if not self._log.initial:
            self._log.took_all()

    def reverse(self) -> None:
        self._reorder(list(range(len(self) - 1, -1, -1)))

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        by = list.__getitem__(self, slice(None))
        if key is not None:
            by = [key(item) for item in by]
        self._reorder(sorted(range(len(by)), key=by.__getitem__, reverse=reverse))

    def _reorder(self, order: list[int]) -> None:
        """Puts the values into this order; each takes the rest of its lifetime along."""
        deadlines = [self._entries[at].deadline for at in order]
        self._become([list.__getitem__(self, at) for at in order], deadlines)

    def _take(self, at: int) -> Any:
        self._before_structure()
        value = list.pop(self, at)
        self._log.took(self._entries.pop(at), value)
        return value

    def _become(self, items: list[Any], deadlines: list[float | None] | None = None) -> None:
        """Makes the list hold `items`, writing only the places that change.

        deadlines: of values that only move; without, what is written lives as long as the memory says.
        """
        for at, item in enumerate(items[: len(self)]):
            old, entry = list.__getitem__(self, at), self._entries[at]
            deadline = None if deadlines is None else deadlines[at]
            if old is not item or (deadlines is not None and deadline != entry.deadline):
                list.__setitem__(self, at, item)
                self._log.replacing(entry, old)
                if deadline is not None:
                    self._log.lives_until(entry, deadline)
        while len(self) > len(items):
            self._take(len(self) - 1)
        for item in items[len(self) :]:
            self.append(item)

    def _number_before(self, at: int) -> int:
        """A free number for a new entry before position `at`; entries after it move up if there is none."""
        if at == 0:
            return int(self._entries[0].key) - 1
        low, high = self._entries[at - 1].key, self._entries[at].key
        if high - low > 1:
            return int(low + (high - low) // 2)
        needed = low + 2
        position = at
        while position < len(self) and self._entries[position].key < needed:
            old = self._entries[position]
            value = list.__getitem__(self, position)
            moved = self._new_entry(needed)
            self._entries[position] = moved
            self._log.took(old, value)
            self._log.wrote(moved)
            if old.deadline is not None:
                self._log.lives_until(moved, old.deadline)
            needed += 1
            position += 1
        # A number given up above may be in use again.
        for entry in self._entries[at:position]:
            self._log.removed.pop(entry.id, None)
        return int(low + 1)

    def _new_entry(self, number: int) -> Entry:
        entry = Entry(self._log, number, str(number))
        self._log.removed.pop(entry.id, None)
        return entry

    def _before_structure(self) -> None:
        if self._snapshot is None:
            values = list.__getitem__(self, slice(0, self._base))
            self._snapshot = (self._entries[: self._base], values)

    def entries(self) -> Iterable[Entry]:
        return self._entries

    def value_of(self, entry: Entry) -> Any:
        return list.__getitem__(self, self._position(entry))

    def keep(self, entry: Entry, value: Any) -> None:
        list.__setitem__(self, self._position(entry), value)

    def _position(self, entry: Entry) -> int:
        """Where a live entry is: numbers rise along the list, so it is found by halving."""
        low, high = 0, len(self._entries)
        while low < high:
            middle = (low + high) // 2
            if self._entries[middle].key < entry.key:
                low = middle + 1
            else:
                high = middle
        return low

    def undo_structure(self) -> None:
        if self._snapshot is not None:
            self._entries, values = self._snapshot
            list.__setitem__(self, slice(None), values)
        else:
            del self._entries[self._base :]
            list.__delitem__(self, slice(self._base, None))
        self._snapshot = None

    def commit(self, encoded: list[tuple[Entry, bytes]]) -> None:
        super().commit(encoded)
        self._snapshot = None
        self._base = len(self)

    def forget(self, entry: Entry) -> None:
        at = self._position(entry)
        list.pop(self, at)
        self._entries.pop(at)
        entry.log = None
        self._base = len(self)

    def evict(self, limit: int) -> None:
        for _ in range(len(self) - limit):
            self._take(0)

    def load(self, items: Iterable[tuple[str, bytes, float | None]]) -> None:
        codec = self._codec
        loaded = []
        for id, data, deadline in items:
            entry = Entry(self._log, int(id), id)
            entry.deadline = deadline
            value = adopt(codec.decode(data, id), entry, Adoption(set(), codec.lists))
            if is_tracked(value):
                entry.top = value
            if codec.opaque:
                entry.encoded = data
            loaded.append((entry, value))
        loaded.sort(key=lambda pair: pair[0].key)
        self._entries = [entry for entry, _ in loaded]
        list.__setitem__(self, slice(None), [value for _, value in loaded])
        self._base = len(self)

    def assign(self, value: Any) -> None:
        if value is not self:
            self._become(list(value))

    def fill(self, value: Any) -> None:
        super().fill(value)
        self._snapshot = None
        self._base = len(self)


class WatchedList(MemoryList):
    """A MemoryList whose values can change without telling."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        value = list.__getitem__(self, index)
        entries = self._entries[index]
        for entry in entries if isinstance(entries, list) else [entries]:
            self._log.handed_out(entry)
        return value

    def __iter__(self) -> Iterator[Any]:
        for entry in self._entries:
            self._log.handed_out(entry)
        return list.__iter__(self)

    def __reversed__(self) -> Iterator[Any]:
        for entry in self._entries:
            self._log.handed_out(entry)
        return list.__reversed__(self)


class MemoryValue(Root):
    """A memory that is one value, read and assigned as an attribute."""

    __slots__ = ("_codec", "_entry", "_log", "_value", "_was_set")

    def __init__(self, log: ChangeLog, codec: Codec) -> None:
        self._log = log
        self._codec = codec
        self._entry = Entry(log, None, "")
        self._value: Any = None

    def get(self) -> Any:
        """The value."""
        if self._codec.opaque:
            self._log.handed_out(self._entry)
        return self._value

    def assign(self, value: Any) -> None:
        self._log.replacing(self._entry, self._value)
        self._value = value

    def expire(self, item: Any, ttl: Lifetime) -> None:
        millis = lifetime_ms(ttl)
        self._log.replacing(self._entry, self._value)
        self._log.lives_for(self._entry, millis / 1000)

    def fill(self, value: Any) -> None:
        # The initial value is what absence means; it is not stored.
        entry = self._entry
        self._value = adopt(value, entry, Adoption(set(), self._codec.lists))
        entry.top = self._value if is_tracked(self._value) else None
        entry.deadline = None
        if self._codec.opaque:
            entry.encoded = self._codec.encode(value, "")

    def entries(self) -> Iterable[Entry]:
        return (self._entry,)

    def value_of(self, entry: Entry) -> Any:
        return self._value

    def keep(self, entry: Entry, value: Any) -> None:
        self._value = value

    def undo_structure(self) -> None:
        pass

    def forget(self, entry: Entry) -> None:
        raise NotImplementedError("an expired value becomes the initial one")

    def evict(self, limit: int) -> None:
        pass

    def load(self, items: Iterable[tuple[str, bytes, float | None]]) -> None:
        for _, data, deadline in items:
            self.fill(self._codec.decode(data, ""))
            self._entry.deadline = deadline
            if self._codec.opaque:
                self._entry.encoded = data


def _a_set(value: Any) -> set[Any]:
    if not isinstance(value, (set, frozenset)):
        raise TypeError(f"unsupported operand type(s): 'set' and {type(value).__name__!r}")
    return set(value)
