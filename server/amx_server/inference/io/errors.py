"""Every way in which an outbound operation can fail, as AmxError with a reason of its own.

One function for one reason. What a retry may do about each is decided in `retries`, not here.
"""

from __future__ import annotations

from math import ceil

from amx_server.core.errors import (
    ABORTED,
    DEADLINE_EXCEEDED,
    INTERNAL,
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    RESOURCE_EXHAUSTED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    AmxError,
    exhausted,
    invalid,
    not_found,
    unavailable,
)

# The provider says: not now. It has done nothing, so anything may be sent again.
RATE_LIMITED = "PROVIDER_RATE_LIMITED"
OVERLOADED = "PROVIDER_OVERLOADED"
UNREACHABLE = "PROVIDER_UNREACHABLE"

# It may have done something.
FAILED = "PROVIDER_FAILED"
TIMED_OUT = "PROVIDER_TIMEOUT"
INTERRUPTED = "STREAM_INTERRUPTED"
MALFORMED = "PROVIDER_MALFORMED"

NOT_STARTED = frozenset({RATE_LIMITED, OVERLOADED, UNREACHABLE})
"""Reasons after which the other side has not begun: even what must not happen twice may be repeated."""
THROTTLED = frozenset({RATE_LIMITED, OVERLOADED})
"""Reasons by which a provider asks for less."""

_EXCERPT = 500  # characters of a provider's own words


def closed() -> AmxError:
    """The I/O manager was left, or is being left."""
    return unavailable("IO_CLOSED", "the engine's I/O has stopped; ask again when the engine is running")


def unknown_provider(name: str, known: list[str]) -> AmxError:
    """Nothing is registered under that name."""
    there = f"there are: {', '.join(known)}" if known else "none is registered"
    return not_found("PROVIDER_UNKNOWN", f"no provider is called '{name}'; {there}", provider=name)


def provider_removed(name: str) -> AmxError:
    """The provider was taken away while the operation was under way."""
    return unavailable("PROVIDER_REMOVED", f"provider '{name}' was removed; ask another one", provider=name)


def queue_full(provider: str, waiting: int, retry_delay_s: float) -> AmxError:
    """As many operations wait for one provider as may."""
    return exhausted(
        "PROVIDER_QUEUE_FULL",
        f"{waiting} operations wait for provider '{provider}', as many as its policy allows (max_queued); try again"
        " later, or allow more",
        retry_delay_ms=max(1, ceil(retry_delay_s * 1000)),
        provider=provider,
    )


def waiters_full(waiting: int) -> AmxError:
    """As many agents wait as may."""
    return exhausted(
        "IO_WAITERS_FULL",
        f"{waiting} callers wait for outbound operations, as many as may (max_waiters); try again later",
        retry_delay_ms=1000,
    )


def buffers_full(held: int, limit: int) -> AmxError:
    """Parts of streams hold as much memory as they may."""
    return exhausted(
        "IO_BUFFERS_FULL",
        f"streams under way hold {held} bytes of {limit} (max_buffered_bytes); try again when some have ended",
        retry_delay_ms=1000,
    )


def deadline(provider: str, kind: str, seconds: float, doing: str) -> AmxError:
    """A caller's own time ran out. doing: what the operation was waiting for."""
    return AmxError(
        DEADLINE_EXCEEDED,
        "OPERATION_DEADLINE",
        f"{kind} by '{provider}' did not end within {seconds:g} s; it was {doing}. Allow more time, or ask for less",
        retryable=True,
        metadata={"provider": provider, "kind": kind, "doing": doing},
    )


def attempt_timeout(provider: str, kind: str, seconds: float) -> AmxError:
    """One attempt took longer than the provider's policy allows."""
    return AmxError(
        DEADLINE_EXCEEDED,
        TIMED_OUT,
        f"an attempt at {kind} by '{provider}' took longer than {seconds:g} s (attempt_timeout)",
        retryable=True,
        metadata={"provider": provider, "kind": kind},
    )


def idle_timeout(provider: str, what: str, seconds: float) -> AmxError:
    """A connection carried nothing for too long: a half-open connection looks like this."""
    return AmxError(
        DEADLINE_EXCEEDED,
        TIMED_OUT,
        f"provider '{provider}' sent nothing for {seconds:g} s during {what}; the connection was given up",
        retryable=True,
        metadata={"provider": provider},
    )


def unreachable(provider: str, address: str, why: str) -> AmxError:
    """No connection could be made: nothing was sent."""
    return unavailable(
        UNREACHABLE,
        f"provider '{provider}' at {address} cannot be reached: {why}; check its address and that it is running",
        provider=provider,
    )


def interrupted(provider: str, why: str) -> AmxError:
    """An answer ended in the middle."""
    return AmxError(
        UNAVAILABLE,
        INTERRUPTED,
        f"the answer of provider '{provider}' broke off: {why}; ask again for a whole one",
        retryable=True,
        metadata={"provider": provider},
    )


def lagging(provider: str, behind: int) -> AmxError:
    """One reader of a shared stream fell too far behind the others."""
    return AmxError(
        ABORTED,
        "STREAM_LAGGING",
        f"this reader of a stream of '{provider}' is {behind} bytes behind and was left behind; read faster, or ask"
        " again: the whole answer may be cached by then",
        retryable=True,
        metadata={"provider": provider},
    )


def too_large(provider: str, limit: int) -> AmxError:
    """An answer outgrew its bound."""
    return AmxError(
        RESOURCE_EXHAUSTED,
        "RESPONSE_TOO_LARGE",
        f"the answer of '{provider}' is larger than {limit} bytes (max_response_bytes); ask for less, or allow more",
        metadata={"provider": provider},
    )


