"""What the engine asks of a store. Implemented by SQLite (embedded); PostgreSQL follows.

Writes are gathered into commits: a `Commit` is all or nothing, many commits share one transaction and one fsync.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol


class MessageState(IntEnum):
    """Where a stored message is in its life."""

    PENDING = 0
    SUCCEEDED = 1
    FAILED = 2
    CANCELLED = 3
    DEAD = 4


@dataclass(slots=True)
class StoredMessage:
    """One durable message and what became of it. Times are milliseconds since the Unix epoch; 0 means none."""

    seq: int  # order of acceptance, unique in the store, minted by the engine
    namespace: str
    message_id: str  # unique in the namespace
    agent: str
    key: str
    handler: str
    priority: int
    accepted_at_ms: int
    body: bytes  # amx.v1.Message; empty once ended, except for dead letters
    state: int = 0
    attempts: int = 0
    available_at_ms: int = 0  # not delivered before
    expires_at_ms: int = 0
    ended_at_ms: int = 0
    outcome: bytes = b""  # amx.v1.Reply with the result, or the last failure; empty: none yet


@dataclass(slots=True)
class MemoryRow:
    """One entry of one persistent memory."""

    name: str
    entry: str
    value: bytes
    expires_at_ms: int  # 0: never
    version: int  # the instance's memory version that wrote it
    used: int  # order of last use inside the memory; the lowest is evicted first


@dataclass(slots=True)
class StoredSchedule:
    """One schedule of one instance."""

    namespace: str
    agent: str
    key: str
    name: str
    definition: bytes  # amx.v1.ScheduleDefinition
    next_run_at_ms: int = 0  # 0: none
    last_run_at_ms: int = 0  # the occurrence that ran last, not the moment it ran; 0: never
    paused: bool = False
    from_definition: bool = True  # declared by the agent class rather than set by a handler


@dataclass(slots=True)
class StoredSubscription:
    """One topic one instance subscribed to at run time."""

    namespace: str
    agent: str
    key: str
    pattern: str
    handler: str
    filter: str


@dataclass(slots=True)
class StoredAgent:
    """One version of one agent definition."""

    namespace: str
    name: str
    version: str
    definition: bytes  # amx.v1.AgentDefinition
    pinned: bool = False


@dataclass(slots=True)
class Commit:
    """Changes that happen together or not at all.

    done(error) is called on the event loop once the commit is on disk (error None) or has been given up; order of
    `done` calls is the order of `submit`. `duplicates` then holds the message ids that were in the store already;
    inserting those had no effect, the rest of the commit did happen.
    """

    done: Callable[[BaseException | None], None]
    insert: list[StoredMessage] = field(default_factory=list)
    # (seq, state, outcome, ended_at_ms, attempts): the message ended. The body is dropped unless the state is DEAD.
    finish: list[tuple[int, int, bytes, int, int]] = field(default_factory=list)
    # (seq, attempts, available_at_ms, outcome): another attempt will follow; state becomes PENDING.
    retry: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    # Sequence numbers of messages to forget entirely.
    drop: list[int] = field(default_factory=list)
    # (namespace, agent, key, row): rows to write. Applied after `memory_remove` and `memory_clear`.
    memory_put: list[tuple[str, str, str, MemoryRow]] = field(default_factory=list)
    # (namespace, agent, key, name, entry)
    memory_remove: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    # (namespace, agent, key, name)
    memory_clear: list[tuple[str, str, str, str]] = field(default_factory=list)
    schedule_put: list[StoredSchedule] = field(default_factory=list)
    # (namespace, agent, key, name)
    schedule_remove: list[tuple[str, str, str, str]] = field(default_factory=list)
    subscription_put: list[StoredSubscription] = field(default_factory=list)
    # (namespace, agent, key, pattern)
    subscription_remove: list[tuple[str, str, str, str]] = field(default_factory=list)
    agent_put: list[StoredAgent] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)


class Store(Protocol):
    """A durable store. An async context manager; methods may be called from the event loop's thread only."""

    async def __aenter__(self) -> Store: ...
    async def __aexit__(self, *exc: object) -> None: ...

    @property
    def generation(self) -> int:
        """How many times this store has been opened; grows by one at every start."""
        ...

    @property
    def next_seq(self) -> int:
        """First unused message sequence number when the store was opened."""
        ...

    @property
    def location(self) -> str:
        """Where it stores, for people."""
        ...

    def submit(self, commit: Commit) -> None:
        """Queues a commit; returns at once. See Commit.done. Never raises for reasons of storage."""
        ...

    async def flush(self) -> None:
        """Returns when everything submitted so far has been committed or given up."""
        ...

    async def pending_messages(self, after_seq: int, limit: int) -> list[StoredMessage]:
        """Messages in state PENDING with seq > after_seq, in order of seq."""
        ...

    async def message(self, namespace: str, message_id: str) -> StoredMessage | None: ...

    async def messages(
        self, namespace: str, agent: str, state: int | None, after_seq: int, limit: int
    ) -> list[StoredMessage]:
        """Messages of one namespace in order of seq. agent '' and state None mean any."""
        ...

    async def count_messages(self, namespace: str, state: int) -> int: ...

    async def memory(self, namespace: str, agent: str, key: str) -> list[MemoryRow]:
        """Every entry of the instance, least recently used first. Reads what was committed before the call."""
        ...

    async def memory_instances(
        self, namespace: str, agent: str, after: tuple[str, str], limit: int
    ) -> list[tuple[str, str]]:
        """(agent, key) of instances that remember something, in order. agent '' means any."""
        ...

    async def stored_bytes(self) -> dict[str, int]:
        """Bytes per namespace: bodies of pending and dead messages, outcomes, memory entries."""
        ...

    async def schedules(self) -> list[StoredSchedule]: ...
    async def subscriptions(self) -> list[StoredSubscription]: ...
    async def agents(self) -> list[StoredAgent]: ...

    async def purge_ended(self, before_ms: int, limit: int) -> int:
        """Forgets SUCCEEDED, FAILED and CANCELLED messages that ended before; returns how many."""
        ...
