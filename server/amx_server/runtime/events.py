"""Publishing: who gets an event, and the short cut by which many instances on one link get it as one item.

A volatile event goes to whoever is subscribed now, at most once each. A durable one is stored per subscriber first
and then takes the way of a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Protocol

from amx import wire
from amx.v1 import common_pb2, link_pb2, message_pb2
from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import AmxError, exhausted, invalid
from amx_server.runtime.acceptance import Acceptance
from amx_server.runtime.dispatch import DEFAULT_KEY, DURABLE, Dispatcher
from amx_server.runtime.effects import Unheard
from amx_server.runtime.filters import Predicate, compile_filter
from amx_server.runtime.instances import Agent, HandlerState, Instance
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.placement import Placement
from amx_server.runtime.topics import parse_pattern, parse_topic
from amx_server.security.identity import Identity
from amx_server.storage.interface import Commit, Store, StoredSubscription
from amx_server.telemetry.logs import get_logger

if TYPE_CHECKING:
    from amx_server.runtime.effects import EffectsStage
    from amx_server.runtime.engines import Engines
    from amx_server.runtime.links import LinkCall, LinkSession

log = get_logger(__name__)

MAX_PLANS = 4096


class Listener(Protocol):
    """Somebody outside who reads events: a link or a unary stream."""

    def event(self, event: message_pb2.Event) -> bool:
        """Takes an event. False: it cannot keep up, and its subscription ends."""
        ...


class Subscriber:
    """One subscription. Exactly one of `agent` and `listener` is set; `key` empty means the event's own key."""

    __slots__ = ("agent", "filter", "handler", "key", "listener", "pattern", "predicate")

    def __init__(
        self, pattern: str, filter: str, agent: Agent | None, key: str, handler: str, listener: Listener | None
    ) -> None:
        parse_pattern(pattern)
        self.pattern = pattern
        self.filter = filter
        self.predicate: Predicate | None = compile_filter(filter) if filter else None
        self.agent = agent
        self.key = key
        self.handler = handler
        self.listener = listener


class LinkSubscription:
    """The events of one `subscribe` call of a link."""

    __slots__ = ("call", "namespace", "session", "subscriber")

    def __init__(self, session: LinkSession, call: LinkCall) -> None:
        self.session = session
        self.call = call
        self.namespace = session.namespace
        self.subscriber: Subscriber | None = None

    def event(self, event: message_pb2.Event) -> bool:
        session = self.session
        outbox = session.outbox
        if outbox.pending_bytes > session.max_pending_bytes:
            self.call.fail(
                exhausted(
                    "SUBSCRIBER_TOO_SLOW",
                    "events came faster than this subscriber read them, and its buffer is full; subscribe again",
                    retry_delay_ms=100,
                ).to_failure()
            )
            return False
        item = outbox.add(event.ByteSize() + 16)
        item.id = self.call.id
        item.event.CopyFrom(event)
        return True


class Delivery:
    """One event on its way to many activations on one link."""

    __slots__ = ("epochs", "event", "handler", "started", "targets", "when_sent")

    def __init__(self, event: message_pb2.Event, handler: HandlerState) -> None:
        self.event = event
        self.handler = handler
        self.epochs: list[int] = []
        self.targets: list[Instance] = []
        self.started = 0.0
        self.when_sent: Callable[[], None] | None = None


class _Group:
    """Instances of one agent that get an event at one handler under one filter."""

    __slots__ = ("agent", "handler", "instances", "predicate")

    def __init__(self, agent: Agent, handler: str, predicate: Predicate | None) -> None:
        self.agent = agent
        self.handler = handler
        self.predicate = predicate
        self.instances: list[Instance] = []


class _Plan:
    """Who gets the events of one topic, arranged for speed."""

    __slots__ = ("by_event_key", "groups", "listeners", "matches", "overlaps")

    def __init__(self, matches: tuple[Subscriber, ...]) -> None:
        self.matches = matches
        self.groups: list[_Group] = []
        self.by_event_key: list[Subscriber] = []
        self.listeners: list[Subscriber] = []
        self.overlaps = False  # two subscriptions may name the same handler of one instance


