"""Versions of memories in the SQLite store: reading as of one, snapshots, forks, forgetting.

What a commit replaces goes to memory_history by the triggers of sqlite_writer.py, under the version that had it last:
the memory at a version is what is still there, and the history of that version and all later ones, as far as it is
not younger. To forget a version is to drop its history, or to pass it on to the one before. A fork is one row that
names source and version; what it removed of what it inherits stands among its own rows with a size below zero.
"""

# ruff: noqa: S608 - the SQL is put together from constants; values are always bound

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import apsw

from amx_server.core.errors import ALREADY_EXISTS, FAILED_PRECONDITION, AmxError, not_found
from amx_server.storage.interface import Forgotten, MemoryAt, MemoryRow, StoredFork, StoredVersion, VersionCounts

Instance = tuple[str, str, str]

REMOVED: Final = -1  # size of a row that hides one inherited entry
CLEARED: Final = -2  # of one that hides a whole memory
EVERYTHING: Final = "*"  # entry id of such a row; no memory has such an entry

_WINDOW: Final = 2000  # versions of one instance looked at in one step of forgetting
_ROWS_AT_ONCE: Final = 200  # that one transaction of it removes, more only if one version has more
_LATEST: Final = 1 << 62  # higher than every version
_INSTANCE: Final = "namespace = ? AND agent = ? AND key = ?"
_ROWS: Final = ("name", "entry", "expires_at_ms", "version", "used", "size")
MAX_FORK_DEPTH: Final = 64
"""Forks of forks. Each costs a reader about 0.1 ms."""
_DEPTH: Final = """
    WITH RECURSIVE ancestors (namespace, agent, key, depth) AS (
        SELECT ?, ?, ?, 0 UNION ALL SELECT f.namespace, f.agent, f.source_key, a.depth + 1
        FROM ancestors a CROSS JOIN memory_forks f USING (namespace, agent, key)
    ) SELECT max(depth) FROM ancestors"""
# The versions of an instance, latest first, down to the one that held at the bound version; 0: to the oldest.
_CHAIN: Final = f"""
    WITH RECURSIVE chain (id, previous, version, at_ms, message_id, changes, gap) AS (
        SELECT id, previous, version, at_ms, message_id, changes, gap FROM memory_versions
        WHERE id = (SELECT id FROM memory_heads WHERE {_INSTANCE})
        UNION ALL SELECT v.id, v.previous, v.version, v.at_ms, v.message_id, v.changes, v.gap
        FROM chain c CROSS JOIN memory_versions v ON v.id = c.previous WHERE c.version > ?
    )"""


class Rows(Protocol):
    """Runs a SELECT; see SqliteReader.rows."""

    def rows(
        self, columns: Sequence[str], blobs: Sequence[str], source: str, parameters: Sequence[apsw.SQLiteValue] = ()
    ) -> list[list[Any]]: ...


class Values(Rows, Protocol):
    """And looks up what lies elsewhere; see SqliteReader.value."""

    def value(self, value: bytes, size: int, holder: Callable[[], str]) -> bytes: ...


def entry_of(instance: Instance, name: str, entry: str) -> str:
    """An entry of a memory, for people."""
    return f"memory '{name}', entry '{entry}' of {_address(instance)} in {instance[0]}"


def order_of_use(row: MemoryRow) -> tuple[int, str, str]:
    """Sorts rows, least recently used first."""
    return row.used, row.name, row.entry


def memory_at(reader: Values, instance: Instance, version: int) -> MemoryAt:
    """See Store.memory_at. Reads every ancestor of a fork once."""
    version, at_ms = _held(reader, instance, version)
    found: dict[tuple[str, str], MemoryRow] = {}
    hidden: set[str] = set()
    at, since = version, 0
    while True:
        cleared = set()
        for name, entry, expires_at_ms, written, used, size, value in _own_rows(reader, instance, at):
            if size == CLEARED:
                cleared.add(name)
            elif (name, entry) not in found and name not in hidden:
                value = reader.value(value, size, partial(entry_of, instance, name, entry))
                found[name, entry] = MemoryRow(name, entry, value, expires_at_ms, since or written, used)
                if size == REMOVED:
                    found[name, entry].name = ""
        hidden |= cleared
        fork = fork_of(reader, instance)
        if fork is None or fork.version > at:
            break
        since = since or fork.version
        instance, at = (instance[0], instance[1], fork.source_key), fork.source_version
    return MemoryAt(version, at_ms, sorted((row for row in found.values() if row.name), key=order_of_use))


