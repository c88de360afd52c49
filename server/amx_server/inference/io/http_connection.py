"""One connection to an HTTP/1.1 server: a request out, its answer in, again and again, one at a time.

llhttp reads the answers; here are their bounds, and when the connection may be used again. What nobody waits for is
never held: the parser exists while an answer arrives, and reading stops while a stream is not taken from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_HEAD_BYTES = 64 << 10
_OVERHEAD = 16
"""Bytes of framing for each byte of content, beyond _HEAD_BYTES: chunks of one byte take five."""
_WINDOW_BYTES = 256 << 10
_REFUSAL_BYTES = 64 << 10
# Of every connection without an answer, never added to: a thousand may be waiting for one.
_NO_HEAD: list[tuple[bytes, bytes]] = []
_NO_BODY: list[bytes] = []


class HttpFailure(Exception):
    """No answer, or not a whole one."""


class Unreachable(HttpFailure):
    """No connection came to be: nothing was sent."""


class Silent(HttpFailure):
    """Nothing came for too long."""


class Disconnected(HttpFailure):
    """The server went away. begun: in the middle of its answer."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__("in the middle of its answer" if begun else "before its answer")
        self.begun = begun


class Malformed(HttpFailure):
    """What came is no HTTP answer, or one beyond the bounds of its head."""


class TooMuch(HttpFailure):
    """The answer is larger than whoever asked wants to hold."""


class Begun(Protocol):
    """Wants to know when an answer begins."""

    def progress(self) -> None:
        """It begins."""
        ...


