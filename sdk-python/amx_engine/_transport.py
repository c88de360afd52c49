"""Ways to reach an engine: gRPC over TCP, TLS or a Unix socket, or an engine in this process.

A connection carries frames as bytes and knows nothing of what they say. Reconnecting is `_link`'s business.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from amx_engine._errors import FAILED_PRECONDITION, PERMISSION_DENIED, UNAUTHENTICATED, AmxError
from amx_engine._services import NO_SERVICES, Services

METHOD = "/amx.v1.LinkService/Open"

# gRPC must know before Welcome says what the engine's limits are: no engine takes or sends items of more than 1 GiB.
MAX_MESSAGE_BYTES = (1 << 30) + (1 << 20)

# Turning gRPC's own event engine off takes a third from the latency of a lone call, in the versions where that works.
_EXPERIMENTS = "-event_engine_client,-event_engine_listener"
_EXPERIMENTS_FROM, _EXPERIMENTS_TO = (1, 80), (1, 85)


class ConnectionLost(Exception):
    """A connection could not be made, or ended. `error`: why another attempt would end the same way, if so."""

    def __init__(self, message: str, error: AmxError | None = None) -> None:
        super().__init__(message)
        self.error = error


class Connection(Protocol):
    """A pipe of frames. One reader, one writer."""

    async def write(self, frame: bytes) -> None:
        """Returns when the transport has taken the frame. Raises ConnectionLost."""

    async def read(self) -> bytes:
        """The next frame. Raises ConnectionLost."""

    def abort(self) -> None:
        """Ends the connection at once; whoever reads or writes gets ConnectionLost."""

    async def close(self) -> None:
        """Ends the connection and frees what it holds."""


class Connector(Protocol):
    """Makes connections to one engine."""

    address: str

    async def connect(self) -> Connection:
        """A new connection; it may turn out to be dead only when it is used. Raises ConnectionLost."""


@dataclass(frozen=True, slots=True)
class TLS:
    """How to recognise the engine, and how to be recognised by it. PEM bytes; None: the system's, or none."""

    root_certificates: bytes | None = None
    certificate_chain: bytes | None = None
    private_key: bytes | None = None
    server_name: str = ""


def _grpc() -> Any:
    """The grpc module, imported at first use and with its environment set before."""
    if "grpc" not in sys.modules:
        # gRPC's fork handlers can crash the child of an agent that starts a program on uvloop, between fork and exec.
        # Nothing here uses gRPC in a forked child, which is all they are for.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = tuple(int(part) for part in version("grpcio").split(".")[:2])
        except (PackageNotFoundError, ValueError):
            found = (0, 0)
        if _EXPERIMENTS_FROM <= found <= _EXPERIMENTS_TO:
            os.environ.setdefault("GRPC_EXPERIMENTS", _EXPERIMENTS)
    import grpc.aio

    return grpc


