"""A testee as a child process that connects over real gRPC: to a scripted engine's server, or to the real engine."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from amx.v1 import link_pb2
from conformance.runner.peer import Broken, CaseFailure, WireClosed
from conformance.runner.stdio import Process

_SERVICE = "amx.v1.LinkService"
_DYING_SECONDS = 0.3  # between the end of a connection and the end of a process that died


class ConnectingTestee:
    """A testee started with `--connect`."""

    manual_time = False

    def __init__(self, process: Process) -> None:
        self._process = process
        self._stop_said = False

    @classmethod
    async def launch(cls, command: Sequence[str], address: str) -> Process:
        """Starts the process. Raises Broken if it cannot be started."""
        return await Process.start([*command, "--connect", address], env={})

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.code is None

    async def advance(self, ms: int) -> None:
        raise Broken("over gRPC time cannot be moved")

    async def stop(self) -> None:
        self._stop_said = True
        self._process.send_signal(signal.SIGTERM)

    async def stopped(self, within: float) -> int:
        try:
            async with asyncio.timeout(within):
                return await self._process.wait()
        except TimeoutError:
            raise CaseFailure("expected the SDK to stop; it did not in time") from None

    async def kill(self) -> None:
        """Ends the process."""
        await self._process.kill()

    def complaints(self) -> list[str]:
        return self._process.complaints()

    async def died(self) -> str:
        """What is wrong with the process after its connection has ended; empty if nothing is."""
        if self._stop_said:
            return ""
        try:
            async with asyncio.timeout(_DYING_SECONDS):
                return f"the testee ended unexpectedly with exit code {await self._process.wait()}"
        except TimeoutError:
            return ""


class GrpcTestee(ConnectingTestee):
    """A testee whose connections come to a gRPC server of the runner."""

    def __init__(self, process: Process, server: LinkServer) -> None:
        super().__init__(process)
        self._server = server

    @classmethod
    async def start(cls, command: Sequence[str]) -> GrpcTestee:
        """Raises Broken if it cannot be started."""
        server = LinkServer()
        await server.start()
        try:
            return cls(await cls.launch(command, server.address), server)
        except Broken:
            await server.close()
            raise

    async def accept(self, within: float) -> _ServerWire:
        until = asyncio.get_running_loop().time() + within
        while (wire := await self._next(until - asyncio.get_running_loop().time())).over:
            pass  # it was given up before anybody took it
        wire.testee = self
        return wire

    async def _next(self, within: float) -> _ServerWire:
        coming = asyncio.ensure_future(self._server.incoming.get())
        ending = asyncio.ensure_future(self._process.wait())
        await asyncio.wait((coming, ending), timeout=max(within, 0), return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not coming.done():
            coming.cancel()
            if self._process.code is not None:
                raise Broken(f"the testee has ended with exit code {self._process.code}")
            raise CaseFailure("expected the SDK to connect; it did not in time")
        return coming.result()

    async def wants_connection(self, within: float) -> bool:
        return not self._server.incoming.empty()

    async def kill(self) -> None:
        await super().kill()
        await self._server.close()


class LinkServer:
    """Takes connections and says nothing by itself."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[_ServerWire] = asyncio.Queue()
        self.address = ""
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listens on any free port."""
        server = self._server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        method: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(self._open)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Open": method}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self.address = f"127.0.0.1:{port}"

    async def close(self) -> None:
        """Ends every connection."""
        if self._server is not None:
            await self._server.stop(0)

    async def _open(self, _: object, context: Any) -> None:
        wire = _ServerWire(context)
        self.incoming.put_nowait(wire)
        await wire.pump()
        if wire.lost:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection is lost")


class _ServerWire:
    def __init__(self, context: Any) -> None:
        self.testee: ConnectingTestee | None = None
        self.lost = False
        self._context = context
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._ending = asyncio.Event()
        self._writing = asyncio.Lock()  # gRPC fails the call where two write at a time
        self._ended = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    async def pump(self) -> None:
        """Reads until either side ends it."""
        reading = asyncio.create_task(self._read())
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            ending.cancel()
            self._frames.put_nowait(None)
            self._ended.set()

    async def _read(self) -> None:
        try:
            while (data := await self._context.read()) is not grpc.aio.EOF:
                self._frames.put_nowait(data)
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            pass  # the peer has gone

    async def send(self, frame: link_pb2.LinkFrame) -> None:
        await self.send_raw(frame.SerializeToString())

    async def send_raw(self, data: bytes) -> None:
        if self._ended.is_set():
            raise WireClosed("the SDK has ended the connection")
        try:
            async with self._writing:
                await self._context.write(data)
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            raise WireClosed("the SDK has ended the connection") from None

    async def receive(self) -> link_pb2.LinkFrame:
        data = await self._frames.get()
        if data is None:
            self._frames.put_nowait(None)
            if self.testee is not None and (problem := await self.testee.died()):
                raise Broken(problem)
            raise WireClosed("ended by the SDK")
        try:
            return link_pb2.LinkFrame.FromString(data)
        except DecodeError:
            raise CaseFailure(f"the SDK sent {len(data)} bytes that are not a LinkFrame") from None

    async def close(self, reason: str) -> None:
        self.lost = reason == "lost"
        self._ending.set()
        try:
            async with asyncio.timeout(1):
                await self._ended.wait()
        except TimeoutError:
            pass
