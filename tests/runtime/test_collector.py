"""When the engine's process walks through new objects in search of cycles, and what it leaves alone."""

from __future__ import annotations

import asyncio
import gc
import weakref

from amx_server.core.collector import Newcomers, tuned_collector


class _Engine:
    """Every piece of work makes as many objects as it is told; `looks` counts how often they were counted."""

    def __init__(self, limit: int) -> None:
        self.work = self.new = self.looks = 0
        self.walk_seconds = 0.000_1
        self.newcomers = Newcomers(self._count, limit)

    def _count(self) -> int:
        self.looks += 1
        return self.new

    def works(self, pieces: int, objects: int, now: float) -> bool:
        self.work += pieces
        self.new += objects
        if not self.newcomers.enough(self.work, now):
            return False
        self.new = 0
        self.newcomers.walked(self.work, now, self.walk_seconds)
        return True


def test_newcomers_are_walked_through_before_they_are_many() -> None:
    engine = _Engine(limit=1000)
    most = 0
    for turn in range(1000):
        engine.works(pieces=5, objects=200, now=turn * 0.005)
        most = max(most, engine.new)
    assert most < 1200


def test_newcomers_that_do_not_grow_are_hardly_counted() -> None:
    engine = _Engine(limit=1000)
    engine.works(pieces=10, objects=900, now=0.0)
    looks = engine.looks
    for turn in range(1, 2001):  # ten seconds
        engine.works(pieces=10, objects=0, now=turn * 0.005)
    assert engine.looks - looks < 150


def test_newcomers_that_grow_suddenly_are_seen_within_a_tenth_of_a_second() -> None:
    engine = _Engine(limit=1000)
    for turn in range(2000):
        engine.works(pieces=100, objects=0, now=turn * 0.005)
    turns = next(turn for turn in range(2000, 3000) if engine.works(pieces=1, objects=500, now=turn * 0.005))
    assert turns - 2000 <= 21


def test_objects_that_come_and_go_by_the_thousands_are_not_walked_through_all_the_time() -> None:
    engine = _Engine(limit=1000)
    engine.walk_seconds = 0.003
    walks = sum(engine.works(pieces=500, objects=2000, now=turn * 0.005) for turn in range(2000))
    assert 150 < walks < 280  # in ten seconds


def test_newcomers_that_begin_slowly_are_seen_before_they_are_many() -> None:
    engine = _Engine(limit=1000)
    engine.works(pieces=10, objects=1, now=0.0)
    most = 0
    for turn in range(1, 15):  # less than a tenth of a second
        engine.works(pieces=10, objects=300, now=turn * 0.005)
        most = max(most, engine.new)
    assert most < 2000


class _Cycle:
    """Refers to itself."""

    def __init__(self) -> None:
        self.me = self


async def test_cycles_among_new_objects_are_collected_while_the_engine_works() -> None:
    work = 0

    def work_done() -> int:
        nonlocal work
        work += 1  # never idle
        return work

    before = gc.get_threshold()
    async with asyncio.timeout(30), tuned_collector(work_done):
        at_first = gc.get_freeze_count()
        cycle = weakref.ref(_Cycle())
        kept = [[number] for number in range(8_000)]  # too few for the interpreter's own trigger
        while cycle() is not None or gc.get_freeze_count() < at_first + len(kept):
            await asyncio.sleep(0.001)
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
