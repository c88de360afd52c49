"""The write connection of the SQLite store: turns a batch of commits into one statement, and keeps the log short.

Every step of a statement gives up the interpreter lock and may wait a long while to get it back. So a batch is one
multi-row INSERT into a temporary view, whose triggers do the work row by row, in the order of the rows: a whole
transaction, fsync included, is a single step, and later commits win over earlier ones by construction.
"""

# ruff: noqa: S608 - the SQL is put together from constants; values are always bound

from __future__ import annotations

import os
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Final, TypeVar

import apsw

from amx_server.core.errors import AmxError, unavailable
from amx_server.storage.interface import Blobs, Commit, MessageState
from amx_server.storage.migrations import migrate
from amx_server.storage.sqlite_content import REFERS, TEXT_BYTES, Freed, Keeping, Reference, references
from amx_server.storage.sqlite_errors import explain
from amx_server.storage.sqlite_versions import CLEARED, EVERYTHING, REMOVED, VersionWriter

T = TypeVar("T")

_NEVER: Final = sys.maxsize

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
_MEMORY_TOUCH: Final = 12
_MEMORY_VERSION: Final = 13
_SUSPENSION_PUT: Final = 14
_SUSPENSION_REMOVE: Final = 15
_MEMORY_COMMIT: Final = 16  # the last of a commit's puts, and the version that it makes

# A row of the view: the operation, then what it needs in p1, p2, ...; the rest is NULL.
_WIDTH: Final = 18
_INSTANCE: Final = "namespace = new.p1 AND agent = new.p2 AND key = new.p3"
_DUPLICATE: Final = "amx_duplicate"  # notes the number of a message whose id was taken; false
_LATEST: Final = f"(SELECT id FROM memory_heads WHERE {_INSTANCE})"
_MEMORY_ROW: Final = "namespace, agent, key, name, entry, value, expires_at_ms, version, used, size"


def _new(first: int, last: int) -> str:
    return ", ".join(f"new.p{number}" for number in range(first, last + 1))


def _to_history(which: str, version: str) -> str:
    """Keeps rows of the present that go or are replaced, for the versions before; not if they are of that very one."""
    return f"""
        INSERT INTO memory_history ({_MEMORY_ROW}, last)
        SELECT {_MEMORY_ROW}, {_LATEST} AS last FROM memory WHERE {which} AND version < {version} AND last
        ON CONFLICT DO UPDATE SET version = excluded.version, value = excluded.value, size = excluded.size,
            expires_at_ms = excluded.expires_at_ms, used = excluded.used;"""


def _give_up(which: str, version: str) -> str:
    """Before rows are deleted: notes the content of those that `_to_history` did not take over."""
    return f"""
        INSERT INTO freed (namespace, agent, size, value) SELECT namespace, agent, size, value FROM memory
        WHERE {which} AND (version >= {version} OR {_LATEST} IS NULL) AND (size > 0 OR size = {REFERS});"""


def _hide(entry: str, version: str, size: int) -> str:
    """Where the instance is a fork: hides what it inherits."""
    return f"""
        INSERT INTO memory ({_MEMORY_ROW}) SELECT new.p1, new.p2, new.p3, new.p4, {entry}, x'', 0, {version}, 0, {size}
        WHERE EXISTS (SELECT 1 FROM memory_forks WHERE {_INSTANCE})"""


_ENTRY: Final = f"{_INSTANCE} AND name = new.p4 AND entry = new.p5"
_NAME: Final = f"{_INSTANCE} AND name = new.p4"


_PUT: Final = f"""{_to_history(_ENTRY, "new.p8")}
        INSERT INTO memory ({_MEMORY_ROW})
        VALUES ({_new(1, 10)}) ON CONFLICT DO UPDATE SET value = excluded.value, size = excluded.size,
            expires_at_ms = excluded.expires_at_ms, version = excluded.version, used = excluded.used"""


def _version(version: str, at_ms: str, message_id: str, changes: str, id: str) -> str:
    return f"""
        INSERT INTO memory_versions (id, previous, namespace, agent, key, version, at_ms, message_id, changes)
        VALUES ({id}, coalesce({_LATEST}, 0), {_new(1, 3)}, {version}, {at_ms}, {message_id}, {changes});
        INSERT INTO memory_heads (namespace, agent, key, id, version, versions, oldest_ms)
        VALUES ({_new(1, 3)}, {id}, {version}, 1, {at_ms}) ON CONFLICT DO UPDATE SET id = excluded.id,
            version = excluded.version, versions = versions + 1"""