def versions_of(reader: Rows, instance: Instance, before: int, limit: int) -> list[StoredVersion]:
    """See Store.memory_versions."""
    names: dict[int, list[str]] = {}
    for name, version in reader.rows(
        ("name", "version"), (), f"SELECT name, version FROM memory_snapshots WHERE {_INSTANCE} ORDER BY name", instance
    ):
        names.setdefault(version, []).append(name)
    columns = ("version", "at_ms", "message_id", "changes")
    found = reader.rows(
        columns,
        (),
        f"{_CHAIN} SELECT {', '.join(columns)} FROM chain WHERE version < ? LIMIT ?",
        (*instance, 0, before or _LATEST, limit),
    )
    return [
        StoredVersion(version, at_ms, message_id, changes, tuple(names.get(version, ())))
        for version, at_ms, message_id, changes in found
    ]


def fork_of(reader: Rows, instance: Instance) -> StoredFork | None:
    """See Store.memory_fork."""
    columns = ("version", "at_ms", "source_key", "source_version")
    found = reader.rows(columns, (), f"SELECT {', '.join(columns)} FROM memory_forks WHERE {_INSTANCE}", instance)
    return StoredFork(*found[0]) if found else None


def snapshot_version(reader: Rows, instance: Instance, name: str) -> int:
    """See Store.snapshot_version."""
    source = f"SELECT version FROM memory_snapshots WHERE {_INSTANCE} AND name = ?"
    found = reader.rows(("version",), (), source, (*instance, name))
    if not found:
        raise not_found(
            "SNAPSHOT_UNKNOWN",
            f"'{_address(instance)}' has no snapshot '{name}'; `amx memory history` lists those it has",
            snapshot=name,
        )
    return int(found[0][0])


def counts(reader: Rows) -> VersionCounts:
    """See Store.version_counts."""
    tables = ("memory_versions", "memory_snapshots", "memory_forks", "memory_history")
    source = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in tables)
    return VersionCounts(*reader.rows(tables, (), source)[0])


def forgettable(
    reader: Rows, before_ms: int, keep: int, after: Instance, limit: int
) -> tuple[list[Instance], Instance | None]:
    """Instances among the next `limit` that may have versions to forget, and after whom to go on; None: that is all."""
    columns = ("namespace", "agent", "key", "versions", "oldest_ms")
    source = f"""
        SELECT {", ".join(columns)} FROM memory_heads WHERE (namespace, agent, key) > (?, ?, ?)
        ORDER BY namespace, agent, key LIMIT ?"""
    found = reader.rows(columns, (), source, (*after, limit))
    due = [
        (namespace, agent, key)
        for namespace, agent, key, versions, oldest_ms in found
        if versions > 1 and (versions > keep or oldest_ms < before_ms)
    ]
    return due, (found[-1][0], found[-1][1], found[-1][2]) if len(found) == limit else None


class Doomed(NamedTuple):
    """A version to forget, once all that come before it in the list are."""

    id: int
    version: int
    newer_id: int  # of the version that follows
    kept_id: int  # of the version before; 0: none
    kept: int  # its number; -1: none
    oldest_ms: int  # when the oldest version was committed that is left then


