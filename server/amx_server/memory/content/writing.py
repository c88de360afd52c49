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
        self._write_dictionaries(objects, over_budget)
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
        late = []
        with contents.lock:
            for one, location in zip(objects, locations, strict=True):
                if not contents.place(one.address, one.entry, location):
                    late.append(one)
            late = [one for one in late if contents.index.get(one.address) is one.entry]
        if late:  # the segment was sealed and compacted in between
            self.write(late, may_wait=may_wait, over_budget=over_budget)
        self._write_dictionaries(objects, over_budget)  # one may have been dropped as unused in between

    def write_dictionary(self, codec: int, *, over_budget: bool = True) -> None:
        """Appends a dictionary and notes where it lies."""
        contents = self._contents
        if contents.log is None:
            return
        data = contents.codec.dictionary(codec)
        record = Record(DICTIONARY, address_of(data), codec, len(data), data)
        while True:
            (location,) = contents.log.append([record], over_budget=over_budget)
            number = Location.unpack(location).segment
            with contents.lock:
                if contents.keeps(number):
                    contents.drop_dictionary(codec)
                    contents.dictionaries_at[codec] = number
                    contents.log.segments[number].live += HEADER_BYTES + len(data)
                    return

    def _write_dictionaries(self, objects: Sequence[Object], over_budget: bool) -> None:
        for codec in {one.packed.codec for one in objects}:
            if codec >= FIRST_DICTIONARY and codec not in self._contents.dictionaries_at:
                self.write_dictionary(codec, over_budget=over_budget)
