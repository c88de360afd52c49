"""A read connection of the SQLite store in a thread of its own. Requests that queued meanwhile are answered together.

Every row a statement returns costs a hop over the interpreter lock. So a query is answered in one row: the columns of
all rows as JSON text and their blobs end to end.
"""

# ruff: noqa: S608 - the SQL is put together from constants; values are always bound

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

import apsw

from amx_server.core.errors import AmxError, not_found
from amx_server.storage.gil import LockYielder
from amx_server.storage.interface import Blobs, MemoryRow
from amx_server.storage.sqlite_content import named
from amx_server.storage.sqlite_errors import explain
from amx_server.storage.sqlite_versions import entry_of, memory_at, order_of_use

T = TypeVar("T")
Instance = tuple[str, str, str]
Row = list[Any]
Answer = tuple["asyncio.Future[Any]", Any, Exception | None]

# Memories fetched by one statement: more instances than this are fetched in turns.
_MEMORY_SIZES: Final = (1, 4, 16, 64)
_MEMORY_STATEMENTS: Final = {
    size: f"WITH wanted (at, namespace, agent, key) AS (VALUES {','.join(['(?,?,?,?)'] * size)})"
    " SELECT at, name, entry, expires_at_ms, version, used, size, value"
    " FROM wanted CROSS JOIN memory USING (namespace, agent, key)"
    " UNION ALL SELECT at, '', '', 0, version, 0, 0, x'' FROM wanted CROSS JOIN memory_heads"
    " USING (namespace, agent, key)"
    " UNION ALL SELECT at, '', '', 0, 0, 0, -1, x'' FROM wanted CROSS JOIN memory_forks USING (namespace, agent, key)"
    for size in _MEMORY_SIZES
}
_MEMORY_COLUMNS: Final = ("at", "name", "entry", "expires_at_ms", "version", "used", "size")
_NOBODY: Final = (-1, None, None, None)


class Query(Generic[T]):
    """Something to be read, and the future of its answer."""

    __slots__ = ("read", "result")

    def __init__(self, read: Callable[[SqliteReader], T], result: asyncio.Future[T]) -> None:
        self.read = read
        self.result = result


class MemoryQuery:
    """The memory of one instance, and the future of its rows."""

    __slots__ = ("instance", "result")

    def __init__(self, instance: Instance, result: asyncio.Future[list[MemoryRow]]) -> None:
        self.instance = instance
        self.result = result


