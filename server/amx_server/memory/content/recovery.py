"""Opening a store: its segments are read in order, torn tails cut off, damage named, and the index built again."""

from __future__ import annotations

import gc
from pathlib import Path

from amx_server.memory.content.address import address_of
from amx_server.memory.content.contents import Contents, Damage
from amx_server.memory.content.entry import CHUNKED, UNKNOWN, Entry, Location
from amx_server.memory.content.log import SegmentLog
from amx_server.memory.content.options import Owner
from amx_server.memory.content.quarantine import Quarantine
from amx_server.memory.content.records import (
    COUNTS,
    DICTIONARY,
    HEADER_BYTES,
    OBJECTS,
    OWNERS,
    SEGMENT_HEADER_BYTES,
    Found,
    Hole,
    read_counts,
    read_links,
    read_owners,
    scan,
)
from amx_server.memory.content.segment import Segment, segment_files, sync_folder


def recover(contents: Contents, folder: Path, quarantine: Quarantine) -> None:
    """Fills `contents` from the files in `folder`, and opens the log. Raises OSError where files cannot be read.

    Everything that was durable is there again. What cannot be read is in `contents.damages`, and in `contents.lost`
    where something references it.
    """
    collecting = gc.isenabled()
    gc.disable()  # what is built here makes no cycles, and there is much of it
    try:
        _recover(contents, folder, quarantine)
    finally:
        if collecting:
            gc.enable()


def _recover(contents: Contents, folder: Path, quarantine: Quarantine) -> None:
    segments = _open_segments(contents, folder, quarantine)
    options = contents.options
    counts: dict[bytes, tuple[int, int]] = {}
    owners: dict[Owner, tuple[int, int]] = {}
    names: dict[bytes, bytes] = {}
    unfinished = _unfinished(segments)
    for segment in segments:
        _Loading(contents, segment, counts, owners, names).load(may_be_torn=segment in unfinished)
    for segment in unfinished:
        segment.sync()  # what a killed process left unsynchronised is relied upon from here on
    for segment in unfinished[:-1]:
        segment.close()
    if unfinished:
        sync_folder(folder)
    contents.log = SegmentLog(folder, segments, segment_bytes=options.segment_bytes, cold_bytes=options.cold_bytes)
    _apply(contents, counts, owners)
    _link(contents)


def _open_segments(contents: Contents, folder: Path, quarantine: Quarantine) -> list[Segment]:
    segments = []
    files = segment_files(folder)
    for path in files:
        segment = Segment.open(path)
        if segment is not None:
            segments.append(segment)
        elif path == files[-1] and path.stat().st_size < SEGMENT_HEADER_BYTES:
            path.unlink()  # its creation was interrupted
        else:
            contents.damages.append(Damage(b"", path.name, "it has no readable header"))
            quarantine.keep_file(path)
    return sorted(segments, key=lambda segment: segment.number)


def _unfinished(segments: list[Segment]) -> list[Segment]:
    """Those that were perhaps appended to when the process ended: the last with records, and those created after it,
    for a segment is created while others still append to the one before.
    """
    used = [index for index, segment in enumerate(segments) if segment.size > SEGMENT_HEADER_BYTES]
    return segments[used[-1] if used else 0 :]


