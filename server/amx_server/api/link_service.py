"""LinkService over gRPC: pumps frames between a stream and the runtime. Bytes in, bytes out; nothing is parsed here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grpc
import grpc.aio

from amx_server.api.status import abort
from amx_server.core.errors import AmxError
from amx_server.runtime.links import LinkConnection
from amx_server.security.identity import Identity

SERVICE = "amx.v1.LinkService"

Context = Any  # grpc.aio.ServicerContext[bytes, bytes]; its stubs do not know read() and write()

# After a session has ended, what is queued for its peer may still be written for so long.
_LAST_WORDS_SECONDS = 2.0


class LinkHost(Protocol):
    """What the service needs of the engine."""

    def open_link(self, identity: Identity, *, engines: Sequence[str] = ()) -> LinkConnection:
        """A new connection, before its handshake."""
        ...

    def endpoints(self, over_socket: bool) -> list[str]:
        """Where the engines of this address are; empty: there is one."""
        ...


class LinkService:
    """Serves `Open`."""

    def __init__(self, host: LinkHost, authenticate: Callable[[Context], Identity]) -> None:
        self._host = host
        self._authenticate = authenticate

    def handler(self) -> grpc.GenericRpcHandler:
        """The service for a gRPC server. Without (de)serialisers: frames stay bytes."""
        method: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(self._open)
        return grpc.method_handlers_generic_handler(SERVICE, {"Open": method})

    async def _open(self, _: object, context: Context) -> None:
        try:
            identity = self._authenticate(context)
            engines = () if identity.peer else self._host.endpoints(context.peer().startswith("unix:"))
            connection = self._host.open_link(identity, engines=engines)
        except AmxError as error:
            await abort(context, error)
            return
        reader = asyncio.create_task(self._read(connection, context))
        watcher = asyncio.create_task(connection.ending.wait())
        writer = asyncio.create_task(self._write(connection, context))
        try:
            await asyncio.wait((writer, watcher), return_when=asyncio.FIRST_COMPLETED)
            if not writer.done():
                await asyncio.wait((writer,), timeout=_LAST_WORDS_SECONDS)
        finally:
            # close() first: a cancelled read must not look like a peer that has hung up.
            connection.close()
            for task in (reader, watcher, writer):
                task.cancel()
            await asyncio.gather(reader, watcher, writer, return_exceptions=True)
        if connection.error is not None:
            await abort(context, connection.error)

    @staticmethod
    async def _read(connection: LinkConnection, context: Context) -> None:
        read, feed, over = context.read, connection.feed, connection.over
        try:
            while not over.is_set():
                frame = await read()
                if frame is grpc.aio.EOF:
                    break
                feed(frame)
        finally:
            connection.close()

    @staticmethod
    async def _write(connection: LinkConnection, context: Context) -> None:
        next_frame, write = connection.next_frame, context.write
        while (frame := await next_frame()) is not None:
            await write(frame)
