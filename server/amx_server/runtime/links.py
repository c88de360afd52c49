"""Links: handshake, sessions that survive a lost connection, and what each item on a link means.

Transport-free: bytes of frames in, bytes of frames out. `api.link_service` pumps them through gRPC, embedded
engines hand them over in memory.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from amx import wire
from amx.v1 import common_pb2, link_pb2
from amx_server.core import errors
from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import AmxError, exhausted, invalid, unavailable
from amx_server.core.version import VERSION
from amx_server.runtime.instances import Agent, Instance, Invocation
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.outbox import Outbox
from amx_server.runtime.scheduling.run_queue import RunQueue
from amx_server.runtime.scheduling.waits import Wait
from amx_server.security.identity import Identity
from amx_server.telemetry.logs import get_logger

if TYPE_CHECKING:
    from amx_server.cluster.peers import PeerCall
    from amx_server.runtime.events import Delivery, LinkSubscription
    from amx_server.runtime.operations import Operations

log = get_logger(__name__)

_LOOK_SECONDS = 1.0  # between two looks at what links owe: acknowledgements, the end of a drain
PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
_KINDS = {wire.REQUEST: "call", wire.RESULT: "complete", wire.DELIVERED: "delivered"}
_PLAIN = link_pb2.Delivered()  # every target succeeded, and changed nothing
_CALLS = frozenset({"call", "register"})  # items whose ids are the SDK's, and that are answered with a Reply
_SENDER = 12 << 3 | 2  # tag of Message.sender
_MAX_UINT32 = 2**32 - 1
_NORMAL = common_pb2.PRIORITY_NORMAL
FEATURES = ("resume", "deliver", "stream-credit")
_ENGINES = "engines"  # in use only where there are several


def violation(message: str) -> AmxError:
    """The peer does not speak the protocol; its link ends."""
    return AmxError(errors.FAILED_PRECONDITION, "PROTOCOL_VIOLATION", message)


def _frame(data: bytes) -> link_pb2.LinkFrame:
    try:
        return link_pb2.LinkFrame.FromString(data)
    except DecodeError:
        raise violation(f"{len(data)} bytes that are not a LinkFrame; generate stubs from proto/amx/v1") from None


class LinkCall:
    """Whoever waits for the outcome of one call on a link."""

    __slots__ = ("_session", "id", "invocation", "remote", "streaming", "subscription")

    def __init__(self, session: LinkSession, id: int) -> None:
        self._session = session
        self.id = id
        self.invocation: Invocation | None = None
        self.remote: PeerCall | None = None  # what runs for it in another engine
        self.subscription: LinkSubscription | None = None

    @property
    def open(self) -> bool:
        """Whether it has no outcome yet."""
        return self._session.calls.get(self.id) is self

    def result(self, payload: common_pb2.Payload) -> None:
        """Answers the call with a result."""
        session = self._session
        if session.calls.pop(self.id, None) is not None:
            item = session.outbox.add(payload.ByteSize() + 32)
            item.id = self.id
            item.reply.result.CopyFrom(payload)

    def result_bytes(self, payload: bytes) -> None:
        """Answers the call with a result, as it travels."""
        session = self._session
        if session.calls.pop(self.id, None) is not None:
            session.outbox.append(wire.reply_item(self.id, payload))

    def fail(self, failure: common_pb2.Failure) -> None:
        """Answers the call with a failure."""
        session = self._session
        if session.calls.pop(self.id, None) is not None:
            item = session.outbox.add(failure.ByteSize() + 32)
            item.id = self.id
            item.reply.failure.CopyFrom(failure)

    def accepted(self, message_id: str, duplicate: bool) -> None:
        """Answers a one-way call."""
        session = self._session
        if session.calls.pop(self.id, None) is not None:
            item = session.outbox.add(len(message_id) + 48)
            item.id = self.id
            item.reply.accepted.message_id = message_id
            if duplicate:
                item.reply.accepted.duplicate = True

    def chunk(self, payload: common_pb2.Payload) -> None:
        """Passes a part of a streamed reply on."""
        session = self._session
        if self.id in session.calls:
            item = session.outbox.add(payload.ByteSize() + 32)
            item.id = self.id
            item.chunk.payload.CopyFrom(payload)

    def published(self, event_id: str, subscribers: int) -> None:
        """Answers the publication of an event."""
        session = self._session
        if session.calls.pop(self.id, None) is not None:
            session.outbox.append(wire.published_item(self.id, event_id, subscribers))

    def reply(self) -> link_pb2.Reply | None:
        """The reply to fill in for outcomes other than the above; None if the call has been given up."""
        session = self._session
        if session.calls.pop(self.id, None) is None:
            return None
        item = session.outbox.add()
        item.id = self.id
        return item.reply


class HandlerCall(LinkCall):
    """A call that a handler makes and whose outcome its instance waits for."""

    __slots__ = ("wait",)

    def __init__(self, session: LinkSession, id: int) -> None:
        super().__init__(session, id)
        self.wait: Wait | None = None

    def left(self) -> None:
        """It has its outcome, or nobody waits for it any more."""
        wait = self.wait
        if wait is not None:
            self.wait = None
            self._session.waited(wait)

    def result(self, payload: common_pb2.Payload) -> None:
        self.left()
        super().result(payload)

    def result_bytes(self, payload: bytes) -> None:
        self.left()
        super().result_bytes(payload)

    def fail(self, failure: common_pb2.Failure) -> None:
        self.left()
        super().fail(failure)

    def published(self, event_id: str, subscribers: int) -> None:
        self.left()
        super().published(event_id, subscribers)

    def reply(self) -> link_pb2.Reply | None:
        self.left()
        return super().reply()


class LinkSession:
    """One SDK process: what it hosts, what runs there, what it waits for. Outlives its connection by the resume
    window.
    """

    def __init__(
        self,
        links: Links,
        operations: Operations,
        namespace: Namespace,
        identity: Identity,
        hello: link_pb2.Hello,
        config: EngineConfig,
    ) -> None:
        limits = config.limits
        self._links = links
        self._operations = operations
        self._limits = limits
        self.namespace = namespace
        self.identity = identity
        self.sender = identity.subject
        self.sender_field = wire.field(_SENDER, self.sender)
        self._may_send = identity.allows("messages:send")
        self._max_calls = limits.max_calls_in_flight
        self.link_id = hello.link_id
        self.session_id = f"lnk-{secrets.token_hex(8)}"
        self.resume_token = secrets.token_urlsafe(24)
        self.host = hello.host
        self.sdk = f"{hello.sdk.name} {hello.sdk.version}"
        self.outbox = Outbox(limits.max_frame_items, limits.max_frame_bytes)
        self.outbox.keep = "resume" in hello.features
        self.max_pending_bytes = config.links.max_unacked_bytes
        self.credit = hello.credit
        self.in_flight = 0  # invocations and deliveries outstanding, abandoned ones included
        self.running: dict[int, Invocation] = {}
        self.abandoned: set[int] = set()
        self.deliveries: dict[int, Delivery] = {}
        self.pending_events: deque[Delivery] = deque()  # wait for credit
        self.calls: dict[int, LinkCall] = {}
        self.hosted: list[Agent] = []
        self.run_queue: RunQueue[Instance] = RunQueue()  # whose turn it is when credit comes
        self.starved = False  # something waits for credit here
        self.event_next = False  # the next free credit is for an event that waits, not for an instance
        self.open = True  # not ended; may have lost its connection
        self.accepting = True  # may be given new invocations
        self.draining = False
        self.drain_until = 0.0  # monotonic second at which a draining link has had its time
        self.connection: LinkConnection | None = None
        self.heard_at = 0.0  # monotonic second of the last frame
        self.lost_at = 0.0
        self.slots_in_use = 0
        self.loop_lag_us = 0
        self._handlers: dict[str, Callable[[int, link_pb2.LinkItem], None]] = {
            "call": self._on_call,
            "complete": self._on_complete,
            "delivered": self._on_delivered,
            "chunk": self._on_chunk,
            "credit": self._on_credit,
            "cancel": self._on_cancel,
            "ping": self._on_ping,
            "pong": self._on_pong,
            "drain": self._on_drain,
            "drained": self._on_drained,
            "register": self._on_register,
        }

    # --- frames in ---------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Takes a frame in. Raises AmxError PROTOCOL_VIOLATION if the link cannot go on; single items that cannot be
        carried out are answered with a failure instead.
        """
        oversized = len(data) > self._limits.max_item_bytes  # one of its items may be
        if wire.COMPILED and not oversized:
            scanned = wire.scan(data, True)
            if scanned is not None:
                seq, ack, size, entries = scanned
                if self._is_new(len(data), size, seq, ack):
                    self._take_entries(entries)
                return
        frame = _frame(data)
        items = frame.items
        if self._is_new(len(data), len(items), frame.seq, frame.ack):
            self._take_items(items, oversized)

    def _is_new(self, length: int, items: int, seq: int, ack: int) -> bool:
        """Checks a frame of `length` bytes and notes that it came. False: it is repeated, or has nothing in it."""
        limits = self._limits
        if items > limits.max_frame_items:
            raise violation(f"a frame of {items} items, {limits.max_frame_items} are allowed")
        if items > 1 and length > 2 * limits.max_frame_bytes:
            raise violation(f"a frame of {length} bytes, {limits.max_frame_bytes} are allowed")
        outbox = self.outbox
        if ack:
            if ack > outbox.last_seq:
                raise violation(f"frame {ack} is acknowledged, {outbox.last_seq} is the last that was sent")
            outbox.acknowledge(ack)
        self.heard_at = self._links.now()
        if seq:
            if seq <= outbox.received:
                return False  # repeated after a resume
            if seq != outbox.received + 1:
                raise violation(f"frame {seq} follows frame {outbox.received}")
            outbox.note_received(seq)
        elif items:
            raise violation("a frame with items has no number: LinkFrame.seq counts such frames from 1")
        return True

    def _take_entries(self, entries: list[tuple[Any, ...]]) -> None:
        complete = self._operations.dispatcher.complete_plain
        accept = self._operations.acceptance.accept_plain
        for entry in entries:
            kind = entry[0]
            if kind == wire.OTHER:
                self._take_items(_frame(entry[1]).items, False)
                continue
            try:
                if kind == wire.RESULT:
                    _, id, attempt, epoch, payload = entry
                    complete(self, id, attempt, epoch, payload)
                    if self.draining and not self.in_flight:
                        self._links.drained(self)
                elif kind == wire.DELIVERED:
                    self._operations.events.delivered(self, entry[1], _PLAIN)
                else:
                    id = entry[1]
                    calls = self.calls
                    if self._may_send and id not in calls and len(calls) < self._max_calls:
                        call = calls[id] = LinkCall(self, id)
                        call.invocation = accept(self, call, entry)
                    else:
                        self._on_request(entry)
            except AmxError as error:
                self._answer(entry[1], _KINDS[kind], error)
            except Exception as error:  # one item must not take the link's other work down
                self._answer(entry[1], _KINDS[kind], self._failed(_KINDS[kind], error))

    def _take_items(self, items: Iterable[link_pb2.LinkItem], oversized: bool) -> None:
        largest = self._limits.max_item_bytes
        handlers = self._handlers
        for item in items:
            kind = item.WhichOneof("item")
            handler = handlers.get(kind) if kind else None
            try:
                if oversized and item.ByteSize() > largest:
                    self._on_oversized(item.id, kind, item)
                elif handler is None:
                    self._on_unknown(item.id, kind)
                else:
                    handler(item.id, item)
            except AmxError as error:
                self._answer(item.id, kind, error)
            except Exception as error:  # one item must not take the link's other work down
                self._answer(item.id, kind, self._failed(kind, error))

    def _failed(self, kind: str | None, error: Exception) -> AmxError:
        log.exception("item_failed", item=kind, link_id=self.link_id)
        return AmxError(errors.INTERNAL, "INTERNAL", f"the engine failed at this item: {error!r}")

    def _answer(self, id: int, kind: str | None, error: AmxError) -> None:
        call = self.calls.get(id) if kind in _CALLS else None
        if call is not None:
            call.fail(error.to_failure())
        elif id and (kind in _CALLS or kind not in self._handlers):
            item = self.outbox.add()
            item.id = id
            item.reply.failure.CopyFrom(error.to_failure())
        elif kind in _CALLS:
            raise error  # it has no id: nobody could be told
        else:
            log.warning("item_refused", link_id=self.link_id, reason=error.reason, error=error.message)

    def _on_unknown(self, id: int, kind: str | None) -> None:
        what = f"a '{kind}' item" if kind else "an item of a kind that this version does not know"
        raise AmxError(errors.UNIMPLEMENTED, "UNSUPPORTED_ITEM", f"the engine cannot take {what}; it was passed over")

    def _on_oversized(self, id: int, kind: str | None, item: link_pb2.LinkItem) -> None:
        """Refuses an item by name. What an invocation returned fails its attempt, so that nobody waits for it."""
        size, allowed = item.ByteSize(), self._limits.max_item_bytes
        error = invalid(
            "ITEM_TOO_LARGE",
            f"a '{kind}' item has {size} bytes, {allowed} are allowed;"
            " store large values elsewhere and send a reference",
            bytes=str(size),
            limit=str(allowed),
        )
        if kind == "complete":
            item.complete.failure.CopyFrom(error.to_failure())
            item.complete.memory_dropped = True  # the changes it made are not known here
            self._on_complete(id, item)
        elif kind == "delivered":
            self._operations.events.delivered_unread(self, id, error)
        elif kind == "chunk":
            self._operations.dispatcher.refuse_chunk(self, id, error)
        else:
            raise error

    def _on_call(self, id: int, item: link_pb2.LinkItem) -> None:
        call = self._open_call(id, HandlerCall if item.call.invocation_id else LinkCall)
        if call is not None:
            self._operations.call(self, call, item.call)

    def _on_request(self, entry: tuple[Any, ...]) -> None:
        call = self._open_call(entry[1])
        if call is not None:
            self._operations.request_plain(self, call, entry)

    def _open_call(self, id: int, kind: type[LinkCall] = LinkCall) -> LinkCall | None:
        """A new call. None: its id is in use. Raises AmxError if there may be no more."""
        calls = self.calls
        if id == 0:
            raise violation("a call has the id 0; ids of calls start at 1")
        if id in calls:
            log.warning("call_id_reused", link_id=self.link_id, call_id=id)
            return None
        if len(calls) >= self._limits.max_calls_in_flight:
            raise exhausted(
                "CALLS_IN_FLIGHT",
                f"{len(calls)} calls of this link have no outcome yet, no more are taken; wait for some to end",
                retry_delay_ms=50,
            )
        call = calls[id] = kind(self, id)
        return call

    def _on_complete(self, id: int, item: link_pb2.LinkItem) -> None:
        self._operations.dispatcher.complete(self, id, item.complete)
        if self.draining and not self.in_flight:
            self._links.drained(self)

    def _on_delivered(self, id: int, item: link_pb2.LinkItem) -> None:
        self._operations.events.delivered(self, id, item.delivered)

    def _on_chunk(self, id: int, item: link_pb2.LinkItem) -> None:
        self._operations.dispatcher.chunk(self, id, item.chunk.payload)

    def _on_credit(self, id: int, item: link_pb2.LinkItem) -> None:
        credit = item.credit
        if id:
            call = self.calls.get(id)
            if call is not None and call.invocation is not None:
                self._operations.dispatcher.grant_chunks(call.invocation, credit.chunks)
            elif call is not None and call.remote is not None:
                call.remote.grant(credit.chunks)
            return
        self.credit = credit.invocations
        self._operations.dispatcher.serve(self)

    def _on_cancel(self, id: int, item: link_pb2.LinkItem) -> None:
        call = self.calls.get(id)
        if call is None:
            return  # its outcome is on the way
        if call.subscription is not None:
            self._operations.events.unsubscribe_link(call.subscription)
            call.fail(AmxError(errors.CANCELLED, "CANCELLED", "the subscription was cancelled").to_failure())
        elif call.invocation is not None:
            invocation = call.invocation
            # One that has ended while the call is open is a repeat that waits for the outcome of an earlier message.
            if not invocation.done and not self._operations.interruptions.cancel(invocation, item.cancel.reason):
                return  # too late: its outcome is on the way
            call.fail(AmxError(errors.CANCELLED, "CANCELLED", "the call was cancelled").to_failure())
        else:
            if call.remote is not None:
                call.remote.cancel(item.cancel.reason)
            call.fail(AmxError(errors.CANCELLED, "CANCELLED", "the call was cancelled").to_failure())

    def _on_ping(self, id: int, item: link_pb2.LinkItem) -> None:
        ping = item.ping
        self.slots_in_use = ping.slots_in_use
        self.loop_lag_us = ping.event_loop_lag_us
        self.outbox.add(16).pong.nonce = ping.nonce

    def _on_pong(self, id: int, item: link_pb2.LinkItem) -> None:
        """`receive` has noted that the peer lives."""

    def _on_drain(self, id: int, item: link_pb2.LinkItem) -> None:
        if not self.draining:
            self.draining = True
            self.drain_until = self._links.now() + self._links.drain_deadline
        self.accepting = False
        self._links.host_left(self)
        if not self.in_flight:
            self._links.drained(self)

    def _on_drained(self, id: int, item: link_pb2.LinkItem) -> None:
        self._links.end(self, "drained", graceful=True)

    def _on_register(self, id: int, item: link_pb2.LinkItem) -> None:
        register = item.register
        if id == 0:
            raise violation("a register has the id 0; its ids are those of calls and start at 1")
        if id in self.calls:
            log.warning("call_id_reused", link_id=self.link_id, call_id=id)
            return
        call = self.calls[id] = LinkCall(self, id)
        self._operations.register(self, register, call)

    def waited(self, wait: Wait) -> None:
        """A wait of a handler that runs here is over."""
        self._operations.waits.ended(wait, self._links.now())

    # --- liveness ----------------------------------------------------------------------------------------------------

    def ping(self, nonce: int) -> None:
        """Asks the peer for a sign of life."""
        self.outbox.add(16).ping.nonce = nonce

    def go_away(self, reason: str, deadline_ms: int) -> None:
        """Tells the peer to finish and to reconnect elsewhere."""
        self.accepting = False
        item = self.outbox.add(64)
        item.go_away.reason = reason
        item.go_away.deadline_ms = deadline_ms

    @property
    def connected(self) -> bool:
        """Whether it has a connection now."""
        return self.connection is not None

    @property
    def absorbed(self) -> bool:
        """Whether silence says nothing: its process is known to be there, and something runs that has time left."""
        connection = self.connection
        return connection is not None and connection.watched and self.in_flight > len(self.abandoned)


