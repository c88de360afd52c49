"""Real processes to test with: an engine, workers, a network between them that can fail, and peers without an SDK.

No tests here. Waiting means asking again until a deadline; nothing relies on how long something takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from amx.v1 import agent_pb2, common_pb2, engine_pb2, engine_pb2_grpc, link_pb2
from amx_engine import AmxEngine

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0  # seconds: far more than anything needs, so that only what never happens fails


async def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """The first true value that `condition`, plain or a coroutine function, returns. Fails the test without one."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s in vain for {what}")
        await asyncio.sleep(0.02)


# --- processes -------------------------------------------------------------------------------------------------------


class Process:
    """A Python process whose output goes to a file; it can be started again after it ended."""

    def __init__(self, name: str, arguments: list[str], folder: Path, environment: Mapping[str, str] = {}) -> None:
        self.name = name
        self.arguments = arguments
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._environment = dict(environment)
        self.running: subprocess.Popen[bytes] | None = None
        self.limits: Callable[[], None] | None = None  # called in the child before Python starts

    def launch(self) -> None:
        """Starts the process and returns at once; its log begins anew.

        Output is buffered: unbuffered, `print` writes a line and its end apart, and another one comes between them."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AMX", "PYTHONUNBUFFERED"))}
        roots = os.pathsep.join(str(ROOT / part) for part in ("server", "sdk-python", "."))
        with self.log.open("wb") as log:
            self.running = subprocess.Popen(
                [sys.executable, *self.arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**kept, "PYTHONPATH": roots, **self._environment},
                preexec_fn=self.limits,
            )

    @property
    def output(self) -> str:
        """What it has printed since it was started."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def pid(self) -> int:
        assert self.running is not None
        return self.running.pid

    @property
    def alive(self) -> bool:
        return self.running is not None and self.running.poll() is None

    def wait_for(self, pattern: str, seconds: float = PATIENCE) -> re.Match[str]:
        """The first match in what it prints. Fails the test if it ends before, or says it too late."""
        deadline = time.monotonic() + seconds
        while True:
            alive = self.alive
            if match := re.search(pattern, self.output):
                return match
            if not alive or time.monotonic() > deadline:
                pytest.fail(f"{self.name} {'never said' if alive else 'ended without'} {pattern!r}:\n{self.output}")
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        assert self.running is not None
        self.running.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        if self.running is not None:
            self.running.kill()
            self.running.wait()

    def stop(self, seconds: float = PATIENCE) -> int:
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.ended(seconds)

    def ended(self, seconds: float = PATIENCE) -> int:
        """The exit code, once it has one. Kills it, and fails the test, if it does not end in time."""
        assert self.running is not None
        try:
            return self.running.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"{self.name} did not end within {seconds:.0f} s:\n{self.output}")

    def resident_bytes(self) -> int:
        """Its resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class EngineProcess(Process):
    """`amx serve` on a store of its own. Keeps its port when it is started again."""

    def __init__(
        self,
        folder: Path,
        *settings: str,
        data: Path | None = None,
        entry: tuple[str, ...] = ("-m", "amx_server.cli"),
        environment: Mapping[str, str] = {},
        workers: int = 0,
        load: str = "",
    ) -> None:
        """workers: engine processes that share the address; 0: the process itself is the engine. load: a module in the
        folder whose agents it hosts.
        """
        self.workers = workers
        self.load = ["--load", load] if load else []
        self.data = (data or folder).resolve()
        self.entry = entry
        self.settings = [f"storage.path={self.data / 'amx.db'}", "http.port=0", *settings]
        self.port = 0
        self.address = ""
        self.http = ""
        super().__init__("engine", [], folder, environment)

    def launch(self) -> None:
        settings = [part for setting in (f"grpc.port={self.port}", *self.settings) for part in ("--set", setting)]
        workers = ["--workers", str(self.workers)] if self.workers else []
        self.arguments = [*self.entry, "serve", *workers, *self.load, *settings]
        super().launch()

    def start(self) -> EngineProcess:
        """Returns when it listens."""
        self.launch()
        match = self.wait_for(r"amx engine: gRPC on (\S+:(\d+)), HTTP on (\S+)\n")
        self.address, self.port, self.http = match[1], int(match[2]), match[3]
        return self

    async def restart(self) -> None:
        """SIGKILL, and the same again; the caller's event loop runs meanwhile."""
        await asyncio.to_thread(self.kill)
        await asyncio.to_thread(self.start)


@contextlib.contextmanager
def engine_process(folder: Path, *settings: str, **options: Any) -> Iterator[EngineProcess]:
    """A running engine, killed at the end: what a test wants to know of a polite end it asks for itself."""
    engine = EngineProcess(folder, *settings, **options)
    try:
        yield engine.start()
    finally:
        engine.kill()


class WorkerProcess(Process):
    """A process that hosts agents of `tests.process.agents` until SIGTERM."""

    def __init__(self, folder: Path, address: str, *agents: str, name: str = "worker", **environment: str) -> None:
        super().__init__(name, ["-m", "tests.process.agents", *agents], folder, {"AMX_ADDRESS": address, **environment})

    def start(self) -> WorkerProcess:
        """Returns when the engine has its agents."""
        self.launch()
        self.wait_for("hosting")
        return self


