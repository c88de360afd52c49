"""What changed in a memory since its last commit, and what it takes to undo that. Containers report here."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn, Protocol

from amx_engine._lifetimes import Expiry
from amx_engine._recency import Recency


class _Nothing(dict[Any, Any]):
    """An empty mapping. All memories that have not changed share one: most of them, most of the time."""

    def __setitem__(self, key: object, value: object) -> NoReturn:
        raise TypeError("nothing can be noted in the mapping that all unchanged memories share")


NOTHING: Final[dict[Any, Any]] = _Nothing()


class Entry:
    """One entry of a memory.

    log: where its changes are noted; None once it is gone for good. key: mapping key, set member or list ordinal.
    id: its id on the wire. top: the tracked container that is its value, if it is one. deadline: when it expires, on
    the memory's clock, or None. dead: removed since the last commit. encoded: what was last committed; kept for
    values that can change without telling.
    """

    __slots__ = ("dead", "deadline", "encoded", "id", "key", "log", "top")

    def __init__(self, log: ChangeLog, key: Any, id: str) -> None:
        self.log: ChangeLog | None = log
        self.key = key
        self.id = id
        self.top: Any = None
        self.deadline: float | None = None
        self.dead = False
        self.encoded: bytes | None = None

    def before_change(self) -> None:
        """To be called before anything inside the value changes."""
        if self.log is not None:
            self.log.before_nested_change(self)


class Owner(Protocol):
    """Has the memories of one instance."""

    def note_change(self) -> None:
        """One of them has changed."""
        ...


class ChangeLog:
    """The changes of one memory.

    dirty: entries to write. removed: ids to remove. cleared: everything was removed, before what `removed` and `dirty`
    say. saved: value and deadline that changed entries had at the last commit. gone: entries removed since. initial:
    entries of the initial value that were never committed. suspects: entries that were handed out and whose values can
    change without telling. recency: order of use, where the least recently used go first. expiring: entries with a
    deadline; None: none ever had one. What is empty is NOTHING, or replaced before something is put into it.
    """

    __slots__ = (
        "_clock",
        "_owner",
        "_ttl",
        "active",
        "cleared",
        "dirty",
        "expiring",
        "gone",
        "initial",
        "recency",
        "removed",
        "saved",
        "suspects",
    )

    def __init__(
        self,
        owner: Owner,
        clock: Callable[[], float],
        ttl: float | None,
        recency: Recency | None = None,
    ) -> None:
        """owner: told when there is something to commit where there was nothing."""
        self._owner = owner
        self._clock = clock
        self._ttl = ttl
        self.initial: dict[Entry, None] = NOTHING
        self.recency = recency
        self.expiring: Expiry | None = None
        self.active = False
        self.cleared = False
        self.dirty: dict[Entry, None] = NOTHING
        self.removed: dict[str, None] = NOTHING
        self.gone: dict[Entry, None] = NOTHING
        self.saved: dict[Entry, tuple[Any, float | None]] = NOTHING
        self.suspects: dict[Entry, None] = NOTHING

    def reset(self) -> None:
        """Everything is committed, or undone."""
        self.active = False
        self.cleared = False
        self.dirty = self.removed = self.gone = self.saved = self.suspects = NOTHING

    def undone(self, alive: set[Entry]) -> None:
        """Everything since the last commit is undone; these entries are left."""
        self.reset()
        if self.recency is not None:
            self.recency.undo(alive)
        self.expect_only(alive)

    def expect_only(self, entries: Iterable[Entry]) -> None:
        """These are all entries there are; they expire at their deadlines."""
        if self.expiring is not None or any(entry.deadline is not None for entry in entries):
            self._expiry().expect_only(entries)

    def _expiry(self) -> Expiry:
        if self.expiring is None:
            self.expiring = Expiry()
        return self.expiring

    def _save(self, entry: Entry, value: Any) -> None:
        if self.saved is NOTHING:
            self.saved = {}
        self.saved[entry] = value, entry.deadline

    def activate(self) -> None:
        """There is something to commit."""
        if not self.active:
            self.active = True
            self._owner.note_change()

    def wrote(self, entry: Entry) -> None:
        """`entry` is new, or has a new value; it lives as long as the memory says."""
        if self.dirty is NOTHING:
            self.dirty = {}
        self.dirty[entry] = None
        if self._ttl is not None:
            self.lives_until(entry, self._clock() + self._ttl)
        elif entry.deadline is not None:
            entry.deadline = None
            self._expiry().discard(entry)
        if self.recency is not None:
            self.recency.use(entry)
        if not self.active:
            self.activate()

    def writes(self) -> dict[Entry, None]:
        """The entries to write."""
        if not self.initial:
            return self.dirty
        return {entry: None for entry in {**self.initial, **self.dirty} if not entry.dead}

    def lives_for(self, entry: Entry, seconds: float) -> None:
        """`entry`, which was just written, has a lifetime of its own."""
        self.lives_until(entry, self._clock() + seconds)

    def lives_until(self, entry: Entry, deadline: float) -> None:
        """`entry`, which was just written, expires at `deadline`."""
        entry.deadline = deadline
        self._expiry().expect(entry, deadline)

    def renews(self, entry: Entry) -> bool:
        """Whether writing the same value again would change the lifetime of `entry`."""
        return self._ttl is not None or entry.deadline is not None

    def replacing(self, entry: Entry, old: Any) -> None:
        """`entry` gets another value than `old`."""
        if entry not in self.saved:
            self._save(entry, old)
        self.wrote(entry)

    def took(self, entry: Entry, old: Any) -> None:
        """`entry` is removed; `old` was its value."""
        if entry not in self.saved:
            self._save(entry, old)
        entry.dead = True
        if self.gone is NOTHING:
            self.gone = {}
        self.gone[entry] = None
        self.dirty.pop(entry, None)
        self.suspects.pop(entry, None)
        if self.expiring is not None:
            self.expiring.discard(entry)
        if self.removed is NOTHING:
            self.removed = {}
        self.removed[entry.id] = None
        self.activate()

    def took_all(self) -> None:
        """Everything was removed, each entry by `took`."""
        self.cleared = True
        self.removed = NOTHING

    def before_nested_change(self, entry: Entry) -> None:
        """Something inside the value of `entry` is about to change."""
        top = entry.top
        if top is not None:
            saved = self.saved.get(entry)
            if saved is None:
                self._save(entry, plain_copy(top))
            elif saved[0] is top:  # replaced or removed earlier, and changed by who still holds it
                self.saved[entry] = (plain_copy(top), saved[1])
        if not entry.dead:
            deadline = entry.deadline
            self.wrote(entry)
            if deadline is not None and self._ttl is None:  # an entry with an end does not lose it by a detail
                self.lives_until(entry, deadline)

    def handed_out(self, entry: Entry) -> None:
        """The value of `entry`, which can change without telling, was read."""
        if self.suspects is NOTHING:
            self.suspects = {}
        self.suspects[entry] = None
        self.activate()

    def touched(self, entry: Entry) -> None:
        """`entry` was read, and is recently used by that."""
        if self.recency is not None:
            self.recency.use(entry)


def plain_copy(value: Any) -> Any:
    """A deep copy without tracking."""
    if isinstance(value, dict):
        return {key: plain_copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_copy(item) for item in value]
    if isinstance(value, set):
        return set(value)
    return copy.deepcopy(value)
