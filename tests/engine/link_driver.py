"""Plays SDKs over in-memory links with raw frames, and runs an engine whose time stands still. No tests here."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from amx.v1 import agent_pb2, common_pb2, link_pb2, memory_pb2, message_pb2
from amx_server.core.clock import ManualClock
from amx_server.core.config import EngineConfig
from amx_server.runtime.engine import Engine
from amx_server.runtime.instances import Instance
from amx_server.runtime.links import LinkConnection
from amx_server.security.identity import ANONYMOUS, Identity
from amx_server.storage import Store, open_store

PATIENCE_SECONDS = 5.0  # how long a test waits for another thread before it fails

# Far-off heartbeats: most tests let hours pass and are not about links that fall silent.
QUIET: dict[str, Any] = {"links": {"heartbeat_interval": 10**7}, "logging": {"level": "error"}}

DURABLE = common_pb2.DURABILITY_DURABLE
VOLATILE = common_pb2.DURABILITY_VOLATILE


def configured(**sections: Mapping[str, Any]) -> EngineConfig:
    """A configuration for tests: `QUIET`, and the given sections over it."""
    merged = {name: dict(section) for name, section in QUIET.items()}
    for name, section in sections.items():
        merged[name] = {**merged.get(name, {}), **section}
    return EngineConfig.read(merged)


def agent(
    name: str,
    *handlers: str | agent_pb2.HandlerDefinition,
    version: str = "1.0.0",
    memories: tuple[agent_pb2.MemoryDefinition, ...] = (),
    schedules: tuple[agent_pb2.ScheduleDefinition, ...] = (),
    groups: tuple[str, ...] = (),
    **fields: Any,
) -> agent_pb2.AgentDefinition:
    """A definition; with no handler given it has one called `handle`."""
    definition = agent_pb2.AgentDefinition(name=name, version=version, **fields)
    for one in handlers or ("handle",):
        definition.handlers.append(agent_pb2.HandlerDefinition(name=one) if isinstance(one, str) else one)
    definition.memories.extend(memories)
    definition.schedules.extend(schedules)
    definition.groups.extend(groups)
    return definition


def value_memory(name: str = "total", *, persistent: bool = True, **fields: Any) -> agent_pb2.MemoryDefinition:
    """A memory that holds one value."""
    return agent_pb2.MemoryDefinition(name=name, kind=agent_pb2.MEMORY_KIND_VALUE, persistent=persistent, **fields)


def map_memory(name: str = "items", *, persistent: bool = True, **fields: Any) -> agent_pb2.MemoryDefinition:
    """A memory that holds a map."""
    return agent_pb2.MemoryDefinition(name=name, kind=agent_pb2.MEMORY_KIND_MAP, persistent=persistent, **fields)


def put(name: str, value: Any, id: str = "") -> memory_pb2.MemoryChange:
    """The change that writes one entry."""
    change = memory_pb2.MemoryChange(name=name)
    change.put.id = id
    change.put.value = json.dumps(value).encode()
    return change


def failure(reason: str = "HANDLER_FAILED", *, retryable: bool = False, code: int = 13) -> common_pb2.Failure:
    """A failure as a handler's exception becomes one."""
    return common_pb2.Failure(code=code, reason=reason, message=f"it failed: {reason}", retryable=retryable)


def content(payload: common_pb2.Payload) -> Any:
    """The JSON value of a payload."""
    return json.loads(payload.data) if payload.data else None


def remembered(invoke: link_pb2.Invoke, name: str = "total", id: str = "") -> Any:
    """One entry of the memory that an Invoke brings; None if it is not there."""
    return entry_of(invoke.memory, name, id)


def entry_of(image: memory_pb2.InstanceMemory, name: str, id: str = "") -> Any:
    """One entry of a memory image; None if it is not there."""
    for memory in image.memories:
        for entry in memory.entries:
            if (memory.name, entry.id) == (name, id):
                return json.loads(entry.value) if entry.value else True
    return None


