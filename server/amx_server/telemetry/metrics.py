"""What the engine counts, and how Prometheus reads it.

The engine counts in plain integers, which cost nothing; they become metric families only when somebody scrapes, and
only then is the library for them loaded.
Each engine has its own registry, so that several fit in one process.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from amx_server.telemetry import families

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

# Upper bounds of the duration buckets, in seconds: from a cached answer to a language model's.
DURATION_BOUNDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_BUCKET_NAMES = (*map(str, DURATION_BOUNDS), "+Inf")

# Message types are chosen by applications; past this many per handler they are counted together.
MAX_MESSAGE_TYPES = 32
OTHER_TYPES = "other"


class DurationHistogram:
    """Durations by size. `observe` takes a quarter of a microsecond."""

    __slots__ = ("counts", "total_seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(DURATION_BOUNDS) + 1)
        self.total_seconds = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Counts a duration, in seconds, that was seen `times` times."""
        self.counts[bisect_left(DURATION_BOUNDS, seconds)] += times
        self.total_seconds += seconds * times

    def add(self, other: DurationHistogram) -> None:
        """Counts everything that `other` has counted as well."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total_seconds += other.total_seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound -> durations up to it, as Prometheus wants them: cumulative."""
        running = 0
        result: list[tuple[str, float]] = []
        for name, count in zip(_BUCKET_NAMES, self.counts, strict=True):
            running += count
            result.append((name, running))
        return result


class _TypeStats:
    """What became of the messages of one type at one handler."""

    __slots__ = ("durations", "failed", "succeeded")

    def __init__(self) -> None:
        self.succeeded = 0
        self.failed = 0
        self.durations = DurationHistogram()


class HandlerStats:
    """What became of the messages of one handler. Made by `EngineMetrics.handler`."""

    __slots__ = ("_types", "agent_name", "handler_name")

    def __init__(self, agent_name: str, handler_name: str) -> None:
        self.agent_name = agent_name
        self.handler_name = handler_name
        self._types: dict[str, _TypeStats] = {}

    def record(self, message_type: str, ok: bool, seconds: float, messages: int = 1) -> None:
        """Counts processed messages that took equally long.

        message_type: as the application wrote it; empty: the handler's name stands for it.
        seconds: time in the handler.
        """
        stats = self._types.get(message_type)
        if stats is None:
            stats = self._admit(message_type)
        if ok:
            stats.succeeded += messages
        else:
            stats.failed += messages
        stats.durations.observe(seconds, messages)

    @property
    def processed(self) -> int:
        """Messages processed, failed ones included."""
        return sum(stats.succeeded + stats.failed for stats in self._types.values())

    @property
    def failed(self) -> int:
        """Messages that failed."""
        return sum(stats.failed for stats in self._types.values())

    @property
    def seconds(self) -> float:
        """Time that handlers took for them, together."""
        return sum(stats.durations.total_seconds for stats in self._types.values())

    def by_type(self) -> Iterator[tuple[str, _TypeStats]]:
        """Label of the message type -> its counts."""
        for message_type, stats in self._types.items():
            yield message_type or self.handler_name, stats

    def _admit(self, message_type: str) -> _TypeStats:
        if message_type and len(self._types) >= MAX_MESSAGE_TYPES:
            message_type = OTHER_TYPES
        return self._types.setdefault(message_type, _TypeStats())


def _counter(text: str) -> int:
    """A field of EngineCounters; `text` is what Prometheus shows."""
    return field(default=0, metadata={"text": text})


@dataclass(slots=True)
class EngineCounters:
    """What only grows, since the engine started. Add to the fields directly."""

    messages_accepted: int = _counter("Messages taken in, durable or not.")
    duplicates: int = _counter("Messages that were recognised as repeats.")
    retries: int = _counter("Attempts that followed a failed one.")
    redeliveries: int = _counter("Attempts that followed a lost link or a restart.")
    dropped_completions: int = _counter("Completions that came late, twice or from an older placement.")
    dead_lettered: int = _counter("Messages that exhausted their attempts.")
    expired: int = _counter("Messages whose time to live ended in a mailbox.")
    events_published: int = _counter("Events published.")
    event_deliveries: int = _counter("Deliveries of events to subscribers.")
    commits: int = _counter("Commits that reached the disk.")
    commit_failures: int = _counter("Commits that were given up.")
    hibernations: int = _counter("Instances that went to sleep.")
    wakes: int = _counter("Instances that woke with their memory.")
    links_opened: int = _counter("Links that completed their handshake.")
    links_resumed: int = _counter("Lost links that were taken up again.")
    links_lost: int = _counter("Links that ended without saying so.")
    schedule_runs: int = _counter("Occurrences of schedules that ran.")
    memory_versions_forgotten: int = _counter("Versions of memories whose time was over.")
    content_collected: int = _counter("Objects of the content store that nothing referred to.")
    instance_restarts: int = _counter("Instances that their supervisors restarted.")
    supervisors_gave_up: int = _counter("Times a supervisor restarted a child no more.")


