"""What protects handlers and tenants: circuit breakers, quotas, permissions. Each refusal has its name."""

from __future__ import annotations

from typing import Any

import pytest

from amx.v1 import agent_pb2, link_pb2, memory_pb2, message_pb2
from amx_server.security.identity import Identity
from tests.engine.link_driver import (
    DURABLE,
    VOLATILE,
    Rig,
    Sdk,
    agent,
    configured,
    event,
    message,
    put,
    running,
    value_memory,
)


def fragile(threshold: int = 3, open_ms: int = 10_000, **fields: Any) -> agent_pb2.AgentDefinition:
    policy = agent_pb2.CircuitBreakerPolicy(failure_threshold=threshold, open_ms=open_ms)
    return agent("fragile", agent_pb2.HandlerDefinition(name="handle", circuit_breaker=policy, **fields))


# --- circuit breakers ------------------------------------------------------------------------------------------------


async def trip(sdk: Sdk, failures: int = 3) -> None:
    for key in range(failures):
        call = sdk.request("fragile", key=str(key))
        (await sdk.work()).fail("BROKEN")
        assert (await sdk.refusal(call)).reason == "BROKEN"


async def test_circuit_opens_after_failures_in_a_row_over_all_instances(rig: Rig) -> None:
    sdk = await rig.worker(fragile())
    await trip(sdk)
    failure = await sdk.refusal(sdk.request("fragile", key="other"))
    assert failure.reason == "CIRCUIT_OPEN"
    assert failure.retryable
    assert 0 < failure.retry_delay_ms <= 10_000
    assert sdk.waiting == 0
    assert rig.engine._gauges().breakers == {("fragile", "handle"): 2}


async def test_circuit_that_opens_answers_everything_that_waits_for_a_turn_on_the_link(rig: Rig) -> None:
    sdk = await rig.worker(fragile(), agent("other"), credit=1)
    calls = [sdk.request("fragile", key="a") for _ in range(9)]
    others = [sdk.request("other", key=str(number)) for number in range(3)]
    for _ in range(3 + len(others)):
        work = await sdk.work()
        if work.message.agent == "fragile":
            work.fail("BROKEN")
        else:
            work.succeed()
    for call in others:
        await sdk.result(call)
    for call in calls[3:]:
        assert (await sdk.refusal(call)).reason == "CIRCUIT_OPEN"


async def test_circuit_stays_closed_while_successes_come_between(rig: Rig) -> None:
    sdk = await rig.worker(fragile(threshold=2))
    for _ in range(4):
        await trip(sdk, failures=1)
        call = sdk.request("fragile")
        (await sdk.work()).succeed()
        await sdk.result(call)


async def test_circuit_half_open_lets_one_probe_through_and_closes_when_it_succeeds(rig: Rig) -> None:
    sdk = await rig.worker(fragile())
    await trip(sdk)
    await rig.pass_time(11)
    probe = sdk.request("fragile", key="a")
    work = await sdk.work()
    assert (await sdk.refusal(sdk.request("fragile", key="b"))).reason == "CIRCUIT_OPEN"
    work.succeed("well again")
    assert await sdk.result(probe) == "well again"
    sdk.request("fragile", key="b")
    await sdk.work()


async def test_circuit_opens_again_when_its_probe_fails(rig: Rig) -> None:
    sdk = await rig.worker(fragile())
    await trip(sdk)
    await rig.pass_time(11)
    await trip(sdk, failures=1)
    assert (await sdk.refusal(sdk.request("fragile"))).reason == "CIRCUIT_OPEN"


async def test_circuit_that_is_open_holds_durable_messages_back_and_loses_none(rig: Rig) -> None:
    sdk = await rig.worker(fragile())
    await trip(sdk)
    for number in range(3):
        await sdk.accepted(sdk.send("fragile", number, key=str(number)))
    await rig.settle()
    assert sdk.waiting == 0
    await rig.pass_time(11)
    assert sdk.waiting == 1
    (await sdk.work()).succeed()
    await rig.pass_time(25, step=5)
    assert sdk.waiting == 2