_OPERATIONS: Final = {
    _INSERT: f"""
        INSERT INTO messages (seq, namespace, message_id, agent, key, handler, priority, accepted_at_ms, body, state,
            attempts, available_at_ms, expires_at_ms, ended_at_ms, outcome, body_size, outcome_size)
        VALUES ({_new(1, 17)}) ON CONFLICT (namespace, message_id)
        DO UPDATE SET seq = seq WHERE {_DUPLICATE}(excluded.seq)""",
    # seq, state, outcome, ended_at_ms, attempts, available_at_ms or NULL to leave it, outcome_size
    _UPDATE: f"""
        UPDATE messages SET state = new.p2, outcome = new.p3, ended_at_ms = new.p4, attempts = new.p5,
            available_at_ms = coalesce(new.p6, available_at_ms), outcome_size = new.p7,
            body = CASE WHEN new.p2 IN ({MessageState.PENDING:d}, {MessageState.DEAD:d}) THEN body ELSE x'' END,
            body_size = CASE WHEN new.p2 IN ({MessageState.PENDING:d}, {MessageState.DEAD:d}) THEN body_size ELSE 0 END
        WHERE seq = new.p1;
        INSERT INTO freed (namespace, agent, size, value) SELECT '', '', new.p7, new.p3
        WHERE new.p7 > 0 AND NOT EXISTS (SELECT 1 FROM messages WHERE seq = new.p1)""",
    _DROP: "DELETE FROM messages WHERE seq = new.p1",
    _MEMORY_PUT: _PUT,
    _MEMORY_REMOVE: f"""{_to_history(_ENTRY, "new.p6")}
        {_give_up(_ENTRY, "new.p6")} DELETE FROM memory WHERE {_ENTRY};{_hide("new.p5", "new.p6", REMOVED)}""",
    _MEMORY_CLEAR: f"""{_to_history(_NAME, "new.p5")}
        {_give_up(_NAME, "new.p5")} DELETE FROM memory WHERE {_NAME};{_hide(f"'{EVERYTHING}'", "new.p5", CLEARED)}""",
    _MEMORY_TOUCH: f"UPDATE memory SET used = new.p6 WHERE {_ENTRY}",
    _MEMORY_VERSION: _version("new.p4", "new.p5", "new.p6", "new.p7", "new.p8"),
    _MEMORY_COMMIT: f"{_PUT}; {_version('new.p8', 'new.p11', 'new.p12', 'new.p13', 'new.p14')}",
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
        INSERT INTO agents (namespace, name, version, definition, pinned, definition_size)
        VALUES ({_new(1, 6)}) ON CONFLICT (namespace, name, version)
        DO UPDATE SET definition = excluded.definition, definition_size = excluded.definition_size,
            pinned = excluded.pinned""",
    _SUSPENSION_PUT: f"""
        INSERT INTO suspensions (namespace, agent, key, reason, at_ms)
        VALUES ({_new(1, 5)}) ON CONFLICT DO UPDATE SET reason = excluded.reason, at_ms = excluded.at_ms""",
    _SUSPENSION_REMOVE: f"DELETE FROM suspensions WHERE {_INSTANCE}",
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

# Row counts that have a prepared statement of their own; others are filled up with rows that do nothing, at half a
# microsecond each. A statement takes 100 KB, and 1 KB for each row. apsw keeps those of up to 16 KiB of SQL text.
_SIZES: Final = (1, 4, 8, 16, 32, 64, 128, 256)
_STATEMENTS: Final = tuple(
    f"INSERT INTO operations VALUES{','.join(['(' + ','.join('?' * _WIDTH) + ')'] * size)}" for size in _SIZES
)
_NOTHING: Final = tuple((None,) * count for count in range(_WIDTH + 1))

# Pages in the log that make a checkpoint due: with nothing else to do, and even under load.
_CHECKPOINT_IDLE_PAGES: Final = 1
_CHECKPOINT_PAGES: Final = 4096
_CHECKPOINT_IDLE_S: Final = 1.0
# For so long after the disk was seen full, or nearly, the log is moved into the file early: what it has grown to can
# only be given back once the file has room for it.
_CAREFUL_S: Final = 600.0
_CHECKPOINT_CAREFUL_PAGES: Final = 128
_WAL_KEPT_BYTES: Final = 64 << 20


class SqliteWriter:
    """Implements committer.BatchWriter. Opening brings the schema up to date and begins a new generation.

    Raises AmxError: STORAGE_UNAVAILABLE, STORAGE_FULL, STORAGE_FOREIGN, STORAGE_TOO_NEW.
    """

    batch_rows = _SIZES[-1]

    def __init__(self, path: str, *, durable: bool, cache_bytes: int, blobs: Blobs | None) -> None:
        self._path = path
        self._blobs = blobs
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
            self._duplicates: set[int] = set()
            db.create_scalar_function(_DUPLICATE, self._note_duplicate, 1)
            self._freed = Freed(db)
            db.execute(_PREPARE, can_cache=False)
            if blobs is not None:
                blobs.reconcile(references(db))
            # An id never repeats, not even over restarts.
            self._version_ids = count((self.generation << 40) + 1)
            self.versions = VersionWriter(db, self._version_ids)
        except Exception as error:
            system_errno = self._db.system_errno if self._db else 0
            self.close()
            raise explain(error, path, system_errno) from error
        self._pages_written = 0
        self._pages_checkpointed = 0
        self._full = False  # the last write found no room
        self._careful_until = 0.0
        disk = os.statvfs(path)
        if disk.f_bavail * disk.f_frsize < _WAL_KEPT_BYTES:
            self._be_careful()

    def close(self) -> None:
        """Folds the log into the file and closes it. Nothing may be written afterwards."""
        if self._db is not None:
            self._db.close()

    def write(self, commits: Sequence[Commit]) -> None:
        """See BatchWriter.write."""
        parameters: list[apsw.SQLiteValue] = []
        blobs = self._blobs
        keeping = None
        if blobs is None:
            for commit in commits:
                _append_rows(commit, parameters, self._version_ids, _NEVER, None)
        else:
            keeping = Keeping()
            for commit in commits:
                _append_rows(commit, parameters, self._version_ids, blobs.threshold, keeping)
        if not parameters:
            return
        if self._full:
            self._make_room()
        duplicates = self._duplicates
        duplicates.clear()
        try:
            if keeping is not None and blobs is not None:
                keeping.keep(blobs, parameters)
            self._execute(parameters)
        except Exception as error:
            failure = self._failed(error)
            self._full = failure.reason == "STORAGE_FULL"
            if self._full:
                self._be_careful()
            if keeping is not None:
                self._release(keeping.references)
            raise failure from error
        self._full = False
        self._release_freed()
        if duplicates:
            for commit in commits:
                commit.duplicates += tuple(message.message_id for message in commit.insert if message.seq in duplicates)

    def maintain(self, idle: bool) -> float | None:
        """Moves the log into the file when it has grown, or when there is nothing else to do."""
        pages = self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]
        fresh = pages - self._pages_checkpointed
        due = _CHECKPOINT_IDLE_PAGES if idle else _CHECKPOINT_PAGES
        if self._careful_until:
            due = min(due, _CHECKPOINT_CAREFUL_PAGES)
            if time.monotonic() > self._careful_until:
                self._careful_until = 0.0
        if fresh >= due:
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

    def _be_careful(self) -> None:
        self._careful_until = time.monotonic() + _CAREFUL_S

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
        self._release_freed()
        return removed

    def run(self, change: Callable[[VersionWriter], T]) -> T:
        """Something about versions, as one transaction. Raises AmxError; then nothing has changed."""
        try:
            with self._connection:
                result = change(self.versions)
        except Exception as error:
            raise self._failed(error) from error
        self._release_freed()
        return result

    def _release_freed(self) -> None:
        self._release(self._freed.take())

    def _release(self, freed: Sequence[Reference]) -> None:
        if freed and self._blobs is not None:
            self._blobs.release(freed)

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

    def _note_duplicate(self, *seq: apsw.SQLiteValue) -> bool:
        """Called by the statement itself, for the rare message whose id was taken: no look afterwards is needed."""
        assert isinstance(seq[0], int)
        self._duplicates.add(seq[0])
        return False

    def _failed(self, error: Exception) -> AmxError:
        db = self._connection
        system_errno = db.system_errno
        if db.in_transaction:
            try:
                db.execute("ROLLBACK")
            except apsw.Error:  # it has been rolled back by what failed, or the next write will name the cause
                pass
        return explain(error, self._path, system_errno)


def _append_rows(
    commit: Commit,
    rows: list[apsw.SQLiteValue],
    version_ids: Iterator[int],
    threshold: int,
    keeping: Keeping | None,
) -> None:
    """The commit's operations, in the order the Commit's fields promise. Runs for every message: plain and flat.

    keeping: gets values of at least `threshold` bytes, and texts that may be addresses; None: all stay in their rows.
    """
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
            0,
            0,
        )
    for seq, state, outcome, ended_at_ms, attempts in commit.finish:
        if len(outcome) >= threshold and state == MessageState.SUCCEEDED and keeping is not None:
            keeping.large("", "", outcome, len(rows) + 3, len(rows) + 7)
        rows += (_UPDATE, seq, state, outcome, ended_at_ms, attempts, None, 0)
        rows += _NOTHING[10]
    for seq, attempts, available_at_ms, outcome in commit.retry:
        rows += (_UPDATE, seq, 0, outcome, 0, attempts, available_at_ms, 0)
        rows += _NOTHING[10]
    for seq in commit.drop:
        rows += (_DROP, seq)
        rows += _NOTHING[16]
    for removed in commit.memory_remove:
        rows += (_MEMORY_REMOVE, *removed)
        rows += _NOTHING[11]
    for cleared in commit.memory_clear:
        rows += (_MEMORY_CLEAR, *cleared)
        rows += _NOTHING[12]
    first_put = len(rows)
    for namespace, agent, key, row in commit.memory_put:
        if keeping is not None:
            size = len(row.value)
            if size >= threshold:
                keeping.large(namespace, agent, row.value, len(rows) + 6, len(rows) + 10)
            elif size == TEXT_BYTES:
                keeping.text(namespace, agent, row.value, len(rows) + 10)
        rows += (_MEMORY_PUT, namespace, agent, key)
        rows += (row.name, row.entry, row.value, row.expires_at_ms, row.version, row.used, 0)
        rows += _NOTHING[7]
    versions = commit.memory_version
    if len(versions) == 1 and commit.memory_put:
        namespace, agent, key, row = commit.memory_put[-1]
        version = versions[0]
        if version[:4] == (namespace, agent, key, row.version):  # nearly always: one row less
            start = len(rows) - _WIDTH
            rows[start] = _MEMORY_COMMIT
            rows[start + 11 : start + 15] = (*version[4:], next(version_ids))
            versions = ()
    elif versions:
        versions = _join_versions(commit, rows, first_put, version_ids)
    for version in versions:
        rows += (_MEMORY_VERSION, *version, next(version_ids))
        rows += _NOTHING[9]
    for touched in commit.memory_touch:
        rows += (_MEMORY_TOUCH, *touched)
        rows += _NOTHING[11]
    for unscheduled in commit.schedule_remove:
        rows += (_SCHEDULE_REMOVE, *unscheduled)
        rows += _NOTHING[13]
    for s in commit.schedule_put:
        rows += (_SCHEDULE_PUT, s.namespace, s.agent, s.key, s.name, s.definition)
        rows += (s.next_run_at_ms, s.last_run_at_ms, s.paused, s.from_definition)
        rows += _NOTHING[8]
    for unsubscribed in commit.subscription_remove:
        rows += (_SUBSCRIPTION_REMOVE, *unsubscribed)
        rows += _NOTHING[13]
    for u in commit.subscription_put:
        rows += (_SUBSCRIPTION_PUT, u.namespace, u.agent, u.key, u.pattern, u.handler, u.filter)
        rows += _NOTHING[11]
    for a in commit.agent_put:
        if len(a.definition) >= threshold and keeping is not None:
            keeping.large("", "", a.definition, len(rows) + 4, len(rows) + 6)
        rows += (_AGENT_PUT, a.namespace, a.name, a.version, a.definition, a.pinned, 0)
        rows += _NOTHING[11]
    for resumed in commit.suspension_remove:
        rows += (_SUSPENSION_REMOVE, *resumed)
        rows += _NOTHING[14]
    for p in commit.suspension_put:
        rows += (_SUSPENSION_PUT, p.namespace, p.agent, p.key, p.reason, p.at_ms)
        rows += _NOTHING[12]


def _join_versions(
    commit: Commit, rows: list[apsw.SQLiteValue], first_put: int, version_ids: Iterator[int]
) -> tuple[tuple[str, str, str, int, int, str, int], ...]:
    """Makes the last put of each instance the one that makes its version, as `_append_rows` does for a single one.
    Returns the versions that have no put.
    """
    versions = commit.memory_version
    if len({version[:3] for version in versions}) < len(versions):
        return versions  # several of one instance: each has to wait for the puts of all
    last: dict[tuple[str, str, str, int], int] = {}
    for start, (namespace, agent, key, row) in enumerate(commit.memory_put):
        last[namespace, agent, key, row.version] = first_put + start * _WIDTH
    left = []
    for version in versions:
        at = last.get(version[:4])
        if at is None:
            left.append(version)
        else:
            rows[at] = _MEMORY_COMMIT
            rows[at + 11 : at + 15] = (*version[4:], next(version_ids))
    return tuple(left)


def _number(db: apsw.Connection, query: str) -> int:
    value = db.execute(query).get
    assert isinstance(value, int)
    return value