class Events:
    """Subscriptions and their events."""

    def __init__(
        self,
        config: EngineConfig,
        clock: Clock,
        store: Store,
        placement: Placement,
        dispatcher: Dispatcher,
        acceptance: Acceptance,
    ) -> None:
        self._config = config
        self._clock = clock
        self._now = clock.monotonic
        self._store = store
        self._placement = placement
        self._dispatcher = dispatcher
        self._acceptance = acceptance
        self._counters = dispatcher.counters
        self._plans: dict[tuple[str, str], _Plan] = {}
        self._dynamic: dict[tuple[str, str, str, str], Subscriber] = {}  # (namespace, agent, key, pattern)
        self._declared: dict[tuple[str, str], list[Subscriber]] = {}  # (namespace, agent)
        self.ids: Iterator[int] = count(1)
        """Numbers of events to come."""
        self._id_prefix = f"evt-{store.generation}-"
        self.effects: EffectsStage

    # --- subscriptions -----------------------------------------------------------------------------------------------

    def declare(self, agent: Agent) -> None:
        """Takes over the subscriptions that the active version of `agent` declares."""
        topics = agent.namespace.topics
        name = (agent.namespace.name, agent.name)
        for old in self._declared.pop(name, ()):
            topics.remove(old.pattern, old)
        if agent.active is None:
            return
        declared = [
            Subscriber(subscription.pattern, subscription.filter, agent, "", handler.name, None)
            for handler in agent.active.spec.handlers.values()
            for subscription in handler.subscriptions
        ]
        for subscriber in declared:
            topics.add(subscriber.pattern, subscriber)
        if declared:
            self._declared[name] = declared

    def restore(self, namespace: Namespace, row: StoredSubscription) -> None:
        """Takes a stored subscription up again after a restart."""
        agent = namespace.agents.get(row.agent)
        if agent is not None:
            self._add(agent, row.key, row.pattern, row.handler, row.filter)

    def _add(self, agent: Agent, key: str, pattern: str, handler: str, filter: str) -> None:
        name = (agent.namespace.name, agent.name, key, pattern)
        self._remove(agent.namespace, name)
        subscriber = self._dynamic[name] = Subscriber(pattern, filter, agent, key, handler, None)
        agent.namespace.topics.add(pattern, subscriber)

    def _remove(self, namespace: Namespace, name: tuple[str, str, str, str]) -> None:
        old = self._dynamic.pop(name, None)
        if old is not None:
            namespace.topics.remove(old.pattern, old)

    def stage_subscriptions(
        self,
        instance: Instance,
        added: Iterable[message_pb2.Subscription],
        removed: Iterable[str],
        commit: Commit,
        after: list[Callable[[], None]],
    ) -> None:
        """Adds the subscriptions that a handler made and gave up to its commit."""
        agent, key = instance.agent, instance.key
        namespace = agent.namespace
        for subscription in added:
            handler = agent.handlers.get(subscription.handler)
            if handler is None:
                raise invalid(
                    "HANDLER_UNKNOWN",
                    f"{instance.address} subscribes to '{subscription.pattern}' with the handler"
                    f" '{subscription.handler}', which it does not have",
                )
            row = StoredSubscription(
                namespace.name, agent.name, key, subscription.pattern, subscription.handler, subscription.filter
            )
            Subscriber(row.pattern, row.filter, agent, key, row.handler, None)  # raises if it is not well-formed
            commit.subscription_put += (row,)
            after.append(partial(self._add, agent, key, row.pattern, row.handler, row.filter))
        for pattern in removed:
            name = (namespace.name, agent.name, key, pattern)
            commit.subscription_remove += (name,)
            after.append(partial(self._remove, namespace, name))

    def listen(self, namespace: Namespace, subscription: message_pb2.Subscription, listener: Listener) -> Subscriber:
        """Subscribes somebody outside. Raises AmxError for a malformed pattern or filter."""
        subscriber = Subscriber(subscription.pattern, subscription.filter, None, "", "", listener)
        namespace.topics.add(subscriber.pattern, subscriber)
        return subscriber

    def unlisten(self, namespace: Namespace, subscriber: Subscriber) -> None:
        """Ends a subscription made by `listen`."""
        namespace.topics.remove(subscriber.pattern, subscriber)

    def subscribe_link(self, session: LinkSession, call: LinkCall, subscription: message_pb2.Subscription) -> None:
        """Subscribes a link; its call stays open until cancelled."""
        link_subscription = LinkSubscription(session, call)
        link_subscription.subscriber = self.listen(session.namespace, subscription, link_subscription)
        call.subscription = link_subscription
        item = session.outbox.add(24)
        item.id = call.id
        item.reply.subscribed.subscription_id = call.id

    def unsubscribe_link(self, subscription: LinkSubscription) -> None:
        """Ends a link's subscription."""
        if subscription.subscriber is not None:
            self.unlisten(subscription.namespace, subscription.subscriber)
            subscription.subscriber = None

    # --- publishing --------------------------------------------------------------------------------------------------

    def publish(
        self,
        namespace: Namespace,
        identity: Identity,
        event: message_pb2.Event,
        done: Callable[[int, BaseException | None], None],
    ) -> None:
        """Publishes `event`. `done(subscribers, error)` is called once it is stored (durable) or handed to every
        link (volatile), possibly before this returns. Raises AmxError if it cannot be published.
        """
        if self._acceptance.guarded:
            durable = event.durability == DURABLE
            target = f"subscribers of '{event.topic}'"
            self._acceptance.require_admission(
                namespace, event.publisher, event.priority, durable=durable, target=target
            )
        self._check(namespace, event)
        engines = self._acceptance.engines
        if engines is not None and not identity.peer:
            done = partial(_publish_elsewhere, engines, identity, event, done)
        if event.durability == DURABLE:
            commit = Commit(done=_nothing)
            after: list[Callable[[], None]] = []
            subscribers = self._stage_durable(namespace, identity, event, commit, after)
            commit.done = partial(self._published, subscribers, after, done)
            self._store.submit(commit)
            return
        self._fan_out(namespace, identity, event, done)

    def _check(self, namespace: Namespace, event: message_pb2.Event) -> None:
        if namespace.quota.rated:
            namespace.quota.admit(self._now())
        if not event.event_id:
            event.event_id = self._new_id()

    def _new_id(self) -> str:
        return f"{self._id_prefix}{next(self.ids)}"

    def _published(
        self,
        subscribers: int,
        after: list[Callable[[], None]],
        done: Callable[[int, BaseException | None], None],
        error: BaseException | None,
    ) -> None:
        if error is None:
            for step in after:
                step()
        done(subscribers, error)

    def stage(
        self,
        namespace: Namespace,
        identity: Identity,
        event: message_pb2.Event,
        commit: Commit,
        after: list[Callable[[], None]],
    ) -> int:
        """Adds an event to somebody's commit: stored per subscriber if it is durable, published afterwards if not.
        Returns the number of subscribers known so far.
        """
        parse_topic(event.topic)
        if event.durability != DURABLE:
            after.append(partial(self._publish_later, namespace, identity, event))
            return 0
        if not event.event_id:
            event.event_id = self._new_id()
        engines = self._acceptance.engines
        if engines is not None:
            rows = engines.event_rows(namespace, identity, event, self._acceptance.seqs, self._clock.now_ms())
            for owner, row in rows:
                namespace.quota.require_room(len(row.body))
                commit.insert += (row,)
                after.append(partial(engines.stored, namespace, owner, row, commit))
        return self._stage_durable(namespace, identity, event, commit, after)

    def _stage_durable(
        self,
        namespace: Namespace,
        identity: Identity,
        event: message_pb2.Event,
        commit: Commit,
        after: list[Callable[[], None]],
    ) -> int:
        """Adds an event to a commit, once for each subscriber that this engine knows. Returns how many."""
        parse_topic(event.topic)
        self._counters.events_published += 1
        count = 0
        staged: set[str] = set()
        attributes = dict(event.attributes)
        for subscriber in namespace.topics.match(event.topic):
            if subscriber.predicate is not None and not subscriber.predicate(attributes):
                continue
            if subscriber.agent is None:
                count += 1
                after.append(partial(self._tell, namespace, subscriber, event))
                continue
            if _receiver(subscriber.agent, subscriber.handler, identity) is None:
                continue
            if not subscriber.key and not self._acceptance.owns(namespace.name, subscriber.agent.name, event.key):
                continue
            message = as_message(event, subscriber.agent.name, subscriber.key or event.key, subscriber.handler)
            message.message_id = f"{event.event_id}:{subscriber.agent.name}/{message.key}#{subscriber.handler}"
            if message.message_id in staged:
                continue  # two of its patterns match: it gets the event once
            staged.add(message.message_id)
            count += 1
            inv = self._acceptance.prepare_stored(namespace, identity, message)
            commit.insert += (self._acceptance.stored_message(namespace, inv),)
            after.append(partial(self._acceptance.stored_with_commit, namespace, inv, commit))
        self._counters.event_deliveries += count
        return count

    def _publish_later(self, namespace: Namespace, identity: Identity, event: message_pb2.Event) -> None:
        try:
            self.publish(namespace, identity, event, _ignore)
        except AmxError as error:
            log.warning("emitted_event_refused", topic=event.topic, reason=error.reason, traceparent=event.traceparent)

    def _tell(self, namespace: Namespace, subscriber: Subscriber, event: message_pb2.Event) -> None:
        if subscriber.listener is not None and not subscriber.listener.event(event):
            self.unlisten(namespace, subscriber)

    def _plan(self, namespace: Namespace, topic: str) -> _Plan:
        matches = namespace.topics.match(topic)
        name = (namespace.name, topic)
        plan = self._plans.get(name)
        if plan is not None and plan.matches is matches:
            return plan
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        plan = self._plans[name] = _Plan(matches)
        groups: dict[tuple[str, str, str], _Group] = {}
        members: dict[tuple[str, str, str], set[str]] = {}
        handlers: set[tuple[str, str]] = set()
        now = self._now()
        for subscriber in matches:
            agent = subscriber.agent
            if agent is None:
                plan.listeners.append(subscriber)
            elif not subscriber.key:
                plan.by_event_key.append(subscriber)
                plan.overlaps = plan.overlaps or (agent.name, subscriber.handler) in handlers
                handlers.add((agent.name, subscriber.handler))
            else:
                by = (agent.name, subscriber.handler, subscriber.filter)
                group = groups.get(by)
                if group is None:
                    group = groups[by] = _Group(agent, subscriber.handler, subscriber.predicate)
                    plan.groups.append(group)
                    plan.overlaps = plan.overlaps or by[:2] in handlers
                    handlers.add(by[:2])
                keys = members.setdefault(by, set())
                if subscriber.key in keys:
                    continue  # two of its patterns match: it gets the event once
                keys.add(subscriber.key)
                group.instances.append(self._placement.wake(agent, subscriber.key, now))
        return plan

    def _fan_out(
        self,
        namespace: Namespace,
        identity: Identity,
        event: message_pb2.Event,
        done: Callable[[int, BaseException | None], None],
    ) -> None:
        plan = self._plan(namespace, event.topic)
        attributes: dict[str, str] | None = None
        deliveries: list[tuple[LinkSession, Delivery]] = []
        alone: list[tuple[Instance, HandlerState]] = []
        count = 0
        seen: set[tuple[str, str, str]] | None = set() if plan.overlaps else None
        for group in plan.groups:
            if group.predicate is not None:
                if attributes is None:
                    attributes = dict(event.attributes)
                if not group.predicate(attributes):
                    continue
            handler = _receiver(group.agent, group.handler, identity)
            if handler is None or group.agent.active is None or not group.agent.active.hosts:
                continue
            if seen is not None:
                group = _unseen(group, seen)
            count += len(group.instances)
            self._gather(event, group, handler, deliveries, alone)
        for subscriber in plan.by_event_key:
            agent = subscriber.agent
            assert agent is not None
            if subscriber.predicate is not None:
                if attributes is None:
                    attributes = dict(event.attributes)
                if not subscriber.predicate(attributes):
                    continue
            if not self._acceptance.owns(namespace.name, agent.name, event.key):
                continue
            handler = _receiver(agent, subscriber.handler, identity)
            if handler is None or agent.active is None or not agent.active.hosts:
                continue
            group = _Group(agent, handler.name, None)
            group.instances.append(self._placement.wake(agent, event.key or DEFAULT_KEY, self._now()))
            if seen is not None:
                group = _unseen(group, seen)
            count += len(group.instances)
            self._gather(event, group, handler, deliveries, alone)
        limit = self._config.limits.max_pending_events
        for link, _ in deliveries:
            if len(link.pending_events) >= limit:
                raise exhausted(
                    "SUBSCRIBERS_BUSY",
                    f"{limit} events wait for subscribers of '{event.topic}' that cannot keep up; publish slower",
                    retry_delay_ms=50,
                )
        self._counters.events_published += 1
        for subscriber in plan.listeners:
            if subscriber.predicate is not None:
                if attributes is None:
                    attributes = dict(event.attributes)
                if not subscriber.predicate(attributes):
                    continue
            count += 1
            self._tell(namespace, subscriber, event)
        self._counters.event_deliveries += count
        waiting = 0
        progress: list[int] = []
        for link, delivery in deliveries:
            for instance in delivery.targets:
                instance.delivering += 1
            if link.in_flight < link.credit and not link.pending_events:
                self._send(link, delivery)
            else:
                if not progress:
                    progress.append(0)
                waiting += 1
                delivery.when_sent = partial(self._sent_one, progress, done, count)
                link.pending_events.append(delivery)
                link.starved = True
        for instance, handler in alone:
            message = as_message(event, instance.agent.name, instance.key, handler.name)
            self._dispatcher.enqueue_event(instance, handler, message, Unheard(message))
        if waiting:
            progress[0] = waiting
        else:
            done(count, None)

    @staticmethod
    def _sent_one(progress: list[int], done: Callable[[int, BaseException | None], None], count: int) -> None:
        progress[0] -= 1
        if not progress[0]:
            done(count, None)

    def _gather(
        self,
        event: message_pb2.Event,
        group: _Group,
        handler: HandlerState,
        deliveries: list[tuple[LinkSession, Delivery]],
        alone: list[tuple[Instance, HandlerState]],
    ) -> None:
        """Sorts the targets: those that can get the event with others of their link, and those that must wait alone.
        Nothing that the caller may have to take back happens here.
        """
        active = group.agent.active
        remembers = bool(group.agent.memories)
        link: LinkSession | None = None  # of the delivery being filled
        add_epoch: Callable[[int], None]
        add_target: Callable[[Instance], None]
        instances = group.instances
        for index, instance in enumerate(instances):
            placed = instance.link
            ready = (
                placed is not None
                and instance.running is None
                and instance.mailbox is None
                and instance.operations is None
                and instance.version is active
                and (
                    not remembers or (instance.memory is not None and instance.link_version == instance.memory.version)
                )
            )
            if not ready or placed is not link:
                if not ready or placed is None or not placed.accepting:
                    if not self._activate(group, instances, index, remembers):
                        alone.append((instances[index], handler))
                        continue
                    instance = instances[index]
                    placed = instance.link
                    assert placed is not None
                if placed is not link:
                    link = placed
                    delivery = next((d for other, d in deliveries if other is placed and d.handler is handler), None)
                    if delivery is None:
                        delivery = Delivery(event, handler)
                        deliveries.append((placed, delivery))
                    add_epoch, add_target = delivery.epochs.append, delivery.targets.append
            add_epoch(instance.epoch)
            add_target(instance)

    def _activate(self, group: _Group, instances: list[Instance], index: int, remembers: bool) -> bool:
        """Places an instance so that it can get deliveries. False if it has to take its turn alone."""
        instance = instances[index]
        if instance.link is None:
            # It may have hibernated since the plan was made.
            instance = instances[index] = self._placement.wake(group.agent, instance.key, self._now())
        if instance.busy or instance.mailbox is not None or instance.operations is not None or instance.loading:
            return False
        if remembers and instance.memory is None:
            return False
        link = self._placement.slot(instance)
        if link is None:
            return False
        self._placement.activate(instance, link)
        return True

    def _send(self, link: LinkSession, delivery: Delivery) -> None:
        id = self._dispatcher.next_id()
        event = delivery.event.SerializeToString()
        link.outbox.append(wire.deliver_item(id, event, delivery.handler.receiver, delivery.epochs))
        delivery.started = self._now()
        link.in_flight += 1
        link.deliveries[id] = delivery

    def send_next(self, link: LinkSession) -> None:
        """Hands over the event that has waited longest for credit. There must be one, and credit for it."""
        delivery = link.pending_events.popleft()
        self._send(link, delivery)
        if delivery.when_sent is not None:
            delivery.when_sent()

    # --- completion --------------------------------------------------------------------------------------------------

    def delivered(self, link: LinkSession, id: int, delivered: link_pb2.Delivered) -> None:
        """A delivery ended at every target."""
        delivery = link.deliveries.pop(id, None)
        if delivery is None:
            self._counters.dropped_completions += 1
            return
        link.in_flight -= 1
        failures = 0
        targets = delivered.targets
        if targets:
            told: set[int] = set()
            for target in targets:
                if target.index >= len(delivery.targets) or target.index in told:
                    log.warning("delivery_target_unknown", link_id=link.link_id, index=target.index)
                    continue
                told.add(target.index)
                failures += self._target_done(link, delivery, target)
        now = self._now()
        seconds = now - delivery.started
        stats = delivery.handler.stats
        if failures:
            stats.record("", False, seconds, failures)
        stats.record("", True, seconds, len(delivery.targets) - failures)
        self._release(delivery, now)
        if link.starved:
            self._dispatcher.serve(link)

    def delivered_unread(self, link: LinkSession, id: int, error: AmxError) -> None:
        """A delivery ended, and what it did cannot be taken: it failed at every target."""
        delivery = link.deliveries.get(id)
        failed = link_pb2.Delivered()
        for index in range(len(delivery.targets) if delivery is not None else 0):
            target = failed.targets.add(index=index, memory_dropped=True)
            target.failure.CopyFrom(error.to_failure())
        self.delivered(link, id, failed)

    def _release(self, delivery: Delivery, now: float) -> None:
        advance = self._dispatcher.advance
        for instance in delivery.targets:
            instance.delivering -= 1
            instance.last_active = now
            if (instance.mailbox is not None or instance.operations is not None) and not instance.delivering:
                advance(instance)
        monitors = self._dispatcher.monitors
        namespace = delivery.handler.agent.namespace
        if namespace.monitors:
            for instance in delivery.targets:
                message = as_message(delivery.event, instance.agent.name, instance.key, delivery.handler.name)
                monitors.processed(namespace, instance, delivery.handler, message, None, None, now - delivery.started)

    def _target_done(self, link: LinkSession, delivery: Delivery, target: link_pb2.DeliveredTarget) -> bool:
        """Commits what one target did, or notes why it failed. Returns whether it failed."""
        instance = delivery.targets[target.index]
        if instance.link is not link or instance.epoch != delivery.epochs[target.index]:
            self._counters.dropped_completions += 1
            return True
        if target.memory_dropped:
            instance.link_version = -1
        if target.HasField("failure"):
            self._failed(instance, delivery, target.failure)
            return True
        if not target.HasField("effects"):
            return False
        if any(not message.agent for message in target.effects.messages):
            kept = link_pb2.DeliveredTarget()
            kept.CopyFrom(target)  # it is part of a frame, and the routers take their time
            target = kept
            addressed = partial(self._target_addressed, link.identity, instance, delivery, kept)
            self._dispatcher.hold(instance)
            if not self.effects.address(link.identity, instance, kept.effects, addressed):
                return False
            self._dispatcher.release(instance)
        return self._store_target(link.identity, instance, delivery, target)

    def _target_addressed(
        self,
        identity: Identity,
        instance: Instance,
        delivery: Delivery,
        target: link_pb2.DeliveredTarget,
        failure: common_pb2.Failure | None,
    ) -> None:
        """The routers have chosen the agents of what a target emitted, or could not."""
        if failure is None:
            self._store_target(identity, instance, delivery, target)
        else:
            instance.link_version = -1
            self._failed(instance, delivery, failure)
        self._dispatcher.release(instance)

    def _store_target(
        self, identity: Identity, instance: Instance, delivery: Delivery, target: link_pb2.DeliveredTarget
    ) -> bool:
        """Commits what one target did. Returns whether that cannot be."""
        commit = Commit(done=_nothing)
        after: list[Callable[[], None]] = []
        try:
            step = self.effects.stage(identity, instance, target.effects, commit, delivery.event.event_id)
        except AmxError as error:
            instance.link_version = -1
            self._failed(instance, delivery, error.to_failure())
            return True
        if step is not None:
            after.append(step)
        if instance.memory is not None and target.effects.memory and not target.memory_dropped:
            instance.link_version = instance.memory.version
        self._dispatcher.hold(instance)
        commit.done = partial(self._target_committed, instance, after)
        self._store.submit(commit)
        return False

    def _failed(self, instance: Instance, delivery: Delivery, failure: common_pb2.Failure) -> None:
        log.warning(
            "event_failed",
            topic=delivery.event.topic,
            agent=instance.agent.name,
            key=instance.key,
            handler=delivery.handler.name,
            reason=failure.reason,
            error=failure.message,
            traceparent=delivery.event.traceparent,
        )

    def _target_committed(
        self, instance: Instance, after: list[Callable[[], None]], error: BaseException | None
    ) -> None:
        if error is not None:
            log.error("event_commit_failed", instance=instance.address, error=str(error))
            self._placement.void_memory(instance)
        else:
            for step in after:
                step()
        self._dispatcher.release(instance)

    def link_lost(self, link: LinkSession) -> None:
        """Deliveries on a lost link are over: volatile events are delivered at most once."""
        deliveries = list(link.deliveries.values())
        link.deliveries.clear()
        for delivery in deliveries:
            for instance in delivery.targets:
                instance.delivering -= 1
        self.release_pending(link)
        for delivery in deliveries:
            for instance in delivery.targets:
                if not instance.delivering and (instance.mailbox is not None or instance.operations is not None):
                    self._dispatcher.advance(instance)

    def release_pending(self, link: LinkSession) -> None:
        """The link takes no new work: what waited for its credit goes to other links, if there are any."""
        pending = list(link.pending_events)
        link.pending_events.clear()
        for delivery in pending:
            for instance in delivery.targets:
                instance.delivering -= 1
        for delivery in pending:
            handler = delivery.handler
            active = handler.agent.active
            for instance in delivery.targets:
                if active is not None and active.hosts:
                    message = as_message(delivery.event, handler.agent.name, instance.key, handler.name)
                    self._dispatcher.enqueue_event(instance, handler, message, Unheard(message))
                elif not instance.delivering and (instance.mailbox is not None or instance.operations is not None):
                    self._dispatcher.advance(instance)
            if delivery.when_sent is not None:
                delivery.when_sent()