def _engines_not_known(engines: int) -> AmxError:
    return AmxError(
        errors.FAILED_PRECONDITION,
        "ENGINES_NOT_KNOWN",
        f"{engines} engines share this address, and agents must be hosted at each of them; update the SDK to one that"
        " knows the feature 'engines', or start the engine without --workers",
    )


def _defect(failure: Exception) -> AmxError:
    log.exception("link_failed")
    return AmxError(errors.INTERNAL, "INTERNAL", f"the engine failed at a frame: {failure!r}")


class LinkConnection:
    """One connection of one peer. The first frame decides which session it belongs to.

    watched: whoever pumps frames also watches the peer's process, and says with `process_ended` that it is gone.
    engines: where the peer finds the engines that share its address; empty: there is one, or the peer knows them.
    """

    def __init__(self, links: Links, identity: Identity, watched: bool = False, engines: Sequence[str] = ()) -> None:
        self._links = links
        self._identity = identity
        self.watched = watched
        self._engines = engines
        self._first: deque[bytes] = deque()
        self._decided = asyncio.Event()  # the handshake is over, one way or the other
        self.over = asyncio.Event()  # nothing more will be taken or sent
        self.ending = asyncio.Event()  # the session has ended; what is queued may still be sent
        self.session: LinkSession | None = None
        self.error: AmxError | None = None  # why the engine ended it

    def feed(self, data: bytes) -> None:
        """Takes a frame from the peer. Never raises: what ends the link is in `error`, after `next_frame` gave None."""
        if self.over.is_set():
            return
        session = self.session
        if session is not None and (session.connection is not self or not session.open):
            if session.connection is not self:
                self.over.set()  # the peer has connected anew
            return
        try:
            if session is None:
                self._handshake(data)
            else:
                session.receive(data)
        except Exception as failure:
            error = failure if isinstance(failure, AmxError) else _defect(failure)
            self.error = error
            log.warning(
                "link_refused" if session is None else "link_violated_protocol",
                link_id=session.link_id if session else "",
                subject=self._identity.subject,
                reason=error.reason,
                error=error.message,
            )
            if session is None:
                frame = link_pb2.LinkFrame()
                frame.items.add().rejected.failure.CopyFrom(error.to_failure())
                self._first.append(frame.SerializeToString())
            self.over.set()
            self._decided.set()
            if session is not None:
                self._links.end(session, error.reason)
                session.outbox.release()

    def _handshake(self, data: bytes) -> None:
        try:
            frame = link_pb2.LinkFrame.FromString(data)
        except DecodeError:
            raise violation(f"{len(data)} bytes that are not a LinkFrame; generate stubs from proto/amx/v1") from None
        if len(frame.items) != 1 or frame.items[0].WhichOneof("item") != "hello":
            raise violation("the first frame must hold exactly one Hello")
        hello = frame.items[0].hello
        session: LinkSession | None = None
        if self._engines and _ENGINES in hello.features and not hello.engines_known:
            welcome = self._links.tell_engines(self._identity, hello, self._engines)
            self.ending.set()
        else:
            if self._engines and hello.agents and not hello.engines_known:
                raise _engines_not_known(len(self._engines))
            session, welcome = self._links.open(self._identity, hello, self)
        self.session = session
        answer = link_pb2.LinkFrame()
        answer.items.add().welcome.CopyFrom(welcome)
        self._first.append(answer.SerializeToString())
        self._decided.set()

    async def next_frame(self) -> bytes | None:
        """The next frame for the peer; None when the connection is over."""
        if self.session is None:
            await self._decided.wait()
        if self._first:
            return self._first.popleft()
        session = self.session
        while session is not None and not self.over.is_set() and session.connection is self:
            data = await session.outbox.next()
            if session.connection is not self:
                return None
            if data is not None:
                return data
            self.over.set()
        return None

    def close(self, reason: object = None) -> None:
        """The transport has ended. The session waits for the peer for the resume window."""
        self.over.set()
        self._decided.set()
        session = self.session
        if session is not None and session.connection is self:
            session.connection = None
            session.outbox.release()
            self._links.connection_lost(session)

    def process_ended(self) -> None:
        """The peer's process is gone and will be started again: what ran there runs again now, elsewhere if it can.

        Messages that nobody else can take wait for the new process, for as long as for a link that may resume.
        """
        self.over.set()
        self._decided.set()
        session = self.session
        if session is not None and session.open:
            session.connection = None
            self._links.operations.registry.expect(session)
            self._links.end(session, "its process ended")


