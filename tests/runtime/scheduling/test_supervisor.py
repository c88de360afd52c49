"""Supervisors: who is restarted, when, how often, and when they give up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx.v1 import agent_pb2
from amx_server.runtime.scheduling.supervisor import (
    EVERY,
    NOTHING,
    ONE_FOR_ALL,
    ONE_FOR_ONE,
    PERMANENT,
    REST_FOR_ONE,
    TEMPORARY,
    TRANSIENT,
    Child,
    Decision,
    Intensity,
    Supervisor,
    SupervisorSpec,
)

KINDS = {"P": PERMANENT, "T": TRANSIENT, "X": TEMPORARY}
STRATEGIES = (ONE_FOR_ONE, ONE_FOR_ALL, REST_FOR_ONE)


def spec(strategy: agent_pb2.RestartStrategy, kinds: str = "PPPP", **fields: float) -> SupervisorSpec:
    children = tuple(Child(f"c{number}", "default", KINDS[kind]) for number, kind in enumerate(kinds))
    return SupervisorSpec("s", children, strategy, **fields)  # type: ignore[arg-type]


def names(decision: Decision) -> list[str]:
    return [child.agent for child in decision.children]


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [(ONE_FOR_ONE, ["c1"]), (ONE_FOR_ALL, ["c0", "c1", "c2", "c3"]), (REST_FOR_ONE, ["c1", "c2", "c3"])],
)
def test_strategy_decides_whom_a_failure_concerns(strategy: agent_pb2.RestartStrategy, restarted: list[str]) -> None:
    declared = spec(strategy)
    assert names(Supervisor(declared).ended(declared.children[1], 0.0)) == restarted


def test_child_that_stands_for_many_concerns_no_other() -> None:
    many = Child("many", EVERY)
    supervisor = Supervisor(SupervisorSpec("s", (many, Child("c", "default")), ONE_FOR_ALL))
    assert names(supervisor.ended(many, 0.0, own=Intensity())) == ["many"]


def test_transient_child_is_not_restarted_after_a_kill_and_a_temporary_one_never() -> None:
    declared = spec(ONE_FOR_ALL, "TXP")
    transient, temporary, permanent = declared.children
    supervisor = Supervisor(declared)
    assert supervisor.ended(transient, 0.0, killed=True) == NOTHING
    assert supervisor.ended(temporary, 0.0) == NOTHING
    assert names(supervisor.ended(transient, 0.0)) == ["c0", "c2"]  # the temporary one is left alone
    assert names(supervisor.ended(permanent, 1.0, killed=True)) == ["c0", "c2"]


def test_too_many_restarts_within_the_window_are_the_end_for_all_that_share_it() -> None:
    declared = spec(ONE_FOR_ONE, "PPX", max_restarts=2, within=5.0)
    first, second, _ = declared.children
    supervisor = Supervisor(declared)
    assert names(supervisor.ended(first, 0.0)) == ["c0"]
    assert names(supervisor.ended(second, 4.0)) == ["c1"]
    assert names(supervisor.ended(first, 5.0)) == ["c0"]  # the first restart is out of the window
    decision = supervisor.ended(second, 5.1)
    assert decision.gave_up
    assert names(decision) == ["c0", "c1"]
    assert supervisor.ended(first, 100.0) == NOTHING
    supervisor.forgive()
    assert names(supervisor.ended(first, 101.0)) == ["c0"]


def test_instances_of_a_child_that_stands_for_many_are_counted_each_for_itself() -> None:
    many = Child("many", EVERY)
    supervisor = Supervisor(SupervisorSpec("s", (many,), max_restarts=1))
    one, other = Intensity(), Intensity()
    assert not supervisor.ended(many, 0.0, own=one).gave_up
    assert supervisor.ended(many, 0.1, own=one).gave_up
    assert not supervisor.ended(many, 0.2, own=other).gave_up
    assert not supervisor.gave_up


def test_wait_doubles_up_to_its_bound_while_restarts_do_not_last() -> None:
    declared = spec(ONE_FOR_ONE, max_restarts=100, within=5.0, max_backoff=1.0)
    intensity = Intensity()
    now, waits = 0.0, []
    for _ in range(6):
        wait = intensity.restart(declared, now)
        assert wait is not None
        waits.append(wait)
        now += wait + 4.9  # it failed before it had lasted
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert intensity.restart(declared, now + 5.0) == 0.1


def test_policy_with_nothing_said_has_the_documented_defaults() -> None:
    policy = agent_pb2.SupervisorPolicy()
    policy.children.add(agent="a")
    compiled = SupervisorSpec.compile("s", policy)
    assert compiled == SupervisorSpec("s", (Child("a", "default", PERMANENT),), ONE_FOR_ONE, 3, 5.0, 30.0)


@given(
    strategy=st.sampled_from(STRATEGIES),
    kinds=st.text("PTX", min_size=1, max_size=6),
    max_restarts=st.integers(1, 5),
    ends=st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.floats(0, 3)), max_size=60),
)
def test_never_more_restarts_than_the_intensity_allows_whatever_ends(
    strategy: agent_pb2.RestartStrategy, kinds: str, max_restarts: int, ends: list[tuple[int, bool, float]]
) -> None:
    declared = spec(strategy, kinds, max_restarts=max_restarts, within=5.0, max_backoff=2.0)
    supervisor = Supervisor(declared)
    now, restarts = 0.0, list[float]()
    for number, killed, pause in ends:
        now += pause
        child = declared.children[number % len(kinds)]
        had_given_up = supervisor.gave_up
        decision = supervisor.ended(child, now, killed=killed)
        assert all(other.restart != TEMPORARY for other in decision.children)
        # In order of start, and no child twice.
        order = [declared.children.index(other) for other in decision.children]
        assert order == sorted(set(order))
        if had_given_up:
            assert decision == NOTHING
        elif decision.gave_up:
            assert supervisor.gave_up
        elif decision.children:
            assert child in decision.children
            assert 0.1 <= decision.delay <= 2.0
            restarts.append(now)
        assert sum(now - 5.0 < moment for moment in restarts) <= max_restarts
