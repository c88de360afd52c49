"""The engine's log: structured, with trace context, without secrets, and its last lines kept for `amx logs`.

Each engine has an EngineLog. Modules log with `get_logger(__name__)`; what they say goes to the log of the engine whose
task says it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import msgspec

from amx_server.core.clock import Clock, SystemClock
from amx_server.core.config import LoggingConfig
from amx_server.telemetry.structured import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

# Entries a follower may be behind before it loses some; it is told how many.
FOLLOWER_CAPACITY = 1000

# Longest text of one field; what applications pass may be a document.
_MAX_TEXT = 16_384

Logger = structlog.typing.FilteringBoundLogger


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line."""

    at_ms: int
    """Milliseconds since the Unix epoch, UTC."""
    level: str
    """`debug`, `info`, `warning`, `error` or `critical`."""
    event: str
    """What happened, in snake_case."""
    fields: dict[str, str]
    """Its facts; what is not text is JSON."""


# --- trace context ---------------------------------------------------------------------------------------------------

_traceparent: ContextVar[str] = ContextVar("amx_traceparent", default="")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


def parse_traceparent(text: str) -> tuple[str, str] | None:
    """(trace id, span id) of a W3C traceparent header, https://www.w3.org/TR/trace-context/; None if it is not one."""
    match = _TRACEPARENT.fullmatch(text)
    return (match[1], match[2]) if match else None


@contextlib.contextmanager
def trace_context(traceparent: str) -> Iterator[None]:
    """Lines logged inside, in this task, carry the trace id and span id of `traceparent`."""
    token = _traceparent.set(traceparent)
    try:
        yield
    finally:
        _traceparent.reset(token)


# --- secrets ---------------------------------------------------------------------------------------------------------

REDACTED = "[redacted]"
_SECRET_NAME = re.compile(
    r"(^|[_.-])(authorization|passw(or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key|credentials?|cookie)s?$",
    re.IGNORECASE,
)
_SECRET_TEXT = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {REDACTED}"),
    # user:password@ in addresses
    (re.compile(r"(?<=://)([^/\s:@]+):[^/\s@]+@"), rf"\1:{REDACTED}@"),
)


