"""Agents, their instances and the invocations on their way: the state that the dispatcher owns. No behaviour here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from amx import wire
from amx.v1 import common_pb2, message_pb2
from amx_server.memory.instance_memory import InstanceMemory, MemorySpec
from amx_server.runtime.breaker import CircuitBreaker
from amx_server.runtime.deadlines import Bucket
from amx_server.runtime.definitions import AgentSpec, HandlerSpec
from amx_server.runtime.mailbox import Mailbox
from amx_server.runtime.retry import RetryPlan
from amx_server.runtime.scheduling.run_queue import Lane
from amx_server.runtime.scheduling.shares import Share
from amx_server.telemetry.metrics import HandlerStats

if TYPE_CHECKING:
    from amx_server.runtime.links import LinkSession
    from amx_server.runtime.namespaces import Namespace

_AGENT, _HANDLER = 2 << 3 | 2, 3 << 3 | 2  # tags of Deliver


class ReplySink(Protocol):
    """Whoever waits for the outcome of a message. Each sink gets exactly one of `result` and `fail`."""

    def accepted(self, message_id: str, duplicate: bool) -> None:
        """The message is in the engine's hands (stored, if durable). Only for one-way messages."""
        ...

    def result(self, payload: common_pb2.Payload) -> None:
        """The handler returned this."""
        ...

    def fail(self, failure: common_pb2.Failure) -> None:
        """The message failed for good."""
        ...

    def chunk(self, payload: common_pb2.Payload) -> None:
        """A part of a streamed reply."""
        ...


class BytesSink(ReplySink, Protocol):
    """One that takes a result as it travels."""

    def result_bytes(self, payload: bytes) -> None:
        """The handler returned this Payload."""
        ...


class Invocation:
    """One message on its way to one instance, over all its attempts.

    A plain one is passed on as the bytes that came, with a few added behind them; its sink is a BytesSink.
    """

    __slots__ = (
        "_message",
        "accepted_at_ms",
        "added",
        "attempt",
        "cancelling",
        "chunks",
        "concurrent",
        "deadline",
        "done",
        "epoch",
        "expires_at",
        "failure",
        "handler",
        "id",
        "instance",
        "kind",
        "link",
        "memory_version",
        "on_end",
        "packed",
        "plain",
        "priority",
        "redeliveries",
        "seq",
        "sink",
        "size",
        "started",
        "streaming",
        "token",
        "waiters",
        "window",
    )

    def __init__(
        self,
        id: int,
        instance: Instance,
        handler: HandlerState,
        message: message_pb2.Message | None,
        sink: ReplySink | None,
        plain: bytes = b"",
        added: bytes = b"",
    ) -> None:
        self.id = id
        self.instance = instance
        self.handler = handler
        self._message = message
        self.plain = plain  # the Message as it came; empty: `message` was given
        self.packed = b""  # the message, where it was set aside; see `set_aside`
        self.added = added  # fields of the Message that come behind those
        self.sink = sink
        self.attempt = 0
        self.redeliveries = 0
        self.epoch = 0
        self.memory_version = 0
        self.seq = 0  # order in the store; 0: volatile
        self.priority = 3
        self.deadline = 0.0  # monotonic seconds; 0: none
        self.expires_at = 0.0  # monotonic seconds until which it may wait; 0: without end
        self.token: Bucket[Invocation] | None = None  # place in the deadline wheel
        self.link: LinkSession | None = None  # where it runs
        self.started = 0.0
        self.size = 0  # bytes of the message, about
        self.kind = ""  # type of a plain message
        self.concurrent = handler.spec.concurrent
        self.done = False
        self.cancelling = False
        self.streaming = False
        self.chunks = 0
        self.window = 0
        self.accepted_at_ms = 0
        self.failure: common_pb2.Failure | None = None  # of the last attempt
        self.on_end: Callable[[Invocation], None] | None = None
        self.waiters: list[Callable[[], None]] | None = None

    @property
    def message(self) -> message_pb2.Message:
        """The message; of a plain one it is made when it is first asked for."""
        message = self._message
        if message is None:
            message = self._message = message_pb2.Message.FromString(self.packed or self.plain + self.added)
        return message

    def set_aside(self) -> None:
        """Keeps the message as bytes until it is asked for: it takes ten times as much otherwise, and where it is part
        of the frame that it came with, that whole frame.
        """
        if self._message is not None and not self.plain:
            self.packed = self._message.SerializeToString()
            self._message = None