def doomed(
    reader: Rows, instance: Instance, before_ms: int, keep: int, settled: int
) -> tuple[list[Doomed], int | None]:
    """Versions of one instance to forget, oldest first, and how many that are older than all others stay: where the
    next look begins; None: there is no more. Looks at the oldest _WINDOW beyond those that are `settled`.
    """
    heads = reader.rows(("versions",), (), f"SELECT versions FROM memory_heads WHERE {_INSTANCE}", instance)
    first = max(0, int(heads[0][0]) - settled - _WINDOW - 1) if heads else 0
    columns = ("id", "version", "at_ms")
    chain = reader.rows(
        columns, (), f"{_CHAIN} SELECT {', '.join(columns)} FROM chain LIMIT -1 OFFSET ?", (*instance, 0, first)
    )
    needed = _needed(reader, instance)
    found = []
    kept_id, kept, oldest_ms = 0, -1, 0
    for at in range(len(chain) - 1, 0, -1):  # from the oldest on; the newest one is only looked at by its neighbour
        (id, version, at_ms), (newer_id, _, replaced_ms) = chain[at], chain[at - 1]
        if (first + at >= keep or replaced_ms < before_ms) and version not in needed:
            found.append(Doomed(id, version, newer_id, kept_id, kept, oldest_ms or replaced_ms))
        else:
            kept_id, kept, oldest_ms = id, version, oldest_ms or at_ms
    return found, len(chain) - 1 - len(found) if first else None


class VersionWriter:
    """Changes to versions on the write connection. Each is part of a transaction that the caller makes."""

    def __init__(self, db: apsw.Connection, ids: Iterator[int]) -> None:
        self._db = db
        self._ids = ids

    def rows(
        self, columns: Sequence[str], blobs: Sequence[str], source: str, parameters: Sequence[apsw.SQLiteValue] = ()
    ) -> list[list[Any]]:
        """See Rows."""
        listed = f"SELECT {', '.join([*columns, *blobs])} FROM ({source})"
        return [list(row) for row in self._db.execute(listed, parameters)]

    def create_snapshot(self, instance: Instance, name: str, version: int, at_ms: int) -> StoredVersion:
        """See Store.create_snapshot."""
        version, _ = _held(self, instance, version)
        self._db.execute(
            "INSERT INTO memory_snapshots (namespace, agent, key, name, version, at_ms) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (*instance, name, version, at_ms),
        )
        if (taken := snapshot_version(self, instance, name)) != version:
            raise AmxError(
                ALREADY_EXISTS,
                "SNAPSHOT_EXISTS",
                f"snapshot '{name}' of '{_address(instance)}' keeps version {taken}, not {version};"
                " delete it first, or take another name",
                metadata={"version": str(taken)},
            )
        return versions_of(self, instance, version + 1, 1)[0]

    def delete_snapshot(self, instance: Instance, name: str) -> bool:
        """See Store.delete_snapshot."""
        self._db.execute(f"DELETE FROM memory_snapshots WHERE {_INSTANCE} AND name = ?", (*instance, name))
        return self._db.changes() > 0

    def fork(self, source: Instance, version: int, target_key: str, at_ms: int) -> StoredFork:
        """See Store.fork_memory."""
        version, _ = _held(self, source, version)
        target = (source[0], source[1], target_key)
        occupied = self._db.execute(
            f"SELECT EXISTS (SELECT 1 FROM memory WHERE {_INSTANCE})"
            f" OR EXISTS (SELECT 1 FROM memory_forks WHERE {_INSTANCE})",
            (*target, *target),
        ).get
        if occupied:
            raise AmxError(
                ALREADY_EXISTS,
                "FORK_TARGET_EXISTS",
                f"'{_address(target)}' remembers something already; fork to a key that is not in use",
            )
        depth = self._db.execute(_DEPTH, source).get
        assert isinstance(depth, int)
        if depth >= MAX_FORK_DEPTH:
            raise AmxError(
                FAILED_PRECONDITION,
                "FORK_TOO_DEEP",
                f"'{_address(source)}' is number {depth} in a line of forks, and reading another would read them all;"
                " fork one that is nearer to the first",
            )
        own = self._db.execute(f"SELECT id, version FROM memory_heads WHERE {_INSTANCE}", target).fetchone()
        previous, last = own or (0, 0)
        fork = StoredFork(last + 1, at_ms, source[2], version)
        self._db.execute(
            "INSERT INTO memory_forks (namespace, agent, key, version, at_ms, source_key, source_version)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*target, fork.version, at_ms, fork.source_key, fork.source_version),
        )
        id = next(self._ids)
        self._db.execute(
            "INSERT INTO memory_versions (id, previous, namespace, agent, key, version, at_ms, message_id, changes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, '', 0)",
            (id, previous, *target, fork.version, at_ms),
        )
        self._db.execute(
            "INSERT INTO memory_heads (namespace, agent, key, id, version, versions, oldest_ms)"
            " VALUES (?, ?, ?, ?, ?, 1, ?)"
            " ON CONFLICT DO UPDATE SET id = excluded.id, version = excluded.version, versions = versions + 1",
            (*target, id, fork.version, at_ms),
        )
        return fork

    def forget(self, instance: Instance, doomed: Sequence[Doomed]) -> Forgotten:
        """Forgets what `doomed` found, in its order, until that is enough for one transaction, and up to the first
        version that something has come to need since.
        """
        needed = _needed(self, instance)
        rows = done = 0
        for one in doomed:
            if one.version in needed or rows >= _ROWS_AT_ONCE:
                break
            self._db.execute("DELETE FROM memory_history WHERE last = ? AND version > ?", (one.id, one.kept))
            rows += self._db.changes()
            if one.kept_id:
                self._db.execute("UPDATE memory_history SET last = ? WHERE last = ?", (one.kept_id, one.id))
                self._db.execute("UPDATE memory_versions SET gap = 1 WHERE id = ?", (one.kept_id,))
            self._db.execute("DELETE FROM memory_versions WHERE id = ?", (one.id,))
            self._db.execute("UPDATE memory_versions SET previous = ? WHERE id = ?", (one.kept_id, one.newer_id))
            done += 1
        if done:
            self._db.execute(
                f"UPDATE memory_heads SET versions = versions - ?, oldest_ms = ? WHERE {_INSTANCE}",
                (done, doomed[done - 1].oldest_ms, *instance),
            )
        return Forgotten(done, rows)


