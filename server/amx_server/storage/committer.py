"""One writer thread and group commit: whatever is submitted while a transaction runs shares the next one, and if
commits may be delayed, whatever is submitted within that time.

Knows threads, order and back pressure; how a batch is written is the BatchWriter's business.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from amx_server.core.errors import INTERNAL, UNAVAILABLE, AmxError, exhausted, unavailable
from amx_server.storage.gil import LockYielder
from amx_server.storage.interface import Commit

T = TypeVar("T")

# A commit costs about this much memory beside its bytes; it also bounds a queue of empty commits.
_COMMIT_BYTES: Final = 64
_ROW_BYTES: Final = 128
_GATHERED_SHARE: Final = 4  # a quarter of what may be queued waits for nobody


class BatchWriter(Protocol):
    """Writes batches. Called from the writer thread only."""

    # The most rows worth having in one transaction; a single commit may have more.
    batch_rows: int

    def write(self, commits: Sequence[Commit]) -> None:
        """Makes all of it durable and fills Commit.duplicates, or raises AmxError and leaves no trace of any."""
        ...

    def maintain(self, idle: bool) -> float | None:
        """Housekeeping between transactions. Returns how many idle seconds later it wants to be called again."""
        ...


class _Refused:
    """The place in the order of a commit that was not taken, for its `done`."""

    __slots__ = ("done", "error")

    def __init__(self, done: Callable[[BaseException | None], None], error: AmxError) -> None:
        self.done = done
        self.error = error


class _Job:
    """Something else that has to happen on the writer thread, between two transactions."""

    __slots__ = ("call", "result")

    def __init__(self, call: Callable[[], Any], result: asyncio.Future[Any]) -> None:
        self.call = call
        self.result = result


_Entry = tuple[Commit, int] | _Refused | _Job | None


class Committer:
    """Queues commits for one writer thread and reports each of them back on the event loop.

    All methods belong to the event loop's thread. `done` callbacks run there in the order of `submit`, one hop
    between the threads for a whole batch. When a batch fails its commits are written one by one, so that a bad
    commit fails alone, unless the store as a whole is unavailable for now.
    """

    def __init__(
        self,
        writer: BatchWriter,
        yielder: LockYielder,
        *,
        max_queued_bytes: int,
        delay: float = 0.0,
        observe: Callable[[int, int, float], None] | None = None,
    ) -> None:
        """delay: seconds a commit may wait for others, unless it is prompt, or one behind it, or there is something to
        do `after` it.
        observe(stored, given up, seconds): told on the event loop of every transaction.
        """
        self._writer = writer
        self._observe = observe
        self._yielder = yielder
        self._max_queued_bytes = max_queued_bytes
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Entry] = queue.SimpleQueue()
        self._submitted = 0
        self._completed = 0
        self._queued_bytes = 0
        self._delay = delay
        self._gathered: list[_Entry] = []  # not yet handed to the thread
        self._due: asyncio.TimerHandle | None = None  # set while there are any
        self._waiting: deque[tuple[int, Callable[[], object]]] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="amx-storage-writer", daemon=True)
        self._thread.start()

    @property
    def queued_bytes(self) -> int:
        """Bytes submitted and not yet reported back."""
        return self._queued_bytes

    def submit(self, commit: Commit) -> None:
        """See Store.submit. A full queue refuses with STORAGE_BUSY, a closed one with STORAGE_UNAVAILABLE."""
        if self._closed:
            error = unavailable("STORAGE_UNAVAILABLE", "the store is closed; start the engine again")
            self.after(partial(self._loop.call_soon, commit.done, error))
            return
        self._submitted += 1
        if self._queued_bytes >= self._max_queued_bytes:
            error = exhausted(
                "STORAGE_BUSY",
                f"{self._queued_bytes} bytes wait to be stored, the limit is {self._max_queued_bytes};"
                " send more slowly, use a faster disk or raise storage.max_queued_bytes",
                retry_delay_ms=100,
            )
            self._enqueue(_Refused(commit.done, error))
            return
        size = _bytes(commit)
        self._queued_bytes += size
        self._enqueue((commit, size))
        # What is only gathered must not count as a disk that does not keep up: see STORAGE_BUSY above, and pressure.
        if commit.prompt or self._queued_bytes * _GATHERED_SHARE >= self._max_queued_bytes:
            self._hand_over()

    def after(self, callback: Callable[[], object]) -> None:
        """Calls back once everything submitted so far is reported; at once when nothing is under way."""
        if self._completed == self._submitted:
            callback()
        else:
            self._waiting.append((self._submitted, callback))
            self._hand_over()

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Runs `call` on the writer thread after everything submitted so far."""
        result: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            result.set_exception(unavailable("STORAGE_UNAVAILABLE", "the store is closed; start the engine again"))
            return result
        self._hand_over()
        self._submitted += 1
        self._yielder.begin()
        self._queue.put(_Job(call, result))
        return result

    async def close(self) -> None:
        """Writes what is queued and ends the thread. Every `done` has been called when it returns."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # --- event loop

    def _enqueue(self, entry: _Entry) -> None:
        if not self._delay:
            self._yielder.begin()
            self._queue.put(entry)
            return
        self._gathered.append(entry)
        if self._due is None:
            self._due = self._loop.call_later(self._delay, self._hand_over)
        elif len(self._gathered) >= self._writer.batch_rows:
            self._hand_over()

    def _hand_over(self) -> None:
        """Gives the thread what was gathered. It finds all of it at once, for it needs the interpreter lock to look."""
        if self._due is None:
            return
        self._due.cancel()
        self._due = None
        gathered, self._gathered = self._gathered, []
        self._yielder.begin(len(gathered))
        for entry in gathered:
            self._queue.put(entry)

    def _report(
        self, commits: Sequence[Commit], errors: Sequence[AmxError | None] | None, size: int, seconds: float
    ) -> None:
        self._queued_bytes -= size
        if self._observe is not None:
            failures = 0 if errors is None else sum(error is not None for error in errors)
            self._observe(len(commits) - failures, failures, seconds)
        if errors is None:
            for commit in commits:
                self._call(commit.done, None)
        else:
            for commit, error in zip(commits, errors, strict=True):
                self._call(commit.done, error)
        self._advance(len(commits))

    def _report_refused(self, refused: _Refused) -> None:
        self._call(refused.done, refused.error)
        self._advance(1)

    def _report_job(self, result: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
        if not result.done():
            if error is None:
                result.set_result(value)
            else:
                result.set_exception(error)
        self._advance(1)

    def _advance(self, count: int) -> None:
        self._completed += count
        self._yielder.end(count)
        while self._waiting and self._waiting[0][0] <= self._completed:
            self._waiting.popleft()[1]()

    def _call(self, done: Callable[[BaseException | None], None], error: AmxError | None) -> None:
        try:
            done(error)
        except Exception as failure:  # one caller's fault must not cost the others their answer
            self._loop.call_exception_handler({"message": "a commit's done callback failed", "exception": failure})

    # --- writer thread

    def _run(self) -> None:
        held: _Entry = None
        wait: float | None = None
        while True:
            try:
                entry = held or self._queue.get(timeout=wait)
            except queue.Empty:
                wait = self._maintain(idle=True)
                continue
            held = None
            if entry is None:
                return
            if isinstance(entry, _Refused):
                self._post(self._report_refused, entry)
            elif isinstance(entry, _Job):
                self._run_job(entry)
                wait = self._maintain(idle=False)
            else:
                held, stop = self._write_batch(entry)
                if stop:
                    return
                wait = self._maintain(idle=False)

    def _write_batch(self, entry: tuple[Commit, int]) -> tuple[_Entry, bool]:
        """Writes `entry` and what is queued behind it. Returns the entry that did not fit, and whether to stop."""
        commit, size = entry
        commits = [commit]
        rows = _rows(commit)
        limit = self._writer.batch_rows
        held: _Entry = None
        stop = False
        take = self._queue.get_nowait
        while rows < limit:
            try:
                following = take()
            except queue.Empty:
                break
            if not isinstance(following, tuple):
                held, stop = following, following is None
                break
            more = _rows(following[0])
            if rows + more > limit:
                held = following
                break
            commits.append(following[0])
            rows += more
            size += following[1]
        errors: list[AmxError | None] | None = None
        began = time.monotonic()
        try:
            self._writer.write(commits)
        except Exception as failure:
            error = _named(failure)
            if len(commits) == 1 or (error.code == UNAVAILABLE and error.retryable):
                errors = [error] * len(commits)  # no commit's fault: trying each would only take longer
            else:
                errors = [self._write_alone(commit) for commit in commits]
        self._post(self._report, commits, errors, size, time.monotonic() - began)
        return held, stop

    def _write_alone(self, commit: Commit) -> AmxError | None:
        try:
            self._writer.write([commit])
        except Exception as failure:
            return _named(failure)
        return None

    def _run_job(self, job: _Job) -> None:
        value: Any = None
        error: AmxError | None = None
        try:
            value = job.call()
        except Exception as failure:
            error = _named(failure)
        self._post(self._report_job, job.result, value, error)

    def _maintain(self, idle: bool) -> float | None:
        try:
            return self._writer.maintain(idle)
        except Exception as failure:
            context = {"message": "storage housekeeping failed; it is tried again", "exception": failure}
            self._post(self._loop.call_exception_handler, context)
            return None

    def _post(self, callback: Callable[..., object], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            pass


def _named(failure: Exception) -> AmxError:
    if isinstance(failure, AmxError):
        return failure
    error = AmxError(
        INTERNAL,
        "STORAGE_REJECTED",
        f"the store cannot hold this commit ({type(failure).__name__}: {failure}); nothing of it was stored."
        " This is a defect of the engine: please report it",
    )
    error.__cause__ = failure
    return error


def _rows(commit: Commit) -> int:
    """How many rows the commit changes at least; an empty one counts too, for a batch has to end."""
    rows = (
        len(commit.insert)
        + len(commit.finish)
        + len(commit.retry)
        + len(commit.drop)
        + len(commit.memory_put)
        + len(commit.memory_remove)
        + len(commit.memory_clear)
        + len(commit.memory_touch)
        + len(commit.memory_version)
        + len(commit.schedule_put)
        + len(commit.schedule_remove)
        + len(commit.subscription_put)
        + len(commit.subscription_remove)
        + len(commit.agent_put)
        + len(commit.suspension_put)
        + len(commit.suspension_remove)
    )
    return rows or 1


def _bytes(commit: Commit) -> int:
    """Roughly what the commit occupies while it waits."""
    size = _COMMIT_BYTES
    for message in commit.insert:
        size += _ROW_BYTES + len(message.body) + len(message.outcome)
    for ended in commit.finish:
        size += _ROW_BYTES + len(ended[2])
    for again in commit.retry:
        size += _ROW_BYTES + len(again[3])
    for put in commit.memory_put:
        size += _ROW_BYTES + len(put[3].value)
    for schedule in commit.schedule_put:
        size += _ROW_BYTES + len(schedule.definition)
    for agent in commit.agent_put:
        size += _ROW_BYTES + len(agent.definition)
    small = len(commit.drop) + len(commit.memory_remove) + len(commit.memory_clear)
    small += len(commit.memory_touch) + len(commit.memory_version)
    small += len(commit.suspension_put) + len(commit.suspension_remove)
    small += len(commit.schedule_remove) + len(commit.subscription_put) + len(commit.subscription_remove)
    return size + small * _ROW_BYTES
