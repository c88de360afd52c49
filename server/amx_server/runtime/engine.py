"""The engine: puts the parts together, starts them in order, keeps time, and stops them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

from amx.v1 import engine_pb2
from amx_server.cluster.shards import Shard
from amx_server.core.clock import Clock, SystemClock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import exhausted
from amx_server.core.version import VERSION
from amx_server.inference.io.metrics import io_metrics
from amx_server.memory.blobs import ContentBlobs, content_options
from amx_server.memory.content import ContentStore
from amx_server.memory.metrics import content_metrics
from amx_server.runtime.acceptance import Acceptance, shutting_down
from amx_server.runtime.broadcast import Broadcasts
from amx_server.runtime.dead_letters import DeadLetters
from amx_server.runtime.dispatch import Dispatcher
from amx_server.runtime.effects import EffectsStage
from amx_server.runtime.engines import Engines
from amx_server.runtime.events import Events, Subscriber
from amx_server.runtime.hibernation import Hibernation
from amx_server.runtime.idempotency import IdempotentRequests
from amx_server.runtime.instances import Instance
from amx_server.runtime.interruptions import Interruptions
from amx_server.runtime.links import LinkConnection, Links
from amx_server.runtime.memory_access import MemoryAccess
from amx_server.runtime.memory_stats import memory_stats
from amx_server.runtime.memory_upkeep import MemoryUpkeep
from amx_server.runtime.memory_versions import MemoryVersions
from amx_server.runtime.monitors import Monitors
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.operations import Operations
from amx_server.runtime.outbound import io_manager, provider
from amx_server.runtime.placement import Placement
from amx_server.runtime.population import Population
from amx_server.runtime.queries import Queries
from amx_server.runtime.quotas import QuotaLimits, Quotas
from amx_server.runtime.registry import Registry
from amx_server.runtime.routing import Routing
from amx_server.runtime.schedules import Schedules
from amx_server.runtime.scheduling.allocator import Allocator, IdleMoves
from amx_server.runtime.scheduling.census import Census
from amx_server.runtime.scheduling.lifecycle import Lifecycle
from amx_server.runtime.scheduling.metrics import allocation_metrics
from amx_server.runtime.scheduling.monitor import PressureMonitor, pressure_policy
from amx_server.runtime.scheduling.overview import SchedulerOverview
from amx_server.runtime.scheduling.pressure import Level, Pressure
from amx_server.runtime.scheduling.steps import Steps
from amx_server.runtime.scheduling.supervision import Supervision
from amx_server.runtime.scheduling.waits import IoWaits, Waits
from amx_server.runtime.scheduling.watchdog import Watchdog
from amx_server.runtime.timers import Timers
from amx_server.runtime.topics import TopicIndex
from amx_server.security.identity import ANONYMOUS, Identity
from amx_server.storage import IN_MEMORY, MessageState, Store, StoredAgent, open_store
from amx_server.telemetry.logs import EngineLog, get_logger
from amx_server.telemetry.metrics import EngineGauges, EngineMetrics

log = get_logger(__name__)

MAX_NAMESPACES = 10_000
_NAMED = 100  # addresses of missing content that are logged
_TICK_SECONDS = 0.02
_PER_TURN = 5_000  # instances counted in one go: about half a millisecond
_PURGE_SECONDS = 60.0
_PURGE_ROWS = 5_000
_RESTORE_PAGE = 5_000
_LEAVING = "the engine is shutting down"
# Part of the places at each provider that background operations may take.
_BACKGROUND_SHARE = {Level.NORMAL: 1.0, Level.ELEVATED: 0.5, Level.HIGH: 0.25, Level.CRITICAL: 0.0}
# Part of its budget in memory that content keeps where memory makes the pressure.
_CONTENT_PART = {Level.NORMAL: 1.0, Level.ELEVATED: 0.75, Level.HIGH: 0.5, Level.CRITICAL: 0.25}
_HURRY = 0.25  # part of their idle time after which instances sleep while memory is scarce


class Engine:
    """One engine. `async with Engine(config) as engine:` opens the store, takes up what earlier runs left, and runs
    until it is left; no sockets (see `api.server`).

    Raises AmxError on entering when the store cannot be opened.
    """

    def __init__(
        self,
        config: EngineConfig | None = None,
        clock: Clock | None = None,
        *,
        store: Store | None = None,
        log: EngineLog | None = None,
        ticking: bool = True,
        shard: Shard | None = None,
    ) -> None:
        """store: instead of the configured one; entered and left by the engine. ticking: False with a manual clock:
        time passes only in `tick`. shard: its place among several engines of one address; None: it is alone.
        """
        self.shard = shard
        self.config = config or EngineConfig()
        self.clock: Clock = clock or SystemClock()
        self.log = log or EngineLog(self.config.logging, clock=self.clock)
        self.metrics = EngineMetrics(self._gauges)
        file = self.config.storage.file
        durable = store is None and file != IN_MEMORY
        self.blobs = ContentBlobs(
            Path(f"{file}-content") if durable else None,
            content_options(self.config.memory),
            self.config.memory.content_threshold,
        )
        self.store: Store = store or open_store(
            file,
            max_queued_bytes=self.config.storage.max_queued_bytes,
            commit_delay=self.config.storage.commit_delay,
            cache_bytes=self.config.storage.cache_bytes,
            observe=self._observe_commits,
            blobs=self.blobs,
        )
        self._ticking = ticking
        self._stack = AsyncExitStack()
        self._namespaces: dict[str, Namespace] = {}
        self._started = False
        self._draining = False
        self._started_at = 0.0
        self._purged_at = 0.0
        self._dead_letters = 0
        self._ticker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Engine:
        self._stack.enter_context(self.log.installed())
        try:
            await asyncio.to_thread(self.blobs.__enter__)
            self._stack.push_async_callback(asyncio.to_thread, self.blobs.__exit__, None, None, None)
            await self._stack.enter_async_context(self.store)
            await self._report_missing_content()
            self._compose()
            await self._stack.enter_async_context(self.io)
            for name, settings in self.config.io.providers.items():
                await self.io.add(*provider(name, settings, self.clock))
            if self.engines is not None:
                await self._stack.enter_async_context(self.engines)
            await self._stack.enter_async_context(self.lifecycle)
            await self._restore()
        except BaseException:
            await self._stack.aclose()
            raise
        self._started_at = self.clock.monotonic()
        self._timers.at(self._started_at + self.config.links.resume_window, self._stop_waiting_for_workers)
        self._started = True
        if self._ticking:
            self._stack.enter_context(self.watchdog)
            await self._stack.enter_async_context(self.memory_upkeep)
            self._ticker = asyncio.create_task(self._tick_forever())
        log.info("engine_started", version=VERSION, storage=self.store.location, generation=self.store.generation)
        return self

    def _compose(self) -> None:
        config, clock, store = self.config, self.clock, self.store
        limits = {
            name: QuotaLimits(q.messages_per_second, q.burst, q.mailbox_messages, q.stored_bytes)
            for name, q in {"": config.quotas.default, **config.quotas.namespaces}.items()
        }
        self._quotas = Quotas(limits.pop(""), limits)
        self.waits = Waits()
        self.steps = Steps()
        self.metrics.wait_durations = {str(reason): held for reason, held in self.waits.seconds.items()}
        self._timers = Timers()
        counters = self.metrics.counters
        self.placement = Placement(config, clock, store, self._timers, counters, self.waits)
        self.dispatcher = Dispatcher(config, clock, store, self._timers, counters, self.placement, self.waits)
        self.interruptions = Interruptions(config, clock, self.dispatcher, self.placement)
        self.dispatcher.interruptions = self.interruptions
        self.acceptance = Acceptance(config, clock, store, self._timers, self.placement, self.dispatcher)
        self.events = Events(config, clock, store, self.placement, self.dispatcher, self.acceptance)
        self.schedules = Schedules(clock, store, self.acceptance)
        self.lifecycle = Lifecycle(clock, store, self.placement, self.dispatcher, self.interruptions)
        self.supervision = Supervision(
            config.supervision, clock, self.lifecycle, self.acceptance, self.events, counters
        )
        self.lifecycle.supervision = self.dispatcher.supervision = self.supervision
        self.registry = Registry(
            config,
            clock,
            store,
            self._timers,
            self.acceptance,
            self.dispatcher,
            self.interruptions,
            self.events,
            self.schedules,
            self.supervision,
            self.metrics,
        )
        self.broadcasts = Broadcasts(self.acceptance)
        self.memory = MemoryAccess(config, clock, store, self.placement, self.dispatcher, self.blobs)
        self.memory_versions = MemoryVersions(config, clock, store, self.placement, self.dispatcher, self.blobs)
        self.memory_upkeep = MemoryUpkeep(config, clock, store, self.content, counters)
        self.queries = Queries(clock, store, self.supervision, self.waits)
        self.dead_letters = DeadLetters(clock, store, self.acceptance, self.queries)
        effects = EffectsStage(config, clock, self.acceptance, self.events, self.schedules, self.blobs)
        self.dispatcher.effects = self.events.effects = effects
        self.dispatcher.events = self.events
        self.acceptance.routing = Routing(self.acceptance)
        self.dispatcher.monitors = Monitors(self.acceptance)
        self.links = Links(config, clock, self.namespace)
        self.links.operations = Operations(
            self.dispatcher,
            self.interruptions,
            self.acceptance,
            self.events,
            self.broadcasts,
            self.memory,
            self.registry,
            self.waits,
        )
        self.engines: Engines | None = None
        if self.shard is not None:
            self._share(self.shard)
        self.population = Population(config, clock, store, self.placement, self.dispatcher)
        self._hibernation = Hibernation(config, clock, store, self.placement, counters)
        self.monitor = PressureMonitor(
            self.acceptance.admission,
            pressure_policy(config.admission.loop_delay, config.admission.queue_delay),
            enabled=config.admission.enabled,
            limit=config.admission.memory,
            write_share=lambda: store.queued_bytes / config.storage.max_queued_bytes,
            queue_delay=self.links.queue_delay,
            listeners=(self._pressure_changed,),
        )
        census = Census(
            self._namespaces.values, self.links.sessions.values, config.allocation.weights, lambda: self.io.stats()
        )
        self.allocator = Allocator(
            census,
            self.monitor.pressure,
            config.allocation.policy,
            interval=config.allocation.interval,
            now_ms=clock.now_ms,
            levers={"rebalance": IdleMoves(census, self.placement, self.links.link)},
        )
        self.metrics.sources.append(partial(allocation_metrics, self.allocator))
        self.watchdog = Watchdog(config.scheduler.block_warning)
        self.scheduler = SchedulerOverview(
            self.monitor.pressure, self.acceptance.admission, self.allocator, self.waits, self.watchdog
        )
        observer = IoWaits(self.waits, self._awake, clock.monotonic)
        self.io = io_manager(config.io, clock, observer=observer, ticking=self._ticking)
        self.metrics.sources += (partial(io_metrics, self.io), self.steps.metrics, self.watchdog.metrics)
        self.metrics.sources.append(partial(content_metrics, self.content))

    def _share(self, shard: Shard) -> None:
        """Makes this engine one of several: numbers that the others do not use, and what they own goes to them."""
        self.engines = self.acceptance.engines = Engines(
            shard, self.config, self.clock, self.store, self._timers, self.namespace
        )
        self.metrics.sources.append(self.engines.metrics)
        self.dispatcher.ids = shard.ids(1)
        self.acceptance.seqs = shard.ids(self.store.next_seq)
        self.events.ids = shard.ids(1)

    async def _report_missing_content(self) -> None:
        """Says who refers to content that is not there any more."""
        missing = self.blobs.reconciled.missing
        for address, holders in (await self.store.holders(missing[:_NAMED])).items() if missing else ():
            log.error("content_missing", content=address.hex(), held_by=holders, missing=len(missing))

    async def _restore(self) -> None:
        """Takes up definitions, subscriptions, schedules and messages of earlier runs."""
        agents: dict[str, list[StoredAgent]] = {}
        for stored_agent in await self.store.agents():
            agents.setdefault(stored_agent.namespace, []).append(stored_agent)
        rows = await self.store.schedules()
        for name, definitions in agents.items():
            self.registry.restore(self.namespace(name), definitions, [r for r in rows if r.namespace == name])
        for suspension in await self.store.suspensions():
            self.lifecycle.restore(self.namespace(suspension.namespace), suspension)
        for subscription in await self.store.subscriptions():
            self.events.restore(self.namespace(subscription.namespace), subscription)
        for name, size in (await self.store.stored_bytes()).items():
            self.namespace(name).quota.store(size)
        after = restored = 0
        while page := await self.store.pending_messages(after, _RESTORE_PAGE):
            for row in page:
                self.acceptance.restore(self.namespace(row.namespace), row)
            after = page[-1].seq
            restored += len(page)
        for name in self._namespaces:
            self._dead_letters += await self.store.count_messages(name, MessageState.DEAD)
        if restored:
            log.info("messages_restored", messages=restored)

    async def __aexit__(self, *exc: object) -> None:
        self._started = False
        if self._ticker is not None:
            self._ticker.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticker
        self.links.end_all("the engine has stopped")
        with suppress(Exception):
            await self.store.flush()
        log.info("engine_stopped")
        await self._stack.aclose()

    # --- what others ask for -----------------------------------------------------------------------------------------

    def namespace(self, name: str) -> Namespace:
        """The namespace `name`, made when first asked for. Raises AmxError at the limit of namespaces."""
        namespace = self._namespaces.get(name)
        if namespace is None:
            if len(self._namespaces) >= MAX_NAMESPACES:
                raise exhausted(
                    "NAMESPACE_LIMIT", f"an engine has at most {MAX_NAMESPACES} namespaces", retry_delay_ms=0
                )
            topics: TopicIndex[Subscriber] = TopicIndex()
            delivery = self.config.delivery
            requests = IdempotentRequests(delivery.idempotency_window, delivery.idempotency_keys, self.clock.monotonic)
            namespace = self._namespaces[name] = Namespace(name, self._quotas.of(name), topics, requests)
        return namespace

    @property
    def content(self) -> ContentStore:
        """The content store, while the engine runs."""
        return self.blobs.store

    def open_link(
        self, identity: Identity = ANONYMOUS, *, watched: bool = False, engines: Sequence[str] = ()
    ) -> LinkConnection:
        """A connection for one peer: feed it frames, take frames from it, close it.

        watched: the caller knows when the peer's process ends, and will say so (`LinkConnection.process_ended`).
        engines: where all engines of this address are, for a peer that may have to be told.
        """
        return LinkConnection(self.links, identity, watched, engines)

    def endpoints(self, over_socket: bool) -> list[str]:
        """Where the engines of this address are, for a peer that came over a Unix socket or TCP; empty: only here."""
        return self.shard.endpoints(over_socket) if self.shard is not None else []

    async def drain(self, deadline: float) -> bool:
        """Takes no new work, tells every link to leave, waits up to `deadline` seconds for what runs, ends the links.

        Returns whether everything ended. What did not is redelivered after the next start if it is durable.
        """
        self._draining = True
        self.acceptance.drain()
        self.links.say_goodbye(_LEAVING, deadline)
        for namespace in self._namespaces.values():
            for agent in namespace.agents.values():
                self.interruptions.refuse_untried(agent, shutting_down())
        try:
            async with asyncio.timeout(deadline):
                await self.links.drained_all()
                await self.io.drain(deadline)
            await self.store.flush()
        except TimeoutError:
            return False
        finally:
            self.links.leave(_LEAVING)
        return True

    def not_ready(self) -> list[str]:
        """Why the engine takes no work now, one sentence each; empty: it does."""
        reasons = []
        if not self._started:
            reasons.append("the engine is starting or has stopped")
        if self._draining:
            reasons.append("the engine is shutting down")
        if self._started and self.acceptance.storage_failure is not None:
            reasons.append(f"the store refuses messages: {self.acceptance.storage_failure.message}")
        if self._started and self.monitor.pressure.level == Level.CRITICAL:
            reasons.append(f"the engine takes urgent work only: {self.monitor.pressure.because}")
        return reasons

    def render_metrics(self, accept: str) -> tuple[str, bytes]:
        """(content type, text) of all metrics."""
        return self.metrics.render(accept)

    def work_done(self) -> int:
        """A number that grows with every message and event."""
        counters = self.metrics.counters
        return counters.messages_accepted + counters.events_published

    async def describe(self, namespace: str) -> engine_pb2.GetEngineResponse:
        """The engine in numbers, as one namespace sees it."""
        agents = self.namespace(namespace).agents.values()
        stats = [handler.stats for agent in agents for handler in agent.handlers.values()]
        await self.store.flush()
        return engine_pb2.GetEngineResponse(
            version=VERSION,
            uptime_ms=int((self.clock.monotonic() - self._started_at) * 1000),
            links=sum(
                session.namespace.name == namespace and not session.identity.peer
                for session in self.links.sessions.values()
            ),
            agents=len(agents),
            instances=sum(len(agent.instances) for agent in agents),
            queued_messages=sum(agent.queued for agent in agents),
            processed=sum(stat.processed for stat in stats),
            storage=self.store.location,
            dead_letters=await self.store.count_messages(namespace, MessageState.DEAD),
        )

    async def describe_memory(self, namespace: str, *, everybody: bool) -> engine_pb2.GetMemoryStatsResponse:
        """Memory in numbers: instances and owners of one namespace, or of everybody; the rest is the engine's."""
        spaces = list(self._namespaces.values()) if everybody else [self.namespace(namespace)]
        awake = remembered = 0
        for agent in [agent for space in spaces for agent in space.agents.values()]:
            for number, instance in enumerate([*agent.instances.values()]):
                awake += 1
                remembered += instance.memory.bytes if instance.memory is not None else 0
                if not number % _PER_TURN:
                    await asyncio.sleep(0)
        response = memory_stats(self.content, await self.store.version_counts(), None if everybody else namespace)
        response.instances_awake, response.instance_bytes = awake, remembered
        return response

    def _stop_waiting_for_workers(self) -> None:
        for namespace in self._namespaces.values():
            for agent in namespace.agents.values():
                self.registry.stop_waiting(agent)

    def _awake(self, namespace: str, agent: str, key: str) -> Instance | None:
        """An instance, if it is awake."""
        found = self._namespaces.get(namespace)
        return found.instance(agent, key) if found is not None else None

    def _pressure_changed(self, pressure: Pressure) -> None:
        self.acceptance.look_again()
        self.io.throttle(_BACKGROUND_SHARE[pressure.level])
        self._hibernation.hurry = _HURRY if pressure.memory_level > Level.NORMAL else 1.0
        self.blobs.store.squeeze(_CONTENT_PART[pressure.memory_level])

    def _observe_commits(self, stored: int, given_up: int, seconds: float) -> None:
        counters = self.metrics.counters
        counters.commits += stored
        counters.commit_failures += given_up
        self.metrics.commit_durations.observe(seconds)

    def _gauges(self) -> EngineGauges:
        agents = [agent for namespace in self._namespaces.values() for agent in namespace.agents.values()]
        awake = [instance for agent in agents for instance in agent.instances.values()]
        now = self.clock.monotonic()
        return EngineGauges(
            active_agents=len(awake),
            links=len(self.links.sessions),
            calls_in_flight=sum(len(session.calls) for session in self.links.sessions.values()),
            dead_letters=self._dead_letters + self.metrics.counters.dead_lettered - self.dead_letters.removed,
            queued_messages={agent.name: agent.queued for agent in agents},
            memory_bytes={
                "agent_memory": sum(instance.memory.bytes for instance in awake if instance.memory is not None)
            },
            stored_bytes={namespace.name: namespace.quota.stored_bytes for namespace in self._namespaces.values()},
            pressure_level=self.monitor.pressure.level,
            pressure_readings=self.monitor.pressure.readings.by_signal(),
            pressure_refusals=self.acceptance.admission.refused,
            waits={str(reason): count for reason, count in self.waits.counts.items()},
            breakers={
                (agent.name, handler.name): _BREAKER_STATES[handler.breaker.state(now).value]
                for agent in agents
                for handler in agent.handlers.values()
                if handler.breaker is not None and handler.breaker.open
            },
        )

    # --- time --------------------------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        while True:
            due = self.clock.monotonic() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            self.monitor.loop_delay = max(0.0, self.clock.monotonic() - due)
            try:
                self.tick()
                await self._purge()
            except Exception:
                log.exception("tick_failed")

    def tick(self) -> None:
        """Does what has fallen due by the clock: deadlines, timers, schedules, heartbeats, hibernation."""
        now = self.clock.monotonic()
        self.interruptions.expire(now)
        for callback in self._timers.expired(now):
            _safely(callback)
        self.schedules.tick(now)
        self.supervision.tick(now)
        self.links.tick(now)
        self.monitor.tick(now)
        self.allocator.tick(now, whole_round=not self._ticking)
        if self._ticking:
            self._hibernation.tick(self._namespaces.values(), now)
        else:
            self.io.tick()
            self._hibernation.sweep(list(self._namespaces.values()), now)

    async def _purge(self) -> None:
        now = self.clock.monotonic()
        if now - self._purged_at < _PURGE_SECONDS:
            return
        before_ms = self.clock.now_ms() - int(self.config.storage.dedup_window * 1000)
        # A full page means that there is more: go on at the next tick.
        if await self.store.purge_ended(before_ms, _PURGE_ROWS) < _PURGE_ROWS:
            self._purged_at = now
            await self._count_stored_bytes()

    async def _count_stored_bytes(self) -> None:
        """Sets the use of quotas right: results come and go without being counted one by one."""
        if any(namespace.quota.limits.stored_bytes for namespace in self._namespaces.values()):
            sizes = await self.store.stored_bytes()
            for name, namespace in self._namespaces.items():
                namespace.quota.stored_bytes = sizes.get(name, 0)


_BREAKER_STATES = {"closed": 0, "half_open": 1, "open": 2}


def _safely(callback: Callable[[], None]) -> None:
    """One timer's failure must not keep the others from running."""
    try:
        callback()
    except Exception:
        log.exception("timer_failed")
