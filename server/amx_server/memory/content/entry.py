"""What the index knows about one object, and how its place on disk is written as one number."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

UNKNOWN: Final = 0  # referenced, and nothing of it was found
LEAF: Final = 1  # a value in one piece
CHUNKED: Final = 2  # a value in pieces: its links, in order
NODE: Final = 3  # links and a body

NOWHERE: Final = 0  # as a location: not on disk


class Location(NamedTuple):
    """A record's payload on disk. Kept as one int, which one assignment replaces: readers need no lock."""

    segment: int
    offset: int  # of the payload
    stored: int  # its bytes
    codec: int

    def pack(self) -> int:
        """As a number; never 0, because offsets are not."""
        return self.segment << 80 | self.offset << 48 | self.stored << 16 | self.codec

    @classmethod
    def unpack(cls, number: int) -> Location:
        """Of a number."""
        return cls(number >> 80, number >> 48 & 0xFFFFFFFF, number >> 16 & 0xFFFFFFFF, number & 0xFFFF)


_SIZE_BITS: Final = 32  # of an object alone; records have no more
_SIZE_MASK: Final = (1 << _SIZE_BITS) - 1


class Entry(msgspec.Struct, gc=False, eq=False):
    """One object. Changed under the store's lock; single fields may be read without it.

    There is one for every object, so it is small: without what the garbage collector needs (entries make no cycles),
    and with one object for each address, which is the index's key and what others link to.

    size: plain bytes (of a node: of its body). weight: plain bytes with everything it links to, unshared.
    refs: durable references. parents: links to it from other objects. cold: its location on disk, packed.
    cycle: the collection during which it was last put. used: read from below the hot tier once already.
    counted_in: segment that holds the latest durable statement of `refs`; 0: none.
    """

    address: bytes
    kind: int
    _sizes: int = 0  # size and weight as one number, which takes half of what two would
    cycle: int = 0
    refs: int = 0
    parents: int = 0
    cold: int = NOWHERE
    counted_in: int = 0
    used: bool = False
    _links: bytes | tuple[bytes, ...] = ()  # a single one without a tuple around it

    @classmethod
    def of(cls, address: bytes, kind: int, size: int, weight: int, cycle: int = 0) -> Entry:
        """Of an object that links to nothing yet."""
        return cls(address, kind, weight << _SIZE_BITS | size, cycle)

    @property
    def size(self) -> int:
        return self._sizes & _SIZE_MASK

    @property
    def weight(self) -> int:
        return self._sizes >> _SIZE_BITS

    def measured(self, size: int, weight: int) -> None:
        """Says what an unknown object's size and weight are."""
        self._sizes = weight << _SIZE_BITS | size

    @property
    def links(self) -> tuple[bytes, ...]:
        """Addresses of what it links to."""
        links = self._links
        return links if type(links) is tuple else (links,)  # type: ignore[return-value] # mypy does not narrow so

    @links.setter
    def links(self, links: tuple[bytes, ...]) -> None:
        self._links = links[0] if len(links) == 1 else links