@contextlib.contextmanager
def worker_process(
    folder: Path, address: str, *agents: str, name: str = "worker", **env: str
) -> Iterator[WorkerProcess]:
    """A running worker, killed at the end."""
    worker = WorkerProcess(folder, address, *agents, name=name, **env)
    try:
        yield worker.start()
    finally:
        if worker.alive:
            worker.signal(signal.SIGCONT)
        worker.kill()


# --- peers in this process -------------------------------------------------------------------------------------------


def client(address: str, *agents: Any, token: str = "", **tls: Any) -> AmxEngine:
    """An application of the SDK in this process; `async with` starts it."""
    builder = AmxEngine.builder().with_address(address)
    for agent in agents:
        builder = builder.with_agent(agent)
    if token:
        builder = builder.with_token(token)
    if tls:
        builder = builder.with_tls(**tls)
    return builder.build()


@contextlib.asynccontextmanager
async def unary(address: str) -> AsyncIterator[engine_pb2_grpc.EngineServiceAsyncStub]:
    """EngineService over plain gRPC."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield engine_pb2_grpc.EngineServiceStub(channel)


async def hosted(address: str, agent: str) -> None:
    """Returns when a connected process hosts the agent: right after a restart of the engine it may take a moment."""
    async with unary(address) as stub:

        async def has_link() -> bool:
            answer = await stub.GetAgent(engine_pb2.GetAgentRequest(name=agent))
            return any(version.active and version.links for version in answer.agent.versions)

        await until(has_link, f"a process that hosts {agent}")


def definition(name: str, *handlers: str, **fields: Any) -> agent_pb2.AgentDefinition:
    """An agent for a RawLink; with no handler given it has one called `handle`."""
    result = agent_pb2.AgentDefinition(name=name, version="1.0.0", **fields)
    result.handlers.extend(agent_pb2.HandlerDefinition(name=handler) for handler in handlers or ("handle",))
    return result


def json_payload(value: object) -> common_pb2.Payload:
    return common_pb2.Payload(data=json.dumps(value).encode())


class RawLink:
    """A peer that speaks the link protocol by hand, and may break it."""

    def __init__(self, address: str, link_id: str) -> None:
        self._channel = grpc.aio.insecure_channel(
            address, options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        )
        self.link_id = link_id
        self.call: Any = self._channel.stream_stream("/amx.v1.LinkService/Open")()
        self.seq = 0
        self.received = 0
        self._items: deque[link_pb2.LinkItem] = deque()  # arrived, not yet asked for

    async def __aenter__(self) -> RawLink:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()
        await self._channel.close()

    async def open(self, *agents: agent_pb2.AgentDefinition, **fields: Any) -> link_pb2.Welcome:
        """The handshake; fails the test if the engine refuses."""
        fields = {"credit": 100, "protocol_min": 1, "protocol_max": 1, **fields}
        frame = link_pb2.LinkFrame()
        frame.items.add().hello.CopyFrom(link_pb2.Hello(link_id=self.link_id, agents=agents, **fields))
        await self.write(frame.SerializeToString())
        (item,) = (await self.read()).items
        assert item.HasField("welcome"), item
        return item.welcome

    async def write(self, data: bytes) -> None:
        """Sends bytes as they are."""
        await asyncio.wait_for(self.call.write(data), PATIENCE)

    async def send(self, *items: link_pb2.LinkItem) -> None:
        """Sends items as the next frame."""
        self.seq += 1
        await self.write(link_pb2.LinkFrame(items=items, seq=self.seq, ack=self.received).SerializeToString())

    async def read(self) -> link_pb2.LinkFrame:
        """The next frame. Fails the test if there is none."""
        data = await asyncio.wait_for(self.call.read(), PATIENCE)
        assert data is not grpc.aio.EOF, "the engine ended the link"
        frame = link_pb2.LinkFrame.FromString(data)
        self.received = max(self.received, frame.seq)
        return frame

    async def next(self, kind: str) -> link_pb2.LinkItem:
        """The next item of this kind; pings are answered, others passed over. Fails the test if none comes."""
        async with asyncio.timeout(PATIENCE):
            while True:
                while self._items:
                    item = self._items.popleft()
                    if item.HasField("ping"):
                        pong = link_pb2.LinkItem()
                        pong.pong.nonce = item.ping.nonce
                        await self.send(pong)
                    if item.WhichOneof("item") == kind:
                        return item
                self._items.extend((await self.read()).items)

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """Reads until the engine ends the link, and returns how: status and message."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while await asyncio.wait_for(self.call.read(), PATIENCE) is not grpc.aio.EOF:
                pass
        return await self.call.code(), await self.call.details()


# --- a network that fails --------------------------------------------------------------------------------------------


class Proxy:
    """A TCP connection to `target` that can be cut, stalled (half open: nothing arrives, nobody is told) or slow."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.refusing = False  # new connections are closed at once
        self.delay = 0.0  # seconds by which every piece is late
        self.connections = 0  # made so far

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Resets every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def stall(self) -> None:
        """From now on nothing arrives anywhere; connections stay open, and new ones are accepted."""
        self._flowing.clear()

    def flow(self) -> None:
        """Ends a stall: what was under way arrives."""
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        if self.refusing:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            self._writers.add(far_writer)
            ways = [self._copy(reader, far_writer), self._copy(far_reader, writer)]
            await asyncio.gather(*ways)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
