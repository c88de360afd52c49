"""A helper process: hosts the agents of some modules that compute, for the engine process that started it.

Its standard input is the socket to the engine. When that ends, the engine has gone or let go of it, and the helper
ends, whatever runs; SIGTERM asks it to finish what runs first. Its log goes to standard error, and over a second socket
to the engine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amx_engine._errors import FAILED_PRECONDITION, AmxError, DefinitionError
from amx_engine._transport import Connection, ConnectionLost
from amx_server.cli.exits import FAILED, OK
from amx_server.cli.hosting.frames import FrameStream
from amx_server.cli.hosting.loading import compiled, complain, computes
from amx_server.cli.hosting.log_lines import LogSender
from amx_server.cli.modules import AgentModules, ModuleError
from amx_server.cli.parent import end_with_parent

if TYPE_CHECKING:
    from amx_engine._definition import HostedAgent

# What one helper takes on at a time. Its link is preferred the less it has to do, so this bounds only the worst case:
# handlers that wait for others leave room for those, and threads that compute share one interpreter lock.
CONCURRENCY = 64
THREADS = 4


@dataclass(frozen=True, slots=True)
class HelperTask:
    """What a helper is to do, as its one argument.

    modules: as --load names them. folder: where they are. patience: seconds for what runs when asked to stop. engine:
    process id of the engine. level, format: of the log.
    """

    modules: tuple[str, ...]
    folder: str
    patience: float
    engine: int
    level: str
    format: str

    def to_argument(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> HelperTask:
        """The other way."""
        fields = json.loads(text)
        return cls(**{**fields, "modules": tuple(fields["modules"])})


def main(argument: str, lines: int) -> int:
    """Runs a helper. lines: the socket for its log. Returns the exit code, or ends the process."""
    task = HelperTask.from_argument(argument)
    end_with_parent(task.engine)
    os.set_inheritable(lines, False)
    # Ctrl-C reaches every process of a terminal; the engine decides when its helpers stop. A function rather than
    # SIG_IGN, which programs that agents start would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    end = _standard_input_as_socket()
    try:
        modules = AgentModules(task.modules, Path(task.folder))
        agents = [agent for agent in compiled(modules.load()) if computes(agent)]
    except (ModuleError, DefinitionError) as error:
        complain(error)
        return FAILED
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        code = runner.run(_host(task, agents, end, socket.socket(fileno=lines)))
        # A thread that still computes would keep the interpreter from ending, and nobody waits for it any more.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


async def _host(task: HelperTask, agents: list[HostedAgent], end: socket.socket, lines: socket.socket) -> int:
    from amx_engine._collector import rare_collections
    from amx_engine._link import Link
    from amx_server.core.config import LoggingConfig
    from amx_server.telemetry.logs import EngineLog

    loop = asyncio.get_running_loop()
    # None of its lines is kept: the engine keeps them.
    log = EngineLog(LoggingConfig.read({"level": task.level, "format": task.format, "kept_lines": 1}))
    sender = LogSender(lines, loop)
    log.hand_on(sender.send)
    asked = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    connector = _SocketConnector(end)
    link = Link(connector, agents, concurrency=CONCURRENCY, threads=THREADS)
    with contextlib.closing(sender), log.standard_logging(logging.INFO), rare_collections():
        try:
            await link.open(0)
        except AmxError:
            await link.close(0)
            return FAILED  # the engine knows why, and says so
        waiting = [asyncio.ensure_future(connector.ended.wait()), asyncio.ensure_future(asked.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not connector.ended.is_set():
            await link.close(task.patience)
            for agent in agents:
                await agent.close()
    return OK


class _SocketConnector:
    """Reaches the engine over the one socket there is; when that has ended, so has the helper."""

    address = "the engine that started this process"

    def __init__(self, end: socket.socket) -> None:
        self._end: socket.socket | None = end
        self.ended = asyncio.Event()

    async def connect(self) -> Connection:
        end, self._end = self._end, None
        if end is None:
            raise ConnectionLost(
                "the engine is gone",
                AmxError(FAILED_PRECONDITION, "SHUTTING_DOWN", "the engine that started this process is gone"),
            )
        return _SocketConnection(await FrameStream.over(end), self.ended)


class _SocketConnection:
    def __init__(self, frames: FrameStream, ended: asyncio.Event) -> None:
        self._frames = frames
        self._ended = ended

    async def write(self, frame: bytes) -> None:
        if not await self._frames.write(frame):
            raise self._lost()

    async def read(self) -> bytes:
        frame = await self._frames.read()
        if frame is None:
            raise self._lost()
        return frame

    def _lost(self) -> ConnectionLost:
        self._ended.set()
        return ConnectionLost("the engine closed the socket")

    def abort(self) -> None:
        self._ended.set()
        self._frames.abort()

    async def close(self) -> None:
        await self._frames.close()


def _standard_input_as_socket() -> socket.socket:
    """The socket that came as standard input, which is empty from now on for whatever the agents import."""
    end = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return end


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
