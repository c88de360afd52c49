"""Frames over a stream socket: each is its length in four bytes, most significant first, and then itself.

This is how an engine and its helper processes talk; everybody else uses gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from amx_engine._transport import MAX_MESSAGE_BYTES

_LENGTH_BYTES = 4
_BUFFER_BYTES = 1 << 20  # read ahead; a larger frame is taken all the same


class FrameStream:
    """One end. One reader, one writer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> FrameStream:
        """The end `end` of a socket pair, which belongs to the stream from now on."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end, limit=_BUFFER_BYTES))

    async def read(self) -> bytes | None:
        """The next frame; None when the other end is gone, or says what no link says."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            if length > MAX_MESSAGE_BYTES:
                return None
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def write(self, frame: bytes) -> bool:
        """Returns True when the socket has taken the frame or will soon, False when the other end is gone."""
        try:
            self._writer.writelines((len(frame).to_bytes(_LENGTH_BYTES, "big"), frame))
            await self._writer.drain()
        except OSError:
            return False
        return True

    def abort(self) -> None:
        """Closes at once; the other end reads None."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Closes when what was written has left."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
