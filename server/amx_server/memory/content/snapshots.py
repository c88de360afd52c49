"""A set of named values as one address: a Merkle map, which shares with its other versions all they have in common.

The map is a tree of nodes with up to 16 children, chosen by the hash of the name; up to 16 names lie in one leaf. Its
shape follows from its names alone: equal sets have equal addresses, however they came about. To snapshot a set is to
retain its address, to fork it is to go on from the same address; a change writes the few nodes on the way to it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from blake3 import blake3

from amx_server.core.errors import invalid
from amx_server.memory.content.references import Node
from amx_server.memory.content.store import ContentStore

_LEAF: Final = b"L"
_BRANCH: Final = b"B"
_LEAF_NAMES: Final = 16
_DEPTH: Final = 64  # nibbles of a hash; below, a leaf holds whatever is left
_NAME: Final = struct.Struct("<I")
_BITMAP: Final = struct.Struct("<cH")
_COUNT: Final = struct.Struct("<I")


class _Subtree(NamedTuple):
    address: bytes
    names: int


class _Change(NamedTuple):
    path: bytes  # the hash of the name
    name: str
    value: bytes | None


class Snapshots:
    """Reads and changes maps in a store. A map is named by the address of its root, and never changes itself.

    A map keeps its values from being collected: retain the map, not its values.
    """

    def __init__(self, store: ContentStore) -> None:
        self._store = store

    def create(self, values: Mapping[str, bytes] | None = None) -> bytes:
        """The address of a map of names to addresses. Raises as ContentStore.put_node."""
        return self.update(self._leaf({}).address, values or {})

    def update(self, root: bytes, changes: Mapping[str, bytes | None]) -> bytes:
        """The address of the map with these names set, or removed where the value is None. Absent ones may be removed.

        Costs the changed names and the nodes above them. Raises as ContentStore.put_node; INVALID_SNAPSHOT where
        `root` is no map.
        """
        listed = [_Change(blake3(name.encode()).digest(), name, value) for name, value in changes.items()]
        return self._apply(root, listed, 0).address if listed else root

    def get(self, root: bytes, name: str) -> bytes | None:
        """The address that a name stands for; None: it is not in the map."""
        path = blake3(name.encode()).digest()
        for depth in range(_DEPTH + 1):
            links, body = self._node(root)
            if body[:1] == _LEAF:
                break
            place = _children(body).get(_nibble(path, depth))
            if place is None:
                return None
            root = links[place[0]]
        return dict(zip(_names(body), links, strict=True)).get(name)

    def count(self, root: bytes) -> int:
        """How many names are in the map."""
        links, body = self._node(root)
        return len(links) if body[:1] == _LEAF else sum(count for _, count in _children(body).values())

    def items(self, root: bytes) -> Iterator[tuple[str, bytes]]:
        """Names and addresses, in no useful order, read as they are asked for."""
        links, body = self._node(root)
        if body[:1] == _LEAF:
            yield from zip(_names(body), links, strict=True)
        else:
            for link in links:
                yield from self.items(link)

    def difference(self, old: bytes, new: bytes) -> dict[str, tuple[bytes | None, bytes | None]]:
        """Names whose value differs, with the old and the new address; None: absent. What is shared is not read."""
        changed: dict[str, tuple[bytes | None, bytes | None]] = {}
        if old == new:
            return changed
        olds, news = self._node(old), self._node(new)
        if olds.body[:1] == news.body[:1] == _BRANCH:
            before, after = _children(olds.body), _children(news.body)
            for nibble in before.keys() | after.keys():
                was, now = before.get(nibble), after.get(nibble)
                if was is not None and now is not None:
                    changed |= self.difference(olds.links[was[0]], news.links[now[0]])
                elif was is not None:
                    changed |= {name: (value, None) for name, value in self.items(olds.links[was[0]])}
                elif now is not None:
                    changed |= {name: (None, value) for name, value in self.items(news.links[now[0]])}
            return changed
        was_all, now_all = dict(self.items(old)), dict(self.items(new))
        for name in was_all.keys() | now_all.keys():
            if was_all.get(name) != now_all.get(name):
                changed[name] = (was_all.get(name), now_all.get(name))
        return changed

    def _apply(self, root: bytes, changes: list[_Change], depth: int) -> _Subtree:
        links, body = self._node(root)
        if body[:1] == _LEAF:
            values = dict(zip(_names(body), links, strict=True))
            for change in changes:
                if change.value is None:
                    values.pop(change.name, None)
                else:
                    values[change.name] = change.value
            return self._build(values, depth)
        children = {nibble: _Subtree(links[place], count) for nibble, (place, count) in _children(body).items()}
        grouped: dict[int, list[_Change]] = {}
        for change in changes:
            grouped.setdefault(_nibble(change.path, depth), []).append(change)
        for nibble, group in grouped.items():
            child = children.get(nibble) or self._leaf({})
            changed = self._apply(child.address, group, depth + 1)
            if changed.names:
                children[nibble] = changed
            else:
                children.pop(nibble, None)
        if sum(child.names for child in children.values()) <= _LEAF_NAMES:
            return self._leaf({name: value for child in children.values() for name, value in self.items(child.address)})
        return self._branch(children)

    def _build(self, values: dict[str, bytes], depth: int) -> _Subtree:
        if len(values) <= _LEAF_NAMES or depth == _DEPTH:
            return self._leaf(values)
        groups: dict[int, dict[str, bytes]] = {}
        for name, value in values.items():
            groups.setdefault(_nibble(blake3(name.encode()).digest(), depth), {})[name] = value
        return self._branch({nibble: self._build(group, depth + 1) for nibble, group in groups.items()})

    def _leaf(self, values: dict[str, bytes]) -> _Subtree:
        names = sorted(values)
        body = bytearray(_LEAF)
        for name in names:
            encoded = name.encode()
            body += _NAME.pack(len(encoded)) + encoded
        return _Subtree(self._store.put_node([values[name] for name in names], body), len(names))

    def _branch(self, children: dict[int, _Subtree]) -> _Subtree:
        ordered = [children[nibble] for nibble in sorted(children)]
        body = _BITMAP.pack(_BRANCH, sum(1 << nibble for nibble in children))
        body += b"".join(_COUNT.pack(child.names) for child in ordered)
        address = self._store.put_node([child.address for child in ordered], body)
        return _Subtree(address, sum(child.names for child in ordered))

    def _node(self, address: bytes) -> Node:
        node = self._store.node(address)
        if node.body[:1] not in (_LEAF, _BRANCH):
            raise invalid("INVALID_SNAPSHOT", f"content {address.hex()} is no map; use what create and update returned")
        return node


def _nibble(path: bytes, depth: int) -> int:
    byte = path[depth // 2]
    return byte & 15 if depth % 2 else byte >> 4


def _names(body: bytes) -> list[str]:
    names = []
    offset = 1
    while offset < len(body):
        (length,) = _NAME.unpack_from(body, offset)
        offset += _NAME.size
        names.append(body[offset : offset + length].decode())
        offset += length
    return names


def _children(body: bytes) -> dict[int, tuple[int, int]]:
    """Of a branch: place among the links and count, by nibble."""
    _, bitmap = _BITMAP.unpack_from(body)
    nibbles = [nibble for nibble in range(16) if bitmap >> nibble & 1]
    return {
        nibble: (place, _COUNT.unpack_from(body, _BITMAP.size + _COUNT.size * place)[0])
        for place, nibble in enumerate(nibbles)
    }
