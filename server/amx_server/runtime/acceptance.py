"""How messages come in: checked, admitted, stored first if they are durable, then handed to the dispatcher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from amx import wire
from amx.v1 import common_pb2, link_pb2, message_pb2
from amx_server.core import errors
from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import AmxError, invalid, not_found, unavailable
from amx_server.runtime.breaker import CircuitState
from amx_server.runtime.definitions import MAX_DURATION_MS
from amx_server.runtime.dispatch import DEFAULT_KEY, DURABLE, NORMAL, VOLATILE, Dispatcher, failure_of, no_worker
from amx_server.runtime.instances import Agent, BytesSink, HandlerState, Invocation, ReplySink
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.placement import Placement
from amx_server.runtime.scheduling.admission import Admission, admits
from amx_server.runtime.timers import Timers
from amx_server.security.identity import Identity
from amx_server.storage.interface import Commit, MessageState, Store, StoredMessage
from amx_server.telemetry.logs import get_logger

if TYPE_CHECKING:
    from amx_server.runtime.engines import Engines
    from amx_server.runtime.links import LinkSession
    from amx_server.runtime.routing import Routing

log = get_logger(__name__)

_DEFAULT_KEY_FIELD = wire.field(2 << 3 | 2, DEFAULT_KEY)  # Message.key


def shutting_down() -> AmxError:
    """What a call gets that an engine on its way out does nothing of."""
    return unavailable("SHUTTING_DOWN", "the engine is shutting down; repeat the call in a moment")


class Acceptance:
    """Takes messages in, from callers, from handlers' commits and from the store."""

    routing: Routing

    def __init__(
        self,
        config: EngineConfig,
        clock: Clock,
        store: Store,
        timers: Timers,
        placement: Placement,
        dispatcher: Dispatcher,
    ) -> None:
        self._config = config
        self._clock = clock
        self._now = clock.monotonic
        self._default_timeout = config.delivery.default_timeout
        # A message smaller than every bound on its parts keeps them all.
        self._unchecked_bytes = min(config.limits.max_key_bytes, config.limits.max_header_bytes)
        self._store = store
        self._timers = timers
        self._placement = placement
        self._dispatcher = dispatcher
        self.counters = dispatcher.counters
        self.seqs: Iterator[int] = count(store.next_seq)
        """Numbers of stored messages to come."""
        self._answers: set[asyncio.Task[None]] = set()
        self.draining = False
        """New work is refused: the engine is about to stop. Set by `drain`."""
        self.admission = Admission()
        """What may be refused because the engine is busy. Whoever changes its level calls `look_again`."""
        self.guarded = False
        """Some messages may be refused now that would not be otherwise: each is looked at."""
        self._taken: tuple[bool, ...] = (True,) * 6
        """By priority, 0 for none: volatile messages to instances that are awake are taken, whoever sends them."""
        self.storage_failure: common_pb2.Failure | None = None
        """Why the last message could not be stored; None: it could."""
        self.engines: Engines | None = None
        """The others, where several engines share one address."""

    def drain(self) -> None:
        """Refuses new work from now on."""
        self.draining = True
        self.look_again()

    def look_again(self) -> None:
        """Finds out anew whether messages need looking at."""
        self.guarded = self.draining or self.admission.strict
        level = self.admission.level
        self._taken = tuple(not self.draining and admits(level, priority or NORMAL) for priority in range(6))

    def accept(
        self,
        namespace: Namespace,
        identity: Identity,
        sender: str,
        message: message_pb2.Message,
        sink: ReplySink,
        timeout_ms: int = 0,
        one_way: bool = False,
        streaming: bool = False,
    ) -> Invocation | None:
        """Takes a message in. `sink` gets exactly one outcome, possibly before this returns.

        Returns the invocation, or None where there is none of its own (routed, or joined to an earlier one).
        Raises AmxError if the message cannot be accepted; nothing has happened then.
        """
        name = message.agent
        agent = namespace.agents.get(name)
        if self.engines is not None and name and not identity.peer:
            owner = self.engines.elsewhere(namespace.name, name, message.key)
            if owner >= 0:
                self.engines.forward(owner, identity, sender, message, sink, timeout_ms, one_way, streaming)
                return None
        if agent is None:
            if name:
                raise not_found(
                    "AGENT_UNKNOWN",
                    f"no agent named '{name}' has ever registered in namespace '{namespace.name}';"
                    " check the name, or start the process that hosts it",
                    agent=name,
                )
            self.routing.route(namespace, identity, sender, message, sink, timeout_ms, one_way, streaming)
            return None
        if self.draining:
            raise shutting_down()
        handler = agent.handlers.get(message.handler) or self.choose_handler(agent, message)
        spec = handler.spec
        if spec.permissions:
            for permission in spec.permissions:
                identity.require(permission, f"calling {agent.name}#{handler.name}")
        key = message.key
        if not key:
            key = message.key = DEFAULT_KEY
        size = message.ByteSize()
        ttl_ms, delay_ms = message.ttl_ms, message.delay_ms
        if size > self._unchecked_bytes or ttl_ms or delay_ms:
            self._check(message, key)
            ttl_ms = message.ttl_ms
        durability = message.durability or spec.durability
        durable = durability == DURABLE or (one_way and durability != VOLATILE)
        if self.guarded:
            self.require_admission(
                namespace,
                sender,
                message.priority,
                durable=durable,
                awake=key in agent.instances,
                target=f"{name}/{key}",
            )
        now = self._now()
        if namespace.quota.rated:
            namespace.quota.admit(now)
        message.sender = sender

        if delay_ms and not durable:
            raise invalid("INVALID_INPUT", "delay_ms needs a durable message: this one would be lost with the engine")
        if message.idempotency_key:
            if durable:
                message.message_id = message.message_id or f"idempotent:{message.idempotency_key}"
            else:
                kind = "send" if one_way else "request"
                joined = namespace.idempotent.join(f"{kind}:{agent.name}/{message.idempotency_key}", sink)
                if joined is None:
                    return None
                sink = joined
        active = agent.active
        if not durable and (active is None or not active.hosts) and not agent.restored:
            sink.fail(no_worker(agent).to_failure())
            return None
        breaker = handler.breaker
        if breaker is not None and breaker.open and not durable and breaker.state(now) is CircuitState.OPEN:
            sink.fail(breaker.refusal(f"{agent.name}#{handler.name}", now).to_failure())
            return None

        instance = agent.instances.get(key)
        if instance is None:
            try:
                instance = self._placement.wake(agent, key, now)
            except AmxError as error:
                if not message.idempotency_key:
                    raise
                sink.fail(error.to_failure())  # others may have joined already
                return None
        inv = Invocation(self._dispatcher.next_id(), instance, handler, message, sink)
        inv.size = size
        if streaming:
            inv.streaming = True
        priority = message.priority
        if priority:
            inv.priority = priority if 1 <= priority <= 5 else NORMAL
        due = 0.0
        if not one_way:
            due = inv.deadline = now + (
                min(timeout_ms, MAX_DURATION_MS) / 1000 if timeout_ms else self._default_timeout
            )
        if ttl_ms:
            inv.expires_at = now + ttl_ms / 1000
            due = min(due or inv.expires_at, inv.expires_at)
        if due:
            inv.token = self._dispatcher.deadlines.add(inv, due)
        if durable:
            try:
                self._dispatcher.check_room(instance)
                self._store_first(namespace, inv, one_way)
            except AmxError:
                self._dispatcher.end(inv)
                raise
        elif instance.storing:
            # Durable messages that came earlier are on their way to disk: queue behind them.
            instance.storing += 1
            self._store.submit(Commit(done=partial(self._after_earlier, inv, one_way)))
        else:
            self._dispatcher.run_or_queue(inv, instance, now)
            if one_way and inv.sink is not None:
                inv.sink = None
                sink.accepted(message.message_id or f"inv-{inv.id}", False)
        self.counters.messages_accepted += 1
        return inv

    def accept_plain(self, session: LinkSession, sink: BytesSink, entry: tuple[Any, ...]) -> Invocation | None:
        """Takes in a request that came as an entry of `amx.wire.scan`. As `accept`, which it turns to for everything
        but a volatile message to an instance that is awake.
        """
        _, _, timeout_ms, name, key, handler_name, kind, priority, plain = entry
        namespace = session.namespace
        added = session.sender_field
        if not key:
            key = DEFAULT_KEY
            added = _DEFAULT_KEY_FIELD + added
        agent = namespace.agents.get(name)
        if agent is not None:
            handler, instance, active = agent.handlers.get(handler_name), agent.instances.get(key), agent.active
            if (
                handler is not None
                and instance is not None
                and not instance.storing
                and active is not None
                and active.hosts
                and self._taken[priority]
                and not namespace.quota.rated
                and not handler.spec.permissions
                and handler.spec.durability != DURABLE
                and (handler.breaker is None or not handler.breaker.open)
            ):
                now = self._now()
                inv = Invocation(self._dispatcher.next_id(), instance, handler, None, sink, plain, added)
                inv.size = len(plain)
                inv.kind = kind
                if priority:
                    inv.priority = priority
                inv.deadline = due = now + (
                    min(timeout_ms, MAX_DURATION_MS) / 1000 if timeout_ms else self._default_timeout
                )
                inv.token = self._dispatcher.deadlines.add(inv, due)
                self._dispatcher.run_or_queue(inv, instance, now)
                self.counters.messages_accepted += 1
                return inv
        message = message_pb2.Message.FromString(plain)
        return self.accept(namespace, session.identity, session.sender, message, sink, timeout_ms)

    def require_admission(
        self,
        namespace: Namespace,
        sender: str,
        priority: int,
        *,
        durable: bool = False,
        awake: bool = True,
        target: str = "",
    ) -> None:
        """Raises AmxError ENGINE_PRESSURE if the engine is too busy for this. What the engine itself sends goes on;
        of what agents send while they run more is taken than of what is new.
        """
        if sender != "engine":
            self.admission.require(
                priority if 1 <= priority <= 5 else NORMAL,
                durable=durable,
                awake=awake,
                continues=sender.partition("/")[0] in namespace.agents,
                target=target,
            )

    def owns(self, namespace: str, agent: str, key: str) -> bool:
        """Whether an instance is this engine's, or another's of several."""
        return self.engines is None or self.engines.elsewhere(namespace, agent, key) < 0

    def choose_handler(self, agent: Agent, message: message_pb2.Message) -> HandlerState:
        """The handler that `message` is for. Raises AmxError HANDLER_UNKNOWN or HANDLER_AMBIGUOUS."""
        name = message.handler
        if not name:
            version = agent.active
            if version is None:
                raise unavailable(
                    "NO_WORKER", f"agent '{agent.name}' has no version in use; start a process that hosts it"
                )
            name = message.handler = version.spec.choose(message.type)
        handler = agent.handlers.get(name)
        if handler is None:
            raise not_found(
                "HANDLER_UNKNOWN",
                f"agent '{agent.name}' has no handler '{name}'; it has: {', '.join(sorted(agent.handlers)) or 'none'}",
                agent=agent.name,
                handler=name,
            )
        return handler

    def _check(self, message: message_pb2.Message, key: str) -> None:
        if message.ttl_ms > MAX_DURATION_MS:
            message.ttl_ms = MAX_DURATION_MS
        if message.delay_ms > MAX_DURATION_MS:
            message.delay_ms = MAX_DURATION_MS
        limits = self._config.limits
        if len(key) * 4 > limits.max_key_bytes and len(key.encode()) > limits.max_key_bytes:
            raise invalid(
                "KEY_TOO_LONG", f"the instance key has {len(key.encode())} bytes, {limits.max_key_bytes} are allowed"
            )
        headers = message.headers
        if headers:
            size = sum(len(name.encode()) + len(value.encode()) for name, value in headers.items())
            if size > limits.max_header_bytes:
                raise invalid(
                    "HEADERS_TOO_LARGE",
                    f"the headers have {size} bytes together, {limits.max_header_bytes} are allowed;"
                    " put large values into the payload",
                )

    def stored_message(self, namespace: Namespace, inv: Invocation) -> StoredMessage:
        """The row that `inv` is stored as. Mints the message id and the sequence number where they are missing."""
        message = inv.message
        instance = inv.instance
        row = self._row(namespace, message, instance.agent.name, instance.key, inv.handler.name, inv.priority)
        inv.seq, inv.accepted_at_ms = row.seq, row.accepted_at_ms
        return row

    def _row(
        self, namespace: Namespace, message: message_pb2.Message, agent: str, key: str, handler: str, priority: int
    ) -> StoredMessage:
        seq = next(self.seqs)
        if not message.message_id:
            message.message_id = f"msg-{self._store.generation}-{seq}"
        now_ms = self._clock.now_ms()
        return StoredMessage(
            seq,
            namespace.name,
            message.message_id,
            agent,
            key,
            handler,
            priority,
            now_ms,
            message.SerializeToString(),
            available_at_ms=now_ms + message.delay_ms if message.delay_ms else 0,
            expires_at_ms=now_ms + message.ttl_ms if message.ttl_ms else 0,
        )

    def _store_first(self, namespace: Namespace, inv: Invocation, one_way: bool) -> None:
        message = inv.message
        message.durability = DURABLE
        row = self.stored_message(namespace, inv)
        namespace.quota.require_room(len(row.body))
        namespace.quota.store(len(row.body))
        inv.instance.storing += 1
        commit = Commit(done=_nothing, insert=(row,), prompt=inv.priority < NORMAL)
        commit.done = partial(self._stored, namespace, inv, one_way, commit)
        self._store.submit(commit)

    def _stored(
        self, namespace: Namespace, inv: Invocation, one_way: bool, commit: Commit, error: BaseException | None
    ) -> None:
        instance = inv.instance
        instance.storing -= 1
        sink = inv.sink
        if error is not None:
            namespace.quota.store(-len(commit.insert[0].body))
            self._dispatcher.end(inv)
            self.storage_failure = failure_of(error)
            if sink is not None:
                sink.fail(self.storage_failure)
        elif commit.duplicates:
            self.counters.duplicates += 1
            namespace.quota.store(-len(commit.insert[0].body))
            self._dispatcher.end(inv)
            if sink is None:
                pass
            elif one_way:
                sink.accepted(inv.message.message_id, True)
            else:
                joined = _Joined(sink)
                if inv.deadline:
                    self._timers.at(inv.deadline, joined.expire)
                self._join_stored(namespace, inv.message.message_id, joined)
        else:
            self.storage_failure = None
            if inv.done:  # cancelled, or its deadline passed meanwhile
                self._dispatcher.finish_stored(inv, MessageState.CANCELLED, inv.failure)
                return
            namespace.durable[inv.message.message_id] = inv
            if one_way:
                inv.sink = None
                if sink is not None:
                    sink.accepted(inv.message.message_id, False)
            self.enqueue_stored(inv)

    def prepare_stored(self, namespace: Namespace, identity: Identity, message: message_pb2.Message) -> Invocation:
        """The invocation of a durable one-way message that is to be stored with somebody's commit.

        Raises AmxError if it cannot be accepted. Follow with `stored_message`, then `stored_with_commit`.
        """
        agent, handler, key = self._addressee(namespace, identity, message)
        instance = self._placement.wake(agent, key, self._now())
        self._dispatcher.check_room(instance)
        inv = Invocation(self._dispatcher.next_id(), instance, handler, message, None)
        inv.priority = _priority(message)
        return inv

    def stage_elsewhere(
        self,
        namespace: Namespace,
        identity: Identity,
        message: message_pb2.Message,
        commit: Commit,
        after: list[Callable[[], None]],
    ) -> bool:
        """Adds a durable one-way message to another engine's instance to somebody's commit, from which it will be
        handed over. False: the instance is this engine's. Raises AmxError if it cannot be accepted.
        """
        engines = self.engines
        if engines is None:
            return False
        owner = engines.elsewhere(namespace.name, message.agent, message.key)
        if owner < 0:
            return False
        agent, handler, key = self._addressee(namespace, identity, message)
        row = self._row(namespace, message, agent.name, key, handler.name, _priority(message))
        namespace.quota.require_room(len(row.body))
        commit.insert += (row,)
        after.append(partial(engines.stored, namespace, owner, row, commit))
        return True

    def _addressee(
        self, namespace: Namespace, identity: Identity, message: message_pb2.Message
    ) -> tuple[Agent, HandlerState, str]:
        """Whom a durable message is for. Raises AmxError if it cannot be accepted."""
        agent = namespace.agents.get(message.agent)
        if agent is None:
            raise not_found(
                "AGENT_UNKNOWN",
                f"no agent named '{message.agent}' has ever registered in namespace '{namespace.name}'",
                agent=message.agent,
            )
        handler = self.choose_handler(agent, message)
        for permission in handler.spec.permissions:
            identity.require(permission, f"calling {agent.name}#{handler.name}")
        key = message.key
        if not key:
            key = message.key = DEFAULT_KEY
        self._check(message, key)
        message.durability = DURABLE
        return agent, handler, key

    def stored_with_commit(self, namespace: Namespace, inv: Invocation, commit: Commit) -> None:
        """The commit that held the message of `inv` is on disk."""
        message = inv.message
        if message.message_id in commit.duplicates:
            self.counters.duplicates += 1
            self._dispatcher.end(inv)
            return
        self.counters.messages_accepted += 1
        namespace.durable[message.message_id] = inv
        namespace.quota.store(message.ByteSize())
        if message.ttl_ms:
            inv.expires_at = self._now() + message.ttl_ms / 1000
            inv.token = self._dispatcher.deadlines.add(inv, inv.expires_at)
        self.enqueue_stored(inv)

    def enqueue_stored(self, inv: Invocation) -> None:
        """Queues a message that is on disk, now or after its delay."""
        delay_ms = inv.message.delay_ms
        if delay_ms and inv.attempt == 0:
            self._timers.at(self._now() + delay_ms / 1000, partial(self._dispatcher.enqueue, inv))
        else:
            self._dispatcher.enqueue(inv)

    def _after_earlier(self, inv: Invocation, one_way: bool, error: BaseException | None) -> None:
        inv.instance.storing -= 1
        if inv.done:
            return
        sink = inv.sink
        self._dispatcher.enqueue(inv)
        if one_way and sink is not None and inv.sink is not None:
            inv.sink = None
            sink.accepted(inv.message.message_id or f"inv-{inv.id}", False)

    def _join_stored(self, namespace: Namespace, message_id: str, sink: ReplySink) -> None:
        """Gives `sink` the outcome of an earlier message with this id, now or when it is known."""
        earlier = namespace.durable.get(message_id)
        if earlier is not None and not earlier.done:
            if earlier.waiters is None:
                earlier.waiters = []
            earlier.waiters.append(partial(self._join_stored, namespace, message_id, sink))
            return
        task = asyncio.get_running_loop().create_task(self._answer_from_store(namespace, message_id, sink))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer_from_store(self, namespace: Namespace, message_id: str, sink: ReplySink) -> None:
        try:
            await self._store.flush()
            row = await self._store.message(namespace.name, message_id)
        except AmxError as error:
            sink.fail(error.to_failure())
            return
        if row is None:
            sink.fail(not_found("MESSAGE_UNKNOWN", f"message '{message_id}' is no longer kept").to_failure())
            return
        if row.state == MessageState.PENDING:
            failure = unavailable(
                "NO_WORKER", f"message '{message_id}' is stored and waits for a version of its agent that takes it"
            )
            sink.fail(failure.to_failure())
            return
        reply = link_pb2.Reply.FromString(row.outcome) if row.outcome else link_pb2.Reply()
        if reply.HasField("failure"):
            sink.fail(reply.failure)
        else:
            sink.result(reply.result)

    def restore(self, namespace: Namespace, row: StoredMessage) -> None:
        """Takes a stored message up again after a restart. One whose handler is not known waits for `place`."""
        if self.engines is not None and self.engines.restore(row):
            return
        try:
            message = message_pb2.Message.FromString(row.body)
        except DecodeError:
            log.error("stored_message_unreadable", message_id=row.message_id, seq=row.seq)
            return
        agent = namespace.agents.get(row.agent)
        handler = agent.handlers.get(row.handler) if agent else None
        if agent is None or handler is None:
            log.warning("stored_message_waits", message_id=row.message_id, agent=row.agent, handler=row.handler)
            namespace.unplaced.setdefault(row.agent, []).append(row)
            return
        now, now_ms = self._now(), self._clock.now_ms()
        try:
            instance = self._placement.wake(agent, row.key, now)
        except AmxError:  # too many instances are awake: once some of them sleep
            self._timers.at(now + 1.0, partial(self.restore, namespace, row))
            return
        inv = Invocation(self._dispatcher.next_id(), instance, handler, message, None)
        inv.seq = row.seq
        inv.attempt = row.attempts
        inv.priority = row.priority
        inv.accepted_at_ms = row.accepted_at_ms
        namespace.durable[row.message_id] = inv
        if row.expires_at_ms:
            inv.expires_at = now + (row.expires_at_ms - now_ms) / 1000
            inv.token = self._dispatcher.deadlines.add(inv, inv.expires_at)
        if row.available_at_ms > now_ms:
            self._timers.at(now + (row.available_at_ms - now_ms) / 1000, partial(self._dispatcher.enqueue, inv))
        else:
            self._dispatcher.enqueue(inv)

    def place(self, agent: Agent) -> None:
        """Takes up what `restore` found before the agent had its present handlers."""
        for row in agent.namespace.unplaced.pop(agent.name, ()):
            self.restore(agent.namespace, row)


class _Joined:
    """The sink of a repeated request: gets the outcome of the first one, or its own deadline if that comes before."""

    __slots__ = ("_sink",)

    def __init__(self, sink: ReplySink) -> None:
        self._sink: ReplySink | None = sink

    def accepted(self, message_id: str, duplicate: bool) -> None:
        """Requests are not answered so."""

    def chunk(self, payload: common_pb2.Payload) -> None:
        """What the first one streamed is not repeated."""

    def result(self, payload: common_pb2.Payload) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.result(payload)

    def fail(self, failure: common_pb2.Failure) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.fail(failure)

    def expire(self) -> None:
        """The deadline of the repeated request has passed."""
        error = AmxError(
            errors.DEADLINE_EXCEEDED,
            "DEADLINE_EXCEEDED",
            "the deadline passed before the earlier message with this id had an outcome; it goes on",
            retryable=True,
        )
        self.fail(error.to_failure())


def _priority(message: message_pb2.Message) -> int:
    return message.priority if 1 <= message.priority <= 5 else NORMAL


def _nothing(error: BaseException | None) -> None:
    """Replaced before the commit is submitted."""
