"""When Python's cyclic garbage collector runs in an engine process: rarely, and over little while messages wait.

An engine holds millions of objects for long (waiting messages, instances) and makes hardly a cycle. Left to itself the
collector walks through what is held whenever enough has been added, and stops the loop for it: a tenth of a second
for every hundred thousand objects. Here only what is new is walked through, once, some thousand objects at a time; what
is held is then set aside ("frozen", in constant time) and looked at again when the engine has nothing else to do, or
after a long time.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from time import perf_counter

_LOOK_SECONDS = 0.1
_BUSY_LOOK_SECONDS = 0.005
_NEW_OBJECTS = 4_000  # are walked through in about two milliseconds
_THRESHOLD = 10_000  # the collector's own trigger, for what comes between two looks
_TIMES_BETWEEN = 12  # as long as the last walk took, the next one waits
_IDLE_SECONDS = 5.0
_LONGEST_SECONDS = 900.0  # without a full collection, however busy the engine is


@asynccontextmanager
async def tuned_collector(work_done: Callable[[], int]) -> AsyncIterator[None]:
    """Runs the collector so while entered; the interpreter's own settings return afterwards.

    work_done: a number that grows with every piece of work; while it stands still the engine is idle.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_THRESHOLD, 50, 1000)
    task = asyncio.create_task(_run(work_done))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        gc.unfreeze()
        gc.set_threshold(*before)


class Newcomers:
    """When what is new has become enough to be walked through.

    The interpreter counts new objects less the old ones that end meanwhile, so its count says nothing where objects
    come and go all the time. Counting them takes a tenth of walking through them; it is done when as much work has been
    done as makes enough of them, to judge by the last look, at the latest when that has doubled, and every tenth of a
    second. Where thousands of objects come and go in milliseconds, walks take 1/13 of the time at most, if short.
    """

    def __init__(self, count: Callable[[], int], limit: int = _NEW_OBJECTS) -> None:
        """count: how many objects are new."""
        self._count = count
        self._limit = limit
        self._from = 0  # work done when nothing was new
        self._look_at = 0  # work done
        self._look_by = 0.0
        self._not_before = 0.0

    def enough(self, work: int, now: float) -> bool:
        """work: done so far. now: seconds. True: the caller walks through them now, and says so to `walked`."""
        if now < self._not_before or (work < self._look_at and now < self._look_by):
            return False
        self._look_by = now + _LOOK_SECONDS
        new = self._count()
        if new >= self._limit:
            return True
        done = max(1, work - self._from)
        self._look_at = work + min(done, max(1, done * (self._limit - new) // max(1, new)))
        return False

    def walked(self, work: int, now: float, seconds: float) -> None:
        """Nothing is new any more; the walk took so long."""
        self._from = work
        self._look_at = work + 1
        self._not_before = now + min(seconds * _TIMES_BETWEEN, _LOOK_SECONDS)


async def _run(work_done: Callable[[], int]) -> None:
    loop = asyncio.get_running_loop()
    newcomers = Newcomers(lambda: len(gc.get_objects(0)))
    last_work, changed_at, collected_at = work_done(), loop.time(), loop.time()
    collected_work = last_work
    pause = _LOOK_SECONDS
    while True:
        await asyncio.sleep(pause)
        now, work = loop.time(), work_done()
        pause = _LOOK_SECONDS
        if work != last_work:
            pause = _BUSY_LOOK_SECONDS
            last_work, changed_at = work, now
        idle = now - changed_at > _IDLE_SECONDS and work != collected_work
        if idle or now - collected_at > _LONGEST_SECONDS:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            collected_at, collected_work = now, work
        elif newcomers.enough(work, now):
            began = perf_counter()  # the loop's own clock stands still within a turn
            gc.collect(0)  # cycles among what is new, as failures leave them, are not to be kept with what is held
            gc.freeze()
            newcomers.walked(work, now, perf_counter() - began)
