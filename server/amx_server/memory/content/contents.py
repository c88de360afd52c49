"""The state that every part of the store works on, under one lock that is never held during input or output.

Lock order: the flush lock, then the log's locks, then this one. Nothing is called with it held that takes another.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from amx_server.memory.content.codec import FIRST_DICTIONARY, Codec, Packed
from amx_server.memory.content.dictionary import Trainer
from amx_server.memory.content.entry import CHUNKED, NOWHERE, UNKNOWN, Entry, Location
from amx_server.memory.content.errors import content_corrupted, content_not_found
from amx_server.memory.content.ledger import Ledger
from amx_server.memory.content.log import SegmentLog
from amx_server.memory.content.options import ContentOptions
from amx_server.memory.content.records import COUNT_BYTES, HEADER_BYTES
from amx_server.memory.content.tier import Tier

_DAMAGES_KEPT: Final = 1000


@dataclass(frozen=True, slots=True)
class Damage:
    """Something on disk that is not what it should be. address: empty where it cannot be told."""

    address: bytes
    where: str  # file and offset
    why: str
    healed: bool = False  # a copy in memory takes its place

    def __str__(self) -> str:
        name = f"content {self.address.hex()}" if self.address else "unknown content"
        return f"{name} at {self.where}: {self.why}{'; healed from memory' if self.healed else ''}"


class Contents:
    """The index, the tiers and what waits to be written. Fields are changed with `lock` held, and read without.

    lost: referenced content whose bytes are gone. idle: what nothing references or links to. pins: by how many holders
    of this process. unsaved: retained, with what it links to, and not yet on disk. changed: addresses whose count on
    disk is not the true one. cycle: number of the collection under way, or of the next.
    """

    def __init__(self, options: ContentOptions) -> None:
        self.options = options
        self.lock = threading.Lock()
        self.index: dict[bytes, Entry] = {}
        self.lost: dict[bytes, Entry] = {}
        self.idle: dict[bytes, None] = {}
        self.pins: dict[bytes, int] = {}
        self.unsaved: dict[bytes, None] = {}
        self.changed: dict[bytes, None] = {}
        self.hot: Tier[bytes] = Tier(options.hot_bytes, len)
        self.warm: Tier[Packed] = Tier(options.warm_bytes, _packed_size, attrgetter("plain_size"))
        self.codec = Codec(options.level)
        self.trainer = Trainer(options.dictionary_bytes, options.level)
        self.ledger = Ledger(options.quotas)
        self.log: SegmentLog | None = None
        self.cycle = 2
        self.plain_bytes = 0
        self.cold_plain_bytes = 0
        self.cold_objects = 0
        self.damages: deque[Damage] = deque(maxlen=_DAMAGES_KEPT)
        self.codec_users: Counter[int] = Counter()
        self.dictionaries_at: dict[int, int] = {}

    def entry(self, address: bytes) -> Entry:
        """The entry of present content. Raises AmxError CONTENT_NOT_FOUND or CONTENT_CORRUPTED."""
        entry = self.index.get(address)
        if entry is None:
            if address in self.lost:
                raise content_corrupted(address, "the store", "its bytes were found damaged or missing before")
            raise content_not_found(address)
        return entry

    def in_memory(self, address: bytes, entry: Entry) -> bool:
        """Whether the content can be read without the disk."""
        if address in self.hot or address in self.warm:
            return True
        return entry.kind == CHUNKED and all(
            (piece := self.index.get(link)) is not None and self.in_memory(link, piece) for link in entry.links
        )

    # --- with the lock held

    def insert(self, address: bytes, kind: int, size: int, weight: int, links: tuple[bytes, ...]) -> Entry:
        """An entry for new content, or again the one of lost content, with the references it has."""
        entry = self.lost.pop(address, None)
        if entry is None:
            entry = Entry.of(address, kind, size, weight, self.cycle)
            self.idle[address] = None
            if links:
                entry.links = self.adopt(links)
        else:
            if entry.kind == UNKNOWN:
                entry.kind = kind
                entry.measured(size, weight)
                if not entry.links:
                    entry.links = self.adopt(links)
            entry.cycle = self.cycle
            if entry.refs or entry.parents:
                self.unsaved[address] = None
            else:
                self.idle[address] = None
        self.index[entry.address] = entry
        self.plain_bytes += _own_bytes(entry)
        return entry

    def adopt(self, links: Iterable[bytes]) -> tuple[bytes, ...]:
        """Counts links to content, and returns them; content that is not there counts as lost."""
        adopted = []
        for link in links:
            child = self.index.get(link) or self.lost.get(link)
            if child is None:
                child = self.lost[link] = Entry(link, UNKNOWN)
            child.parents += 1
            self.idle.pop(link, None)
            adopted.append(child.address)
        return tuple(adopted)

    def orphan(self, links: Iterable[bytes]) -> list[bytes]:
        """Takes links to content back. Returns what nothing references any more."""
        freed = []
        for link in links:
            child = self.index.get(link) or self.lost.get(link)
            if child is not None:
                child.parents -= 1
                if not child.parents and not child.refs:
                    self.idle[link] = None
                    freed.append(link)
        return freed

    def recount(self, address: bytes) -> None:
        """Notes that the count on disk is not the true one any more."""
        if self.log is not None:
            self.changed[address] = None

    def save_soon(self, address: bytes, entry: Entry) -> None:
        """Notes that content and all it links to must be on disk after the next flush."""
        if self.log is None:
            return
        waiting = [(address, entry)]
        while waiting:
            address, entry = waiting.pop()
            if entry.cold == NOWHERE and address not in self.unsaved:
                self.unsaved[address] = None
                for link in entry.links:
                    child = self.index.get(link)
                    if child is not None:
                        waiting.append((link, child))

    def place(self, address: bytes, entry: Entry, location: int) -> bool:
        """Notes where content lies on disk now; False: the content, or the segment, is gone meanwhile."""
        if self.index.get(address) is not entry or not self.keeps(location >> 80):
            return False
        self.displace(entry)
        entry.cold = location
        self._count_place(entry, location, 1)
        return True

    def keeps(self, segment: int) -> bool:
        """Whether what was just written into a segment may be relied upon."""
        found = self.log.segments.get(segment) if self.log is not None else None
        return found is not None and not found.condemned

    def displace(self, entry: Entry) -> None:
        """Notes that content is not on disk any more."""
        if entry.cold != NOWHERE:
            self._count_place(entry, entry.cold, -1)
            entry.cold = NOWHERE

    def _count_place(self, entry: Entry, location: int, sign: int) -> None:
        where = Location.unpack(location)
        if self.log is not None and (segment := self.log.segments.get(where.segment)) is not None:
            segment.live += sign * (where.stored + HEADER_BYTES)
        if where.codec >= FIRST_DICTIONARY:
            self.codec_users[where.codec] += sign
        self.cold_plain_bytes += sign * _own_bytes(entry)
        self.cold_objects += sign

    def drop_dictionary(self, codec: int) -> None:
        """Notes that a dictionary is not on disk any more, or no longer where it was."""
        number = self.dictionaries_at.pop(codec, None)
        if number is not None and self.log is not None and (segment := self.log.segments.get(number)) is not None:
            segment.live -= HEADER_BYTES + len(self.codec.dictionary(codec))

    def count_in(self, address: bytes, segment: int) -> None:
        """Notes which segment holds the latest durable count of references."""
        entry = self.index.get(address) or self.lost.get(address)
        if entry is None or self.log is None:
            return
        if (old := self.log.segments.get(entry.counted_in)) is not None:
            old.live -= COUNT_BYTES
        entry.counted_in = segment if entry.refs else 0
        if entry.refs:
            self.log.segments[segment].live += COUNT_BYTES

    def discard(self, address: bytes, entry: Entry) -> list[bytes]:
        """Forgets content that nothing references. Returns what is thereby not referenced any more, either."""
        if self.index.pop(address, None) is not None:
            self.plain_bytes -= _own_bytes(entry)
            self.displace(entry)
        self.lost.pop(address, None)
        self.hot.discard(address)
        self.warm.discard(address)
        self.idle.pop(address, None)
        self.unsaved.pop(address, None)
        if entry.counted_in and self.log is not None:
            self.changed[address] = None  # a durable count must not outlive its content
            if (segment := self.log.segments.get(entry.counted_in)) is not None:
                segment.live -= COUNT_BYTES
        return self.orphan(entry.links)

    def lose(self, address: bytes, entry: Entry, damage: Damage) -> bool:
        """Notes that what is on disk is damaged. True: a copy in memory takes its place at the next flush."""
        self.displace(entry)
        healed = self.in_memory(address, entry)
        if healed:
            if entry.refs or entry.parents:
                self.unsaved[address] = None
        elif self.index.pop(address, None) is not None:
            self.plain_bytes -= _own_bytes(entry)
            self.idle.pop(address, None)
            self.unsaved.pop(address, None)
            if entry.refs or entry.parents:
                self.lost[address] = entry
            else:
                self.orphan(entry.links)
        self.damages.append(Damage(damage.address, damage.where, damage.why, healed))
        return healed


def _packed_size(packed: Packed) -> int:
    return len(packed.body)


def _own_bytes(entry: Entry) -> int:
    """Plain bytes of the object itself: a chunked value is its pieces, which count for themselves."""
    return 0 if entry.kind == CHUNKED else entry.size