def redact(value: Any, name: str = "") -> Any:
    """`value` without secrets: fields named like one are replaced whole, tokens and passwords inside texts in place."""
    if name and _SECRET_NAME.search(name) and value not in (None, "", True, False):
        return REDACTED
    if isinstance(value, str):
        if len(value) > _MAX_TEXT:
            value = value[:_MAX_TEXT] + f"… ({len(value)} characters)"
        for pattern, replacement in _SECRET_TEXT:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {str(key): redact(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(inner) for inner in value]
    return value


# --- the log ---------------------------------------------------------------------------------------------------------


class EngineLog:
    """Where one engine logs to. Safe to use from any thread. Writing never raises."""

    def __init__(
        self, config: LoggingConfig | None = None, stream: TextIO | None = None, clock: Clock | None = None
    ) -> None:
        """stream: where lines go; None: standard error. Colours only where it is a terminal and NO_COLOR is unset."""
        config = config or LoggingConfig()
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock or SystemClock()
        self._kept: deque[LogEntry] = deque(maxlen=config.kept_lines)
        self._listeners: set[Callable[[LogEntry], None]] = set()
        self._lock = threading.RLock()  # what the garbage collector runs may log while it is held
        terminal = self._stream.isatty()
        console = config.format == "console" or (config.format == "auto" and terminal)
        self._render = _ConsoleLines(terminal and not os.environ.get("NO_COLOR")) if console else _json_line
        self._lowest = LEVELS[config.level]
        self.logger = _logger_into(self.write)
        """Logs here, whatever task uses it."""

    def recent(self, lines: int = 100, level: str = "info", agent: str = "") -> list[LogEntry]:
        """The last `lines` entries held, oldest first, of at least `level`; about `agent` only, unless it is empty."""
        lowest = LEVELS.get(level, LEVELS["info"])
        with self._lock:
            entries = list(self._kept)
        return [entry for entry in entries if _wanted(entry, lowest, agent)][-lines:] if lines > 0 else []

    async def follow(self, lines: int = 0, level: str = "info", agent: str = "") -> AsyncIterator[LogEntry]:
        """What `recent` returns, then every entry as it comes, without gap or repeat, until the caller stops.

        A follower that is more than FOLLOWER_CAPACITY entries behind loses the oldest of them and gets an entry
        `log_lines_lost` with their number in their place.
        """
        lowest = LEVELS.get(level, LEVELS["info"])
        follower = _Follower(asyncio.get_running_loop(), lowest, agent)
        with self._lock:
            past = [entry for entry in self._kept if _wanted(entry, lowest, agent)]
            self._listeners.add(follower.offer)
        try:
            for entry in past[-lines:] if lines > 0 else []:
                yield entry
            while True:
                yield await follower.next(self._clock)
        finally:
            with self._lock:
                self._listeners.discard(follower.offer)

    @contextlib.contextmanager
    def standard_logging(self, level: int = logging.WARNING) -> Iterator[None]:
        """Inside, what libraries and agents say through Python's own logging lands here, from `level` on.

        For the process's main program: Python's logging is one for the whole process.
        """
        handler = _StandardHandler(self.logger, level)
        root = logging.getLogger()
        before = root.level
        root.addHandler(handler)
        root.setLevel(min(before, level))
        try:
            yield
        finally:
            root.setLevel(before)
            root.removeHandler(handler)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, loggers of `get_logger` log here: in this task and the tasks it starts, and in threads and tasks
        that belong to no engine unless another log was installed since.
        """
        token = _current.set(self)
        _installed.append(self)
        try:
            yield
        finally:
            _installed.remove(self)
            # Left in another context than it was entered in, there is nothing to set back.
            with contextlib.suppress(ValueError):
                _current.reset(token)

    def take(self, entry: LogEntry) -> None:
        """Keeps and hands on an entry that somebody else has written where it belongs."""
        with self._lock:
            self._kept.append(entry)
            listeners = list(self._listeners)
        for listener in listeners:
            listener(entry)

    def hand_on(self, to: Callable[[LogEntry], None]) -> None:
        """Gives `to` every entry from now on, in the thread that wrote it: it must neither wait nor raise."""
        with self._lock:
            self._listeners.add(to)

    def write(self, level: str, event: MutableMapping[str, Any]) -> None:
        """Keeps, hands on and writes one entry, unless `level` is too low. event: its facts, and `event`, its name."""
        if LEVELS.get(level, 0) < self._lowest:
            return
        event = _redact_all(structlog.processors.format_exc_info(None, level, _add_trace(event)))
        name = _text(str(event.pop("event", "")))
        entry = LogEntry(self._clock.now_ms(), level, name, {_text(key): _text(value) for key, value in event.items()})
        self.take(entry)
        # A log that cannot be written (closed pipe, full disk) must not stop the engine.
        with contextlib.suppress(Exception):
            self._stream.write(self._render(entry, event))
            self._stream.flush()


_current: ContextVar[EngineLog | None] = ContextVar("amx_log", default=None)
_installed: list[EngineLog] = []


def get_logger(module: str) -> Logger:
    """A logger for a module: `log = get_logger(__name__)`, then `log.info("link_opened", link_id=…)`.

    `bind` adds facts to every line. Before any engine runs, warnings and worse go to standard error.
    """
    logger: Logger = _logger_into(_write_current).bind(component=module.removeprefix("amx_server."))
    return logger


def _write_current(level: str, event: MutableMapping[str, Any]) -> None:
    log = _current.get() or (_installed[-1] if _installed else None)
    (log or EngineLog(LoggingConfig(level="warning", kept_lines=1))).write(level, event)


def _logger_into(write: Callable[[str, MutableMapping[str, Any]], None]) -> Logger:
    def process(_: Any, level: str, event: MutableMapping[str, Any]) -> Any:
        write(level, event)
        raise structlog.DropEvent  # written already

    logger: Logger = structlog.wrap_logger(
        object(), processors=[process], wrapper_class=structlog.make_filtering_bound_logger(0)
    )
    return logger


class _Follower:
    """One reader of what comes. Fed from any thread, read on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lowest: int, agent: str) -> None:
        self._loop = loop
        self._lowest = lowest
        self._agent = agent
        self._entries: deque[LogEntry] = deque()
        self._lost = 0
        self._arrived = asyncio.Event()

    def offer(self, entry: LogEntry) -> None:
        if _wanted(entry, self._lowest, self._agent):
            # The loop may have closed with its reader still registered.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._push, entry)

    def _push(self, entry: LogEntry) -> None:
        if len(self._entries) >= FOLLOWER_CAPACITY:
            self._entries.popleft()
            self._lost += 1
        self._entries.append(entry)
        self._arrived.set()

    async def next(self, clock: Clock) -> LogEntry:
        while not self._entries:
            self._arrived.clear()
            await self._arrived.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return LogEntry(clock.now_ms(), "warning", "log_lines_lost", {"count": str(lost)})
        return self._entries.popleft()