class HttpConnection(asyncio.Protocol):
    """`ask`, then wait while it is `answering`, then its parts by `part` if it is a stream; `reusable` says whether to
    go on with it.
    """

    __slots__ = (
        "_body", "_begun", "_chunked", "_closed", "_error", "_head", "_headless", "_interim", "_length", "_limit",
        "_loop", "_overhead", "_parser", "_paused", "_size", "_streams", "_surplus", "_transport", "_unsent", "_waiter",
        "active", "complete", "encoding", "heard", "keeps", "quiet_since", "reused", "status",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, closed: Callable[[HttpConnection], None]) -> None:
        """closed: called once, when there is no connection any more."""
        self._loop = loop
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: HttpFailure | None = None
        self._head: list[tuple[bytes, bytes]] = _NO_HEAD
        self._body: list[bytes] = _NO_BODY
        self._begun: Begun | None = None
        self._headless = self._streams = self._interim = self._chunked = self._surplus = self._paused = False
        self._length = -1
        self._limit = self._size = self._overhead = self._unsent = 0
        self.complete = True
        """The answer is there, to its end; or nothing was asked."""
        self.keeps = True
        """The server does not end the connection after this answer."""
        self.heard = False
        """Something of the answer has come."""
        self.reused = False
        """There was an answer before."""
        self.active = True
        """Something came since whoever looks after connections looked last; see `look`."""
        self.quiet_since = 0.0
        self.status = 0
        self.encoding = b""
        """Content-Encoding."""

    # --- asking ------------------------------------------------------------------------------------------------------

    def ask(self, *request: bytes, limit: int, streams: bool, headless: bool, begun: Begun | None) -> None:
        """Sends a request: these pieces one after the other, as they are.

        limit: bytes of content that may be held of an answer that is no stream. streams: content is taken by `part` as
        it comes, where the answer is a success. headless: it was asked with HEAD and has no content whatever it says.
        begun: told when an answer with status 2xx begins.
        """
        self.reused = self.heard
        self._limit, self._streams, self._headless, self._begun = limit, streams, headless, begun
        self._size = self._overhead = self.status = self._unsent = 0
        self._length = -1
        self._chunked = self._interim = self.heard = self.complete = False
        self.encoding = b""
        self.active = True
        if self._transport is None:
            self._error = Disconnected(begun=False)
        else:
            self._transport.writelines(request)

    def answering(self) -> asyncio.Future[None] | None:
        """What to wait for before calling this again. None: the whole answer is there; of a stream, it has begun; of a
        refusal (no 2xx), as much as may be held is. Raises HttpFailure.
        """
        if self._error is None and not self.complete and not (self._streams and self.status):
            if self._size <= self._limit:
                self._waiter = self._loop.create_future()
                return self._waiter
            if 200 <= self.status < 300:
                self._fail(TooMuch())
        if self._error is not None:
            raise self._error
        return None

    @property
    def head(self) -> list[tuple[bytes, bytes]]:
        """Names and values of the headers, as they came."""
        return self._head

    def take(self) -> bytes:
        """The content that has come and was not taken."""
        body = self._body
        taken = body[0] if len(body) == 1 else b"".join(body)
        self._body = []
        self._size = 0
        if self._paused:
            self._paused = False
            self.active = True
            if self._transport is not None:
                self._transport.resume_reading()
        return taken

    async def part(self) -> bytes:
        """The next content of a stream; empty: it has ended. Raises HttpFailure, after the content that came."""
        while True:
            if self._body:
                return self.take()
            if self.complete:
                return b""
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter

    # --- its life ----------------------------------------------------------------------------------------------------

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: the answer was whole, and both sides keep the connection."""
        transport = self._transport
        return (
            self.complete
            and self.keeps
            and not self._surplus
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    def rest(self) -> None:
        """Nobody asks for now: lets go of the answer."""
        self._head, self._body = _NO_HEAD, _NO_BODY
        self._begun = None
        self._size = 0

    def close(self) -> None:
        """Ends the connection, at once."""
        if self._transport is not None:
            self._transport.abort()

    def look(self, now: float, patience: float) -> bool:
        """Whether nothing has come for `patience` seconds, though it could have. To be called from time to time: it
        counts from the call after something came.
        """
        transport = self._transport
        unsent = transport.get_write_buffer_size() if transport is not None else 0
        if self.active or self._paused or unsent < self._unsent:
            self.active = False
            self.quiet_since = now
        self._unsent = unsent
        return now - self.quiet_since >= patience

    def give_up(self) -> None:
        """Ends what is under way with Silent."""
        self._fail(Silent())

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail(self, error: HttpFailure) -> None:
        if self._error is None and not self.complete:
            self._error = error
            self._wake()
        self.close()

    # --- the event loop's calls --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.complete and self._error is None:
            # Content of no stated length goes on to the connection's end.
            if exc is None and self.status and not self._chunked and self._length < 0:
                self.complete = True
            else:
                self._error = Disconnected(begun=self.heard)
            self._wake()
        self.keeps = False
        self._parser = None
        self._closed(self)

    def data_received(self, data: bytes) -> None:
        self.active = True
        if self.complete or self._error is not None:
            self._surplus = True  # nobody asked
            self.close()
            return
        self.heard = True
        parser = self._parser
        if parser is None:
            parser = self._parser = HttpResponseParser(self)
            self._head, self._body = [], []
        held = self._size
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._surplus = True
            if not self.complete:
                what = "it switches to another protocol" if isinstance(error, HttpParserUpgrade) else str(error)
                self._fail(Malformed(what))
            return
        if self.complete:
            self._parser = None
            return
        self._overhead = max(0, self._overhead + len(data) - (1 + _OVERHEAD) * (self._size - held))
        if self._overhead > _HEAD_BYTES:
            self._fail(Malformed(f"headers and other framing of more than {_HEAD_BYTES >> 10} KiB"))

    # --- the parser's calls ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.complete:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status or self.complete:
            return  # after the content: nobody asked for any
        self._head.append((name, value))
        length = len(name)
        if length == 14 and name.lower() == b"content-length":
            self._length = int(value)
        elif length == 16 and name.lower() == b"content-encoding":
            self.encoding = value.strip()
        elif length == 17 and name.lower() == b"transfer-encoding":
            self._chunked = value.strip().lower().endswith(b"chunked")

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200:
            self._interim, self._chunked = True, False
            self._length, self.encoding, self._head = -1, b"", []
            return
        self.status = status
        self.keeps = self._parser.should_keep_alive()
        if self._headless:
            self.complete = True
            self.keeps = False
            self._wake()
        elif 200 <= status < 300:
            if self._begun is not None:
                self._begun.progress()
            if self._streams:
                self._wake()
            elif self._length > self._limit:
                self._fail(TooMuch())
        else:
            self._streams = False
            self._limit = min(self._limit, _REFUSAL_BYTES)

    def on_body(self, body: bytes) -> None:
        if self.complete or self._error is not None:
            return
        self._body.append(body)
        self._size += len(body)
        if self._streams:
            if self._size > _WINDOW_BYTES and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
            self._wake()
        elif self._size > self._limit:
            self._wake()

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self.complete:
            self.complete = True
            self._wake()
