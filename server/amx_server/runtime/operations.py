"""What callers can ask for, the same for links and for unary calls: checked for permission, handed to its owner."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from amx.v1 import common_pb2, link_pb2, memory_pb2, message_pb2
from amx_server.core.errors import AmxError, invalid
from amx_server.runtime.acceptance import Acceptance
from amx_server.runtime.broadcast import Broadcasts
from amx_server.runtime.dispatch import DEFAULT_KEY, Dispatcher, failure_of
from amx_server.runtime.events import Events
from amx_server.runtime.interruptions import Interruptions
from amx_server.runtime.links import HandlerCall
from amx_server.runtime.memory_access import MemoryAccess
from amx_server.runtime.registry import Registry
from amx_server.runtime.scheduling.waits import WaitReason, Waits

if TYPE_CHECKING:
    from amx_server.runtime.links import LinkCall, LinkSession


class Operations:
    """The calls of links."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        interruptions: Interruptions,
        acceptance: Acceptance,
        events: Events,
        broadcasts: Broadcasts,
        memory: MemoryAccess,
        registry: Registry,
        waits: Waits,
    ) -> None:
        self.dispatcher = dispatcher
        self.interruptions = interruptions
        self.acceptance = acceptance
        self.events = events
        self.broadcasts = broadcasts
        self.memory = memory
        self.registry = registry
        self.waits = waits
        self._calls: dict[str, Callable[[LinkSession, LinkCall, link_pb2.Call], None]] = {
            "send": self._send,
            "stream": self._stream,
            "publish": self._publish,
            "subscribe": self._subscribe,
            "broadcast": self._broadcast,
            "memory": self._memory,
        }

    def call(self, session: LinkSession, call: LinkCall, what: link_pb2.Call) -> None:
        """Carries out a call. Its outcome goes to `call`, now or later. Raises AmxError if it is refused."""
        operation = what.WhichOneof("operation")
        if operation == "request":
            session.identity.require("messages:send", "sending messages")
            invocation_id = what.invocation_id
            sender = self._sender(session, invocation_id, what.request.sender)
            self._waits_for(session, call, invocation_id, what.request)
            call.invocation = self.acceptance.accept(
                session.namespace, session.identity, sender, what.request, call, what.timeout_ms
            )
            return
        handler = self._calls.get(operation) if operation else None
        if handler is None:
            raise invalid("UNSUPPORTED_ITEM", "the call has no operation that this version knows")
        handler(session, call, what)

    def request_plain(self, session: LinkSession, call: LinkCall, entry: tuple[Any, ...]) -> None:
        """Carries out a request that came as an entry of `amx.wire.scan`, as `call` does."""
        session.identity.require("messages:send", "sending messages")
        call.invocation = self.acceptance.accept_plain(session, call, entry)

    def _sender(self, session: LinkSession, invocation_id: int, stated: str = "") -> str:
        """Who sends: the instance whose handler makes the call, else the link's identity. stated: who does by the word
        of the caller, which counts if that is another engine.
        """
        if not invocation_id:
            return stated if session.identity.peer and stated else session.sender
        inv = session.running.get(invocation_id)
        return inv.instance.address if inv is not None else session.sender

    def _waits_for(self, session: LinkSession, call: LinkCall, id: int, message: message_pb2.Message) -> None:
        """The instance whose handler makes the call does not go on before its outcome."""
        inv = session.running.get(id)
        if inv is not None and isinstance(call, HandlerCall):
            target = f"{message.agent}/{message.key or DEFAULT_KEY}" if message.agent else message.type
            call.wait = self.waits.began(inv.instance, WaitReason.MESSAGE, target, session.heard_at)

    def _send(self, session: LinkSession, call: LinkCall, what: link_pb2.Call) -> None:
        session.identity.require("messages:send", "sending messages")
        sender = self._sender(session, what.invocation_id, what.send.sender)
        self.acceptance.accept(session.namespace, session.identity, sender, what.send, call, one_way=True)

    def _stream(self, session: LinkSession, call: LinkCall, what: link_pb2.Call) -> None:
        session.identity.require("messages:send", "sending messages")
        sender = self._sender(session, what.invocation_id, what.stream.sender)
        self._waits_for(session, call, what.invocation_id, what.stream)
        call.invocation = self.acceptance.accept(
            session.namespace, session.identity, sender, what.stream, call, what.timeout_ms, streaming=True
        )

    def _publish(self, session: LinkSession, call: LinkCall, what: link_pb2.Call) -> None:
        session.identity.require("events:publish", "publishing events")
        event = what.publish
        event.publisher = self._sender(session, what.invocation_id, event.publisher)
        self.events.publish(session.namespace, session.identity, event, partial(_published, call, event))

    def _subscribe(self, session: LinkSession, call: LinkCall, what: link_pb2.Call) -> None:
        session.identity.require("events:subscribe", "subscribing to events")
        self.events.subscribe_link(session, call, what.subscribe)

    def _broadcast(self, session: LinkSession, call: LinkCall, what: link_pb2.Call) -> None:
        session.identity.require("broadcast:send", "broadcasting")
        sender = self._sender(session, what.invocation_id, what.broadcast.message.sender)
        broadcast = what.broadcast
        self._waits_for(session, call, what.invocation_id, broadcast.message)
        self.broadcasts.broadcast(
            session.namespace,
            session.identity,
            sender,
            broadcast.scope,
            broadcast.message,
            what.timeout_ms,
            partial(_broadcasted, call),
        )

    def _memory(self, session: LinkSession, call: LinkCall, what: link_pb2.Call) -> None:
        require_memory(session.identity.require, what.memory)
        engines, ref = self.acceptance.engines, what.memory.instance
        if engines is not None and not session.identity.peer:
            owner = engines.elsewhere(session.namespace.name, ref.agent, ref.key)
            if owner >= 0:
                done = partial(_remembered, call)
                engines.remember(owner, session.identity, what.memory, what.timeout_ms, done)
                return
        self.memory.operate(session.namespace, what.memory, partial(_remembered, call))

    def register(self, session: LinkSession, register: link_pb2.Register, call: LinkCall) -> None:
        """Takes agents that joined or left a link after its handshake."""
        session.identity.require("agents:register", "registering agents")
        self.registry.register(session, register.agents)
        self.registry.remove(session, register.removed)
        self.registry.joined(session)
        call.result(common_pb2.Payload())


def require_memory(require: Callable[[str, str], None], operation: memory_pb2.MemoryOperation) -> None:
    """Asks for the permission that a memory operation needs."""
    if operation.WhichOneof("operation") in ("put", "remove"):
        require("memory:write", "writing memory")
    else:
        require("memory:read", "reading memory")


def _published(call: LinkCall, event: message_pb2.Event, subscribers: int, error: BaseException | None) -> None:
    if error is not None:
        call.fail(failure_of(error))
    else:
        call.published(event.event_id, subscribers)


def _broadcasted(call: LinkCall, result: message_pb2.BroadcastResult) -> None:
    reply = call.reply()
    if reply is not None:
        reply.broadcast.CopyFrom(result)


def _remembered(call: LinkCall, result: memory_pb2.MemoryOperationResult | None, error: BaseException | None) -> None:
    if error is not None or result is None:
        call.fail(failure_of(error or AmxError(13, "INTERNAL", "no result")))
        return
    reply = call.reply()
    if reply is not None:
        reply.memory.CopyFrom(result)
