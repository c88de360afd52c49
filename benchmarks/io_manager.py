"""What the I/O manager costs: an operation of one's own, one that is shared or remembered, one answer for many readers.

Runs in a process of its own with a provider that answers at once, so that all that is measured is what the manager
adds; only `io_http` goes over a socket, to a local server process, and beside it the same requests
with a general client (aiohttp) and no manager.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp

from amx_server.core.collector import tuned_collector
from amx_server.inference.io import (
    Call,
    ConcurrencyPolicy,
    HttpProvider,
    IoConfig,
    IoManager,
    Operation,
    Provider,
    ProviderPolicy,
    Response,
    Waiter,
    WaitReason,
    address,
)
from benchmarks import child
from benchmarks.load import Figures, closed_loop

T = TypeVar("T")

IN_FLIGHT = 64
WAITERS = 1000
PARTS = 100
PART = b"x" * 64
_BEAT_SECONDS = 0.001


class Immediate(Provider):
    """Answers at once; streams in PARTS parts. Held back while `gate` is clear."""

    name = "immediate"

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.performed = 0

    async def perform(self, call: Call) -> Response[Any]:
        self.performed += 1
        if not self.gate.is_set():
            await self.gate.wait()
        if call.operation.kind == "stream":
            for _ in range(PARTS):
                await call.emit(PART, len(PART))
                await asyncio.sleep(0)
        return Response(call.operation.request, 64)


class Pauses:
    """How late the event loop is, asked every millisecond. An async context manager."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Pauses:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            due = time.perf_counter() + _BEAT_SECONDS
            await asyncio.sleep(_BEAT_SECONDS)
            self._late.append(max(0.0, time.perf_counter() - due))

    def quantile(self, share: float) -> float:
        """Milliseconds that the loop was late, at most, in this share of the beats."""
        late = sorted(self._late)
        return late[min(len(late) - 1, int(len(late) * share))] * 1000


@asynccontextmanager
async def _manager() -> AsyncIterator[tuple[IoManager, Immediate]]:
    provider = Immediate()
    async with IoManager(IoConfig()) as io:
        await io.add(provider, ProviderPolicy(concurrency=ConcurrencyPolicy(WAITERS, 1, WAITERS)))
        async with tuned_collector(lambda: io.stats().operations):
            yield io, provider


def _operation(name: str, *, kind: str = "answer", key: bytes = b"", ttl: float = 0.0) -> Operation[str, bytes]:
    return Operation("immediate", kind, name, WaitReason.MODEL, key, ttl)


async def overhead(warmup_s: float, seconds: float) -> Figures:
    """Operations of their own, each with an address, IN_FLIGHT at a time: microseconds of CPU for one."""
    waiters = [Waiter(f"bench/{slot}") for slot in range(IN_FLIGHT)]
    counts = [0] * IN_FLIGHT
    async with _manager() as (io, _):

        async def call(slot: int) -> None:
            counts[slot] += 1
            name = f"{slot}/{counts[slot]}"
            if await io.call(_operation(name, key=address(name)), waiters[slot]) != name:
                raise RuntimeError("somebody else's answer")

        await closed_loop(call, in_flight=IN_FLIGHT, warmup_s=0.0, seconds=max(0.1, warmup_s))
        before, cpu = sum(counts), time.process_time()
        await closed_loop(call, in_flight=IN_FLIGHT, warmup_s=0.0, seconds=seconds)
        cpu = time.process_time() - cpu
    return {"overhead_us": cpu / (sum(counts) - before) * 1e6}


async def cached(warmup_s: float, seconds: float) -> Figures:
    """Answers from the cache, one at a time; a thousand different ones in turn."""
    operations = [_operation(str(n), key=address(str(n)), ttl=3600) for n in range(1000)]
    async with _manager() as (io, provider):
        for operation in operations:
            await io.call(operation)
        for duration in (warmup_s, seconds):
            hits, begin = 0, time.perf_counter()
            while time.perf_counter() < begin + duration:
                for operation in operations:
                    await io.call(operation)
                hits += len(operations)
            elapsed = time.perf_counter() - begin
        if provider.performed != len(operations):
            raise RuntimeError("something was not remembered")
    return {"rate": hits / elapsed}


async def coalesced(warmup_s: float, seconds: float) -> Figures:
    """WAITERS callers with one question, answered together, again and again: callers a second, the loop's pauses."""
    return await _rounds(warmup_s, seconds, _ask_together, WAITERS)


async def fan_out(warmup_s: float, seconds: float) -> Figures:
    """WAITERS readers of one stream of PARTS parts: parts read a second, and the loop's pauses."""
    return await _rounds(warmup_s, seconds, _read_together, WAITERS * PARTS)


