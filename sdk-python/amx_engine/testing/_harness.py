"""AgentHarness: one agent at work without sockets and without an engine, with everything it does open to inspection."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any, TypeAlias

from amx.v1 import agent_pb2, common_pb2, link_pb2, message_pb2
from amx_engine._context import make_event
from amx_engine._definition import HostedAgent
from amx_engine._errors import (
    FAILED_PRECONDITION,
    NOT_FOUND,
    UNIMPLEMENTED,
    AmxError,
    error_from_failure,
    failure_from_exception,
)
from amx_engine._link import Link
from amx_engine._memory import InstanceMemory
from amx_engine._message import AgentReference, Message, Priority, encode_payload, outgoing
from amx_engine._result import decode_reply
from amx_engine._services import Content, Io, Services
from amx_engine._transport import EmbeddedConnector
from amx_engine.testing._memory import KeptMemory

_Chunks: TypeAlias = "asyncio.Queue[tuple[int, common_pb2.Payload] | None]"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one message led to. value: what the handler returned; the rest: what it staged, committed with it."""

    value: Any = None
    sent: tuple[Message, ...] = ()
    published: tuple[Message, ...] = ()
    schedules: tuple[agent_pb2.ScheduleDefinition, ...] = ()
    memory_changed: bool = False


@dataclass(slots=True)
class _Instance:
    """One key of the agent: where it is placed, what it remembers."""

    epoch: int
    memory: KeptMemory
    held: int = -1  # version that the link holds
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class AgentHarness:
    """Runs an agent as an engine would: one message at a time per key, memory kept from one to the next, changes of
    failed messages undone.

        async with AgentHarness(Greeter) as agent:
            assert await agent.request({"name": "Ada"}) == "Hello, Ada"
            assert agent.memory()["greeted"] == ["Ada"]

    sent, published: messages and events of all handlers so far, staged or sent at once. timers: schedules that
    handlers set, by (key, name). There are no retries, routers or other agents: see `reply_to`.
    io, content: stand-ins for what the engine lends, as `context.io` and `context.content`; None: not lent.
    """

    def __init__(
        self,
        agent: Any,
        *,
        config: Mapping[str, Any] | None = None,
        io: Io | None = None,
        content: Content | None = None,
    ) -> None:
        self._agent = HostedAgent.of(agent)
        self._config = config
        self._services = Services(
            io=None if io is None else lambda _: io, content=None if content is None else lambda _: content
        )
        self._offset = 0.0
        self._ids = count(1)
        self._epochs = count(1)
        self._instances: dict[str, _Instance] = {}
        self._replies: dict[tuple[str, str], Any] = {}
        self._end: _Engine | None = None
        self._link: Link | None = None
        self.sent: list[Message] = []
        self.published: list[Message] = []
        self.timers: dict[tuple[str, str], agent_pb2.ScheduleDefinition] = {}
        self.subscriptions: list[message_pb2.Subscription] = []

    async def __aenter__(self) -> AgentHarness:
        end = self._end = _Engine(self._called)
        connector = EmbeddedConnector(lambda: end, services=self._services)
        self._link = Link(connector, [self._agent], config=self._config, clock=self._clock)
        await self._link.open(0.0)
        return self

    async def __aexit__(self, *_: object) -> None:
        link, self._link, self._end = self._link, None, None
        if link is not None:
            await link.close(0.0)
        await self._agent.close()

    async def request(self, content: Any = None, **options: Any) -> Any:
        """What the handler returns. Options as for `run`. Raises AmxError if it fails."""
        return (await self.run(content, **options)).value

    async def run(
        self,
        content: Any = None,
        *,
        key: str = "default",
        handler: str = "",
        type: str = "",
        headers: Mapping[str, str] | None = None,
        priority: Priority | str = Priority.NORMAL,
        attempt: int = 1,
        timeout: float = 30.0,
    ) -> Outcome:
        """Hands one message to the agent and returns what it led to. Raises AmxError if the handler fails.

        content: a value, or a Message. handler: if empty, chosen as the engine would, by type or default.
        """
        message = self._message(content, key, handler, type, headers, priority)
        return await self._invoke(key, message, attempt, timeout, None)

    async def stream(
        self, content: Any = None, *, key: str = "default", handler: str = "", type: str = "", timeout: float = 30.0
    ) -> AsyncGenerator[Any, None]:
        """Yields what a streaming handler yields."""
        message = self._message(content, key, handler, type, None, Priority.NORMAL)
        chunks: _Chunks = asyncio.Queue()
        work = asyncio.ensure_future(self._invoke(key, message, 1, timeout, chunks))
        work.add_done_callback(lambda _: chunks.put_nowait(None))
        try:
            while (chunk := await chunks.get()) is not None:
                id, payload = chunk
                self._connected().grant(id)
                yield decode_reply(payload)
            outcome = work.result()
            if outcome.value is not None:
                yield outcome.value
        finally:
            work.cancel()

    async def deliver(
        self,
        topic: str,
        content: Any = None,
        *,
        key: str = "default",
        handler: str = "",
        attributes: Mapping[str, str] | None = None,
    ) -> list[Outcome]:
        """Hands an event to the handlers subscribed to its topic, or to `handler`; returns what it led to at each.

        Filters of subscriptions are the engine's business and not looked at. Raises AmxError if one of them fails,
        NO_SUBSCRIBER if there is none.
        """
        names = [handler] if handler else self._subscribed(topic)
        if not names:
            raise AmxError(
                NOT_FOUND, "NO_SUBSCRIBER", f"no handler of '{self._agent.name}' subscribes to a pattern for '{topic}'"
            )
        event = make_event(topic, content, attributes=attributes, key=key)
        outcomes = []
        for name in names:
            instance = self._instance(key)
            async with instance.turn:
                end = self._connected()
                if instance.held != instance.memory.version:
                    end.activate(self._agent.name, key, instance.epoch, instance.memory)
                    instance.held = instance.memory.version
                target = await end.deliver(next(self._ids), event, self._agent.name, name, instance.epoch)
                outcomes.append(self._settle(key, instance, target, None))
        return outcomes

    async def fire(self, name: str, *, key: str = "default") -> Outcome:
        """Runs a schedule of the agent, or a timer that one of its handlers set, now."""
        schedule = self.timers.get((key, name))
        if schedule is None:
            schedule = next((one for one in self._agent.definition.schedules if one.name == name), None)
        if schedule is None:
            known = [one.name for one in self._agent.definition.schedules] + [name for _, name in self.timers]
            raise AmxError(
                NOT_FOUND, "SCHEDULE_UNKNOWN", f"there is no schedule '{name}'; there are: {', '.join(known) or 'none'}"
            )
        if schedule.WhichOneof("timing") == "once_after_ms":
            self.timers.pop((key, name), None)
        message = message_pb2.Message(agent=self._agent.name, key=key, handler=schedule.handler)
        if schedule.HasField("payload"):
            message.payload.CopyFrom(schedule.payload)
        return await self._invoke(key, message, 1, 30.0, None)

    def reply_to(self, agent: str, reply: Any, *, handler: str = "") -> None:
        """What another agent answers when this one asks it.

        reply: a value; an exception, which is raised at the caller; or a function of the Message, which may be async.
        """
        self._replies[agent, handler] = reply

    def memory(self, key: str = "default") -> dict[str, Any]:
        """What an instance remembers, as plain dicts, lists, sets and values by name."""
        kept = self._instance(key).memory
        instance = self._agent.new_instance(key)
        memory = InstanceMemory(self._agent, self._clock)
        memory.attach(instance)
        memory.load(kept.image(), kept.version)
        return {name: _plain(memory.value(name)) for name in self._agent.memories}

    async def hibernate(self, key: str = "default") -> None:
        """Forgets the object, not the memory, as the engine does with idle instances."""
        instance = self._instance(key)
        async with instance.turn:
            self._connected().deactivate(instance.epoch)
            instance.epoch = next(self._epochs)
            instance.held = -1

    async def advance(self, time: timedelta) -> None:
        """Moves the clock that memory expires by. Schedules do not run by themselves here: see `fire`."""
        self._offset += time.total_seconds()

    # Inside

    def _clock(self) -> float:
        return time.monotonic() + self._offset

    def _connected(self) -> _Engine:
        if self._end is None:
            raise AmxError(FAILED_PRECONDITION, "NOT_STARTED", "use the harness with `async with AgentHarness(...)`")
        return self._end

    def _instance(self, key: str) -> _Instance:
        instance = self._instances.get(key)
        if instance is None:
            instance = self._instances[key] = _Instance(next(self._epochs), KeptMemory(self._clock))
        return instance

    def _message(
        self,
        content: Any,
        key: str,
        handler: str,
        type: str,
        headers: Mapping[str, str] | None,
        priority: Priority | str,
    ) -> message_pb2.Message:
        return outgoing(AgentReference(self._agent.name, key), content, "", handler, type, priority, headers)

    def _subscribed(self, topic: str) -> list[str]:
        definitions = self._agent.definition.handlers
        return [d.name for d in definitions if any(matches(s.pattern, topic) for s in d.subscriptions)]

    async def _invoke(
        self,
        key: str,
        message: message_pb2.Message,
        attempt: int,
        timeout: float,
        chunks: _Chunks | None,
    ) -> Outcome:
        end = self._connected()
        instance = self._instance(key)
        async with instance.turn:
            invoke = link_pb2.Invoke(
                attempt=attempt,
                epoch=instance.epoch,
                timeout_ms=int(timeout * 1000),
                memory_version=instance.memory.version,
                streaming=chunks is not None,
            )
            invoke.message.CopyFrom(message)
            if instance.held != instance.memory.version:
                invoke.memory.CopyFrom(instance.memory.image())
                invoke.memory.SetInParent()
                instance.held = instance.memory.version
            complete = await end.invoke(next(self._ids), invoke, chunks)
            return self._settle(key, instance, complete, complete.result)

    def _settle(
        self,
        key: str,
        instance: _Instance,
        done: link_pb2.Complete | link_pb2.DeliveredTarget,
        result: common_pb2.Payload | None,
    ) -> Outcome:
        """Commits what a handler did, or raises why it did not."""
        if done.memory_dropped:
            instance.held = -1
        if done.HasField("failure"):
            raise error_from_failure(done.failure)
        effects = done.effects
        changed = instance.memory.apply(effects.memory)
        if changed and instance.held >= 0:
            instance.held = instance.memory.version
        sent = tuple(Message.from_proto(message) for message in effects.messages)
        published = tuple(Message.from_event(event) for event in effects.events)
        self.sent.extend(sent)
        self.published.extend(published)
        for schedule in effects.schedules:
            self.timers[key, schedule.name] = schedule
        for name in effects.cancelled_schedules:
            self.timers.pop((key, name), None)
        self.subscriptions.extend(effects.subscriptions)
        gone = set(effects.cancelled_subscriptions)
        self.subscriptions = [one for one in self.subscriptions if one.pattern not in gone]
        value = None if result is None else decode_reply(result)
        return Outcome(value, sent, published, tuple(effects.schedules), changed)

    async def _called(self, call: link_pb2.Call, reply: link_pb2.Reply) -> None:
        """Answers what the agent asks of its engine while it runs."""
        operation = call.WhichOneof("operation")
        if operation == "send":
            self.sent.append(Message.from_proto(call.send))
            reply.accepted.message_id = call.send.message_id or f"harness-{next(self._ids)}"
        elif operation == "publish":
            self.published.append(Message.from_event(call.publish))
            reply.published.event_id = call.publish.event_id or f"harness-{next(self._ids)}"
        elif operation in ("request", "stream"):
            message = call.request if operation == "request" else call.stream
            reply.result.content_type, reply.result.data = encode_payload(await self._answer(message))
        else:
            raise AmxError(
                UNIMPLEMENTED,
                "UNSUPPORTED_ITEM",
                f"the harness has no answer to '{operation}'; test this agent with EmbeddedEngine",
            )

    async def _answer(self, message: message_pb2.Message) -> Any:
        replies = self._replies
        if (message.agent, message.handler) in replies:
            answer = replies[message.agent, message.handler]
        elif (message.agent, "") in replies:
            answer = replies[message.agent, ""]
        else:
            raise AmxError(
                NOT_FOUND,
                "AGENT_UNKNOWN",
                f"the agent asks '{message.agent}', which is not here; say what it answers:"
                f" harness.reply_to({message.agent!r}, …)",
            )
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer = answer(Message.from_proto(message))
            if inspect.isawaitable(answer):
                answer = await answer
        return answer


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic pattern (`*`: one segment; `**`, or a last `>`: any number) matches a topic."""

    def match(wanted: list[str], found: list[str]) -> bool:
        if not wanted:
            return not found
        head, rest = wanted[0], wanted[1:]
        if head == "**":
            return any(match(rest, found[skip:]) for skip in range(len(found) + 1))
        if head == ">" and not rest:
            return bool(found)
        return bool(found) and head in ("*", found[0]) and match(rest, found[1:])

    return match(pattern.split("."), topic.split("."))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return set(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


_Called = Callable[[link_pb2.Call, link_pb2.Reply], Any]


class _Engine:
    """The engine's end of the harness's link: just enough of the protocol to hand over one thing at a time."""

    def __init__(self, called: _Called) -> None:
        self._called = called
        self._frames: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._seq = 0
        self._received = 0
        self._invocations: dict[int, asyncio.Future[link_pb2.Complete]] = {}
        self._deliveries: dict[int, asyncio.Future[link_pb2.Delivered]] = {}
        self._chunks: dict[int, _Chunks] = {}
        self._answers: dict[int, asyncio.Task[None]] = {}

    # What the harness asks

    async def invoke(self, id: int, invoke: link_pb2.Invoke, chunks: _Chunks | None) -> link_pb2.Complete:
        future = self._invocations[id] = asyncio.get_running_loop().create_future()
        if chunks is not None:
            self._chunks[id] = chunks
        try:
            self._say(link_pb2.LinkItem(id=id, invoke=invoke))
            complete: link_pb2.Complete = await future
            return complete
        except asyncio.CancelledError:
            self._say(link_pb2.LinkItem(id=id, cancel=link_pb2.Cancel(reason="the test was cancelled")))
            raise
        finally:
            self._invocations.pop(id, None)
            self._chunks.pop(id, None)

    async def deliver(
        self, id: int, event: message_pb2.Event, agent: str, handler: str, epoch: int
    ) -> link_pb2.DeliveredTarget:
        future = self._deliveries[id] = asyncio.get_running_loop().create_future()
        deliver = link_pb2.Deliver(event=event, agent=agent, handler=handler, epochs=[epoch])
        self._say(link_pb2.LinkItem(id=id, deliver=deliver))
        delivered = await future
        return delivered.targets[0] if delivered.targets else link_pb2.DeliveredTarget()

    def activate(self, agent: str, key: str, epoch: int, memory: KeptMemory) -> None:
        activate = link_pb2.Activate(epoch=epoch, memory_version=memory.version, memory=memory.image())
        activate.instance.agent, activate.instance.key = agent, key
        self._say(link_pb2.LinkItem(activate=activate))

    def deactivate(self, epoch: int) -> None:
        self._say(link_pb2.LinkItem(deactivate=link_pb2.Deactivate(epochs=[epoch])))

    def grant(self, id: int) -> None:
        self._say(link_pb2.LinkItem(id=id, credit=link_pb2.Credit(chunks=1)))

    # The link's end

    def feed(self, data: bytes) -> None:
        frame = link_pb2.LinkFrame.FromString(data)
        self._received = max(self._received, frame.seq)
        for item in frame.items:
            self._take(item)

    async def next_frame(self) -> bytes | None:
        while not self._frames:
            if self._closed:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._frames.popleft()

    def close(self) -> None:
        self._closed = True
        for task in self._answers.values():
            task.cancel()
        self._wake()

    def _take(self, item: link_pb2.LinkItem) -> None:
        kind = item.WhichOneof("item")
        if kind == "hello":
            frame = link_pb2.LinkFrame()
            welcome = frame.items.add().welcome
            welcome.protocol = item.hello.protocol_max
            welcome.session_id = "harness"
            welcome.engine.name = "AgentHarness"
            self._put(frame)
        elif kind == "complete":
            completed = self._invocations.get(item.id)
            if completed is not None and not completed.done():
                completed.set_result(item.complete)
        elif kind == "delivered":
            delivered = self._deliveries.pop(item.id, None)
            if delivered is not None and not delivered.done():
                delivered.set_result(item.delivered)
        elif kind == "chunk":
            chunks = self._chunks.get(item.id)
            if chunks is not None:
                chunks.put_nowait((item.id, item.chunk.payload))
        elif kind == "call":
            self._answers[item.id] = asyncio.ensure_future(self._answer(item.id, item.call))
        elif kind == "cancel":
            answer = self._answers.get(item.id)
            if answer is not None:
                answer.cancel()
        elif kind == "ping":
            self._say(link_pb2.LinkItem(pong=link_pb2.Pong(nonce=item.ping.nonce)))
        elif kind == "drained":
            self.close()

    async def _answer(self, id: int, call: link_pb2.Call) -> None:
        item = link_pb2.LinkItem(id=id)
        try:
            await self._called(call, item.reply)
        except Exception as error:
            item.reply.failure.CopyFrom(failure_from_exception(error, "harness"))
        finally:
            self._answers.pop(id, None)
        self._say(item)

    def _say(self, *items: link_pb2.LinkItem) -> None:
        self._seq += 1
        self._put(link_pb2.LinkFrame(items=items, seq=self._seq, ack=self._received))

    def _put(self, frame: link_pb2.LinkFrame) -> None:
        self._frames.append(frame.SerializeToString())
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
