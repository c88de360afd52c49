"""The run queue: urgent first, shares by weight within one turn's cost, no credit for rest, nobody starves, each item
once wherever it is served.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx_server.runtime.scheduling.run_queue import FLOOR, LEVELS, Lane, RunQueue
from amx_server.runtime.scheduling.shares import Share

PRIORITIES = st.integers(1, LEVELS)
WEIGHTS = st.sampled_from([0.25, 1.0, 2.0, 3.5, 8.0])


def lane(queue: RunQueue[str], share: Share | None = None) -> Lane[str]:
    """The lane of a new agent, served by `queue` alone."""
    made: Lane[str] = Lane(share or Share(Share()))
    made.serve_by([queue])
    return made


def popped(queue: RunQueue[str], count: int = 1_000_000) -> list[str]:
    """The next items."""
    found: list[str] = []
    while len(found) < count and (turn := queue.pop()) is not None:
        found.append(turn[0])
    return found


def test_urgent_items_go_first_and_equal_ones_in_order_of_arrival() -> None:
    queue: RunQueue[str] = RunQueue()
    cart = lane(queue)
    for item, priority in (("n1", 3), ("b", 5), ("n2", 3), ("c", 1)):
        cart.push(item, priority, 0.0)
    assert list(cart) == ["c", "n1", "n2", "b"]
    assert popped(queue) == ["c", "n1", "n2", "b"]


def test_pop_tells_the_lane_the_priority_and_since_when_it_waited() -> None:
    queue: RunQueue[str] = RunQueue()
    cart = lane(queue)
    cart.push("a", 4, 7.5)
    assert cart.since("a") == cart.oldest() == 7.5
    assert queue.pop() == ("a", 7.5, cart, 4)
    assert cart.since("a") is None and cart.oldest() is None and queue.pop() is None


def test_item_is_queued_once_and_moves_up_only() -> None:
    queue: RunQueue[str] = RunQueue()
    cart = lane(queue)
    assert cart.push("a", 4, 1.0) and not cart.push("a", 5, 2.0)
    cart.push("b", 3, 3.0)
    assert not cart.push("a", 2, 4.0)
    assert len(cart) == 2 and cart.since("a") == 1.0  # it has waited all the while
    assert popped(queue) == ["a", "b"]


def test_discarded_item_is_not_served() -> None:
    queue: RunQueue[str] = RunQueue()
    cart = lane(queue)
    cart.push("a", 3, 0.0)
    assert cart.discard("a") and not cart.discard("a") and "a" not in cart
    assert queue.pop() is None


def test_lane_is_served_by_the_queues_it_names_and_by_no_other() -> None:
    first: RunQueue[str] = RunQueue()
    second: RunQueue[str] = RunQueue()
    cart: Lane[str] = Lane(Share())
    cart.push("a", 3, 0.0)  # waits for whoever will serve it
    assert first.pop() is None
    cart.serve_by([first, second, first])
    cart.push("b", 3, 0.0)
    assert popped(first, 1) + popped(second, 1) == ["a", "b"]
    cart.push("c", 3, 0.0)
    cart.serve_by([second])
    assert first.pop() is None and popped(second) == ["c"]


def test_one_agents_flood_does_not_keep_another_waiting() -> None:
    queue: RunQueue[str] = RunQueue()
    namespace = Share()
    flood, other = lane(queue, Share(namespace)), lane(queue, Share(namespace))
    for number in range(10_000):
        flood.push(f"f{number}", 3, 0.0)
    popped(queue, 5_000)
    other.push("o", 3, 0.0)
    assert "o" in popped(queue, 2)


def test_namespace_with_many_agents_has_no_more_than_one_with_few() -> None:
    queue: RunQueue[str] = RunQueue()
    small, large = Share(), Share()
    for share, agents, name in ((small, 1, "s"), (large, 50, "l")):
        for number in range(agents):
            agent = lane(queue, Share(share))
            for item in range(100):
                agent.push(f"{name}{number}-{item}", 3, 0.0)
    served = Counter(item[0] for item in popped(queue, 100))
    assert abs(served["s"] - served["l"]) <= 1


def test_rest_earns_no_credit() -> None:
    queue: RunQueue[str] = RunQueue()
    namespace = Share()
    busy, rested = lane(queue, Share(namespace)), lane(queue, Share(namespace))
    rested.push("r", 3, 0.0)
    for number in range(1_000):
        busy.push(f"b{number}", 3, 0.0)
    popped(queue, 500)
    for number in range(100):
        rested.push(f"r{number}", 3, 0.0)
    served = Counter(item[0] for item in popped(queue, 100))
    assert abs(served["r"] - served["b"]) <= 2


def test_one_that_comes_late_or_back_starts_level_with_the_others() -> None:
    queue: RunQueue[str] = RunQueue()
    namespace = Share()
    for name in "ab":
        busy = lane(queue, Share(namespace))
        for number in range(1_000):
            busy.push(f"{name}{number}", 3, 0.0)
    popped(queue, 1_000)
    late = lane(queue, Share(namespace))
    other_namespace = lane(queue)
    for number in range(100):
        late.push(f"l{number}", 3, 0.0)
        other_namespace.push(f"o{number}", 3, 0.0)
    served = Counter(item[0] for item in popped(queue, 120))
    assert abs(served["o"] - 60) <= 2
    assert max(abs(served[name] - 20) for name in "abl") <= 2


@pytest.mark.parametrize("waiting", [(1, 5), (1, 4, 5), (1, 2, 3, 4, 5)])
def test_priorities_that_wait_take_their_floor_and_no_more(waiting: tuple[int, ...]) -> None:
    queue: RunQueue[str] = RunQueue()
    agent = lane(queue)
    for priority in waiting:
        for number in range(1_000):
            agent.push(f"{priority}-{number}", priority, 0.0)
    served = Counter(int(item[0]) for item in popped(queue, 320))
    for priority in waiting[1:]:
        assert abs(served[priority] - 320 * FLOOR) <= 2
    assert served[waiting[0]] >= 320 * (1 - (len(waiting) - 1) * FLOOR) - 2 * LEVELS


def test_coming_back_at_once_after_each_turn_gains_nothing() -> None:
    queue: RunQueue[str] = RunQueue()
    namespace = Share()
    steady, hasty = lane(queue, Share(namespace)), lane(queue, Share(namespace))
    for number in range(200):
        steady.push(f"s{number}", 3, 0.0)
    served: Counter[str] = Counter()
    hasty.push("h", 3, 0.0)
    for _ in range(100):
        (item,) = popped(queue, 1)
        served[item[0]] += 1
        if item == "h":
            hasty.push("h", 3, 0.0)
    assert abs(served["s"] - served["h"]) <= 1


def test_weight_that_changes_counts_from_then_on() -> None:
    queue: RunQueue[str] = RunQueue()
    namespace = Share()
    first, second = Share(namespace), Share(namespace)
    for share, name in ((first, "a"), (second, "b")):
        agent = lane(queue, share)
        for number in range(1_000):
            agent.push(f"{name}{number}", 3, 0.0)
    popped(queue, 100)
    first.weight = 4.0
    served = Counter(item[0] for item in popped(queue, 100))
    assert abs(served["a"] - 80) <= 2


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_weight_that_is_no_part_of_anything_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Share(weight=weight)


@given(
    weights=st.lists(WEIGHTS, min_size=2, max_size=5),
    agents=st.lists(WEIGHTS, min_size=1, max_size=3),
    costs=st.lists(st.floats(0.0, 10.0), min_size=1, max_size=20),
    late=st.booleans(),
)
def test_what_is_used_is_proportional_to_weights_within_one_turns_cost(
    weights: list[float], agents: list[float], costs: list[float], late: bool
) -> None:
    queue: RunQueue[str] = RunQueue()
    namespaces = [Share(weight=weight) for weight in weights]
    lanes = [lane(queue, Share(namespace, weight)) for namespace in namespaces for weight in agents]
    for number, agent in enumerate(lanes):
        agent.push(f"{number}", 3, 0.0)
    most = max(costs)
    for turn in range(150):
        cost = costs[turn % len(costs)]
        found = queue.pop(0.0 if late else cost)
        assert found is not None
        item, _, agent, priority = found
        if late:
            queue.charge(agent, priority, cost)
        agent.push(item, 3, 0.0)
        for group in (namespaces, [each.share for each in lanes[: len(agents)]]):
            for one in group:
                for two in group:
                    difference = abs(one.used / one.weight - two.used / two.weight)
                    assert difference <= most / one.weight + most / two.weight + 1e-6


@given(st.lists(st.lists(PRIORITIES, max_size=4), min_size=1, max_size=10), PRIORITIES)
def test_every_priority_has_its_floor_while_it_waits(rounds: list[list[int]], priority: int) -> None:
    queue: RunQueue[str] = RunQueue()
    patient = lane(queue)
    hasty = lane(queue)
    for number in range(1_000):
        patient.push(f"p{number}", priority, 0.0)
    served = 0
    for turn in range(400):
        for number, other in enumerate(rounds[turn % len(rounds)]):
            if other != priority:
                hasty.push(f"{turn}-{number}", other, 0.0)
        found = queue.pop()
        assert found is not None
        served += found[0].startswith("p")
        # A priority that is owed its part waits at most for those that are owed more.
        assert served >= (turn + 1) * FLOOR - LEVELS


@given(
    priority=PRIORITIES,
    ahead=st.integers(0, 5),
    flood=st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), PRIORITIES), max_size=6), min_size=1),
)
def test_nobody_starves_whatever_is_pushed(priority: int, ahead: int, flood: list[list[tuple[int, int, int]]]) -> None:
    queue: RunQueue[str] = RunQueue()
    namespaces = [Share() for _ in range(4)]
    lanes = [[lane(queue, Share(namespace)) for _ in range(3)] for namespace in namespaces]
    victim = lane(queue, Share(namespaces[0]))
    for number in range(ahead):
        victim.push(f"before{number}", priority, 0.0)
    victim.push("victim", priority, 0.0)
    # The agent has a fourth of its namespace's turns, that a fourth of its priority's, that a FLOOR of all.
    bound = int((ahead + 1) * 4 * 4 / FLOOR) + LEVELS * 16
    number = 0
    for turn in range(bound):
        for namespace, agent, urgency in flood[turn % len(flood)]:
            number += 1
            lanes[namespace][agent].push(f"flood{number}", urgency, 0.0)
        found = queue.pop()
        assert found is not None
        if found[0] == "victim":
            return
    raise AssertionError(f"it had no turn in {bound}")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(0, 2), PRIORITIES),
            st.tuples(st.just("discard"), st.integers(0, 2), st.integers(0, 30)),
            st.tuples(st.just("pop"), st.integers(0, 2), st.just(0)),
            st.tuples(st.just("serve"), st.integers(0, 2), st.integers(0, 7)),
        ),
        max_size=120,
    )
)
def test_nothing_is_lost_or_served_twice_whoever_serves(script: list[tuple[str, int, int]]) -> None:
    queues: list[RunQueue[str]] = [RunQueue() for _ in range(3)]
    shares = [Share(), Share()]
    lanes: list[Lane[str]] = [Lane(Share(shares[number % 2])) for number in range(3)]
    served_by = [set[int](), set[int](), set[int]()]
    waiting: list[set[str]] = [set(), set(), set()]
    for number, (what, which, value) in enumerate(script):
        if what == "push":
            item = f"{which}-{number % 31}"
            assert lanes[which].push(item, value, 0.0) is (item not in waiting[which])
            waiting[which].add(item)
        elif what == "discard":
            item = f"{which}-{value}"
            assert lanes[which].discard(item) is (item in waiting[which])
            waiting[which].discard(item)
        elif what == "serve":
            served_by[which] = {queue for queue in range(3) if value >> queue & 1}
            lanes[which].serve_by(queues[queue] for queue in served_by[which])
        else:
            found = queues[which].pop()
            there = set().union(*(waiting[index] for index in range(3) if which in served_by[index]))
            assert (found is None) is (not there)
            if found is not None:
                index = lanes.index(found[2])
                assert which in served_by[index]
                waiting[index].remove(found[0])
        for index in range(3):
            assert set(lanes[index]) == waiting[index] and len(lanes[index]) == len(waiting[index])


# --- what is told of those that wait ---------------------------------------------------------------------------------


def test_lane_counts_what_waits_at_each_priority() -> None:
    lane: Lane[str] = Lane(Share())
    for number, priority in enumerate((2, 3, 3, 5)):
        lane.push(f"i{number}", priority, float(number))
    assert lane.counts() == (0, 1, 2, 0, 1)
    assert (lane.oldest(1), lane.oldest(2), lane.oldest(3), lane.oldest()) == (None, 0.0, 0.0, 0.0)


def test_queue_tells_how_long_what_is_next_has_waited() -> None:
    queue: RunQueue[str] = RunQueue()
    lane: Lane[str] = Lane(Share())
    lane.serve_by([queue])
    assert queue.next_since() is None
    lane.push("background", 5, 1.0)
    assert (queue.next_since(), queue.next_since(least=3)) == (1.0, None)
    lane.push("normal", 3, 2.0)
    assert queue.next_since(least=3) == 2.0
    lane.discard("normal")
    assert (queue.next_since(least=3), queue.next_since()) == (None, 1.0)
    turn = queue.pop()
    assert turn is not None
    assert turn[0] == "background"
    assert queue.next_since() is None
