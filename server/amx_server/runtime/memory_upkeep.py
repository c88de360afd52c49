"""Upkeep of memory: versions are forgotten, content is collected and verified, by itself and when somebody asks.

Everything is done in steps of about a millisecond in other threads, so that neither the event loop nor commits wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from amx_server.core.clock import Clock
from amx_server.core.config import EngineConfig
from amx_server.core.errors import AmxError
from amx_server.memory.content import ContentStore
from amx_server.memory.content.steps import Steps
from amx_server.storage.interface import Store
from amx_server.telemetry.logs import get_logger
from amx_server.telemetry.metrics import EngineCounters

log = get_logger(__name__)

_SLICE_S: Final = 0.02  # work of a thread between two looks at whether it is still wanted
_PAUSE_S: Final = 0.000_2  # between two steps: others get the interpreter's lock
_ROWS: Final = 1000  # of versions looked at in one step of forgetting
_REST_S: Final = 0.01  # between two such steps when nobody waits for them
_FIRST: Final = ("", "", "")
_NAMED: Final = 1000  # damages that one verification names


@dataclass(slots=True)
class Collected:
    """What a collection has done so far. share: 0 to 1. bytes: plain. disk_bytes: given back to the disk."""

    share: float = 0.0
    versions: int = 0
    objects: int = 0
    bytes: int = 0
    disk_bytes: int = 0
    done: bool = False


@dataclass(slots=True)
class Verified:
    """What a verification has found so far. damages: one sentence each, with who refers to it."""

    share: float = 0.0
    objects: int = 0
    bytes: int = 0
    damages: list[str] = field(default_factory=list)
    healed: int = 0
    done: bool = False


class MemoryUpkeep:
    """One collection and one verification at a time; a second one waits for the first. An async context manager when
    it is to work by itself, every `memory.upkeep_interval` seconds.
    """

    def __init__(
        self, config: EngineConfig, clock: Clock, store: Store, content: ContentStore, counters: EngineCounters
    ) -> None:
        self._config = config.memory
        self._clock = clock
        self._store = store
        self._content = content
        self._counters = counters
        self._collecting = asyncio.Lock()
        self._verifying = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> MemoryUpkeep:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._config.upkeep_interval)
            try:
                async with aclosing(self.collect(compact=False, rest_s=_REST_S)) as parts:
                    async for _ in parts:
                        pass
            except AmxError as error:  # the next round tries again
                log.warning("memory_upkeep_failed", reason=error.reason, error=error.message)
            except Exception:
                log.exception("memory_upkeep_failed")

    # --- collecting

    async def collect(self, *, compact: bool = True, rest_s: float = 0.0) -> AsyncGenerator[Collected, None]:
        """Forgets versions whose time is over, then collects content that nothing refers to, then gives its space back.

        Yields the same object again and again, the last time with `done`. May be left at any point: what is done is
        done, what is not is done the next time. compact: False leaves the disk to the content store's own upkeep, which
        gives space back when half a segment is free. rest_s: seconds to rest between steps. Raises AmxError when the
        disk fails.
        """
        result = Collected()
        async with self._collecting:
            phases = 3 if compact else 2
            async for share in self._forget(result, rest_s):
                result.share = share / phases
                yield result
            before = max(1, self._content.stats().unreferenced)
            collection = self._content.collection()
            async for _ in _steps(collection):
                result.objects, result.bytes = collection.result.objects, collection.result.bytes
                result.share = (1 + min(1.0, (result.objects + collection.result.kept) / before)) / phases
                yield result
            self._counters.content_collected += result.objects
            if compact:
                stats = self._content.stats()
                dead = max(1, stats.disk_bytes - stats.live_bytes)
                compaction = self._content.compaction()
                async for _ in _steps(compaction):
                    result.disk_bytes = compaction.result.bytes
                    result.share = (2 + min(1.0, result.disk_bytes / dead)) / phases
                    yield result
                result.disk_bytes = max(0, stats.disk_bytes - self._content.stats().disk_bytes)
        result.share, result.done = 1.0, True
        yield result

    async def _forget(self, result: Collected, rest_s: float) -> AsyncGenerator[float, None]:
        before_ms = self._clock.now_ms() - int(self._config.history_age * 1000)
        total = max(1, (await self._store.version_counts()).versions)
        after: tuple[str, str, str] | None = _FIRST
        seen = 0
        while after is not None:
            step = await self._store.forget_versions(before_ms, self._config.history_versions, after, _ROWS)
            after = step.after
            result.versions += step.versions
            self._counters.memory_versions_forgotten += step.versions
            seen += _ROWS
            yield min(1.0, seen / total)
            if rest_s:
                await asyncio.sleep(rest_s)

    # --- verifying

    async def verify(self) -> AsyncGenerator[Verified, None]:
        """Checks everything in the content store against its address, and every reference against what is there.

        Yields the same object again and again, the last time with `done`. Damage is taken out of use and healed where
        a copy exists, as always.
        """
        result = Verified()
        async with self._verifying:
            stats = self._content.stats()
            total = max(1, stats.cold.objects + stats.hot.objects + stats.warm.objects)
            verification = self._content.verification()
            found = verification.result
            async for _ in _steps(verification):
                result.objects = found.objects + found.in_memory
                result.bytes = found.read_bytes
                result.share = min(0.99, result.objects / total)
                yield result
            addresses = [damage.address for damage in found.damages if damage.address] + found.missing
            holders = await self._store.holders(addresses[:_NAMED]) if addresses else {}
            for damage in found.damages[:_NAMED]:
                result.healed += damage.healed
                result.damages.append(str(damage) + _held_by(holders, damage.address))
            damaged = {damage.address for damage in found.damages}
            for address in found.missing[: _NAMED - len(result.damages)]:
                if address not in damaged:
                    result.damages.append(f"content {address.hex()} is missing{_held_by(holders, address)}")
        result.share, result.done = 1.0, True
        yield result


def _held_by(holders: dict[bytes, list[str]], address: bytes) -> str:
    """Who needs an address, as the end of a sentence."""
    names = holders.get(address)
    return f"; needed by {', '.join(names)}" if names else "; nobody refers to it" if address else ""


async def _steps(steps: Steps[Any]) -> AsyncGenerator[None, None]:
    """Does the work in other threads and yields in between; ends early, between two steps, when it is left."""
    while not steps.done:
        work = asyncio.get_running_loop().run_in_executor(None, _slice, steps)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])  # nobody may begin the next cycle while a thread is in this one
            raise
        yield


def _slice(steps: Steps[Any]) -> None:
    deadline = time.perf_counter() + _SLICE_S
    while not steps.step() and time.perf_counter() < deadline:
        time.sleep(_PAUSE_S)
