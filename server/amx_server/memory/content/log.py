"""The segments of a store: which one is appended to, when the next begins, and the durability barrier."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from amx_server.core.errors import AmxError
from amx_server.memory.content.entry import Location
from amx_server.memory.content.errors import disk_failed, disk_full
from amx_server.memory.content.records import HEADER_BYTES, Record, encode
from amx_server.memory.content.segment import Segment, sync_folder

_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_HARD_LIMIT: Final = 2  # a segment grows to this many times its size before an append waits for the next one


class SegmentLog:
    """Append-only. Any thread may call anything.

    A segment is durable before the next one is used: only the last with records can have a torn tail. After a failed
    fsync nobody knows what the disk holds, so nothing is appended or synchronised any more until the store is opened
    again.
    """

    def __init__(self, folder: Path, segments: Iterable[Segment], *, segment_bytes: int, cold_bytes: int) -> None:
        """Goes on with the last of `segments`. cold_bytes: what all files together may take; 0: without limit."""
        self.folder = folder
        self.segments: dict[int, Segment] = {segment.number: segment for segment in segments}
        self.size = sum(segment.size for segment in self.segments.values())
        self._segment_bytes = segment_bytes
        self._cold_bytes = cold_bytes
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._failure = ""
        self._next = max(self.segments, default=0) + 1
        self.active = self.segments[self._next - 1] if self.segments else self._create()

    def append(self, records: Sequence[Record], *, may_wait: bool = True, over_budget: bool = False) -> list[int]:
        """Writes records, all or none, not yet durable. Returns their packed locations.

        may_wait: beginning the next segment, with an fsync of the last, is acceptable. over_budget: is what frees
        space, or must not be refused. Raises AmxError CONTENT_DISK_FULL or CONTENT_DISK_FAILED.
        """
        size = self.active.size
        if size >= self._segment_bytes * (1 if may_wait else _HARD_LIMIT):
            self.roll()
        with self._lock:
            self._check()
            segment = self.active
            encoded = [encode(record, segment.nonce) for record in records]
            data = b"".join(encoded)
            if not over_budget and self._cold_bytes and self.size + len(data) > self._cold_bytes:
                why = f"{self.size} of the {self._cold_bytes} bytes that its budget allows are taken"
                raise disk_full(str(self.folder), why)
            try:
                offset = segment.append(data)
            except OSError as error:
                raise self._error(error) from error
            self.size += len(data)
        locations = []
        for record, raw in zip(records, encoded, strict=True):
            stored = len(raw) - HEADER_BYTES
            locations.append(Location(segment.number, offset + HEADER_BYTES, stored, record.codec).pack())
            offset += len(raw)
        return locations

    def read(self, location: Location) -> memoryview:
        """The payload at a location. Raises KeyError once its segment was removed."""
        try:
            return self.segments[location.segment].read(location.offset, location.stored)
        except FileNotFoundError:  # it is just being removed
            raise KeyError(location.segment) from None

    def sync(self) -> None:
        """Returns when everything appended before is durable. Raises AmxError CONTENT_DISK_FAILED."""
        with self._sync_lock:
            self._check()
            self._sync(self.active)

    def roll(self) -> None:
        """Begins the next segment, unless the active one is empty. Raises as `append` does."""
        with self._sync_lock:
            self._check()
            old = self.active
            self._sync(old)  # the bulk of it, while others append
            try:
                new = self._create()  # until it has records, recovery expects the end of the old one to be torn
            except OSError as error:
                raise self._error(error) from error
            with self._lock:
                self._sync(old)
                self.active = new
                old.close()

    def remove(self, segment: Segment) -> None:
        """Deletes a segment that nothing needs any more. Raises AmxError where the system refuses."""
        try:
            segment.remove()
            sync_folder(self.folder)
        except OSError as error:
            raise self._error(error) from error
        with self._lock:
            del self.segments[segment.number]
            self.size -= segment.size

    def close(self) -> None:
        """Ends writing; what was appended and not synchronised may not be durable."""
        self._failure = "it is closed"
        for segment in self.segments.values():
            segment.close()

    def _create(self) -> Segment:
        segment = Segment.create(self.folder, self._next)
        self.segments[segment.number] = segment
        self.size += segment.size
        self._next += 1
        return segment

    def _sync(self, segment: Segment) -> None:
        try:
            segment.sync()
        except OSError as error:
            self._failure = f"fsync of {segment.path.name}: {error.strerror or error}"
            raise disk_failed(str(self.folder), self._failure) from error

    def _check(self) -> None:
        if self._failure:
            raise disk_failed(str(self.folder), self._failure)

    def _error(self, error: OSError) -> AmxError:
        why = error.strerror or str(error)
        return (disk_full if error.errno in _FULL else disk_failed)(str(self.folder), why)
