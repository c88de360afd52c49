"""What the exit codes of `amx` mean."""

from __future__ import annotations

from amx_server.core.errors import (
    DEADLINE_EXCEEDED,
    NOT_FOUND,
    PERMISSION_DENIED,
    RESOURCE_EXHAUSTED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    AmxError,
)

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
MISSING = 4
DENIED = 5
TIMED_OUT = 6
BUSY = 7
INTERRUPTED = 130

EXIT_CODES = {
    OK: "done",
    FAILED: "the engine or a handler answered with a failure",
    USAGE: "the command or the configuration is wrong",
    UNREACHABLE: "no engine could be reached",
    MISSING: "what was named does not exist",
    DENIED: "not permitted, or the token is missing or wrong",
    TIMED_OUT: "time ran out",
    BUSY: "a limit was reached or nobody serves it now; the same command may succeed later",
    INTERRUPTED: "interrupted",
}

_BY_STATUS = {
    NOT_FOUND: MISSING,
    PERMISSION_DENIED: DENIED,
    UNAUTHENTICATED: DENIED,
    DEADLINE_EXCEEDED: TIMED_OUT,
    RESOURCE_EXHAUSTED: BUSY,
    UNAVAILABLE: BUSY,
}


def exit_code_of(error: AmxError) -> int:
    """The exit code for a failure that the engine answered with."""
    return _BY_STATUS.get(error.code, FAILED)
