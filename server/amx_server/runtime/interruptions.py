"""How messages end otherwise than by their handlers: cancelled, overdue, refused, stopped, or lost with their link.

What happens to them then (another attempt, a failure, a dead letter) is the dispatcher's to do.
"""

from __future__ import annotations

from amx.v1 import common_pb2
from amx_server.core import errors
from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import AmxError, unavailable
from amx_server.runtime.dispatch import Dispatcher
from amx_server.runtime.instances import Agent, Instance, Invocation
from amx_server.runtime.links import LinkSession
from amx_server.runtime.placement import Placement
from amx_server.storage.interface import MessageState
from amx_server.telemetry.logs import get_logger

log = get_logger(__name__)


class Interruptions:
    """Acts on messages of one dispatcher from outside of their handlers. Runs on the event loop's thread only."""

    def __init__(self, config: EngineConfig, clock: Clock, dispatcher: Dispatcher, placement: Placement) -> None:
        self._config = config
        self._now = clock.monotonic
        self._dispatcher = dispatcher
        self._placement = placement

    def stop(self, inv: Invocation, failure: common_pb2.Failure) -> None:
        """Ends a message, and its handler if one runs: it fails; a stored one-way message becomes a dead letter."""
        self._cancel_running(inv, failure.message)
        self._answer_early(inv, failure, MessageState.FAILED if inv.sink is not None else MessageState.DEAD)

    def cancel(self, inv: Invocation, reason: str) -> bool:
        """Cancels a message that has not ended. Its sink, if any, gets CANCELLED. Returns whether it had not ended."""
        if inv.done or self._committing(inv):
            return False
        failure = common_pb2.Failure(
            code=errors.CANCELLED, reason="CANCELLED", message=reason or "cancelled", source="engine"
        )
        self._cancel_running(inv, failure.message)
        self._answer_early(inv, failure, MessageState.CANCELLED)
        return True

    def refuse_untried(self, agent: Agent, error: AmxError) -> None:
        """Answers everyone who waits for a volatile message to `agent` that has run nowhere yet."""
        for instance in list(agent.instances.values()):
            for inv in list(instance.mailbox or ()):
                if not inv.seq and not inv.done and not inv.attempt:
                    self._dispatcher.withdraw(inv)
                    self._dispatcher.turn_away(inv, error)

    def refuse_waiting(self, agent: Agent, error: AmxError) -> None:
        """Answers everyone who waits for a volatile message to `agent` that runs nowhere."""
        for instance in list(agent.instances.values()):
            for inv in list(instance.mailbox or ()):
                if not inv.seq and not inv.done:
                    self._dispatcher.withdraw(inv)
                    self._dispatcher.turn_away(inv, error)
            running = instance.running
            if running is not None and running.link is None and not running.seq and not running.done:
                self._dispatcher.fail_for_good(running, error.to_failure(), None)  # it ran on a link that is gone

    def caller_left(self, inv: Invocation) -> None:
        """Whoever made the request has gone: it is cancelled, or, if it is stored, goes on like a one-way message."""
        if not inv.seq:
            self.cancel(inv, "the caller disconnected")
            return
        inv.sink = None
        if inv.done or not inv.deadline:
            return
        inv.deadline = 0.0
        if self._committing(inv):
            return
        self._dispatcher.settled(inv)
        if inv.link is not None:
            limit = inv.handler.spec.timeout or self._config.delivery.attempt_timeout
            self._dispatcher.watch(inv, inv.started + limit)
        elif inv.expires_at:
            self._dispatcher.watch(inv, inv.expires_at)

    def link_lost(self, link: LinkSession) -> None:
        """The link is gone for good: what ran there runs again elsewhere with the next attempt."""
        running = list(link.running.values())
        link.running.clear()
        link.abandoned.clear()
        link.in_flight = 0
        for inv in running:
            instance = inv.instance
            inv.link = None
            self._dispatcher.settled(inv)
            if instance.link is link:
                instance.link = None
                instance.epoch = 0
                instance.link_version = -1
            if inv.handler.breaker is not None:
                inv.handler.breaker.abandoned()
            if inv.done:
                self._dispatcher.free(inv, None)
                continue
            inv.redeliveries += 1
            self._dispatcher.counters.redeliveries += 1
            if inv.chunks or inv.redeliveries > self._config.delivery.redelivery_attempts:
                failure = unavailable(
                    "LINK_LOST",
                    f"the process that ran {instance.address}#{inv.handler.name} disconnected"
                    + (" after it had sent chunks" if inv.chunks else f" {inv.redeliveries} times"),
                ).to_failure()
                self._dispatcher.fail_for_good(inv, failure, None)
                continue
            agent = instance.agent
            if not inv.seq and not agent.restored and (agent.active is None or not agent.active.hosts):
                failure = unavailable(
                    "LINK_LOST",
                    f"the process that ran {instance.address}#{inv.handler.name} disconnected and no other hosts it",
                ).to_failure()
                self._dispatcher.fail_for_good(inv, failure, None)
                continue
            if inv.deadline:
                inv.token = self._dispatcher.deadlines.add(inv, inv.deadline)
            if inv.concurrent:
                instance.concurrent -= 1
                self._dispatcher.enqueue(inv)
            # Others may have waited at the instance until it could move to another link.
            self._dispatcher.advance(instance)

    def expire(self, now: float) -> None:
        """Acts on every deadline that has passed."""
        for inv in self._dispatcher.deadlines.expired(now):
            inv.token = None
            if inv.done:
                self._abandon(inv)
                continue
            waiting = inv.link is None
            if waiting and inv.expires_at and now >= inv.expires_at and not (inv.deadline and now >= inv.deadline):
                failure = common_pb2.Failure(
                    code=errors.DEADLINE_EXCEEDED,
                    reason="MESSAGE_EXPIRED",
                    message=f"the message waited {inv.message.ttl_ms} ms for {inv.instance.address}, its whole ttl",
                    source="engine",
                )
                self._dispatcher.counters.expired += 1
                self._answer_early(inv, failure, MessageState.FAILED if inv.sink else MessageState.DEAD)
            elif waiting and not inv.deadline:
                continue  # an attempt's time limit, after the attempt
            else:
                self._overdue(inv, now)

    def _overdue(self, inv: Invocation, now: float) -> None:
        where = "waiting" if inv.link is None else f"in its handler '{inv.handler.name}'"
        failure = common_pb2.Failure(
            code=errors.DEADLINE_EXCEEDED,
            reason="DEADLINE_EXCEEDED",
            message=f"the deadline passed while the message was {where} at {inv.instance.address}",
            retryable=True,
            source="engine",
        )
        caller_waits = inv.sink is not None and inv.deadline and now >= inv.deadline
        if caller_waits or not inv.seq:
            breaker = inv.handler.breaker
            limit = inv.handler.spec.timeout
            # The handler's own time is up, or only the patience of this caller.
            own = bool(inv.link is not None and limit and now >= inv.started + limit)
            if breaker is not None and inv.link is not None:
                if own and not self._dispatcher.answers_for_itself(inv):
                    breaker.failed(now)
                else:
                    breaker.abandoned()
            self._cancel_running(inv, "deadline exceeded")
            self._answer_early(inv, failure, MessageState.FAILED)
            if own:
                self._dispatcher.supervision.failed(inv.instance, failure)
            return
        # A durable message whose attempt took too long: the attempt ends, the message may have another.
        link = inv.link
        if link is not None and link.running.get(inv.id) is inv:
            self._cancel_running(inv, "attempt timed out")
            inv.cancelling = False
            self._detach(inv, link)
            inv.id = next(self._dispatcher.ids)  # the old one belongs to the handler that has not stopped
            self._dispatcher.attempt_failed(inv, failure, None)

    def _abandon(self, inv: Invocation) -> None:
        link = inv.link
        if link is None or link.running.get(inv.id) is not inv:
            return
        log.warning(
            "handler_does_not_stop",
            agent=inv.instance.agent.name,
            key=inv.instance.key,
            handler=inv.handler.name,
            link_id=link.link_id,
            traceparent=inv.message.traceparent,
        )
        self._detach(inv, link)
        self._dispatcher.free(inv, link)

    def running(self, instance: Instance) -> list[Invocation]:
        """What handlers of the instance work on now. What they did and is being stored has happened: it is not here."""
        agent = instance.agent
        found = [] if instance.running is None else [instance.running]
        if instance.concurrent:
            links = {host for version in agent.versions.values() for host in version.hosts}
            if instance.link is not None:
                links.add(instance.link)
            found += [
                inv for link in links for inv in link.running.values() if inv.concurrent and inv.instance is instance
            ]
        return [inv for inv in found if inv.link is not None and inv.link.running.get(inv.id) is inv]

    def interrupt(self, inv: Invocation, reason: str) -> None:
        """Stops one of `running`: what it did is void, and its message runs again as soon as the instance may start
        something, before what waits. That is no attempt. The caller has barred the instance.

        A message whose reader has had chunks cannot run again: it fails with INSTANCE_STOPPED.
        """
        if not self._stop_attempt(inv, reason):
            return
        if inv.chunks:
            self._dispatcher.fail_for_good(inv, stopped(inv.instance, reason).to_failure(), None)
            return
        if inv.handler.breaker is not None:
            inv.handler.breaker.abandoned()
        inv.attempt -= 1
        inv.link = None
        if inv.deadline:
            inv.token = self._dispatcher.deadlines.add(inv, inv.deadline)
        if inv.concurrent:
            inv.instance.concurrent -= 1
            self._dispatcher.enqueue(inv)
        self._dispatcher.advance(inv.instance)  # the engine's own work may have waited for it

    def kill(self, inv: Invocation, error: AmxError, *, last: bool) -> None:
        """Stops one of `running`: its attempt has failed with `error`. last: there is no other attempt."""
        if not self._stop_attempt(inv, error.message):
            return
        if last:
            self._dispatcher.fail_for_good(inv, error.to_failure(), None)
        else:
            self._dispatcher.attempt_failed(inv, error.to_failure(), None)

    def _stop_attempt(self, inv: Invocation, reason: str) -> bool:
        """Cancels the handler and takes its instance off the link: whatever it still says is void. False: it had
        ended before and only its handler went on; that is all.
        """
        link = inv.link
        assert link is not None
        self._cancel_running(inv, reason)
        inv.cancelling = False
        self._detach(inv, link)
        self._dispatcher.settled(inv)
        if inv.done:
            self._dispatcher.free(inv, link)
            return False
        inv.id = next(self._dispatcher.ids)  # the old one belongs to the handler that has not stopped
        return True

    def _answer_early(self, inv: Invocation, failure: common_pb2.Failure, state: MessageState) -> None:
        """Ends an invocation from the engine's side. If a handler still runs, its instance is freed when it stops."""
        if self._committing(inv):
            return  # what the handler did is on its way to disk: it has happened
        sink, inv.sink = inv.sink, None
        running = inv.link is not None
        if inv.seq and inv.instance.agent.namespace.durable.get(inv.message.message_id) is inv:
            self._dispatcher.finish_stored(inv, state, failure)
        inv.failure = failure
        if inv.attempt:
            self._dispatcher.record(inv, None, failure)
        self._dispatcher.end(inv)
        if running:
            inv.token = self._dispatcher.deadlines.add(inv, self._now() + self._config.delivery.cancel_grace)
        elif inv.instance.running is inv:
            self._dispatcher.free(inv, None)
        else:
            self._dispatcher.withdraw(inv)
        if sink is not None:
            sink.fail(failure)

    def _cancel_running(self, inv: Invocation, reason: str) -> None:
        link = inv.link
        if link is not None and link.running.get(inv.id) is inv and not inv.cancelling:
            inv.cancelling = True
            item = link.outbox.add(32 + len(reason))
            item.id = inv.id
            item.cancel.reason = reason

    def _detach(self, inv: Invocation, link: LinkSession) -> None:
        """Gives up on an attempt whose handler does not end: its slot stays taken, its instance moves on."""
        del link.running[inv.id]
        link.abandoned.add(inv.id)
        if not inv.concurrent:
            self._placement.leave(inv.instance)

    @staticmethod
    def _committing(inv: Invocation) -> bool:
        return inv.link is not None and inv.link.running.get(inv.id) is not inv


def stopped(instance: Instance, reason: str) -> AmxError:
    """An attempt was ended on purpose."""
    return AmxError(
        errors.CANCELLED,
        "INSTANCE_STOPPED",
        f"what {instance.address} was doing was stopped: {reason}; the same call may succeed later",
        retryable=True,
    )
