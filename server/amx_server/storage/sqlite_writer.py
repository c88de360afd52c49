"""The write connection of the SQLite store: turns a batch of commits into one statement, and keeps the log short.

Every step of a statement gives up the interpreter lock and may wait a long while to get it back. So a batch is one
multi-row INSERT into a temporary view, whose triggers do the work row by row, in the order of the rows: a whole
transaction, fsync included, is a single step, and later commits win over earlier ones by construction.
"""

# ruff: noqa: S608 - the SQL is put together from constants; values are always bound

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import apsw

from amx_server.core.errors import AmxError, unavailable
from amx_server.storage.interface import Commit, MessageState
from amx_server.storage.migrations import migrate
from amx_server.storage.sqlite_errors import explain

_INSERT: Final = 1
_UPDATE: Final = 2
_DROP: Final = 3
_MEMORY_PUT: Final = 4
_MEMORY_REMOVE: Final = 5
_MEMORY_CLEAR: Final = 6
_SCHEDULE_PUT: Final = 7
_SCHEDULE_REMOVE: Final = 8
_SUBSCRIPTION_PUT: Final = 9
_SUBSCRIPTION_REMOVE: Final = 10
_AGENT_PUT: Final = 11

# A row of the view: the operation, then what it needs in p1, p2, ...; the rest is NULL.
_WIDTH: Final = 16
_INSTANCE: Final = "namespace = new.p1 AND agent = new.p2 AND key = new.p3"


def _new(first: int, last: int) -> str:
    return ", ".join(f"new.p{number}" for number in range(first, last + 1))


_OPERATIONS: Final = {
    _INSERT: f"""
        INSERT INTO messages (seq, namespace, message_id, agent, key, handler, priority, accepted_at_ms, body, state,
            attempts, available_at_ms, expires_at_ms, ended_at_ms, outcome)
        VALUES ({_new(1, 15)}) ON CONFLICT (namespace, message_id) DO NOTHING""",
    # seq, state, outcome, ended_at_ms, attempts, available_at_ms or NULL to leave it
    _UPDATE: f"""
        UPDATE messages SET state = new.p2, outcome = new.p3, ended_at_ms = new.p4, attempts = new.p5,
            available_at_ms = coalesce(new.p6, available_at_ms),
            body = CASE WHEN new.p2 IN ({MessageState.PENDING:d}, {MessageState.DEAD:d}) THEN body ELSE x'' END
        WHERE seq = new.p1""",
    _DROP: "DELETE FROM messages WHERE seq = new.p1",
    _MEMORY_PUT: f"""
        INSERT INTO memory (namespace, agent, key, name, entry, value, expires_at_ms, version, used)
        VALUES ({_new(1, 9)}) ON CONFLICT DO UPDATE SET value = excluded.value,
            expires_at_ms = excluded.expires_at_ms, version = excluded.version, used = excluded.used""",
    _MEMORY_REMOVE: f"DELETE FROM memory WHERE {_INSTANCE} AND name = new.p4 AND entry = new.p5",
    _MEMORY_CLEAR: f"DELETE FROM memory WHERE {_INSTANCE} AND name = new.p4",
    _SCHEDULE_PUT: f"""
        INSERT INTO schedules (namespace, agent, key, name, definition, next_run_at_ms, last_run_at_ms, paused,
            from_definition)
        VALUES ({_new(1, 9)}) ON CONFLICT DO UPDATE SET definition = excluded.definition,
            next_run_at_ms = excluded.next_run_at_ms, last_run_at_ms = excluded.last_run_at_ms,
            paused = excluded.paused, from_definition = excluded.from_definition""",
    _SCHEDULE_REMOVE: f"DELETE FROM schedules WHERE {_INSTANCE} AND name = new.p4",
    _SUBSCRIPTION_PUT: f"""
        INSERT INTO subscriptions (namespace, agent, key, pattern, handler, filter)
        VALUES ({_new(1, 6)}) ON CONFLICT DO UPDATE SET handler = excluded.handler, filter = excluded.filter""",
    _SUBSCRIPTION_REMOVE: f"DELETE FROM subscriptions WHERE {_INSTANCE} AND pattern = new.p4",
    _AGENT_PUT: f"""
        INSERT INTO agents (namespace, name, version, definition, pinned)
        VALUES ({_new(1, 5)}) ON CONFLICT (namespace, name, version)
        DO UPDATE SET definition = excluded.definition, pinned = excluded.pinned""",
}

