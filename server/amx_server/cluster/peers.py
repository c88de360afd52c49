"""The links of one engine to the others: one to each for every identity on whose behalf it speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from google.protobuf.message import Message as ProtoMessage

from amx.v1 import common_pb2, link_pb2
from amx_engine._errors import AmxError as LinkError
from amx_engine._link import Link
from amx_engine._protocol import PendingCall
from amx_engine._transport import GrpcConnector
from amx_server.cluster.shards import Shard
from amx_server.cluster.trust import PeerTrust
from amx_server.core.errors import AmxError, unavailable
from amx_server.security.identity import Identity

_AGAIN_SECONDS = 0.05  # an engine moves to another process within moments


class Sink(Protocol):
    """Whoever waits for what another engine answers; as the runtime's ReplySink."""

    def accepted(self, message_id: str, duplicate: bool) -> None: ...
    def result(self, payload: common_pb2.Payload) -> None: ...
    def fail(self, failure: common_pb2.Failure) -> None: ...
    def chunk(self, payload: common_pb2.Payload) -> None: ...


class PeerCall(PendingCall):
    """A call to another engine. Subclasses say what its outcome means."""

    __slots__ = ("_link",)

    def __init__(self) -> None:
        super().__init__()
        self._link: Link | None = None

    def made(self, link: Link, operation: str, message: ProtoMessage | None) -> None:
        """It is about to be said on `link`. message: kept where the other engine recognises a repeat."""
        self._link = link
        self.operation = operation
        self.message = message

    def cancel(self, reason: str) -> None:
        """Gives the call up; what runs for it is cancelled."""
        if self._link is not None:
            self._link.protocol.cancel(self, reason)

    def grant(self, chunks: int) -> None:
        """The reader of the stream takes this many chunks more."""
        if self._link is not None:
            self._link.protocol.grant(self, chunks)

    def failed(self, error: LinkError) -> None:
        reply = link_pb2.Reply()
        reply.failure.CopyFrom(failure_from(error))
        self.replied(reply)


class Forwarded(PeerCall):
    """A message that another engine takes in; its outcome goes to `sink`.

    An engine that is about to stop takes nothing in: then it is said again, until `seconds` are over.
    """

    __slots__ = ("_again", "_loop", "_sink", "_timer", "_until")

    def __init__(self, sink: Sink, again: Callable[[Forwarded], None], seconds: float) -> None:
        """again: says the message once more. Raises AmxError if it cannot be said."""
        super().__init__()
        self._sink = sink
        self._again = again
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + seconds
        self._timer: asyncio.TimerHandle | None = None

    def cancel(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().cancel(reason)

    def _say_again(self) -> None:
        self._timer = None
        try:
            self._again(self)
        except AmxError as error:
            self._sink.fail(error.to_failure())

    def replied(self, reply: link_pb2.Reply) -> None:
        if reply.HasField("failure"):
            if reply.failure.reason == "SHUTTING_DOWN" and self._loop.time() < self._until:
                self._timer = self._loop.call_later(_AGAIN_SECONDS, self._say_again)
                return
            self._sink.fail(reply.failure)
        elif reply.HasField("accepted"):
            self._sink.accepted(reply.accepted.message_id, reply.accepted.duplicate)
        else:
            self._sink.result(reply.result)

    def chunk(self, payload: common_pb2.Payload) -> None:
        self._sink.chunk(payload)


class Peers:
    """Makes links when they are first needed and keeps them. An async context manager: leaving closes them."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._trust = PeerTrust(shard.secret)
        self._links: dict[tuple[int, str, str, frozenset[str]], Link] = {}
        self._opening: set[asyncio.Future[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Peers:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closed = True
        links = list(self._links.values())
        self._links.clear()
        await asyncio.gather(*(link.close(0) for link in links))
        for opening in self._opening:
            opening.cancel()

    def call(
        self,
        number: int,
        identity: Identity,
        call: PeerCall,
        operation: str,
        message: ProtoMessage,
        timeout_ms: int = 0,
        *,
        repeatable: bool = False,
    ) -> None:
        """Has engine `number` do something for `identity`; `call` hears of the outcome. While that engine is away the
        call waits, until its time is over. repeatable: it is said again to an engine that was restarted meanwhile.

        Raises AmxError if it cannot be said: too large, too many calls without an outcome, or this engine has stopped.
        """
        if self._closed:
            raise unavailable("SHUTTING_DOWN", "the engine has stopped; repeat the call in a moment")
        link = self._link(number, identity)
        copy: Any = None
        if repeatable:
            copy = type(message)()
            copy.CopyFrom(message)
        call.made(link, operation, copy)
        try:
            link.protocol.call(call, operation, message, timeout_ms)
        except LinkError as error:
            raise AmxError.from_failure(failure_from(error)) from None

    def _link(self, number: int, identity: Identity) -> Link:
        name = (number, identity.namespace, identity.subject, identity.permissions)
        link = self._links.get(name)
        if link is None or link.over:
            address = f"unix:{self._shard.sockets[number]}"
            link = self._links[name] = Link(GrpcConnector(address, metadata=self._trust.metadata(identity)))
            opening = asyncio.ensure_future(link.open(inf))
            self._opening.add(opening)
            opening.add_done_callback(self._opened)
        return link

    def _opened(self, opening: asyncio.Future[None]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled():
            opening.exception()  # a link that is refused fails its calls; they say why


def failure_from(error: LinkError) -> common_pb2.Failure:
    """A failure of a link, as it travels."""
    return common_pb2.Failure(
        code=error.code,
        reason=error.reason,
        message=error.message,
        retryable=error.retryable,
        retry_delay_ms=error.retry_delay_ms,
        metadata=error.metadata,
        source=error.source or "engine",
    )
