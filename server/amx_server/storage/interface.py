"""What the engine asks of a store. Implemented by SQLite (embedded); PostgreSQL follows.

Writes are gathered into commits: a `Commit` is all or nothing, many commits share one transaction and one fsync.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

IN_MEMORY: Final = ":memory:"
"""Location of a store that ends with the process."""


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
    # amx.v1.Reply with the result, or the last failure; empty: none yet, or, in lists, damaged: `message` says how
    outcome: bytes = b""


@dataclass(slots=True)
class MemoryRow:
    """One entry of one persistent memory."""

    name: str
    entry: str
    value: bytes
    expires_at_ms: int  # 0: never
    version: int  # the instance's memory version that wrote it
    used: int  # order of last use inside the memory; the lowest is evicted first


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of an instance's memory that can still be read."""

    version: int
    at_ms: int  # when it was committed; for what a store without versions left: when that was opened by one with them
    message_id: str  # of the message whose handler wrote it; empty: written from outside
    changes: int  # entries it wrote or removed; 0: it only keeps the number
    snapshots: tuple[str, ...] = ()  # names that keep it, in order


@dataclass(frozen=True, slots=True)
class StoredFork:
    """Where an instance's memory comes from: from its own `version` on it also has what `source_key` of the same
    agent had at `source_version`, except what it wrote or removed itself.
    """

    version: int
    at_ms: int
    source_key: str
    source_version: int