async def _rounds(
    warmup_s: float, seconds: float, together: Callable[[IoManager, Immediate, str], Awaitable[None]], each: int
) -> Figures:
    number = 0
    async with _manager() as (io, provider):
        begin = time.perf_counter()
        while time.perf_counter() < begin + warmup_s:
            number += 1
            await together(io, provider, str(number))
        first, begin = number, time.perf_counter()
        async with Pauses() as pauses:
            while time.perf_counter() < begin + seconds:
                number += 1
                await together(io, provider, str(number))
        elapsed = time.perf_counter() - begin
        if provider.performed != number:
            raise RuntimeError(f"{number} questions were asked {provider.performed} times")
    return {"rate": (number - first) * each / elapsed, "pause_p999_ms": pauses.quantile(0.999)}


async def _started(ask: Callable[[], Coroutine[Any, Any, T]]) -> list[asyncio.Task[T]]:
    """WAITERS tasks that wait. They begin a few at a time: starting all at once would be the benchmark's own pause."""
    tasks: list[asyncio.Task[T]] = []
    while len(tasks) < WAITERS:
        tasks += [asyncio.create_task(ask()) for _ in range(50)]
        await asyncio.sleep(0)
    return tasks


async def _ask_together(io: IoManager, provider: Immediate, name: str) -> None:
    provider.gate.clear()
    operation = _operation(name, key=address(name))
    tasks = await _started(lambda: io.call(operation))
    provider.gate.set()
    if set(await asyncio.gather(*tasks)) != {name}:
        raise RuntimeError("somebody else's answer")


async def _read_together(io: IoManager, provider: Immediate, name: str) -> None:
    operation = _operation(name, kind="stream", key=address(name))

    async def read() -> int:
        parts = 0
        async with io.stream(operation) as stream:
            async for _ in stream:
                parts += 1
        return parts

    provider.gate.clear()
    tasks = await _started(read)
    provider.gate.set()
    if set(await asyncio.gather(*tasks)) != {PARTS}:
        raise RuntimeError("parts are missing")


async def http(warmup_s: float, seconds: float) -> Figures:
    """Requests over HTTP, IN_FLIGHT at a time: CPU of this process for one, with the manager and
    its client over aiohttp alone.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "amx_server.inference.local_provider", "--latency-min=0", "--latency-max=0",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", (await process.stdout.readline()).decode())
        if found is None:
            raise RuntimeError("the local provider did not start")
        base = found[0]
        bodies = [{"model": "m", "messages": [{"role": "user", "content": str(n)}]} for n in range(IN_FLIGHT)]
        provider = HttpProvider("local", base)
        async with IoManager() as io, aiohttp.ClientSession() as session:
            await io.add(provider, ProviderPolicy(concurrency=ConcurrencyPolicy(IN_FLIGHT, 1, IN_FLIGHT)))

            calls = {"managed": 0, "plain": 0}

            async def managed(slot: int) -> None:
                calls["managed"] += 1
                answer = await io.call(provider.post("/chat/completions", bodies[slot], shared=True))
                if not answer.json()["choices"]:
                    raise RuntimeError("no answer")

            async def plain(slot: int) -> None:
                calls["plain"] += 1
                async with session.post(f"{base}/chat/completions", json=bodies[slot]) as answer:
                    if not (await answer.json())["choices"]:
                        raise RuntimeError("no answer")

            loads = {"managed": managed, "plain": plain}
            for call in loads.values():
                await closed_loop(call, in_flight=IN_FLIGHT, warmup_s=0.0, seconds=max(0.2, warmup_s / 2))
            cpu = dict.fromkeys(loads, 0.0)
            calls.update(dict.fromkeys(loads, 0))
            for _ in range(4):  # in turns, because the machine's speed changes
                for name, call in loads.items():
                    began = time.process_time()
                    await closed_loop(call, in_flight=IN_FLIGHT, warmup_s=0.0, seconds=seconds / 8)
                    cpu[name] += time.process_time() - began
            costs = {name: cpu[name] / calls[name] for name in loads}
        return {"ratio": costs["managed"] / costs["plain"], "overhead_us": costs["managed"] * 1e6}
    finally:
        process.terminate()
        await process.wait()


async def measure(what: str, warmup_s: float, seconds: float) -> Figures:
    """One of the loads above, by name."""
    loads = {"overhead": overhead, "cached": cached, "coalesced": coalesced, "fan_out": fan_out, "http": http}
    return await loads[what](warmup_s, seconds)


async def _main() -> None:
    await child.obey({"measure": measure})


if __name__ == "__main__":
    child.run(_main)