class HandlerState:
    """One handler of one agent: its specification, which a new version replaces, and its record."""

    __slots__ = ("agent", "breaker", "name", "receiver", "retry", "spec", "stats")

    def __init__(
        self, agent: Agent, spec: HandlerSpec, breaker: CircuitBreaker | None, retry: RetryPlan, stats: HandlerStats
    ) -> None:
        self.agent = agent
        self.name = spec.name
        self.receiver = wire.field(_AGENT, agent.name) + wire.field(_HANDLER, spec.name)  # of Deliver, as it travels
        self.spec = spec
        self.breaker = breaker
        self.retry = retry
        self.stats = stats


class AgentVersion:
    """One version of an agent and the links that host it."""

    __slots__ = ("displaced", "hosts", "spec", "turn")

    def __init__(self, spec: AgentSpec) -> None:
        self.spec = spec
        self.hosts: list[LinkSession] = []
        self.displaced: list[tuple[AgentSpec, LinkSession]] = []  # hosts of definitions that `spec` replaced, in order
        self.turn = 0  # where the search for a host begins


class Agent:
    """One agent of one namespace."""

    __slots__ = (
        "active",
        "handlers",
        "hibernated",
        "instances",
        "memories",
        "name",
        "namespace",
        "pinned",
        "queued",
        "ready",
        "restored",
        "share",
        "suspended",
        "versions",
    )

    def __init__(self, namespace: Namespace, name: str) -> None:
        self.namespace = namespace
        self.name = name
        self.versions: dict[str, AgentVersion] = {}
        self.active: AgentVersion | None = None  # takes new messages
        self.pinned = ""
        self.handlers: dict[str, HandlerState] = {}  # of every version; the active one's definition wins
        self.memories: Mapping[str, MemorySpec] = {}  # of the active version
        self.instances: dict[str, Instance] = {}
        self.hibernated: dict[str, float] = {}  # key -> monotonic second of its last message
        self.suspended: dict[str, Suspension] = {}  # key -> why; awake or not, they start nothing
        self.share = Share(namespace.share)
        self.ready: Lane[Instance] = Lane(self.share)  # instances with a message and no slot to run it in
        self.queued = 0  # messages in mailboxes
        self.restored = False  # known from an earlier run or process, and no link has hosted it since: it is waited for


@dataclass(frozen=True, slots=True)
class Suspension:
    """Why an instance is kept from running, and since when (milliseconds since the Unix epoch)."""

    reason: str
    at_ms: int


class Bar:
    """Keeps an instance from starting anything. count: of those who want that; version: that it was placed with."""

    __slots__ = ("count", "version")

    def __init__(self, version: AgentVersion | None) -> None:
        self.count = 1
        self.version = version


class Instance:
    """One agent instance that is awake."""

    __slots__ = (
        "agent",
        "barred",
        "concurrent",
        "delivering",
        "epoch",
        "key",
        "last_active",
        "link",
        "link_version",
        "loading",
        "mailbox",
        "memory",
        "operations",
        "running",
        "storing",
        "version",
    )

    def __init__(self, agent: Agent, key: str) -> None:
        self.agent = agent
        self.key = key
        self.mailbox: Mailbox[Invocation] | None = None
        self.running: Invocation | None = None  # the message that has the instance to itself, until it is committed
        self.concurrent = 0  # messages of concurrent handlers that run now
        self.delivering = 0  # deliveries of events, and changes from outside, that run or are being stored now
        self.operations: deque[Callable[[Instance], None]] | None = None  # wait for the instance to be idle
        self.link: LinkSession | None = None  # where it is placed
        self.version: AgentVersion | None = None  # version it is placed with
        self.epoch = 0
        self.memory: InstanceMemory | None = None
        self.loading = False  # its memory is being read
        self.barred: Bar | None = None  # it may start nothing: it is suspended, being killed, moved, restarted
        self.storing = 0  # messages to it that are on their way to disk
        self.link_version = -1  # memory version its link holds; -1: none
        self.last_active = 0.0

    @property
    def busy(self) -> bool:
        """A handler runs or a commit is under way."""
        return self.running is not None or self.delivering > 0 or self.concurrent > 0

    @property
    def address(self) -> str:
        """`name/key`, as people write it."""
        return f"{self.agent.name}/{self.key}"