@pytest.mark.parametrize("code", [1, 3, 5, 7, 16])
async def test_circuit_does_not_count_what_is_the_callers_fault(rig: Rig, code: int) -> None:
    sdk = await rig.worker(fragile(threshold=1))
    call = sdk.request("fragile")
    (await sdk.work()).fail("INVALID_INPUT", code=code)
    await sdk.refusal(call)
    sdk.request("fragile")
    await sdk.work()


async def test_circuit_counts_the_handlers_time_limit_and_not_the_callers_patience(rig: Rig) -> None:
    sdk = await rig.worker(fragile(threshold=1, timeout_ms=5000))
    sdk.request("fragile", key="a", timeout_ms=1000)
    (await sdk.work())  # fmt: skip
    await rig.pass_time(2)
    sdk.request("fragile", key="b", timeout_ms=60_000)
    await sdk.work()
    await rig.pass_time(6)
    assert (await sdk.refusal(sdk.request("fragile", key="c"))).reason == "CIRCUIT_OPEN"


async def test_circuit_breaker_can_be_disabled(rig: Rig) -> None:
    policy = agent_pb2.CircuitBreakerPolicy(disabled=True)
    sdk = await rig.worker(agent("fragile", agent_pb2.HandlerDefinition(name="handle", circuit_breaker=policy)))
    await trip(sdk, failures=30)


# --- quotas ----------------------------------------------------------------------------------------------------------


def limited(**quota: Any) -> Any:
    return running(configured(quotas={"default": quota}))


async def test_quota_on_rate_refuses_by_name_and_recovers() -> None:
    async with limited(messages_per_second=2, burst=2) as rig:
        sdk = await rig.worker(agent("echo"))
        for key in "ab":
            sdk.request("echo", key=key)
        failure = await sdk.refusal(sdk.request("echo", key="c"))
        assert failure.reason == "QUOTA_RATE"
        assert failure.retry_delay_ms
        assert (await sdk.refusal(sdk.publish("t"))).reason == "QUOTA_RATE"
        await rig.pass_time(1)
        sdk.request("echo", key="c")
        await rig.settle()
        assert sdk.waiting == 3


async def test_quota_on_mailboxes_refuses_by_name() -> None:
    async with limited(mailbox_messages=2) as rig:
        sdk = await rig.worker(agent("echo"), credit=0)
        for key in "ab":
            sdk.request("echo", key=key)
        assert (await sdk.refusal(sdk.request("echo", key="c"))).reason == "QUOTA_MAILBOX"
        sdk.grant(10)
        for _ in range(2):
            (await sdk.work()).succeed()
        sdk.request("echo", key="c")
        await sdk.work()
        assert rig.engine.namespace("default").quota.waiting == 0


async def test_quota_on_stored_bytes_refuses_by_name_until_messages_end() -> None:
    async with limited(stored_bytes=2000) as rig:
        sdk = await rig.worker(agent("echo", memories=(value_memory(),)))
        await sdk.accepted(sdk.send("echo", "x" * 1500))
        failure = await sdk.refusal(sdk.send("echo", "x" * 1500))
        assert failure.reason == "QUOTA_STORED_BYTES"
        work = await sdk.work()
        work.succeed()
        await rig.settle()
        assert rig.engine.namespace("default").quota.stored_bytes == 0
        await sdk.accepted(sdk.send("echo", 1))
        (await sdk.work()).succeed()
        call = sdk.request("echo")
        (await sdk.work()).succeed(effects=link_pb2.Effects(memory=[put("total", "x" * 3000)]))
        assert (await sdk.refusal(call)).reason == "QUOTA_STORED_BYTES"


async def test_quota_of_stored_bytes_is_given_back_by_whatever_way_a_message_ends() -> None:
    async with limited(stored_bytes=1_000_000) as rig:
        sdk = await rig.worker(agent("echo"), credit=1)
        quota = rig.engine.namespace("default").quota
        sdk.send("echo", "succeeds", message_id="same")
        sdk.send("echo", "is a repeat", message_id="same")
        (await sdk.work()).succeed()
        call = sdk.request("echo", "fails", durability=DURABLE)
        (await sdk.work()).fail("BROKEN")
        await sdk.refusal(call)
        late = sdk.request("echo", "late", durability=DURABLE, timeout_ms=1000)
        work = await sdk.work()
        cancelled = sdk.request("echo", "cancelled", durability=DURABLE)
        await rig.settle()
        sdk.cancel(cancelled)
        await rig.pass_time(2)
        assert (await sdk.refusal(late)).reason == "DEADLINE_EXCEEDED"
        work.fail("CANCELLED", code=1)
        await rig.settle()
        assert quota.stored_bytes == 0
        await sdk.accepted(sdk.send("echo", "dies"))
        (await sdk.work()).fail("BROKEN")
        await rig.settle()
        assert quota.stored_bytes > 0  # a dead letter is kept
        await rig.engine.dead_letters.drop(rig.engine.namespace("default"), [], "")
        assert quota.stored_bytes == 0


