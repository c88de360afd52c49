"""The way of a message once it is accepted: queued, invoked, settled, answered, or tried again.

How it comes in is in `acceptance`, where its instance lives in `placement`, what a handler's effects mean in
`effects`, what ends it from outside in `interruptions`; events take their short cut in `events`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from amx import wire
from amx.v1 import common_pb2, link_pb2, message_pb2
from amx_server.core import errors
from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import AmxError, exhausted, invalid, unavailable
from amx_server.runtime.deadlines import Deadlines
from amx_server.runtime.instances import Agent, BytesSink, HandlerState, Instance, Invocation, ReplySink
from amx_server.runtime.mailbox import Mailbox
from amx_server.runtime.placement import Placement
from amx_server.runtime.scheduling.waits import Wait, WaitReason, Waits
from amx_server.runtime.timers import Timers
from amx_server.storage.interface import Commit, MessageState, Store
from amx_server.telemetry.logs import get_logger
from amx_server.telemetry.metrics import EngineCounters

if TYPE_CHECKING:
    from amx_server.runtime.effects import EffectsStage
    from amx_server.runtime.events import Events
    from amx_server.runtime.interruptions import Interruptions
    from amx_server.runtime.links import LinkSession
    from amx_server.runtime.monitors import Monitors
    from amx_server.runtime.scheduling.supervision import Supervision

log = get_logger(__name__)

DEFAULT_KEY = "default"
NORMAL = common_pb2.PRIORITY_NORMAL
DURABLE = common_pb2.DURABILITY_DURABLE
VOLATILE = common_pb2.DURABILITY_VOLATILE
# Failures that say something about the caller or the circumstances, not about the handler's health.
_NOT_THE_HANDLERS_FAULT = frozenset(
    {errors.CANCELLED, errors.INVALID_ARGUMENT, errors.NOT_FOUND, errors.PERMISSION_DENIED, errors.UNAUTHENTICATED}
)


class Dispatcher:
    """Owns every accepted message until its end. Runs on the event loop's thread only."""

    monitors: Monitors
    effects: EffectsStage
    events: Events
    supervision: Supervision
    interruptions: Interruptions

    def __init__(
        self,
        config: EngineConfig,
        clock: Clock,
        store: Store,
        timers: Timers,
        counters: EngineCounters,
        placement: Placement,
        waits: Waits,
    ) -> None:
        self._config = config
        self._clock = clock
        self._now = clock.monotonic
        self._stream_window = config.limits.stream_window
        self._store = store
        self._timers = timers
        self.deadlines: Deadlines[Invocation] = Deadlines()
        self.counters = counters
        self.ids: Iterator[int] = count(1)
        """Numbers of invocations and deliveries to come."""
        self._placement = placement
        placement.advance = self.advance
        self._random = Random().random
        self._waits = waits
        self._serving: LinkSession | None = None  # whose credit is being given away
        self.queued = 0
        """Messages in mailboxes."""

    # --- queueing and running ----------------------------------------------------------------------------------------

    def enqueue(self, inv: Invocation) -> None:
        """Runs the message now if its instance and a link are free, queues it otherwise."""
        if inv.done:
            return
        instance = inv.instance
        agent = instance.agent
        if not inv.seq and not agent.restored and (agent.active is None or not agent.active.hosts):
            self.turn_away(inv, no_worker(agent))  # a worker was there when it came
            return
        if agent.instances.get(instance.key) is not instance:
            # It hibernated while the message waited for its time.
            try:
                instance = inv.instance = self._placement.wake(agent, instance.key, self._now())
            except AmxError as error:
                if inv.seq:
                    self._timers.at(self._now() + 1.0, partial(self.enqueue, inv))
                else:
                    self.turn_away(inv, error)
                return
        self.run_or_queue(inv, instance, self._now())

    def _enqueue_later(self, inv: Invocation, at: float, now: float, what: str) -> None:
        wait = self._waits.began(inv.instance, WaitReason.TIMER, what, now)
        self._timers.at(at, partial(self._enqueue_after, inv, wait))

    def _enqueue_after(self, inv: Invocation, wait: Wait) -> None:
        self._waits.ended(wait, self._now())
        self.enqueue(inv)

    def run_or_queue(self, inv: Invocation, instance: Instance, now: float) -> None:
        """As `enqueue`, for a message that has not ended and an instance that is known to be awake."""
        mailbox = instance.mailbox
        ready = False  # but for a slot
        if (
            not mailbox
            and not instance.loading
            and (inv.concurrent or (instance.running is None and not instance.delivering))
        ):
            placement = self._placement
            link = placement.slot(instance)
            if instance.memory is not None or not placement.needs_memory(instance):
                if link is not None:
                    self._admit(inv, link, now)
                    return
                ready = (
                    instance.running is None
                    and not instance.delivering
                    and instance.barred is None
                    and instance.operations is None
                )
        if mailbox is None:
            mailbox = instance.mailbox = Mailbox()
        agent = instance.agent
        quota = agent.namespace.quota
        if inv.seq or inv.attempt or inv.redeliveries:
            quota.waiting += 1  # it has been taken in already: it waits in any case
        else:
            try:
                self.check_room(instance)
                quota.enqueue()
            except AmxError as error:
                self.turn_away(inv, error)
                return
        inv.set_aside()
        mailbox.push(inv, inv.priority)
        agent.queued += 1
        self.queued += 1
        if ready:
            self._wait_for_link(instance, inv.priority, now)
        elif inv.concurrent or (instance.running is None and not instance.delivering):
            self.advance(instance)

    def turn_away(self, inv: Invocation, error: AmxError) -> None:
        """Ends a message that is in no mailbox and has not run: whoever waits for it gets `error`."""
        sink = inv.sink
        self.end(inv)
        if sink is not None:
            sink.fail(error.to_failure())

    def check_room(self, instance: Instance) -> None:
        """Raises AmxError MAILBOX_FULL if no more messages may wait for this instance."""
        mailbox = instance.mailbox
        active = instance.agent.active
        capacity = (active.spec.mailbox_capacity if active else 0) or self._config.limits.mailbox_capacity
        waiting = (len(mailbox) if mailbox is not None else 0) + instance.storing
        if waiting >= capacity:
            raise exhausted(
                "MAILBOX_FULL",
                f"{waiting} messages wait for {instance.address}, no more are taken;"
                " send slower, or raise mailbox_capacity",
                retry_delay_ms=100,
                instance=instance.address,
            )

    def advance(self, instance: Instance) -> None:
        """Runs what the instance can run now; queues it for credit if there is none."""
        running = instance.running
        if instance.loading:
            return
        if instance.barred is not None and self._is_barred(instance, running):
            return
        if running is not None:
            if running.link is None and not running.done:
                # It had the instance to itself when its link was lost: it goes first.
                link = self._placement.slot(instance)
                if link is None:
                    self._wait_for_link(instance, running.priority, self._now())
                elif not self._placement.needs_memory(instance):
                    self._run(running, link, self._now())
            return
        if instance.operations is not None and not self._operate(instance):
            return
        mailbox = instance.mailbox
        if mailbox is None:
            return
        agent = instance.agent
        served: LinkSession | None = None
        while mailbox and instance.running is None and not instance.delivering:
            if self._placement.needs_memory(instance):
                return
            link = self._placement.slot(instance)
            if link is None or (link is served and link is self._serving):
                self._wait_for_link(instance, mailbox.peek_priority(), self._now())
                return
            inv = mailbox.pop()
            if inv is None:
                break
            agent.queued -= 1
            self.queued -= 1
            agent.namespace.quota.dequeue()
            if not inv.done and self._admit(inv, link, self._now()):
                served = link
        if not mailbox:
            instance.mailbox = None

    def _is_barred(self, instance: Instance, running: Invocation | None) -> bool:
        """Does the engine's own work at a barred instance that runs nothing. Returns whether it is barred still."""
        if instance.operations is not None and (running is None or running.link is None):
            self._operate(instance)
        return instance.barred is not None

    def _admit(self, inv: Invocation, link: LinkSession, now: float) -> bool:
        """Runs the invocation unless its circuit is open: then stored messages wait for it, others are answered.
        Returns whether it runs.
        """
        breaker = inv.handler.breaker
        if breaker is None or not breaker.open or breaker.admit(now):
            self._run(inv, link, now)
            return True
        refusal = breaker.refusal(f"{inv.instance.agent.name}#{inv.handler.name}", now)
        if inv.seq:
            self._enqueue_later(
                inv, now + refusal.retry_delay_ms / 1000, now, f"the open circuit of {inv.handler.name}"
            )
        else:
            self.turn_away(inv, refusal)
        return False

    def _wait_for_link(self, instance: Instance, priority: int, now: float) -> None:
        """Lines the instance up for a link with room: its turn comes in `serve`."""
        agent = instance.agent
        if agent.ready.push(instance, priority, now):
            self._waits.in_line += 1
        if agent.active is not None:
            for host in agent.active.hosts:
                host.starved = True

    @staticmethod
    def _gives_way(instance: Instance, link: LinkSession) -> int:
        """Priority at which the idle instance waits for its next turn on `link` behind others; 0: nobody waits there
        that could go first, the link has no room for anybody, or the instance has something to do at once.
        """
        mailbox = instance.mailbox
        if (
            mailbox is None
            or instance.busy
            or instance.loading
            or instance.barred is not None
            or instance.operations is not None
            or instance.link is not link
            or not link.accepting
            or link.in_flight >= link.credit
            or not instance.agent.ready.is_served_by(link.run_queue)
        ):
            return 0
        return mailbox.peek_priority()

    def serve(self, link: LinkSession) -> None:
        """Gives free credit of `link` to what waits for it: to events and instances by turns, to instances in the order
        of its run queue, to each for one message.
        """
        outer = self._serving
        if outer is link:
            return  # further up, and not through yet
        self._serving = link
        queue, pending = link.run_queue, link.pending_events
        busy = queue.busy
        unmoved: list[tuple[Instance, float, int]] = []  # at work elsewhere: each has one turn
        try:
            while link.accepting and link.in_flight < link.credit and (busy or pending):
                if pending and (link.event_next or not busy):
                    link.event_next = False
                    self.events.send_next(link)
                    continue
                link.event_next = True
                turn = queue.pop()
                if turn is None:
                    continue
                instance, since, lane, priority = turn
                in_flight = link.in_flight
                self.advance(instance)
                if link.in_flight == in_flight and lane.discard(instance):
                    self._waits.in_line -= 1
                    unmoved.append((instance, since, priority))
                else:
                    self._waits.had_turn(self._now() - since)
        finally:
            self._serving = outer
            for instance, since, priority in unmoved:
                instance.agent.ready.push(instance, priority, since)
            link.starved = bool(busy or pending)

    def _run(self, inv: Invocation, link: LinkSession, now: float) -> None:
        """Sends the invocation to its link. The caller has made sure of credit and of the instance's turn."""
        instance = inv.instance
        attempt = inv.attempt = inv.attempt + 1
        inv.link = link
        epoch = inv.epoch = instance.epoch
        inv.started = now
        inv.chunks = 0
        if inv.concurrent:
            instance.concurrent += 1
        else:
            instance.running = inv
        link.in_flight += 1
        id = inv.id
        link.running[id] = inv
        deadline = inv.deadline
        timeout = inv.handler.spec.timeout
        if timeout:
            limit = now + timeout
            deadline = min(deadline, limit) if deadline else limit
        elif not deadline:
            deadline = now + self._config.delivery.attempt_timeout
        if deadline != inv.deadline or inv.expires_at or inv.token is None:
            self.watch(inv, deadline)
        timeout_ms = int((deadline - now) * 1000) if deadline - now > 0.001 else 1
        inv.window = self._stream_window
        memory = instance.memory
        version = 0
        if memory is not None:
            version = inv.memory_version = memory.version
        plain = inv.plain or inv.packed
        if plain and not inv.streaming and (memory is None or instance.link_version == version):
            link.outbox.append(wire.invoke_item(id, plain, inv.added, attempt, epoch, timeout_ms, version))
            return
        message = inv.message
        item = link.outbox.add((inv.size or message.ByteSize()) + 64)
        item.id = id
        invoke = item.invoke
        invoke.message.CopyFrom(message)
        invoke.attempt = attempt
        invoke.epoch = epoch
        invoke.timeout_ms = timeout_ms
        if inv.streaming:
            invoke.streaming = True
        if memory is not None:
            invoke.memory_version = version
            if instance.link_version != version:
                invoke.memory.SetInParent()  # present even if there is nothing in it
                memory.image(instance.agent.memories, self._clock.now_ms(), invoke.memory)
                instance.link_version = version

    def watch(self, inv: Invocation, at: float) -> None:
        """The time of the invocation is up at `at`, monotonic seconds, whatever was said before."""
        if inv.token is not None:
            self.deadlines.discard(inv, inv.token)
        inv.token = self.deadlines.add(inv, at)

    # --- completion --------------------------------------------------------------------------------------------------

    def complete(self, link: LinkSession, id: int, complete: link_pb2.Complete) -> None:
        """Takes the outcome of an attempt. Late, duplicate and fenced ones are dropped and counted."""
        inv = link.running.get(id)
        if inv is None or complete.attempt != inv.attempt or complete.epoch != inv.epoch:
            if inv is None and id in link.abandoned:
                link.abandoned.discard(id)
                link.in_flight -= 1
                if link.starved:
                    self.serve(link)
            self.counters.dropped_completions += 1
            return
        del link.running[id]
        link.in_flight -= 1
        instance = inv.instance
        if complete.memory_dropped:
            instance.link_version = -1
        outcome = complete.WhichOneof("outcome")
        if inv.done:
            # Cancelled or past its deadline: its caller has been answered, its effects are void.
            if outcome == "result":
                self.counters.dropped_completions += 1
            instance.link_version = -1
            self.settled(inv)
            self.free(inv, link)
        elif outcome == "result":
            breaker = inv.handler.breaker
            if breaker is not None and breaker.failures:
                breaker.succeeded()
            if inv.seq or complete.HasField("effects"):
                self._commit(inv, complete, link)
            else:
                now = self._now()
                self._succeed(inv, complete.result, now)
                self.free(inv, link, now)
        elif outcome == "failure":
            self.attempt_failed(inv, complete.failure, link)
        else:
            failure = common_pb2.Failure(
                code=errors.INTERNAL, reason="PROTOCOL_VIOLATION", message="the SDK completed without an outcome"
            )
            self.attempt_failed(inv, failure, link)

    def complete_plain(self, link: LinkSession, id: int, attempt: int, epoch: int, payload: bytes) -> None:
        """Takes a result without effects, as `complete` does; payload: a Payload."""
        inv = link.running.get(id)
        if (
            inv is None
            or not inv.plain
            or inv.done
            or attempt != inv.attempt
            or epoch != inv.epoch
            or inv.instance.agent.namespace.monitors
        ):
            complete = link_pb2.Complete(attempt=attempt, epoch=epoch)
            complete.result.MergeFromString(payload)
            complete.result.SetInParent()
            self.complete(link, id, complete)
            return
        del link.running[id]
        link.in_flight -= 1
        handler = inv.handler
        breaker = handler.breaker
        if breaker is not None and breaker.failures:
            breaker.succeeded()
        now = self._now()
        handler.stats.record(inv.kind, True, now - inv.started)
        sink: BytesSink = inv.sink  # type: ignore[assignment]  # a plain one has such a sink, until it is done
        self.end(inv)
        sink.result_bytes(payload)
        self.free(inv, link, now)

    def free(self, inv: Invocation, link: LinkSession | None, now: float = 0.0) -> None:
        """The instance may run its next message, the link the next instance."""
        instance = inv.instance
        instance.last_active = now or self._now()
        if inv.concurrent:
            instance.concurrent -= 1
        elif instance.running is inv:
            instance.running = None
        inv.link = None
        priority = 0
        if instance.mailbox is not None or instance.operations is not None:
            priority = self._gives_way(instance, link) if link is not None and link.starved else 0
            if priority:
                self._wait_for_link(instance, priority, instance.last_active)
            else:
                self.advance(instance)
        if link is not None and link.starved:
            self.serve(link)
            if priority and instance in instance.agent.ready:
                self._serve_elsewhere(instance, link)

    def _serve_elsewhere(self, instance: Instance, link: LinkSession) -> None:
        """The instance has given way on `link` to those that can run nowhere else; perhaps it can."""
        active = instance.agent.active
        for host in active.hosts if active is not None else ():
            if host is not link and host.accepting and host.in_flight < host.credit:
                self.serve(host)
                return

    def settled(self, inv: Invocation) -> None:
        """No time limit holds for the invocation any more."""
        if inv.token is not None:
            self.deadlines.discard(inv, inv.token)
            inv.token = None

    def end(self, inv: Invocation) -> None:
        """The invocation has its outcome; nothing more will be said about it."""
        inv.done = True
        inv.sink = None  # they refer to each other: cycles would wait for the garbage collector
        token = inv.token
        if token is not None:
            token.pop(inv, None)
            inv.token = None
        if inv.seq:
            namespace = inv.instance.agent.namespace
            if namespace.durable.get(inv.message.message_id) is inv:
                del namespace.durable[inv.message.message_id]
        if inv.waiters:
            for waiter in inv.waiters:
                waiter()
            inv.waiters = None
        if inv.on_end is not None:
            inv.on_end(inv)

    def _succeed(self, inv: Invocation, payload: common_pb2.Payload, now: float = 0.0) -> None:
        sink = inv.sink
        self.record(inv, payload, None, now)
        self.end(inv)
        if sink is not None:
            sink.result(payload)

    def record(
        self,
        inv: Invocation,
        payload: common_pb2.Payload | None,
        failure: common_pb2.Failure | None,
        now: float = 0.0,
    ) -> None:
        """Counts a processed message and tells the monitors."""
        seconds = (now or self._now()) - inv.started if inv.started else 0.0
        inv.handler.stats.record(inv.message.type, failure is None, seconds)
        namespace = inv.instance.agent.namespace
        if namespace.monitors:
            self.monitors.processed(namespace, inv.instance, inv.handler, inv.message, payload, failure, seconds)

    def _commit(self, inv: Invocation, complete: link_pb2.Complete, link: LinkSession) -> None:
        """Stores the result and the effects together; the reply leaves afterwards."""
        if complete.HasField("effects") and any(not message.agent for message in complete.effects.messages):
            kept = link_pb2.Complete()
            kept.CopyFrom(complete)  # it is part of a frame, and the routers take their time
            complete = kept
            if not self.effects.address(
                link.identity, inv.instance, kept.effects, partial(self._addressed, inv, kept, link)
            ):
                self.settled(inv)
                if link.starved:
                    self.serve(link)
                return
        self._store_outcome(inv, complete, link)

    def _addressed(
        self, inv: Invocation, complete: link_pb2.Complete, link: LinkSession, failure: common_pb2.Failure | None
    ) -> None:
        """The routers have chosen the agents of what the handler emitted, or could not."""
        if failure is None:
            self._store_outcome(inv, complete, link)
        else:
            inv.instance.link_version = -1
            self.attempt_failed(inv, failure, link)

    def _store_outcome(self, inv: Invocation, complete: link_pb2.Complete, link: LinkSession) -> None:
        instance = inv.instance
        commit = Commit(done=_nothing)
        after: Callable[[], None] | None = None
        if complete.HasField("effects"):
            try:
                if complete.effects.memory:
                    self._fence_memory(inv)
                message_id = ("" if inv.plain else inv.message.message_id) or f"inv-{inv.id}"
                after = self.effects.stage(link.identity, instance, complete.effects, commit, message_id)
            except AmxError as error:
                instance.link_version = -1
                self.attempt_failed(inv, error.to_failure(), link)
                return
            if instance.memory is not None and complete.effects.memory:
                instance.link_version = -1 if complete.memory_dropped else instance.memory.version
        if inv.seq:
            reply = link_pb2.Reply()
            reply.result.CopyFrom(complete.result)
            commit.finish += (
                (inv.seq, MessageState.SUCCEEDED, reply.SerializeToString(), self._clock.now_ms(), inv.attempt),
            )
        if is_empty(commit):
            if after is not None:
                after()
            self._succeed(inv, complete.result)
            self.free(inv, link)
            return
        payload = common_pb2.Payload()
        payload.CopyFrom(complete.result)
        commit.done = partial(self._committed, inv, payload, after, link)
        commit.prompt = inv.priority < NORMAL
        self.settled(inv)
        self._store.submit(commit)
        # The slot on the link is free; the instance stays taken until the commit is on disk.
        inv.link = link
        if link.starved:
            self.serve(link)

    @staticmethod
    def _fence_memory(inv: Invocation) -> None:
        """Raises AmxError if the memory that the handler changed is not the one it saw."""
        memory = inv.instance.memory
        if inv.concurrent:
            raise invalid(
                "INVALID_MEMORY_CHANGE",
                f"{inv.instance.address}#{inv.handler.name} is concurrent and changed memory; only other handlers may",
            )
        if memory is not None and memory.version != inv.memory_version:
            raise memory_not_held(inv.instance)

    def _committed(
        self,
        inv: Invocation,
        payload: common_pb2.Payload,
        after: Callable[[], None] | None,
        link: LinkSession,
        error: BaseException | None,
    ) -> None:
        instance = inv.instance
        if error is None:
            if after is not None:
                after()
            if inv.seq:
                instance.agent.namespace.quota.store(-inv.message.ByteSize())
            self._succeed(inv, payload)
            self.free(inv, link)
            return
        # Nothing of it happened. What was applied in memory is void: read it again from the store.
        self._placement.void_memory(instance)
        failure = failure_of(error)
        log.error(
            "commit_failed",
            instance=instance.address,
            reason=failure.reason,
            error=failure.message,
            traceparent=inv.message.traceparent,
        )
        if inv.seq:
            inv.failure = failure
            inv.attempt -= 1
            if inv.deadline:
                inv.token = self.deadlines.add(inv, inv.deadline)
            self.free(inv, link)
            self._timers.at(self._now() + 1.0, partial(self.enqueue, inv))
        else:
            sink = inv.sink
            self.record(inv, None, failure)
            self.end(inv)
            if sink is not None:
                sink.fail(failure)
            self.free(inv, link)

    def attempt_failed(self, inv: Invocation, failure: common_pb2.Failure, link: LinkSession | None) -> None:
        """Another attempt, or the end. `failure` may be part of a frame: it is copied where it is kept."""
        instance = inv.instance
        reason = failure.reason
        if reason == "MEMORY_NOT_HELD" and inv.redeliveries < self._config.delivery.redelivery_attempts:
            inv.redeliveries += 1
            inv.attempt -= 1
            instance.link_version = -1
            inv.link = None
            if inv.concurrent:
                instance.concurrent -= 1
                self.enqueue(inv)
            self.advance(instance)
            if link is not None and link.starved:
                self.serve(link)  # the instance may have nothing that it can run in the slot
            return
        now = self._now()
        if not failure.source:
            failure.source = f"{instance.address}#{inv.handler.name}"
        breaker = inv.handler.breaker
        if breaker is not None:
            if failure.code in _NOT_THE_HANDLERS_FAULT or self.answers_for_itself(inv):
                breaker.abandoned()
            elif breaker.failed(now):
                log.warning(
                    "circuit_opened",
                    agent=instance.agent.name,
                    handler=inv.handler.name,
                    reason=reason,
                    traceparent=inv.message.traceparent,
                )
        kept = inv.failure = common_pb2.Failure()
        kept.CopyFrom(failure)
        delay_ms = None
        if not inv.chunks:
            delay_ms = inv.handler.retry.delay_ms(inv.attempt, kept, bool(inv.seq), self._random)
        if delay_ms is not None and (not inv.deadline or now + delay_ms / 1000 < inv.deadline):
            self.counters.retries += 1
            if inv.seq:
                reply = link_pb2.Reply()
                reply.failure.CopyFrom(kept)
                commit = Commit(done=_nothing)
                commit.retry += ((inv.seq, inv.attempt, self._clock.now_ms() + delay_ms, reply.SerializeToString()),)
                self._store.submit(commit)
            self.settled(inv)
            if inv.deadline:
                inv.token = self.deadlines.add(inv, inv.deadline)
            self._enqueue_later(inv, now + delay_ms / 1000, now, f"another attempt at {inv.handler.name}")
            self.free(inv, link)
            return
        self.fail_for_good(inv, kept, link)

    def fail_for_good(self, inv: Invocation, failure: common_pb2.Failure, link: LinkSession | None) -> None:
        """The last attempt has failed. link: where it ran, if its slot there is free now."""
        self.record(inv, None, failure)
        sink = inv.sink
        if inv.seq:
            self.finish_stored(inv, MessageState.FAILED if sink is not None else MessageState.DEAD, failure)
        self.end(inv)
        if sink is not None:
            sink.fail(failure)
        if failure.code not in _NOT_THE_HANDLERS_FAULT:
            self.supervision.failed(inv.instance, failure)
        self.free(inv, link)

    def answers_for_itself(self, inv: Invocation) -> bool:
        """Whether a failure is between the instance and its supervisor: others of its agent must not rest for it.
        A circuit breaker that the handler declares counts all the same.
        """
        return not inv.handler.spec.breaker.ByteSize() and self.supervision.covers(inv.instance)

    def finish_stored(self, inv: Invocation, state: MessageState, failure: common_pb2.Failure | None) -> None:
        """Writes down how a stored message ended, until it is on disk."""
        reply = link_pb2.Reply()
        if failure is not None:
            reply.failure.CopyFrom(failure)
        commit = Commit(done=_nothing)
        commit.finish += ((inv.seq, state, reply.SerializeToString(), self._clock.now_ms(), inv.attempt),)
        if state is MessageState.DEAD:
            self.counters.dead_lettered += 1
            log.warning(
                "message_dead",
                agent=inv.instance.agent.name,
                key=inv.instance.key,
                handler=inv.handler.name,
                message_id=inv.message.message_id,
                attempts=inv.attempt,
                reason=failure.reason if failure else "",
                traceparent=inv.message.traceparent,
            )
        else:
            inv.instance.agent.namespace.quota.store(-inv.message.ByteSize())
        commit.done = partial(self._finish_failed, commit)
        self._store.submit(commit)

    def _finish_failed(self, commit: Commit, error: BaseException | None) -> None:
        if error is not None:
            # The disk may be full: until it is written the message would run again after a restart.
            self._timers.at(self._now() + 1.0, partial(self._store.submit, commit))

    # --- chunks ------------------------------------------------------------------------------------------------------

    def chunk(self, link: LinkSession, id: int, payload: common_pb2.Payload) -> None:
        """Passes a part of a streamed reply on."""
        inv = link.running.get(id)
        if inv is None or inv.done:
            return
        if inv.window <= 0:
            failure = common_pb2.Failure(
                code=errors.FAILED_PRECONDITION,
                reason="PROTOCOL_VIOLATION",
                message=f"{inv.instance.address}#{inv.handler.name} sent more chunks than its reader allowed",
                source="engine",
            )
            self.interruptions.stop(inv, failure)
            return
        inv.window -= 1
        if inv.sink is not None and inv.streaming:
            inv.chunks += 1
            inv.sink.chunk(payload)
        else:
            self.grant_chunks(inv, 1)  # nobody reads: the handler may go on

    def refuse_chunk(self, link: LinkSession, id: int, error: AmxError) -> None:
        """Ends an invocation one of whose chunks cannot be passed on."""
        inv = link.running.get(id)
        if inv is not None and not inv.done:
            self.interruptions.stop(inv, error.to_failure())

    def grant_chunks(self, inv: Invocation, chunks: int) -> None:
        """The reader has taken chunks; the handler may send as many more."""
        link = inv.link
        if link is None or inv.done or link.running.get(inv.id) is not inv:
            return
        inv.window += chunks
        item = link.outbox.add(16)
        item.id = inv.id
        item.credit.chunks = chunks

    def withdraw(self, inv: Invocation) -> None:
        """Takes a message that has ended out of the mailbox, so that it takes no room there."""
        instance = inv.instance
        mailbox = instance.mailbox
        if mailbox is not None and mailbox.remove(inv):
            agent = instance.agent
            agent.queued -= 1
            self.queued -= 1
            agent.namespace.quota.dequeue()
            if not mailbox:
                instance.mailbox = None
                if instance.running is None and agent.ready.discard(instance):
                    self._waits.in_line -= 1

    def next_id(self) -> int:
        """A new invocation or delivery id."""
        return next(self.ids)

    def enqueue_event(
        self, instance: Instance, handler: HandlerState, message: message_pb2.Message, sink: ReplySink
    ) -> None:
        """Queues a volatile event for one subscriber that cannot get it together with others."""
        inv = Invocation(next(self.ids), instance, handler, message, sink)
        if 1 <= message.priority <= 5:
            inv.priority = message.priority
        self.enqueue(inv)

    # --- work inside the engine that needs an instance to itself -----------------------------------------------------

    def operate(self, agent: Agent, key: str, operation: Callable[[Instance], None]) -> None:
        """Runs `operation` when no handler of the instance runs and its memory is loaded, before its next message;
        concurrent handlers may run, unless the instance is barred. Needs no link.
        """
        instance = self._placement.wake(agent, key, self._now())
        if instance.operations is None:
            instance.operations = deque()
        instance.operations.append(operation)
        self.advance(instance)

    def _operate(self, instance: Instance) -> bool:
        """Runs what waits for the idle instance. Returns whether it is idle afterwards."""
        if instance.delivering or (instance.barred is not None and instance.concurrent):
            return False
        operations, instance.operations = instance.operations, None
        while operations:
            if instance.delivering or self._placement.needs_memory(instance):  # it is being stored; it begins anew
                instance.operations = operations
                return False
            operations.popleft()(instance)
        return not instance.delivering

    def hold(self, instance: Instance) -> None:
        """Keeps the next message from running until `release`: something is being stored that it must not see early."""
        instance.delivering += 1

    def release(self, instance: Instance) -> None:
        """Ends one `hold`."""
        instance.delivering -= 1
        if not instance.delivering and (
            instance.mailbox is not None or instance.operations is not None or instance.running is not None
        ):
            self.advance(instance)