def _receiver(agent: Agent, name: str, identity: Identity) -> HandlerState | None:
    """The handler that receives what `identity` publishes; None if the active version lacks it or permission does."""
    handler = agent.handlers.get(name)
    if handler is None or not all(identity.allows(permission) for permission in handler.spec.permissions):
        return None
    return handler


def _unseen(group: _Group, seen: set[tuple[str, str, str]]) -> _Group:
    """The group without instances whose handler gets the event already."""
    rest = _Group(group.agent, group.handler, None)
    for instance in group.instances:
        place = (group.agent.name, instance.key, group.handler)
        if place not in seen:
            seen.add(place)
            rest.instances.append(instance)
    return rest


def as_message(event: message_pb2.Event, agent: str, key: str, handler: str) -> message_pb2.Message:
    """The message by which one subscriber gets `event`."""
    message = message_pb2.Message(
        agent=agent,
        key=key or DEFAULT_KEY,
        handler=handler,
        headers=event.attributes,
        priority=event.priority,
        sender=event.publisher,
        traceparent=event.traceparent,
        topic=event.topic,
        message_id=event.event_id,
    )
    message.payload.CopyFrom(event.payload)
    return message


def _nothing(error: BaseException | None) -> None:
    """For commits whose callback is set before they are submitted."""


def _publish_elsewhere(
    engines: Engines,
    identity: Identity,
    event: message_pb2.Event,
    done: Callable[[int, BaseException | None], None],
    subscribers: int,
    error: BaseException | None,
) -> None:
    """This engine has published an event; the others follow."""
    if error is not None:
        done(subscribers, error)
    else:
        engines.publish(identity, event, subscribers, done)


def _ignore(subscribers: int, error: BaseException | None) -> None:
    """For events that handlers emitted: nobody waits for them."""
