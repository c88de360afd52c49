"""The life of an engine process: start, serve until told to stop, drain within the deadline."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from amx_server.cli.exits import FAILED, INTERRUPTED, OK
from amx_server.core.collector import tuned_collector
from amx_server.core.errors import AmxError

if TYPE_CHECKING:
    from amx_server.api.server import Server
    from amx_server.core.config import EngineConfig
    from amx_server.runtime.engine import Engine

# What runs beside the engine, from when it serves until it drains.
Companion = Callable[["Engine", "Server"], AbstractAsyncContextManager[object]]

# After the shutdown deadline the process leaves, whatever still runs; this much later even if Python itself hangs.
_GRACE_S = 3.0

# However long the companion took to end, links get this long to hear that the engine leaves.
_LEAST_DRAIN_S = 0.5


def run_engine(config: EngineConfig, companion: Companion) -> int:
    """Runs an engine in this process until SIGTERM, SIGINT or a failure, and returns the exit code.

    The first signal stops politely: no new work, running handlers may finish until `shutdown_deadline`, everything
    acknowledged is on disk. A second one, or the deadline, stops at once; what was acknowledged is on disk then, too.
    """
    try:
        with asyncio.Runner(loop_factory=event_loops()) as runner:
            return runner.run(_serve(config, companion))
    except AmxError as error:
        print(f"amx: {error.message} [{error.reason}]", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"amx: {error}", file=sys.stderr)
        return FAILED


def event_loops() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes event loops: uvloop where it is installed, else None for asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(config: EngineConfig, companion: Companion) -> int:
    tune_grpc()
    from amx_server.api.server import Server
    from amx_server.runtime.engine import Engine

    async with (
        _stop_signals(config.shutdown_deadline) as stop,
        Engine(config) as engine,
        Server(engine, config) as server,
        tuned_collector(engine.work_done),
    ):
        async with companion(engine, server):
            stopped = asyncio.ensure_future(server.wait_stopped())
            signalled = asyncio.ensure_future(stop.wait())
            try:
                await asyncio.wait((stopped, signalled), return_when=asyncio.FIRST_COMPLETED)
            finally:
                signalled.cancel()
                stopped.cancel()
            stopping_at = asyncio.get_running_loop().time()
        await server.not_serving()
        left = config.shutdown_deadline - (asyncio.get_running_loop().time() - stopping_at)
        await engine.drain(max(left, _LEAST_DRAIN_S))
    return OK


@contextlib.asynccontextmanager
async def _stop_signals(deadline: float) -> AsyncIterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set. A second signal ends the process, as does the deadline after the first."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    watchdog: list[threading.Timer] = []

    def stopping() -> None:
        if stop.is_set():
            os._exit(INTERRUPTED)
        stop.set()
        timer = threading.Timer(deadline + _GRACE_S, _give_up, (deadline,))
        timer.daemon = True
        timer.start()
        watchdog.append(timer)

    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stopping)
    try:
        yield stop
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        for timer in watchdog:
            timer.cancel()


def tune_grpc() -> None:
    """Imports gRPC with the settings that make a lone call fastest; they are read when it is imported."""
    from amx_engine._transport import _grpc

    _grpc()


def _give_up(deadline: float) -> None:
    print(f"amx: not stopped after {deadline:g} s (shutdown_deadline); leaving", file=sys.stderr, flush=True)
    os._exit(FAILED)
