"""Base classes of message routers and performance monitors, and the metrics and alerts monitors have."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from dataclasses import dataclass
from datetime import timedelta

from amx_engine._context import current_context
from amx_engine._message import AgentReference, Message
from amx_engine._result import ProcessingResult

_WINDOW = 1024
_MAX_AGENTS = 10_000


class BaseMessageRouter:
    """Chooses the agent of messages that name none. Derive, decorate with @MessageRouter, and write `route`."""

    async def route(self, message: Message) -> AgentReference | str | None:
        """The agent that gets `message`; None leaves it to the next router."""
        raise NotImplementedError(f"{type(self).__qualname__} must define `async def route(self, message)`")

    def find_agent(self, name: str, key: str = "default", handler: str = "") -> AgentReference:
        """The address `name/key`, and a handler for messages that name none.

        Whether somebody hosts it is found out when the message is delivered.
        """
        if "/" in name:
            name, _, key = name.partition("/")
        return AgentReference(name, key, handler)


class BasePerformanceMonitor:
    """Is told of every processed message. Derive, decorate with @PerformanceMonitor, write `on_message_processed`.

    metrics: counts and durations per agent, shared by the instances of the class in this process. alerts: tell people.
    """

    _metrics: Metrics
    _alerts: Alerts

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._metrics = Metrics()
        cls._alerts = Alerts(cls.__name__)

    async def on_message_processed(
        self, agent_name: str, message: Message, result: ProcessingResult, duration: timedelta
    ) -> None:
        """Called after each message, in no guaranteed order."""
        raise NotImplementedError(f"{type(self).__qualname__} must define `async def on_message_processed(...)`")

    @property
    def metrics(self) -> Metrics:
        """Counts and durations."""
        return self._metrics

    @property
    def alerts(self) -> Alerts:
        """Tells people."""
        return self._alerts


@dataclass(frozen=True, slots=True)
class AgentMetrics:
    """What was recorded of one agent since the process started; quantiles are of the last 1,024 messages."""

    processed: int
    errors: dict[str, int]
    total: timedelta
    longest: timedelta
    p50: timedelta
    p99: timedelta


class _Record:
    __slots__ = ("errors", "longest", "processed", "recent", "total")

    def __init__(self) -> None:
        self.processed = 0
        self.errors: dict[str, int] = {}
        self.total = timedelta()
        self.longest = timedelta()
        self.recent: deque[timedelta] = deque(maxlen=_WINDOW)


class Metrics:
    """Counts and durations per agent, for at most 10,000 agents. Thread-safe."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self._lock = threading.Lock()

    def record_processing_time(self, agent_name: str, duration: timedelta) -> None:
        """One message of the agent took `duration`."""
        with self._lock:
            record = self._record(agent_name)
            record.processed += 1
            record.total += duration
            record.longest = max(record.longest, duration)
            record.recent.append(duration)

    def increment_error_count(self, agent_name: str, error_type: str | None = None) -> None:
        """One message of the agent failed, with this reason."""
        with self._lock:
            errors = self._record(agent_name).errors
            kind = error_type or "UNKNOWN"
            if kind not in errors and len(errors) >= 100:
                kind = "OTHER"
            errors[kind] = errors.get(kind, 0) + 1

    def of(self, agent_name: str) -> AgentMetrics:
        """What was recorded of the agent; zeros if nothing was."""
        with self._lock:
            return _snapshot(self._records.get(agent_name) or _Record())

    def all(self) -> dict[str, AgentMetrics]:
        """What was recorded, by agent."""
        with self._lock:
            return {name: _snapshot(record) for name, record in self._records.items()}

    def _record(self, agent_name: str) -> _Record:
        record = self._records.get(agent_name)
        if record is None:
            if len(self._records) >= _MAX_AGENTS:
                self._records.pop(next(iter(self._records)))
            record = self._records[agent_name] = _Record()
        return record


def _snapshot(record: _Record) -> AgentMetrics:
    ordered = sorted(record.recent)
    return AgentMetrics(
        record.processed,
        dict(record.errors),
        record.total,
        record.longest,
        _quantile(ordered, 0.5),
        _quantile(ordered, 0.99),
    )


def _quantile(ordered: list[timedelta], share: float) -> timedelta:
    """The nearest-rank quantile; zero of nothing."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else timedelta()


class Alerts:
    """Tells people: an alert is an event on `alerts.<channel>`, published with the commit, and a log record."""

    def __init__(self, monitor: str) -> None:
        self._monitor = monitor
        self._logger = logging.getLogger(monitor)

    def send_alert(self, channel: str, message: str, severity: str = "info") -> None:
        """Raises AmxError NO_CONTEXT outside of a handler."""
        current_context().publish(
            f"alerts.{channel}",
            {"channel": channel, "message": message, "severity": severity, "source": self._monitor},
            attributes={"severity": severity, "source": self._monitor},
        )
        self._logger.warning("alert on %s (%s): %s", channel, severity, message)

    def send_slow_processing_alert(self, agent_name: str, message: Message, duration: timedelta) -> None:
        """An alert on the channel `performance`: the agent took this long for the message."""
        seconds = duration.total_seconds()
        self.send_alert("performance", f"{agent_name} took {seconds:.3f} s for message {message.id or '?'}", "high")
