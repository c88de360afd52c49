"""Deadlines: never early, at most a tick late, in order, and nothing kept that was discarded."""

from __future__ import annotations

import gc
import weakref

from hypothesis import given
from hypothesis import strategies as st

from amx_server.runtime.deadlines import TICKS_PER_SECOND, Bucket, Deadlines

TICK = 1 / TICKS_PER_SECOND
SECONDS = st.floats(0, 10)


@given(st.lists(st.one_of(SECONDS, st.tuples(st.just("to"), SECONDS), st.tuples(st.just("drop"), st.integers(0, 20)))))
def test_deadlines_are_never_early_and_at_most_a_tick_late(steps: list[float | tuple[str, float]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    waiting: dict[int, tuple[float, Bucket[int]]] = {}
    now = 0.0
    for number, step in enumerate(steps):
        if isinstance(step, float):
            waiting[number] = (step, deadlines.add(number, step))
        elif step[0] == "drop":
            item = int(step[1])
            if item in waiting:
                deadlines.discard(item, waiting.pop(item)[1])
        else:
            now = max(now, step[1])
            before = deadlines.next_at()
            due = deadlines.expired(now)
            assert bool(due) == (before is not None and before <= now + 1e-9)
            times = [waiting[item][0] for item in due]
            assert all(time <= now for time in times)
            for item in due:
                del waiting[item]
            assert all(time > now - TICK - 1e-9 for time, _ in waiting.values())
        assert len(deadlines) == len(waiting)
        assert (deadlines.next_at() is None) == (not waiting)


def test_deadlines_fall_due_in_order_of_time_then_of_adding() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for name, at in [("late", 2.0), ("first", 1.001), ("second", 1.002), ("third", 1.001)]:
        deadlines.add(name, at)
    assert deadlines.expired(1.0) == []
    assert deadlines.expired(5.0) == ["first", "second", "third", "late"]
    assert deadlines.next_at() is None


def test_deadlines_discard_after_falling_due_does_nothing() -> None:
    deadlines: Deadlines[str] = Deadlines()
    token = deadlines.add("a", 1.0)
    assert deadlines.expired(2.0) == ["a"]
    deadlines.discard("a", token)
    deadlines.add("a", 3.0)
    deadlines.discard("a", token)
    assert deadlines.expired(4.0) == ["a"]


def test_deadlines_keep_neither_discarded_nor_due_items_alive() -> None:
    class Item:
        pass

    deadlines: Deadlines[Item] = Deadlines()
    discarded, due = Item(), Item()
    references = [weakref.ref(discarded), weakref.ref(due)]
    deadlines.discard(discarded, deadlines.add(discarded, 3600.0))
    token = deadlines.add(due, 1.0)
    deadlines.expired(2.0)
    del discarded, due
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    assert not token


def test_deadlines_do_not_pile_up_buckets_of_what_was_discarded() -> None:
    deadlines: Deadlines[int] = Deadlines()
    kept = deadlines.add(-1, 5_000.0)
    for number in range(20_000):
        deadlines.discard(number, deadlines.add(number, 1_000.0 + number))
    assert len(deadlines._buckets) <= 1025
    assert len(deadlines._ticks) == len(deadlines._buckets)
    assert kept and deadlines.next_at() is not None
    assert deadlines.expired(30_000.0) == [-1]
