"""Failures as gRPC statuses, and back: google.rpc.Status with ErrorInfo (domain `amx`) and RetryInfo.

Servers abort with `status_of`; clients read what was meant with `error_of`. No call logic here.
"""

from __future__ import annotations

from typing import Any, Protocol, cast
from urllib.parse import quote

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from amx.v1 import common_pb2
from amx_server.core.errors import UNAVAILABLE, UNKNOWN, AmxError

DOMAIN = "amx"

# gRPC peers take 8 KiB of metadata unless told otherwise, and a status travels in it twice: as percent-encoded text and
# with its details in base64. Bytes of the encoded message, and of the facts:
_MAX_MESSAGE = 1536
_MAX_FACTS = 2048

_SAFE = "".join(chr(code) for code in range(32, 127) if chr(code) != "%")
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def status_of(error: AmxError) -> grpc.Status:
    """`error` for `context.abort_with_status`: code, message and details."""
    code = error.code if error.code in _CODES and error.code != 0 else UNKNOWN
    message = _cut(error.message, _MAX_MESSAGE)
    status = status_pb2.Status(code=code, message=message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    room = _MAX_FACTS
    for key, value in error.metadata.items():
        room -= len(key.encode()) + len(value.encode())
        if room >= 0:
            info.metadata[key] = value
    info.metadata["retryable"] = "true" if error.retryable else "false"
    _attach(status, info)
    if error.retry_delay_ms:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(error.retry_delay_ms)
        _attach(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return rpc_status.to_status(status)


def status_of_failure(failure: common_pb2.Failure) -> grpc.Status:
    """`failure`, as it came over a link, for `context.abort_with_status`."""
    return status_of(AmxError.from_failure(failure))


class _Abortable(Protocol):
    async def abort_with_status(self, status: Any) -> None: ...


async def abort(context: _Abortable, error: AmxError) -> None:
    """Ends the call with `error`. Does not return: grpc raises to leave the handler."""
    await context.abort_with_status(status_of(error))


def error_of(call: grpc.RpcError) -> AmxError:
    """What the engine meant by a failed call.

    Without the engine's details (nobody answered, or somebody else did) the reason is the name of the status code,
    and UNAVAILABLE is retryable.
    """
    code, text = _code_of(call)
    details = _status_details(call)
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    for detail in details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            detail.Unpack(retry)
    if info.domain != DOMAIN:
        name = _CODES[code].name if code in _CODES else "UNKNOWN"
        return AmxError(code, name, text, retryable=code == UNAVAILABLE)
    facts = dict(info.metadata)
    retryable = facts.pop("retryable", "false") == "true"
    return AmxError(
        code,
        info.reason,
        text,
        retryable=retryable,
        retry_delay_ms=retry.retry_delay.ToMilliseconds(),
        metadata=facts,
    )


def answered_by_engine(call: grpc.RpcError) -> bool:
    """Whether the status carries the engine's own details, as opposed to one that gRPC made up."""
    return any(detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR) for detail in _status_details(call))


def _code_of(call: grpc.RpcError) -> tuple[int, str]:
    # Both grpc and grpc.aio errors know these; the stubs say so only of `grpc.Call`.
    known = cast(grpc.Call, call)
    code = known.code()
    return (code.value[0] if code is not None else UNKNOWN), str(known.details() or "")


def _status_details(call: grpc.RpcError) -> list[any_pb2.Any]:
    for key, value in cast(grpc.Call, call).trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status()
            try:
                status.ParseFromString(value if isinstance(value, bytes) else value.encode("latin-1"))
            except Exception:  # a proxy's invention: there are no details then
                return []
            return list(status.details)
    return []


def _attach(status: status_pb2.Status, detail: Any) -> None:
    status.details.add().Pack(detail)


def _cut(text: str, limit: int) -> str:
    """`text`, or as much of its beginning as takes `limit` bytes percent-encoded."""
    encoded = len(quote(text, safe=_SAFE))
    if encoded <= limit:
        return text
    while encoded > limit:
        text = text[: len(text) * limit // (encoded + 1)]
        encoded = len(quote(text, safe=_SAFE))
    return text + "…"
