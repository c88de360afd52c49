"""A link's connection over real gRPC, from the side of the SDK; and failures that come as gRPC statuses."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from amx.v1 import common_pb2, link_pb2
from conformance.runner.peer import WireClosed

METHOD = "/amx.v1.LinkService/Open"
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    # Not grpc.min_reconnect_backoff_ms: it is also how long a connection may take, and a busy engine is slow to answer.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]
_LAST_WORDS_SECONDS = 1.0


def failure_of(error: grpc.RpcError) -> common_pb2.Failure:
    """What a call failed with, as the Failure that it was on the other side."""
    known: Any = error
    code = known.code()
    failure = common_pb2.Failure(code=code.value[0] if code is not None else 2, message=str(known.details() or ""))
    for key, value in known.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        status = status_pb2.Status.FromString(value if isinstance(value, bytes) else value.encode("latin-1"))
        for detail in status.details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo()
                detail.Unpack(info)
                facts = dict(info.metadata)
                failure.reason = info.reason
                failure.retryable = facts.pop("retryable", "false") == "true"
                failure.metadata.update(facts)
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                retry = error_details_pb2.RetryInfo()
                detail.Unpack(retry)
                failure.retry_delay_ms = retry.retry_delay.ToMilliseconds()
    return failure


class GrpcWire:
    """One call of `Open`."""

    def __init__(self, address: str, token: str = "") -> None:
        self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._call: Any = self._channel.stream_stream(METHOD)(metadata=metadata)
        self._writing = asyncio.Lock()  # gRPC fails the call where two write at a time

    async def send(self, frame: link_pb2.LinkFrame) -> None:
        await self.send_raw(frame.SerializeToString())

    async def send_raw(self, data: bytes) -> None:
        try:
            async with self._writing:
                await self._call.write(data)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise WireClosed(await self._reason(error)) from None

    async def receive(self) -> link_pb2.LinkFrame:
        try:
            data = await self._call.read()
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise WireClosed(await self._reason(error)) from None
        if data is grpc.aio.EOF:
            raise WireClosed(await self._reason(None))
        return link_pb2.LinkFrame.FromString(data)

    async def close(self, reason: str) -> None:
        self._call.cancel()
        await self._channel.close()

    async def _reason(self, error: BaseException | None) -> str:
        """The reason of the failure that ended it; empty if it ended well."""
        if not isinstance(error, grpc.aio.AioRpcError):
            try:
                async with asyncio.timeout(_LAST_WORDS_SECONDS):
                    code = await self._call.code()
                    if code is grpc.StatusCode.OK:
                        return ""
                    details = await self._call.details()
                    trailing = await self._call.trailing_metadata()
            except TimeoutError:
                return ""
            error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)
        failure = failure_of(error)
        return failure.reason or grpc_name(failure.code)


def grpc_name(code: int) -> str:
    """The name of a status code."""
    return next((one.name for one in grpc.StatusCode if one.value[0] == code), "UNKNOWN")
