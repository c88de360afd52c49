"""A testee as a child process that speaks JSON lines over its standard input and output. Needs the standard library and
protobuf only.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from collections import deque
from collections.abc import Sequence
from typing import Any

from google.protobuf import json_format

from amx.v1 import link_pb2
from conformance.runner.cases import ROOT
from conformance.runner.peer import Broken, CaseFailure, WireClosed

_LINE_BYTES = 256 << 20
_STDERR_LINES = 40
_ADVANCE_SECONDS = 20.0


class Process:
    """A child process in a group of its own, whose standard error is kept."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._errors: deque[str] = deque(maxlen=_STDERR_LINES)
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(
        cls, command: Sequence[str], *, stdin: int | None = None, stdout: int | None = None, env: dict[str, str]
    ) -> Process:
        """Raises Broken if it cannot be started."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=stdin if stdin is not None else asyncio.subprocess.DEVNULL,
                stdout=stdout if stdout is not None else asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES,
                cwd=ROOT,
                env={**os.environ, **env},
                start_new_session=True,
            )
        except OSError as error:
            raise Broken(f"cannot start {' '.join(command)}: {error.strerror}") from None
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.returncode

    @property
    def stdin(self) -> asyncio.StreamWriter:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        assert self._process.stdout is not None
        return self._process.stdout

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        return await self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Signals the process and what it has started. Does nothing if it has ended."""
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    async def kill(self) -> None:
        """Ends it without asking."""
        if self._process.returncode is None:
            self.send_signal(signal.SIGKILL)
        await self._process.wait()
        await asyncio.wait([self._listening], timeout=1)
        self._listening.cancel()

    def complaints(self) -> list[str]:
        """The last lines of its standard error."""
        return list(self._errors)

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            self._errors.append(line.decode("utf-8", "replace").rstrip())


class StdioTestee:
    """A testee started with `--stdio`."""

    manual_time = True

    def __init__(self, process: Process) -> None:
        self._process = process
        self._wanted = asyncio.Event()
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._stopped = asyncio.Event()
        self._over = asyncio.Event()
        self._wire: _StdioWire | None = None
        self._stop_said = False
        self._problem = ""
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: Sequence[str], env: dict[str, str] | None = None) -> StdioTestee:
        """Raises Broken if it cannot be started."""
        pipe = asyncio.subprocess.PIPE
        return cls(await Process.start([*command, "--stdio"], stdin=pipe, stdout=pipe, env=env or {}))

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return not self._over.is_set() and self._process.code is None

    async def accept(self, within: float) -> _StdioWire:
        if not await self._happens(self._wanted, within):
            self._check_alive()
            raise CaseFailure("expected the SDK to ask for a connection; it did not in time")
        self._wanted.clear()
        self._wire = _StdioWire(self)
        await self.say({"open": {}})
        return self._wire

    async def wants_connection(self, within: float) -> bool:
        return await self._happens(self._wanted, within)

    async def advance(self, ms: int) -> None:
        await self.say({"advance_ms": ms})
        answer = asyncio.ensure_future(self._answers.get())
        over = asyncio.ensure_future(self._over.wait())
        done, _ = await asyncio.wait((answer, over), timeout=_ADVANCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if answer not in done:
            answer.cancel()
            self._check_alive()
            raise Broken(f"the testee did not answer advance_ms within {_ADVANCE_SECONDS:.0f} s")
        if answer.result().get("advanced") != ms:
            raise Broken(f"the testee answered advance_ms {ms} with {answer.result()}")

    async def stop(self) -> None:
        self._stop_said = True
        await self.say({"stop": {}})

    async def stopped(self, within: float) -> int:
        until = asyncio.get_running_loop().time() + within
        if not await self._happens(self._stopped, within):
            self._check_alive()
            raise CaseFailure("expected the SDK to stop; it did not in time")
        try:
            async with asyncio.timeout(max(1.0, until - asyncio.get_running_loop().time())):
                return await self._process.wait()
        except TimeoutError:
            raise CaseFailure("the testee said that it has stopped, and did not exit") from None

    async def kill(self) -> None:
        """Ends the process."""
        await self._process.kill()
        self._reading.cancel()
        await asyncio.wait([self._reading])

    def complaints(self) -> list[str]:
        return self._process.complaints()

    async def say(self, line: dict[str, Any]) -> None:
        """One line to the testee."""
        try:
            self._process.stdin.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            await self._process.stdin.drain()
        except OSError:
            await asyncio.wait([self._reading], timeout=2)
            self._check_alive()
            raise Broken("the testee does not read its standard input") from None

    async def _happens(self, event: asyncio.Event, within: float) -> bool:
        """Whether it happens in time, and before the testee ends."""
        if not event.is_set() and within > 0:
            waiting = asyncio.ensure_future(event.wait())
            over = asyncio.ensure_future(self._over.wait())
            await asyncio.wait((waiting, over), timeout=within, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            over.cancel()
        return event.is_set()

    def _check_alive(self) -> None:
        if self._problem:
            raise Broken(self._problem)
        if self._over.is_set():
            raise Broken(f"the testee has ended with exit code {self._process.code}")

    async def _read(self) -> None:
        try:
            while line := await self._process.stdout.readline():
                self._take(line)
        except Exception as error:
            self._problem = f"the testee wrote what is not a line of the contract: {error!r}"
        finally:
            if not self._problem:
                code = await self._process.wait()
                if not self._stopped.is_set():
                    self._problem = f"the testee ended unexpectedly with exit code {code}"
            self._over.set()
            if self._wire is not None:
                self._wire.ended(self._problem or "the testee has ended", died=bool(self._problem))

    def _take(self, line: bytes) -> None:
        said = json.loads(line)
        if "frame" in said:
            if self._wire is None:
                raise ValueError("a frame without a connection")
            self._wire.arrived(said["frame"])
        elif "connect" in said:
            self._wanted.set()
        elif "close" in said:
            if self._wire is not None:
                self._wire.ended(str(said["close"]))
        elif "advanced" in said:
            self._answers.put_nowait(said)
        elif "stopped" in said:
            self._stopped.set()
        else:
            raise ValueError(line.decode()[:200])


class _StdioWire:
    """A connection that exists in name only: the testee's core is told that there is one."""

    def __init__(self, testee: StdioTestee) -> None:
        self._testee = testee
        self._frames: asyncio.Queue[link_pb2.LinkFrame | WireClosed | Broken] = asyncio.Queue()
        self._closed = False

    def arrived(self, frame: dict[str, Any]) -> None:
        if not self._closed:
            self._frames.put_nowait(json_format.ParseDict(frame, link_pb2.LinkFrame()))

    def ended(self, reason: str, died: bool = False) -> None:
        if not self._closed:
            self._closed = True
            self._frames.put_nowait(Broken(reason) if died else WireClosed(reason))

    async def send(self, frame: link_pb2.LinkFrame) -> None:
        if not self._closed:
            said = json_format.MessageToDict(frame, preserving_proto_field_name=True)
            await self._testee.say({"frame": said})

    async def send_raw(self, data: bytes) -> None:
        if not self._closed:
            await self._testee.say({"raw": base64.b64encode(data).decode()})

    async def receive(self) -> link_pb2.LinkFrame:
        found = await self._frames.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def close(self, reason: str) -> None:
        if not self._closed:
            self._closed = True
            await self._testee.say({"closed": reason or "lost"})
