"""A provider that is reached over HTTP: one pool of connections, plain answers and event streams, errors by reason.

Knows nothing of models: those are requests that somebody builds on top (subclass it for batches).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from types import MappingProxyType, TracebackType
from typing import Any, Self

import msgspec

from amx_server.core.clock import Clock, SystemClock
from amx_server.core.errors import AmxError
from amx_server.inference.io import errors
from amx_server.inference.io.flights import Call
from amx_server.inference.io.http_connection import (
    Disconnected,
    HttpConnection,
    HttpFailure,
    Malformed,
    Silent,
    TooMuch,
    Unreachable,
)
from amx_server.inference.io.http_decoding import Decoder, UndecodableError
from amx_server.inference.io.http_headers import Headers
from amx_server.inference.io.http_pool import HttpPool
from amx_server.inference.io.http_requests import Server
from amx_server.inference.io.operations import Operation, Response, WaitReason, address, canonical_json
from amx_server.inference.io.providers import Provider
from amx_server.inference.io.sse import EventParser, EventTooLarge, ServerEvent

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_PART_BYTES = 100  # what a part costs beside its data
_AFTER_SECONDS = 0.1
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # once and twice is the same (RFC 9110, 9.2.2)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. path: below the provider's base address. body: or what makes it, the same every time, made when
    it is sent. terminator: data of the event that ends a stream; a stream without it is broken off. Empty: the stream
    ends with the connection.
    """

    method: str
    path: str
    body: bytes | Callable[[], bytes] = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    events: bool = False
    terminator: bytes = b"[DONE]"

    def content(self) -> bytes:
        """The body."""
        body = self.body
        return body if isinstance(body, bytes) else body()


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A successful answer (2xx). headers: names in any case. body: empty for event streams."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> Any:
        """The body as JSON. Raises ValueError if it is none."""
        return msgspec.json.decode(self.body)


