"""One segment file: appended to by one writer, read by many through a memory map, never changed otherwise."""

from __future__ import annotations

import mmap
import os
import secrets
from pathlib import Path
from typing import Final

from amx_server.memory.content.records import SEGMENT_HEADER_BYTES, read_segment_header, segment_header

_SUFFIX: Final = ".segment"
_BINARY: Final = getattr(os, "O_BINARY", 0)
_sync_data = getattr(os, "fdatasync", os.fsync)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable. Raises OSError."""
    if os.name == "nt":
        return  # cannot be done, and need not
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def segment_files(folder: Path) -> list[Path]:
    """The segment files of a folder, oldest first."""
    return sorted(folder.glob("*" + _SUFFIX))


def _name(number: int) -> str:
    return f"{number:010d}{_SUFFIX}"


class Segment:
    """A file of records. size: its bytes. live: those of them that are still needed, kept by the store.

    synced: bytes known to be durable. damaged: holes were found, so it should be compacted. condemned: about to be
    removed, nothing may be said to lie here any more.

    """

    __slots__ = ("_descriptor", "_view", "condemned", "damaged", "live", "nonce", "number", "path", "size", "synced")

    def __init__(self, path: Path, number: int, nonce: int, size: int) -> None:
        self.path = path
        self.number = number
        self.nonce = nonce
        self.size = size
        self.synced = 0
        self.live = 0
        self.damaged = False
        self.condemned = False
        self._descriptor = -1
        self._view = memoryview(b"")

    @classmethod
    def create(cls, folder: Path, number: int) -> Segment:
        """A new, empty one, durable with its name. Raises OSError and leaves no file."""
        path = folder / _name(number)
        nonce = secrets.randbits(32)
        segment = cls(path, number, nonce, 0)
        segment._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
        try:
            segment.append(segment_header(number, nonce))
            segment.sync()
            sync_folder(folder)
        except BaseException:
            segment.close()
            path.unlink(missing_ok=True)
            raise
        return segment

    @classmethod
    def open(cls, path: Path) -> Segment | None:
        """An existing one; None: it is no segment, or its header is lost. Raises OSError."""
        with path.open("rb") as file:
            data = file.read(SEGMENT_HEADER_BYTES)
        header = read_segment_header(data)
        if header is None or len(data) < SEGMENT_HEADER_BYTES or path.name != _name(header[0]):
            return None
        return cls(path, *header, path.stat().st_size)

    def append(self, data: bytes) -> int:
        """Writes at the end and returns the offset. On OSError nothing was appended."""
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDWR | _BINARY)
        os.lseek(self._descriptor, self.size, os.SEEK_SET)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            try:
                os.ftruncate(self._descriptor, self.size)
            except OSError:
                pass  # what was written in part lies behind the end and will be overwritten, or found torn
            raise
        offset = self.size
        self.size += len(data)
        return offset

    def truncate(self, size: int) -> None:
        """Cuts off a torn tail, before anything was read or appended. Raises OSError."""
        self._view = memoryview(b"")
        os.truncate(self.path, size)
        self.size = size

    def view(self) -> memoryview:
        """Everything in it, mapped."""
        return self.read(0, self.size)

    def read(self, offset: int, length: int) -> memoryview:
        """A part, without copying. It stays readable for as long as it is held, even when the file is removed."""
        end = offset + length
        view = self._view
        if end > len(view):
            with self.path.open("rb") as file:
                view = self._view = memoryview(mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ))
        return view[offset:end]

    def sync(self) -> None:
        """Makes everything appended so far durable. Raises OSError."""
        size = self.size
        if size > self.synced:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_RDWR | _BINARY)
            _sync_data(self._descriptor)
            self.synced = size

    def close(self) -> None:
        """Ends writing. Reading goes on."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Deletes the file. What was read from it stays readable. Raises OSError."""
        self.close()
        self._view = memoryview(b"")
        self.path.unlink(missing_ok=True)