def _needed(reader: Rows, instance: Instance) -> set[int]:
    """Versions that snapshots and forks keep."""
    source = f"""
        SELECT version FROM memory_snapshots WHERE {_INSTANCE}
        UNION SELECT source_version AS version FROM memory_forks WHERE namespace = ? AND agent = ? AND source_key = ?"""
    return {version for (version,) in reader.rows(("version",), (), source, (*instance, *instance))}


def _held(reader: Rows, instance: Instance, version: int) -> tuple[int, int]:
    """The stored version that held at `version` (0: at last), and when it was committed."""
    found = reader.rows(
        ("version", "at_ms", "gap"),
        (),
        f"{_CHAIN} SELECT * FROM chain WHERE version <= ? LIMIT 1",
        (*instance, version or _LATEST, version or _LATEST),
    )
    if not found or (found[0][2] and found[0][0] != version and version):
        asked = f"version {version}" if version else "version"
        raise not_found(
            "MEMORY_VERSION_UNKNOWN",
            f"the memory of '{_address(instance)}' has no {asked} that can be read: it never had, or it is forgotten;"
            " `amx memory history` lists those it has, a snapshot keeps one, memory.history_* says for how long",
            version=str(version),
        )
    return int(found[0][0]), int(found[0][1])


def _own_rows(reader: Rows, instance: Instance, version: int) -> list[list[Any]]:
    columns = ", ".join(_ROWS)
    return reader.rows(
        _ROWS,
        ("value",),
        f"""{_CHAIN}
        SELECT {columns}, value FROM memory WHERE {_INSTANCE} AND version <= ?
        UNION ALL SELECT {columns}, value FROM (SELECT h.* FROM chain CROSS JOIN memory_history h
            ON h.last = chain.id WHERE h.version <= ?)""",
        (*instance, version, *instance, version, version),
    )


def _address(instance: Instance) -> str:
    return f"{instance[1]}/{instance[2]}"
