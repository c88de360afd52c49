"""The closed loop that puts load on a system, and what it measures.

Standard library only: it also runs in the environments of other systems, so that all are measured by the same code.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import median

PAYLOAD_BYTES = 256


# Figures of one load by name: rate (completed operations a second), p50_ms and p99_ms (latency of one operation), and
# whatever else a load measures.
Figures = dict[str, float]


def medians(rounds: list[Figures]) -> Figures:
    """Median over the rounds of each figure on its own."""
    return {name: median(one[name] for one in rounds) for name in rounds[0]}


async def closed_loop(
    call: Callable[[int], Awaitable[object]], *, in_flight: int, warmup_s: float, seconds: float
) -> Figures:
    """Keeps `in_flight` calls outstanding for `warmup_s + seconds`; calls ending in the first part are not counted.

    call(slot) performs one operation and raises if its answer is wrong; slot is 0 .. in_flight - 1 and is never used
    twice at a time. Raises what the first failing call raised: a benchmark with failures has no result.
    """
    clock = time.perf_counter
    begin = clock() + warmup_s
    end = begin + seconds
    latencies: list[float] = []

    async def repeat(slot: int) -> None:
        now = clock()
        while now < end:
            started = now
            await call(slot)
            now = clock()
            if begin <= now <= end:
                latencies.append(now - started)

    tasks = [asyncio.create_task(repeat(slot)) for slot in range(in_flight)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    if not latencies:
        raise RuntimeError(f"no call ended within {seconds} s with {in_flight} in flight")
    latencies.sort()
    return {
        "rate": len(latencies) / seconds,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
    }


def payloads(in_flight: int) -> list[bytes]:
    """One payload of 256 bytes for each slot, all different, each also valid JSON text and valid UTF-8."""
    return [f'"{slot:06d}{"x" * (PAYLOAD_BYTES - 8)}"'.encode() for slot in range(in_flight)]
