"""Durable messages and repeats: stored first, once in effect, retried, dead at last, restored."""

from __future__ import annotations

from pathlib import Path

import pytest

from amx.v1 import agent_pb2, common_pb2, engine_pb2, link_pb2
from amx_server.core.clock import ManualClock
from amx_server.storage import MessageState, StoredMessage, open_store
from tests.engine.link_driver import (
    DURABLE,
    VOLATILE,
    Rig,
    agent,
    configured,
    content,
    message,
    put,
    remembered,
    running,
    value_memory,
)


def handler(name: str = "handle", **retry: object) -> agent_pb2.HandlerDefinition:
    return agent_pb2.HandlerDefinition(name=name, retry=agent_pb2.RetryPolicy(**retry))  # type: ignore[arg-type]


async def stored(rig: Rig, message_id: str) -> StoredMessage:
    await rig.engine.store.flush()
    row = await rig.engine.store.message("default", message_id)
    assert row is not None, message_id
    return row


async def letters(rig: Rig) -> list[engine_pb2.DeadLetter]:
    found, _ = await rig.engine.queries.dead_letters(rig.engine.namespace("default"), "", 0, 100)
    return found


# --- storing and repeats ---------------------------------------------------------------------------------------------


async def test_work_of_high_priority_is_stored_at_once_where_commits_wait_for_others() -> None:
    async with running(store=open_store(":memory:", commit_delay=3600)) as rig:
        worker = await rig.worker(agent("echo", memories=(value_memory(),)))
        ordinary = worker.send("echo", 1, key="a")
        assert ordinary not in worker.replies
        urgent = worker.send("echo", 2, key="b", priority=common_pb2.PRIORITY_HIGH)
        await worker.accepted(urgent)
        await worker.accepted(ordinary)  # what was before it is stored with it
        asked = worker.request("echo", 3, key="c", priority=common_pb2.PRIORITY_CRITICAL)
        while (invocation := await worker.work()).value != 3:
            pass
        invocation.succeed("stored", link_pb2.Effects(memory=[put("total", 3)]))
        assert await worker.result(asked) == "stored"


