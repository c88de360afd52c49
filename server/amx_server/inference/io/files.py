"""Files as agents read them: mapped into memory rather than read, lazily by the page, and once for everyone.

Read only. Confinement to folders is a guard against mistakes and careless paths; it is not a sandbox.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import stat
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blake3 import blake3

from amx_server.inference.io import errors
from amx_server.inference.io.flights import Call
from amx_server.inference.io.operations import Operation, Response, WaitReason, address
from amx_server.inference.io.providers import Provider

_ENTRY_BYTES = 500  # what a mapped file costs in memory that is not the page cache's


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells whether a file is still the one that was read. Times in nanoseconds."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """The identity in what the operating system says of a file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class FileContent:
    """A file as it was when it was read. Whoever reads the same file while it is unchanged gets the same object.

    view: all its bytes, read only, without a copy; valid as long as somebody holds it.
    """

    __slots__ = ("_address", "_map", "identity", "path", "view")

    def __init__(self, path: str, identity: FileIdentity, content: bytes | mmap.mmap) -> None:
        self.path = path
        self.identity = identity
        self.view = memoryview(content)
        self._map = content if isinstance(content, mmap.mmap) else None
        self._address: bytes | None = None

    def __len__(self) -> int:
        return self.identity.size

    @property
    def mapped(self) -> bool:
        """Whether `view` is the page cache itself. Such a file must be replaced to be changed, not cut off in place:
        reading a mapped page that no file is behind any more ends the process.
        """
        return self._map is not None

    def text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """A decoded copy. Raises UnicodeDecodeError."""
        return str(self.view, encoding, errors)

    def address(self) -> bytes:
        """BLAKE3 of the bytes; computed when first asked for, which reads the whole file."""
        if self._address is None:
            self._address = blake3(self.view).digest()
        return self._address

    def prefetch(self) -> None:
        """Asks the operating system to have the pages ready, so that reading them does not wait for the disk."""
        if self._map is not None and hasattr(mmap, "MADV_WILLNEED"):
            self._map.madvise(mmap.MADV_WILLNEED)


class Files(Provider):
    """Reads files; `read` makes the operations. The last ones read stay mapped, within bounds."""

    def __init__(
        self,
        name: str = "files",
        *,
        folders: Sequence[str | Path] | None = None,
        max_file_bytes: int = 1 << 30,
        map_above: int = 64 << 10,
        max_kept_bytes: int = 1 << 30,
        max_kept_files: int = 1024,
        threads: int = 4,
    ) -> None:
        """folders: only what lies below these may be read, symbolic links resolved; None: anything.
        map_above: smaller files are copied, which is cheaper and safe against being cut off in place.
        max_kept_bytes, max_kept_files: content kept for the next reader; mapped bytes are the page cache's own.
        """
        self.name = name
        self._folders = None if folders is None else [os.path.realpath(folder) for folder in folders]
        self._max_file_bytes = max_file_bytes
        self._map_above = map_above
        self._max_kept_bytes = max_kept_bytes
        self._max_kept_files = max_kept_files
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._kept: OrderedDict[str, FileContent] = OrderedDict()
        self.kept_bytes = 0
        self.hits = 0
        """Reads that found the file unchanged."""

    async def __aenter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=f"amx-{self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        self._kept.clear()
        self.kept_bytes = 0

    def read(self, path: str | Path, *, ttl: float = 0.0) -> Operation[FileContent, Any]:
        """Reads one file. ttl: seconds for which the operating system is not even asked whether it changed.

        Errors: FILE_NOT_FOUND, FILE_DENIED, FILE_UNREADABLE, FILE_TOO_LARGE.
        """
        absolute = os.path.abspath(path)
        return Operation(self.name, "file.read", absolute, WaitReason.FILE, address("file", absolute), ttl)

    async def perform(self, call: Call) -> Response[FileContent]:
        """See Provider."""
        path = call.operation.request
        if self._pool is None:
            raise RuntimeError(f"provider '{self.name}' was not entered")
        loop = asyncio.get_running_loop()
        content = await loop.run_in_executor(self._pool, self._open, path, self._kept.get(path))
        if self._kept.get(path) is content:
            self.hits += 1
            self._kept.move_to_end(path)
        else:
            self._keep(path, content)
        return Response(content, _ENTRY_BYTES if content.mapped else len(content) + _ENTRY_BYTES)

    def _open(self, path: str, known: FileContent | None) -> FileContent:
        """The file's content; `known` if the file is still that. Runs in a thread: a disk may be slow."""
        try:
            path_to_open = self._confined(path)
            # Without O_NONBLOCK opening a pipe would wait for its writer.
            descriptor = os.open(path_to_open, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
            try:
                status = os.fstat(descriptor)
                identity = FileIdentity.of(status)
                if known is not None and known.identity == identity:
                    return known
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(errno.EINVAL, "it is not a regular file")
                if identity.size > self._max_file_bytes:
                    raise errors.file_too_large(path, identity.size, self._max_file_bytes)
                return FileContent(path, identity, self._content(descriptor, identity.size))
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:  # ValueError: a path that cannot be one
            raise errors.file_unreadable(path, error) from error

    def _confined(self, path: str) -> str:
        if self._folders is None:
            return path
        resolved = os.path.realpath(path)
        if not any(os.path.commonpath((resolved, folder)) == folder for folder in self._folders):
            raise PermissionError(errno.EACCES, f"it is not below {' or '.join(self._folders)}")
        return resolved

    def _content(self, descriptor: int, size: int) -> bytes | mmap.mmap:
        if size > self._map_above:
            return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
        pieces: list[bytes] = []
        left = size
        while left and (piece := os.read(descriptor, left)):
            pieces.append(piece)
            left -= len(piece)
        if left:
            raise OSError(errno.EIO, f"it was cut off while it was read: {left} of {size} bytes are missing")
        return b"".join(pieces)

    def _keep(self, path: str, content: FileContent) -> None:
        before = self._kept.pop(path, None)
        if before is not None:
            self.kept_bytes -= len(before)
        if len(content) > self._max_kept_bytes or not self._max_kept_files:
            return
        self._kept[path] = content
        self.kept_bytes += len(content)
        while self.kept_bytes > self._max_kept_bytes or len(self._kept) > self._max_kept_files:
            self.kept_bytes -= len(self._kept.popitem(last=False)[1])