class GrpcConnector:
    """Reaches an engine at `host:port` or `unix:/path`.

    token: sent as `authorization: Bearer`. tls: None: plain text. metadata: sent as it is, with every connection.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str = "",
        tls: TLS | None = None,
        metadata: tuple[tuple[str, str | bytes], ...] = (),
    ) -> None:
        self.address = address
        self._token = token
        self._tls = tls
        self._metadata = metadata

    def at(self, address: str) -> GrpcConnector:
        """The way to another engine with the same credentials. address: as in EngineEndpoint; `:port` is at the host
        that this one connects to.
        """
        if address.startswith(":"):
            address = self.address.rpartition(":")[0] + address
        return GrpcConnector(address, token=self._token, tls=self._tls, metadata=self._metadata)

    async def connect(self) -> Connection:
        grpc = _grpc()
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            # Reconnecting is decided here: gRPC must not remember how often it failed before.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]
        tls = self._tls
        if tls is None:
            channel = grpc.aio.insecure_channel(self.address, options=options)
        else:
            if tls.server_name:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            credentials = grpc.ssl_channel_credentials(tls.root_certificates, tls.private_key, tls.certificate_chain)
            channel = grpc.aio.secure_channel(self.address, credentials, options=options)
        metadata = self._metadata
        if self._token:
            metadata += (("authorization", f"Bearer {self._token}"),)
        call = channel.stream_stream(METHOD)(metadata=metadata)
        return _GrpcConnection(channel, call, self.address)


class _GrpcConnection:
    def __init__(self, channel: Any, call: Any, address: str) -> None:
        grpc = _grpc()
        self._channel = channel
        self._call = call
        self._address = address
        self._write: Callable[[bytes], Awaitable[None]] = call.write
        self._read: Callable[[], Awaitable[Any]] = call.read
        self._eof = grpc.aio.EOF
        self._errors = (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError)

    async def write(self, frame: bytes) -> None:
        try:
            await self._write(frame)
        except self._errors:
            raise await self._lost() from None
        except asyncio.CancelledError:
            raise await self._cancelled() from None

    async def read(self) -> bytes:
        try:
            data = await self._read()
        except self._errors:
            raise await self._lost() from None
        except asyncio.CancelledError:
            raise await self._cancelled() from None
        if data is self._eof:
            raise await self._lost()
        frame: bytes = data
        return frame

    async def _cancelled(self) -> BaseException:
        # gRPC reports an aborted call in the same way as a cancelled task.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return asyncio.CancelledError()
        return await self._lost()

    async def _lost(self) -> ConnectionLost:
        grpc = _grpc()
        if not self._call.done():
            return ConnectionLost(f"the engine at {self._address} ended the connection")
        code, details = await self._call.code(), await self._call.details()
        message = f"the connection to {self._address} ended with {code.name}" + (f": {details}" if details else "")
        error = None
        if code is grpc.StatusCode.UNAUTHENTICATED:
            error = AmxError(
                UNAUTHENTICATED,
                "UNAUTHENTICATED",
                f"the engine at {self._address} does not know this token: {details};"
                " set AMX_TOKEN, with_token(), or engine.token in the configuration",
            )
        elif code is grpc.StatusCode.PERMISSION_DENIED:
            error = AmxError(PERMISSION_DENIED, "PERMISSION_DENIED", f"the engine refused the link: {details}")
        elif code is grpc.StatusCode.UNIMPLEMENTED:
            error = AmxError(
                FAILED_PRECONDITION,
                "NOT_AN_ENGINE",
                f"what listens at {self._address} is not an AMX engine; check the address",
            )
        return ConnectionLost(message, error)

    def abort(self) -> None:
        self._call.cancel()

    async def close(self) -> None:
        self._call.cancel()
        await self._channel.close()


class LinkEnd(Protocol):
    """The engine's end of a link in this process."""

    def feed(self, data: bytes) -> None: ...

    async def next_frame(self) -> bytes | None: ...

    def close(self) -> None: ...


class EmbeddedConnector:
    """Reaches an engine in this process.

    open_link: makes the engine's end of a new connection. services: what the engine lends the agents hosted on it.
    """

    def __init__(
        self, open_link: Callable[[], LinkEnd], address: str = "embedded", *, services: Services = NO_SERVICES
    ) -> None:
        self.address = address
        self.services = services
        self._open_link = open_link

    async def connect(self) -> Connection:
        return _EmbeddedConnection(self._open_link())


class _EmbeddedConnection:
    def __init__(self, end: LinkEnd) -> None:
        self._end = end
        self._ended = False

    async def write(self, frame: bytes) -> None:
        if self._ended:
            raise ConnectionLost("the embedded engine ended the connection")
        self._end.feed(frame)
        # The engine answers in this very loop: without a pause a busy writer would keep it waiting.
        await asyncio.sleep(0)

    async def read(self) -> bytes:
        data = None if self._ended else await self._end.next_frame()
        if data is None:
            self._ended = True
            raise ConnectionLost("the embedded engine ended the connection")
        return data

    def abort(self) -> None:
        self._ended = True
        self._end.close()

    async def close(self) -> None:
        if not self._ended:
            self.abort()