@dataclass(slots=True)
class EngineGauges:
    """What goes up and down, at one moment. Made by the engine when somebody scrapes."""

    active_agents: int = 0
    """Agent instances awake."""
    links: int = 0
    """Links open."""
    calls_in_flight: int = 0
    """Calls of links and clients that have no outcome yet."""
    dead_letters: int = 0
    """Dead letters held."""
    queued_messages: Mapping[str, int] = field(default_factory=dict)
    """Agent name -> messages waiting in its mailboxes."""
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    """Component -> bytes it holds in memory."""
    stored_bytes: Mapping[str, int] = field(default_factory=dict)
    """Namespace -> bytes stored."""
    waits: Mapping[str, int] = field(default_factory=dict)
    """Reason -> waits of instances under way."""
    pressure_level: int = 1
    """1 normal, 2 elevated, 3 high, 4 critical."""
    pressure_readings: Mapping[str, float] = field(default_factory=dict)
    """Signal -> its latest reading."""
    pressure_refusals: int = 0
    """Messages and events refused because of pressure since the engine started."""
    breakers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(agent name, handler name) -> 0 closed, 1 half open, 2 open. Closed ones may be absent."""


class EngineMetrics:
    """Everything one engine counts."""

    def __init__(self, read_gauges: Callable[[], EngineGauges] = EngineGauges) -> None:
        """read_gauges: called on the scraping thread at each scrape; must not block."""
        self.counters = EngineCounters()
        self.commit_durations = DurationHistogram()
        """From the first write of a transaction to its end on the disk."""
        self.wait_durations: Mapping[str, DurationHistogram] = {}
        """Reason -> how long instances waited."""
        self.refusals: dict[str, int] = {}
        self.read_gauges = read_gauges
        self.sources: list[Callable[[], Iterable[Metric]]] = []
        """Families of parts that keep their own numbers; called as `read_gauges` is."""
        self._registry: CollectorRegistry | None = None
        self._handlers: list[HandlerStats] = []

    def handler(self, agent_name: str, handler_name: str) -> HandlerStats:
        """New counters of one handler, rendered from now on. Handlers of equal names are added up."""
        stats = HandlerStats(agent_name, handler_name)
        self._handlers.append(stats)
        return stats

    def refuse(self, reason: str) -> None:
        """Counts a request that was answered with a failure; reason: UPPER_SNAKE, from the engine's own list."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """(content type, text) of everything, in the format that the Accept header asks for."""
        from prometheus_client.exposition import choose_encoder

        if self._registry is None:
            self._registry = self._collectors()
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._registry)

    def _collectors(self) -> CollectorRegistry:
        from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        return registry

    def collect(self) -> Iterable[Metric]:
        """Called by the registry at each scrape."""
        gauges = self.read_gauges()
        yield from self._collect_messages()
        yield _gauge("amx_active_agents", "Agent instances awake.", gauges.active_agents)
        memory = {"process": _resident_bytes(), **gauges.memory_bytes}
        yield _gauges("amx_memory_usage_bytes", "Memory in use, in bytes.", "component", memory)
        yield _gauge("amx_links", "Links open.", gauges.links)
        yield _gauge("amx_calls_in_flight", "Calls that have no outcome yet.", gauges.calls_in_flight)
        yield _gauge("amx_dead_letters", "Dead letters held.", gauges.dead_letters)
        yield _gauges("amx_queued_messages", "Messages waiting in mailboxes.", "agent_name", gauges.queued_messages)
        yield _gauge("amx_pressure_level", "1 normal, 2 elevated, 3 high, 4 critical.", gauges.pressure_level)
        yield _gauges("amx_pressure_reading", "What makes the pressure.", "signal", gauges.pressure_readings)
        yield families.counter(
            "amx_pressure_refusals", "Messages and events refused because of pressure.", value=gauges.pressure_refusals
        )
        yield _gauges("amx_waits", "What instances wait for.", "reason", gauges.waits)
        yield _gauges("amx_stored_bytes", "Bytes stored.", "namespace", gauges.stored_bytes)
        breakers = families.gauge(
            "amx_circuit_breaker_state", "0 closed, 1 half open, 2 open.", labels=("agent_name", "handler_name")
        )
        for labels, state in gauges.breakers.items():
            breakers.add_metric(labels, state)
        yield breakers
        for counter in fields(self.counters):
            value = getattr(self.counters, counter.name)
            yield families.counter(f"amx_{counter.name}", counter.metadata["text"], value=value)
        refusals = families.counter("amx_refusals", "Requests answered with a failure.", labels=("reason",))
        for reason, count in self.refusals.items():
            refusals.add_metric((reason,), count)
        yield refusals
        yield families.histogram(
            "amx_commit_duration_seconds",
            "Seconds a transaction took to reach the disk.",
            buckets=self.commit_durations.buckets(),
            sum_value=self.commit_durations.total_seconds,
        )
        for source in self.sources:
            yield from source()

        waits = families.histogram("amx_wait_duration_seconds", "Seconds that instances waited.", labels=("reason",))
        for reason, durations in self.wait_durations.items():
            waits.add_metric((reason,), durations.buckets(), durations.total_seconds)
        yield waits

    def _collect_messages(self) -> Iterable[Metric]:
        totals: dict[tuple[str, str], _TypeStats] = {}
        for handler in self._handlers:
            for message_type, stats in handler.by_type():
                total = totals.setdefault((handler.agent_name, message_type), _TypeStats())
                total.succeeded += stats.succeeded
                total.failed += stats.failed
                total.durations.add(stats.durations)
        processed = families.counter(
            "amx_messages_processed",
            "Messages that agents processed.",
            labels=("agent_name", "message_type", "status"),
        )
        durations = families.histogram(
            "amx_message_processing_duration",
            "Seconds that handlers took to process messages.",
            labels=("agent_name", "message_type"),
        )
        for labels, total in totals.items():
            processed.add_metric((*labels, "success"), total.succeeded)
            processed.add_metric((*labels, "error"), total.failed)
            durations.add_metric(labels, total.durations.buckets(), total.durations.total_seconds)
        yield processed
        yield durations


def _gauge(name: str, text: str, value: float) -> Metric:
    return families.gauge(name, text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = families.gauge(name, text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the operating system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