class _Loading:
    """Reads one segment into the index."""

    def __init__(
        self,
        contents: Contents,
        segment: Segment,
        counts: dict[bytes, tuple[int, int]],
        owners: dict[Owner, tuple[int, int]],
        names: dict[bytes, bytes],
    ) -> None:
        self._contents = contents
        self._names = names
        self._segment = segment
        self._view = segment.view()
        self._counts = counts
        self._owners = owners

    def load(self, *, may_be_torn: bool) -> None:
        segment = self._segment
        torn_at = 0
        for found in scan(self._view, segment.nonce, payloads=may_be_torn):
            if isinstance(found, Found):
                self._take(found)
            elif found.torn and may_be_torn:
                torn_at = found.offset
            else:
                self._report(found)
        if torn_at:
            self._view = memoryview(b"")
            segment.truncate(torn_at)

    def _report(self, hole: Hole) -> None:
        self._segment.damaged = True
        where = f"{self._segment.path.name}, offset {hole.offset}"
        self._contents.damages.append(Damage(b"", where, f"{hole.end - hole.offset} bytes are no records"))

    def _take(self, found: Found) -> None:
        contents, number = self._contents, self._segment.number
        payload = self._view[found.payload : found.end]
        if found.kind in OBJECTS:
            links, weight = read_links(payload, found.links)
            names = self._names  # each address is one object in memory, however many links there are to it
            links = tuple([names.setdefault(link, link) for link in links])
            entry = contents.index.get(found.address)
            if entry is None:
                address = names.setdefault(found.address, found.address)
                entry = contents.index[address] = Entry.of(address, found.kind, found.plain, weight or found.plain)
                if links:
                    entry.links = links
            elif found.kind == CHUNKED:
                entry.kind, entry.links = CHUNKED, links
            entry.cold = Location(number, found.payload, found.stored, found.codec).pack()
        elif found.kind == COUNTS:
            for address, count in read_counts(payload):
                self._counts[address] = (count, number)
        elif found.kind == OWNERS:
            for owner, size in read_owners(payload):
                self._owners[owner] = (size, number)
        elif found.kind == DICTIONARY:
            data = bytes(payload)
            if address_of(data) == found.address:
                contents.codec.add_dictionary(found.codec, data)
                contents.dictionaries_at[found.codec] = number


def _apply(contents: Contents, counts: dict[bytes, tuple[int, int]], owners: dict[Owner, tuple[int, int]]) -> None:
    for address, (count, segment) in counts.items():
        if count:
            entry = contents.index.get(address)
            if entry is None:
                entry = contents.lost[address] = Entry(address, UNKNOWN)
            entry.refs = count
            contents.count_in(address, segment)
    for owner, (size, segment) in owners.items():
        contents.ledger.set(owner, size)
        contents.ledger.counted_in[owner] = segment
    contents.ledger.changed.clear()


def _link(contents: Contents) -> None:
    """Counts what links to what, and where it lies."""
    _drop_broken_garbage(contents)
    log = contents.log
    for address, entry in contents.index.items():
        location, entry.cold = entry.cold, 0
        contents.place(address, entry, location)
        if entry.kind != CHUNKED:
            contents.plain_bytes += entry.size
        for link in entry.links:
            child = contents.index.get(link) or contents.lost.get(link)
            if child is None:
                child = contents.lost[link] = Entry(link, UNKNOWN)
            child.parents += 1
    for address, entry in contents.index.items():
        if not entry.refs and not entry.parents:
            contents.idle[address] = None
    if log is not None:
        for codec, number in contents.dictionaries_at.items():
            log.segments[number].live += HEADER_BYTES + len(contents.codec.dictionary(codec))
    for address in contents.lost:
        contents.damages.append(Damage(address, "the store", "it is referenced, and no segment has it"))


def _drop_broken_garbage(contents: Contents) -> None:
    """Forgets what was collected before and links to content that is gone since: it must not be taken for known."""
    index = contents.index
    linked = {address: entry for address, entry in index.items() if entry.links}
    held: set[bytes] | None = None
    while broken := [address for address, entry in linked.items() if any(link not in index for link in entry.links)]:
        held = _held(contents) if held is None else held
        for address in broken:
            del linked[address]
            if address not in held:
                del index[address]


def _held(contents: Contents) -> set[bytes]:
    """Everything that a reference leads to."""
    held: set[bytes] = set()
    waiting: list[bytes] = [address for address, entry in contents.index.items() if entry.refs]
    while waiting:
        address = waiting.pop()
        if address not in held:
            held.add(address)
            entry = contents.index.get(address)
            waiting.extend(entry.links if entry is not None else ())
    return held