# What the SDK's `context.logger` says beside the message.
_OF_AGENTS = ("agent", "key", "invocation_id", "attempt", "traceparent")


class _StandardHandler(logging.Handler):
    """Python's logging -> the engine's log."""

    def __init__(self, logger: Logger, level: int) -> None:
        super().__init__(level)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        try:
            facts = {name: value for name in _OF_AGENTS if (value := getattr(record, name, None))}
            level = max((known for known in LEVELS.values() if known <= record.levelno), default=LEVELS["debug"])
            self._logger.log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info, **facts)
        except Exception:
            self.handleError(record)


def _wanted(entry: LogEntry, lowest: int, agent: str) -> bool:
    if LEVELS.get(entry.level, 0) < lowest:
        return False
    if not agent or entry.fields.get("agent") == agent:
        return True
    return entry.fields.get("instance", "").partition("/")[0] == agent


def _add_trace(event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    parsed = parse_traceparent(str(event.pop("traceparent", "") or _traceparent.get()))
    if parsed:
        event["trace_id"], event["span_id"] = parsed
    return event


def _redact_all(event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        try:
            event[key] = redact(value, key)
        except Exception:  # a value that contains itself, or whose text cannot be made
            event[key] = "[unprintable]"
    return event


def _text(value: Any) -> str:
    if isinstance(value, str):
        # Agents log what models say, which need not be Unicode; whoever reads the log can rely on it.
        return value if value.isascii() else value.encode(errors="backslashreplace").decode()
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except Exception:  # keys that are not text, text that is not Unicode
        return repr(value)


def _timestamp(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json_line(entry: LogEntry, values: Mapping[str, Any]) -> str:
    line = {"timestamp": _timestamp(entry.at_ms), "level": entry.level, "event": entry.event, **values}
    try:
        return msgspec.json.encode(line, enc_hook=str).decode() + "\n"
    except Exception:  # the texts of the entry can always be written once they are ASCII
        return json.dumps({**line, **entry.fields}, default=str) + "\n"


class _ConsoleLines:
    """Lines for people: time, level, event, facts."""

    def __init__(self, colours: bool) -> None:
        self._renderer = structlog.dev.ConsoleRenderer(
            colors=colours, exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
        )

    def __call__(self, entry: LogEntry, values: Mapping[str, Any]) -> str:
        time = _timestamp(entry.at_ms)[11:-1]
        line = {"timestamp": time, "level": entry.level, "event": entry.event, **values}
        return str(self._renderer(cast(Any, None), entry.level, line)) + "\n"