async def test_send_is_stored_before_it_is_acknowledged_and_before_it_runs(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    call = worker.send("echo", 1, message_id="m")
    assert call not in worker.replies
    assert worker.waiting == 0
    assert (await worker.accepted(call)).message_id == "m"
    assert (await stored(rig, "m")).state == MessageState.PENDING
    (await worker.work()).succeed("done")
    await rig.settle()
    row = await stored(rig, "m")
    assert row.state == MessageState.SUCCEEDED
    assert row.attempts == 1
    assert content(link_pb2.Reply.FromString(row.outcome).result) == "done"


async def test_send_without_an_id_gets_one(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    ids = {(await worker.accepted(worker.send("echo", n, key=str(n)))).message_id for n in range(3)}
    assert len(ids) == 3
    assert all(ids)


async def test_volatile_send_is_not_stored(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    accepted = await worker.accepted(worker.send("echo", 1, message_id="v", durability=VOLATILE))
    assert accepted.message_id == "v"
    (await worker.work()).succeed()
    await rig.settle()
    assert await rig.engine.store.message("default", "v") is None


async def test_handler_may_ask_for_durable_requests(rig: Rig) -> None:
    durable = agent_pb2.HandlerDefinition(name="handle", durability=DURABLE)
    worker = await rig.worker(agent("echo", durable))
    call = worker.request("echo", 1, message_id="m")
    (await worker.work()).succeed("stored")
    assert await worker.result(call) == "stored"
    assert (await stored(rig, "m")).state == MessageState.SUCCEEDED


async def test_repeated_send_is_one_message_in_the_same_batch_later_and_after_its_end(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    items = [worker.call_item("send", message("echo", n, message_id="same")) for n in range(3)]
    worker.feed(*items)
    accepted = [await worker.accepted(item.id) for item in items]
    assert [one.duplicate for one in accepted] == [False, True, True]
    assert (await worker.accepted(worker.send("echo", 9, message_id="same"))).duplicate
    work = await worker.work()
    assert work.value == 0
    work.succeed()
    await rig.settle()
    assert (await worker.accepted(worker.send("echo", 9, message_id="same"))).duplicate
    await rig.settle()
    assert worker.waiting == 0
    assert rig.counters.duplicates == 4
    assert rig.counters.messages_accepted >= 1


async def test_repeated_durable_request_waits_for_the_one_that_runs(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    first = worker.request("echo", 1, durability=DURABLE, message_id="m")
    work = await worker.work()
    second = worker.request("echo", 1, durability=DURABLE, message_id="m")
    await rig.settle()
    assert worker.waiting == 0
    work.succeed("shared")
    assert await worker.result(first) == await worker.result(second) == "shared"


async def test_repeated_durable_request_gets_the_outcome_of_one_that_has_ended(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    first = worker.request("echo", 1, durability=DURABLE, message_id="good")
    (await worker.work()).succeed("kept")
    await worker.result(first)
    assert await worker.result(worker.request("echo", 1, durability=DURABLE, message_id="good")) == "kept"
    failing = worker.request("echo", 1, durability=DURABLE, message_id="bad")
    (await worker.work()).fail("BROKEN")
    await worker.refusal(failing)
    again = await worker.refusal(worker.request("echo", 1, durability=DURABLE, message_id="bad"))
    assert again.reason == "BROKEN"
    await rig.settle()
    assert worker.waiting == 0


async def test_repeated_durable_request_can_be_given_up_alone(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    first = worker.request("echo", 1, durability=DURABLE, message_id="m")
    work = await worker.work()
    second = worker.request("echo", 1, durability=DURABLE, message_id="m")
    await rig.settle()
    worker.cancel(second)
    assert (await worker.refusal(second)).reason == "CANCELLED"
    work.succeed("for the first")
    assert await worker.result(first) == "for the first"


async def test_idempotency_key_of_a_volatile_request_joins_and_replays(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    first = worker.request("echo", 1, idempotency_key="i")
    work = await worker.work()
    second = worker.request("echo", 1, idempotency_key="i")
    work.succeed("once")
    assert await worker.result(first) == await worker.result(second) == "once"
    assert await worker.result(worker.request("echo", 1, idempotency_key="i")) == "once"
    assert await rig.engine.store.message("default", "idempotent:i") is None
    await rig.pass_time(601)
    worker.request("echo", 1, idempotency_key="i")
    (await worker.work()).succeed("anew, after the window")


async def test_idempotency_key_keeps_final_failures_and_forgets_those_worth_repeating(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    call = worker.request("echo", idempotency_key="final")
    (await worker.work()).fail("WRONG")
    assert (await worker.refusal(call)).reason == "WRONG"
    assert (await worker.refusal(worker.request("echo", idempotency_key="final"))).reason == "WRONG"
    call = worker.request("echo", idempotency_key="passing")
    (await worker.work()).fail("BUSY", retryable=True)
    await worker.refusal(call)
    call = worker.request("echo", idempotency_key="passing")
    (await worker.work()).succeed("now it went")
    assert await worker.result(call) == "now it went"


async def test_idempotency_key_of_a_cancelled_request_may_be_used_again(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    call = worker.request("echo", idempotency_key="i")
    work = await worker.work()
    worker.cancel(call)
    work.fail("CANCELLED", code=1)
    again = worker.request("echo", idempotency_key="i")
    (await worker.work()).succeed("ran")
    assert await worker.result(again) == "ran"


async def test_idempotency_keys_are_bounded_even_beside_one_that_does_not_end() -> None:
    async with running(configured(delivery={"idempotency_keys": 3})) as rig:
        worker = await rig.worker(agent("echo"))
        worker.request("echo", key="slow", idempotency_key="slow")
        await worker.work()
        for number in range(20):
            call = worker.request("echo", idempotency_key=str(number))
            (await worker.work()).succeed()
            await worker.result(call)
        assert len(rig.engine.namespace("default").idempotent) == 4


async def test_idempotency_key_of_a_durable_request_survives_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        worker = await rig.worker(agent("echo"))
        call = worker.request("echo", durability=DURABLE, idempotency_key="i")
        (await worker.work()).succeed("first run")
        assert await worker.result(call) == "first run"
    async with running(store=path) as rig:
        worker = await rig.worker(agent("echo"))
        call = worker.request("echo", durability=DURABLE, idempotency_key="i")
        assert await worker.result(call) == "first run"


# --- retries and dead letters ----------------------------------------------------------------------------------------


async def test_failed_attempt_is_repeated_after_a_growing_wait_until_it_is_dead(rig: Rig) -> None:
    policy = handler(max_attempts=3, initial_backoff_ms=1000, multiplier=10.0)
    worker = await rig.worker(agent("echo", policy))
    await worker.accepted(worker.send("echo", "x", message_id="m"))
    for attempt, wait in ((1, 1.0), (2, 10.0)):
        work = await worker.work()
        assert work.invoke.attempt == attempt
        work.fail("FLAKY", retryable=True)
        await rig.pass_time(wait * 0.75)
        assert worker.waiting == 0
        await rig.pass_time(wait * 0.5)
    work = await worker.work()
    assert work.invoke.attempt == 3
    work.fail("FLAKY", retryable=True)
    await rig.settle()
    (letter,) = await letters(rig)
    assert letter.message.message_id == "m"
    assert content(letter.message.payload) == "x"
    assert (letter.attempts, letter.failure.reason) == (3, "FLAKY")
    assert letter.failure.source == "echo/default#handle"
    assert (rig.counters.retries, rig.counters.dead_lettered) == (2, 1)
    assert rig.engine._gauges().dead_letters == 1


async def test_failure_that_is_not_retryable_is_dead_at_once(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    await worker.accepted(worker.send("echo"))
    (await worker.work()).fail("BROKEN")
    await rig.settle()
    assert [letter.attempts for letter in await letters(rig)] == [1]


@pytest.mark.parametrize(
    ("policy", "reason", "repeated"),
    [
        (handler(retryable_reasons=["A"]), "A", True),
        (handler(retryable_reasons=["A"]), "B", False),
        (handler(non_retryable_reasons=["A"]), "A", False),
        (handler(non_retryable_reasons=["A"]), "B", True),
        (handler(max_attempts=1), "B", False),
    ],
)
async def test_retry_policy_decides_by_reason(
    rig: Rig, policy: agent_pb2.HandlerDefinition, reason: str, repeated: bool
) -> None:
    worker = await rig.worker(agent("echo", policy))
    await worker.accepted(worker.send("echo"))
    (await worker.work()).fail(reason, retryable=reason == "B")
    await rig.pass_time(1)
    assert worker.waiting == repeated
    assert len(await letters(rig)) == (not repeated)


async def test_volatile_request_is_tried_once_unless_its_handler_says_more(rig: Rig) -> None:
    worker = await rig.worker(agent("once"), agent("twice", handler(max_attempts=2)))
    call = worker.request("once")
    (await worker.work()).fail("FLAKY", retryable=True)
    assert (await worker.refusal(call)).reason == "FLAKY"
    call = worker.request("twice")
    (await worker.work()).fail("FLAKY", retryable=True)
    await rig.pass_time(1)
    work = await worker.work()
    assert work.invoke.attempt == 2
    work.succeed("second")
    assert await worker.result(call) == "second"


async def test_retry_that_would_come_after_the_deadline_is_not_waited_for(rig: Rig) -> None:
    worker = await rig.worker(agent("echo", handler(max_attempts=5, initial_backoff_ms=10_000)))
    call = worker.request("echo", timeout_ms=1000)
    (await worker.work()).fail("FLAKY", retryable=True)
    assert (await worker.refusal(call)).reason == "FLAKY"


async def test_instance_serves_others_while_a_message_waits_for_its_retry(rig: Rig) -> None:
    worker = await rig.worker(agent("echo", handler(initial_backoff_ms=1000)))
    await worker.accepted(worker.send("echo", "failing"))
    await worker.accepted(worker.send("echo", "next"))
    (await worker.work()).fail("FLAKY", retryable=True)
    work = await worker.work()
    assert work.value == "next"
    work.succeed()
    await rig.pass_time(2)
    assert (await worker.work()).value == "failing"


async def test_dead_letter_is_put_back_with_all_its_attempts(rig: Rig) -> None:
    worker = await rig.worker(agent("echo", handler(max_attempts=2)))
    await worker.accepted(worker.send("echo", 1, message_id="m"))
    (await worker.work()).fail("FLAKY")
    await rig.settle()
    namespace = rig.engine.namespace("default")
    assert await rig.engine.dead_letters.retry(namespace, ["m", "unknown"], "") == 1
    assert not await letters(rig)
    (await worker.work()).fail("FLAKY", retryable=True)
    await rig.pass_time(1)
    work = await worker.work()
    assert work.invoke.attempt == 2
    work.succeed("now")
    await rig.settle()
    assert (await stored(rig, "m")).state == MessageState.SUCCEEDED
    assert rig.engine._gauges().dead_letters == 0


async def test_dead_letters_are_dropped_for_good(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    for number in range(3):
        await worker.accepted(worker.send("echo", number, message_id=str(number)))
        (await worker.work()).fail("BROKEN")
    await rig.settle()
    namespace = rig.engine.namespace("default")
    assert await rig.engine.dead_letters.drop(namespace, ["1"], "") == 1
    assert [letter.message.message_id for letter in await letters(rig)] == ["0", "2"]
    assert await rig.engine.dead_letters.drop(namespace, [], "echo") == 2
    assert not await letters(rig)
    assert rig.engine._gauges().dead_letters == 0
    assert namespace.quota.stored_bytes == 0


# --- fencing ---------------------------------------------------------------------------------------------------------


async def test_completion_twice_counts_once(rig: Rig) -> None:
    worker = await rig.worker(agent("counter", memories=(value_memory(),)))
    call = worker.request("counter")
    work = await worker.work()
    work.succeed("first", link_pb2.Effects(memory=[put("total", 1)]))
    work.succeed("second", link_pb2.Effects(memory=[put("total", 2)]))
    assert await worker.result(call) == "first"
    assert rig.counters.dropped_completions == 1
    worker.grant(50)
    worker.send("counter")
    work = await worker.work()
    assert work.invoke.memory_version == 1


@pytest.mark.parametrize(("attempt", "epoch"), [(-1, 0), (1, 0), (0, -1), (0, 1)])
async def test_completion_of_another_attempt_or_placement_is_dropped(rig: Rig, attempt: int, epoch: int) -> None:
    worker = await rig.worker(agent("echo"))
    call = worker.request("echo")
    work = await worker.work()
    work.succeed("fenced", attempt=work.invoke.attempt + attempt, epoch=work.invoke.epoch + epoch)
    await rig.settle()
    assert call not in worker.replies
    assert rig.counters.dropped_completions == 1
    work.succeed("right")
    assert await worker.result(call) == "right"


async def test_completion_from_a_link_that_was_given_up_is_dropped(rig: Rig) -> None:
    definition = agent("counter", memories=(value_memory(),))
    first = await rig.worker(definition, link_id="a")
    await first.accepted(first.send("counter", message_id="m"))
    work = await first.work()
    first.disconnect()
    await rig.pass_time(11)
    again = await rig.worker(definition, link_id="a")
    retry = await again.work()
    stale = link_pb2.LinkItem(id=work.id)
    stale.complete.attempt, stale.complete.epoch = 1, work.invoke.epoch
    stale.complete.result.data = b'"stale"'
    stale.complete.effects.memory.append(put("total", 666))
    again.feed(stale)
    retry.succeed("fresh", link_pb2.Effects(memory=[put("total", 1)]))
    await rig.settle()
    assert content(link_pb2.Reply.FromString((await stored(rig, "m")).outcome).result) == "fresh"
    again.request("counter", key="default")
    assert (await again.work()).invoke.memory_version == 1


async def test_completion_without_an_outcome_fails_its_attempt(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    call = worker.request("echo")
    work = await worker.work()
    item = link_pb2.LinkItem(id=work.id)
    item.complete.attempt, item.complete.epoch = 1, work.invoke.epoch
    worker.feed(item)
    assert (await worker.refusal(call)).reason == "PROTOCOL_VIOLATION"


# --- restart ---------------------------------------------------------------------------------------------------------


async def test_restart_delivers_what_was_acknowledged_in_order(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        worker = await rig.worker(agent("echo"), credit=0)
        for number in range(5):
            await worker.accepted(worker.send("echo", number, message_id=str(number)))
    async with running(store=path) as rig:
        worker = await rig.worker(agent("echo"))
        for number in range(5):
            work = await worker.work()
            assert work.value == number
            work.succeed()
        assert (await worker.accepted(worker.send("echo", 0, message_id="0"))).duplicate
        await rig.settle()
        assert worker.waiting == 0


async def test_restart_repeats_what_ran_and_fences_what_an_older_run_says(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    definition = agent("counter", memories=(value_memory(),))
    async with running(store=path) as rig:
        worker = await rig.worker(definition)
        await worker.accepted(worker.send("counter", message_id="m"))
        old = await worker.work()
    async with running(store=path) as rig:
        worker = await rig.worker(definition)
        work = await worker.work()
        assert work.message.message_id == "m"
        assert work.invoke.epoch > old.invoke.epoch
        work.succeed("old placement", attempt=1, epoch=old.invoke.epoch)
        await rig.settle()
        assert (await stored(rig, "m")).state == MessageState.PENDING
        work.succeed("new placement", link_pb2.Effects(memory=[put("total", 1)]))
        await rig.settle()
        assert (await stored(rig, "m")).state == MessageState.SUCCEEDED


async def test_restart_keeps_attempts_retry_times_delays_and_times_to_live(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    clock = ManualClock()
    definition = agent("echo", handler(max_attempts=3, initial_backoff_ms=60_000))
    async with running(store=path, clock=clock) as rig:
        worker = await rig.worker(definition)
        await worker.accepted(worker.send("echo", "failed", message_id="failed"))
        (await worker.work()).fail("FLAKY", retryable=True)
        await worker.accepted(worker.send("echo", "delayed", delay_ms=100_000))
        worker.grant(0)
        await worker.accepted(worker.send("echo", "short-lived", key="x", ttl_ms=30_000))
    async with running(store=path, clock=clock) as rig:
        worker = await rig.worker(definition, credit=0)
        await rig.pass_time(35)
        assert [letter.failure.reason for letter in await letters(rig)] == ["MESSAGE_EXPIRED"]
        worker.grant(10)
        await rig.settle()
        assert worker.waiting == 0
        await rig.pass_time(40)
        work = await worker.work()
        assert (work.value, work.invoke.attempt) == ("failed", 2)
        work.succeed()
        await rig.pass_time(30)
        assert (await worker.work()).value == "delayed"


async def test_restart_keeps_dead_letters_and_definitions(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        worker = await rig.worker(agent("echo", "a", "b", default_handler="a"))
        await worker.accepted(worker.send("echo", message_id="dead"))
        (await worker.work()).fail("BROKEN")
    async with running(store=path) as rig:
        assert [letter.message.message_id for letter in await letters(rig)] == ["dead"]
        assert rig.engine._gauges().dead_letters == 1
        client = await rig.client()
        await client.accepted(client.send("echo", "waits"))  # its definition is known
        assert (await client.refusal(client.send("echo", handler="c"))).reason == "HANDLER_UNKNOWN"
        worker = await rig.worker(agent("echo", "a", "b", default_handler="a"))
        assert (await worker.work()).value == "waits"


async def test_restart_lets_requests_wait_for_workers_that_connect_again(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        await rig.worker(agent("echo"), agent("gone"))
    async with running(store=path) as rig:
        client = await rig.client()
        answered, refused = client.request("echo", "early"), client.request("gone", "early")
        worker = await rig.worker(agent("echo"))
        (await worker.work()).succeed("here")
        assert await client.result(answered) == "here"
        await rig.pass_time(rig.engine.config.links.resume_window + 1)
        assert (await client.refusal(refused)).reason == "NO_WORKER"
        assert (await client.refusal(client.request("gone"))).reason == "NO_WORKER"


async def test_graceful_stop_cancels_no_durable_request(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        worker = await rig.worker(agent("echo"))
        worker.request("echo", 1, durability=DURABLE, message_id="m")
        await worker.work()
    async with running(store=path) as rig:
        worker = await rig.worker(agent("echo"))
        (await worker.work()).succeed("after the restart")
        call = worker.request("echo", 1, durability=DURABLE, message_id="m")
        assert await worker.result(call) == "after the restart"


async def test_ended_messages_are_forgotten_after_the_window(tmp_path: Path) -> None:
    config = configured(storage={"dedup_window": 60.0})
    async with running(config, store=str(tmp_path / "amx.db")) as rig:
        worker = await rig.worker(agent("echo"))
        await worker.accepted(worker.send("echo", message_id="m"))
        (await worker.work()).succeed()
        await rig.pass_time(30)
        await rig.engine._purge()
        await stored(rig, "m")
        await rig.pass_time(100)
        await rig.engine._purge()
        assert await rig.engine.store.message("default", "m") is None
        assert not (await worker.accepted(worker.send("echo", message_id="m"))).duplicate


async def test_effects_of_a_redelivered_message_count_once(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    definition = agent("counter", memories=(value_memory(),))
    async with running(store=path) as rig:
        worker = await rig.worker(definition)
        await worker.accepted(worker.send("counter", message_id="m"))
        work = await worker.work()
        work.succeed(effects=link_pb2.Effects(memory=[put("total", 1)]))
        # The engine stops after the commit, before anyone hears of it.
    async with running(store=path) as rig:
        worker = await rig.worker(definition)
        await rig.settle()
        assert worker.waiting == 0
        worker.request("counter")
        assert remembered((await worker.work()).invoke) == 1


async def test_idempotency_key_of_a_volatile_send_makes_repeats_duplicates(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    calls = [worker.send("echo", n, durability=VOLATILE, idempotency_key="i") for n in range(3)]
    accepted = [await worker.accepted(call) for call in calls]
    assert [one.duplicate for one in accepted] == [False, True, True]
    (await worker.work()).succeed()
    await rig.settle()
    assert worker.waiting == 0


async def test_repeated_durable_request_has_its_own_deadline(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    first = worker.request("echo", 1, durability=DURABLE, message_id="m", timeout_ms=60_000)
    work = await worker.work()
    second = worker.request("echo", 1, durability=DURABLE, message_id="m", timeout_ms=1000)
    await rig.pass_time(2)
    assert (await worker.refusal(second)).reason == "DEADLINE_EXCEEDED"
    assert not worker.items["cancel"]
    work.succeed("for the first")
    assert await worker.result(first) == "for the first"


async def test_dead_letter_is_logged_with_the_trace_of_its_message() -> None:
    async with running(configured(logging={"level": "warning"})) as rig:
        worker = await rig.worker(agent("echo"))
        trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        await worker.accepted(worker.send("echo", traceparent=f"00-{trace}-{span}-01"))
        (await worker.work()).fail("BROKEN")
        await rig.settle()
        line = next(entry for entry in rig.engine.log.recent(level="warning") if entry.event == "message_dead")
        assert (line.fields["trace_id"], line.fields["span_id"]) == (trace, span)
