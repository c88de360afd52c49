"""Messages at one instance: turns, order, priorities, bounds, time to live, deadlines, cancellation, streams."""

from __future__ import annotations

from amx.v1 import agent_pb2, common_pb2, engine_pb2, link_pb2
from tests.engine.link_driver import DURABLE, VOLATILE, Rig, agent, configured, message, put, running, value_memory

HIGH, NORMAL, LOW = common_pb2.PRIORITY_HIGH, common_pb2.PRIORITY_NORMAL, common_pb2.PRIORITY_LOW
BACKGROUND, CRITICAL = common_pb2.PRIORITY_BACKGROUND, common_pb2.PRIORITY_CRITICAL


# --- who gets a message ----------------------------------------------------------------------------------------------


async def test_request_to_an_unknown_agent_is_refused(rig: Rig) -> None:
    client = await rig.client()
    failure = await client.refusal(client.request("nobody"))
    assert (failure.reason, failure.code) == ("AGENT_UNKNOWN", 5)
    assert "nobody" in failure.message


async def test_handler_is_chosen_by_name_by_type_by_default_or_refused(rig: Rig) -> None:
    typed = agent_pb2.HandlerDefinition(name="typed", message_types=["order"])
    worker = await rig.worker(
        agent("one", "only"),
        agent("several", typed, "fallback", default_handler="fallback"),
        agent("ambiguous", "a", "b"),
    )

    async def chosen(agent: str, type: str = "", handler: str = "") -> str:
        worker.request(agent, key="k", type=type, handler=handler)
        work = await worker.work()
        work.succeed()
        return work.message.handler

    assert await chosen("one") == "only"
    assert await chosen("one", type="whatever") == "only"
    assert await chosen("several", type="order") == "typed"
    assert await chosen("several", type="order", handler="fallback") == "fallback"
    assert await chosen("several") == "fallback"
    ambiguous = await worker.refusal(worker.request("ambiguous"))
    assert ambiguous.reason == "HANDLER_AMBIGUOUS"
    unknown = await worker.refusal(worker.request("one", handler="other"))
    assert unknown.reason == "HANDLER_UNKNOWN"
    assert "only" in unknown.message


