"""SQLite's errors in the engine's words. Nothing here decides what happens next."""

from __future__ import annotations

import errno
from typing import Final

import apsw

from amx_server.core.errors import INTERNAL, RESOURCE_EXHAUSTED, UNAVAILABLE, AmxError

_NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def explain(error: Exception, path: str, system_errno: int = 0) -> AmxError:
    """The AmxError that tells what went wrong with the store at `path`. system_errno: of the failed call; 0: none."""
    if isinstance(error, AmxError):
        return error
    if isinstance(error, OSError):
        system_errno = error.errno or 0
    full = isinstance(error, apsw.FullError)
    if full or (isinstance(error, apsw.IOError | apsw.CantOpenError | OSError) and system_errno in _NO_SPACE):
        named = AmxError(
            RESOURCE_EXHAUSTED,
            "STORAGE_FULL",
            f"no space is left for the store {path}; what was acknowledged is safe. Free space on its volume, raise"
            " the quota or shorten the retention of ended messages; storing resumes by itself",
            retryable=True,
            retry_delay_ms=5000,
        )
    elif isinstance(error, apsw.CorruptError | apsw.NotADBError):
        named = _unavailable(
            f"{path} is damaged or not a SQLite database ({error}); stop the engine, keep a copy of the file and its"
            " -wal file, and restore the latest backup",
            retryable=False,
        )
    elif isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError | apsw.AuthError | PermissionError):
        named = _unavailable(
            f"{path} cannot be written ({error}); let the engine's user write the file and its folder", retryable=False
        )
    elif isinstance(error, apsw.BusyError | apsw.LockedError):
        named = _unavailable(
            f"another program holds a lock on {path} ({error}); close what has it open, a database browser perhaps",
            retryable=True,
        )
    elif isinstance(error, apsw.CantOpenError | OSError):
        named = _unavailable(
            f"{path} cannot be opened ({error}); check that the path names a file in a folder that can be written",
            retryable=False,
        )
    elif isinstance(error, apsw.IOError):
        named = _unavailable(
            f"reading or writing {path} failed ({error}, errno {system_errno}); check the volume", retryable=True
        )
    else:
        named = AmxError(
            INTERNAL,
            "STORAGE_REJECTED",
            f"{path} cannot hold this ({type(error).__name__}: {error}); nothing of it was stored."
            " This is a defect of the engine: please report it",
        )
    named.__cause__ = error
    return named


def _unavailable(message: str, *, retryable: bool) -> AmxError:
    delay_ms = 1000 if retryable else 0
    return AmxError(UNAVAILABLE, "STORAGE_UNAVAILABLE", message, retryable=retryable, retry_delay_ms=delay_ms)
