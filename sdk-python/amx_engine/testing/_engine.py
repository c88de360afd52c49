"""EmbeddedEngine: a real engine in the test's process, with agents, and with time in the test's hands."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from amx_engine._client import AmxEngine
from amx_engine._definition import HostedAgent
from amx_engine._embedded import EmbeddedProcess
from amx_engine._errors import INVALID_ARGUMENT, AmxError

if TYPE_CHECKING:
    from amx_server.core.config import EngineConfig
    from amx_server.runtime.engine import Engine

_SETTLE_SECONDS = 10.0
_HEARTBEAT_SECONDS = 4_000_000.0


class EmbeddedEngine(AmxEngine):
    """An AmxEngine with its engine inside, and a clock that only `advance` moves.

        async with EmbeddedEngine(Reminder) as engine:
            await engine.request("Reminder", {"in": "1h"})
            await engine.advance(timedelta(hours=1))

    agents: classes or objects. data_dir: where it stores; None: in memory only; give one to start again from what an
    earlier one stored. start_ms: what its clock shows first, in milliseconds since the Unix epoch, UTC. engine_config:
    settings of the engine itself.

    Deadlines, retries, schedules, expiry and hibernation go by that clock; `asyncio.sleep` in handlers does not.
    """

    def __init__(
        self,
        *agents: Any,
        data_dir: str | os.PathLike[str] | None = None,
        start_ms: int = 1_700_000_000_000,
        config: Mapping[str, Any] | None = None,
        engine_config: EngineConfig | None = None,
    ) -> None:
        from amx_server.core.clock import ManualClock
        from amx_server.core.config import EngineConfig, LoggingConfig

        settings = engine_config or EngineConfig(logging=LoggingConfig(level="warning"))
        # Links live in real time: a clock that jumps by hours must not make them look dead.
        links = settings.links.replace(heartbeat_interval=_HEARTBEAT_SECONDS)
        settings = settings.replace(links=links)
        self.clock = ManualClock(start_ms)
        self._process = EmbeddedProcess(data_dir, self.clock, config=settings, ticking=False)
        super().__init__(
            agents=[HostedAgent.of(agent) for agent in agents],
            address="embedded",
            address_is_default=False,
            token="",
            tls=None,
            embedded=self._process,
            connector=None,
            concurrency=256,
            threads=16,
            config=config or {},
        )

    async def advance(self, duration: timedelta | float, step: timedelta | float | None = None) -> None:
        """Moves the clock forward and returns when everything that fell due has been done.

        duration, step: timedeltas or seconds. The clock moves in steps, by default of a five hundredth of the whole and
        a second at least: what recurs faster than that runs less often than it would have.
        """
        total = _seconds(duration)
        size = max(1.0, total / 500) if step is None else _seconds(step)
        if total < 0 or size <= 0:
            raise AmxError(INVALID_ARGUMENT, "INVALID_TIME", "time moves forward only; give a positive duration")
        moved = 0.0
        while moved < total:
            this = min(size, total - moved)
            self.clock.advance(this)
            moved += this
            engine = self._process.engine
            assert engine is not None, "start the EmbeddedEngine first"
            engine.tick()
            await self.settle()

    async def settle(self) -> None:
        """Returns when nothing runs, is being stored, or is on its way. Raises AmxError NOT_SETTLED after 10 s."""
        engine = self._process.engine
        assert engine is not None, "start the EmbeddedEngine first"
        sessions = engine.links.sessions
        deadline = time.monotonic() + _SETTLE_SECONDS
        quiet = 0
        while quiet < 3:
            before = _progress(engine)
            for _ in range(4):
                await asyncio.sleep(0)
            await engine.store.flush()
            running = sum(session.in_flight for session in sessions.values()) + _unsettled(engine)
            quiet = quiet + 1 if not running and _progress(engine) == before else 0
            if time.monotonic() > deadline:
                raise AmxError(
                    INVALID_ARGUMENT,
                    "NOT_SETTLED",
                    f"{running} instances are still busy after {_SETTLE_SECONDS:.0f} s of real time; what do they"
                    " wait for?",
                )
            if running:
                await asyncio.sleep(0.001)


def _unsettled(engine: Engine) -> int:
    """Instances that run something, read their memory, or store messages."""
    agents = engine.namespace("default").agents.values()
    instances = [instance for agent in agents for instance in agent.instances.values()]
    return sum(bool(one.busy or one.loading or one.storing) for one in instances)


def _progress(engine: Engine) -> tuple[int, ...]:
    """Changes whenever something happens on a link."""
    return tuple(
        number
        for session in engine.links.sessions.values()
        for number in (session.outbox.last_seq, session.outbox.received)
    )


def _seconds(value: timedelta | float) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
