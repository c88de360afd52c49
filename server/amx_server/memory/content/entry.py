"""What the index knows about one object, and how its place on disk is written as one number."""

from __future__ import annotations

from typing import Final, NamedTuple

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


class Entry:
    """One object. Changed under the store's lock; single fields may be read without it.

    size: plain bytes (of a node: of its body). weight: plain bytes with everything it links to, unshared.
    refs: durable references. parents: links to it from other objects. cold: its location on disk, packed.
    cycle: the collection during which it was last put. used: read from below the hot tier once already.
    counted_in: segment that holds the latest durable statement of `refs`; 0: none.
    """

    __slots__ = ("cold", "counted_in", "cycle", "kind", "links", "parents", "refs", "size", "used", "weight")

    def __init__(self, kind: int, size: int, weight: int, links: tuple[bytes, ...], cycle: int) -> None:
        self.kind = kind
        self.size = size
        self.weight = weight
        self.links = links
        self.refs = 0
        self.parents = 0
        self.cold = NOWHERE
        self.cycle = cycle
        self.used = False
        self.counted_in = 0
