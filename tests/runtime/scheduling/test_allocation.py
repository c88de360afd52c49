"""Allocation policies: who gets which share, and which decisions follow from a situation. Tables and properties."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx_server.runtime.scheduling.allocation import (
    AIM,
    CALM_SECONDS,
    EFFICIENCY_BOUNDS,
    POLICIES,
    PRIORITY_WEIGHTS,
    RESERVED,
    SWITCH_SECONDS,
    LinkUse,
    Pool,
    ProviderUse,
    Snapshot,
    Usage,
    adaptive,
    plan,
    rebalance,
    scale,
    scale_provider,
    switch,
)
from amx_server.runtime.scheduling.pressure import Level

ONE_POOL = (Pool("shop", ("a", "b", "c"), (LinkUse("w1", 100, 50),), utilisation=0.5),)


def usage(agent: str, namespace: str = "shop", pool: int = 0, **fields: object) -> Usage:
    return replace(Usage(namespace, agent, pool), **fields)  # type: ignore[arg-type]


def situation(*usages: Usage, **fields: object) -> Snapshot:
    return replace(Snapshot(100.0, usages, ONE_POOL), **fields)  # type: ignore[arg-type]


def weights(policy: str, snapshot: Snapshot) -> dict[str, float]:
    """Weight by agent."""
    return {key[1]: share.weight for key, share in plan(policy, snapshot).shares.items() if key[1]}


# --- shares ----------------------------------------------------------------------------------------------------------


def test_fair_share_gives_everybody_the_same_and_reserves_four_fifths() -> None:
    shares = plan("fair-share", situation(usage("a"), usage("b"), usage("c"), usage("d"))).shares
    assert {share.weight for share in shares.values()} == {1.0}
    assert shares["shop", "a"].guaranteed == pytest.approx(100 * 0.25 * 0.8)
    assert shares["shop", ""].guaranteed == pytest.approx(100 * 0.8)


def test_fair_share_follows_configured_weights() -> None:
    shares = plan("fair-share", situation(usage("a", weight=3.0), usage("b"))).shares
    assert shares["shop", "a"].guaranteed == pytest.approx(3 * shares["shop", "b"].guaranteed)


def test_namespaces_share_first_however_many_agents_they_have() -> None:
    crowd = [usage(f"a{n}") for n in range(9)]
    shares = plan("fair-share", situation(*crowd, usage("z", "bank"), weights={"bank": 3.0})).shares
    assert shares["bank", "z"].guaranteed == pytest.approx(100 * 0.8 * 0.75)
    assert shares["shop", "a0"].guaranteed == pytest.approx(100 * 0.8 * 0.25 / 9)
    assert (shares["bank", ""].weight, shares["shop", ""].weight) == (3.0, 1.0)


@pytest.mark.parametrize(("level", "weight"), list(enumerate(PRIORITY_WEIGHTS)))
def test_priority_weighs_agents_by_what_waits(level: int, weight: float) -> None:
    urgency = tuple(3 if n == level else 0 for n in range(5))
    assert weights("priority", situation(usage("a", urgency=urgency)))["a"] == pytest.approx(weight)


def test_priority_takes_the_mean_of_a_mixture_and_normal_where_nothing_is_known() -> None:
    found = weights("priority", situation(usage("a", urgency=(1, 0, 0, 0, 1)), usage("b")))
    assert found == {"a": pytest.approx(0.55), "b": 0.5}


def test_priority_of_one_namespace_takes_nothing_from_another() -> None:
    loud = usage("a", urgency=(9, 0, 0, 0, 0))
    quiet = usage("z", "bank", urgency=(0, 0, 0, 0, 9))
    shares = plan("priority", situation(loud, quiet)).shares
    assert shares["shop", ""] == shares["bank", ""]


def test_performance_prefers_who_ends_more_with_a_slot() -> None:
    found = weights("performance", situation(usage("a", efficiency=15.0), usage("b", efficiency=5.0), usage("c")))
    assert found == {"a": pytest.approx(1.5), "b": pytest.approx(0.5), "c": 1.0}


def test_performance_starves_nobody_and_lets_nobody_take_all() -> None:
    found = weights("performance", situation(usage("a", efficiency=1e6), usage("b", efficiency=1e-6), usage("c")))
    assert (found["b"], found["a"]) == pytest.approx(EFFICIENCY_BOUNDS)


def test_adaptive_shares_as_its_mode_says() -> None:
    snapshot = situation(usage("a", urgency=(0, 0, 0, 0, 4)), usage("b"))
    assert weights("adaptive", snapshot) == weights("fair-share", snapshot)
    assert weights("adaptive", replace(snapshot, mode="priority")) == weights("priority", snapshot)


# --- the adaptive policy's switches ----------------------------------------------------------------------------------


def pool(utilisation: float = 0.5, **fields: object) -> Pool:
    return replace(ONE_POOL[0], utilisation=utilisation, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("snapshot", "mode", "because"),
    [
        (situation(usage("a", urgent_wait=0.4)), "priority", "urgent work waits 400 ms for a slot, above 250 ms"),
        (situation(cpu_bound=True), "performance", "the event loop is what is scarce"),
        (situation(mode="priority"), "fair-share", "50% of the fullest pool are taken, below 60%"),
        (situation(usage("a", urgent_wait=0.4), cpu_bound=True), "priority", "urgent work waits 400 ms"),
    ],
)
def test_adaptive_switches_and_says_why(snapshot: Snapshot, mode: str, because: str) -> None:
    decision = switch(snapshot)
    assert decision is not None
    assert (decision.kind, decision.policy) == ("switch_policy", mode)
    assert decision.because.startswith(because)
    assert decision.because.endswith(f"{mode} instead of {snapshot.mode}")


@pytest.mark.parametrize(
    "snapshot",
    [
        situation(),
        situation(usage("a", urgent_wait=0.2)),
        situation(mode="performance", pools=(pool(0.7),)),
        situation(usage("a", urgent_wait=9.0), mode="priority"),
        situation(usage("a", urgent_wait=9.0), mode_since=100.0 - SWITCH_SECONDS + 0.1),
    ],
    ids=["fair already", "urgent work waits little", "busy as before", "by priority already", "switched just now"],
)
def test_adaptive_stays_with_what_it_does(snapshot: Snapshot) -> None:
    assert switch(snapshot) is None


def test_only_the_adaptive_policy_switches() -> None:
    snapshot = situation(usage("a", urgent_wait=9.0))
    for policy in POLICIES:
        kinds = {decision.kind for decision in plan(policy, snapshot).decisions}
        assert ("switch_policy" in kinds) == (policy == "adaptive")


# --- scaling ---------------------------------------------------------------------------------------------------------


def test_pool_that_is_full_while_work_waits_is_too_small() -> None:
    decision = scale(Pool("shop", ("a",), (LinkUse("w1", 10, 10),), utilisation=0.95, ready=14))
    assert decision is not None
    assert (decision.kind, decision.namespace, decision.agent, decision.amount) == ("scale_up", "shop", "a", 30)
    assert decision.because == (
        "95% of 10 slots are taken, above 80%, and 14 instances wait; 40 slots would be 60% taken"
    )


@pytest.mark.parametrize(
    "full",
    [
        Pool("shop", ("a",), (LinkUse("w1", 10, 10),), utilisation=0.95, ready=0),
        Pool("shop", ("a",), (LinkUse("w1", 10, 8),), utilisation=0.80, ready=9),
    ],
    ids=["nobody waits", "just below"],
)
def test_pool_that_suffices_is_left_alone(full: Pool) -> None:
    assert scale(full) is None


def provider(in_flight: int = 60, queued: int = 30, limit: float = 64.0) -> ProviderUse:
    return ProviderUse("llm", in_flight, queued, limit, 64)


def test_provider_that_may_be_asked_for_more_is_named() -> None:
    decision = scale_provider(provider(), Level.NORMAL)
    assert decision is not None
    assert (decision.kind, decision.provider, decision.agent, decision.amount) == ("scale_up", "llm", "", 86)
    assert decision.because == (
        "provider llm: 60 operations of 64 at most are under way, above 80%, and 30 wait;"
        " 150 would be 60% taken, if it can take so many"
    )


@pytest.mark.parametrize(
    ("use", "pressure"),
    [
        (provider(in_flight=50), Level.NORMAL),
        (provider(queued=0), Level.NORMAL),
        (provider(limit=40.0), Level.NORMAL),
        (provider(), Level.ELEVATED),
    ],
    ids=["room enough", "nobody waits", "it takes no more by itself", "the engine is busy"],
)
def test_provider_is_left_alone(use: ProviderUse, pressure: Level) -> None:
    assert scale_provider(use, pressure) is None


def test_pool_that_is_idle_for_long_can_lose_links() -> None:
    links = (LinkUse("w1", 10, 2), LinkUse("w2", 10, 1), LinkUse("w3", 40, 3))
    idle = Pool("shop", ("a",), links, utilisation=0.1, calm=CALM_SECONDS)
    decision = scale(idle)
    assert decision is not None
    assert (decision.kind, decision.amount) == ("scale_down", 20)
    assert "10% of 60 slots are taken, below 30% for 30 s; 10 slots would be 60% taken" in decision.because


@pytest.mark.parametrize(
    "idle",
    [
        Pool("shop", ("a",), (LinkUse("w1", 10, 0),), calm=999.0),
        Pool("shop", ("a",), (LinkUse("w1", 10, 0), LinkUse("w2", 10, 0)), calm=CALM_SECONDS - 1),
        Pool("shop", ("a",), (LinkUse("w1", 10, 0), LinkUse("w2", 10, 0)), utilisation=0.3, calm=999.0),
    ],
    ids=["its only link", "not long enough", "not idle enough"],
)
def test_pool_keeps_its_slots(idle: Pool) -> None:
    assert scale(idle) is None


# --- rebalancing -----------------------------------------------------------------------------------------------------


def lopsided(busy: int = 9, rest: int = 1, idle: int = 400, instances: int = 5000) -> Pool:
    links = (LinkUse("w1", 10, busy, idle), LinkUse("w2", 10, rest), LinkUse("w3", 10, rest + 1))
    return Pool("shop", ("a",), links, instances=instances)


def test_idle_instances_leave_the_busiest_link_for_the_least_busy() -> None:
    decision = rebalance(lopsided())
    assert decision is not None
    assert (decision.kind, decision.source, decision.target, decision.amount) == ("rebalance", "w1", "w2", 50)
    assert decision.because == (
        "link w1 has 90% of its slots taken, 3 links have 40% on average;"
        " 50 of its 400 idle instances move to link w2 (10%)"
    )


def test_no_more_instances_move_than_the_imbalance_asks_for() -> None:
    decision = rebalance(lopsided(idle=8))
    assert decision is not None
    assert decision.amount == 5


@pytest.mark.parametrize(
    "balanced",
    [
        lopsided(busy=5),
        lopsided(busy=9, rest=8),
        lopsided(idle=0),
        Pool("shop", ("a",), (LinkUse("w1", 10, 10, 400),), instances=400),
    ],
    ids=["not busy", "all busy", "nobody to move", "nowhere to go"],
)
def test_links_that_are_balanced_are_left_alone(balanced: Pool) -> None:
    assert rebalance(balanced) is None


# --- what holds for all of them --------------------------------------------------------------------------------------

counts = st.integers(0, 1000)
moderate = st.floats(0.01, 100)
links = st.builds(
    lambda id, slots, part, idle: LinkUse(f"w{id}", slots, int(slots * part), idle),
    st.integers(0, 10**6),
    st.integers(1, 4096),
    st.floats(0, 1),
    counts,
)
pools = st.lists(
    st.builds(
        Pool,
        st.sampled_from(["shop", "bank"]),
        st.just(("a",)),
        st.lists(links, min_size=1, max_size=4, unique_by=lambda link: link.link_id).map(tuple),
        utilisation=st.floats(0, 1),
        ready=counts,
        instances=st.integers(0, 10**6),
        calm=st.floats(0, 100),
    ),
    min_size=1,
    max_size=3,
).map(tuple)


providers = st.builds(
    lambda in_flight, queued, limit, most: ProviderUse("llm", in_flight, queued, limit, most),
    counts,
    counts,
    st.floats(1, 300),
    st.integers(1, 256),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    found = draw(pools)
    usages = st.builds(
        Usage,
        st.sampled_from(["shop", "bank"]),
        st.text("abcdef", min_size=1, max_size=3),
        st.integers(0, len(found) - 1),
        weight=moderate,
        ready=counts,
        running=counts,
        urgency=st.tuples(counts, counts, counts, counts, counts),
        urgent_wait=st.floats(0, 10),
        efficiency=st.floats(0, 1e6),
    )
    return Snapshot(
        draw(st.floats(0, 1000)),
        tuple(draw(st.lists(usages, max_size=8, unique_by=lambda usage: (usage.namespace, usage.agent)))),
        found,
        tuple(draw(st.lists(providers, max_size=2))),
        draw(st.sampled_from(Level)),
        draw(st.booleans()),
        {"bank": draw(moderate)},
        draw(st.sampled_from(["fair-share", "priority", "performance"])),
        draw(st.floats(-100, 1000)),
    )


policies = st.sampled_from(sorted(POLICIES))


@given(policies, snapshots())
def test_every_share_is_above_zero_and_no_pool_is_promised_twice(policy: str, snapshot: Snapshot) -> None:
    shares = plan(policy, snapshot).shares
    assert set(shares) == {(usage.namespace, usage.agent) for usage in snapshot.usages} | {
        (usage.namespace, "") for usage in snapshot.usages
    }
    assert all(share.weight > 0 for share in shares.values())
    for number, found in enumerate(snapshot.pools):
        promised = sum(shares[u.namespace, u.agent].guaranteed for u in snapshot.usages if u.pool == number)
        assert promised <= RESERVED * found.slots * (1 + 1e-9)


@given(policies, snapshots(), st.randoms(use_true_random=False))
def test_order_of_what_is_seen_makes_no_difference(policy: str, snapshot: Snapshot, random: object) -> None:
    usages = list(snapshot.usages)
    random.shuffle(usages)  # type: ignore[attr-defined]
    other = replace(
        snapshot, usages=tuple(usages), pools=tuple(replace(p, links=p.links[::-1]) for p in snapshot.pools)
    )
    assert plan(policy, other) == plan(policy, snapshot)


@given(policies, snapshots())
def test_no_decision_is_without_its_numbers_and_none_is_empty(policy: str, snapshot: Snapshot) -> None:
    for decision in plan(policy, snapshot).decisions:
        assert re.search(r"\d", decision.because)
        if decision.kind != "switch_policy":
            assert decision.amount >= 1
            assert decision.provider or (decision.namespace and decision.agent)


@given(snapshots())
def test_performance_stays_within_its_bounds(snapshot: Snapshot) -> None:
    low, high = EFFICIENCY_BOUNDS
    shares = plan("performance", snapshot).shares
    for one in snapshot.usages:
        assert low * (1 - 1e-9) <= shares[one.namespace, one.agent].weight / one.weight <= high * (1 + 1e-9)


@given(snapshots())
def test_scaling_converges_a_pool_scaled_as_decided_is_not_scaled_back(snapshot: Snapshot) -> None:
    for found in snapshot.pools:
        decision = scale(found)
        if decision is None or decision.kind != "scale_up":
            continue
        slots = found.slots + int(decision.amount)
        busy = min(slots, found.in_flight + found.ready)
        grown = replace(
            found,
            links=(LinkUse("all", slots, busy),),
            utilisation=busy / slots,
            ready=0,
            calm=99,
        )
        assert grown.utilisation <= AIM + 1e-9
        assert scale(grown) is None


@given(snapshots())
def test_rebalancing_moves_what_is_there_between_two_links_of_the_pool(snapshot: Snapshot) -> None:
    for found in snapshot.pools:
        decision = rebalance(found)
        if decision is None:
            continue
        by_id = {link.link_id: link for link in found.links}
        assert decision.amount <= by_id[decision.source].idle_instances
        assert by_id[decision.source].utilisation > by_id[decision.target].utilisation


def test_adaptive_is_one_of_the_policies() -> None:
    assert POLICIES["adaptive"] is adaptive
    assert set(POLICIES) == {"fair-share", "priority", "performance", "adaptive"}
