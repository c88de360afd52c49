"""The real engine in a child process, as the runner commands it. See `conformance.engine_host` for its other side."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conformance.runner.peer import Broken
from conformance.runner.stdio import Process

_ANSWER_SECONDS = 30.0
START_MS = 1_700_000_000_000
"""What a manual clock shows first: milliseconds since the Unix epoch, UTC."""


class EngineProcess:
    """A process that holds one engine at a time. Started with the first engine, and again after a kill."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._folder: Path | None = None
        self._settings: dict[str, Any] = {}
        self._manual = False
        self._now_ms = START_MS
        self._running = False
        self.address = ""
        """`host:port` of the engine."""

    async def start(self, settings: Mapping[str, Any], *, manual: bool = False, port: int = 0) -> None:
        """A new engine on a new store. Raises Broken, with what the engine says, if it cannot be started."""
        await self.end()
        self._folder = Path(tempfile.mkdtemp(prefix="amx-conformance-"))
        self._settings = {"storage.path": str(self._folder / "amx.db"), "grpc.port": port, **settings}
        self._manual = manual
        self._now_ms = START_MS
        await self._start()

    async def _start(self) -> None:
        answer = await self._ask("start", settings=self._settings, manual=self._manual, start_ms=self._now_ms)
        self.address = answer["address"]
        self._running = True

    async def advance(self, ms: int) -> None:
        """Moves the engine's clock; returns when it has done what was due. Time passes for a dead engine, too."""
        if not self._running:
            self._now_ms += ms
            return
        self._now_ms = (await self._ask("advance", ms=ms))["now_ms"]

    @property
    def running(self) -> bool:
        """Whether there is an engine now."""
        return self._running

    async def settle(self) -> None:
        """Returns when the engine has nothing to do."""
        if self._running:
            await self._ask("settle")

    async def disconnected(self, link_id: str) -> None:
        """Returns when the engine has noticed that a link lost its connection."""
        if self._running:
            await self._ask("disconnected", link_id=link_id)

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            await self._process.kill()
            self._process = None
        self._running = False

    async def stop(self) -> None:
        """Tells it to stop politely."""
        await self._ask("stop")

    async def stopped(self) -> None:
        """Returns when it has stopped."""
        await self._ask("stopped")
        self._running = False

    async def restart(self) -> None:
        """An engine on the same store and port, at the time that the last one had."""
        if self._running:
            await self._ask("end")
        port = int(self.address.rpartition(":")[2])
        self._settings["grpc.port"] = port
        await self._start()

    async def end(self) -> None:
        """Ends the engine and removes its store; the process stays for the next one."""
        if self._running and self._process is not None:
            try:
                await self._ask("end")
            except Broken:
                await self.kill()
        self._running = False
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    async def close(self) -> None:
        """Ends the process."""
        await self.kill()
        await self.end()

    def complaints(self) -> list[str]:
        """The last lines of the engine's log."""
        return self._process.complaints() if self._process is not None else []

    async def _ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        if self._process is None:
            pipe = asyncio.subprocess.PIPE
            command = [sys.executable, "-m", "conformance.engine_host"]
            self._process = await Process.start(command, stdin=pipe, stdout=pipe, env={})
        process = self._process
        try:
            process.stdin.write(json.dumps({"op": operation, **arguments}).encode() + b"\n")
            async with asyncio.timeout(_ANSWER_SECONDS):
                await process.stdin.drain()
                line = await process.stdout.readline()
        except (OSError, TimeoutError):
            line = b""
        if not line:
            complaints = "; ".join(process.complaints()[-3:])
            await self.kill()
            raise Broken(f"the engine's process does not answer '{operation}': {complaints or 'it says nothing'}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Broken(f"the engine cannot {operation}: {answer['error']}")
        return answer
