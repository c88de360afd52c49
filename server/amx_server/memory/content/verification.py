"""Checking everything a store holds against its addresses: files, memory, links and references."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from amx_server.memory.content.address import address_of, node_address_of
from amx_server.memory.content.contents import Contents, Damage
from amx_server.memory.content.entry import NODE, Location
from amx_server.memory.content.log import SegmentLog
from amx_server.memory.content.reading import Reader
from amx_server.memory.content.records import OBJECTS, Hole, scan
from amx_server.memory.content.repair import Repair
from amx_server.memory.content.segment import Segment
from amx_server.memory.content.steps import Steps

_AT_ONCE: Final = 64


@dataclass(slots=True)
class Verified:
    """What was checked and found. missing: addresses that are referenced or linked to, and have no bytes."""

    objects: int = 0  # on disk
    in_memory: int = 0
    read_bytes: int = 0  # as it lies on disk, and plain in memory
    damages: list[Damage] = field(default_factory=list)
    missing: list[bytes] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.damages and not self.missing


def verification(contents: Contents, reader: Reader, repair: Repair) -> Steps[Verified]:
    """Reads everything once. Damage is taken out of use and, where a copy exists, healed by the next flush."""
    result = Verified()
    return Steps(_verify(contents, reader, repair, result), result)


def _verify(contents: Contents, reader: Reader, repair: Repair, result: Verified) -> Iterator[None]:
    log = contents.log
    contents.damages.clear()
    if log is not None:
        for segment in sorted([*log.segments.values()], key=lambda one: one.number):
            yield from _segment(contents, reader, repair, log, segment, result)
    yield from _memory(contents, result)
    for address in list(contents.index):
        entry = contents.index.get(address)
        if entry is not None and any(link in contents.lost for link in entry.links):
            result.missing += [link for link in entry.links if link in contents.lost]
    result.missing += [address for address, entry in list(contents.lost.items()) if entry.refs]
    result.missing = list(dict.fromkeys(result.missing))
    result.damages += contents.damages


def _segment(
    contents: Contents, reader: Reader, repair: Repair, log: SegmentLog, segment: Segment, result: Verified
) -> Iterator[None]:
    try:
        view = segment.view()
    except FileNotFoundError:
        return  # compacted meanwhile
    for found in scan(view, segment.nonce, payloads=False):
        if segment.number not in log.segments:
            return  # compacted meanwhile: what was needed of it lies in a segment that is still to come
        if isinstance(found, Hole):
            where = f"{segment.path.name}, offset {found.offset}"
            contents.damages.append(Damage(b"", where, f"{found.end - found.offset} bytes are no records"))
            yield from repair.range(segment, found.offset, found.end)
        elif found.kind in OBJECTS:
            entry = contents.index.get(found.address)
            location = Location(segment.number, found.payload, found.stored, found.codec).pack()
            if entry is not None and entry.cold == location:
                reader.is_whole(found.address, entry, location)
                result.objects += 1
                result.read_bytes += found.stored
        yield


def _memory(contents: Contents, result: Verified) -> Iterator[None]:
    for tier in (contents.hot, contents.warm):
        for address in [*tier.young, *tier.old]:
            hot = contents.hot.peek(address)
            packed = contents.warm.peek(address)
            entry = contents.index.get(address)
            if entry is None:
                continue
            if hot is None and packed is not None:
                hot = contents.codec.unpack(packed.codec, packed.body)
            if hot is not None:
                result.in_memory += 1
                result.read_bytes += len(hot)
                found = node_address_of(entry.links, hot) if entry.kind == NODE else address_of(hot)
                if found != address:
                    contents.damages.append(Damage(address, "memory", "its bytes do not have this address"))
            if not result.in_memory % _AT_ONCE:
                yield
