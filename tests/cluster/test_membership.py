"""Who runs which engine: at the start, when processes die, when they come back, and whatever happens in between."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from amx_server.cluster.membership import Close, Membership, Open, Start


def running(engines: int, processes: int) -> Membership:
    """A membership in which everything is open, at second 0."""
    membership = Membership(engines, processes)
    membership.decide(0.0)
    for process in range(processes):
        membership.up(process)
    for order in membership.decide(0.0):
        assert isinstance(order, Open)
        membership.opened(order.process, order.engine)
    assert membership.complete
    return membership


def test_every_engine_starts_in_its_home_whichever_process_is_up_first() -> None:
    membership = Membership(4, 2)
    assert membership.decide(0.0) == [Start(0), Start(1)]
    membership.up(1)
    assert membership.decide(0.0) == [Open(1, 1), Open(1, 3)]
    membership.up(0)
    assert membership.decide(0.0) == [Open(0, 0), Open(0, 2)]
    assert not membership.begun


def test_engine_of_a_dead_process_goes_to_the_survivor_with_least() -> None:
    membership = running(4, 4)
    membership.died(3, 100.0)
    assert membership.decide(100.0) == [Open(0, 3)]
    membership.opened(0, 3)
    membership.died(2, 101.0)
    assert membership.decide(101.0) == [Start(3), Open(1, 2)]  # 0 has two already


def test_engine_comes_home_by_a_polite_handing_over() -> None:
    membership = running(2, 2)
    membership.died(1, 100.0)
    assert membership.decide(100.0) == [Open(0, 1)]
    membership.opened(0, 1)
    assert membership.next_at() == 100.5
    assert membership.decide(100.5) == [Start(1)]
    membership.up(1)
    assert membership.decide(101.0) == [Close(0, 1)]
    assert membership.decide(102.0) == []
    membership.closed(0, 1)
    assert membership.decide(103.0) == [Open(1, 1)]


def test_process_that_keeps_dying_is_started_later_and_later() -> None:
    membership = running(2, 2)
    now, waits = 1.0, []
    for _ in range(8):
        membership.died(1, now)
        due = membership.next_at()
        assert due is not None
        waits.append(due - now)
        now = due
        assert Start(1) in membership.decide(now)
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
    membership.up(1)
    membership.died(1, now + 60.0)  # it has lived for a while
    assert membership.next_at() == now + 60.5


def test_engine_that_kills_whoever_opens_it_does_not_kill_them_all_at_once() -> None:
    membership = running(3, 3)
    membership.died(2, 100.0)
    assert membership.decide(100.0) == [Open(0, 2)]
    membership.died(0, 100.1)  # while it opened
    assert Open(1, 2) not in membership.decide(100.1)
    assert Open(1, 2) in membership.decide(100.7)


def test_engine_that_cannot_be_opened_is_tried_again() -> None:
    membership = running(2, 2)
    membership.died(1, 100.0)
    membership.decide(100.0)
    membership.failed(0, 1, 100.0)
    assert membership.decide(100.1) == []
    assert Open(0, 1) in membership.decide(100.5)


class Anything(RuleBasedStateMachine):
    """Processes that start, die, obey late or not at all, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.membership = Membership(4, 3)
        self.now = 0.0
        self.starting: set[int] = set()
        self.alive: set[int] = set()
        self.orders: list[Open | Close] = []
        self.held: dict[int, int] = {}  # engine -> process that has it open, or may have

    @rule()
    def decide(self) -> None:
        for order in self.membership.decide(self.now):
            if isinstance(order, Start):
                assert order.process not in self.starting | self.alive
                self.starting.add(order.process)
            else:
                assert order.process in self.alive
                if isinstance(order, Open):
                    assert order.engine not in self.held, "two processes would have one store"
                    self.held[order.engine] = order.process
                else:
                    assert self.held[order.engine] == order.process
                self.orders.append(order)

    @rule(seconds=st.floats(0.01, 40.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.starting)
    @rule(data=st.data())
    def starts(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(sorted(self.starting)))
        self.starting.remove(process)
        self.alive.add(process)
        self.membership.up(process)

    @precondition(lambda self: self.starting or self.alive)
    @rule(data=st.data())
    def dies(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(sorted(self.starting | self.alive)))
        self.starting.discard(process)
        self.alive.discard(process)
        self.orders = [order for order in self.orders if order.process != process]
        self.held = {engine: holder for engine, holder in self.held.items() if holder != process}
        self.membership.died(process, self.now)

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), works=st.booleans())
    def obeys(self, data: st.DataObject, works: bool) -> None:
        order = self.orders.pop(data.draw(st.integers(0, len(self.orders) - 1)))
        if isinstance(order, Close):
            del self.held[order.engine]
            self.membership.closed(order.process, order.engine)
        elif works:
            self.membership.opened(order.process, order.engine)
        else:
            del self.held[order.engine]
            self.membership.failed(order.process, order.engine, self.now)

    @invariant()
    def complete_is_when_everything_is_open(self) -> None:
        if self.membership.complete:
            assert len(self.held) == 4

    def teardown(self) -> None:
        """When nothing dies any more, everything ends up open, and at home."""
        for _ in range(60):
            self.now += 40.0
            self.decide()
            for process in sorted(self.starting):
                self.starting.remove(process)
                self.alive.add(process)
                self.membership.up(process)
            while self.orders:
                order = self.orders.pop(0)
                if isinstance(order, Close):
                    del self.held[order.engine]
                    self.membership.closed(order.process, order.engine)
                else:
                    self.membership.opened(order.process, order.engine)
        assert self.membership.complete
        assert self.held == {engine: engine % 3 for engine in range(4)}


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
