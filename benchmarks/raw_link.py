"""A link as raw HTTP/2 over a Unix socket, for generators that must take as little of the machine as can be.

It speaks what gRPC needs for one stream (RFC 9113) and no more: frames of bytes in, lengths of frames out. What it
takes per request is a tenth of what a gRPC client takes.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import Self, cast

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 4, 5
_STREAM = 1
_WINDOW = 1 << 30  # bytes that the engine may send before it hears of more
_LARGEST_FRAME = 1 << 20
_FRAME = 16_384  # bytes of a frame to the engine; none takes less


def _framed(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _headers(path: str) -> bytes:
    """A header block of literals, none of them indexed (RFC 7541, 6.2.2)."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers"}
    fields["content-type"] = "application/grpc"
    return b"".join(
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in fields.items()
    )


class RawLink(asyncio.Protocol):
    """One stream. `await RawLink.open(path, method, heard)`; `heard(view)` gets every message, `ended` an exception."""

    def __init__(self, method: str, heard: Callable[[memoryview], None]) -> None:
        self._method = method
        self._heard = heard
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._message = bytearray()  # the part of a message that has come
        self._missing = 0  # bytes of it that have not
        self._connection_window = self._stream_window = self._first_window = 65_535
        self._given_back = 0
        self._waiting: deque[bytes] = deque()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, path: str, method: str, heard: Callable[[memoryview], None]) -> Self:
        """Connects to a Unix socket and begins the stream of `method`, `/service/Method`."""
        _, link = await asyncio.get_running_loop().create_unix_connection(lambda: cls(method, heard), path)
        return link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        settings = struct.pack(">HIHI", _INITIAL_WINDOW_SIZE, _WINDOW, _MAX_FRAME_SIZE, _LARGEST_FRAME)
        self._transport.write(
            _PREFACE
            + _framed(_SETTINGS, 0, 0, settings)
            + _framed(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW))
            + _framed(_HEADERS, _END_HEADERS, _STREAM, _headers(self._method))
        )

    def send(self, message: bytes) -> None:
        """Says a message as soon as the engine's window has room for it."""
        self._waiting.append(b"\0" + struct.pack(">I", len(message)) + message)
        self._flush()

    def _flush(self) -> None:
        frames = []
        while self._waiting and len(self._waiting[0]) <= min(self._connection_window, self._stream_window):
            message = self._waiting.popleft()
            self._connection_window -= len(message)
            self._stream_window -= len(message)
            frames += [
                _framed(_DATA, 0, _STREAM, message[start : start + _FRAME]) for start in range(0, len(message), _FRAME)
            ]
        if frames:
            self._transport.write(b"".join(frames))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        with memoryview(buffer) as view:
            taken = self._take(view)
        del buffer[:taken]

    def _take(self, view: memoryview) -> int:
        """Takes whole frames; returns how many bytes those were."""
        start, end = 0, len(view)
        while end - start >= 9:
            length = view[start] << 16 | view[start + 1] << 8 | view[start + 2]
            kind, flags = view[start + 3], view[start + 4]
            body = start + 9
            if end - body < length:
                break
            start = body + length
            if kind == _DATA:
                self._given_back += length
                self._take_data(view[body:start])
            else:
                self._take_control(kind, flags, bytes(view[body - 4 : start]))
            if flags & _END_STREAM and kind in (_DATA, _HEADERS):
                self._end(f"the engine ended the stream, with the headers {bytes(view[body:start])!r}")
        if self._given_back > _WINDOW // 2:
            update = struct.pack(">I", self._given_back)
            self._transport.write(_framed(_WINDOW_UPDATE, 0, 0, update) + _framed(_WINDOW_UPDATE, 0, _STREAM, update))
            self._given_back = 0
        return start

    def _take_data(self, data: memoryview) -> None:
        while data:
            if not self._missing and not self._message and len(data) >= 5:
                length = int.from_bytes(data[1:5], "big")
                if len(data) >= 5 + length:
                    self._heard(data[5 : 5 + length])
                    data = data[5 + length :]
                    continue
            data = self._take_part(data)

    def _take_part(self, data: memoryview) -> memoryview:
        """Takes what belongs to a message that comes in parts; returns the rest."""
        message = self._message
        if len(message) < 5:
            taken = min(5 - len(message), len(data))
            message += data[:taken]
            self._missing = int.from_bytes(message[1:5], "big") if len(message) == 5 else 0
            data = data[taken:]
        taken = min(self._missing, len(data))
        message += data[:taken]
        self._missing -= taken
        if len(message) >= 5 and not self._missing:
            whole, self._message = message, bytearray()
            self._heard(memoryview(whole)[5:])
        return data[taken:]

    def _take_control(self, kind: int, flags: int, numbered: bytes) -> None:
        stream, payload = int.from_bytes(numbered[:4], "big"), numbered[4:]
        if kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == _INITIAL_WINDOW_SIZE:
                    self._stream_window += value - self._first_window
                    self._first_window = value
            self._transport.write(_framed(_SETTINGS, _ACK, 0, b""))
        elif kind == _WINDOW_UPDATE:
            if stream:
                self._stream_window += int.from_bytes(payload, "big")
            else:
                self._connection_window += int.from_bytes(payload, "big")
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_framed(_PING, _ACK, 0, payload))
        elif kind in (_RST_STREAM, _GOAWAY):
            self._end(f"the engine ended the connection: {payload!r}")
        self._flush()

    def _end(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(RuntimeError(why))
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(f"the connection ended: {error}")

    def close(self) -> None:
        """Ends the connection without a word."""
        if not self.ended.done():
            self.ended.set_result(None)
        self._transport.abort()
