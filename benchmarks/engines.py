"""What a second engine process adds: requests to agents that the engines host themselves, from a cheap generator.

The generator writes frames that were made before and counts replies by their length, so that on two cores nearly all
is left to the engines. `--workers 1` and `--workers 2` are loaded in turns, several times each.
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
from typing import Any

import grpc
import grpc.aio

from amx import wire
from amx.v1 import link_pb2
from amx_engine._ownership import owner_of
from amx_engine._transport import METHOD
from benchmarks import child
from benchmarks.load import Figures, payloads
from benchmarks.processes import Process

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
        self._channel = grpc.aio.insecure_channel(address)
        self._call: Any = self._channel.stream_stream(METHOD)()
        self._number = number
        keys = [str(key) for key in range(10_000) if owner_of("default", "Echo", str(key), engines) == number]
        self._frames = self._made(keys[:INSTANCES])
        self._seq = self._ack = 0
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
        hello = link_pb2.Hello(
            link_id=f"generator-{self._number}",
            protocol_min=1,
            protocol_max=1,
            features=["engines"],
            engines_known=True,
        )
        frame = link_pb2.LinkFrame(items=[link_pb2.LinkItem(hello=hello)])
        await self._call.write(frame.SerializeToString())
        welcome = link_pb2.LinkFrame.FromString(await self._call.read())
        if not welcome.items[0].HasField("welcome"):
            raise RuntimeError(str(welcome))
        reply = await self._length_of_a_reply()
        waiting = 0
        turn = 0
        while True:
            while waiting + BATCH <= IN_FLIGHT:
                await self._write(self._frames[turn])
                turn = (turn + 1) % len(self._frames)
                waiting += BATCH
            answered = await self._read() // reply
            waiting -= answered
            self.done += answered

    async def _length_of_a_reply(self) -> int:
        """Bytes of one reply in a frame: all are equally long."""
        await self._write(self._frames[0])
        size = count = 0
        while count < BATCH:
            frame = link_pb2.LinkFrame.FromString(await self._call.read())
            self._ack = frame.seq or self._ack
            for item in frame.items:
                if item.HasField("reply"):
                    if not item.reply.HasField("result"):
                        raise RuntimeError(str(item))
                    count += 1
                    size = item.ByteSize()
        return size + len(wire.varint(size)) + 1

    async def _write(self, items: bytes) -> None:
        self._seq += 1
        await self._call.write(items + b"\x10" + wire.varint(self._seq) + b"\x18" + wire.varint(self._ack))

    async def _read(self) -> int:
        """The length of the next frame with replies."""
        while True:
            data = await self._call.read()
            if data is grpc.aio.EOF:
                raise RuntimeError("the engine ended the link")
            if len(data) > _SMALL:
                self._ack += 1
                return len(data)
            self._ack = link_pb2.LinkFrame.FromString(data).seq or self._ack

    async def close(self) -> None:
        self._call.cancel()
        await self._channel.close()


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
        for generator in generators:
            await generator.close()


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
