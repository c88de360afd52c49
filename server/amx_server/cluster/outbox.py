"""Durable messages and events that were stored with a commit here and belong to other engines: kept until those have
them. The owner recognises a repeat by its id, so nothing is lost and nothing happens twice.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from functools import partial

from google.protobuf.message import DecodeError

from amx.v1 import common_pb2, link_pb2, message_pb2
from amx_server.cluster.peers import PeerCall, Peers
from amx_server.core.clock import Clock
from amx_server.core.errors import INTERNAL, AmxError
from amx_server.security.identity import Identity
from amx_server.storage.interface import Commit, MessageState, Store, StoredMessage
from amx_server.telemetry.logs import get_logger

log = get_logger(__name__)

EVENTS = "@events"
"""Stands for the agent in rows that hold an Event for another engine; no agent has such a name."""

_WINDOW = 256  # calls to one engine without an outcome
_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 30.0
# What another engine may answer until the agent has been hosted there as well.
_NOT_YET = frozenset({"AGENT_UNKNOWN", "HANDLER_UNKNOWN", "NO_WORKER"})


class ShardOutbox:
    """What one engine still has to hand to the others, in the order it was stored."""

    def __init__(
        self,
        peers: Peers,
        store: Store,
        clock: Clock,
        at: Callable[[float, Callable[[], None]], None],
        stored: Callable[[str, int], None],
    ) -> None:
        """at: calls back at a monotonic second. stored: told how many bytes of a namespace are no longer stored."""
        self._peers = peers
        self._store = store
        self._clock = clock
        self._at = at
        self._stored = stored
        self._queues: dict[int, deque[StoredMessage]] = {}
        self._in_flight: dict[int, int] = {}
        self.waiting = 0
        """Rows that the others do not have yet."""
        self.dead = 0
        """Rows that another engine refused for good."""

    def add(self, target: int, row: StoredMessage) -> None:
        """Hands a row that is on disk to engine `target`, now or as soon as that takes it."""
        self.waiting += 1
        self._queues.setdefault(target, deque()).append(row)
        self._advance(target)

    def _advance(self, target: int) -> None:
        queue = self._queues[target]
        while queue and self._in_flight.get(target, 0) < _WINDOW:
            row = queue.popleft()
            self._in_flight[target] = self._in_flight.get(target, 0) + 1
            try:
                self._say(target, row)
            except AmxError as error:
                self._refused(target, row, error.to_failure())

    def _say(self, target: int, row: StoredMessage) -> None:
        call = _Handing(partial(self._answered, target, row))
        try:
            if row.agent == EVENTS:
                event = message_pb2.Event.FromString(row.body)
                publisher = _publisher(row)
                self._peers.call(target, publisher, call, "publish", event, repeatable=True)
            else:
                message = message_pb2.Message.FromString(row.body)
                # What a handler may send was decided when it was committed: here the engine itself speaks.
                engine = Identity("engine", row.namespace, ("admin",), ("*",))
                self._peers.call(target, engine, call, "send", message, repeatable=True)
        except DecodeError:
            raise AmxError(
                INTERNAL, "STORAGE_UNAVAILABLE", f"message '{row.message_id}' cannot be read any more"
            ) from None

    def _answered(self, target: int, row: StoredMessage, reply: link_pb2.Reply) -> None:
        if reply.HasField("failure"):
            self._refused(target, row, reply.failure)
            return
        self._store.submit(Commit(done=_logged, drop=(row.seq,)))
        self._ended(target, row)

    def _refused(self, target: int, row: StoredMessage, failure: common_pb2.Failure) -> None:
        now = self._clock.monotonic()
        row.attempts += 1
        if failure.retryable or failure.reason in _NOT_YET:
            self._in_flight[target] -= 1
            wait = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2 ** min(row.attempts - 1, 16))
            self._at(now + wait, partial(self._again, target, row))
            return
        log.error(
            "forwarded_message_refused",
            message_id=row.message_id,
            agent=row.agent,
            key=row.key,
            reason=failure.reason,
            error=failure.message,
        )
        outcome = link_pb2.Reply(failure=failure).SerializeToString()
        ended = (row.seq, int(MessageState.DEAD), outcome, self._clock.now_ms(), row.attempts)
        self._store.submit(Commit(done=_logged, finish=(ended,)))
        self.dead += 1
        self._ended(target, row, kept=True)

    def _again(self, target: int, row: StoredMessage) -> None:
        self._queues[target].appendleft(row)
        self._advance(target)

    def _ended(self, target: int, row: StoredMessage, kept: bool = False) -> None:
        self.waiting -= 1
        self._in_flight[target] -= 1
        if not kept:
            self._stored(row.namespace, len(row.body))
        self._advance(target)


def publisher_text(identity: Identity) -> str:
    """On whose behalf an event is published: stands for the handler in its row."""
    return json.dumps([identity.subject, sorted(identity.permissions)])


def _publisher(row: StoredMessage) -> Identity:
    subject, permissions = json.loads(row.handler)
    return Identity(subject, row.namespace, (), permissions)


class _Handing(PeerCall):
    """One row on its way."""

    __slots__ = ("_answered",)

    def __init__(self, answered: Callable[[link_pb2.Reply], None]) -> None:
        super().__init__()
        self._answered = answered

    def replied(self, reply: link_pb2.Reply) -> None:
        self._answered(reply)


def _logged(error: BaseException | None) -> None:
    if error is not None:  # it is handed over once more after the next start, and recognised there
        log.warning("outbox_not_cleared", error=str(error))
