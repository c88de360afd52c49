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
from typing import Any, Final, Protocol

import apsw

from amx_server.core.errors import ALREADY_EXISTS, AmxError, not_found
from amx_server.storage.interface import Forgotten, MemoryAt, MemoryRow, StoredFork, StoredVersion, VersionCounts

Instance = tuple[str, str, str]

REMOVED: Final = -1  # size of a row that hides one inherited entry
CLEARED: Final = -2  # of one that hides a whole memory
EVERYTHING: Final = "*"  # entry id of such a row; no memory has such an entry

_INSTANCE: Final = "namespace = ? AND agent = ? AND key = ?"
_ROWS: Final = ("name", "entry", "expires_at_ms", "version", "used", "size")
_NEEDED: Final = f"""
    version IN (SELECT version FROM memory_snapshots WHERE {_INSTANCE})
    OR version IN (SELECT source_version FROM memory_forks WHERE namespace = ? AND agent = ? AND source_key = ?)"""


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
    source = f"SELECT {', '.join(columns)} FROM memory_versions WHERE {_INSTANCE}"
    parameters: tuple[str | int, ...] = instance
    if before:
        source += " AND version < ?"
        parameters += (before,)
    found = reader.rows(columns, (), f"{source} ORDER BY version DESC LIMIT ?", (*parameters, limit))
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
    """Instances among the next that may have versions to forget, and after whom to go on; None: there are no more.

    limit: version rows to look at; at least one instance is looked at as a whole.
    """
    columns = ("namespace", "agent", "key", "versions", "oldest_ms")
    source = """
        SELECT namespace, agent, key, count(*) AS versions, min(at_ms) AS oldest_ms FROM (
            SELECT namespace, agent, key, at_ms FROM memory_versions WHERE (namespace, agent, key) > (?, ?, ?)
            ORDER BY namespace, agent, key, version LIMIT ?
        ) GROUP BY namespace, agent, key ORDER BY namespace, agent, key"""
    found = reader.rows(columns, (), source, (*after, limit))
    whole = sum(row[3] for row in found) < limit
    if not whole and len(found) > 1:
        found.pop()  # perhaps seen in part
    due = [
        (namespace, agent, key)
        for namespace, agent, key, versions, oldest_ms in found
        if versions > 1 and (versions > keep or oldest_ms < before_ms)
    ]
    return due, None if whole else (found[-1][0], found[-1][1], found[-1][2])


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
        own = self._db.execute(f"SELECT coalesce(max(version), 0) + 1 FROM memory_versions WHERE {_INSTANCE}", target)
        fork = StoredFork(int(own.get), at_ms, source[2], version)
        self._db.execute(
            "INSERT INTO memory_forks (namespace, agent, key, version, at_ms, source_key, source_version)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*target, fork.version, at_ms, fork.source_key, fork.source_version),
        )
        self._db.execute(
            "INSERT INTO memory_versions (namespace, agent, key, version, id, at_ms, message_id, changes)"
            " VALUES (?, ?, ?, ?, ?, ?, '', 0)",
            (*target, fork.version, next(self._ids), at_ms),
        )
        return fork

    def forget(self, instance: Instance, before_ms: int, keep: int, limit: int) -> Forgotten:
        """Forgets up to `limit` versions of one instance, oldest first; fewer: there are no more."""
        namespace, agent, key = instance
        counted = self._db.execute(
            f"""SELECT max(
                coalesce((SELECT max(version) FROM memory_versions WHERE {_INSTANCE} AND at_ms < ?), 0),
                coalesce((SELECT version FROM memory_versions WHERE {_INSTANCE}
                    ORDER BY version DESC LIMIT 1 OFFSET ?), 0))""",
            (*instance, before_ms, *instance, max(keep, 1) - 1),
        ).get
        doomed = [
            int(version)
            for (version,) in self._db.execute(
                f"SELECT version FROM memory_versions WHERE {_INSTANCE} AND version < ? AND NOT ({_NEEDED})"
                " ORDER BY version LIMIT ?",
                (*instance, counted, *instance, namespace, agent, key, limit),
            )
        ]
        if not doomed:
            return Forgotten()
        listed = f"[{','.join(map(str, doomed))}]"
        # (version to forget, its id, the version kept before it or NULL, the id of that)
        self._db.execute(
            f"""CREATE TEMP TABLE doomed AS
            SELECT d.version, d.id, k.version AS kept, k.id AS kept_id FROM memory_versions d
            LEFT JOIN memory_versions k ON k.namespace = d.namespace AND k.agent = d.agent AND k.key = d.key
                AND k.version = (SELECT max(version) FROM memory_versions WHERE {_INSTANCE} AND version < d.version
                    AND version NOT IN (SELECT value FROM json_each(?)))
            WHERE d.namespace = ? AND d.agent = ? AND d.key = ? AND d.version IN (SELECT value FROM json_each(?))""",
            (*instance, listed, *instance, listed),
        )
        self._db.execute(
            """DELETE FROM memory_history WHERE last IN (SELECT id FROM doomed)
            AND version > (SELECT coalesce(kept, -1) FROM doomed WHERE id = last)"""
        )
        rows = self._db.changes()
        self._db.execute(
            """UPDATE memory_history SET last = (SELECT kept_id FROM doomed WHERE id = last)
            WHERE last IN (SELECT id FROM doomed)"""
        )
        self._db.execute(
            f"UPDATE memory_versions SET gap = 1 WHERE {_INSTANCE} AND version IN (SELECT kept FROM doomed)", instance
        )
        self._db.execute(
            f"DELETE FROM memory_versions WHERE {_INSTANCE} AND version IN (SELECT version FROM doomed)", instance
        )
        self._db.execute("DROP TABLE temp.doomed")
        return Forgotten(len(doomed), rows)


def _held(reader: Rows, instance: Instance, version: int) -> tuple[int, int]:
    """The stored version that held at `version` (0: at last), and when it was committed."""
    found = reader.rows(
        ("version", "at_ms", "gap"),
        (),
        f"SELECT version, at_ms, gap FROM memory_versions WHERE {_INSTANCE} AND (? = 0 OR version <= ?)"
        " ORDER BY version DESC LIMIT 1",
        (*instance, version, version),
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
    past = ", ".join(f"h.{column}" for column in _ROWS)
    return reader.rows(
        _ROWS,
        ("value",),
        f"""
        SELECT {columns}, value FROM memory WHERE {_INSTANCE} AND version <= ?
        UNION ALL SELECT {past}, h.value FROM memory_versions v CROSS JOIN memory_history h ON h.last = v.id
        WHERE v.namespace = ? AND v.agent = ? AND v.key = ? AND v.version >= ? AND h.version <= ?""",
        (*instance, version, *instance, version, version),
    )


def _address(instance: Instance) -> str:
    return f"{instance[1]}/{instance[2]}"
