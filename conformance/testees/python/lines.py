"""`--stdio`: the SDK's link, with JSON lines for a transport and a clock that only the other side moves."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from heapq import heappop, heappush
from typing import Any, TypeVarTuple, Unpack

from google.protobuf import json_format

from amx.v1 import link_pb2
from amx_engine._definition import HostedAgent
from amx_engine._errors import AmxError
from amx_engine._link import Link
from amx_engine._transport import Connection, ConnectionLost

Ts = TypeVarTuple("Ts")

logger = logging.getLogger("testee")

_LONGEST_LINE = 1 << 28
_PATIENCE_SECONDS = 1e9
_DRAIN_SECONDS = 30.0
_QUIET_ROUNDS = 3  # what is due runs in the round after the one that notices it


class StillLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still until it is moved. Files, threads and tasks work as ever."""

    def __init__(self) -> None:
        self._clock = 1000.0
        self._due: list[float] = []
        self.scheduled = 0  # callbacks so far
        super().__init__()

    def time(self) -> float:
        return self._clock

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        heappush(self._due, when)
        return super().call_at(when, callback, *args, context=context)

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self.scheduled += 1
        return super().call_soon(callback, *args, context=context)

    async def settle(self) -> None:
        """Returns when nothing is left to do without further input, time, or threads."""
        quiet = 0
        while quiet < _QUIET_ROUNDS:
            before = self.scheduled
            await asyncio.sleep(0)
            quiet = quiet + 1 if self.scheduled == before + 1 else 0  # nothing but this was scheduled

    async def advance(self, seconds: float) -> None:
        """Moves the clock from one due time to the next, and lets everything happen at each."""
        await self.settle()
        end = self._clock + seconds
        while self._due and self._due[0] <= end:
            # An event loop takes what is due within its clock's resolution.
            self._clock = max(self._clock, heappop(self._due))
            await self.settle()
        self._clock = end
        await self.settle()


class Lines:
    """What is said and heard on standard output and input."""

    def __init__(self) -> None:
        self._out = sys.stdout.buffer

    def say(self, line: dict[str, Any]) -> None:
        self._out.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._out.flush()

    async def hear(self) -> asyncio.StreamReader:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_LONGEST_LINE)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
        return reader


class LineConnector:
    """Asks for connections with `{"connect": {}}`; `open` grants them."""

    address = "the other end of standard input and output"

    def __init__(self, lines: Lines) -> None:
        self.connection: LineConnection | None = None
        self._lines = lines
        self._asked: asyncio.Future[LineConnection] | None = None

    async def connect(self) -> Connection:
        self._asked = asyncio.get_running_loop().create_future()
        self._lines.say({"connect": {}})
        return await self._asked

    def open(self) -> None:
        if self._asked is None or self._asked.done():
            raise SystemExit("there is an open connection, or none was asked for: {'open'} must wait for {'connect'}")
        self.connection = LineConnection(self._lines)
        self._asked.set_result(self.connection)


class LineConnection:
    """A pipe of frames, as ProtoJSON."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._arrived: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._lost = ""
        self._told = False

    # From the other side

    def arrive(self, frame: bytes) -> None:
        self._arrived.append(frame)
        self._wake()

    def lose(self, why: str) -> None:
        self._lost = why or "the connection was lost"
        self._told = True
        self._wake()

    # From the SDK

    async def write(self, frame: bytes) -> None:
        if self._lost:
            raise ConnectionLost(self._lost)
        parsed = link_pb2.LinkFrame.FromString(frame)
        self._lines.say({"frame": json_format.MessageToDict(parsed, preserving_proto_field_name=True)})

    async def read(self) -> bytes:
        while not self._arrived:
            if self._lost:
                raise ConnectionLost(self._lost)
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._arrived.popleft()

    def abort(self) -> None:
        self._close("aborted")

    async def close(self) -> None:
        self._close("closed")

    def _close(self, why: str) -> None:
        if not self._lost:
            self._lost = why
            self._wake()
        if not self._told:
            self._told = True
            self._lines.say({"close": why})

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class StdioTestee:
    """Serves the lines of conformance/README.md until `stop`, or the end of input."""

    def __init__(self, loop: StillLoop, agents: Iterable[HostedAgent], credit: int) -> None:
        self._loop = loop
        self._lines = Lines()
        self._connector = LineConnector(self._lines)
        self._agents = list(agents)
        self._link = Link(self._connector, self._agents, concurrency=credit, clock=loop.time, now=loop.time)
        self._opening: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def run(self) -> None:
        self._opening = asyncio.create_task(self._open())
        reader = await self._lines.hear()
        while True:
            reading = asyncio.ensure_future(reader.readline())
            waiting: list[asyncio.Future[Any]] = [reading]
            if self._stopping is not None:
                waiting.append(self._stopping)
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping is not None and self._stopping.done():
                self._stopping.result()
                self._lines.say({"stopped": {}})
                return
            line = reading.result()
            if not line:
                os._exit(0)  # at once: whoever wrote the lines is gone
            await self._take(json.loads(line))

    async def _open(self) -> None:
        try:
            await self._link.open(_PATIENCE_SECONDS)
        except AmxError as error:
            logger.warning("the link is over: %s %s", error.reason, error.message)

    async def _take(self, line: dict[str, Any]) -> None:
        ((kind, what),) = line.items()
        connection = self._connector.connection
        if kind == "open":
            self._connector.open()
        elif kind in ("frame", "raw", "closed"):
            if connection is None:
                raise SystemExit(f"there is no connection that {{'{kind}'}} could be about")
            if kind == "frame":
                connection.arrive(json_format.ParseDict(what, link_pb2.LinkFrame()).SerializeToString())
            elif kind == "raw":
                connection.arrive(base64.b64decode(what))
            else:
                connection.lose(what)
        elif kind == "advance_ms":
            await self._loop.advance(what / 1000)
            self._lines.say({"advanced": what})
        elif kind == "stop":
            self._stopping = asyncio.create_task(self._stop())
        else:
            raise SystemExit(f"{{'{kind}'}} is not a line that this testee knows")
        await self._loop.settle()

    async def _stop(self) -> None:
        await self._link.close(_DRAIN_SECONDS)
        for agent in self._agents:
            await agent.close()


def serve_lines(agents: Iterable[type], credit: int) -> None:
    """Runs the testee until it is stopped, or its input ends."""
    loop = StillLoop()

    async def main() -> None:
        testee = StdioTestee(loop, [HostedAgent.of(agent) for agent in agents], credit)
        await testee.run()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