async def test_message_carries_sender_headers_and_content_untouched(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    worker.request("echo", {"a": [1, 2]}, headers={"h": "v"}, type="t", source="app", sender="forged")
    message = (await worker.work()).message
    assert message.payload.data == b'{"a": [1, 2]}'
    assert dict(message.headers) == {"h": "v"}
    assert (message.key, message.type, message.source) == ("default", "t", "app")
    assert message.sender == "anonymous"


async def test_message_that_had_to_wait_arrives_as_it_was_sent(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    worker.request("echo")
    before = await worker.work()
    worker.send("echo", {"a": [1, 2]}, headers={"h": "v"}, type="t", source="app", priority=LOW, message_id="m")
    await rig.settle()
    before.succeed()
    work = await worker.work()
    message = work.message
    assert message.payload.data == b'{"a": [1, 2]}' and dict(message.headers) == {"h": "v"}
    assert (message.type, message.source, message.priority, message.message_id) == ("t", "app", LOW, "m")
    assert message.sender == "anonymous" and not work.invoke.streaming
    streamed = worker.stream("echo", "streamed")
    await rig.settle()
    work.succeed()
    work = await worker.work()
    assert work.message.payload.data == b'"streamed"' and work.invoke.streaming
    work.succeed()
    await worker.reply(streamed)


async def test_call_made_inside_a_handler_names_its_instance_as_sender(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"), agent("asker"))
    worker.request("asker", key="k")
    asking = await worker.work()
    item = worker.call_item("request", message("echo"), invocation_id=asking.id)
    worker.feed(item)
    assert (await worker.work()).message.sender == "asker/k"


# --- turns and order -------------------------------------------------------------------------------------------------


async def test_instance_runs_one_message_at_a_time_in_order(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    client = await rig.client()
    calls = [client.request("echo", number) for number in range(5)]
    for number, call in enumerate(calls):
        work = await worker.work()
        await rig.settle()
        assert worker.waiting == 0
        assert work.value == number
        work.succeed(number)
        assert await client.result(call) == number


async def test_instances_with_different_keys_run_at_the_same_time(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    for key in "abc":
        worker.request("echo", key=key)
    await rig.settle()
    assert worker.waiting == 3


async def test_concurrent_handler_runs_beside_others_of_its_instance(rig: Rig) -> None:
    definition = agent("mixed", "alone", agent_pb2.HandlerDefinition(name="beside", concurrent=True))
    worker = await rig.worker(definition)
    for handler in ("alone", "beside", "beside"):
        worker.request("mixed", handler=handler)
    worker.request("mixed", handler="alone")
    await rig.settle()
    works = [await worker.work() for _ in range(3)]
    assert [work.message.handler for work in works] == ["alone", "beside", "beside"]
    assert worker.waiting == 0
    works[0].succeed()
    assert (await worker.work()).message.handler == "alone"


async def test_concurrent_handler_never_runs_in_two_places_at_once(rig: Rig) -> None:
    definition = agent("mixed", "alone", agent_pb2.HandlerDefinition(name="beside", concurrent=True))
    first = await rig.worker(definition, credit=1)
    client = await rig.client()
    client.request("mixed", handler="alone")
    work = await first.work()
    second = await rig.worker(definition)
    client.request("mixed", handler="beside")  # the first link is full, the instance is taken there
    await rig.settle()
    assert second.waiting == 0
    work.succeed()
    await rig.settle()
    assert first.waiting + second.waiting == 1


async def test_concurrent_handler_that_changes_memory_is_refused(rig: Rig) -> None:
    handler = agent_pb2.HandlerDefinition(name="beside", concurrent=True)
    worker = await rig.worker(agent("mixed", handler, memories=(value_memory(),)))
    call = worker.request("mixed")
    (await worker.work()).succeed(effects=link_pb2.Effects(memory=[put("total", 1)]))
    assert (await worker.refusal(call)).reason == "INVALID_MEMORY_CHANGE"


async def test_urgent_messages_overtake_and_equals_keep_their_order(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    worker.request("echo", "running")
    busy = await worker.work()
    for number, priority in enumerate([NORMAL, BACKGROUND, HIGH, NORMAL, CRITICAL, LOW, HIGH, 0]):
        worker.request("echo", number, priority=priority)
    order = []
    for _ in range(8):
        busy.succeed()
        busy = await worker.work()
        order.append(busy.value)
    assert order == [4, 2, 6, 0, 3, 7, 5, 1]


async def test_background_message_is_served_under_unending_urgent_ones(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    worker.request("echo", "first")
    busy = await worker.work()
    worker.request("echo", "patient", priority=BACKGROUND)
    served = 0
    worker.request("echo", "urgent", priority=HIGH)
    while True:
        worker.request("echo", "urgent", priority=HIGH)
        busy.succeed()
        busy = await worker.work()
        if busy.value == "patient":
            break
        served += 1
        assert served < 40


async def test_sender_order_holds_when_volatile_follows_durable(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    client = await rig.client()
    expected = []
    items = []
    for number in range(12):
        durability = DURABLE if number % 3 else VOLATILE
        expected.append(number)
        items.append(client.call_item("send", message("echo", number, durability=durability)))
    client.feed(*items)
    got = []
    for _ in expected:
        work = await worker.work()
        got.append(work.value)
        work.succeed()
    assert got == expected
    for item in items:
        assert (await client.accepted(item.id)).message_id


# --- bounds ----------------------------------------------------------------------------------------------------------


async def test_mailbox_that_is_full_refuses_more_by_name(rig: Rig) -> None:
    worker = await rig.worker(agent("echo", mailbox_capacity=2))
    client = await rig.client()
    client.request("echo", "running")
    work = await worker.work()
    client.request("echo", 1)
    client.send("echo", 2)
    await rig.settle()
    for call in (client.request("echo", 3), client.send("echo", 4), client.send("echo", 5, durability=VOLATILE)):
        failure = await client.refusal(call)
        assert failure.reason == "MAILBOX_FULL"
        assert failure.code == 8
        assert failure.retryable
        assert failure.retry_delay_ms
    work.succeed()
    await rig.settle()
    await client.accepted(client.send("echo", 6))


async def test_mailbox_bound_counts_messages_that_are_still_being_stored(rig: Rig) -> None:
    worker = await rig.worker(agent("echo", mailbox_capacity=3), credit=0)
    items = [worker.call_item("send", message("echo")) for _ in range(10)]
    worker.feed(*items)  # one batch: none of them is stored when the last is taken in
    replies = [await worker.reply(item.id) for item in items]
    assert sum(reply.HasField("accepted") for reply in replies) == 3
    assert {reply.failure.reason for reply in replies if reply.HasField("failure")} == {"MAILBOX_FULL"}


async def test_message_whose_time_to_live_ends_in_the_mailbox_fails(rig: Rig) -> None:
    worker = await rig.worker(agent("echo", mailbox_capacity=2))
    client = await rig.client()
    client.request("echo", "running", timeout_ms=60_000)
    work = await worker.work()
    expiring = client.request("echo", 1, ttl_ms=1000, timeout_ms=60_000)
    stored = client.send("echo", 2, ttl_ms=1000, message_id="m")
    await client.accepted(stored)
    await rig.pass_time(1.5)
    assert (await client.refusal(expiring)).reason == "MESSAGE_EXPIRED"
    assert rig.counters.expired == 2
    letters, _ = await rig.engine.queries.dead_letters(rig.engine.namespace("default"), "", 0, 10)
    assert [letter.failure.reason for letter in letters] == ["MESSAGE_EXPIRED"]
    await client.accepted(client.send("echo", 3))  # what has expired takes no room
    await client.accepted(client.send("echo", 4))
    work.succeed()
    assert (await worker.work()).value == 3


async def test_time_to_live_does_not_end_a_message_that_runs(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    call = worker.request("echo", 1, ttl_ms=1000)
    work = await worker.work()
    await rig.pass_time(2)
    work.succeed("took its time")
    assert await worker.result(call) == "took its time"


async def test_delayed_message_is_held_back_and_must_be_durable(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    await worker.accepted(worker.send("echo", "later", delay_ms=5000))
    await rig.pass_time(4)
    assert worker.waiting == 0
    await rig.pass_time(2)
    assert (await worker.work()).value == "later"
    assert (await worker.refusal(worker.send("echo", durability=VOLATILE, delay_ms=1))).reason == "INVALID_INPUT"


async def test_instances_beyond_the_limit_are_refused_by_name() -> None:
    async with running(configured(limits={"max_instances": 2})) as rig:
        worker = await rig.worker(agent("echo"))
        for key in "ab":
            await worker.accepted(worker.send("echo", key=key))
        assert (await worker.refusal(worker.send("echo", key="c"))).reason == "INSTANCE_LIMIT"
        keyed = worker.request("echo", key="c", idempotency_key="i")
        assert (await worker.refusal(keyed)).reason == "INSTANCE_LIMIT"
        repeated = worker.request("echo", key="c", idempotency_key="i")
        assert (await worker.refusal(repeated)).reason == "INSTANCE_LIMIT"


# --- deadlines -------------------------------------------------------------------------------------------------------


async def test_deadline_travels_as_remaining_time(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    worker.request("echo", 1, timeout_ms=10_000)
    first = await worker.work()
    assert first.invoke.timeout_ms == 10_000
    worker.request("echo", 2, timeout_ms=10_000)
    await rig.pass_time(4)
    first.succeed()
    assert (await worker.work()).invoke.timeout_ms in range(5_990, 6_001)


async def test_deadline_that_passes_while_waiting_fails_the_request(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    worker.request("echo", 1, timeout_ms=60_000)
    work = await worker.work()
    late = worker.request("echo", 2, timeout_ms=1000)
    await rig.pass_time(1.5)
    failure = await worker.refusal(late)
    assert failure.reason == "DEADLINE_EXCEEDED"
    assert "waiting" in failure.message
    assert not worker.items["cancel"]
    work.succeed()
    await rig.settle()
    assert worker.waiting == 0


async def test_deadline_that_passes_in_a_handler_cancels_it_and_voids_its_effects(rig: Rig) -> None:
    worker = await rig.worker(agent("counter", memories=(value_memory(),)))
    late = worker.request("counter", 1, timeout_ms=1000)
    work = await worker.work()
    queued = worker.request("counter", 2, timeout_ms=60_000)
    await rig.pass_time(1.5)
    assert (await worker.refusal(late)).reason == "DEADLINE_EXCEEDED"
    assert (await worker.next("cancel")).id == work.id
    assert worker.waiting == 0  # the instance is taken until the handler has stopped
    work.succeed("too late", link_pb2.Effects(memory=[put("total", 99)]))
    after = await worker.work()
    assert not after.invoke.memory.memories  # nothing was remembered, and the image says so
    assert after.invoke.HasField("memory")
    after.succeed("fine")
    assert await worker.result(queued) == "fine"
    assert rig.counters.dropped_completions == 1
    assert len(worker.replies) == 2


async def test_handler_that_does_not_stop_is_abandoned_with_a_new_epoch_and_keeps_its_slot(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"), credit=2)
    worker.request("echo", 1, timeout_ms=1000)
    stuck = await worker.work()
    queued = worker.request("echo", 2, timeout_ms=60_000)
    worker.request("echo", 3, key="other", timeout_ms=60_000)
    other = await worker.work()
    await rig.pass_time(1.5)
    assert worker.waiting == 0
    await rig.pass_time(11)
    assert worker.waiting == 0  # abandoned, but both slots are still taken
    other.succeed()
    work = await worker.work()
    assert work.value == 2
    assert work.invoke.epoch > stuck.invoke.epoch
    worker.request("echo", 4, key="third", timeout_ms=60_000)
    await rig.settle()
    assert worker.waiting == 0
    stuck.succeed("at last")  # frees the slot, means nothing otherwise
    assert (await worker.work()).value == 4
    work.succeed("fine")
    assert await worker.result(queued) == "fine"


async def test_handler_time_limit_ends_a_durable_attempt_and_the_next_one_counts(rig: Rig) -> None:
    handler = agent_pb2.HandlerDefinition(name="slow", timeout_ms=1000)
    handler.retry.retryable_reasons.append("DEADLINE_EXCEEDED")
    worker = await rig.worker(agent("echo", handler), credit=2)
    await worker.accepted(worker.send("echo", 1))
    first = await worker.work()
    assert first.invoke.timeout_ms == 1000
    await rig.pass_time(1.5)
    assert (await worker.next("cancel")).id == first.id
    await rig.pass_time(1)
    second = await worker.work()
    assert second.invoke.attempt == 2
    assert second.id != first.id
    assert second.invoke.epoch > first.invoke.epoch
    first.succeed("late")  # gives its slot back, does not complete the second attempt
    second.succeed("in time")
    await rig.settle()
    worker.send("echo", 2, key="a")
    worker.send("echo", 3, key="b")
    await rig.settle()
    assert worker.waiting == 2


async def test_deadline_of_a_request_that_is_being_stored_is_kept() -> None:
    async with running() as rig:
        worker = await rig.worker(agent("echo"), credit=0)
        call = worker.request("echo", 1, durability=DURABLE, message_id="m", timeout_ms=1000)
        rig.clock.advance(2)
        rig.engine.tick()  # before the store has answered
        assert (await worker.refusal(call)).reason == "DEADLINE_EXCEEDED"
        await rig.settle()
        worker.grant(10)
        await rig.settle()
        assert worker.waiting == 0
        info = await rig.engine.queries.invocation(rig.engine.namespace("default"), "m")
        assert info.state in (engine_pb2.INVOCATION_STATE_CANCELLED, engine_pb2.INVOCATION_STATE_FAILED)
        assert not rig.engine.namespace("default").durable


# --- cancellation ----------------------------------------------------------------------------------------------------


async def test_cancelled_request_that_waits_never_runs(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    worker.request("echo", 1)
    work = await worker.work()
    call = worker.request("echo", 2)
    worker.cancel(call, "no longer needed")
    failure = await worker.refusal(call)
    assert (failure.reason, failure.message) == ("CANCELLED", "no longer needed")
    work.succeed()
    await rig.settle()
    assert worker.waiting == 0


async def test_cancelled_request_that_runs_tells_its_handler(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    client = await rig.client()
    call = client.request("echo", 1)
    work = await worker.work()
    client.cancel(call, "changed my mind")
    assert (await client.refusal(call)).reason == "CANCELLED"
    item = await worker.next("cancel")
    assert (item.id, item.cancel.reason) == (work.id, "changed my mind")
    work.fail("CANCELLED", code=1)
    await rig.settle()
    assert rig.counters.dropped_completions == 0  # a handler that stops when told is not late


async def test_cancel_that_comes_too_late_changes_nothing(rig: Rig) -> None:
    worker = await rig.worker(agent("counter", memories=(value_memory(),)))
    call = worker.request("counter")
    (await worker.work()).succeed("stored", link_pb2.Effects(memory=[put("total", 1)]))
    worker.cancel(call)  # what the handler did is on its way to disk
    assert await worker.result(call) == "stored"


async def test_caller_that_disconnects_cancels_its_volatile_request(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    client = await rig.client()
    client.request("echo", 1)
    work = await worker.work()
    client.disconnect()
    await rig.settle()
    assert not worker.items["cancel"]  # it may come back
    await rig.pass_time(11)
    assert (await worker.next("cancel")).id == work.id


async def test_caller_that_disconnects_leaves_its_durable_request_running(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    client = await rig.client()
    client.request("echo", 1, durability=DURABLE, message_id="m", timeout_ms=20_000)
    work = await worker.work()
    client.disconnect()
    await rig.pass_time(60, step=10)
    assert not worker.items["cancel"]
    work.succeed("kept")
    again = await rig.client()
    assert await again.result(again.request("echo", 1, durability=DURABLE, message_id="m")) == "kept"


# --- streams ---------------------------------------------------------------------------------------------------------


async def test_stream_passes_chunks_on_in_order_before_the_result(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    client = await rig.client()
    call = client.stream("echo")
    work = await worker.work()
    assert work.invoke.streaming
    for number in range(5):
        work.chunk(number)
    work.succeed("end")
    assert await client.result(call) == "end"
    assert client.chunks[call] == [0, 1, 2, 3, 4]


async def test_stream_window_grows_by_what_the_reader_grants() -> None:
    async with running(configured(limits={"stream_window": 2})) as rig:
        worker = await rig.worker(agent("echo"))
        client = await rig.client()
        assert client.welcome.limits.stream_window == 2
        call = client.stream("echo")
        work = await worker.work()
        work.chunk(1)
        work.chunk(2)
        await rig.settle()
        client.grant_chunks(call, 2)
        granted = await worker.next("credit")
        assert (granted.id, granted.credit.chunks) == (work.id, 2)
        work.chunk(3)
        work.chunk(4)
        work.succeed("end")
        assert await client.result(call) == "end"
        assert client.chunks[call] == [1, 2, 3, 4]


async def test_stream_that_exceeds_its_window_is_ended_by_name() -> None:
    async with running(configured(limits={"stream_window": 2})) as rig:
        worker = await rig.worker(agent("echo"))
        client = await rig.client()
        call = client.stream("echo")
        work = await worker.work()
        for number in range(3):
            work.chunk(number)
        assert (await client.refusal(call)).reason == "PROTOCOL_VIOLATION"
        assert (await worker.next("cancel")).id == work.id
        work.succeed("ignored")
        assert not worker.over


async def test_chunks_that_nobody_reads_do_not_hold_up_the_handler() -> None:
    async with running(configured(limits={"stream_window": 2})) as rig:
        worker = await rig.worker(agent("echo"))
        client = await rig.client()
        call = client.request("echo")  # not a stream
        work = await worker.work()
        assert not work.invoke.streaming
        for number in range(10):
            work.chunk(number)
            await worker.next("credit")
        work.succeed("end")
        assert await client.result(call) == "end"
        assert not client.chunks[call]


async def test_stream_is_not_repeated_after_its_first_chunk(rig: Rig) -> None:
    handler = agent_pb2.HandlerDefinition(name="tell", streaming=True)
    handler.retry.max_attempts = 5
    worker = await rig.worker(agent("echo", handler))
    call = worker.stream("echo")
    work = await worker.work()
    work.chunk("once")
    work.fail("UNAVAILABLE", retryable=True)
    assert (await worker.refusal(call)).reason == "UNAVAILABLE"
    before = worker.stream("echo")
    (await worker.work()).fail("UNAVAILABLE", retryable=True)  # before its first chunk it may be
    await rig.pass_time(1)
    (await worker.work()).succeed("second attempt")
    assert await worker.result(before) == "second attempt"
