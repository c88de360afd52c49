"""A real engine with its gRPC server, started, moved through time and stopped by lines of JSON on standard input.

The runner keeps it as a child process: `python -m conformance.engine_host`. One engine at a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from typing import Any

_QUIET_ROUNDS = 3
_SETTLE_SECONDS = 30.0
_DAY = 86_400.0


class Host:
    """Holds the engine. Every method is an operation, named by `op`; its keyword arguments are the rest of the line."""

    def __init__(self) -> None:
        self._stack: AsyncExitStack | None = None
        self._engine: Any = None
        self._server: Any = None
        self._clock: Any = None
        self._stopping: asyncio.Task[None] | None = None

    async def start(self, settings: dict[str, Any], manual: bool, start_ms: int) -> dict[str, Any]:
        """Starts an engine. settings: by dotted name. manual: its clock moves by `advance` only."""
        from amx_engine._transport import _grpc

        _grpc()  # gRPC reads its settings when it is imported first
        from amx_server.api.server import Server
        from amx_server.core.clock import ManualClock
        from amx_server.core.config import load_config
        from amx_server.runtime.engine import Engine

        settings = {"http.enabled": False, "grpc.port": 0, "logging.level": "error", **settings}
        if manual:
            settings.setdefault("links.heartbeat_interval", _DAY)
        config = load_config(os.devnull, settings, environment={})
        self._clock = ManualClock(start_ms) if manual else None
        stack = AsyncExitStack()
        try:
            self._engine = await stack.enter_async_context(Engine(config, self._clock, ticking=not manual))
            self._server = await stack.enter_async_context(Server(self._engine, config))
        except BaseException:
            await stack.aclose()
            raise
        self._stack = stack
        self._config = config
        return {"address": self._server.grpc_address}

    async def settle(self) -> dict[str, Any]:
        """Returns when everything is stored and the engine has nothing to do."""
        engine = self._engine
        until = asyncio.get_running_loop().time() + _SETTLE_SECONDS
        quiet = 0
        while quiet < _QUIET_ROUNDS:
            before = _progress(engine)
            for _ in range(4):
                await asyncio.sleep(0)
            await engine.store.flush()
            quiet = quiet + 1 if _progress(engine) == before else 0
            if asyncio.get_running_loop().time() > until:
                raise TimeoutError(f"the engine did not come to rest within {_SETTLE_SECONDS:.0f} s")
        return {}

    async def disconnected(self, link_id: str) -> dict[str, Any]:
        """Returns when the engine has noticed that the link has no connection."""
        until = asyncio.get_running_loop().time() + _SETTLE_SECONDS
        while any(link.link_id == link_id and link.connected for link in self._engine.links.sessions.values()):
            if asyncio.get_running_loop().time() > until:
                raise TimeoutError(f"the engine still takes the link '{link_id}' for connected")
            await asyncio.sleep(0.002)
        return {}

    async def advance(self, ms: int) -> dict[str, Any]:
        """Moves the clock and lets the engine do what is due."""
        self._clock.advance(ms / 1000)
        for _ in range(2):
            self._engine.tick()
            await self.settle()
        return {"now_ms": self._clock.now_ms()}

    async def stop(self) -> dict[str, Any]:
        """Begins to stop politely; `stopped` waits for the end."""
        self._stopping = asyncio.create_task(self._stop())
        return {}

    async def _stop(self) -> None:
        await self._server.not_serving()
        await self._engine.drain(self._config.shutdown_deadline)
        await self.end()

    async def stopped(self) -> dict[str, Any]:
        """Returns when the polite stop is over."""
        if self._stopping is not None:
            await self._stopping
            self._stopping = None
        return {}

    async def end(self) -> dict[str, Any]:
        """Ends the engine without letting anything finish."""
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()
        return {}


def _progress(engine: Any) -> tuple[int, ...]:
    """Changes whenever something happens."""
    sessions = engine.links.sessions.values()
    return (
        engine.work_done(),
        *(number for session in sessions for number in (session.outbox.last_seq, session.outbox.received)),
    )


async def serve() -> None:
    """Carries out line after line; ends with its input. Operations run one after the other but for `stopped`."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=16 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    output = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing else may write between the lines
    host = Host()
    while line := await reader.readline():
        said = json.loads(line)
        operation = getattr(host, said.pop("op"))
        try:
            answer = await operation(**said)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        output.write(json.dumps(answer) + "\n")
    await host.end()


def main() -> None:
    """The program."""
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
