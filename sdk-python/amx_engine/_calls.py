"""Calls on their way, as the event loop waits for them. What they mean on the wire is `_protocol`'s."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from google.protobuf.message import Message as ProtoMessage

from amx.v1 import common_pb2, link_pb2, message_pb2
from amx_engine._errors import AmxError, error_from_failure
from amx_engine._protocol import PendingCall

logger = logging.getLogger("amx_engine.link")

# Events a subscriber may be behind; the engine does not wait for slow readers.
SUBSCRIPTION_BUFFER = 4096


class ReplyCall(PendingCall):
    """Waits for a Reply. message: kept, if the call may be said again to an engine that forgot it."""

    __slots__ = ("future",)

    def __init__(
        self, future: asyncio.Future[link_pb2.Reply], operation: str = "", message: ProtoMessage | None = None
    ) -> None:
        # Not by the base class: there is one of these for every call.
        self.future = future
        self.operation = operation
        self.message = message
        self.id = self.invocation_id = self.timeout_ms = 0
        self.bucket = self._protocol = None

    def replied(self, reply: link_pb2.Reply) -> None:
        future = self.future
        if not future.done():
            if reply.HasField("failure"):
                future.set_exception(error_from_failure(reply.failure))
            else:
                future.set_result(reply)

    def failed(self, error: AmxError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class BytesCall(PendingCall):
    """Waits for the bytes of a result."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[bytes]) -> None:
        self.future = future
        self.id = self.invocation_id = self.timeout_ms = 0
        self.bucket = self.message = self._protocol = None
        self.operation = ""

    def result(self, content_type: str, data: bytes) -> None:
        future = self.future
        if not future.done():
            future.set_result(data)

    def replied(self, reply: link_pb2.Reply) -> None:
        future = self.future
        if not future.done():
            if reply.HasField("result"):
                future.set_result(reply.result.data)
            else:
                future.set_exception(error_from_failure(reply.failure))

    def failed(self, error: AmxError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Buffered(PendingCall):
    """Waits for many things, one after the other."""

    __slots__ = ("_waiter", "ended", "error")

    def __init__(self) -> None:
        super().__init__()
        self._waiter: asyncio.Future[None] | None = None
        self.ended = False
        self.error: AmxError | None = None

    async def wait(self) -> None:
        """Returns when something has changed."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def failed(self, error: AmxError) -> None:
        self.ended = True
        self.error = error
        self._changed()

    def end(self) -> None:
        """Nothing more is wanted."""
        self.ended = True
        self._changed()

    def _changed(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class StreamCall(_Buffered):
    """Waits for chunks, then the end. The window that its reader grants bounds what can be waiting."""

    __slots__ = ("chunks",)

    def __init__(self) -> None:
        super().__init__()
        self.chunks: deque[common_pb2.Payload] = deque()

    def chunk(self, payload: common_pb2.Payload) -> None:
        self.chunks.append(payload)
        self._changed()

    def replied(self, reply: link_pb2.Reply) -> None:
        if reply.HasField("failure"):
            self.failed(error_from_failure(reply.failure))
            return
        if reply.result.data or reply.result.content_type:  # a handler that does not stream: its result is all there is
            self.chunks.append(reply.result)
        self.ended = True
        self._changed()


class SubscriptionCall(_Buffered):
    """Waits for events, until it is given up. A reader that falls too far behind loses the oldest ones."""

    __slots__ = ("dropped", "events", "in_force")

    def __init__(self, subscription: message_pb2.Subscription) -> None:
        super().__init__()
        self.operation = "subscribe"
        self.message = subscription
        self.events: deque[message_pb2.Event] = deque()
        self.dropped = 0
        self.in_force = False

    def replied(self, reply: link_pb2.Reply) -> None:
        if reply.HasField("failure"):
            self.failed(error_from_failure(reply.failure))
            return
        self.in_force = True
        self._changed()

    def event(self, event: message_pb2.Event) -> None:
        if len(self.events) >= SUBSCRIPTION_BUFFER:
            self.events.popleft()
            if not self.dropped:
                logger.warning(
                    "a subscriber is %d events behind: the oldest are dropped; read faster, or subscribe an agent",
                    SUBSCRIPTION_BUFFER,
                )
            self.dropped += 1
        kept = message_pb2.Event()
        kept.CopyFrom(event)  # else every event would keep the whole frame it came in
        self.events.append(kept)
        self._changed()