async def test_quotas_are_per_namespace() -> None:
    config = configured(
        quotas={"default": {"messages_per_second": 1}, "namespaces": {"big": {"messages_per_second": 0}}}
    )
    async with running(config) as rig:
        big = rig.sdk(identity=Identity("big", "big", ("admin",), {"*"}))
        await big.connect(agent("echo"))
        small = await rig.worker(agent("echo"))
        for key in range(5):
            big.request("echo", key=str(key))
        small.request("echo", key="a")
        assert (await small.refusal(small.request("echo", key="b"))).reason == "QUOTA_RATE"
        await rig.settle()
        assert (big.waiting, small.waiting) == (5, 1)


# --- permissions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "value", "permission"),
    [
        ("send", message("echo"), "messages:send"),
        ("request", message("echo"), "messages:send"),
        ("stream", message("echo"), "messages:send"),
        ("publish", event("t"), "events:publish"),
        ("subscribe", message_pb2.Subscription(pattern="t"), "events:subscribe"),
        ("broadcast", link_pb2.Broadcast(scope=message_pb2.BroadcastScope(all=True)), "broadcast:send"),
        ("memory", memory_pb2.MemoryOperation(name="total", get=""), "memory:read"),
        ("memory", memory_pb2.MemoryOperation(name="total", remove=""), "memory:write"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_call_without_its_permission_is_refused_and_names_it(
    rig: Rig, operation: str, value: Any, permission: str
) -> None:
    await rig.worker(agent("echo", memories=(value_memory(),)))
    nobody = await rig.client(Identity("nobody", "default"))
    failure = await nobody.refusal(nobody.call(operation, value))
    assert (failure.reason, failure.code) == ("PERMISSION_DENIED", 7)
    assert failure.metadata["permission"] == permission
    assert permission in failure.message
    somebody = await rig.client(Identity("somebody", "default", (), {permission}))
    call = somebody.call(operation, value)
    await rig.settle()
    reply = somebody.replies.get(call)
    assert reply is None or reply.failure.reason != "PERMISSION_DENIED"


async def test_handler_that_requires_a_permission_is_closed_to_others(rig: Rig) -> None:
    guarded = agent_pb2.HandlerDefinition(name="handle", permissions=["vault:open", "vault:close"])
    worker = await rig.worker(agent("vault", guarded))
    half = await rig.client(Identity("half", "default", (), {"messages:send", "vault:open"}))
    for call in (half.request("vault"), half.send("vault"), half.stream("vault")):
        failure = await half.refusal(call)
        assert failure.metadata["permission"] == "vault:close"
        assert "vault#handle" in failure.message
    whole = await rig.client(Identity("whole", "default", (), {"messages:send", "vault:*"}))
    call = whole.request("vault")
    (await worker.work()).succeed("open")
    assert await whole.result(call) == "open"
    scheduled = whole.send("vault", durability=VOLATILE)
    assert (await whole.accepted(scheduled)).message_id


async def test_quota_of_stored_bytes_follows_what_is_kept_and_forgotten() -> None:
    config = configured(quotas={"default": {"stored_bytes": 1_000_000}}, storage={"dedup_window": 600.0})
    async with running(config) as rig:
        sdk = await rig.worker(agent("echo"))
        quota = rig.engine.namespace("default").quota
        await sdk.accepted(sdk.send("echo"))
        (await sdk.work()).succeed("x" * 5000)
        await rig.pass_time(100)
        await rig.engine._purge()
        assert quota.stored_bytes > 5000  # the result is kept for repeats
        await rig.pass_time(1000)
        await rig.engine._purge()
        assert quota.stored_bytes == 0
