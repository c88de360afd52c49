"""When Python's cyclic garbage collector runs in an engine process: rarely, and over little while messages wait.

An engine holds millions of objects for long (waiting messages, instances) and makes hardly a cycle. Left to itself the
collector walks through what is held whenever enough has been added, and stops the loop for it: a tenth of a second
for every hundred thousand objects. Here only what is new is walked through, once; what is held is then set aside
("frozen", in constant time) and looked at again when the engine has nothing else to do, or after a long time.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

_LOOK_SECONDS = 0.1
_FREEZE_ABOVE = 5_000  # new objects
_THRESHOLD = 200_000  # the collector's own trigger, as a last resort
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


async def _run(work_done: Callable[[], int]) -> None:
    loop = asyncio.get_running_loop()
    last_work, changed_at, collected_at = work_done(), loop.time(), loop.time()
    collected_work = last_work
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        now, work = loop.time(), work_done()
        if work != last_work:
            last_work, changed_at = work, now
        idle = now - changed_at > _IDLE_SECONDS and work != collected_work
        if idle or now - collected_at > _LONGEST_SECONDS:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            collected_at, collected_work = now, work
        elif gc.get_count()[0] > _FREEZE_ABOVE:
            gc.collect(0)  # cycles among what is new, as failures leave them, are not to be kept with what is held
            gc.freeze()
