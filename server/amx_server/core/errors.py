"""The one exception type that crosses layers, and the reasons it carries.

Every error names what was wrong, where, and what to do next; its reason is the same in every language.
"""

from __future__ import annotations

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


class AmxError(Exception):
    """Something did not happen, and this is why.

    code: a google.rpc.Code number. reason: UPPER_SNAKE, stable across releases. message: one sentence for a person.
    retryable: the same call may succeed later unchanged; retry_delay_ms advises when (0: no advice).
    metadata: facts for programs.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        retryable: bool = False,
        retry_delay_ms: int = 0,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.retryable = retryable
        self.retry_delay_ms = retry_delay_ms
        self.metadata = metadata or {}

    def to_failure(self, source: str = "engine") -> common_pb2.Failure:
        """The error as it travels."""
        return common_pb2.Failure(
            code=self.code,
            reason=self.reason,
            message=self.message,
            retryable=self.retryable,
            retry_delay_ms=self.retry_delay_ms,
            metadata=self.metadata,
            source=source,
        )

    @classmethod
    def from_failure(cls, failure: common_pb2.Failure) -> AmxError:
        """The error that `failure` describes."""
        return cls(
            failure.code or UNKNOWN,
            failure.reason or "UNKNOWN",
            failure.message,
            retryable=failure.retryable,
            retry_delay_ms=failure.retry_delay_ms,
            metadata=dict(failure.metadata),
        )


def invalid(reason: str, message: str, **metadata: str) -> AmxError:
    """The caller must change its request."""
    return AmxError(INVALID_ARGUMENT, reason, message, metadata=metadata)


def not_found(reason: str, message: str, **metadata: str) -> AmxError:
    """What was named does not exist."""
    return AmxError(NOT_FOUND, reason, message, metadata=metadata)


def exhausted(reason: str, message: str, *, retry_delay_ms: int, **metadata: str) -> AmxError:
    """A bound was reached; trying again after the delay may succeed."""
    return AmxError(
        RESOURCE_EXHAUSTED, reason, message, retryable=True, retry_delay_ms=retry_delay_ms, metadata=metadata
    )


def unavailable(reason: str, message: str, *, retry_delay_ms: int = 1000, **metadata: str) -> AmxError:
    """What is needed is not there now."""
    return AmxError(UNAVAILABLE, reason, message, retryable=True, retry_delay_ms=retry_delay_ms, metadata=metadata)


def denied(permission: str, what: str) -> AmxError:
    """The caller's identity lacks a permission."""
    return AmxError(
        PERMISSION_DENIED,
        "PERMISSION_DENIED",
        f"{what} needs the permission '{permission}', which this identity does not hold;"
        " add a role that grants it in security.tokens",
        metadata={"permission": permission},
    )
