"""What an engine that is one of several does about instances which the others own: hands on, asks all, adds up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from amx.v1 import common_pb2, link_pb2, memory_pb2, message_pb2
from amx_server.cluster.outbox import EVENTS, ShardOutbox, publisher_text
from amx_server.cluster.peers import Forwarded, PeerCall, Peers
from amx_server.cluster.shards import Shard
from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import AmxError
from amx_server.runtime.definitions import MAX_DURATION_MS
from amx_server.runtime.dispatch import DEFAULT_KEY
from amx_server.runtime.timers import Timers
from amx_server.security.identity import Identity
from amx_server.storage.interface import Commit, Store, StoredMessage
from amx_server.telemetry import families

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from amx_server.runtime.instances import ReplySink
    from amx_server.runtime.namespaces import Namespace


@runtime_checkable
class RemoteCaller(Protocol):
    """A sink that may give up, and must be told what runs for it in another engine."""

    remote: PeerCall | None


class Engines:
    """The other engines, as one of them sees them. An async context manager: leaving ends the links to them."""

    def __init__(
        self,
        shard: Shard,
        config: EngineConfig,
        clock: Clock,
        store: Store,
        timers: Timers,
        namespace_of: Callable[[str], Namespace],
    ) -> None:
        self.shard = shard
        self._default_timeout_ms = int(config.delivery.default_timeout * 1000)
        self._namespace_of = namespace_of
        self._peers = Peers(shard)
        self.outbox = ShardOutbox(self._peers, store, clock, timers.at, self._no_longer_stored)
        self.forwarded = 0
        """Messages handed on at once."""

    async def __aenter__(self) -> Engines:
        await self._peers.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._peers.__aexit__(*exc)

    def _no_longer_stored(self, namespace: str, size: int) -> None:
        self._namespace_of(namespace).quota.store(-size)

    def metrics(self) -> Iterator[Metric]:
        """What is counted here."""
        yield families.counter("amx_forwarded_messages", "Messages handed to other engines.", value=self.forwarded)
        outbox = self.outbox
        yield families.gauge("amx_outbox_messages", "Stored for other engines.", value=outbox.waiting)
        yield families.counter("amx_outbox_refused", "Refused by other engines for good.", value=outbox.dead)

    # --- ownership ---------------------------------------------------------------------------------------------------

    def elsewhere(self, namespace: str, agent: str, key: str) -> int:
        """The number of the engine that owns an instance; -1: this one."""
        owner = self.shard.owner(namespace, agent, key or DEFAULT_KEY)
        return -1 if owner == self.shard.number else owner

    # --- handing on --------------------------------------------------------------------------------------------------

    def forward(
        self,
        owner: int,
        identity: Identity,
        sender: str,
        message: message_pb2.Message,
        sink: ReplySink,
        timeout_ms: int,
        one_way: bool,
        streaming: bool,
    ) -> None:
        """Has the owner take a message in; the outcome goes to `sink`. Raises AmxError if it cannot be said."""
        message.sender = sender
        operation = "send" if one_way else "stream" if streaming else "request"
        if not one_way:
            timeout_ms = min(timeout_ms, MAX_DURATION_MS) or self._default_timeout_ms
        repeatable = bool(message.message_id if one_way else message.idempotency_key) and not streaming
        kept = message_pb2.Message()  # for as long as it may have to be said again
        kept.CopyFrom(message)

        def say(call: Forwarded) -> None:
            self._peers.call(owner, identity, call, operation, kept, timeout_ms, repeatable=repeatable)

        call = Forwarded(sink, say, (timeout_ms or self._default_timeout_ms) / 1000)
        say(call)
        self.forwarded += 1
        if isinstance(sink, RemoteCaller):
            sink.remote = call

    def remember(
        self,
        owner: int,
        identity: Identity,
        operation: memory_pb2.MemoryOperation,
        timeout_ms: int,
        done: Callable[[memory_pb2.MemoryOperationResult | None, BaseException | None], None],
    ) -> None:
        """Has the owner carry out a memory operation. Raises AmxError if it cannot be said."""

        def answered(reply: link_pb2.Reply) -> None:
            if reply.HasField("failure"):
                done(None, AmxError.from_failure(reply.failure))
            else:
                done(reply.memory, None)

        self._peers.call(owner, identity, _Asked(answered), "memory", operation, timeout_ms or self._default_timeout_ms)

    # --- asking all --------------------------------------------------------------------------------------------------

    def publish(
        self,
        identity: Identity,
        event: message_pb2.Event,
        here: int,
        done: Callable[[int, BaseException | None], None],
    ) -> None:
        """Has every other engine publish an event that this one has published to `here` subscribers of its own.

        `done(subscribers, error)` is called once all have, or one could not.
        """

        total = here

        def add(reply: link_pb2.Reply) -> None:
            nonlocal total
            total += reply.published.subscribers

        def ended(failure: common_pb2.Failure | None) -> None:
            done(total, AmxError.from_failure(failure) if failure is not None else None)

        self._ask_all(identity, "publish", event, 0, bool(event.event_id), add, ended)

    def broadcast(
        self,
        identity: Identity,
        broadcast: link_pb2.Broadcast,
        timeout_ms: int,
        result: message_pb2.BroadcastResult,
        done: Callable[[message_pb2.BroadcastResult], None],
    ) -> None:
        """Has every other engine broadcast to the instances it owns, and adds what came of it to `result`."""

        def add(reply: link_pb2.Reply) -> None:
            result.recipients.extend(reply.broadcast.recipients)
            result.succeeded += reply.broadcast.succeeded
            result.failed += reply.broadcast.failed

        def ended(failure: common_pb2.Failure | None) -> None:
            if failure is not None:
                result.recipients.add().failure.CopyFrom(failure)
                result.failed += 1
            done(result)

        timeout_ms = timeout_ms or self._default_timeout_ms
        self._ask_all(identity, "broadcast", broadcast, timeout_ms, False, add, ended)

    def _ask_all(
        self,
        identity: Identity,
        operation: str,
        message: link_pb2.Broadcast | message_pb2.Event,
        timeout_ms: int,
        repeatable: bool,
        add: Callable[[link_pb2.Reply], None],
        done: Callable[[common_pb2.Failure | None], None],
    ) -> None:
        """`add` gets every reply that is no failure; `done` the first failure, or None, once all have answered."""
        others = self.shard.others
        missing = len(others)
        first: common_pb2.Failure | None = None

        def answered(reply: link_pb2.Reply) -> None:
            nonlocal missing, first
            missing -= 1
            if not reply.HasField("failure"):
                add(reply)
            elif first is None:
                first = common_pb2.Failure()
                first.CopyFrom(reply.failure)
            if not missing:
                done(first)

        if not missing:
            done(None)
        for number in others:
            try:
                self._peers.call(
                    number, identity, _Asked(answered), operation, message, timeout_ms, repeatable=repeatable
                )
            except AmxError as error:
                answered(link_pb2.Reply(failure=error.to_failure()))

    # --- what is stored here for others ------------------------------------------------------------------------------

    def event_rows(
        self, namespace: Namespace, identity: Identity, event: message_pb2.Event, seqs: Iterator[int], now_ms: int
    ) -> list[tuple[int, StoredMessage]]:
        """A row for every other engine, by its number, that makes it publish a durable event of a handler here."""
        body = event.SerializeToString()
        publisher = publisher_text(identity)
        return [
            (
                number,
                StoredMessage(
                    next(seqs),
                    namespace.name,
                    f"{event.event_id}@{number}",
                    EVENTS,
                    str(number),
                    publisher,
                    event.priority or 3,
                    now_ms,
                    body,
                ),
            )
            for number in self.shard.others
        ]

    def stored(self, namespace: Namespace, owner: int, row: StoredMessage, commit: Commit) -> None:
        """The commit that held a row for engine `owner` is on disk: hands it over."""
        if row.message_id not in commit.duplicates:
            namespace.quota.store(len(row.body))
            self.outbox.add(owner, row)

    def restore(self, row: StoredMessage) -> bool:
        """Takes up a row of an earlier run that is for another engine. False: it is for this one."""
        owner = int(row.key) if row.agent == EVENTS else self.elsewhere(row.namespace, row.agent, row.key)
        if owner < 0:
            return False
        self.outbox.add(owner, row)
        return True


class _Asked(PeerCall):
    """A call whose reply goes to a function."""

    __slots__ = ("_done",)

    def __init__(self, done: Callable[[link_pb2.Reply], None]) -> None:
        super().__init__()
        self._done = done

    def replied(self, reply: link_pb2.Reply) -> None:
        self._done(reply)