class Work:
    """An Invoke that an SDK has received."""

    def __init__(self, sdk: Sdk, id: int, invoke: link_pb2.Invoke) -> None:
        self.sdk = sdk
        self.id = id
        self.invoke = invoke

    @property
    def message(self) -> message_pb2.Message:
        return self.invoke.message

    @property
    def value(self) -> Any:
        """Content of the message."""
        return content(self.invoke.message.payload)

    @property
    def address(self) -> str:
        return f"{self.message.agent}/{self.message.key}"

    def succeed(self, result: Any = None, effects: link_pb2.Effects | None = None, **fields: Any) -> None:
        """Completes it with a result."""
        item = self._item(**fields)
        item.complete.result.data = json.dumps(result).encode()
        if effects is not None:
            item.complete.effects.CopyFrom(effects)
        self.sdk.feed(item)

    def answer(self, result: Any, content_type: str) -> None:
        """Completes it with a result of another content type."""
        item = self._item()
        item.complete.result.data = json.dumps(result).encode()
        item.complete.result.content_type = content_type
        self.sdk.feed(item)

    def fail(self, reason: str = "HANDLER_FAILED", *, retryable: bool = False, code: int = 13, **fields: Any) -> None:
        """Completes it with a failure."""
        item = self._item(**fields)
        item.complete.failure.CopyFrom(failure(reason, retryable=retryable, code=code))
        self.sdk.feed(item)

    def chunk(self, value: Any) -> None:
        """Sends a part of a streamed reply."""
        item = link_pb2.LinkItem(id=self.id)
        item.chunk.payload.data = json.dumps(value).encode()
        self.sdk.feed(item)

    def _item(self, **fields: Any) -> link_pb2.LinkItem:
        item = link_pb2.LinkItem(id=self.id)
        item.complete.attempt = fields.pop("attempt", self.invoke.attempt)
        item.complete.epoch = fields.pop("epoch", self.invoke.epoch)
        for name, value in fields.items():
            setattr(item.complete, name, value)
        return item