class SqliteReader:
    """Answers queries in the order they come, memory queries first. `put` and `close` belong to the event loop."""

    def __init__(
        self, path: str, yielder: LockYielder, *, name: str, cache_bytes: int, blobs: Blobs | None = None
    ) -> None:
        self._path = path
        self._blobs = blobs
        self._yielder = yielder
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Query[Any] | MemoryQuery | None] = queue.SimpleQueue()
        try:
            self._db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=64)
            self._db.set_busy_timeout(2000)
            self._db.pragma("query_only", True)
            self._db.pragma("cache_size", -(cache_bytes // 1024))
            self._db.pragma("temp_store", "memory")
        except Exception as error:
            raise explain(error, path) from error
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, query: Query[Any] | MemoryQuery) -> None:
        """Queues a query; its future is resolved on the event loop, with AmxError where reading fails."""
        self._yielder.begin()
        self._queue.put(query)

    async def close(self) -> None:
        """Answers what is queued, then ends the thread and closes the connection."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _resolve(self, answers: list[Answer]) -> None:
        self._yielder.end(len(answers))
        for result, value, error in answers:
            if result.done():  # its caller has given up
                continue
            if error is None:
                result.set_result(value)
            else:
                result.set_exception(error)

    # --- reader thread

    def rows(
        self, columns: Sequence[str], blobs: Sequence[str], source: str, parameters: Sequence[apsw.SQLiteValue] = ()
    ) -> list[Row]:
        """The named columns, then the named blobs, of every row of `source`, a SELECT."""
        lengths = [f"length({blob})" for blob in blobs]
        joined = " || ".join(f"CAST({blob} AS TEXT)" for blob in blobs) or "''"
        packed = (
            f"SELECT json_group_array(json_array({', '.join([*columns, *lengths])})),"
            f" CAST(group_concat({joined}, '') AS BLOB) FROM ({source})"
        )
        try:
            text, data = self._db.execute(packed, parameters).fetchall()[0]
        except apsw.TooBigError:  # more than fits one value: row by row then
            listed = f"SELECT {', '.join([*columns, *blobs])} FROM ({source})"
            return [list(row) for row in self._db.execute(listed, parameters)]
        assert isinstance(text, str) and isinstance(data, bytes | None)
        rows: list[Row] = json.loads(text)
        if blobs:
            _put_blobs(rows, data or b"", len(columns))
        return rows

    def value(self, value: bytes, size: int, holder: Callable[[], str], damaged: bytes | None = None) -> bytes:
        """What a row says with a value and its size.

        holder: names the row in errors. damaged: taken for content that is; None: raises AmxError CONTENT_CORRUPTED.
        """
        if size <= 0:
            return value
        try:
            if self._blobs is None:
                raise not_found("CONTENT_NOT_FOUND", f"content {value.hex()} is not kept here; open its store, too")
            return self._blobs.get(value)
        except AmxError as error:
            if damaged is not None and error.reason in ("CONTENT_CORRUPTED", "CONTENT_NOT_FOUND"):
                return damaged
            raise named(error, holder()) from error

    def number(self, query: str, parameters: Sequence[apsw.SQLiteValue]) -> int:
        """The one integer that `query` selects."""
        value = self._db.execute(query, parameters).get
        assert isinstance(value, int)
        return value

    def _run(self) -> None:
        stop = False
        while not stop:
            queries = [self._queue.get()]
            queries += [self._queue.get_nowait() for _ in range(self._queue.qsize())]
            answers: list[Answer] = []
            memory = [query for query in queries if isinstance(query, MemoryQuery)]
            for start in range(0, len(memory), _MEMORY_SIZES[-1]):
                self._answer_memory(memory[start : start + _MEMORY_SIZES[-1]], answers)
            if answers:  # nobody who wakes an instance waits for anything else
                self._post(answers)
            for query in queries:
                if isinstance(query, Query):
                    self._post([self._answer(query)])
                elif query is None:
                    stop = True
        self._db.close()

    def _answer(self, query: Query[Any]) -> Answer:
        try:
            return query.result, query.read(self), None
        except Exception as error:
            return query.result, None, self._failed(error)

    def _answer_memory(self, queries: list[MemoryQuery], answers: list[Answer]) -> None:
        try:
            found = self._memory([query.instance for query in queries])
        except Exception as error:
            if len(queries) > 1:  # one that cannot be read must not cost the others theirs
                for query in queries:
                    self._answer_memory([query], answers)
            else:
                answers.append((queries[0].result, None, self._failed(error)))
            return
        for query, rows in zip(queries, found, strict=True):
            answers.append((query.result, rows, None))

    def _memory(self, instances: list[Instance]) -> list[list[MemoryRow]]:
        found: list[list[MemoryRow]] = [[] for _ in instances]
        places = next(size for size in _MEMORY_SIZES if size >= len(instances))
        parameters: list[apsw.SQLiteValue] = []
        for at, instance in enumerate(instances):
            parameters += (at, *instance)
        parameters += _NOBODY * (places - len(instances))
        versions = [0] * len(instances)
        forks = []
        for at, name, entry, expires_at_ms, version, used, size, value in self.rows(
            _MEMORY_COLUMNS, ("value",), _MEMORY_STATEMENTS[places], parameters
        ):
            if name:
                if size > 0:
                    value = self.value(value, size, partial(entry_of, instances[at], name, entry))
                found[at].append(MemoryRow(name, entry, value, expires_at_ms, version, used))
            elif size:
                forks.append(at)
            else:
                versions[at] = version
        for at in forks:
            found[at] = memory_at(self, instances[at], 0).rows
        for rows, version in zip(found, versions, strict=True):
            if version and all(row.version < version for row in rows):
                rows.append(MemoryRow("", "", b"", 0, version, 0))
            rows.sort(key=order_of_use)
        return found

    def _failed(self, error: Exception) -> Exception:
        return explain(error, self._path, self._db.system_errno)

    def _post(self, answers: list[Answer]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._resolve, answers)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            pass


def _put_blobs(rows: list[Row], data: bytes, first: int) -> None:
    """Replaces the lengths at the end of every row by the bytes they count."""
    start = 0
    for row in rows:
        for index in range(first, len(row)):
            end = start + row[index]
            row[index] = data[start:end]
            start = end
