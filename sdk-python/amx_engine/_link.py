"""A link at work on an event loop: connects, reads, writes, keeps alive, reconnects; and the calls made on it.

What is said is decided in `_protocol`, what runs here in `_runner`, how bytes travel in `_transport`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import random
import socket
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message as ProtoMessage

from amx.v1 import common_pb2, link_pb2, memory_pb2, message_pb2
from amx_engine._calls import BytesCall, ReplyCall, StreamCall, SubscriptionCall
from amx_engine._deadlines import Deadlines
from amx_engine._errors import FAILED_PRECONDITION, UNAVAILABLE, AmxError
from amx_engine._protocol import LinkProtocol, ProtocolViolation
from amx_engine._runner import Runner
from amx_engine._services import NO_SERVICES
from amx_engine._transport import Connection, ConnectionLost, Connector, EmbeddedConnector
from amx_engine._version import VERSION

if TYPE_CHECKING:
    from amx_engine._definition import HostedAgent

logger = logging.getLogger("amx_engine.link")

HANDSHAKE_SECONDS = 10.0
_TICK_SECONDS = 1.0
_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 30.0
_HELD_SECONDS = 1.0
_HASTY_ATTEMPTS = 3
_FLUSH_SECONDS = 2.0


class Link:
    """One link to one engine, over as many connections as it takes, until it is closed.

    connector: how to reach the engine. agents: hosted here, by name. concurrency: invocations and deliveries at a time.
    threads: plain handlers at a time. config: given to contexts and pipelines. clock: what memory expires by. now: what
    deadlines, heartbeats and waits between connections go by, together with the event loop's timers.
    """

    def __init__(
        self,
        connector: Connector,
        agents: Iterable[HostedAgent] = (),
        *,
        concurrency: int = 1024,
        threads: int = 16,
        config: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], float] = monotonic,
        engines_known: bool = False,
    ) -> None:
        """engines_known: the engine is one of several, of which all are linked to."""
        self._connector = connector
        self.engines: list[str] = []
        """Where the engines are that share the address, if there are several: then this link is of no more use."""
        self._now = now
        loop = self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(loop.time, loop.call_at)
        self._hosted = {agent.name: agent for agent in agents}
        self.runner = Runner(
            self._hosted,
            deadlines=self._deadlines,
            concurrency=concurrency,
            threads=threads,
            config=config,
            clock=clock,
            now=now,
            services=connector.services if isinstance(connector, EmbeddedConnector) else NO_SERVICES,
        )
        self.protocol = LinkProtocol(
            link_id=uuid.uuid4().hex,
            host=self.runner,
            events=self,
            deadlines=self._deadlines,
            clock=now,
            software=_software(),
            agents=[agent.definition for agent in self._hosted.values()],
            credit=concurrency,
            host_name=f"{socket.gethostname()}:{os.getpid()}",
            engines_known=engines_known,
        )
        self.runner.protocol = self.protocol
        self.runner.calls = self
        self._supervisor: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._connection: Connection | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self._flushes: list[asyncio.Future[None]] = []
        self._rejection: AmxError | None = None
        self._closed = False
        self._said_goodbye = False
        self._patient_until = 0.0
        self._welcomed_at: float | None = None  # on this connection

    # Life

    async def open(self, patience: float) -> None:
        """Returns when the engine has said Welcome.

        patience: seconds for which an engine that cannot be reached is tried again; 0: one attempt. Raises AmxError
        ENGINE_UNREACHABLE, or the reason for which the engine refused the link. If several engines share the address,
        `engines` says where they are, and the link is to be closed.
        """
        self._patient_until = self._now() + patience
        self._supervisor = self._loop.create_task(self._supervise(), name="amx-link")
        await asyncio.shield(self._opened)

    async def close(self, deadline: float) -> None:
        """Ends the link: no new invocations, what runs may finish within `deadline` seconds, then it is cancelled.

        Calls that are still in flight fail with SHUTTING_DOWN.
        """
        if self._closed:
            return
        self._closed = True
        protocol = self.protocol
        if protocol.open:
            if self.runner.slots_in_use or self._hosted:
                protocol.drain()
                await self._flush()
            try:
                async with asyncio.timeout(deadline):
                    await self.runner.wait_empty()
            except TimeoutError:
                logger.warning(
                    "%d handlers still ran after %.1f s and are cancelled", self.runner.slots_in_use, deadline
                )
            if protocol.open:
                self._said_goodbye = True
                protocol.drained()
                await self._flush()
                if self._supervisor is not None:
                    await asyncio.wait([self._supervisor], timeout=_FLUSH_SECONDS)  # the engine hangs up
        await self.runner.close()
        protocol.close(_unavailable("SHUTTING_DOWN", "the link was closed before this call had an outcome"))
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
        self._deadlines.close()
        if not self._ended.done():
            self._ended.set_result(None)

    async def wait_closed(self) -> None:
        """Returns when the link was closed; raises AmxError if the engine refused to have it back."""
        await asyncio.shield(self._ended)

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self.protocol.open

    @property
    def over(self) -> bool:
        """Whether it was closed, or the engine refused to have it back: every call fails."""
        return self._ended.done()

    # Calls

    async def request_bytes(
        self, agent: str, data: bytes, key: str, handler: str, content_type: str, timeout: float
    ) -> bytes:
        """The data of the reply to a request of nothing but a payload: the shortest way there is."""
        future: asyncio.Future[bytes] = self._loop.create_future()
        call = BytesCall(future)
        self.protocol.request(call, agent, key, handler, content_type, data, timeout)
        try:
            return await future
        except asyncio.CancelledError:
            self.protocol.cancel(call, "the caller was cancelled")
            raise
        finally:
            del future, call  # a failure refers to this frame: together they would be a cycle

    async def request(
        self, message: message_pb2.Message, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> common_pb2.Payload:
        """Sends and returns the reply. Repeated by itself if it has an idempotency key and the engine was restarted."""
        reply = await self._call("request", message, timeout_ms, invocation_id, bool(message.idempotency_key))
        return reply.result

    async def send(
        self, message: message_pb2.Message, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> link_pb2.Accepted:
        """Sends one way; returns when the engine has it. Repeated by itself if it has a message id."""
        reply = await self._call("send", message, timeout_ms, invocation_id, bool(message.message_id))
        return reply.accepted

    async def publish(
        self, event: message_pb2.Event, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> link_pb2.Published:
        """Publishes; returns when the engine has it. Repeated by itself if it has an event id."""
        reply = await self._call("publish", event, timeout_ms, invocation_id, bool(event.event_id))
        return reply.published

    async def broadcast(
        self, broadcast: link_pb2.Broadcast, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> message_pb2.BroadcastResult:
        """Sends to many; returns what became of it at each."""
        reply = await self._call("broadcast", broadcast, timeout_ms, invocation_id, False)
        return reply.broadcast

    async def memory(
        self, operation: memory_pb2.MemoryOperation, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> memory_pb2.MemoryOperationResult:
        """Reads or writes an instance's memory from outside."""
        reads = operation.WhichOneof("operation") in ("get", "list")
        reply = await self._call("memory", operation, timeout_ms, invocation_id, reads)
        return reply.memory

    async def stream(
        self, message: message_pb2.Message, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> AsyncGenerator[common_pb2.Payload, None]:
        """Sends and yields the chunks of the reply as they come; a reader that leaves cancels the handler."""
        protocol = self.protocol
        window = protocol.stream_window
        call = StreamCall()
        protocol.call(call, "stream", message, timeout_ms, invocation_id)
        taken = 0
        try:
            while True:
                while call.chunks:
                    payload = call.chunks.popleft()
                    taken += 1
                    if 2 * taken >= window:
                        protocol.grant(call, taken)
                        taken = 0
                    yield payload
                if call.error is not None:
                    raise call.error
                if call.ended:
                    return
                await call.wait()
        finally:
            protocol.cancel(call, "the reader left")

    async def subscribe(self, subscription: message_pb2.Subscription, *, invocation_id: int = 0) -> SubscriptionCall:
        """Subscribes; returns when the subscription is in force. Renewed by itself if the engine was restarted."""
        call = SubscriptionCall(subscription)
        self.protocol.call(call, "subscribe", subscription, 0, invocation_id)
        try:
            while not call.in_force and not call.ended:
                await call.wait()
        except asyncio.CancelledError:
            self.protocol.cancel(call, "the subscriber was cancelled")
            raise
        if call.error is not None:
            raise call.error
        return call

    def unsubscribe(self, call: SubscriptionCall) -> None:
        """Ends a subscription; does nothing if it has ended."""
        self.protocol.cancel(call, "unsubscribed")

    async def register(self, agents: Iterable[HostedAgent], removed: Iterable[str] = ()) -> None:
        """Hosts more agents, or fewer, from now on. Raises AmxError if the engine refuses them."""
        joined, left = list(agents), list(removed)
        call = ReplyCall(self._loop.create_future())
        before = {agent.name: self._hosted.get(agent.name) for agent in joined}
        self._hosted.update((agent.name, agent) for agent in joined)
        self.protocol.register(call, [agent.definition for agent in joined], left)
        try:
            await call.future
        except asyncio.CancelledError:
            self.protocol.cancel(call, "the caller was cancelled")
            raise
        except AmxError:
            for name, previous in before.items():
                if previous is None:
                    self._hosted.pop(name, None)
                    self.protocol.agents.pop(name, None)
                else:
                    self._hosted[name] = previous
                    self.protocol.agents[name] = previous.definition
            raise
        for name in left:
            self._hosted.pop(name, None)

    async def _call(
        self, operation: str, message: ProtoMessage, timeout_ms: int, invocation_id: int, repeatable: bool
    ) -> link_pb2.Reply:
        call = ReplyCall(self._loop.create_future(), operation, message if repeatable else None)
        self.protocol.call(call, operation, message, timeout_ms, invocation_id)
        try:
            return await call.future
        except asyncio.CancelledError:
            self.protocol.cancel(call, "the caller was cancelled")
            raise
        finally:
            del call  # a failure refers to this frame: together they would be a cycle

    # What the protocol says

    def wake(self) -> None:
        wakeup = self._wakeup
        if wakeup is not None and not wakeup.done():
            wakeup.set_result(None)

    def opened(self, resumed: bool) -> None:
        protocol = self.protocol
        logger.info(
            "%s link to %s at %s, session %s, namespace %s",
            "resumed" if resumed else "opened",
            protocol.engine or "the engine",
            self._connector.address,
            protocol.session_id,
            protocol.namespace or "default",
        )
        if not self._opened.done():
            self._opened.set_result(None)

    def redirected(self, engines: list[str]) -> None:
        self.engines = engines

    def rejected(self, error: AmxError) -> None:
        self._rejection = error

    def go_away(self, reason: str, seconds: float) -> None:
        logger.info(
            "the engine leaves in %.1f s (%s); this link reconnects when it has", seconds, reason or "no reason"
        )

    # Connections

    async def _supervise(self) -> None:
        attempt = 0
        while True:
            lost: ConnectionLost
            self._welcomed_at = None
            try:
                connection = await self._connector.connect()
                try:
                    await self._serve(connection)
                finally:
                    self._connection = None
                    self.protocol.disconnected()
                    await connection.close()
            except ConnectionLost as error:
                lost = error
            except ProtocolViolation as error:
                lost = ConnectionLost(str(error))
            except Exception as error:  # whatever it is, a process without its link is of no use
                logger.exception("the link failed unexpectedly and reconnects")
                lost = ConnectionLost(repr(error))
            if self._said_goodbye:
                return
            if self.engines:
                if self._opened.done():
                    self._give_up(_changed(self._connector.address, len(self.engines)))
                else:
                    self._opened.set_result(None)
                return
            rejection, self._rejection = self._rejection or lost.error, None
            if rejection is not None and not rejection.retryable:
                self._give_up(rejection)
                return
            if not self._opened.done() and self._now() >= self._patient_until:
                self._give_up(rejection or self._unreachable(lost))
                return
            if self._welcomed_at is not None:
                # A new loss; but what fails right after its Welcome is not tried in haste.
                attempt = 0 if self._now() - self._welcomed_at > _HELD_SECONDS else min(attempt, _HASTY_ATTEMPTS)
            longest = min(_LONGEST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2**attempt)
            if rejection is not None and rejection.retry_delay_ms:
                longest = max(longest, min(_LONGEST_BACKOFF_SECONDS, rejection.retry_delay_ms / 1000))
            attempt = min(attempt + 1, 16)
            delay = random.uniform(longest / 2, longest)
            level = logging.WARNING if self._opened.done() and attempt == 1 else logging.DEBUG
            logger.log(level, "%s; connecting again in %.2f s", rejection.message if rejection else lost, delay)
            await asyncio.sleep(delay)

    def _give_up(self, error: AmxError) -> None:
        self.runner.abandon()
        self.protocol.close(error)
        if not self._opened.done():
            self._opened.set_exception(error)
            self._ended.set_result(None)
            return
        logger.error("the link is over: %s", error.message)
        self._ended.set_exception(error)
        self._ended.exception()  # whoever cares asks wait_closed()

    def _unreachable(self, lost: ConnectionLost) -> AmxError:
        return _unavailable(
            "ENGINE_UNREACHABLE",
            f"no engine answers at {self._connector.address} ({lost}); start one with `amx dev`, name another with"
            " AMX_ADDRESS or with_address(), or run one inside this process with .embedded()",
        )

    async def _serve(self, connection: Connection) -> None:
        """One connection, from Hello to its end, which is an exception."""
        protocol = self.protocol
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await connection.write(protocol.hello())
                protocol.receive(await connection.read())
        except TimeoutError:
            raise ConnectionLost(f"no Welcome within {HANDSHAKE_SECONDS:.0f} s") from None
        if not protocol.open:
            raise ConnectionLost("the engine refused the link, or is elsewhere")
        self._welcomed_at = self._now()
        self._connection = connection
        others = [
            self._loop.create_task(self._write(connection), name="amx-link-writer"),
            self._loop.create_task(self._keep_alive(connection), name="amx-link-heartbeat"),
        ]
        try:
            read, receive = connection.read, protocol.receive
            while True:
                receive(await read())
        finally:
            for task in others:
                task.cancel()
            await asyncio.wait(others)

    async def _write(self, connection: Connection) -> None:
        """Sends whatever was queued while the last write ran; sleeps only when there is nothing."""
        next_frame = self.protocol.next_frame
        write = connection.write
        try:
            while True:
                data = next_frame()
                if data is not None:
                    await write(data)
                    continue
                if self._flushes:
                    self._flushed()
                self._wakeup = self._loop.create_future()
                await self._wakeup
        except ConnectionLost:
            pass  # the reader gets it too, and says so
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("writing to the engine failed")
            connection.abort()
        finally:
            self._wakeup = None
            self._flushed()

    async def _keep_alive(self, connection: Connection) -> None:
        lag = 0.0
        while True:
            interval = min(_TICK_SECONDS, self.protocol.heartbeat_seconds / 4)
            due = self._loop.time() + interval
            await asyncio.sleep(interval)
            lag = max(0.0, self._loop.time() - due)
            if not self.protocol.tick(slots_in_use=self.runner.slots_in_use, lag_seconds=lag):
                logger.warning("nothing was heard from the engine for two heartbeats: connecting again")
                connection.abort()
                return

    def _flushed(self) -> None:
        flushes, self._flushes = self._flushes, []
        for future in flushes:
            if not future.done():
                future.set_result(None)

    async def _flush(self) -> None:
        """Returns when everything said so far has been handed to the transport, or is known not to get there."""
        future = self._loop.create_future()
        self._flushes.append(future)
        self.wake()
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await future
        except TimeoutError:
            pass


def _changed(address: str, engines: int) -> AmxError:
    return AmxError(
        FAILED_PRECONDITION,
        "ENGINES_CHANGED",
        f"{engines} engines are now at {address}, where there was one; start this process again",
    )


def _unavailable(reason: str, message: str) -> AmxError:
    return AmxError(UNAVAILABLE, reason, message, retryable=True, retry_delay_ms=1000)


def _software() -> link_pb2.SoftwareInfo:
    language = f"python {platform.python_version()}"
    return link_pb2.SoftwareInfo(name="amx-engine-python", version=VERSION, language=language)
