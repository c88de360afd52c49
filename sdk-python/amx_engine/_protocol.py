"""The SDK's side of the link protocol, sans I/O: frames in, method calls out; calls in, frames out.

No sockets, no event loop, no tasks. Whoever owns a LinkProtocol feeds it what arrived and sends what it has to say.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage

from amx import wire
from amx.v1 import agent_pb2, common_pb2, link_pb2, message_pb2
from amx_engine._deadlines import Bucket, Deadlines
from amx_engine._errors import (
    DEADLINE_EXCEEDED,
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    UNIMPLEMENTED,
    AmxError,
)

logger = logging.getLogger("amx_engine.link")

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
FEATURES = ("resume", "engines")

# Until Welcome.limits says otherwise.
MAX_ITEM_BYTES = 4 * 1024 * 1024
MAX_FRAME_BYTES = 256 * 1024
MAX_FRAME_ITEMS = 128
MAX_HEADER_BYTES = 8 * 1024
MAX_KEY_BYTES = 512
MAX_CALLS_IN_FLIGHT = 4096
STREAM_WINDOW = 64

_ACK_EVERY = 32  # frames
_AGENT, _KEY, _HANDLER = (number << 3 | 2 for number in (1, 2, 3))  # tags of Message
_OPERATIONS = {field.name: field.number << 3 | 2 for field in link_pb2.Call.DESCRIPTOR.oneofs[0].fields}  # their tags
_MAX_ADDRESSES = 4096  # remembered
_ITEM_OVERHEAD = 64  # bytes around a payload, where it is not worth counting them
# The engine enforces deadlines and says what happened; this side only makes sure that nothing waits without end.
_GRACE_SECONDS = 0.15

LinkFrame = link_pb2.LinkFrame


class ProtocolViolation(Exception):
    """The engine said something that cannot be; the connection is of no further use."""


class Host(Protocol):
    """Runs what the engine asks for. Methods are called in the order things arrived, and must not raise."""

    def invoke(self, item_id: int, invoke: link_pb2.Invoke) -> None:
        """Run a handler; answer with a Complete for `item_id`."""

    def invoke_plain(self, entry: tuple[Any, ...]) -> None:
        """As `invoke`, for an invocation without memory and without a stream; `entry` is one of `amx.wire.scan`."""

    def deliver(self, item_id: int, deliver: link_pb2.Deliver) -> None:
        """Hand one event to many activations; answer with a Delivered for `item_id`."""

    def activate(self, activate: link_pb2.Activate) -> None:
        """Prepare an activation for deliveries."""

    def deactivate(self, epochs: Iterable[int]) -> None:
        """Forget activations."""

    def cancel(self, item_id: int, reason: str) -> None:
        """Stop an invocation or delivery."""

    def grant_chunks(self, item_id: int, chunks: int) -> None:
        """The reader of an invocation's stream takes this many chunks more."""

    def abandon(self) -> None:
        """The session is gone: stop everything, answer nothing."""


class LinkEvents(Protocol):
    """What the owner of the protocol must know."""

    def wake(self) -> None:
        """`next_frame` has something again, after it had returned None."""

    def opened(self, resumed: bool) -> None:
        """The engine said Welcome."""

    def rejected(self, error: AmxError) -> None:
        """The engine refused the link."""

    def go_away(self, reason: str, seconds: float) -> None:
        """The engine closes this connection in `seconds`."""

    def redirected(self, engines: list[str]) -> None:
        """Several engines share the address, here is where each of them is; nothing more comes of this connection."""


class PendingCall:
    """A call waiting for its outcome. Subclasses say what happens then.

    `operation` and `message` are set for calls that may be said again to an engine that forgot them.
    """

    __slots__ = ("_protocol", "bucket", "id", "invocation_id", "message", "operation", "timeout_ms")

    def __init__(self) -> None:
        self.id = 0
        self.invocation_id = 0
        self.timeout_ms = 0
        self.bucket: Bucket | None = None
        self.operation = ""
        self.message: ProtoMessage | None = None
        self._protocol: LinkProtocol | None = None

    def replied(self, reply: link_pb2.Reply) -> None:
        """The outcome. For a subscription: it is in force; called again after the engine was restarted."""

    def result(self, content_type: str, data: bytes) -> None:
        """The outcome, where it is a result."""
        reply = link_pb2.Reply()
        reply.result.content_type = content_type
        reply.result.data = data
        self.replied(reply)

    def failed(self, error: AmxError) -> None:
        """There will be no reply; this is why."""

    def chunk(self, payload: common_pb2.Payload) -> None:
        """A part of a streamed reply."""

    def event(self, event: message_pb2.Event) -> None:
        """An event for a subscription."""

    def expire(self) -> None:
        protocol = self._protocol
        if protocol is not None:
            protocol.expire(self)