_PREPARE: Final = f"""
CREATE TEMP VIEW operations (operation, {", ".join(f"p{number}" for number in range(1, _WIDTH))})
    AS SELECT {", ".join(["NULL"] * _WIDTH)};
{
    "".join(
        f"CREATE TEMP TRIGGER operation_{number} INSTEAD OF INSERT ON operations WHEN new.operation = {number}"
        f" BEGIN {statement}; END;"
        for number, statement in _OPERATIONS.items()
    )
}
-- The number of a forgotten message is never given to another one.
CREATE TEMP TRIGGER keep_next_seq AFTER DELETE ON messages
    WHEN old.seq > (SELECT coalesce(max(seq), 0) FROM messages)
    BEGIN UPDATE meta SET value = old.seq + 1 WHERE name = 'next_seq' AND value <= old.seq; END;
"""

# Row counts that have a prepared statement of their own; others are filled up with rows that do nothing. The largest
# is what fits the 16 KiB of SQL text up to which apsw keeps a statement.
_SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 320, 384, 448)
_STATEMENTS: Final = tuple(
    f"INSERT INTO operations VALUES{','.join(['(' + ','.join('?' * _WIDTH) + ')'] * size)}" for size in _SIZES
)
_NOTHING: Final = tuple((None,) * count for count in range(_WIDTH + 1))

# Pages in the log that make a checkpoint due: with nothing else to do, and even under load.
_CHECKPOINT_IDLE_PAGES: Final = 1
_CHECKPOINT_PAGES: Final = 4096
_CHECKPOINT_IDLE_S: Final = 1.0
_WAL_KEPT_BYTES: Final = 64 << 20