def malformed(provider: str, why: str) -> AmxError:
    """The provider broke its own protocol."""
    return AmxError(
        INTERNAL,
        MALFORMED,
        f"the answer of provider '{provider}' is not what its interface promises: {why}",
        retryable=True,
        metadata={"provider": provider},
    )


def defect(provider: str, error: BaseException) -> AmxError:
    """The provider's code here raised something that is no AmxError."""
    return AmxError(
        INTERNAL,
        "PROVIDER_DEFECT",
        f"the code of provider '{provider}' raised {type(error).__name__}: {_excerpt(str(error))}",
        metadata={"provider": provider},
    )


def http_status(provider: str, status: int, body: str, retry_after_s: float | None) -> AmxError:
    """The error that an HTTP status stands for.

    429: PROVIDER_RATE_LIMITED. 503, 529: PROVIDER_OVERLOADED. 408, 5xx: PROVIDER_FAILED, which may be repeated.
    401: PROVIDER_UNAUTHENTICATED. 403: PROVIDER_DENIED. Others: PROVIDER_REJECTED.
    retry_after_s: what the answer asked for, if anything.
    """
    delay = 0 if retry_after_s is None else max(0, ceil(retry_after_s * 1000))
    metadata = {"provider": provider, "status": str(status)}
    words = f": {_excerpt(body)}" if body.strip() else ""
    if status == 429:
        return AmxError(
            RESOURCE_EXHAUSTED,
            RATE_LIMITED,
            f"provider '{provider}' limits its rate (429){words}",
            retryable=True,
            retry_delay_ms=delay,
            metadata=metadata,
        )
    if status in (503, 529):
        return AmxError(
            UNAVAILABLE,
            OVERLOADED,
            f"provider '{provider}' is overloaded ({status}){words}",
            retryable=True,
            retry_delay_ms=delay,
            metadata=metadata,
        )
    if status == 408 or status >= 500:
        return AmxError(
            UNAVAILABLE,
            FAILED,
            f"provider '{provider}' failed ({status}){words}",
            retryable=True,
            retry_delay_ms=delay,
            metadata=metadata,
        )
    if status == 401:
        return AmxError(
            UNAUTHENTICATED,
            "PROVIDER_UNAUTHENTICATED",
            f"provider '{provider}' does not accept the credentials (401); check its key{words}",
            metadata=metadata,
        )
    if status == 403:
        return AmxError(
            PERMISSION_DENIED,
            "PROVIDER_DENIED",
            f"provider '{provider}' refuses this to these credentials (403){words}",
            metadata=metadata,
        )
    return AmxError(
        INVALID_ARGUMENT,
        "PROVIDER_REJECTED",
        f"provider '{provider}' rejects the request ({status}){words}",
        metadata=metadata,
    )


def tool_timeout(tool: str, seconds: float, after: str) -> AmxError:
    """A tool took too long. after: what became of it."""
    return AmxError(
        DEADLINE_EXCEEDED,
        "TOOL_TIMEOUT",
        f"tool '{tool}' did not end within {seconds:g} s; {after}",
        metadata={"tool": tool},
    )


def tool_failed(tool: str, why: str) -> AmxError:
    """A tool raised, or its program ended with a failure."""
    return AmxError(INTERNAL, "TOOL_FAILED", f"tool '{tool}' failed: {_excerpt(why)}", metadata={"tool": tool})


def tool_unstartable(tool: str, why: str) -> AmxError:
    """A tool's program could not be started."""
    return invalid("TOOL_UNSTARTABLE", f"the program of tool '{tool}' cannot be started: {why}", tool=tool)


def tool_output_too_large(tool: str, limit: int) -> AmxError:
    """A tool's program wrote too much and was ended."""
    return AmxError(
        RESOURCE_EXHAUSTED,
        "TOOL_OUTPUT_TOO_LARGE",
        f"tool '{tool}' wrote more than {limit} bytes and was ended; let it write less, or allow more",
        metadata={"tool": tool},
    )


def tool_threads_full(tool: str, running: int, overdue: int) -> AmxError:
    """Every thread for blocking tools is taken."""
    return exhausted(
        "TOOL_THREADS_FULL",
        f"tool '{tool}' cannot run: {running} blocking tools run, as many as may, {overdue} of them past their time",
        retry_delay_ms=1000,
        tool=tool,
    )


def file_unreadable(path: str, error: OSError | ValueError) -> AmxError:
    """A file cannot be opened or read."""
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, FileNotFoundError):
        return not_found("FILE_NOT_FOUND", f"there is no file '{path}'", path=path)
    if isinstance(error, PermissionError):
        return AmxError(
            PERMISSION_DENIED, "FILE_DENIED", f"the engine may not read '{path}': {why}", metadata={"path": path}
        )
    return invalid("FILE_UNREADABLE", f"'{path}' cannot be read: {why}", path=path)


def file_too_large(path: str, size: int, limit: int) -> AmxError:
    """A file is larger than may be read at once."""
    return invalid(
        "FILE_TOO_LARGE", f"'{path}' has {size} bytes; at most {limit} may be read (max_file_bytes)", path=path
    )


def again(error: AmxError) -> AmxError:
    """The same error as an object of its own: each of many waiters raises one, with its own traceback."""
    copy = AmxError(
        error.code,
        error.reason,
        error.message,
        retryable=error.retryable,
        retry_delay_ms=error.retry_delay_ms,
        metadata=dict(error.metadata),
    )
    copy.__cause__ = error.__cause__
    return copy


def _excerpt(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…"