class LinkProtocol:
    """One link, over as many connections as it takes.

    Owner's side: `hello()` when a connection is there, `receive()` for each frame that arrives, `next_frame()` until
    None for what is to be sent, `tick()` about once a second, `disconnected()` when the connection is gone.
    Everything said between connections is kept and sent on the next one; the number of calls and the credit bound it.
    """

    def __init__(
        self,
        *,
        link_id: str,
        host: Host,
        events: LinkEvents,
        deadlines: Deadlines,
        clock: Callable[[], float],
        software: link_pb2.SoftwareInfo,
        agents: Iterable[agent_pb2.AgentDefinition] = (),
        credit: int = 1024,
        host_name: str = "",
        engines_known: bool = False,
    ) -> None:
        """engines_known: the link is to one of several engines, of which all are known."""
        self.link_id = link_id
        self._engines_known = engines_known
        self.agents: dict[str, agent_pb2.AgentDefinition] = {agent.name: agent for agent in agents}
        self.open = False
        self.session_id = ""
        self.namespace = ""
        self.engine = ""
        self.heartbeat_seconds = 10.0
        self.resume_window_seconds = 0.0
        self.max_item_bytes = MAX_ITEM_BYTES
        self.max_frame_bytes = MAX_FRAME_BYTES
        self.max_frame_items = MAX_FRAME_ITEMS
        self.max_header_bytes = MAX_HEADER_BYTES
        self.max_key_bytes = MAX_KEY_BYTES
        self.max_calls = MAX_CALLS_IN_FLIGHT
        self.stream_window = STREAM_WINDOW

        self._host = host
        self._events = events
        self._deadlines = deadlines
        self._clock = clock
        self._software = software
        self._host_name = host_name
        self._credit = credit

        self._pending: dict[int, PendingCall] = {}
        self._addresses: dict[tuple[str, str, str], bytes] = {}
        self._next_id = 1
        self._first_unsent_id = 1
        self._draining = False
        self._over: AmxError | None = None

        self._resume_token = ""
        self._received_seq = 0
        self._unacknowledged = 0  # frames received since the last ack went out
        self._ack_due = False
        self._sent_seq = 0
        self._retained: deque[tuple[int, bytes]] = deque()  # sent, not acknowledged
        self._engine_left = False  # it has taken nothing of what it has not acknowledged
        self._replay: deque[bytes] = deque()
        self._ready: deque[tuple[wire.Frame, int]] = deque()  # full frames, and the first call id after each
        self._frame = wire.Frame()
        self._idle = False

        self._heard = False
        self._heard_at = 0.0
        self._pinged_at = 0.0
        self._nonce = 0

        self._take: dict[str | None, Callable[[link_pb2.LinkItem], None]] = {
            "invoke": self._on_invoke,
            "reply": self._on_reply,
            "deliver": self._on_deliver,
            "chunk": self._on_chunk,
            "event": self._on_event,
            "activate": self._on_activate,
            "deactivate": self._on_deactivate,
            "credit": self._on_credit,
            "cancel": self._on_cancel,
            "ping": self._on_ping,
            "pong": self._on_pong,
            "go_away": self._on_go_away,
            "welcome": self._on_welcome,
            "rejected": self._on_rejected,
            None: self._on_unknown,
        }

    # Connections

    def hello(self) -> bytes:
        """The first frame of a new connection."""
        self.open = False
        self._replay.clear()
        frame = LinkFrame()
        hello = frame.items.add().hello
        hello.link_id = self.link_id
        hello.sdk.CopyFrom(self._software)
        hello.protocol_min = PROTOCOL_MIN
        hello.protocol_max = PROTOCOL_MAX
        hello.features.extend(FEATURES)
        hello.agents.extend(self.agents.values())
        hello.credit = self._credit
        hello.host = self._host_name
        hello.engines_known = self._engines_known
        if self._resume_token:
            hello.resume_token = self._resume_token
            hello.received_seq = self._received_seq
        return frame.SerializeToString()

    def disconnected(self) -> None:
        """The connection is gone. Calls wait for the next one until their deadlines."""
        self.open = False

    def close(self, error: AmxError) -> None:
        """There will be no further connection: every call fails with `error`, now and later."""
        self.open = False
        self._over = error
        pending, self._pending = self._pending, {}
        for call in pending.values():
            self._fail(call, error)

    def receive(self, data: bytes) -> None:
        """Takes a frame. Raises ProtocolViolation if it is not one, or if frames are missing before it."""
        scanned = wire.scan(data, False) if wire.COMPILED and self.open else None
        if scanned is None:
            frame = _frame(data)
            if self._is_new(frame.seq, frame.ack):
                self._take_items(frame.items)
            return
        seq, ack, _, entries = scanned
        if not self._is_new(seq, ack):
            return
        for entry in entries:
            kind = entry[0]
            try:
                if kind == wire.INVOKE:
                    self._host.invoke_plain(entry)
                elif kind == wire.REPLY:
                    pending = self._pending.pop(entry[1], None)
                    if pending is not None:
                        bucket = pending.bucket
                        if bucket is not None:
                            bucket.pop(pending, None)
                        pending.result(entry[2], entry[3])
                else:
                    self._take_items(_frame(entry[1]).items)
            except ProtocolViolation:
                raise
            except Exception:  # one item's trouble is not the other items'
                logger.exception("could not take item %s", entry[1])

    def _is_new(self, seq: int, ack: int) -> bool:
        """Notes that a frame came. False: it is repeated."""
        self._heard = True
        if ack:
            retained = self._retained
            while retained and retained[0][0] <= ack:
                retained.popleft()
        if seq:
            if not self.open:
                raise ProtocolViolation(f"the engine sent frame {seq} before its Welcome")
            expected = self._received_seq + 1
            if seq < expected:
                return False
            if seq > expected:
                raise ProtocolViolation(f"the engine sent frame {seq} where frame {expected} was due")
            self._received_seq = seq
            self._unacknowledged += 1
            if self._unacknowledged >= _ACK_EVERY:
                self._ack_due = True
                self._wake()
        return True

    def _take_items(self, items: Iterable[link_pb2.LinkItem]) -> None:
        take = self._take
        for item in items:
            kind = item.WhichOneof("item")
            try:
                take.get(kind, self._on_unknown)(item)
            except ProtocolViolation:
                raise
            except Exception:  # one item's trouble is not the other items'
                logger.exception("could not take item %s of kind %s", item.id, kind)

    def next_frame(self) -> bytes | None:
        """The next frame to send; None if there is nothing to say, in which case `wake` is called when there is."""
        if not self.open:
            self._idle = True
            return None
        if self._replay:
            return self._replay.popleft()
        if self._ready:
            frame, first_unsent = self._ready.popleft()
        elif self._frame.count:
            frame, first_unsent = self._frame, self._next_id
            self._frame = wire.Frame()
        elif self._ack_due:
            self._unacknowledged = 0
            self._ack_due = False
            return LinkFrame(ack=self._received_seq).SerializeToString()
        else:
            self._idle = True
            return None
        self._first_unsent_id = first_unsent
        self._sent_seq = seq = self._sent_seq + 1
        self._unacknowledged = 0
        self._ack_due = False
        data = frame.serialize(seq, self._received_seq)
        self._retained.append((seq, data))
        return data

    def tick(self, *, slots_in_use: int, lag_seconds: float) -> bool:
        """Keeps the link alive: pings, acknowledges, listens. Call about once a second while connected.

        Returns False if nothing was heard for two heartbeat intervals: the connection is dead. `lag_seconds` is how
        late the event loop runs.
        """
        now = self._clock()
        if not self.open:
            return True
        if self._heard or lag_seconds > self.heartbeat_seconds:
            # A loop that was blocked could not listen: silence during that time proves nothing.
            self._heard = False
            self._heard_at = now
        elif now - self._heard_at > 2 * self.heartbeat_seconds:
            return False
        if now - self._pinged_at >= self.heartbeat_seconds:
            self._pinged_at = now
            self._nonce += 1
            ping = self.item(0).ping
            ping.nonce = self._nonce
            ping.slots_in_use = slots_in_use
            ping.event_loop_lag_us = max(0, int(lag_seconds * 1_000_000))
        if self._unacknowledged:
            self._ack_due = True
            self._wake()
        return True

    # Saying things

    def item(self, size: int) -> link_pb2.LinkItem:
        """A new item in the frame being built; the caller fills it at once. `size` is about its payload's, in bytes."""
        size += _ITEM_OVERHEAD
        frame = self._frame
        if frame.count and (frame.count >= self.max_frame_items or frame.size + size > self.max_frame_bytes):
            frame = self._room(size)
        if self._idle:
            self._wake()
        item: link_pb2.LinkItem = frame.add(size)
        return item

    def _room(self, size: int) -> wire.Frame:
        """The frame being built, which has room for an item of `size` bytes."""
        frame = self._frame
        if frame.count and (frame.count >= self.max_frame_items or frame.size + size > self.max_frame_bytes):
            self._ready.append((frame, self._next_id))
            frame = self._frame = wire.Frame()
        if self._idle:
            self._wake()
        return frame

    def take_back(self) -> None:
        """Removes the item that `item()` returned last."""
        self._frame.take_back()

    def count(self, size: int) -> None:
        """The item that `item()` returned last is `size` bytes larger than was said."""
        self._frame.size += size

    @property
    def queued_items(self) -> int:
        """Items in the frame being built."""
        return self._frame.count

    def call(
        self,
        pending: PendingCall,
        operation: str,
        message: ProtoMessage,
        timeout_ms: int = 0,
        invocation_id: int = 0,
    ) -> None:
        """Says a Call whose `operation` field is `message`, which is copied. `pending` hears of its outcome.

        timeout_ms: 0: none on this side. Raises AmxError ITEM_TOO_LARGE, HEADERS_TOO_LARGE, KEY_TOO_LONG or
        CALLS_IN_FLIGHT, in which case nothing was said.
        """
        data = message.SerializeToString()
        size = len(data)
        if size > self.max_item_bytes:
            self._check_size(size, operation)
        if isinstance(message, message_pb2.Message):
            self._check_message(message)
        elif isinstance(message, link_pb2.Broadcast):
            self._check_message(message.message)
        frame = self._room(size + _ITEM_OVERHEAD)  # what is full now was said before this call
        pending.timeout_ms = timeout_ms
        call_id = self._open_call(pending, timeout_ms / 1000, invocation_id)
        frame.append(wire.call_item(call_id, invocation_id, timeout_ms, _OPERATIONS[operation], data))

    def request(
        self,
        pending: PendingCall,
        agent: str,
        key: str,
        handler: str,
        content_type: str,
        data: bytes,
        timeout: float,
    ) -> None:
        """Says a request with nothing but a payload. As `call`, and faster."""
        size = len(data)
        if size + 1024 > self.max_item_bytes:
            self._check_size(size + 1024, "request")
        if len(key) * 4 > self.max_key_bytes:
            self._check_key(key)
        timeout_ms = (int(timeout * 1000) or 1) if timeout else 0
        address = self._addresses.get((agent, key, handler))
        if address is None:
            address = self._address(agent, key, handler)
        frame = self._room(size + _ITEM_OVERHEAD + len(address))
        call_id = self._open_call(pending, timeout, 0)
        frame.append(wire.request_item(call_id, timeout_ms, address, content_type, data))

    def _address(self, agent: str, key: str, handler: str) -> bytes:
        """The first fields of a Message, remembered: many messages go to few addresses."""
        address = wire.field(_AGENT, agent)
        if key:
            address += wire.field(_KEY, key)
        if handler:
            address += wire.field(_HANDLER, handler)
        if len(self._addresses) >= _MAX_ADDRESSES:
            self._addresses.clear()
        self._addresses[agent, key, handler] = address
        return address

    def complete(
        self, item_id: int, attempt: int, epoch: int, content_type: str, data: bytes, duration_us: int
    ) -> None:
        """Says that an invocation ended with this result, and did nothing else."""
        frame = self._room(len(data) + _ITEM_OVERHEAD)
        frame.append(wire.complete_item(item_id, attempt, epoch, content_type, data, duration_us))

    def delivered(self, item_id: int) -> None:
        """Says that a delivery succeeded at every target, and changed nothing."""
        self._room(_ITEM_OVERHEAD).append(wire.delivered_item(item_id))

    def register(
        self, pending: PendingCall, agents: Iterable[agent_pb2.AgentDefinition], removed: Iterable[str] = ()
    ) -> None:
        """Says that agents joined or left. Raises AmxError CALLS_IN_FLIGHT."""
        joined, left = list(agents), list(removed)
        size = sum(agent.ByteSize() for agent in joined)
        frame = self._room(size + _ITEM_OVERHEAD)
        call_id = self._open_call(pending, 0.0, 0)
        item = frame.add(size + _ITEM_OVERHEAD)
        item.id = call_id
        item.register.agents.extend(joined)
        item.register.removed.extend(left)
        self.agents.update((agent.name, agent) for agent in joined)
        for name in left:
            self.agents.pop(name, None)
        pending.operation = "register"

    def cancel(self, pending: PendingCall, reason: str) -> None:
        """Gives a call up: nothing more is heard of it. Does nothing if its outcome is known."""
        if self._forget(pending):
            item = self.item(len(reason))
            item.id = pending.id
            item.cancel.reason = reason[:256]

    def grant(self, pending: PendingCall, chunks: int) -> None:
        """The reader of a streamed reply takes this many chunks more."""
        if pending.id in self._pending:
            item = self.item(0)
            item.id = pending.id
            item.credit.chunks = chunks

    def drain(self) -> None:
        """Asks the engine to send no new invocations, on this and every later connection."""
        if not self._draining:
            self._draining = True
            self.item(0).drain.SetInParent()

    def drained(self) -> None:
        """Says that the last invocation has ended."""
        self.item(0).drained.SetInParent()

    def expire(self, pending: PendingCall) -> None:
        """The deadline of a call has passed."""
        operation = pending.operation or "call"
        if self._forget(pending):
            item = self.item(0)
            item.id = pending.id
            item.cancel.reason = "DEADLINE_EXCEEDED"
            where = "" if self.open else ": there is no connection to the engine"
            pending.failed(
                AmxError(
                    DEADLINE_EXCEEDED,
                    "DEADLINE_EXCEEDED",
                    f"the {operation} had no outcome within its timeout{where}; give it more time or look at what"
                    " its target is doing",
                    retryable=True,
                )
            )

    @property
    def calls_in_flight(self) -> int:
        """Calls without an outcome."""
        return len(self._pending)

    def check_payload(self, size: int, what: str) -> None:
        """Raises AmxError ITEM_TOO_LARGE if `size` bytes do not fit an item."""
        self._check_size(size + _ITEM_OVERHEAD, what)

    # Inside

    def _wake(self) -> None:
        if self._idle:
            self._idle = False
            self._events.wake()

    def _open_call(self, pending: PendingCall, timeout: float, invocation_id: int) -> int:
        """The id of a new call, which must be said at once. Raises AmxError CALLS_IN_FLIGHT."""
        calls = self._pending
        if self._over is not None:
            raise self._over
        if len(calls) >= self.max_calls:
            raise AmxError(
                RESOURCE_EXHAUSTED,
                "CALLS_IN_FLIGHT",
                f"this link has {len(calls)} calls in flight, which is the limit; wait for some of them to end",
                retryable=True,
                retry_delay_ms=50,
                metadata={"limit": str(self.max_calls)},
            )
        pending.id = call_id = self._next_id
        pending.invocation_id = invocation_id
        self._next_id = call_id + 1
        calls[call_id] = pending
        if timeout:
            pending._protocol = self
            pending.bucket = self._deadlines.add(pending, timeout + _GRACE_SECONDS)
        return call_id

    def _forget(self, pending: PendingCall) -> bool:
        if self._pending.pop(pending.id, None) is None:
            return False
        bucket = pending.bucket
        if bucket is not None:
            bucket.pop(pending, None)
        return True

    def _fail(self, pending: PendingCall, error: AmxError) -> None:
        bucket = pending.bucket
        if bucket is not None:
            bucket.pop(pending, None)
        pending.failed(error)

    def _check_size(self, size: int, what: str) -> None:
        if size > self.max_item_bytes:
            raise AmxError(
                INVALID_ARGUMENT,
                "ITEM_TOO_LARGE",
                f"the {what} has {size} bytes, the engine takes at most {self.max_item_bytes} (limits.max_item_bytes);"
                " send a smaller value, or store it and send where it is",
                metadata={"bytes": str(size), "limit": str(self.max_item_bytes)},
            )

    def _check_message(self, message: message_pb2.Message) -> None:
        key = message.key
        if len(key) * 4 > self.max_key_bytes:
            self._check_key(key)
        if message.headers:
            size = sum(len(k.encode()) + len(v.encode()) for k, v in message.headers.items())
            if size > self.max_header_bytes:
                raise AmxError(
                    INVALID_ARGUMENT,
                    "HEADERS_TOO_LARGE",
                    f"the headers have {size} bytes, the engine takes at most {self.max_header_bytes}"
                    " (limits.max_header_bytes); move what is large into the content",
                    metadata={"bytes": str(size), "limit": str(self.max_header_bytes)},
                )

    def _check_key(self, key: str) -> None:
        size = len(key.encode())
        if size > self.max_key_bytes:
            raise AmxError(
                INVALID_ARGUMENT,
                "KEY_TOO_LONG",
                f"the instance key '{key[:40]}…' has {size} bytes, the engine takes at most {self.max_key_bytes}"
                " (limits.max_key_bytes); hash it",
                metadata={"bytes": str(size), "limit": str(self.max_key_bytes)},
            )

    # Items from the engine

    def _on_invoke(self, item: link_pb2.LinkItem) -> None:
        self._host.invoke(item.id, item.invoke)

    def _on_deliver(self, item: link_pb2.LinkItem) -> None:
        self._host.deliver(item.id, item.deliver)

    def _on_activate(self, item: link_pb2.LinkItem) -> None:
        self._host.activate(item.activate)

    def _on_deactivate(self, item: link_pb2.LinkItem) -> None:
        self._host.deactivate(item.deactivate.epochs)

    def _on_cancel(self, item: link_pb2.LinkItem) -> None:
        self._host.cancel(item.id, item.cancel.reason)

    def _on_credit(self, item: link_pb2.LinkItem) -> None:
        if item.id:
            self._host.grant_chunks(item.id, item.credit.chunks)

    def _on_reply(self, item: link_pb2.LinkItem) -> None:
        reply = item.reply
        call_id = item.id
        if reply.HasField("subscribed"):
            pending = self._pending.get(call_id)  # it lives on, for its events
        else:
            pending = self._pending.pop(call_id, None)
        if pending is None:
            return  # given up, or answered before
        bucket = pending.bucket
        if bucket is not None:
            bucket.pop(pending, None)
        pending.replied(reply)

    def _on_chunk(self, item: link_pb2.LinkItem) -> None:
        pending = self._pending.get(item.id)
        if pending is not None:
            pending.chunk(item.chunk.payload)

    def _on_event(self, item: link_pb2.LinkItem) -> None:
        pending = self._pending.get(item.id)
        if pending is not None:
            pending.event(item.event)

    def _on_ping(self, item: link_pb2.LinkItem) -> None:
        nonce = item.ping.nonce
        self.item(0).pong.nonce = nonce

    def _on_pong(self, item: link_pb2.LinkItem) -> None:
        pass  # that anything was heard is all there is to know

    def _on_go_away(self, item: link_pb2.LinkItem) -> None:
        self._engine_left = not item.go_away.deadline_ms
        self._events.go_away(item.go_away.reason, item.go_away.deadline_ms / 1000)

    def _on_unknown(self, item: link_pb2.LinkItem) -> None:
        logger.warning("the engine sent item %s of a kind this SDK does not know", item.id)
        if not item.id:
            return
        answer = self.item(0)
        answer.id = item.id
        failure = answer.complete.failure
        failure.code = UNIMPLEMENTED
        failure.reason = "UNSUPPORTED_ITEM"
        failure.message = "this SDK does not know that kind of item; update it, or do not use the feature"

    def _on_rejected(self, item: link_pb2.LinkItem) -> None:
        failure = item.rejected.failure
        self._events.rejected(
            AmxError(
                failure.code or FAILED_PRECONDITION,
                failure.reason or "REJECTED",
                failure.message or "the engine refused the link and did not say why",
                retryable=failure.retryable,
                retry_delay_ms=failure.retry_delay_ms,
                metadata=dict(failure.metadata),
                source=failure.source,
            )
        )

    def _on_welcome(self, item: link_pb2.LinkItem) -> None:
        if self.open:
            raise ProtocolViolation("the engine said Welcome twice")
        welcome = item.welcome
        if not PROTOCOL_MIN <= welcome.protocol <= PROTOCOL_MAX:
            raise ProtocolViolation(
                f"the engine chose protocol version {welcome.protocol}, this SDK speaks {PROTOCOL_MIN} to"
                f" {PROTOCOL_MAX}; update the older of the two"
            )
        self.namespace = welcome.namespace
        self.engine = f"{welcome.engine.name} {welcome.engine.version}".strip()
        if welcome.engines and not self._engines_known:
            self._events.redirected([engine.address for engine in welcome.engines])
            return
        known = bool(self._resume_token)
        self.session_id = welcome.session_id
        if welcome.heartbeat_interval_ms:
            self.heartbeat_seconds = welcome.heartbeat_interval_ms / 1000
        self.resume_window_seconds = welcome.resume_window_ms / 1000
        self._resume_token = welcome.resume_token
        limits = welcome.limits
        self.max_item_bytes = limits.max_item_bytes or MAX_ITEM_BYTES
        self.max_frame_bytes = limits.max_frame_bytes or MAX_FRAME_BYTES
        self.max_frame_items = limits.max_frame_items or MAX_FRAME_ITEMS
        self.max_header_bytes = limits.max_header_bytes or MAX_HEADER_BYTES
        self.max_key_bytes = limits.max_key_bytes or MAX_KEY_BYTES
        self.max_calls = limits.max_calls_in_flight or MAX_CALLS_IN_FLIGHT
        self.stream_window = limits.stream_window or STREAM_WINDOW
        now = self._clock()
        self._heard_at = self._pinged_at = now
        self._heard = False
        resumed = welcome.resumed and known
        if resumed:
            received = welcome.received_seq
            retained = self._retained
            while retained and retained[0][0] <= received:
                retained.popleft()
            self._replay = deque(data for _, data in retained)
        else:
            self._start_over()
        self._engine_left = False
        self.open = True
        self._events.opened(resumed)
        self._wake()

    def _start_over(self) -> None:
        """A new session: the engine knows nothing of what was said before."""
        self._host.abandon()
        unsent = [item for frame, _ in self._ready for item in frame.items()]
        unsent += self._frame.items()
        first_unsent, pending = self._first_unsent_id, self._pending
        not_taken: set[int] = set()
        if self._engine_left:
            items = [item for _, data in self._retained for item in LinkFrame.FromString(data).items]
            not_taken = {item.id for item in items if item.HasField("call") or item.HasField("register")}
            unsent = items + unsent
        self._ready.clear()
        self._retained.clear()
        self._replay.clear()
        self._frame = wire.Frame()
        self._received_seq = self._sent_seq = self._unacknowledged = 0
        self._ack_due = False
        said_again = set()
        # What was sent may or may not have happened: only what the engine recognises as the same is said again.
        for call in list(pending.values()):
            if not call.invocation_id and (call.id >= first_unsent or call.id in not_taken):
                continue
            if call.operation == "register":
                self._pending.pop(call.id)
                call.replied(link_pb2.Reply())  # Hello told the engine of every agent
            elif call.message is not None and not call.invocation_id:
                said_again.add(call.id)
                item = self.item(call.message.ByteSize())
                item.id = call.id
                item.call.timeout_ms = call.timeout_ms
                getattr(item.call, call.operation).CopyFrom(call.message)
            else:
                self._pending.pop(call.id)
                self._fail(call, _restarted())
        for old in unsent:
            wanted = old.id in pending and old.id not in said_again
            if wanted and (old.HasField("call") or old.HasField("register")):
                self.item(old.ByteSize()).CopyFrom(old)
        if self._draining:
            self.item(0).drain.SetInParent()


def _frame(data: bytes) -> LinkFrame:
    try:
        return LinkFrame.FromString(data)
    except DecodeError as error:
        raise ProtocolViolation(f"the engine sent {len(data)} bytes that are not a frame: {error}") from None


def _restarted() -> AmxError:
    return AmxError(
        UNAVAILABLE,
        "ENGINE_RESTARTED",
        "the engine was restarted, or held the lost link no longer, before this call had an outcome: it may or may not"
        " have happened; give calls a message_id or an idempotency_key and the SDK repeats them safely",
        retryable=True,
        retry_delay_ms=100,
    )
