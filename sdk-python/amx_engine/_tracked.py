"""dict, list and set that report before they change. Values inside the entries of a memory are made of these.

They are equal to, print as, copy to and pickle as the plain containers they stand for.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, SupportsIndex

from amx_engine._changes import Entry, plain_copy

_MISSING: Any = object()

_CONTAINERS = frozenset({dict, list, set, tuple})


class PlainCopies:
    """Copies and pickles are plain: they belong to no memory. Mixed into every tracked container."""

    __slots__ = ()

    def __copy__(self: Any) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(shallow(self), memo)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return _unpickled, (shallow(self),)


class TrackedDict(PlainCopies, dict[Any, Any]):
    """A dict inside an entry."""

    __slots__ = ("_entry",)

    _entry: Entry

    def __setitem__(self, key: Any, value: Any) -> None:
        self._entry.before_change()
        dict.__setitem__(self, key, value)

    def __delitem__(self, key: Any) -> None:
        self._entry.before_change()
        dict.__delitem__(self, key)

    def __ior__(self, other: Any) -> TrackedDict:  # type: ignore[misc]
        self._entry.before_change()
        dict.update(self, other)
        return self

    def clear(self) -> None:
        self._entry.before_change()
        dict.clear(self)

    def pop(self, key: Any, *default: Any) -> Any:
        self._entry.before_change()
        return dict.pop(self, key, *default)

    def popitem(self) -> tuple[Any, Any]:
        self._entry.before_change()
        return dict.popitem(self)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self._entry.before_change()
        return dict.setdefault(self, key, default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        self._entry.before_change()
        dict.update(self, *args, **kwargs)

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(iterable, value)


class TrackedList(PlainCopies, list[Any]):
    """A list inside an entry."""

    __slots__ = ("_entry",)

    _entry: Entry

    def __setitem__(self, index: Any, value: Any) -> None:
        self._entry.before_change()
        list.__setitem__(self, index, value)

    def __delitem__(self, index: Any) -> None:
        self._entry.before_change()
        list.__delitem__(self, index)

    def __iadd__(self, values: Iterable[Any]) -> TrackedList:  # type: ignore[misc]
        self._entry.before_change()
        list.extend(self, values)
        return self

    def __imul__(self, count: SupportsIndex) -> TrackedList:
        self._entry.before_change()
        list.__imul__(self, count)
        return self

    def append(self, value: Any) -> None:
        self._entry.before_change()
        list.append(self, value)

    def extend(self, values: Iterable[Any]) -> None:
        self._entry.before_change()
        list.extend(self, values)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        self._entry.before_change()
        list.insert(self, index, value)

    def pop(self, index: SupportsIndex = -1) -> Any:
        self._entry.before_change()
        return list.pop(self, index)

    def remove(self, value: Any) -> None:
        self._entry.before_change()
        list.remove(self, value)

    def clear(self) -> None:
        self._entry.before_change()
        list.clear(self)

    def reverse(self) -> None:
        self._entry.before_change()
        list.reverse(self)

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        self._entry.before_change()
        list.sort(self, key=key, reverse=reverse)


class TrackedSet(PlainCopies, set[Any]):
    """A set inside an entry."""

    __slots__ = ("_entry",)

    _entry: Entry

    def __repr__(self) -> str:
        return repr(set(self))

    def __ior__(self, other: Any) -> TrackedSet:  # type: ignore[misc]
        self._entry.before_change()
        set.__ior__(self, other)
        return self

    def __iand__(self, other: Any) -> TrackedSet:  # type: ignore[misc]
        self._entry.before_change()
        set.__iand__(self, other)
        return self

    def __isub__(self, other: Any) -> TrackedSet:  # type: ignore[misc]
        self._entry.before_change()
        set.__isub__(self, other)
        return self

    def __ixor__(self, other: Any) -> TrackedSet:  # type: ignore[misc]
        self._entry.before_change()
        set.__ixor__(self, other)
        return self

    def add(self, member: Any) -> None:
        self._entry.before_change()
        set.add(self, member)

    def discard(self, member: Any) -> None:
        self._entry.before_change()
        set.discard(self, member)

    def remove(self, member: Any) -> None:
        self._entry.before_change()
        set.remove(self, member)

    def pop(self) -> Any:
        self._entry.before_change()
        return set.pop(self)

    def clear(self) -> None:
        self._entry.before_change()
        set.clear(self)

    def update(self, *others: Iterable[Any]) -> None:
        self._entry.before_change()
        set.update(self, *others)

    def intersection_update(self, *others: Iterable[Any]) -> None:
        self._entry.before_change()
        set.intersection_update(self, *others)

    def difference_update(self, *others: Iterable[Any]) -> None:
        self._entry.before_change()
        set.difference_update(self, *others)

    def symmetric_difference_update(self, other: Iterable[Any]) -> None:
        self._entry.before_change()
        set.symmetric_difference_update(self, other)


class Adoption:
    """How values are taken over at a commit.

    free: identities of containers whose old entry gave them up; they are bound anew, while those that another entry
    still has are copied. lists: tuples become the lists they come back as.
    """

    __slots__ = ("free", "lists")

    def __init__(self, free: set[int], lists: bool) -> None:
        self.free = free
        self.lists = lists


def adopt(value: Any, entry: Entry, by: Adoption) -> Any:
    """`value` as it is kept in `entry` from now on: containers tracked and bound to it."""
    kind = type(value)
    if kind is dict:
        return _bound_dict({key: adopt(item, entry, by) for key, item in value.items()}, entry)
    if kind is list or (kind is tuple and by.lists):
        return _bound_list([adopt(item, entry, by) for item in value], entry)
    if kind is set:
        return _bound_set(value, entry)
    if kind is TrackedDict or kind is TrackedList or kind is TrackedSet:
        if value._entry is entry:
            return _readopt(value, entry, by)
        if id(value) in by.free:
            by.free.discard(id(value))
            return _readopt(value, entry, by)
        return adopt(plain_copy(value), entry, by)
    if isinstance(value, (dict, list, set)) and isinstance(value, PlainCopies):  # a whole memory put into another
        return adopt(plain_copy(value), entry, by)
    return value


def _readopt(value: Any, entry: Entry, by: Adoption) -> Any:
    old = value._entry
    value._entry = entry
    if type(value) is TrackedDict:
        for key, item in value.items():
            if type(item) in _CONTAINERS or isinstance(item, PlainCopies):
                dict.__setitem__(value, key, _child(item, old, entry, by))
    elif type(value) is TrackedList:
        for index, item in enumerate(value):
            if type(item) in _CONTAINERS or isinstance(item, PlainCopies):
                list.__setitem__(value, index, _child(item, old, entry, by))
    return value


def _child(item: Any, old: Entry, entry: Entry, by: Adoption) -> Any:
    if old is not entry and isinstance(item, PlainCopies) and getattr(item, "_entry", None) is old:
        return _readopt(item, entry, by)
    return adopt(item, entry, by)


def _bound_dict(items: dict[Any, Any], entry: Entry) -> TrackedDict:
    bound = TrackedDict(items)
    bound._entry = entry
    return bound


def _bound_list(items: list[Any], entry: Entry) -> TrackedList:
    bound = TrackedList(items)
    bound._entry = entry
    return bound


def _bound_set(items: set[Any], entry: Entry) -> TrackedSet:
    bound = TrackedSet(items)
    bound._entry = entry
    return bound


def is_tracked(value: Any) -> bool:
    """Whether changes inside `value` are noticed."""
    kind = type(value)
    return kind is TrackedDict or kind is TrackedList or kind is TrackedSet


def shallow(value: Any) -> Any:
    """The same members in a plain container."""
    if isinstance(value, dict):
        return dict(value)
    return list(value) if isinstance(value, list) else set(value)


def _unpickled(value: Any) -> Any:
    return value