class HttpProvider(Provider):
    """Sends to one base address. Redirects are not followed and cookies not kept; `headers`, where credentials are, go
    with every request and into no key, log or error.

    Operations of `get` are shared and may be repeated; those of `post` and `events` only if the caller says so,
    because only the caller knows whether asking twice is asking once.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        connections: int = 1000,
        connect_timeout: float = 10.0,
        idle_timeout: float = 60.0,
        keepalive: float = 15.0,
        max_event_bytes: int = 1 << 20,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        """connections: open at a time, at most. Times in seconds; idle_timeout: without a byte while one is expected,
        which is how a half-open connection shows; keepalive: for which an idle connection is kept.
        tls: certificates to trust and to show; None: the system's.
        Raises ValueError for an address that is none.
        """
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url of provider '{name}' is '{base_url}'; it begins with http:// or https://")
        self.name = name
        self.base_url = base_url.rstrip("/")
        self._server = Server(self.base_url, headers or {})
        self._connections = connections
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._keepalive = keepalive
        self._max_event_bytes = max_event_bytes
        self._tls = tls
        self._clock: Clock = clock or SystemClock()
        self._pool: HttpPool | None = None

    async def __aenter__(self) -> Self:
        self._pool = HttpPool(
            self._server.host,
            self._server.port,
            tls=(self._tls or _default_tls()) if self._server.secure else None,
            limit=self._connections,
            connect_timeout=self._connect_timeout,
            idle_timeout=self._idle_timeout,
            keepalive=self._keepalive,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    # --- operations --------------------------------------------------------------------------------------------------

    def get(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        reason: WaitReason = WaitReason.TOOL,
        ttl: float = 0.0,
        scope: str = "",
    ) -> Operation[HttpResponse, Any]:
        """Reads a resource. scope: only equal scopes share, for example a namespace or a user. ttl: in seconds."""
        request = HttpRequest("GET", path, content_type="", headers=headers or _NO_HEADERS)
        return self._operation("http.get", request, reason, shared=True, scope=scope, ttl=ttl, idempotent=True)

    def post(
        self,
        path: str,
        body: Any,
        *,
        headers: Mapping[str, str] | None = None,
        reason: WaitReason = WaitReason.MODEL,
        kind: str = "http.post",
        shared: bool = False,
        idempotent: bool = False,
        key: bytes = b"",
        scope: str = "",
        ttl: float = 0.0,
        tokens: int = 0,
        batch: str = "",
    ) -> Operation[HttpResponse, Any]:
        """Sends `body`: bytes as they are, what a function gives as bytes, anything else as JSON. The function is
        called for every attempt, and what it gave is not held while the answer is awaited. Other arguments: see
        Operation.

        shared: equal requests are one request, by the address of path, headers and body, or by `key` where the caller
        has addressed the content already. A ttl needs one of the two.
        """
        request = HttpRequest("POST", path, _encoded(body), headers=headers or _NO_HEADERS)
        return self._operation(
            kind, request, reason, shared=shared, key=key, scope=scope, ttl=ttl, idempotent=idempotent, tokens=tokens,
            batch=batch,
        )  # fmt: skip

    def events(
        self,
        path: str,
        body: Any,
        *,
        headers: Mapping[str, str] | None = None,
        reason: WaitReason = WaitReason.MODEL,
        kind: str = "http.events",
        terminator: bytes = b"[DONE]",
        shared: bool = False,
        idempotent: bool = False,
        key: bytes = b"",
        scope: str = "",
        ttl: float = 0.0,
        tokens: int = 0,
    ) -> Operation[HttpResponse, ServerEvent]:
        """Posts `body` and reads server-sent events; each is a part. The terminator itself is not. See `post`."""
        request = HttpRequest(
            "POST", path, _encoded(body), headers=headers or _NO_HEADERS, events=True, terminator=terminator
        )
        return self._operation(
            kind, request, reason, shared=shared, key=key, scope=scope, ttl=ttl, idempotent=idempotent, tokens=tokens
        )

    def _operation(
        self,
        kind: str,
        request: HttpRequest,
        reason: WaitReason,
        *,
        shared: bool,
        scope: str,
        ttl: float,
        idempotent: bool,
        key: bytes = b"",
        tokens: int = 0,
        batch: str = "",
    ) -> Operation[Any, Any]:
        if shared or key:
            # What was said about the content may come from the caller; how it is asked for is always part of it.
            headers = canonical_json(dict(request.headers))
            how = (scope, request.method, request.path, headers, "events" if request.events else "plain")
            key = address("http", *how, key or request.content())
        elif ttl:
            raise ValueError(f"{kind} {request.path} has a ttl and is not shared; only what is shared can be kept")
        return Operation(self.name, kind, request, reason, key, ttl, tokens, batch, idempotent)

    # --- performing --------------------------------------------------------------------------------------------------

    def perform(self, call: Call) -> Coroutine[Any, Any, Response[HttpResponse]]:
        """See Provider. Errors: those of `errors.http_status`, PROVIDER_UNREACHABLE, PROVIDER_TIMEOUT,
        STREAM_INTERRUPTED, PROVIDER_MALFORMED, RESPONSE_TOO_LARGE.
        """
        return self._send(call.operation.request, call, call.max_response_bytes)

    async def send(self, request: HttpRequest, call: Call | None, max_bytes: int) -> HttpResponse:
        """Sends one request and reads its answer. call: gets the parts of an event stream. Errors: as `perform`."""
        return (await self._send(request, call, max_bytes)).value

    # What waits for an answer holds one frame of this class and nothing that it could make again.
    async def _send(self, request: HttpRequest, call: Call | None, max_bytes: int) -> Response[HttpResponse]:
        pool = self._pool
        if pool is None:
            raise RuntimeError(f"provider '{self.name}' was not entered")
        again = False
        try:
            connection = pool.idle() or await pool.acquire()
            while True:
                try:
                    self._ask(connection, request, call, max_bytes)
                    while (answering := connection.answering()) is not None:
                        await answering
                    if request.events and 200 <= connection.status < 300:
                        await self._read_events(request, connection, call)
                    return self._answer(request, connection, max_bytes)
                except Disconnected:
                    # It may have been closed before the request arrived; what changes nothing is asked again at once.
                    if again or not connection.reused or connection.heard or request.method not in _SAFE:
                        raise
                    again = True
                finally:
                    pool.release(connection)
                connection = await pool.acquire(fresh=True)
        except (HttpFailure, OSError, ValueError) as error:
            raise self._failure(request, error, max_bytes) from error

    def _ask(self, connection: HttpConnection, request: HttpRequest, call: Call | None, max_bytes: int) -> None:
        body = request.content()
        head = self._server.head(request, len(body))
        begun = None if call is None or request.events else call
        pieces = (head, body) if body else (head,)
        connection.ask(*pieces, limit=max_bytes, streams=request.events, headless=request.method == "HEAD", begun=begun)

    def _answer(self, request: HttpRequest, connection: HttpConnection, max_bytes: int) -> Response[HttpResponse]:
        status, headers = connection.status, Headers(connection.head)
        if not 200 <= status < 300:
            raise self._refusal(connection, headers)
        body = b"" if request.events else connection.take()
        if connection.encoding and body:
            body = _decoded(connection, body, max_bytes)
        return Response(HttpResponse(status, headers, body), len(body) + _PART_BYTES)

    async def _read_events(self, request: HttpRequest, connection: HttpConnection, call: Call | None) -> None:
        parser = EventParser(self._max_event_bytes)
        decoder = Decoder(connection.encoding.decode("latin-1")) if connection.encoding else None
        while piece := await connection.part():
            for part in decoder.feed(piece) if decoder is not None else (piece,):
                for event in parser.feed(part):
                    if request.terminator and event.data == request.terminator:
                        await self._end_of(connection)
                        return
                    if call is not None:
                        await call.emit(event, len(event.data) + _PART_BYTES)
        if request.terminator or parser.pending or (decoder is not None and decoder.pending):
            raise errors.interrupted(self.name, "the stream of events ended before its last event")

    async def _end_of(self, connection: HttpConnection) -> None:
        """What follows the last event, if anything, is no part; read to its end the connection can be used again."""
        if not connection.complete:
            with suppress(TimeoutError, HttpFailure):
                async with asyncio.timeout(_AFTER_SECONDS):
                    await connection.part()

    def _refusal(self, connection: HttpConnection, headers: Headers) -> AmxError:
        body = connection.take()
        if connection.encoding and body:
            try:
                body = next(Decoder(connection.encoding.decode("latin-1")).feed(body), b"")
            except UndecodableError:
                body = b""
        wait = retry_after(headers, self._clock)
        return errors.http_status(self.name, connection.status, _message(body.decode(errors="replace")), wait)

    def _failure(self, request: HttpRequest, error: Exception, max_bytes: int) -> Exception:
        match error:
            case Silent():
                return errors.idle_timeout(self.name, f"{request.method} {request.path}", self._idle_timeout)
            case Unreachable():
                return errors.unreachable(self.name, self.base_url, str(error))
            case TooMuch():
                return errors.too_large(self.name, max_bytes)
            case Disconnected(begun=True):
                return errors.interrupted(self.name, "the connection ended in the middle of it")
            case Disconnected() | ConnectionError():
                return errors.interrupted(self.name, "the connection was closed before the answer came")
            case Malformed() | EventTooLarge() | UndecodableError():
                return errors.malformed(self.name, str(error))
        return errors.defect(self.name, error)


def _default_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _decoded(connection: HttpConnection, body: bytes, max_bytes: int) -> bytes:
    decoder = Decoder(connection.encoding.decode("latin-1"))
    parts: list[bytes] = []
    size = 0
    for part in decoder.feed(body):
        size += len(part)
        if size > max_bytes:
            raise TooMuch
        parts.append(part)
    if decoder.pending:
        raise Disconnected(begun=True)
    return b"".join(parts)


def retry_after(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Seconds that an answer asks to wait: `retry-after-ms`, else `Retry-After` in seconds or as a date (RFC 9110,
    10.2.3). None: it does not say, or nothing that can be read. headers: of a mapping that does not mind case.
    """
    for name, scale in (("retry-after-ms", 0.001), ("Retry-After", 1.0)):
        text = headers.get(name, "").strip()
        if not text:
            continue
        try:
            seconds = float(text) * scale
        except ValueError:
            from email.utils import parsedate_to_datetime  # large, and seldom needed

            try:
                date = parsedate_to_datetime(text)
            except ValueError:
                continue
            if date.tzinfo is None:
                date = date.replace(tzinfo=UTC)
            seconds = date.timestamp() - clock.now_ms() / 1000
        if seconds == seconds and seconds != float("inf"):
            return max(0.0, seconds)
    return None


def _encoded(body: Any) -> bytes | Callable[[], bytes]:
    return body if isinstance(body, bytes) or callable(body) else canonical_json(body)


def _message(body: str) -> str:
    """The sentence in a JSON error body, as the common interfaces have it; else the body."""
    try:
        found = msgspec.json.decode(body)
    except ValueError:
        return body
    for name in ("error", "message", "detail"):
        inner = found.get(name) if isinstance(found, dict) else None
        if inner is not None:
            found = inner
    return found if isinstance(found, str) else body