@dataclass(frozen=True, slots=True)
class MemoryAt:
    """A memory as it was when one version was committed. Entries that had expired by then are among the rows."""

    version: int  # the stored version that held; lower than asked for if that wrote nothing to the store
    at_ms: int
    rows: list[MemoryRow]  # least recently used first


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What one step of forgetting versions did."""

    versions: int = 0
    rows: int = 0  # of entries that only those versions had
    after: tuple[str, str, str] | None = None  # for the next step; None: all instances have been looked at


@dataclass(frozen=True, slots=True)
class VersionCounts:
    """How much history a store holds."""

    versions: int = 0
    snapshots: int = 0
    forks: int = 0
    rows: int = 0  # of entries that present memories do not have any more


@dataclass(frozen=True, slots=True)
class StoredSuspension:
    """One instance that must not run until it is resumed."""

    namespace: str
    agent: str
    key: str
    reason: str
    at_ms: int


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
    definition: bytes  # amx.v1.AgentDefinition; read as empty if it is damaged
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
    # (namespace, agent, key, row): rows to write. Applied after `memory_remove` and `memory_clear`. What they replace,
    # and what these remove, stays readable in the versions before.
    memory_put: tuple[tuple[str, str, str, MemoryRow], ...] = ()
    # (namespace, agent, key, name, entry, version): not there from this version on
    memory_remove: tuple[tuple[str, str, str, str, str, int], ...] = ()
    # (namespace, agent, key, name, version): empty from this version on
    memory_clear: tuple[tuple[str, str, str, str, int], ...] = ()
    # (namespace, agent, key, name, entry, used): only the order of use changed, which makes no version
    memory_touch: tuple[tuple[str, str, str, str, str, int], ...] = ()
    # (namespace, agent, key, version, at_ms, message_id, changes): what this commit makes; see StoredVersion
    memory_version: tuple[tuple[str, str, str, int, int, str, int], ...] = ()
    schedule_put: tuple[StoredSchedule, ...] = ()
    # (namespace, agent, key, name)
    schedule_remove: tuple[tuple[str, str, str, str], ...] = ()
    subscription_put: tuple[StoredSubscription, ...] = ()
    # (namespace, agent, key, pattern)
    subscription_remove: tuple[tuple[str, str, str, str], ...] = ()
    agent_put: tuple[StoredAgent, ...] = ()
    suspension_put: tuple[StoredSuspension, ...] = ()
    # (namespace, agent, key)
    suspension_remove: tuple[tuple[str, str, str], ...] = ()
    duplicates: tuple[str, ...] = ()
    prompt: bool = False
    """Where commits wait for others to share their transaction (`commit_delay`), this one does not, nor do those before
    it."""


class Blobs(Protocol):
    """Where values lie that are too large for rows, by address. Called by the store's threads.

    References are (namespace, agent, address), with the agent that is charged for them; '' and '': the engine.
    """

    threshold: int
    """Values of at least so many bytes are kept by address."""

    def keep(
        self, values: Sequence[tuple[str, str, bytes]], addresses: Sequence[tuple[str, str, bytes]]
    ) -> tuple[list[bytes], list[bool]]:
        """Keeps (namespace, agent, value), and what is at the addresses. All of it is durable on return.

        Returns the address of each value, empty where it must stay in its row as there is no room for it, and whether
        there is content at each of the addresses. Raises AmxError; then nothing is kept.
        """
        ...

    def release(self, references: Sequence[tuple[str, str, bytes]]) -> None:
        """Takes back what `keep` kept, once the rows that had it are durably gone."""
        ...

    def get(self, address: bytes) -> bytes:
        """The value. Raises AmxError CONTENT_NOT_FOUND, CONTENT_CORRUPTED."""
        ...

    def reconcile(self, references: Iterable[tuple[str, str, bytes]]) -> None:
        """At the start: these are all that rows have, whatever a crash left."""
        ...


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

    @property
    def queued_bytes(self) -> int:
        """Bytes of commits that wait to be stored."""
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
        """Every entry of the instance, least recently used first. Reads what was committed before the call.

        Where no entry has the version of the memory, a row without a name has it.
        """
        ...

    async def memory_at(self, namespace: str, agent: str, key: str, version: int) -> MemoryAt:
        """The memory as of a version; of one later than the last stored, the last. 0: the last.

        Raises AmxError MEMORY_VERSION_UNKNOWN if the version is forgotten, or the instance has none.
        """
        ...

    async def memory_versions(
        self, namespace: str, agent: str, key: str, before: int, limit: int
    ) -> list[StoredVersion]:
        """Versions that can be read, newest first, those below `before`; 0: from the newest on."""
        ...

    async def memory_fork(self, namespace: str, agent: str, key: str) -> StoredFork | None:
        """What the instance was forked from; None: it was not."""
        ...

    async def snapshot_version(self, namespace: str, agent: str, key: str, name: str) -> int:
        """The version that a snapshot keeps. Raises AmxError SNAPSHOT_UNKNOWN."""
        ...

    async def create_snapshot(
        self, namespace: str, agent: str, key: str, name: str, version: int, at_ms: int
    ) -> StoredVersion:
        """Names a version (0: the last), which is then kept. A name that has this version already is left as it is.

        Raises AmxError MEMORY_VERSION_UNKNOWN, and SNAPSHOT_EXISTS if the name has another version.
        """
        ...

    async def delete_snapshot(self, namespace: str, agent: str, key: str, name: str) -> bool:
        """Takes a name back; whether it was there."""
        ...

    async def fork_memory(
        self, namespace: str, agent: str, source_key: str, version: int, target_key: str, at_ms: int
    ) -> StoredFork:
        """Lets an instance that remembers nothing inherit what another had at a version (0: the last), which is kept.

        Costs one row, whatever is remembered. What is read of the target afterwards includes what it inherits.
        Raises AmxError MEMORY_VERSION_UNKNOWN, FORK_TARGET_EXISTS if the target remembers something, and FORK_TOO_DEEP.
        """
        ...

    async def forget_versions(self, before_ms: int, keep: int, after: tuple[str, str, str], limit: int) -> Forgotten:
        """One step of forgetting versions: of up to `limit` instances that follow `after`, in order; begin with
        ("", "", "").

        Forgets what was no longer the present before `before_ms`, and all but the `keep` newest versions (at least
        the present one), except those that a snapshot or a fork needs.
        """
        ...

    async def version_counts(self) -> VersionCounts: ...

    async def holders(self, addresses: Sequence[bytes]) -> dict[bytes, list[str]]:
        """Who refers to content, for people: up to 10 for each address that somebody refers to. Reads every row."""
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
    async def suspensions(self) -> list[StoredSuspension]: ...

    async def purge_ended(self, before_ms: int, limit: int) -> int:
        """Forgets SUCCEEDED, FAILED and CANCELLED messages that ended before; returns how many."""
        ...
