"""Giving space back: what is still needed of a segment is appended again, then its file goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from amx_server.memory.content.codec import FIRST_DICTIONARY, ZSTD, Packed
from amx_server.memory.content.contents import Contents
from amx_server.memory.content.dictionary import SAMPLE_BYTES
from amx_server.memory.content.entry import LEAF, Location
from amx_server.memory.content.log import SegmentLog
from amx_server.memory.content.reading import Reader
from amx_server.memory.content.records import (
    COUNTS,
    DICTIONARY,
    OBJECTS,
    OWNERS,
    Found,
    Hole,
    links_bytes,
    payload_is_whole,
    read_counts,
    read_owners,
    scan,
)
from amx_server.memory.content.repair import Repair
from amx_server.memory.content.saving import Saving
from amx_server.memory.content.segment import Segment
from amx_server.memory.content.steps import Steps
from amx_server.memory.content.writing import Object, Writer

DEAD_SHARE: Final = 0.5
"""A segment is compacted when this part of it is not needed: every live byte is then copied about once."""
_BATCH_BYTES: Final = 64 << 10


@dataclass(slots=True)
class Compacted:
    """What a compaction gave back."""

    segments: int = 0
    bytes: int = 0


class Compactor:
    """Compacts one segment at a time. A crash at any moment leaves the old copy, the new one, or both."""

    def __init__(self, contents: Contents, reader: Reader, writer: Writer, saving: Saving, repair: Repair) -> None:
        self._contents = contents
        self._reader = reader
        self._writer = writer
        self._saving = saving
        self._repair = repair
        self._under_way: set[int] = set()

    def due(self, log: SegmentLog) -> Segment | None:
        """The segment with most to give back, if that is enough to be worth it."""
        sealed = [segment for segment in list(log.segments.values()) if segment is not log.active]
        worst = max(sealed, key=_dead_share, default=None)
        return worst if worst is not None and _dead_share(worst) >= DEAD_SHARE else None

    def everything(self, dead_share: float) -> Steps[Compacted]:
        """Compacts every segment of which at least `dead_share` is not needed, the active one included."""
        result = Compacted()
        return Steps(self._everything(dead_share, result), result)

    def segment(self, victim: Segment) -> Steps[Compacted]:
        """Compacts one segment."""
        result = Compacted()
        log = self._contents.log
        return Steps(self._compact(log, victim, result) if log is not None else iter(()), result)

    def _everything(self, dead_share: float, result: Compacted) -> Iterator[None]:
        log = self._contents.log
        if log is None:
            return
        self._saving.flush()
        if _dead_share(log.active) >= dead_share:
            log.roll()
        for segment in sorted([*log.segments.values()], key=lambda one: one.number):
            if segment is not log.active and _dead_share(segment) >= dead_share:
                yield from self._compact(log, segment, result)

    def _compact(self, log: SegmentLog, victim: Segment, result: Compacted) -> Iterator[None]:
        with self._contents.lock:
            if victim.number in self._under_way or victim.number not in log.segments:
                return  # by another thread
            self._under_way.add(victim.number)
        try:
            yield from self._move(log, victim)
            log.remove(victim)
        finally:
            victim.condemned = False
            self._under_way.discard(victim.number)
        result.segments += 1
        result.bytes += victim.size

    def _move(self, log: SegmentLog, victim: Segment) -> Iterator[None]:
        oldest = victim.number == min(log.segments)
        batch: list[Object] = []
        size = 0
        for found in scan(victim.view(), victim.nonce, payloads=False):
            yield
            if isinstance(found, Hole):
                yield from self._repair.range(victim, found.offset, found.end)
                continue
            if found.kind in OBJECTS:
                moving = self._moving(victim, found)
                if moving is not None:
                    batch.append(moving)
                    size += found.stored
                if size >= _BATCH_BYTES:
                    self._writer.write(batch, over_budget=True)
                    batch, size = [], 0
            else:
                self._carry(victim, found, oldest)
        self._writer.write(batch, over_budget=True)
        yield
        with self._contents.lock:
            victim.condemned = True
        self._saving.flush()  # what was copied is durable before the copy it was made from goes
        if victim.live > 0 or victim.number in list(self._contents.ledger.counted_in.values()):
            # another thread wrote here, and noted it only after it was looked for
            yield from self._repair.range(victim, 0, victim.size, broken=False)
            self._saving.flush()

    def _moving(self, victim: Segment, found: Found) -> Object | None:
        """An object that still lies here, as it is to be written again; None: it is not needed, or damaged."""
        contents = self._contents
        location = Location(victim.number, found.payload, found.stored, found.codec).pack()
        entry = contents.index.get(found.address)
        if entry is None or entry.cold != location:
            return None
        view = victim.view()
        if not payload_is_whole(view, found):
            self._reader.is_whole(found.address, entry, location)
            return None
        packed = Packed(found.codec, bytes(view[found.payload + links_bytes(found.links) : found.end]))
        current = contents.codec.current
        older = FIRST_DICTIONARY <= found.codec < current
        if older or (found.codec == ZSTD and current != ZSTD and found.kind == LEAF and found.plain <= SAMPLE_BYTES):
            data = self._reader.check(found.address, entry, location)
            if data is None:
                return None
            packed = contents.codec.pack(data)
        return Object(found.address, entry, packed)

    def _carry(self, victim: Segment, found: Found, oldest: bool) -> None:
        """Notes what else this segment states that still counts, for the flush at the end.

        A count of zero counts as long as an older segment may state another.
        """
        contents = self._contents
        payload = victim.view()[found.payload : found.end]
        if found.kind == COUNTS:
            with contents.lock:
                for address, _ in read_counts(payload):
                    entry = contents.index.get(address) or contents.lost.get(address)
                    refs = entry.refs if entry is not None else 0
                    if (not refs and not oldest) or (entry is not None and entry.counted_in == victim.number):
                        contents.changed[address] = None
        elif found.kind == OWNERS:
            ledger = contents.ledger
            with contents.lock:
                for owner, _ in read_owners(payload):
                    held = owner in ledger.held
                    if (not held and not oldest) or ledger.counted_in.get(owner) == victim.number:
                        ledger.changed.add(owner)
        elif found.kind == DICTIONARY and contents.dictionaries_at.get(found.codec) == victim.number:
            with contents.lock:
                needed = contents.codec_users[found.codec] > 0 or found.codec == contents.codec.current
                if not needed:
                    contents.drop_dictionary(found.codec)
            if needed:
                self._writer.write_dictionary(found.codec)


def _dead_share(segment: Segment) -> float:
    if segment.damaged:
        return 1.0
    return 1 - segment.live / segment.size if segment.size else 0.0
