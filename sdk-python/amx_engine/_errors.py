"""The exceptions of the SDK, and their translation to and from the wire's Failure.

A reason and a message survive every hop; causes become `__cause__` again on the other side.
"""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from amx.v1 import common_pb2

# google.rpc.Code numbers.
CANCELLED = 1
UNKNOWN = 2
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
ALREADY_EXISTS = 6
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
ABORTED = 10
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
UNAUTHENTICATED = 16

_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}")

# Bounds on what one exception may put on the wire.
_MAX_MESSAGE = 4096
_MAX_STACK = 16384
_MAX_CAUSES = 8
_MAX_METADATA = 32
_MAX_DETAILS = 65536  # bytes of all


class AmxError(Exception):
    """Something did not happen, and this is why.

    code: a google.rpc.Code number. reason: UPPER_SNAKE, stable across releases and languages. message: one sentence
    for a person. retryable: the same call may succeed later unchanged; retry_delay_ms advises when (0: no advice).
    metadata: facts for programs. details: values the application attached. cause: becomes `__cause__`. stack: stack
    trace of the process it came from, or "". source: where it failed (`engine`, or `agent/key#handler`), or "".
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        retryable: bool = False,
        retry_delay_ms: int = 0,
        metadata: Mapping[str, str] | None = None,
        details: Iterable[Any] = (),
        cause: BaseException | None = None,
        stack: str = "",
        source: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.retryable = retryable
        self.retry_delay_ms = retry_delay_ms
        self.metadata: dict[str, str] = dict(metadata) if metadata else {}
        self.details: list[Any] = list(details)
        self.stack = stack
        self.source = source
        if cause is not None:
            self.__cause__ = cause

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason}: {self.message})"


class HandlerError(AmxError):
    """Raised by a handler to fail its message with a reason of its own.

    `raise HandlerError("seat 4A is taken", reason="SEAT_TAKEN")` reaches the caller, in any language, with that reason
    and message. Not retried unless `retryable=True`. details: values with a JSON form for whoever catches it.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "HANDLER_FAILED",
        code: int = UNKNOWN,
        retryable: bool = False,
        retry_delay_ms: int = 0,
        metadata: Mapping[str, str] | None = None,
        details: Iterable[Any] = (),
    ) -> None:
        super().__init__(
            code,
            reason,
            message,
            retryable=retryable,
            retry_delay_ms=retry_delay_ms,
            metadata=metadata,
            details=details,
        )


class DefinitionError(AmxError):
    """A class cannot become an agent; the message names the culprit and the cure."""

    def __init__(self, message: str, *, reason: str = "INVALID_DEFINITION") -> None:
        super().__init__(INVALID_ARGUMENT, reason, message)


class InvalidInput(AmxError):
    """A value does not fit what a handler declares. `pointer` names the place, e.g. `order.items[2].price`."""

    def __init__(self, message: str, *, pointer: str = "", reason: str = "INVALID_INPUT") -> None:
        super().__init__(INVALID_ARGUMENT, reason, message, metadata={"field": pointer} if pointer else None)
        self.pointer = pointer


def failure_from_exception(exc: BaseException, source: str) -> common_pb2.Failure:
    """The failure that tells another process of `exc`.

    Exceptions with an UPPER_SNAKE `reason` keep it; others get HANDLER_FAILED, are retryable, and name their type in
    metadata["exception"]. Causes travel up to 8 deep; message and stack are cut to 4 KiB and 16 KiB; of the
    details those travel that have a JSON form and fit into 64 KiB together.
    """
    failure = common_pb2.Failure()
    seen: set[int] = set()
    current: BaseException | None = exc
    target = failure
    while current is not None:
        seen.add(id(current))
        _fill(target, current, source)
        cause = _cause_of(current)
        if cause is None or id(cause) in seen or len(seen) >= _MAX_CAUSES:
            break
        target = target.cause
        current = cause
    return failure


