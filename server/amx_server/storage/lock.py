"""An exclusive lock on a store, held for as long as an engine has it open. The operating system frees it at a crash."""

from __future__ import annotations

import os
import sys

from amx_server.core.errors import FAILED_PRECONDITION, AmxError

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # past the text, which stays readable
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class StoreLock:
    """Held from construction to `release`. The lock is the open file, not its presence: the file stays behind.

    Raises AmxError STORAGE_UNAVAILABLE when another engine, in this process or another, holds it; OSError when the
    file cannot be made.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, store_path: str) -> None:
        path = store_path + ".lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(descriptor)
        except OSError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise AmxError(
                FAILED_PRECONDITION,
                "STORAGE_UNAVAILABLE",
                f"{store_path} is in use by another engine{f' (process {holder})' if holder else ''};"
                " stop that engine or give this one its own store",
                metadata={"holder": holder},
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Lets others in. May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
