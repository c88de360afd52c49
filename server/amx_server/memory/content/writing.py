"""Content to disk: packed objects as records, after the dictionaries they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from amx_server.memory.content.address import address_of
from amx_server.memory.content.codec import FIRST_DICTIONARY, Packed
from amx_server.memory.content.contents import Contents
from amx_server.memory.content.entry import Entry, Location
from amx_server.memory.content.records import DICTIONARY, HEADER_BYTES, Record


class Object(NamedTuple):
    """An object and what is to be written of it."""

    address: bytes
    entry: Entry
    packed: Packed


class Writer:
    """Appends objects to the log and notes where they lie. Any thread may call it."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    def write(self, objects: Sequence[Object], *, may_wait: bool = True, over_budget: bool = False) -> None:
        """All of them or none; not yet durable. Raises as SegmentLog.append does."""
        contents = self._contents
        log = contents.log
        if log is None or not objects:
            return
        for codec in {one.packed.codec for one in objects}:
            if codec >= FIRST_DICTIONARY and codec not in contents.dictionaries_at:
                self.write_dictionary(codec, over_budget=over_budget)
        records = [
            Record(
                entry.kind,
                address,
                packed.codec,
                entry.size,
                packed.body,
                entry.links,
                entry.weight if entry.links else 0,
            )
            for address, entry, packed in objects
        ]
        locations = log.append(records, may_wait=may_wait, over_budget=over_budget)
        with contents.lock:
            for one, location in zip(objects, locations, strict=True):
                contents.place(one.address, one.entry, location)

    def write_dictionary(self, codec: int, *, over_budget: bool = True) -> None:
        """Appends a dictionary and notes where it lies."""
        contents = self._contents
        if contents.log is None:
            return
        data = contents.codec.dictionary(codec)
        record = Record(DICTIONARY, address_of(data), codec, len(data), data)
        (location,) = contents.log.append([record], over_budget=over_budget)
        segment = contents.log.segments[Location.unpack(location).segment]
        with contents.lock:
            contents.dictionaries_at[codec] = segment.number
            segment.live += HEADER_BYTES + len(data)