def memory_not_held(instance: Instance) -> AmxError:
    """A handler changed memory that is not what the store holds: its attempt is repeated with the memory there is."""
    return AmxError(
        errors.ABORTED,
        "MEMORY_NOT_HELD",
        f"the memory of {instance.address} was read anew while its handler ran; what it changed is void",
        retryable=True,
    )


def no_worker(agent: Agent) -> AmxError:
    """Nobody runs the agent now."""
    return unavailable(
        "NO_WORKER",
        f"agent '{agent.name}' is known but no connected process hosts it; start one, or send durably",
        agent=agent.name,
    )


def _nothing(error: BaseException | None) -> None:
    """For commits nobody waits for."""


def is_empty(commit: Commit) -> bool:
    """Whether the commit has nothing to store."""
    return not (
        commit.insert
        or commit.finish
        or commit.memory_put
        or commit.memory_remove
        or commit.memory_clear
        or commit.memory_touch
        or commit.schedule_put
        or commit.schedule_remove
        or commit.subscription_put
        or commit.subscription_remove
        or commit.retry
        or commit.drop
        or commit.suspension_put
        or commit.suspension_remove
    )


def failure_of(error: BaseException) -> common_pb2.Failure:
    """The failure that describes an exception from the store."""
    if isinstance(error, AmxError):
        return error.to_failure()
    return common_pb2.Failure(
        code=errors.INTERNAL, reason="INTERNAL", message=f"{type(error).__name__}: {error}", source="engine"
    )
