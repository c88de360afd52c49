"""What the engine asks of a store. Implemented by SQLite (embedded); PostgreSQL follows.

Writes are gathered into commits: a `Commit` is all or nothing, many commits share one transaction and one fsync.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

    The fields are tuples, added to with `commit.insert += (row,)`: a commit is made for every message, and a dozen
    empty lists each would keep the garbage collector busy.
    """

    done: Callable[[BaseException | None], None]
    insert: tuple[StoredMessage, ...] = ()
    # (seq, state, outcome, ended_at_ms, attempts): the message ended. The body is dropped unless the state is DEAD.
    finish: tuple[tuple[int, int, bytes, int, int], ...] = ()
    # (seq, attempts, available_at_ms, outcome): another attempt will follow; state becomes PENDING.
    retry: tuple[tuple[int, int, int, bytes], ...] = ()
    # Sequence numbers of messages to forget entirely.
    drop: tuple[int, ...] = ()
    # (namespace, agent, key, row): rows to write. Applied after `memory_remove` and `memory_clear`.
    memory_put: tuple[tuple[str, str, str, MemoryRow], ...] = ()
    # (namespace, agent, key, name, entry)
    memory_remove: tuple[tuple[str, str, str, str, str], ...] = ()
    # (namespace, agent, key, name)
    memory_clear: tuple[tuple[str, str, str, str], ...] = ()
    schedule_put: tuple[StoredSchedule, ...] = ()
    # (namespace, agent, key, name)
    schedule_remove: tuple[tuple[str, str, str, str], ...] = ()
    subscription_put: tuple[StoredSubscription, ...] = ()
    # (namespace, agent, key, pattern)
    subscription_remove: tuple[tuple[str, str, str, str], ...] = ()
    agent_put: tuple[StoredAgent, ...] = ()
    duplicates: tuple[str, ...] = ()


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
