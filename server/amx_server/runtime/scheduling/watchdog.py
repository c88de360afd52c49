"""Names who keeps the event loop from turning, while it happens and with its length afterwards: `Watchdog`.

A thread of its own looks at the loop's thread when the loop has not beaten for too long. That is all the loop does for
it; steps of handlers cost nothing.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import copy_context
from dataclasses import dataclass, replace
from time import monotonic, time
from types import FrameType
from typing import TYPE_CHECKING, Any

from amx_server.telemetry import families
from amx_server.telemetry.logs import get_logger
from amx_server.telemetry.metrics import DurationHistogram

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

log = get_logger(__name__)

KEPT = 100
_RUNNER = os.path.join("amx_engine", "_runner.py")  # drives handlers: what is inside of it is theirs
# Who blocks in a library is named by the line that called it.
_LIBRARIES = (os.path.dirname(os.__file__) + os.sep, f"{os.sep}site-packages{os.sep}", "<frozen ")
_OURS = (f"{os.sep}amx_server{os.sep}", f"{os.sep}amx_engine{os.sep}")


@dataclass(frozen=True, slots=True)
class Block:
    """One time that the loop stood still.

    at_ms: when it began: milliseconds since the Unix epoch, UTC. seconds: how long it was, to within a beat.
    namespace, instance, handler: whose step it was: `agent/key` and its handler; empty: the engine itself.
    place: `file:line in function`, the innermost frame that is neither library nor machinery, as it was when the limit
    was passed.
    """

    at_ms: int
    seconds: float
    namespace: str
    instance: str
    handler: str
    place: str


class Watchdog:
    """Watches the event loop that enters it. `with Watchdog(0.1) as watchdog:`, inside a coroutine or callback.

    What it found is in `blocks`, newest first, and in the log: `loop_blocked` while a block lasts, `loop_free` when it
    has ended. A block is counted from the last beat, so its length is right to within one of them.
    """

    __slots__ = (
        "_at",
        "_interval",
        "_limit",
        "_loop",
        "_next",
        "_stop",
        "_thread",
        "_told",
        "_watched",
        "blocks",
        "counts",
        "durations",
    )

    def __init__(self, limit: float, told: Callable[[Block], None] | None = None, interval: float = 0.02) -> None:
        """limit: seconds for which the loop may stand still; 0: it is not watched. told: called with every block when
        it has ended, on the watching thread; must not raise. interval: seconds between beats, and between looks.
        """
        self._limit = limit
        self._interval = interval
        self._told = told
        self._at = 0.0  # monotonic second of the last beat
        self._watched = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: asyncio.TimerHandle | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.blocks: deque[Block] = deque(maxlen=KEPT)
        self.counts: dict[tuple[str, str], int] = {}
        """(agent, handler) -> how often it blocked; empty names: the engine itself."""
        self.durations = DurationHistogram()

    def __enter__(self) -> Watchdog:
        if self._limit > 0:
            self._loop = asyncio.get_running_loop()
            self._watched = threading.get_ident()
            self._beat()
            run = copy_context().run  # for the log
            self._thread = threading.Thread(target=run, args=(self._watch,), name="amx-watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._next is not None:
            self._next.cancel()
        if self._thread is not None:
            self._thread.join()

    def _beat(self) -> None:
        assert self._loop is not None
        self._at = monotonic()
        self._next = self._loop.call_later(self._interval, self._beat)

    def metrics(self) -> Iterable[Metric]:
        """For Prometheus."""
        blocks = families.counter(
            "amx_loop_blocks", "Times that the event loop stood still.", labels=("agent_name", "handler_name")
        )
        for names, count in list(self.counts.items()):
            blocks.add_metric(names, count)
        yield blocks
        yield families.histogram(
            "amx_loop_block_duration_seconds",
            "Seconds for which the event loop stood still.",
            buckets=self.durations.buckets(),
            sum_value=self.durations.total_seconds,
        )

    def _watch(self) -> None:
        found: Block | None = None
        of = 0.0  # the beat after which it began
        looked = monotonic()
        while not self._stop.wait(self._interval):
            beat, before, looked = self._at, looked, monotonic()
            if found is not None and beat != of:
                self._ended(found, max(self._limit, beat - of - self._interval))
                found = None
            if looked - before > self._limit + self._interval:
                continue  # this thread did not run either: the whole process stood still
            if found is None and looked - beat > self._limit + self._interval:
                of = beat
                found = self._look(looked - beat - self._interval)

    def _look(self, seconds: float) -> Block:
        frame = sys._current_frames().get(self._watched)
        namespace, instance, handler = _who(frame)
        block = Block(
            int((time() - seconds) * 1000), seconds, namespace, instance, handler, _where(frame, bool(instance))
        )
        agent, _, key = instance.partition("/")
        log.warning("loop_blocked", agent=agent, key=key, handler=handler, place=block.place, seconds=round(seconds, 3))
        return block

    def _ended(self, found: Block, seconds: float) -> None:
        block = replace(found, seconds=seconds)
        agent, _, key = block.instance.partition("/")
        name = (agent, block.handler)
        self.counts[name] = self.counts.get(name, 0) + 1
        self.durations.observe(seconds)
        self.blocks.appendleft(block)
        log.warning("loop_free", agent=agent, key=key, handler=block.handler, seconds=round(seconds, 3))
        if self._told is not None:
            self._told(block)


def _who(frame: FrameType | None) -> tuple[str, str, str]:
    """(namespace, `agent/key`, handler) of the step that the frame is in; empty if it is in none."""
    while frame is not None:
        if frame.f_code.co_filename.endswith(_RUNNER) and "run" in frame.f_code.co_varnames:
            run: Any = frame.f_locals.get("run")
            if run is not None:
                instance, _, handler = run.source.rpartition("#")
                namespace = getattr(run.runner.services.turns, "namespace", "")
                return namespace, instance or handler, handler if instance else ""
        frame = frame.f_back
    return "", "", ""


def _where(frame: FrameType | None, in_step: bool) -> str:
    """The innermost frame of a handler's own code, or, outside of steps, of the engine's."""
    innermost = frame
    while frame is not None:
        name = frame.f_code.co_filename
        if in_step and name.endswith(_RUNNER):
            break
        library = any(part in name for part in _LIBRARIES) and not any(part in name for part in _OURS)
        if not library and not (in_step and any(part in name for part in _OURS)):
            return _place(frame)
        frame = frame.f_back
    return _place(innermost)  # a library's from its first line


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return "unknown"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
