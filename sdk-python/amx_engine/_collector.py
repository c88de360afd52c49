"""How often a worker process looks for cyclic garbage. The engine's own process has its own way."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_DEFAULT_AT_MOST = 2000  # objects between collections, in every Python so far; who wants more has said so
_OBJECTS = 10_000


@contextmanager
def rare_collections() -> Iterator[None]:
    """Collects cyclic garbage less often meanwhile, unless the process has chosen its own thresholds.

    Agent instances are objects by the thousands that stay, and looking through them again and again takes more time
    than making them. What was imported is not looked through at all.
    """
    before = gc.get_threshold()
    if not 0 < before[0] <= _DEFAULT_AT_MOST:
        yield
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