class Links:
    """Every open session. Opens, resumes and ends them, and notices silent ones."""

    def __init__(self, config: EngineConfig, clock: Clock, namespace_of: Callable[[str], Namespace]) -> None:
        self._config = config
        self._namespace_of = namespace_of
        self.now = clock.monotonic
        self.operations: Operations
        self.sessions: dict[str, LinkSession] = {}  # by namespace and link id
        self._lost: set[LinkSession] = set()
        self._nonce = 0
        self._pinged_at = self.now()
        self._looked_at = self.now()
        self.drain_deadline = config.links.drain_deadline
        self.closing = False

    def open(
        self, identity: Identity, hello: link_pb2.Hello, connection: LinkConnection
    ) -> tuple[LinkSession, link_pb2.Welcome]:
        """Admits a peer: a new session, or a lost one taken up again. Raises AmxError if it cannot be admitted."""
        protocol = self._protocol(hello)
        namespace = self._namespace_of(identity.namespace)
        name = f"{namespace.name}\n{hello.link_id}"
        earlier = self.sessions.get(name)
        features = [feature for feature in hello.features if feature in FEATURES]
        if earlier is not None:
            known = hello.resume_token and hmac.compare_digest(
                hello.resume_token.encode(), earlier.resume_token.encode()
            )
            if known and earlier.identity.subject == identity.subject:
                if earlier.outbox.repeat_after(hello.received_seq):
                    return earlier, self._resume(earlier, connection, protocol, features)
                self.end(earlier, "resume impossible")
            elif earlier.connected and not known:
                raise AmxError(
                    errors.ALREADY_EXISTS,
                    "LINK_ID_IN_USE",
                    f"another process is connected with the link id '{hello.link_id}'; choose a random one",
                )
            else:
                self.end(earlier, "its process started again")
        if len(self.sessions) >= self._config.limits.max_links:
            raise exhausted(
                "LINK_LIMIT",
                f"{len(self.sessions)} links are open, limits.max_links allows no more",
                retry_delay_ms=5000,
            )
        session = LinkSession(self, self.operations, namespace, identity, hello, self._config)
        session.heard_at = self.now()
        if hello.agents:
            identity.require("agents:register", "registering agents")
            self.operations.registry.register(session, hello.agents)
        session.connection = connection
        self.sessions[name] = session
        self.operations.dispatcher.counters.links_opened += 1
        log.info(
            "link_opened",
            link_id=session.link_id,
            subject=identity.subject,
            namespace=namespace.name,
            sdk=session.sdk,
            agents=len(hello.agents),
        )
        welcome = self._welcome(session, protocol, features)
        if hello.agents:
            self.operations.registry.joined(session)
        return session, welcome

    def _protocol(self, hello: link_pb2.Hello) -> int:
        """The version to speak with a peer. Raises AmxError if there is none, or it cannot be admitted at all."""
        if self.closing:
            raise unavailable("SHUTTING_DOWN", "the engine is shutting down; connect again in a moment")
        if not hello.link_id or len(hello.link_id.encode()) > 128:
            raise invalid("INVALID_HELLO", "Hello.link_id must have 1 to 128 bytes")
        protocol = min(hello.protocol_max, PROTOCOL_MAX)
        if protocol < max(hello.protocol_min, PROTOCOL_MIN):
            raise AmxError(
                errors.FAILED_PRECONDITION,
                "PROTOCOL_VERSION_UNSUPPORTED",
                f"the SDK speaks protocol {hello.protocol_min} to {hello.protocol_max}, this engine {PROTOCOL_MIN} to"
                f" {PROTOCOL_MAX}; update the older of the two",
            )
        return protocol

    def tell_engines(self, identity: Identity, hello: link_pb2.Hello, engines: Sequence[str]) -> link_pb2.Welcome:
        """The answer to an SDK that does not know yet where the engines of this address are. Opens no session.
        Raises AmxError if there is no protocol version in common.
        """
        return link_pb2.Welcome(
            protocol=self._protocol(hello),
            features=[_ENGINES],
            namespace=self._namespace_of(identity.namespace).name,
            engine=link_pb2.SoftwareInfo(name="amx-engine", version=VERSION, language="python"),
            engines=[link_pb2.EngineEndpoint(address=address) for address in engines],
        )

    def _welcome(self, session: LinkSession, protocol: int, features: list[str]) -> link_pb2.Welcome:
        limits = self._config.limits
        return link_pb2.Welcome(
            session_id=session.session_id,
            protocol=protocol,
            features=features,
            heartbeat_interval_ms=min(int(self._config.links.heartbeat_interval * 1000), _MAX_UINT32),
            resume_token=session.resume_token,
            resume_window_ms=min(int(self._config.links.resume_window * 1000), _MAX_UINT32),
            namespace=session.namespace.name,
            engine=link_pb2.SoftwareInfo(name="amx-engine", version=VERSION, language="python"),
            limits=link_pb2.Limits(
                max_item_bytes=limits.max_item_bytes,
                max_frame_bytes=limits.max_frame_bytes,
                max_frame_items=limits.max_frame_items,
                max_header_bytes=limits.max_header_bytes,
                max_key_bytes=limits.max_key_bytes,
                max_calls_in_flight=limits.max_calls_in_flight,
                stream_window=limits.stream_window,
            ),
        )

    def _resume(
        self, session: LinkSession, connection: LinkConnection, protocol: int, features: list[str]
    ) -> link_pb2.Welcome:
        session.connection = connection
        session.heard_at = self.now()
        session.outbox.release()
        self._lost.discard(session)
        session.accepting = not session.draining
        self.operations.dispatcher.counters.links_resumed += 1
        log.info("link_resumed", link_id=session.link_id)
        welcome = self._welcome(session, protocol, features)
        welcome.resumed = True
        welcome.received_seq = session.outbox.received
        self.operations.dispatcher.serve(session)
        return welcome

    def link(self, namespace: str, link_id: str) -> LinkSession | None:
        """The session of this link id, if it is open."""
        return self.sessions.get(f"{namespace}\n{link_id}")

    def queue_delay(self, now: float) -> float:
        """Seconds for which work of normal priority and above has waited for a slot where the wait is shortest, among
        links that host agents. 0: there is room somewhere, or nobody hosts anything.
        """
        least = float("inf")
        for session in self.sessions.values():
            if not session.hosted or not session.accepting:
                continue
            since = session.run_queue.next_since(_NORMAL) if session.in_flight >= session.credit else None
            if since is None:
                return 0.0
            least = min(least, now - since)
        return least if least < float("inf") else 0.0

    def connection_lost(self, session: LinkSession) -> None:
        """The session has no connection: it waits for one for the resume window."""
        if not session.open:
            return
        if session.draining and not session.in_flight:
            self.end(session, "closed after draining", graceful=True)
        elif not session.outbox.keep or self._config.links.resume_window <= 0 or self.closing:
            self.end(session, "disconnected")
        else:
            session.accepting = False
            session.lost_at = self.now()
            self._lost.add(session)

    def host_left(self, session: LinkSession) -> None:
        """The link takes no new work: other links, or older versions, do."""
        self.operations.registry.left(session)
        self.operations.events.release_pending(session)

    def drained(self, session: LinkSession) -> None:
        """The last invocation of a draining link has ended; the SDK will say so itself."""

    def end(self, session: LinkSession, reason: str, graceful: bool = False) -> None:
        """Ends a session for good: its work is redelivered, its calls are given up."""
        if not session.open:
            return
        session.open = False
        session.accepting = False
        self._lost.discard(session)
        self.sessions.pop(f"{session.namespace.name}\n{session.link_id}", None)
        if not graceful:
            self.operations.dispatcher.counters.links_lost += 1
        log.info("link_ended", link_id=session.link_id, reason=reason)
        self.operations.registry.left(session)
        calls = list(session.calls.values())
        session.calls.clear()
        for call in calls:
            if isinstance(call, HandlerCall):
                call.left()
            if call.subscription is not None:
                self.operations.events.unsubscribe_link(call.subscription)
            elif call.invocation is not None:
                self.operations.interruptions.caller_left(call.invocation)
            elif call.remote is not None:
                call.remote.cancel("the caller has gone")
        self.operations.events.link_lost(session)
        self.operations.interruptions.link_lost(session)
        session.hosted = []
        session.outbox.close()
        if session.connection is not None:
            session.connection.ending.set()

    def tick(self, now: float) -> None:
        """Sends heartbeats, ends silent links and those whose resume window has passed."""
        links = self._config.links
        for session in [s for s in self._lost if now - s.lost_at >= links.resume_window]:
            self.end(session, "not resumed in time")
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            for session in list(self.sessions.values()):
                session.outbox.acknowledge_soon()
                if session.draining and now >= session.drain_until:
                    self.end(session, "not drained in time")
        if now - self._pinged_at < links.heartbeat_interval:
            return
        self._pinged_at = now
        self._nonce += 1
        for session in list(self.sessions.values()):
            if not session.connected:
                continue
            if now - session.heard_at > 2 * links.heartbeat_interval and not session.absorbed:
                log.warning("link_silent", link_id=session.link_id, seconds=round(now - session.heard_at, 1))
                self._disconnect(session)
            elif session.outbox.pending_bytes > links.max_unacked_bytes:
                size = session.outbox.pending_bytes
                log.warning("link_does_not_read", link_id=session.link_id, bytes=size)
                if session.connection is not None:
                    session.connection.error = exhausted(
                        "LINK_DOES_NOT_READ",
                        f"{size} bytes were sent and not read or not acknowledged, links.max_unacked_bytes allows"
                        f" {links.max_unacked_bytes}; read faster, or acknowledge frames",
                        retry_delay_ms=1000,
                    )
                self.end(session, "does not read")
            else:
                session.ping(self._nonce)

    def _disconnect(self, session: LinkSession) -> None:
        connection = session.connection
        if connection is not None:
            connection.error = unavailable("LINK_SILENT", "two heartbeats were missed")
            connection.close()

    def say_goodbye(self, reason: str, deadline: float) -> None:
        """Tells every peer that the engine is about to leave; no new link is admitted."""
        self.closing = True
        for session in self.sessions.values():
            session.go_away(reason, max(1, int(deadline * 1000)))

    def leave(self, reason: str) -> None:
        """Ends every session and tells its peer that this was all: of what this frame does not acknowledge nothing was
        taken, and the peer may say it again elsewhere.
        """
        for session in list(self.sessions.values()):
            session.go_away(reason, 0)
            self.end(session, reason, graceful=True)

    async def drained_all(self, poll: float = 0.02) -> None:
        """Returns when nothing runs on any link."""
        while any(session.in_flight for session in self.sessions.values()):
            await asyncio.sleep(poll)

    def end_all(self, reason: str) -> None:
        """Ends every session."""
        self.closing = True
        for session in list(self.sessions.values()):
            self.end(session, reason, graceful=True)
