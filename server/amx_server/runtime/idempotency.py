"""Volatile requests with an idempotency key: a repeat gets the first one's outcome. Kept in memory, bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from amx.v1 import common_pb2
from amx_server.runtime.instances import ReplySink


class Entry:
    """One request and its outcome, once there is one."""

    __slots__ = ("expires_at", "failure", "ended", "result", "waiting")

    def __init__(self) -> None:
        self.ended = False
        self.expires_at = 0.0
        self.result: common_pb2.Payload | None = None
        self.failure: common_pb2.Failure | None = None
        self.waiting: list[ReplySink] = []


class IdempotentRequests:
    """Outcomes by idempotency key, for `window` seconds after they are known, at most `capacity` of them."""

    def __init__(self, window: float, capacity: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._window = window
        self._capacity = capacity
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def join(self, key: str, sink: ReplySink) -> ReplySink | None:
        """Takes part in the request `key`. Returns the sink to run it with, or None if it runs or ran already: then
        `sink` gets the first one's outcome, now or when it is known.
        """
        now = self._clock()
        entry = self._entries.get(key)
        if entry is not None and entry.ended and entry.expires_at <= now:
            del self._entries[key]
            entry = None
        if entry is None:
            entry = self._entries[key] = Entry()
            self._evict(now)
            return _Recording(self, key, entry, sink)
        if not entry.ended:
            entry.waiting.append(sink)
        elif entry.failure is not None:
            sink.fail(entry.failure)
        else:
            sink.result(entry.result or common_pb2.Payload())
        return None

    def forget(self, key: str) -> None:
        """The request failed for a reason that a repeat may not meet: the next one runs."""
        self._entries.pop(key, None)

    def ended(self, entry: Entry) -> None:
        """Starts the window of an outcome."""
        entry.ended = True
        entry.expires_at = self._clock() + self._window

    def _evict(self, now: float) -> None:
        while self._entries:
            key, oldest = next(iter(self._entries.items()))
            if not oldest.ended or (oldest.expires_at > now and len(self._entries) <= self._capacity):
                break
            del self._entries[key]

    def __len__(self) -> int:
        return len(self._entries)


class _Recording:
    """The first request's sink: records the outcome and hands it to everyone who joined."""

    __slots__ = ("_entry", "_key", "_owner", "_sink")

    def __init__(self, owner: IdempotentRequests, key: str, entry: Entry, sink: ReplySink) -> None:
        self._owner = owner
        self._key = key
        self._entry = entry
        self._sink = sink

    def accepted(self, message_id: str, duplicate: bool) -> None:
        self._sink.accepted(message_id, duplicate)

    def chunk(self, payload: common_pb2.Payload) -> None:
        self._sink.chunk(payload)

    def result(self, payload: common_pb2.Payload) -> None:
        self._entry.result = payload
        self._end()
        self._sink.result(payload)
        for sink in self._entry.waiting:
            sink.result(payload)
        self._entry.waiting.clear()

    def fail(self, failure: common_pb2.Failure) -> None:
        self._entry.failure = failure
        self._end()
        if failure.retryable:
            self._owner.forget(self._key)
        self._sink.fail(failure)
        for sink in self._entry.waiting:
            sink.fail(failure)
        self._entry.waiting.clear()

    def _end(self) -> None:
        self._owner.ended(self._entry)