class SqliteWriter:
    """Implements committer.BatchWriter. Opening brings the schema up to date and begins a new generation.

    Raises AmxError: STORAGE_UNAVAILABLE, STORAGE_FULL, STORAGE_FOREIGN, STORAGE_TOO_NEW.
    """

    batch_rows = _SIZES[-1]

    def __init__(self, path: str, *, durable: bool, cache_bytes: int) -> None:
        self._path = path
        self._db: apsw.Connection | None = None
        try:
            # SQLite gives its other files the permissions of this one.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = db = apsw.Connection(path, statementcachesize=64)
            db.set_busy_timeout(2000)
            db.pragma("synchronous", "full" if durable else "off")
            db.pragma("fullfsync", True)
            db.pragma("wal_autocheckpoint", 0)
            db.pragma("journal_size_limit", _WAL_KEPT_BYTES)
            db.pragma("cache_size", -(cache_bytes // 1024))
            db.pragma("temp_store", "memory")
            migrate(db, path)  # before anything that would alter a file that is not ours
            if db.pragma("journal_mode", "wal") != "wal":
                raise unavailable(
                    "STORAGE_UNAVAILABLE",
                    f"the volume of {path} has no shared memory for files, as network file systems have none;"
                    " put the store on a local disk",
                )
            self._make_room()
            db.execute("UPDATE meta SET value = value + 1 WHERE name = 'generation'")
            self.generation = _number(db, "SELECT value FROM meta WHERE name = 'generation'")
            self.next_seq = _number(
                db,
                "SELECT max(value, (SELECT coalesce(max(seq), 0) + 1 FROM messages)) FROM meta WHERE name = 'next_seq'",
            )
            db.execute(_PREPARE)
        except Exception as error:
            system_errno = self._db.system_errno if self._db else 0
            self.close()
            raise explain(error, path, system_errno) from error
        self._changes = db.total_changes()
        self._pages_written = 0
        self._pages_checkpointed = 0
        self._full = False  # the last write found no room

    def close(self) -> None:
        """Folds the log into the file and closes it. Nothing may be written afterwards."""
        if self._db is not None:
            self._db.close()

    def write(self, commits: Sequence[Commit]) -> None:
        """See BatchWriter.write."""
        parameters: list[apsw.SQLiteValue] = []
        for commit in commits:
            _append_rows(commit, parameters)
        if not parameters:
            return
        inserted = [message.seq for commit in commits for message in commit.insert]
        dropped = {seq for commit in commits for seq in commit.drop}
        if self._full:
            self._make_room()
        try:
            if dropped and not dropped.isdisjoint(inserted):
                duplicates = self._write_stepwise(commits)
            else:
                self._execute(parameters)
                duplicates = self._find_duplicates(commits, inserted, len(parameters) // _WIDTH)
        except Exception as error:
            failure = self._failed(error)
            self._full = failure.reason == "STORAGE_FULL"
            raise failure from error
        self._full = False
        if duplicates:
            for commit in commits:
                commit.duplicates += tuple(message.message_id for message in commit.insert if message.seq in duplicates)

    def maintain(self, idle: bool) -> float | None:
        """Moves the log into the file when it has grown, or when there is nothing else to do."""
        pages = self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]
        fresh = pages - self._pages_checkpointed
        if fresh >= (_CHECKPOINT_IDLE_PAGES if idle else _CHECKPOINT_PAGES):
            self._pages_checkpointed = pages
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            return None
        return _CHECKPOINT_IDLE_S if fresh else None

    def _make_room(self) -> None:
        """Moves the log into the file, so that the log begins anew where it is instead of growing into what is left."""
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error:
            pass  # there is no room for that either

    def purge_ended(self, before_ms: int, limit: int) -> int:
        """See Store.purge_ended."""
        db = self._connection
        try:
            db.execute(
                f"""DELETE FROM messages WHERE seq IN (
                    SELECT seq FROM messages
                    WHERE state IN ({MessageState.SUCCEEDED:d}, {MessageState.FAILED:d}, {MessageState.CANCELLED:d})
                    AND ended_at_ms < ? LIMIT ?)""",
                (before_ms, limit),
            )
        except Exception as error:
            raise self._failed(error) from error
        removed = db.changes()
        self._changes = db.total_changes()
        return removed

    @property
    def _connection(self) -> apsw.Connection:
        assert self._db is not None, "the connection is open between __init__ and close"
        return self._db

    def _execute(self, parameters: list[apsw.SQLiteValue]) -> None:
        """One transaction; one step where the rows fit one statement."""
        rows = len(parameters) // _WIDTH
        if rows <= _SIZES[-1]:
            self._insert(parameters, rows)
            return
        with self._connection:
            step = _SIZES[-1] * _WIDTH
            for start in range(0, len(parameters), step):
                part = parameters[start : start + step]
                self._insert(part, len(part) // _WIDTH)

    def _insert(self, parameters: list[apsw.SQLiteValue], rows: int) -> None:
        index = bisect_left(_SIZES, rows)
        parameters.extend((None,) * ((_SIZES[index] - rows) * _WIDTH))
        self._connection.execute(_STATEMENTS[index], parameters)

    def _find_duplicates(self, commits: Sequence[Commit], inserted: list[int], rows: int) -> set[int]:
        """Which of the inserted numbers are not there, as their message ids were taken. Usually costs no query."""
        total = self._connection.total_changes()
        changed, self._changes = total - self._changes, total
        if not inserted:
            return set()
        # Only clearing a memory and dropping a message can change more than one row an operation.
        certain = not any(commit.memory_clear or commit.drop for commit in commits)
        if certain and changed == rows:
            return set()
        return set(inserted) - self._stored(inserted)

    def _stored(self, seqs: list[int]) -> set[int]:
        found = self._connection.execute(
            "SELECT group_concat(seq) FROM messages WHERE seq IN (SELECT value FROM json_each(?))",
            (f"[{','.join(map(str, seqs))}]",),
        ).get
        return set(map(int, found.split(","))) if found else set()

    def _write_stepwise(self, commits: Sequence[Commit]) -> set[int]:
        """For the odd batch that forgets what it has just inserted: looks for duplicates before that happens."""
        duplicates: set[int] = set()
        with self._connection:
            for commit in commits:
                first: list[apsw.SQLiteValue] = []
                rest: list[apsw.SQLiteValue] = []
                inserted = [message.seq for message in commit.insert]
                _append_rows(Commit(commit.done, insert=commit.insert), first)
                _append_rows(commit, rest)
                if inserted:
                    self._execute(first)
                    duplicates |= set(inserted) - self._stored(inserted)
                if len(rest) > len(inserted) * _WIDTH:
                    self._execute(rest[len(inserted) * _WIDTH :])
        self._changes = self._connection.total_changes()
        return duplicates

    def _failed(self, error: Exception) -> AmxError:
        db = self._connection
        system_errno = db.system_errno
        if db.in_transaction:
            try:
                db.execute("ROLLBACK")
            except apsw.Error:  # it has been rolled back by what failed, or the next write will name the cause
                pass
        self._changes = db.total_changes()
        return explain(error, self._path, system_errno)


def _append_rows(commit: Commit, rows: list[apsw.SQLiteValue]) -> None:
    """The commit's operations, in the order the Commit's fields promise. Runs for every message: plain and flat."""
    for m in commit.insert:
        rows += (
            _INSERT,
            m.seq,
            m.namespace,
            m.message_id,
            m.agent,
            m.key,
            m.handler,
            m.priority,
            m.accepted_at_ms,
            m.body,
            m.state,
            m.attempts,
            m.available_at_ms,
            m.expires_at_ms,
            m.ended_at_ms,
            m.outcome,
        )
    for seq, state, outcome, ended_at_ms, attempts in commit.finish:
        rows += (_UPDATE, seq, state, outcome, ended_at_ms, attempts)
        rows += _NOTHING[10]
    for seq, attempts, available_at_ms, outcome in commit.retry:
        rows += (_UPDATE, seq, 0, outcome, 0, attempts, available_at_ms)
        rows += _NOTHING[9]
    for seq in commit.drop:
        rows += (_DROP, seq)
        rows += _NOTHING[14]
    for removed in commit.memory_remove:
        rows += (_MEMORY_REMOVE, *removed)
        rows += _NOTHING[10]
    for cleared in commit.memory_clear:
        rows += (_MEMORY_CLEAR, *cleared)
        rows += _NOTHING[11]
    for namespace, agent, key, row in commit.memory_put:
        rows += (_MEMORY_PUT, namespace, agent, key)
        rows += (row.name, row.entry, row.value, row.expires_at_ms, row.version, row.used)
        rows += _NOTHING[6]
    for unscheduled in commit.schedule_remove:
        rows += (_SCHEDULE_REMOVE, *unscheduled)
        rows += _NOTHING[11]
    for s in commit.schedule_put:
        rows += (_SCHEDULE_PUT, s.namespace, s.agent, s.key, s.name, s.definition)
        rows += (s.next_run_at_ms, s.last_run_at_ms, s.paused, s.from_definition)
        rows += _NOTHING[6]
    for unsubscribed in commit.subscription_remove:
        rows += (_SUBSCRIPTION_REMOVE, *unsubscribed)
        rows += _NOTHING[11]
    for u in commit.subscription_put:
        rows += (_SUBSCRIPTION_PUT, u.namespace, u.agent, u.key, u.pattern, u.handler, u.filter)
        rows += _NOTHING[9]
    for a in commit.agent_put:
        rows += (_AGENT_PUT, a.namespace, a.name, a.version, a.definition, a.pinned)
        rows += _NOTHING[10]


def _number(db: apsw.Connection, query: str) -> int:
    value = db.execute(query).get
    assert isinstance(value, int)
    return value
