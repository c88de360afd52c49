"""Starts and ends the processes of a measured system; the parent's end of child.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parent.parent
STOP_TIMEOUT_S = 10.0


class BenchmarkError(Exception):
    """A benchmark could not be run; the text says which process failed, where, and the end of its log."""


class Absent(BenchmarkError):
    """One load cannot be measured here; the text says what is missing, and how to get it."""


def free_port() -> int:
    """A TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """One process in its own process group, logging to a file. An async context manager: leaving it ends the group."""

    ends_with_input = False  # it ends by itself when its standard input does

    def __init__(self, name: str, argv: list[str], log_dir: Path, env: dict[str, str] | None = None) -> None:
        self.name = name
        self._argv = argv
        self._env = os.environ | {"PYTHONPATH": self._python_path()} | (env or {})
        self._log_path = log_dir / f"{name}.log"
        self._log: IO[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @staticmethod
    def _python_path() -> str:
        return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))

    @property
    def pid(self) -> int:
        """Process id; raises BenchmarkError before the process was started."""
        return self._running().pid

    async def __aenter__(self) -> Self:
        self._log = self._log_path.open("ab")
        try:
            await self._spawn()
        except BaseException:
            await self._end()
            raise
        return self

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=self._stdout(),
            stderr=self._log,
            env=self._env,
            cwd=self._log_path.parent,
            start_new_session=True,
            limit=1 << 20,
        )

    def _stdout(self) -> int | IO[bytes]:
        assert self._log is not None
        return self._log

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise BenchmarkError(f"process {self.name} is not running")
        return self._process

    async def listening(self, port: int, timeout_s: float = 60.0) -> None:
        """Returns when something accepts connections on the port; raises BenchmarkError if the process ends first."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            if self._running().returncode is not None or time.monotonic() > deadline:
                raise self.failure(f"does not listen on port {port}")
            await asyncio.sleep(0.05)

    def failure(self, what: str) -> BenchmarkError:
        """An error about this process, with the end of its log."""
        log = self._log_path.read_text(errors="replace").strip()[-1000:] if self._log_path.exists() else ""
        return BenchmarkError(f"process {self.name}: {what}\n{log}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()
            if not (self.ends_with_input and await self._ended_within(STOP_TIMEOUT_S)):
                self._signal(signal.SIGTERM)
                await self._ended_within(STOP_TIMEOUT_S)
        if process is not None:
            self._signal(signal.SIGKILL)  # what is left of the group
            await process.wait()
        if self._log is not None:
            self._log.close()

    async def _ended_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._running().wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._running().pid, number)


class Child(Process):
    """A process that runs child.obey()."""

    ends_with_input = True

    def __init__(self, name: str, argv: list[str], log_dir: Path, env: dict[str, str] | None = None) -> None:
        super().__init__(name, argv, log_dir, env)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self._reader: asyncio.Task[None] | None = None

    def _stdout(self) -> int | IO[bytes]:
        return asyncio.subprocess.PIPE

    async def _spawn(self) -> None:
        await super()._spawn()
        ready = self._waiting[0] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())
        await asyncio.wait_for(ready, 60)

    async def _read(self) -> None:
        answers = self._running().stdout
        assert answers is not None
        while line := await answers.readline():
            answer = json.loads(line)
            future = self._waiting.pop(answer["id"])
            if future.done():
                continue
            if "error" in answer:
                future.set_exception(self.failure(answer["error"]))
            else:
                future.set_result(answer["result"])
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self.failure("ended unexpectedly"))

    async def ask(self, operation: str, *, timeout_s: float = 120.0, **arguments: Any) -> Any:
        """Runs one operation in the child. Raises BenchmarkError if it failed, the child ended, or time ran out."""
        self._last_id += 1
        future = self._waiting[self._last_id] = asyncio.get_running_loop().create_future()
        stdin = self._running().stdin
        assert stdin is not None
        command = {"id": self._last_id, "operation": operation, "arguments": arguments}
        stdin.write(json.dumps(command).encode() + b"\n")
        try:
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise self.failure(f"did not answer '{operation}' within {timeout_s:.0f} s") from None

    async def _end(self) -> None:
        await super()._end()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)
            for future in self._waiting.values():
                if future.done():
                    future.exception()
