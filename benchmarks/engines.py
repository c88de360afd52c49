"""What a second engine process adds: requests to agents that the engines host themselves, from a cheap generator.

The generator writes frames that were made before, over sockets of its own (see `raw_link`), and counts replies by their
length, so that on two cores nearly all is left to the engines. `--workers 1` and `--workers 2` are loaded in turns,
several times each.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

from amx import wire
from amx.v1 import link_pb2
from amx_engine._ownership import owner_of
from amx_engine._transport import METHOD
from benchmarks import child
from benchmarks.load import Figures, payloads
from benchmarks.processes import Process
from benchmarks.raw_link import RawLink

AGENTS = """
from amx_engine import Agent, Message, handler

@Agent
class Echo:
    @handler
    async def echo(self, message: Message) -> Message:
        return message
"""
IN_FLIGHT = 1024  # of each engine
BATCH = 128  # requests of one frame
INSTANCES = 256  # of each engine
TURNS = 4
_SMALL = 64  # bytes: no frame with a reply is so short


class Generator:
    """Requests to one engine over one link; as many in flight as may be."""

    def __init__(self, address: str, number: int, engines: int) -> None:
        self._path = address.removeprefix("unix:")
        self._number = number
        keys = [str(key) for key in range(10_000) if owner_of("default", "Echo", str(key), engines) == number]
        self._frames = self._made(keys[:INSTANCES])
        self._link: RawLink
        self._seq = self._ack = 0
        self._turn = 0
        self._reply = 0  # bytes of one reply in a frame: all are equally long
        self._waiting = 0
        self.done = 0

    def _made(self, keys: list[str]) -> list[bytes]:
        """The items of frames, with four times as many ids as are in flight, all equally long."""
        data = payloads(1)[0]
        frames = []
        for first in range(1 << 15, (1 << 15) + 4 * IN_FLIGHT, BATCH):
            items = []
            for id in range(first, first + BATCH):
                address = wire.field(10, "Echo") + wire.field(18, keys[id % len(keys)]) + wire.field(26, "echo")
                items.append(wire.request_item(id, 30_000, address, "", data))
            frames.append(b"".join(items))
        return frames

    async def run(self) -> None:
        """Until it is cancelled. Raises RuntimeError if the engine refuses the link or ends it."""
        self._link = await RawLink.open(self._path, METHOD, self._heard)
        hello = link_pb2.Hello(
            link_id=f"generator-{self._number}",
            protocol_min=1,
            protocol_max=1,
            features=["engines"],
            engines_known=True,
        )
        frame = link_pb2.LinkFrame(items=[link_pb2.LinkItem(hello=hello)])
        self._link.send(frame.SerializeToString())
        try:
            await self._link.ended
        finally:
            self._link.close()

    def _ask(self) -> None:
        while self._waiting + BATCH <= IN_FLIGHT:
            self._seq += 1
            items = self._frames[self._turn]
            self._link.send(items + b"\x10" + wire.varint(self._seq) + b"\x18" + wire.varint(self._ack))
            self._turn = (self._turn + 1) % len(self._frames)
            self._waiting += BATCH
            if not self._reply:
                return  # the first replies say how long one is

    def _heard(self, data: memoryview) -> None:
        """A frame with nothing but replies, or one of the few others."""
        if self._reply and len(data) > _SMALL:
            self._ack += 1
            answered = len(data) // self._reply
            self._waiting -= answered
            self.done += answered
        else:
            self._heard_first(link_pb2.LinkFrame.FromString(bytes(data)))
        self._ask()

    def _heard_first(self, frame: link_pb2.LinkFrame) -> None:
        self._ack = frame.seq or self._ack
        for item in frame.items:
            if item.HasField("reply"):
                if not item.reply.HasField("result"):
                    raise RuntimeError(str(item))
                self._reply = item.ByteSize() + len(wire.varint(item.ByteSize())) + 1
                self._waiting -= 1
            elif item.HasField("rejected"):
                raise RuntimeError(str(item))


@contextlib.asynccontextmanager
async def _engines(count: int, directory: Path) -> AsyncIterator[list[str]]:
    """So many engines with their agents; their addresses."""
    folder = directory / f"workers-{count}"
    folder.mkdir()
    (folder / "bench_agents.py").write_text(AGENTS)
    socket = folder / "amx.sock"
    settings = (
        "grpc.port=0",
        "http.enabled=false",
        "storage.path=amx.db",
        "logging.level=warning",
        f"grpc.unix_socket={socket}",
    )
    argv = [sys.executable, "-m", "amx_server.cli", "serve", "--workers", str(count), "--load", "bench_agents"]
    argv += [part for setting in settings for part in ("--set", setting)]
    async with Process(f"workers-{count}", argv, folder) as process:
        log = folder / f"workers-{count}.log"
        deadline = time.monotonic() + 60
        while not re.search(r"\d engines in", log.read_text(errors="replace")):
            if time.monotonic() > deadline:
                raise process.failure("did not start")
            await asyncio.sleep(0.05)
        yield [f"unix:{socket}.{number}" for number in range(count)]


async def _rate(addresses: list[str], warmup_s: float, seconds: float) -> float:
    """Requests a second, over all engines."""
    generators = [Generator(address, number, len(addresses)) for number, address in enumerate(addresses)]
    running = [asyncio.create_task(generator.run()) for generator in generators]
    try:
        for delay, counted in ((warmup_s, False), (seconds, True)):
            before, started = sum(generator.done for generator in generators), time.perf_counter()
            await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_EXCEPTION)
            for task in running:
                if task.done():
                    task.result()
            if counted:
                return (sum(generator.done for generator in generators) - before) / (time.perf_counter() - started)
        raise AssertionError
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def measure(warmup_s: float, seconds: float) -> Figures:
    """Requests a second with two engines, and how many times those with one."""
    with TemporaryDirectory(prefix="amx-benchmark-") as directory:
        async with _engines(1, Path(directory)) as one, _engines(2, Path(directory)) as two:
            rates: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(TURNS):
                for addresses in (one, two):
                    rates[len(addresses)].append(await _rate(addresses, warmup_s / 2, seconds / TURNS))
        both = statistics.median(rates[2])
        return {"rate": both, "ratio": both / statistics.median(rates[1])}


async def _obey() -> None:
    await child.obey({"measure": measure})


if __name__ == "__main__":
    child.run(_obey)
