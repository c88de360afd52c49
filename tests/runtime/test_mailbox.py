"""Mailbox: order inside a priority, precedence between priorities, nobody starves."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from amx_server.runtime.mailbox import LEVELS, PATIENCE, Mailbox

PRIORITIES = st.integers(1, LEVELS)
# A number pushes an item at that priority, None pops one.
STEPS = st.lists(st.one_of(PRIORITIES, st.none()), max_size=200)


@given(STEPS)
def test_mailbox_keeps_order_inside_each_priority(steps: list[int | None]) -> None:
    mailbox: Mailbox[tuple[int, int]] = Mailbox()
    waiting: dict[int, list[tuple[int, int]]] = {p: [] for p in range(1, LEVELS + 1)}
    for number, priority in enumerate(steps):
        if priority is not None:
            mailbox.push((priority, number), priority)
            waiting[priority].append((priority, number))
            continue
        expected_priority = mailbox.peek_priority()
        item = mailbox.pop()
        if item is None:
            assert not any(waiting.values()) and expected_priority == 0
        else:
            assert item[0] == expected_priority
            assert item == waiting[item[0]].pop(0)
        assert len(mailbox) == sum(map(len, waiting.values()))
        assert bool(mailbox) == bool(len(mailbox))
    assert list(mailbox) == [item for p in sorted(waiting) for item in waiting[p]]


@given(STEPS)
def test_mailbox_level_waits_at_most_its_patience(steps: list[int | None]) -> None:
    mailbox: Mailbox[int] = Mailbox()
    count = dict.fromkeys(range(1, LEVELS + 1), 0)
    waited = dict.fromkeys(range(1, LEVELS + 1), 0)
    for priority in [*steps, *[None, 1] * 100]:
        if priority is not None:
            mailbox.push(priority, priority)
            count[priority] += 1
            continue
        item = mailbox.pop()
        if item is not None:
            count[item] -= 1
        for level in count:
            waited[level] = waited[level] + 1 if count[level] and level != item else 0
            assert waited[level] <= PATIENCE + LEVELS


def test_mailbox_serves_strictly_by_priority_within_patience() -> None:
    mailbox: Mailbox[str] = Mailbox()
    for name, priority in [("low", 4), ("normal", 3), ("critical", 1), ("background", 5), ("high", 2)]:
        mailbox.push(name, priority)
    assert [mailbox.pop() for _ in range(6)] == ["critical", "high", "normal", "low", "background", None]


def test_mailbox_does_not_starve_when_urgent_items_come_one_at_a_time() -> None:
    mailbox: Mailbox[str] = Mailbox()
    mailbox.push("patient", 5)
    popped = []
    while "patient" not in popped:
        mailbox.push("urgent", 1)
        popped.append(mailbox.pop())
    assert len(popped) == PATIENCE + 1


def test_mailbox_gives_a_starved_level_one_turn_only() -> None:
    mailbox: Mailbox[int] = Mailbox()
    for _ in range(100):
        mailbox.push(1, 1)
        mailbox.push(5, 5)
    popped = [mailbox.pop() for _ in range(3 * (PATIENCE + 1))]
    assert popped == ([1] * PATIENCE + [5]) * 3


def test_mailbox_removes_an_item_wherever_it_is() -> None:
    mailbox: Mailbox[str] = Mailbox()
    for name, priority in [("a", 3), ("b", 3), ("c", 1)]:
        mailbox.push(name, priority)
    assert mailbox.remove("b")
    assert not mailbox.remove("b")
    assert mailbox.remove("c")
    assert list(mailbox) == ["a"]
    assert mailbox.remove("a")
    assert not mailbox and mailbox.pop() is None


def test_mailbox_empty_again_holds_nothing() -> None:
    mailbox: Mailbox[str] = Mailbox()
    mailbox.push("a", 1)
    mailbox.push("b", 2)
    while mailbox.pop():
        pass
    assert sys.getsizeof(mailbox) < 100
    assert all(getattr(mailbox, name) in (None, 0, 3) for name in ("_only", "_levels", "_passed"))