def error_from_failure(failure: common_pb2.Failure) -> AmxError:
    """The exception that `failure` describes, with `__cause__` rebuilt. Never raises."""
    chain: list[common_pb2.Failure] = [failure]
    while chain[-1].HasField("cause") and len(chain) < _MAX_CAUSES:
        chain.append(chain[-1].cause)
    error: AmxError | None = None
    for link in reversed(chain):
        error = AmxError(
            link.code or UNKNOWN,
            link.reason or "UNKNOWN",
            link.message,
            retryable=link.retryable,
            retry_delay_ms=link.retry_delay_ms,
            metadata=dict(link.metadata),
            details=[_detail(payload) for payload in link.details],
            cause=error,
            stack=link.stack_trace,
            source=link.source,
        )
    assert error is not None
    return error


def reason_of(exc: BaseException) -> str:
    """The UPPER_SNAKE reason `exc` travels under."""
    reason = getattr(exc, "reason", None)
    if isinstance(reason, str) and _REASON.fullmatch(reason):
        return reason
    return "CANCELLED" if isinstance(exc, asyncio.CancelledError) else "HANDLER_FAILED"


def _fill(target: common_pb2.Failure, exc: BaseException, source: str) -> None:
    reason = reason_of(exc)
    code = getattr(exc, "code", None)
    named = isinstance(getattr(exc, "reason", None), str) and reason == exc.reason  # type: ignore[attr-defined]
    if isinstance(code, int) and not isinstance(code, bool) and 0 < code <= 16:
        target.code = code
    else:
        target.code = CANCELLED if reason == "CANCELLED" else UNKNOWN
    target.reason = reason
    target.message = _text(str(exc) or type(exc).__name__, _MAX_MESSAGE)
    # An exception nobody classified may be a passing trouble: whether it is repeated is the retry policy's decision.
    retryable = getattr(exc, "retryable", None)
    target.retryable = retryable if isinstance(retryable, bool) else not named and reason == "HANDLER_FAILED"
    delay = getattr(exc, "retry_delay_ms", 0)
    if isinstance(delay, int) and 0 < delay < 2**63:
        target.retry_delay_ms = delay
    metadata: Any = getattr(exc, "metadata", None)
    if isinstance(metadata, Mapping):
        for name, value in list(metadata.items())[:_MAX_METADATA]:
            target.metadata[_text(str(name), 256)] = _text(str(value), 1024)
    if not isinstance(exc, AmxError):
        target.metadata["exception"] = _qualified(type(exc))
    elif exc.details:
        _fill_details(target, exc.details)
    target.source = _text(getattr(exc, "source", "") or source, 1024)
    target.stack_trace = _text(getattr(exc, "stack", "") or _stack(exc), _MAX_STACK, keep_end=True)


def _fill_details(target: common_pb2.Failure, details: Iterable[Any]) -> None:
    from amx_engine._message import encode_payload  # which needs this module

    room = _MAX_DETAILS
    for value in details:
        try:
            content_type, data = encode_payload(value)
        except AmxError:
            continue
        room -= len(data) + 16
        if room < 0:
            break
        target.details.add(content_type=content_type, data=data)


def _detail(payload: common_pb2.Payload) -> Any:
    from amx_engine._result import decode_reply

    try:
        return decode_reply(payload)
    except AmxError:
        return payload.data


def _cause_of(exc: BaseException) -> BaseException | None:
    if exc.__cause__ is not None:
        return exc.__cause__
    return None if exc.__suppress_context__ else exc.__context__


def _stack(exc: BaseException) -> str:
    return "".join(traceback.format_exception(type(exc), exc, exc.__traceback__, limit=-32, chain=False))


def _qualified(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _text(value: str, limit: int, *, keep_end: bool = False) -> str:
    """At most `limit` bytes of well-formed UTF-8, marked where something was cut."""
    data = value.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    if keep_end:
        return "[cut] " + data[len(data) - limit + 8 :].decode("utf-8", "ignore")
    return data[: limit - 8].decode("utf-8", "ignore") + " [cut]"
