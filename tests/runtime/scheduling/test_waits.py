"""Waits: each is counted while it lasts, once, under its reason and its instance, in whatever order they end."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from amx.v1 import engine_pb2
from amx_server.inference.io import Waiter
from amx_server.inference.io import WaitReason as IoReason
from amx_server.inference.io.accounting import Wait as IoWait
from amx_server.runtime.instances import Agent, Instance
from amx_server.runtime.namespaces import Namespace
from amx_server.runtime.scheduling.waits import IoWaits, Wait, WaitReason, Waits


def namespace(name: str) -> Namespace:
    return Namespace(name, None, None, None)  # type: ignore[arg-type]  # nothing of it is asked here but its name


def instance(key: str, tenant: Namespace | None = None) -> Instance:
    return Instance(Agent(tenant or namespace("default"), "Cart"), key)


def test_wait_reasons_are_those_of_the_contract_and_of_the_io_manager() -> None:
    contract = {
        name.removeprefix("WAIT_REASON_").lower() for name in engine_pb2.WaitReason.DESCRIPTOR.values_by_name
    } - {"unspecified"}
    assert {str(reason) for reason in WaitReason} == contract
    assert {str(reason) for reason in IoReason} <= contract


def test_wait_is_counted_until_it_ends_and_then_by_its_length() -> None:
    waits = Waits()
    wait = waits.began(instance("7"), WaitReason.MODEL, "openai", 10.0)
    assert waits.counts[WaitReason.MODEL] == len(waits) == 1
    waits.ended(wait, 10.75)
    waits.ended(wait, 11.0)  # said twice, counted once
    assert len(waits) == waits.counts[WaitReason.MODEL] == 0 and list(waits) == []
    assert sum(waits.seconds[WaitReason.MODEL].counts) == 1
    assert waits.seconds[WaitReason.MODEL].total_seconds == 0.75


def test_waits_of_an_instance_are_listed_longest_first() -> None:
    waits, cart = Waits(), instance("7")
    first = waits.began(cart, WaitReason.MESSAGE, "Stock/1", 1.0)
    second = waits.began(cart, WaitReason.MESSAGE, "Stock/2", 2.0)
    third = waits.began(cart, WaitReason.TIMER, "", 3.0)
    assert waits.of(cart) == [first, second, third]
    waits.ended(second, 4.0)
    assert waits.of(cart) == [first, third]
    waits.ended(third, 4.0)
    waits.ended(first, 4.0)
    assert waits.of(cart) == []


def test_instances_are_counted_by_namespace_and_reason_once_each() -> None:
    waits, tenant = Waits(), namespace("tenant")
    busy = instance("1", tenant)
    for detail in ("a", "b"):
        waits.began(busy, WaitReason.TOOL, detail, 0.0)
    waits.began(instance("2", tenant), WaitReason.TOOL, "a", 0.0)
    waits.began(instance("3"), WaitReason.TOOL, "a", 0.0)
    assert waits.by_reason(tenant) == {WaitReason.TOOL: 2}


# Waits for a link are in the lanes: see tests/engine/test_turns.py.
ENTERED = [reason for reason in WaitReason if reason is not WaitReason.LINK]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(ENTERED), st.integers(0, 50)), max_size=60))
def test_waits_agree_with_a_plain_list_whatever_ends_when(script: list[tuple[int, WaitReason, int]]) -> None:
    waits = Waits()
    instances = [instance(str(number)) for number in range(3)]
    open_waits: list[Wait] = []
    for now, (who, reason, which) in enumerate(script):
        if who < 3:
            open_waits.append(waits.began(instances[who], reason, "", float(now)))
        elif open_waits:
            waits.ended(open_waits.pop(which % len(open_waits)), 100.0)
        for each in instances:
            assert waits.of(each) == [wait for wait in open_waits if wait.instance is each]
        assert len(waits) == len(open_waits) == len(list(waits))
        for reason in WaitReason:
            assert waits.counts[reason] == sum(wait.reason is reason for wait in open_waits)


@dataclass
class Awake:
    """The instances that are awake."""

    found: dict[tuple[str, str, str], Instance] = field(default_factory=dict)

    def __call__(self, namespace: str, agent: str, key: str) -> Instance | None:
        return self.found.get((namespace, agent, key))


def io_wait(agent: str, provider: str = "openai") -> IoWait:
    return IoWait(Waiter(agent, "tenant"), IoReason.MODEL, provider, "POST /v1/chat/completions", b"", 1.0)


def test_waits_of_the_io_manager_are_entered_for_the_instance_that_waits() -> None:
    waits, cart = Waits(), instance("a/b")
    observer = IoWaits(waits, Awake({("tenant", "Cart", "a/b"): cart}), lambda: 3.0)
    first, second = io_wait("Cart/a/b"), io_wait("Cart/a/b")  # equal, and yet two
    observer.wait_began(first)
    observer.wait_began(second)
    (wait, _) = waits.of(cart)
    assert (wait.reason, wait.detail, wait.since) == (WaitReason.MODEL, "openai: POST /v1/chat/completions", 1.0)
    observer.wait_ended(first, 2.0, "")
    assert waits.counts[WaitReason.MODEL] == 1
    observer.wait_ended(second, 2.0, "CANCELLED")
    assert len(waits) == 0


def test_waits_of_the_io_manager_for_nobody_or_someone_asleep_are_passed_over() -> None:
    waits = Waits()
    observer = IoWaits(waits, Awake(), lambda: 3.0)
    for wait in (io_wait(""), io_wait("Cart/asleep")):
        observer.wait_began(wait)
        assert len(waits) == 0
        observer.wait_ended(wait, 1.0, "")
