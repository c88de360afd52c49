"""What a handler may ask about its invocation and do besides returning: stage effects, or call the engine at once.

Staged effects travel with the handler's result and are committed with it or not at all. No I/O lives here: calls go
through `Calls`, which the client provides.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from datetime import timedelta
from typing import Any, Literal, Protocol, get_args

from amx.v1 import agent_pb2, common_pb2, link_pb2, memory_pb2, message_pb2
from amx_engine._broadcast import BroadcastOutcome, Scope, make_broadcast
from amx_engine._calls import SubscriptionCall
from amx_engine._errors import FAILED_PRECONDITION, AmxError, InvalidInput
from amx_engine._memory_access import RemoteMemory
from amx_engine._message import (
    AgentReference,
    Message,
    Priority,
    encode_payload,
    milliseconds,
    outgoing,
)
from amx_engine._receipts import Receipt
from amx_engine._result import decode_reply
from amx_engine._services import NO_SERVICES, Content, Io, Services, not_lent
from amx_engine._subscription import Subscription

Missed = Literal["skip", "run_once", "run_all"]
WaitReason = Literal["model", "tool", "file", "timer", "user"]

_MISSED: dict[str, agent_pb2.MissedRuns] = {
    "skip": agent_pb2.MISSED_RUNS_SKIP,
    "run_once": agent_pb2.MISSED_RUNS_RUN_ONCE,
    "run_all": agent_pb2.MISSED_RUNS_RUN_ALL,
}
_WAIT_REASONS: tuple[str, ...] = get_args(WaitReason)


class Calls(Protocol):
    """The engine, as a handler calls it. Every method raises AmxError with the engine's reason.

    timeout_ms: remaining time of the call; 0: the engine's default. invocation_id: on whose behalf; 0: nobody's.
    """

    async def send(
        self, message: message_pb2.Message, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> link_pb2.Accepted:
        """Sends one way; returns when the engine has accepted it."""
        ...

    async def request(
        self, message: message_pb2.Message, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> common_pb2.Payload:
        """Sends and returns the reply."""
        ...

    def stream(
        self, message: message_pb2.Message, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> AsyncGenerator[common_pb2.Payload, None]:
        """Sends and yields the chunks of the reply."""
        ...

    async def publish(
        self, event: message_pb2.Event, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> link_pb2.Published:
        """Publishes an event at once."""
        ...

    async def broadcast(
        self, broadcast: link_pb2.Broadcast, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> message_pb2.BroadcastResult:
        """Sends to many and returns what became of it at each."""
        ...

    async def memory(
        self, operation: memory_pb2.MemoryOperation, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> memory_pb2.MemoryOperationResult:
        """Reads or writes an instance's memory from outside."""
        ...

    async def subscribe(self, subscription: message_pb2.Subscription, *, invocation_id: int = 0) -> SubscriptionCall:
        """Subscribes; returns when the subscription is in force."""
        ...

    def unsubscribe(self, call: SubscriptionCall) -> None:
        """Ends a subscription; does nothing if it has ended."""
        ...


