"""The durability barrier: after `flush` everything retained before is on disk, with how often and by whom."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Final

from amx_server.memory.content.contents import Contents
from amx_server.memory.content.entry import CHUNKED, NOWHERE, Entry, Location
from amx_server.memory.content.log import SegmentLog
from amx_server.memory.content.options import Owner
from amx_server.memory.content.packing import Packer
from amx_server.memory.content.records import counts_records, owners_record, read_counts
from amx_server.memory.content.writing import Object, Writer

_BATCH_BYTES: Final = 1 << 20


class Saving:
    """One flush at a time; whoever comes meanwhile waits and finds most of its work done."""

    def __init__(self, contents: Contents, packer: Packer, writer: Writer) -> None:
        self._contents = contents
        self._packer = packer
        self._writer = writer
        self._lock = threading.Lock()

    def flush(self) -> None:
        """Objects first, then counts, then one fsync: after a crash no count is without its content.

        On AmxError (CONTENT_DISK_FULL, CONTENT_DISK_FAILED) nothing is promised, nothing is forgotten either: the next
        flush writes it all.
        """
        contents = self._contents
        log = contents.log
        if log is None:
            return
        with self._lock:
            with contents.lock:
                unsaved, contents.unsaved = contents.unsaved, {}
                changed, contents.changed = contents.changed, {}
                owners, contents.ledger.changed = contents.ledger.changed, set()
            try:
                self._write_objects(unsaved)
                self._write_owners(log, owners)
                self._write_counts(log, changed)
                log.sync()
            except BaseException:
                with contents.lock:
                    contents.unsaved = {**self._still_unsaved(unsaved), **contents.unsaved}
                    contents.changed = {**changed, **contents.changed}
                    contents.ledger.changed |= owners
                raise

    def _still_unsaved(self, unsaved: Iterable[bytes]) -> dict[bytes, None]:
        index = self._contents.index
        return {one: None for one in unsaved if (entry := index.get(one)) is not None and entry.cold == NOWHERE}

    def _write_objects(self, unsaved: Iterable[bytes]) -> None:
        batch: list[Object] = []
        size = 0
        for one in self._objects(unsaved):
            batch.append(one)
            size += len(one.packed.body)
            if size >= _BATCH_BYTES:
                self._writer.write(batch)
                batch, size = [], 0
        self._writer.write(batch)

    def _objects(self, unsaved: Iterable[bytes]) -> Iterator[Object]:
        for address in unsaved:
            entry = self._contents.index.get(address)
            if entry is None or entry.cold != NOWHERE:
                continue
            if self._packer.is_too_large(entry):
                self._packer.split(address, entry)
            if entry.kind == CHUNKED:
                for link in dict.fromkeys(entry.links):
                    piece = self._contents.index.get(link)
                    if piece is not None and piece.cold == NOWHERE:
                        yield from self._object(link, piece)
            yield from self._object(address, entry)

    def _object(self, address: bytes, entry: Entry) -> Iterator[Object]:
        packed = self._packer.packed(address, entry)
        if packed is not None:
            yield Object(address, entry, packed)
        elif entry.cold == NOWHERE and self._contents.index.get(address) is entry:
            raise AssertionError(f"content {address.hex()} is in no tier")

    def _write_counts(self, log: SegmentLog, changed: Iterable[bytes]) -> None:
        contents = self._contents
        counts = []
        for address in changed:
            entry = contents.index.get(address) or contents.lost.get(address)
            counts.append((address, entry.refs if entry is not None else 0))
        for record in counts_records(counts):
            (location,) = log.append([record], over_budget=True)
            segment = Location.unpack(location).segment
            with contents.lock:
                for address, _ in read_counts(memoryview(record.body)):
                    contents.count_in(address, segment)

    def _write_owners(self, log: SegmentLog, owners: set[Owner]) -> None:
        if not owners:
            return
        ledger = self._contents.ledger
        (location,) = log.append(
            [owners_record([(owner, ledger.held.get(owner, 0)) for owner in owners])], over_budget=True
        )
        for owner in owners:
            if owner in ledger.held:
                ledger.counted_in[owner] = Location.unpack(location).segment
            else:
                ledger.counted_in.pop(owner, None)
