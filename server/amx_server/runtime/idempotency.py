"""Volatile messages with an idempotency key: a repeat gets the first one's outcome. Kept in memory, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from amx.v1 import common_pb2
from amx_server.core import errors
from amx_server.runtime.instances import ReplySink


class Entry:
    """One message and its outcome, once there is one: of a request the reply, of a one-way message the acceptance."""

    __slots__ = ("accepted", "expires_at", "failure", "key", "result", "waiting")

    def __init__(self, key: str) -> None:
        self.key = key
        self.expires_at = 0.0  # 0: it has not ended
        self.result: common_pb2.Payload | None = None
        self.failure: common_pb2.Failure | None = None
        self.accepted = ""  # id of a one-way message
        self.waiting: list[ReplySink] = []


class IdempotentRequests:
    """Outcomes by idempotency key, for `window` seconds after they are known, at most `capacity` of them. What runs
    is kept besides, as long as it runs.
    """

    def __init__(self, window: float, capacity: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._window = window
        self._capacity = capacity
        self._entries: dict[str, Entry] = {}
        self._ended: deque[Entry] = deque()  # in the order in which they expire

    def join(self, key: str, sink: ReplySink) -> ReplySink | None:
        """Takes part in the request `key`. Returns the sink to run it with, or None if it runs or ran already: then
        `sink` gets the first one's outcome, now or when it is known.
        """
        self._evict()
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(key)
            return _Recording(self, entry, sink)
        if not entry.expires_at:
            entry.waiting.append(sink)
        elif entry.failure is not None:
            sink.fail(entry.failure)
        elif entry.accepted:
            sink.accepted(entry.accepted, True)
        else:
            sink.result(entry.result or common_pb2.Payload())
        return None

    def ended(self, entry: Entry) -> None:
        """Starts the window of an outcome. One that a repeat may not meet is not kept: the next request runs."""
        failure = entry.failure
        if failure is not None and (failure.retryable or failure.code == errors.CANCELLED):
            del self._entries[entry.key]
            return
        entry.expires_at = self._clock() + self._window
        self._ended.append(entry)
        self._evict()

    def _evict(self) -> None:
        ended = self._ended
        now = self._clock()
        while ended and (ended[0].expires_at <= now or len(ended) > self._capacity):
            del self._entries[ended.popleft().key]

    def __len__(self) -> int:
        return len(self._entries)


class _Recording:
    """The first request's sink: records the outcome and hands it to everyone who joined."""

    __slots__ = ("_entry", "_owner", "_sink")

    def __init__(self, owner: IdempotentRequests, entry: Entry, sink: ReplySink) -> None:
        self._entry = entry
        self._owner = owner
        self._sink = sink

    def accepted(self, message_id: str, duplicate: bool) -> None:
        entry = self._entry
        entry.accepted = message_id
        self._owner.ended(entry)
        first, *joined = self._everyone()
        first.accepted(message_id, duplicate)
        for sink in joined:
            sink.accepted(message_id, True)

    def chunk(self, payload: common_pb2.Payload) -> None:
        self._sink.chunk(payload)

    def result(self, payload: common_pb2.Payload) -> None:
        entry = self._entry
        entry.result = common_pb2.Payload()
        entry.result.CopyFrom(payload)  # the payload may be part of a large frame
        self._owner.ended(entry)
        for sink in self._everyone():
            sink.result(entry.result)

    def fail(self, failure: common_pb2.Failure) -> None:
        entry = self._entry
        entry.failure = common_pb2.Failure()
        entry.failure.CopyFrom(failure)
        self._owner.ended(entry)
        for sink in self._everyone():
            sink.fail(entry.failure)

    def _everyone(self) -> list[ReplySink]:
        joined, self._entry.waiting = self._entry.waiting, []
        return [self._sink, *joined]