class Context:
    """One invocation, as its handler sees it. Valid until the handler ends; not thread-safe.

    message: what is handled. invocation_id: its number on this link. attempt: 1 for the first. agent, key: the
    instance. deadline: `time.monotonic()` seconds by which it must end, or None. config: the engine configuration.
    """

    __slots__ = (
        "_calls",
        "_content",
        "_io",
        "_logger",
        "_now",
        "_services",
        "_staged",
        "agent",
        "attempt",
        "cancelled",
        "config",
        "deadline",
        "invocation_id",
        "key",
        "message",
    )

    def __init__(
        self,
        message: Message,
        invocation_id: int = 0,
        attempt: int = 1,
        agent: str = "",
        key: str = "default",
        deadline: float | None = None,
        calls: Calls | None = None,
        config: Mapping[str, Any] | None = None,
        now: Callable[[], float] = time.monotonic,
        services: Services = NO_SERVICES,
    ) -> None:
        self.message = message
        self._now = now
        self._services = services
        self._io: Io | None = None
        self._content: Content | None = None
        self.invocation_id = invocation_id
        self.attempt = attempt
        self.agent = agent
        self.key = key
        self.deadline = deadline
        self.config: Mapping[str, Any] = config if config is not None else {}
        self.cancelled = False
        self._calls = calls
        self._staged: link_pb2.Effects | None = None
        self._logger: logging.LoggerAdapter[logging.Logger] | None = None

    @property
    def address(self) -> AgentReference:
        """The instance: `agent/key`."""
        return AgentReference(self.agent, self.key)

    @property
    def remaining(self) -> timedelta | None:
        """Time left until the deadline, at least zero; None without a deadline."""
        return None if self.deadline is None else timedelta(seconds=max(0.0, self.deadline - self._now()))

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the message."""
        return self.message.headers

    @property
    def traceparent(self) -> str:
        """W3C trace context of the sender, or empty."""
        return self.message.traceparent

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger named after the agent whose records carry agent, key, invocation and attempt."""
        if self._logger is None:
            self._logger = logging.LoggerAdapter(
                logging.getLogger(self.agent or "amx_engine"),
                {
                    "agent": self.agent,
                    "key": self.key,
                    "invocation_id": self.invocation_id,
                    "attempt": self.attempt,
                    "traceparent": self.traceparent,
                },
            )
        return self._logger

    @property
    def io(self) -> Io:
        """The engine's I/O manager, on behalf of this invocation.

        Raises AmxError NOT_IN_ENGINE unless the agent runs inside the engine's own process.
        """
        if self._io is None:
            lend = self._services.io
            if lend is None:
                raise not_lent("io")
            self._io = lend(self)
        return self._io

    @property
    def content(self) -> Content:
        """The engine's content store, on behalf of this instance.

        Raises AmxError NOT_IN_ENGINE unless the agent runs inside the engine's own process.
        """
        if self._content is None:
            lend = self._services.content
            if lend is None:
                raise not_lent("content")
            self._content = lend(self)
        return self._content

    def waiting(self, reason: WaitReason, detail: str = "") -> AbstractContextManager[None]:
        """Says why this instance does nothing while the block runs: `with context.waiting("user", "approval"): …`.

        `amx instances`, the engine's metrics and its API show it, the first 200 characters of `detail` too. Calls,
        `context.io` and `sleep` say so themselves. An engine in another process is not told.

        Raises ValueError for a reason that is none.
        """
        if reason not in _WAIT_REASONS:
            raise ValueError(f"a handler does not wait for {reason!r}; say one of {', '.join(_WAIT_REASONS)}")
        lend = self._services.waiting
        return nullcontext() if lend is None else lend(self, reason, detail[:200])

    async def sleep(self, delay: timedelta | float) -> None:
        """Goes on after `delay` (a number: seconds), during which the instance waits for a timer.

        Nothing of it is stored: for minutes and days, send a message with a delay.
        """
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        with self.waiting("timer", f"{seconds:g} s"):
            await asyncio.sleep(seconds)

    def send(
        self,
        agent: str | AgentReference,
        content: Any = None,
        *,
        key: str = "",
        handler: str = "",
        type: str = "",
        priority: Priority | str = Priority.NORMAL,
        headers: Mapping[str, str] | None = None,
        delay: timedelta | None = None,
        ttl: timedelta | None = None,
        id: str = "",
        durable: bool | None = None,
    ) -> None:
        """Stages a one-way message: sent when this invocation commits, never if it fails.

        content: a value or a Message. Raises InvalidValue if it has no JSON form; nothing is staged then.
        """
        proto = outgoing(agent, content, key, handler, type, priority, headers, delay, ttl, id, "", durable)
        self._effects().messages.append(proto)

    emit = send

    def publish(
        self,
        topic: str,
        content: Any = None,
        *,
        attributes: Mapping[str, str] | None = None,
        durable: bool | None = None,
        key: str = "",
        priority: Priority | str = Priority.NORMAL,
        id: str = "",
    ) -> None:
        """Stages an event: published when this invocation commits, never if it fails."""
        event = make_event(topic, content, attributes=attributes, durable=durable, key=key, priority=priority, id=id)
        self._effects().events.append(event)

    def schedule(
        self,
        name: str,
        handler: str,
        content: Any = None,
        *,
        after: timedelta | None = None,
        every: timedelta | None = None,
        fixed_delay: timedelta | None = None,
        cron: str = "",
        zone: str = "",
        missed: Missed = "run_once",
        initial_delay: timedelta | None = None,
    ) -> None:
        """Stages a timer of this instance, replacing the one of that name. Exactly one timing must be given.

        after: once. every: fixed rate. fixed_delay: wait after each run. cron: five fields, or six with seconds first,
        in the IANA `zone`.
        """
        definition = make_schedule(
            name,
            handler,
            after=after,
            every=every,
            fixed_delay=fixed_delay,
            cron=cron,
            zone=zone,
            missed=missed,
            initial_delay=initial_delay,
            key=self.key,
        )
        if content is not None:
            definition.payload.content_type, definition.payload.data = encode_payload(content)
        self._effects().schedules.append(definition)

    def unschedule(self, name: str) -> None:
        """Stages the removal of a timer of this instance; an unknown name does nothing."""
        self._effects().cancelled_schedules.append(name)

    def subscribe(self, pattern: str, handler: str, filter: str = "") -> None:
        """Stages a subscription of this instance to events on matching topics."""
        self._effects().subscriptions.add(pattern=pattern, handler=handler, filter=filter)

    def unsubscribe(self, pattern: str) -> None:
        """Stages the end of this instance's subscription to `pattern`."""
        self._effects().cancelled_subscriptions.append(pattern)

    async def request(
        self,
        agent: str | AgentReference,
        content: Any = None,
        *,
        key: str = "",
        handler: str = "",
        type: str = "",
        priority: Priority | str = Priority.NORMAL,
        headers: Mapping[str, str] | None = None,
        timeout: timedelta | None = None,
        durable: bool | None = None,
    ) -> Any:
        """Asks another agent now and returns its value (a ProcessingResult if it returned one).

        Ends at the earlier of `timeout` and this invocation's deadline. Raises AmxError with the callee's reason.
        """
        proto = self._outgoing(agent, content, key, handler, type, priority, headers, durable)
        payload = await self._engine("request").request(
            proto, timeout_ms=self._timeout(timeout), invocation_id=self.invocation_id
        )
        return decode_reply(payload)

    async def stream(
        self,
        agent: str | AgentReference,
        content: Any = None,
        *,
        key: str = "",
        handler: str = "",
        type: str = "",
        priority: Priority | str = Priority.NORMAL,
        headers: Mapping[str, str] | None = None,
        timeout: timedelta | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Asks a streaming handler now and yields its chunks as they come. A reader that leaves cancels it."""
        proto = self._outgoing(agent, content, key, handler, type, priority, headers, None)
        chunks = self._engine("stream").stream(
            proto, timeout_ms=self._timeout(timeout), invocation_id=self.invocation_id
        )
        try:
            async for payload in chunks:
                yield decode_reply(payload)
        finally:
            await chunks.aclose()

    async def send_now(
        self,
        agent: str | AgentReference,
        content: Any = None,
        *,
        key: str = "",
        handler: str = "",
        type: str = "",
        priority: Priority | str = Priority.NORMAL,
        headers: Mapping[str, str] | None = None,
        delay: timedelta | None = None,
        ttl: timedelta | None = None,
        id: str = "",
        durable: bool | None = None,
        timeout: timedelta | None = None,
    ) -> Receipt:
        """Sends at once, whether or not this invocation succeeds; returns when the engine has it.

        Ends at the earlier of `timeout` and this invocation's deadline.
        """
        proto = outgoing(agent, content, key, handler, type, priority, headers, delay, ttl, id, "", durable)
        self._trace(proto)
        accepted = await self._engine("send_now").send(
            proto, timeout_ms=self._timeout(timeout), invocation_id=self.invocation_id
        )
        return Receipt(accepted.message_id, accepted.duplicate)

    async def publish_now(
        self,
        topic: str,
        content: Any = None,
        *,
        attributes: Mapping[str, str] | None = None,
        durable: bool | None = None,
        key: str = "",
        priority: Priority | str = Priority.NORMAL,
        id: str = "",
    ) -> int:
        """Publishes at once, whether or not this invocation succeeds; returns the number of subscribers."""
        event = make_event(topic, content, attributes=attributes, durable=durable, key=key, priority=priority, id=id)
        event.traceparent = self.traceparent
        published = await self._engine("publish_now").publish(
            event, timeout_ms=self._timeout(None), invocation_id=self.invocation_id
        )
        return published.subscribers

    async def broadcast(
        self,
        scope: Scope,
        content: Any = None,
        *,
        handler: str = "",
        type: str = "",
        priority: Priority | str = Priority.NORMAL,
        headers: Mapping[str, str] | None = None,
        timeout: timedelta | None = None,
    ) -> BroadcastOutcome:
        """Sends to many at once, whether or not this invocation succeeds; returns what became of it at each.

        Ends at the earlier of `timeout` and this invocation's deadline.
        """
        broadcast = make_broadcast(scope, content, handler, type, priority, headers)
        self._trace(broadcast.message)
        result = await self._engine("broadcast").broadcast(
            broadcast, timeout_ms=self._timeout(timeout), invocation_id=self.invocation_id
        )
        return BroadcastOutcome.from_proto(result)

    def events(self, pattern: str, filter: str = "") -> Subscription:
        """Events on topics that match, as Messages, while `async with` lasts: for a handler that waits for something.

        Unlike `subscribe` it ends with this invocation, and what it reads is nobody else's.
        """
        subscription = message_pb2.Subscription(pattern=pattern, filter=filter)
        return Subscription(self._engine("events"), subscription, self.invocation_id)

    def memory(self, agent: str | AgentReference, key: str = "") -> RemoteMemory:
        """The memory of another instance, as it is committed. What a handler's own instance remembers is on `self`."""
        reference = AgentReference.parse(agent) if isinstance(agent, str) else agent
        return RemoteMemory(self._engine("memory"), reference.name, key or reference.key, self.invocation_id)

    @property
    def has_effects(self) -> bool:
        """Whether anything is staged."""
        return self._staged is not None

    def collect(self, effects: link_pb2.Effects) -> None:
        """Moves what is staged into `effects`."""
        staged = self._staged
        if staged is not None:
            effects.MergeFrom(staged)
            self._staged = None

    def _effects(self) -> link_pb2.Effects:
        staged = self._staged
        if staged is None:
            staged = self._staged = link_pb2.Effects()
        return staged

    def _engine(self, operation: str) -> Calls:
        if self._calls is None:
            raise AmxError(
                FAILED_PRECONDITION,
                "NO_ENGINE",
                f"context.{operation} needs an engine, and this context has none;"
                " run the agent in an AmxEngine or in amx_engine.testing",
            )
        return self._calls

    def _outgoing(
        self,
        agent: str | AgentReference,
        content: Any,
        key: str,
        handler: str,
        type: str,
        priority: Priority | str,
        headers: Mapping[str, str] | None,
        durable: bool | None,
    ) -> message_pb2.Message:
        proto = outgoing(agent, content, key, handler, type, priority, headers, durable=durable)
        self._trace(proto)
        return proto

    def _trace(self, proto: message_pb2.Message) -> None:
        if not proto.traceparent:
            proto.traceparent = self.traceparent

    def _timeout(self, timeout: timedelta | None) -> int:
        remaining = self.remaining
        if timeout is None:
            shortest = remaining
        else:
            shortest = timeout if remaining is None else min(timeout, remaining)
        return 0 if shortest is None else max(1, milliseconds(shortest, "timeout"))


class ContextSource(Protocol):
    """Something that makes its context when it is first asked for: most handlers never ask."""

    def context(self) -> Context:
        """The same context every time."""
        ...


_current: ContextVar[Context | ContextSource] = ContextVar("amx_engine.context")


def current_context() -> Context:
    """The context of the invocation this code runs in. Raises AmxError NO_CONTEXT outside of one."""
    try:
        current = _current.get()
    except LookupError:
        raise AmxError(
            FAILED_PRECONDITION, "NO_CONTEXT", "no handler is running here; call this from inside a handler"
        ) from None
    return current if isinstance(current, Context) else current.context()


def set_current(context: Context | ContextSource) -> Token[Context | ContextSource]:
    """Makes `context` the current one of this task or thread; undo with `reset_current`."""
    return _current.set(context)


def reset_current(token: Token[Context | ContextSource]) -> None:
    """Undoes `set_current`."""
    _current.reset(token)


def make_event(
    topic: str,
    content: Any = None,
    *,
    attributes: Mapping[str, str] | None = None,
    durable: bool | None = None,
    key: str = "",
    priority: Priority | str = Priority.NORMAL,
    id: str = "",
) -> message_pb2.Event:
    """An event as it travels. Raises InvalidInput for an empty topic, InvalidValue for content without JSON form."""
    if not topic:
        raise InvalidInput("an event needs a topic, e.g. 'orders.eu.created'", pointer="topic")
    event = message_pb2.Event()
    event.topic = topic
    if key:
        event.key = key
    if id:
        event.event_id = id
    if priority is not Priority.NORMAL:
        event.priority = Priority.of(priority).value  # type: ignore[assignment]
    if durable is not None:
        event.durability = common_pb2.DURABILITY_DURABLE if durable else common_pb2.DURABILITY_VOLATILE
    if attributes:
        event.attributes.update(attributes)
    if content is not None:
        payload = event.payload
        payload.content_type, payload.data = encode_payload(content)
    return event


def make_schedule(
    name: str,
    handler: str,
    *,
    after: timedelta | None = None,
    every: timedelta | None = None,
    fixed_delay: timedelta | None = None,
    cron: str = "",
    zone: str = "",
    missed: str = "run_once",
    initial_delay: timedelta | None = None,
    key: str = "",
) -> agent_pb2.ScheduleDefinition:
    """A schedule as it travels. Raises InvalidInput unless exactly one timing is given and everything is positive."""
    given = [what for what in (after, every, fixed_delay, cron or None) if what is not None]
    if len(given) != 1:
        raise InvalidInput(
            f"schedule '{name}' has {len(given)} timings; give exactly one of a fixed rate, a fixed delay, a cron"
            " expression, or a single delay",
            pointer="schedule",
        )
    if missed not in _MISSED:
        raise InvalidInput(
            f"schedule '{name}': missed is {missed!r}; use one of {', '.join(_MISSED)}", pointer="missed"
        )
    if zone and not cron:
        raise InvalidInput(f"schedule '{name}': a time zone goes with cron only", pointer="zone")
    definition = agent_pb2.ScheduleDefinition(name=name, handler=handler, missed=_MISSED[missed], key=key)
    if after is not None:
        definition.once_after_ms = max(1, milliseconds(after, "after"))
    elif every is not None:
        definition.fixed_rate_ms = _positive(every, f"schedule '{name}' interval")
    elif fixed_delay is not None:
        definition.fixed_delay_ms = _positive(fixed_delay, f"schedule '{name}' fixed_delay")
    else:
        if len(cron.split()) not in (5, 6):
            raise InvalidInput(
                f"schedule '{name}': cron {cron!r} has {len(cron.split())} fields; expected five, or six with seconds"
                " first",
                pointer="cron",
            )
        definition.cron = cron
        definition.time_zone = zone
    if initial_delay is not None:
        definition.initial_delay_ms = max(1, milliseconds(initial_delay, "initial_delay"))
    return definition


def _positive(value: timedelta, what: str) -> int:
    millis = milliseconds(value, what)
    if not millis:
        raise InvalidInput(f"{what} is zero; expected a positive length of time", pointer="interval")
    return millis