class Sdk:
    """One SDK process. Takes frames in as they come and sorts their items; sends what the test says."""

    def __init__(self, engine: Engine, link_id: str, identity: Identity = ANONYMOUS) -> None:
        self.engine = engine
        self.link_id = link_id
        self.identity = identity
        self.connection: LinkConnection | None = None
        self.sent_seq = 0
        self.received_seq = 0
        self.sent: list[bytes] = []  # every numbered frame, for resumes
        self.frames: list[link_pb2.LinkFrame] = []  # everything received
        self.items: dict[str, deque[link_pb2.LinkItem]] = defaultdict(deque)  # not yet taken by the test
        self.replies: dict[int, link_pb2.Reply] = {}
        self.chunks: dict[int, list[Any]] = defaultdict(list)
        self.welcome = link_pb2.Welcome()
        self.answers_pings = True
        self.watched = False  # its process is: whoever pumps its frames knows when it ends
        self.over = False
        self._calls = 0
        self._arrived = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    # --- connecting --------------------------------------------------------------------------------------------------

    async def connect(self, *agents: agent_pb2.AgentDefinition, credit: int = 100, **fields: Any) -> link_pb2.Welcome:
        """Opens the link; fails the test if it is rejected."""
        answer = await self.try_connect(*agents, credit=credit, **fields)
        assert isinstance(answer, link_pb2.Welcome), answer
        return answer

    async def try_connect(
        self, *agents: agent_pb2.AgentDefinition, credit: int = 100, **fields: Any
    ) -> link_pb2.Welcome | common_pb2.Failure:
        """Opens the link. Returns the Welcome or why it was rejected."""
        hello = link_pb2.Hello(
            link_id=self.link_id,
            protocol_min=fields.pop("protocol_min", 1),
            protocol_max=fields.pop("protocol_max", 1),
            features=fields.pop("features", ["resume", "deliver", "stream-credit"]),
            credit=credit,
            agents=agents,
            **fields,
        )
        frame = link_pb2.LinkFrame()
        frame.items.add().hello.CopyFrom(hello)
        return await self.open(frame.SerializeToString())

    async def open(self, first: bytes) -> link_pb2.Welcome | common_pb2.Failure:
        """Opens a connection whose first frame is `first`."""
        connection = self.connection = self.engine.open_link(self.identity, watched=self.watched)
        self.over = False
        connection.feed(first)
        data = await connection.next_frame()
        assert data is not None
        (item,) = link_pb2.LinkFrame.FromString(data).items
        if item.HasField("rejected"):
            return item.rejected.failure
        self.welcome = item.welcome
        if not item.welcome.resumed:
            self.sent_seq = self.received_seq = 0
            self.sent.clear()
        self._reader = asyncio.create_task(self._read(connection))
        return item.welcome

    async def resume(self, *, token: str | None = None, received_seq: int | None = None) -> link_pb2.Welcome:
        """Connects anew with the token of the last Welcome, and repeats what the engine had not received."""
        welcome = await self.connect(
            resume_token=self.welcome.resume_token if token is None else token,
            received_seq=self.received_seq if received_seq is None else received_seq,
        )
        if welcome.resumed:
            assert self.connection is not None
            for data in self.sent[welcome.received_seq :]:
                self.connection.feed(data)
        return welcome

    def disconnect(self) -> None:
        """The connection breaks, without a word."""
        assert self.connection is not None
        self.connection.close()

    async def _read(self, connection: LinkConnection) -> None:
        while (data := await connection.next_frame()) is not None:
            frame = link_pb2.LinkFrame.FromString(data)
            self.frames.append(frame)
            if frame.seq:
                assert frame.seq == self.received_seq + 1, f"frame {frame.seq} follows {self.received_seq}"
                self.received_seq = frame.seq
            for item in frame.items:
                self._sort(item)
            self._arrived.set()
        if self.connection is connection:
            self.over = True
            self._arrived.set()

    def _sort(self, item: link_pb2.LinkItem) -> None:
        kind = item.WhichOneof("item") or ""
        if kind == "reply" and not item.reply.HasField("subscribed"):
            assert item.id not in self.replies, f"call {item.id} was answered twice"
            self.replies[item.id] = item.reply
        elif kind == "chunk":
            self.chunks[item.id].append(content(item.chunk.payload))
        elif kind == "ping" and self.answers_pings:
            self.feed(link_pb2.LinkItem(pong=link_pb2.Pong(nonce=item.ping.nonce)))
        else:
            self.items[kind].append(item)

    # --- sending -----------------------------------------------------------------------------------------------------

    def feed(self, *items: link_pb2.LinkItem) -> None:
        """Sends one frame with these items."""
        self.sent_seq += 1
        frame = link_pb2.LinkFrame(items=items, seq=self.sent_seq, ack=self.received_seq)
        data = frame.SerializeToString()
        self.sent.append(data)
        self.raw(data)

    def raw(self, data: bytes) -> None:
        """Sends bytes as they are."""
        assert self.connection is not None
        self.connection.feed(data)

    def call(self, operation: str, value: Any, *, timeout_ms: int = 0, invocation_id: int = 0) -> int:
        """Makes a call. Returns its id."""
        item = self.call_item(operation, value, timeout_ms=timeout_ms, invocation_id=invocation_id)
        self.feed(item)
        return item.id

    def call_item(
        self, operation: str, value: Any, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> link_pb2.LinkItem:
        """The item of a call that is yet to be sent."""
        self._calls += 1
        item = link_pb2.LinkItem(id=self._calls)
        item.call.timeout_ms = timeout_ms
        item.call.invocation_id = invocation_id
        getattr(item.call, operation).CopyFrom(value)
        return item

    def request(self, agent: str, value: Any = None, *, timeout_ms: int = 0, **fields: Any) -> int:
        return self.call("request", message(agent, value, **fields), timeout_ms=timeout_ms)

    def send(self, agent: str, value: Any = None, **fields: Any) -> int:
        return self.call("send", message(agent, value, **fields))

    def stream(self, agent: str, value: Any = None, *, timeout_ms: int = 0, **fields: Any) -> int:
        return self.call("stream", message(agent, value, **fields), timeout_ms=timeout_ms)

    def publish(self, topic: str, value: Any = None, **fields: Any) -> int:
        return self.call("publish", event(topic, value, **fields))

    def subscribe(self, pattern: str, filter: str = "") -> int:
        return self.call("subscribe", message_pb2.Subscription(pattern=pattern, filter=filter))

    def cancel(self, id: int, reason: str = "") -> None:
        self.feed(link_pb2.LinkItem(id=id, cancel=link_pb2.Cancel(reason=reason)))

    def grant(self, invocations: int) -> None:
        """Sets the credit of the link."""
        self.feed(link_pb2.LinkItem(credit=link_pb2.Credit(invocations=invocations)))

    def grant_chunks(self, id: int, chunks: int) -> None:
        """Lets a stream send more chunks."""
        self.feed(link_pb2.LinkItem(id=id, credit=link_pb2.Credit(chunks=chunks)))

    def drain(self) -> None:
        self.feed(link_pb2.LinkItem(drain=link_pb2.Drain()))

    def delivered(self, item: link_pb2.LinkItem, *targets: link_pb2.DeliveredTarget) -> None:
        """Answers a Deliver."""
        self.feed(link_pb2.LinkItem(id=item.id, delivered=link_pb2.Delivered(targets=targets)))

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits until what has arrived satisfies the condition."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                while not condition():
                    self._arrived.clear()
                    await self._arrived.wait()
            except asyncio.CancelledError:
                raise AssertionError(f"{self.link_id} waited in vain for {what}") from None

    async def next(self, kind: str) -> link_pb2.LinkItem:
        """The next item of this kind."""
        await self.until(lambda: bool(self.items[kind]), kind)
        return self.items[kind].popleft()

    async def work(self) -> Work:
        """The next Invoke."""
        item = await self.next("invoke")
        return Work(self, item.id, item.invoke)

    async def reply(self, id: int) -> link_pb2.Reply:
        """The outcome of a call."""
        await self.until(lambda: id in self.replies, f"the reply to call {id}")
        return self.replies[id]

    async def result(self, id: int) -> Any:
        """The result of a request; fails the test if it failed."""
        reply = await self.reply(id)
        assert reply.HasField("result"), reply
        return content(reply.result)

    async def refusal(self, id: int) -> common_pb2.Failure:
        """The failure of a call; fails the test if it succeeded."""
        reply = await self.reply(id)
        assert reply.HasField("failure"), reply
        return reply.failure

    async def accepted(self, id: int) -> link_pb2.Accepted:
        """The acceptance of a send; fails the test if it was refused."""
        reply = await self.reply(id)
        assert reply.HasField("accepted"), reply
        return reply.accepted

    async def ended(self) -> None:
        """Waits until the connection is over."""
        await self.until(lambda: self.over, "the end of the connection")

    @property
    def waiting(self) -> int:
        """Invokes that have arrived and that the test has not taken."""
        return len(self.items["invoke"])


def message(agent: str, value: Any = None, **fields: Any) -> message_pb2.Message:
    """A message with JSON content."""
    made = message_pb2.Message(agent=agent, **fields)
    if value is not None:
        made.payload.data = json.dumps(value).encode()
    return made


def event(topic: str, value: Any = None, **fields: Any) -> message_pb2.Event:
    """An event with JSON content."""
    made = message_pb2.Event(topic=topic, **fields)
    if value is not None:
        made.payload.data = json.dumps(value).encode()
    return made


class Rig:
    """An engine under test, its clock, and its SDKs."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.engine = engine
        self.clock = clock
        self._links = 0

    def sdk(self, link_id: str = "", identity: Identity = ANONYMOUS) -> Sdk:
        """An SDK that has not connected yet."""
        self._links += 1
        return Sdk(self.engine, link_id or f"link-{self._links}", identity)

    async def worker(self, *agents: agent_pb2.AgentDefinition, credit: int = 100, link_id: str = "") -> Sdk:
        """A connected SDK that hosts agents."""
        sdk = self.sdk(link_id)
        await sdk.connect(*agents, credit=credit)
        return sdk

    async def client(self, identity: Identity = ANONYMOUS) -> Sdk:
        """A connected SDK that hosts nothing."""
        sdk = self.sdk(identity=identity)
        await sdk.connect()
        return sdk

    async def settle(self) -> None:
        """Returns when the engine has nothing left to do at this moment."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(3):
                await self.engine.store.flush()
                while self.engine.placement.loads:
                    await asyncio.sleep(0.001)
                for _ in range(10):
                    await asyncio.sleep(0)

    async def pass_time(self, seconds: float, step: float = 0.0) -> None:
        """Lets time pass, in steps if given, and the engine act on it."""
        await self.settle()
        passed = 0.0
        while passed < seconds:
            part = min(step or seconds, seconds - passed)
            self.clock.advance(part)
            passed += part
            self.engine.tick()
            await self.settle()

    def instance(self, agent: str, key: str = "default") -> Instance | None:
        """An instance that is awake."""
        return self.engine.namespace("default").instance(agent, key)

    @property
    def counters(self) -> Any:
        return self.engine.metrics.counters


@asynccontextmanager
async def running(
    config: EngineConfig | None = None,
    *,
    store: Store | str = ":memory:",
    clock: ManualClock | None = None,
) -> AsyncIterator[Rig]:
    """An engine whose time passes only by the rig. store: or the path of one."""
    clock = clock or ManualClock()
    opened = open_store(store) if isinstance(store, str) else store
    async with Engine(config or configured(), clock, store=opened, ticking=False) as engine:
        yield Rig(engine, clock)
