"""What to do about a part of a segment that is no longer records: name what lay there, and save what can be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from amx_server.memory.content.contents import Contents, Damage
from amx_server.memory.content.entry import CHUNKED, NOWHERE, Entry, Location
from amx_server.memory.content.reading import Reader
from amx_server.memory.content.segment import Segment
from amx_server.memory.content.writing import Writer

_AT_ONCE: Final = 1000


class Repair:
    """Works from the index, which knows what should lie where."""

    def __init__(self, contents: Contents, reader: Reader, writer: Writer) -> None:
        self._contents = contents
        self._reader = reader
        self._writer = writer

    def range(self, segment: Segment, start: int, end: int, *, broken: bool = True) -> Iterator[None]:
        """Takes everything between two offsets out of use, in small steps.

        Objects that can still be read, and counts, go to disk again with the next flush; others are reported, and lost
        unless memory has a copy. broken: the records there are; otherwise they only have to go elsewhere.
        """
        contents = self._contents
        segment.damaged = segment.damaged or broken
        addresses = list(contents.index)
        for at in range(0, len(addresses), _AT_ONCE):
            for address in addresses[at : at + _AT_ONCE]:
                entry = contents.index.get(address)
                if entry is None:
                    continue
                where = Location.unpack(entry.cold)
                if entry.cold != NOWHERE and where.segment == segment.number and start <= where.offset < end:
                    self._object(segment, address, entry, broken)
                if entry.counted_in == segment.number:
                    with contents.lock:
                        contents.changed[address] = None
            yield
        with contents.lock:
            ledger = contents.ledger
            ledger.changed |= {owner for owner, at in ledger.counted_in.items() if at == segment.number}
            for codec in [codec for codec, at in contents.dictionaries_at.items() if at == segment.number]:
                contents.drop_dictionary(codec)  # written again with what needs it next
        for codec in list(contents.codec_users):
            if (
                contents.codec_users[codec] > 0
                and codec not in contents.dictionaries_at
                and contents.codec.knows(codec)
            ):
                self._writer.write_dictionary(codec)

    def _object(self, segment: Segment, address: bytes, entry: Entry, broken: bool) -> None:
        contents = self._contents
        location = entry.cold
        if entry.kind != CHUNKED:
            data = self._reader.check(address, entry, location)
            if data is None:
                return  # damaged: it was reported and, without a copy in memory, lost
            with contents.lock:
                if contents.index.get(address) is entry and address not in contents.hot:
                    contents.hot.add(address, data)
        with contents.lock:
            if contents.index.get(address) is not entry or entry.cold != location:
                return
            contents.displace(entry)
            contents.unsaved[address] = None
            if broken:
                where = f"{segment.path.name}, offset {Location.unpack(location).offset}"
                contents.damages.append(Damage(address, where, "its record is damaged", healed=True))
