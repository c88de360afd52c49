"""The connections to one HTTP server: made when they are needed, kept a while when they are not, at most so many.

Names are looked up once a minute; of several addresses the first that answers is taken.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from amx_server.inference.io.http_connection import HttpConnection, Unreachable

_NAMES_SECONDS = 60.0
_STAGGER_SECONDS = 0.25  # between attempts at several addresses, as RFC 8305 has it
_CLOSING_SECONDS = 1.0
_SHORTEST_LOOK = 0.005

_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


class HttpPool:
    """Connections are taken by `acquire` (or `idle`, when one is at hand), and given back by `release`, always.

    Who waits for one is served first come, first served.
    """

    __slots__ = (
        "_addresses", "_closed", "_connect_timeout", "_emptied", "_host", "_idle", "_idle_timeout", "_keepalive",
        "_limit", "_looked_up_at", "_looking_up", "_loop", "_numeric", "_on_lost", "_open",
        "_opening", "_port", "_timer", "_tls", "_waiting",
    )  # fmt: skip

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        limit: int,
        connect_timeout: float,
        idle_timeout: float,
        keepalive: float,
    ) -> None:
        """tls: None: without. limit: connections open at a time. Times in seconds: until a connection is made; without
        a byte while one is expected (an eighth of it more at most); for which an idle connection is kept.
        """
        self._host, self._port, self._tls = host, port, tls
        self._limit = limit
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._keepalive = keepalive
        self._loop = asyncio.get_running_loop()
        self._on_lost = self._lost  # one for all connections: each would keep one of its own
        self._open: set[HttpConnection] = set()
        self._idle: dict[HttpConnection, None] = {}  # in the order in which they were given back
        self._opening = 0
        self._waiting: deque[asyncio.Future[HttpConnection | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._addresses: Sequence[_Address] = _numeric(host, port)
        self._numeric = bool(self._addresses)
        self._looked_up_at = float("-inf")
        self._looking_up: asyncio.Task[Sequence[_Address]] | None = None
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None

    def idle(self) -> HttpConnection | None:
        """A connection at hand, the one that was used last."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.reusable:
                return connection
        return None

    async def acquire(self, *, fresh: bool = False) -> HttpConnection:
        """A connection, once there may be one more. fresh: one that nothing was asked on before.

        Raises Unreachable. What it gives must be given back.
        """
        if not fresh and not self._waiting and (connection := self.idle()) is not None:
            return connection
        if len(self._open) + self._opening >= self._limit:
            if fresh and self._idle:
                next(iter(self._idle)).close()
            given = await self._turn()
            if given is not None:
                if given.reusable and not fresh:
                    return given
                given.close()
                self._forget(given)
                self._opening += 1
        else:
            self._opening += 1
        try:
            return await self._connected()
        finally:
            self._opening -= 1
            self._serve()

    def release(self, connection: HttpConnection) -> None:
        """Gives back what was taken. It is kept for others if it can be used again, and else closed."""
        if self._closed or not connection.reusable:
            connection.close()
            return
        connection.rest()
        self._keep(connection)

    async def close(self) -> None:
        """Ends all connections."""
        self._closed = True
        if self._looking_up is not None:
            self._looking_up.cancel()
        for connection in list(self._open):
            connection.close()
        if self._open:
            self._emptied = self._loop.create_future()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied, _CLOSING_SECONDS)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- whose turn it is --------------------------------------------------------------------------------------------

    async def _turn(self) -> HttpConnection | None:
        """Waits for a connection that is given back, or for room for one more: that is counted as opening then."""
        future: asyncio.Future[HttpConnection | None] = self._loop.create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # served and cancelled at the same moment
                given = future.result()
                if given is None:
                    self._opening -= 1
                    self._serve()
                else:
                    self.release(given)
            raise

    def _keep(self, connection: HttpConnection) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return
        connection.quiet_since = self._loop.time()
        self._idle[connection] = None

    def _serve(self) -> None:
        """There may be room for one more."""
        while self._waiting and len(self._open) + self._opening < self._limit:
            future = self._waiting.popleft()
            if not future.done():
                self._opening += 1
                future.set_result(None)

    def _lost(self, connection: HttpConnection) -> None:
        self._forget(connection)
        self._serve()
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    def _forget(self, connection: HttpConnection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    # --- making connections ------------------------------------------------------------------------------------------

    async def _connected(self) -> HttpConnection:
        try:
            async with asyncio.timeout(self._connect_timeout) as timeout:
                connection = await self._connect()
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be one
            if isinstance(error, TimeoutError) and timeout.expired():
                raise Unreachable(f"no connection within {self._connect_timeout:g} s") from error
            self._looked_up_at = float("-inf")
            raise Unreachable(str(error) or type(error).__name__) from error
        if self._closed:
            connection.close()
            raise Unreachable("the client was closed")
        self._open.add(connection)
        self._look_after()
        return connection

    async def _connect(self) -> HttpConnection:
        addresses = await self._lookup()
        server_hostname = self._host if self._tls is not None else None
        if len(addresses) == 1:
            address = addresses[0][4]
            _, connection = await self._loop.create_connection(
                self._protocol, address[0], address[1], ssl=self._tls, server_hostname=server_hostname
            )
            return connection
        from aiohappyeyeballs import start_connection  # seldom needed

        sock = await start_connection(list(addresses), happy_eyeballs_delay=_STAGGER_SECONDS, interleave=1)
        try:
            _, connection = await self._loop.create_connection(
                self._protocol, sock=sock, ssl=self._tls, server_hostname=server_hostname
            )
        except BaseException:
            sock.close()
            raise
        return connection

    def _protocol(self) -> HttpConnection:
        return HttpConnection(self._loop, self._on_lost)

    async def _lookup(self) -> Sequence[_Address]:
        if self._numeric or self._loop.time() - self._looked_up_at < _NAMES_SECONDS:
            return self._addresses
        if self._looking_up is None:
            self._looking_up = self._loop.create_task(self._look_up())
            self._looking_up.add_done_callback(self._has_looked_up)
        return await asyncio.shield(self._looking_up)

    async def _look_up(self) -> Sequence[_Address]:
        self._addresses = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        self._looked_up_at = self._loop.time()
        return self._addresses

    def _has_looked_up(self, task: asyncio.Task[Any]) -> None:
        self._looking_up = None
        if not task.cancelled():
            task.exception()  # whoever waited has it

    # --- looking after them ------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        if self._timer is None and self._open and not self._closed:
            delay = max(_SHORTEST_LOOK, min(self._idle_timeout, self._keepalive) / 8)
            self._timer = self._loop.call_later(delay, self._look)

    def _look(self) -> None:
        """Gives up connections on which nothing comes, and closes those that nobody needs."""
        self._timer = None
        now = self._loop.time()
        for connection in list(self._open):
            if connection in self._idle:
                if now - connection.quiet_since >= self._keepalive:
                    connection.close()
            elif not connection.complete and connection.look(now, self._idle_timeout):
                connection.give_up()
        self._look_after()


def _numeric(host: str, port: int) -> Sequence[_Address]:
    """What there is to know of an address that is none to be looked up."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    return []
