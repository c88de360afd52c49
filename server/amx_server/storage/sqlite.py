"""The embedded store: one SQLite file in write-ahead mode, one writer thread, two readers.

What the operations mean is in interface.py, what is written in sqlite_writer.py, how reading works in sqlite_reader.py.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from amx_server.core.errors import unavailable
from amx_server.storage import sqlite_versions as versions
from amx_server.storage.committer import Committer
from amx_server.storage.gil import LockYielder
from amx_server.storage.interface import (
    IN_MEMORY,
    Blobs,
    Commit,
    Forgotten,
    MemoryAt,
    MemoryRow,
    MessageState,
    StoredAgent,
    StoredFork,
    StoredMessage,
    StoredSchedule,
    StoredSubscription,
    StoredSuspension,
    StoredVersion,
    VersionCounts,
)
from amx_server.storage.lock import StoreLock
from amx_server.storage.sqlite_content import holders
from amx_server.storage.sqlite_errors import explain
from amx_server.storage.sqlite_reader import MemoryQuery, Query, SqliteReader
from amx_server.storage.sqlite_versions import VersionWriter
from amx_server.storage.sqlite_writer import SqliteWriter

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

T = TypeVar("T")

_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - a folder with an unguessable name is made in it
_PURGE_ROWS: Final = 500  # removed in one transaction, between which commits get their turn

_AT_ONCE: Final = 100  # versions of one instance that are forgotten, likewise

_RESULT: Final = "result of message {} in {}"
_DEFINITION: Final = "definition of agent {} {} in {}"
_MESSAGES: Final = "SELECT * FROM messages WHERE "
_MESSAGE_COLUMNS: Final = (
    "seq",
    "namespace",
    "message_id",
    "agent",
    "key",
    "handler",
    "priority",
    "accepted_at_ms",
    "state",
    "attempts",
    "available_at_ms",
    "expires_at_ms",
    "ended_at_ms",
    "outcome_size",
)


class SqliteStore:
    """Implements Store on one SQLite file, created with its folder where missing. An async context manager.

    path: of the file, or ":memory:" for one that lives in a temporary folder until it is closed and does not survive
    power loss. max_queued_bytes: commits are refused with STORAGE_BUSY while more than this waits to be written.
    commit_delay: seconds that a commit may wait for others to share its transaction, unless it is prompt; reads,
    `flush` and leaving end the wait.
    cache_bytes: pages of the file the writer keeps in memory; the readers keep an eighth of that each.
    observe(stored, given up, seconds): told on the event loop of every transaction. blobs: where large values lie,
    which must be open for as long as the store is; None: all values lie in their rows.

    Entering raises AmxError: STORAGE_UNAVAILABLE (in use by another engine, unreadable, damaged), STORAGE_FULL,
    STORAGE_FOREIGN (another program's file), STORAGE_TOO_NEW (written by a newer engine); nothing stays open then.

    A commit's `done` may receive STORAGE_BUSY, STORAGE_FULL, STORAGE_UNAVAILABLE or STORAGE_REJECTED: nothing of it
    was stored, and the store goes on as soon as the cause is gone. Reads raise STORAGE_UNAVAILABLE. Every read sees
    all that was submitted before it.
    """

    def __init__(
        self,
        path: str,
        *,
        max_queued_bytes: int = 64 << 20,
        commit_delay: float = 0.0,
        cache_bytes: int = 64 << 20,
        observe: Callable[[int, int, float], None] | None = None,
        blobs: Blobs | None = None,
    ) -> None:
        self._path = path
        self._blobs = blobs
        self._observe = observe
        self._max_queued_bytes = max_queued_bytes
        self._commit_delay = commit_delay
        self._cache_bytes = cache_bytes
        self._folder: TemporaryDirectory[str] | None = None
        self._lock: StoreLock | None = None
        self._writer: SqliteWriter | None = None
        self._committer: Committer | None = None
        self._readers: list[SqliteReader] = []
        self._generation = 0
        self._next_seq = 1

    async def __aenter__(self) -> SqliteStore:
        try:
            path = await asyncio.to_thread(self._open)
            yielder = LockYielder()
            reader_cache = self._cache_bytes // 8
            # Lists and sums read a lot; an instance that wakes must not wait for them.
            for name in ("amx-storage-lookup", "amx-storage-scan"):
                self._readers.append(
                    SqliteReader(path, yielder, name=name, cache_bytes=reader_cache, blobs=self._blobs)
                )
            assert self._writer is not None
            self._committer = Committer(
                self._writer,
                yielder,
                max_queued_bytes=self._max_queued_bytes,
                delay=self._commit_delay,
                observe=self._observe,
            )
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stores what was submitted, reports it and closes. Goes on in the background when cancelled."""
        await asyncio.shield(asyncio.ensure_future(self._shut()))

    async def _shut(self) -> None:
        if self._committer is not None:
            await self._committer.close()
        readers, self._readers = self._readers, []
        for reader in readers:
            await reader.close()
        await asyncio.to_thread(self._close)

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def next_seq(self) -> int:
        return self._next_seq

    @property
    def location(self) -> str:
        return f"SQLite, {'in memory' if self._path == IN_MEMORY else os.path.abspath(self._path)}"

    @property
    def queued_bytes(self) -> int:
        """Bytes submitted and not yet reported as stored."""
        return self._committer.queued_bytes if self._committer is not None else 0

    def submit(self, commit: Commit) -> None:
        self._committing.submit(commit)

    async def flush(self) -> None:
        flushed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._committing.after(lambda: None if flushed.done() else flushed.set_result(None))
        await flushed

    async def pending_messages(self, after_seq: int, limit: int) -> list[StoredMessage]:
        return await self._scan(
            lambda reader: _messages(
                reader,
                f"state = {MessageState.PENDING:d} AND ended_at_ms = 0 AND seq > ? ORDER BY seq LIMIT ?",
                (after_seq, limit),
            )
        )

    async def message(self, namespace: str, message_id: str) -> StoredMessage | None:
        found = await self._look_up(
            lambda reader: _messages(reader, "namespace = ? AND message_id = ?", (namespace, message_id), None)
        )
        return found[0] if found else None

    async def messages(
        self, namespace: str, agent: str, state: int | None, after_seq: int, limit: int
    ) -> list[StoredMessage]:
        condition = "namespace = ? AND seq > ?"
        parameters: tuple[str | int, ...] = (namespace, after_seq)
        if agent:
            condition += " AND agent = ?"
            parameters += (agent,)
        if state == MessageState.PENDING:
            condition += " AND ended_at_ms = 0"  # so that the index gives the order
        if state is not None:
            condition += f" AND state = {state:d}"
        parameters += (limit,)
        return await self._scan(lambda reader: _messages(reader, condition + " ORDER BY seq LIMIT ?", parameters))

    async def count_messages(self, namespace: str, state: int) -> int:
        query = "SELECT count(*) FROM messages WHERE state = ? AND namespace = ?"
        return await self._scan(lambda reader: reader.number(query, (state, namespace)))

    async def memory(self, namespace: str, agent: str, key: str) -> list[MemoryRow]:
        result: asyncio.Future[list[MemoryRow]] = asyncio.get_running_loop().create_future()
        query = MemoryQuery((namespace, agent, key), result)
        self._committing.after(lambda: self._reader(0).put(query))
        return await result

    async def memory_at(self, namespace: str, agent: str, key: str, version: int) -> MemoryAt:
        return await self._look_up(lambda reader: versions.memory_at(reader, (namespace, agent, key), version))

    async def memory_versions(
        self, namespace: str, agent: str, key: str, before: int, limit: int
    ) -> list[StoredVersion]:
        instance = (namespace, agent, key)
        return await self._look_up(lambda reader: versions.versions_of(reader, instance, before, limit))

    async def memory_fork(self, namespace: str, agent: str, key: str) -> StoredFork | None:
        return await self._look_up(lambda reader: versions.fork_of(reader, (namespace, agent, key)))

    async def snapshot_version(self, namespace: str, agent: str, key: str, name: str) -> int:
        return await self._look_up(lambda reader: versions.snapshot_version(reader, (namespace, agent, key), name))

    async def create_snapshot(
        self, namespace: str, agent: str, key: str, name: str, version: int, at_ms: int
    ) -> StoredVersion:
        return await self._change(lambda w: w.create_snapshot((namespace, agent, key), name, version, at_ms))

    async def delete_snapshot(self, namespace: str, agent: str, key: str, name: str) -> bool:
        return await self._change(lambda w: w.delete_snapshot((namespace, agent, key), name))

    async def fork_memory(
        self, namespace: str, agent: str, source_key: str, version: int, target_key: str, at_ms: int
    ) -> StoredFork:
        return await self._change(lambda w: w.fork((namespace, agent, source_key), version, target_key, at_ms))

    async def forget_versions(self, before_ms: int, keep: int, after: tuple[str, str, str], limit: int) -> Forgotten:
        due, last = await self._scan(lambda reader: versions.forgettable(reader, before_ms, keep, after, limit))
        forgotten = rows = 0
        for instance in due:
            settled: int | None = 0
            while settled is not None:
                plan, settled = await self._scan(
                    partial(versions.doomed, instance=instance, before_ms=before_ms, keep=keep, settled=settled)
                )
                at = 0
                while at < len(plan):
                    part = plan[at : at + _AT_ONCE]
                    step = await self._change(partial(VersionWriter.forget, instance=instance, doomed=part))
                    if not step.versions:  # a snapshot or fork has come: look again
                        settled = 0
                        break
                    at += step.versions
                    forgotten += step.versions
                    rows += step.rows
        return Forgotten(forgotten, rows, last)

    async def version_counts(self) -> VersionCounts:
        return await self._scan(versions.counts)

    async def holders(self, addresses: Sequence[bytes]) -> dict[bytes, list[str]]:
        return await self._scan(lambda reader: holders(reader, addresses))

    async def memory_instances(
        self, namespace: str, agent: str, after: tuple[str, str], limit: int
    ) -> list[tuple[str, str]]:
        condition = "WHERE namespace = ? AND (agent, key) > (?, ?)"
        parameters: tuple[str | int, ...] = (namespace, *after)
        if agent:
            condition += " AND agent = ?"
            parameters += (agent,)
        source = f"""
            SELECT agent, key FROM memory {condition} AND size >= 0
            UNION SELECT agent, key FROM memory_forks {condition} ORDER BY agent, key LIMIT ?"""  # noqa: S608
        parameters += (*parameters, limit)
        rows = await self._scan(lambda reader: reader.rows(("agent", "key"), (), source, parameters))
        return [(found_agent, key) for found_agent, key in rows]

    async def stored_bytes(self) -> dict[str, int]:
        """See Store.stored_bytes. Reads every message's head: for the start and for rare checks."""
        source = """
            SELECT namespace, sum(bytes) AS bytes FROM (
                SELECT namespace, length(body) + iif(outcome_size > 0, outcome_size, length(outcome)) AS bytes
                FROM messages
                UNION ALL SELECT namespace, iif(size > 0, size, length(value)) FROM memory
            ) GROUP BY namespace"""
        rows = await self._scan(lambda reader: reader.rows(("namespace", "bytes"), (), source))
        return {str(namespace): int(size) for namespace, size in rows}

    async def schedules(self) -> list[StoredSchedule]:
        source = "SELECT * FROM schedules ORDER BY namespace, agent, key, name"
        times_and_flags = ("next_run_at_ms", "last_run_at_ms", "paused", "from_definition")
        columns = ("namespace", "agent", "key", "name", *times_and_flags)
        rows = await self._scan(lambda reader: reader.rows(columns, ("definition",), source))
        return [
            StoredSchedule(namespace, agent, key, name, definition, next_run, last_run, bool(paused), bool(declared))
            for namespace, agent, key, name, next_run, last_run, paused, declared, definition in rows
        ]

    async def subscriptions(self) -> list[StoredSubscription]:
        source = "SELECT * FROM subscriptions ORDER BY namespace, agent, key, pattern"
        columns = ("namespace", "agent", "key", "pattern", "handler", "filter")
        return [StoredSubscription(*row) for row in await self._scan(lambda reader: reader.rows(columns, (), source))]

    async def agents(self) -> list[StoredAgent]:
        """Every version of every agent; the versions of an agent in order of first registration."""
        source = "SELECT * FROM agents ORDER BY namespace, name, ordinal"
        columns = ("namespace", "name", "version", "pinned", "definition_size")

        def read(reader: SqliteReader) -> list[StoredAgent]:
            found = []
            for namespace, name, version, pinned, size, definition in reader.rows(columns, ("definition",), source):
                holder = partial(_DEFINITION.format, name, version, namespace)
                definition = reader.value(definition, size, holder, damaged=b"")
                found.append(StoredAgent(namespace, name, version, definition, bool(pinned)))
            return found

        return await self._scan(read)

    async def suspensions(self) -> list[StoredSuspension]:
        source = "SELECT * FROM suspensions ORDER BY namespace, agent, key"
        columns = ("namespace", "agent", "key", "reason", "at_ms")
        return [StoredSuspension(*row) for row in await self._scan(lambda reader: reader.rows(columns, (), source))]

    async def purge_ended(self, before_ms: int, limit: int) -> int:
        assert self._writer is not None
        writer = self._writer
        removed = 0
        while removed < limit:
            part = min(_PURGE_ROWS, limit - removed)
            found = await self._committing.run(partial(writer.purge_ended, before_ms, part))
            removed += found
            if found < part:
                break
        return removed

    # --- inside

    @property
    def _committing(self) -> Committer:
        if self._committer is None:
            raise RuntimeError("the store is not open; use it inside `async with`")
        return self._committer

    def _reader(self, index: int) -> SqliteReader:
        if not self._readers:
            raise unavailable("STORAGE_UNAVAILABLE", "the store is closed; start the engine again")
        return self._readers[index]

    async def _look_up(self, read: Callable[[SqliteReader], T]) -> T:
        return await self._ask(0, read)

    async def _scan(self, read: Callable[[SqliteReader], T]) -> T:
        return await self._ask(1, read)

    async def _change(self, change: Callable[[VersionWriter], T]) -> T:
        assert self._writer is not None
        return await self._committing.run(partial(self._writer.run, change))

    async def _ask(self, index: int, read: Callable[[SqliteReader], T]) -> T:
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._committing.after(lambda: self._reader(index).put(Query(read, result)))
        return await result

    def _open(self) -> str:
        durable = self._path != IN_MEMORY
        try:
            if durable:
                path = os.path.realpath(self._path)
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            else:
                from tempfile import TemporaryDirectory  # and archives and compression, which it brings along

                memory = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
                self._folder = TemporaryDirectory(prefix="amx-", dir=memory)
                path = os.path.join(self._folder.name, "amx.db")
            self._lock = StoreLock(path)
        except OSError as error:
            raise explain(error, self._path) from error
        self._writer = SqliteWriter(path, durable=durable, cache_bytes=self._cache_bytes, blobs=self._blobs)
        self._generation = self._writer.generation
        self._next_seq = self._writer.next_seq
        return path

    def _close(self) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            if self._lock is not None:
                self._lock.release()
            if self._folder is not None:
                self._folder.cleanup()


def _messages(
    reader: SqliteReader, condition: str, parameters: tuple[str | int, ...], damaged: bytes | None = b""
) -> list[StoredMessage]:
    """damaged: what to say of a result that cannot be read; None: raises."""
    rows = reader.rows(_MESSAGE_COLUMNS, ("body", "outcome"), _MESSAGES + condition, parameters)
    return [
        StoredMessage(
            seq,
            namespace,
            message_id,
            agent,
            key,
            handler,
            priority,
            accepted_at_ms,
            body,
            state,
            attempts,
            available_at_ms,
            expires_at_ms,
            ended_at_ms,
            reader.value(outcome, outcome_size, partial(_RESULT.format, message_id, namespace), damaged),
        )
        for (
            seq,
            namespace,
            message_id,
            agent,
            key,
            handler,
            priority,
            accepted_at_ms,
            state,
            attempts,
            available_at_ms,
            expires_at_ms,
            ended_at_ms,
            outcome_size,
            body,
            outcome,
        ) in rows
    ]
