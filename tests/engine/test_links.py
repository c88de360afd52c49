"""Frames and items on an open link: what is refused, what ends the link, what survives a lost connection."""

from __future__ import annotations

import asyncio

import pytest

from amx.v1 import agent_pb2, common_pb2, link_pb2, message_pb2
from tests.engine.link_driver import DURABLE, Rig, Sdk, agent, configured, message, put, running, value_memory


async def still_works(rig: Rig, worker: Sdk) -> None:
    """Another client gets an answer."""
    client = await rig.client()
    call = client.request("echo", "?")
    (await worker.work()).succeed("!")
    assert await client.result(call) == "!"


# --- items -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item",
    [
        link_pb2.LinkItem(id=7),
        link_pb2.LinkItem(id=7, welcome=link_pb2.Welcome()),
        link_pb2.LinkItem(id=7, call=link_pb2.Call()),
        # Field 200 is one that only a later version knows.
        link_pb2.LinkItem.FromString(b"\x08\x07" + b"\xc2\x0c\x03abc"),
    ],
    ids=["nothing set", "an engine's item", "call without operation", "from the future"],
)
async def test_unknown_item_is_answered_by_its_id_and_the_link_survives(rig: Rig, item: link_pb2.LinkItem) -> None:
    worker = await rig.worker(agent("echo"))
    worker.feed(item)
    assert (await worker.refusal(7)).reason == "UNSUPPORTED_ITEM"
    await still_works(rig, worker)


async def test_completion_that_nobody_asked_for_is_dropped_and_counted(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    stray = link_pb2.LinkItem(id=12345)
    stray.complete.attempt = 1
    stray.complete.result.data = b"1"
    worker.feed(stray)
    assert rig.counters.dropped_completions == 1
    assert not worker.replies
    await still_works(rig, worker)


async def test_oversized_item_is_refused_by_name_and_the_link_survives() -> None:
    async with running(configured(limits={"max_item_bytes": 2000, "max_frame_bytes": 1024})) as rig:
        worker = await rig.worker(agent("echo"))
        failure = await worker.refusal(worker.request("echo", "x" * 2000))
        assert failure.reason == "ITEM_TOO_LARGE"
        assert failure.metadata["limit"] == "2000"
        await still_works(rig, worker)


async def test_oversized_result_fails_its_request_by_name() -> None:
    async with running(configured(limits={"max_item_bytes": 2000, "max_frame_bytes": 1024})) as rig:
        worker = await rig.worker(agent("echo"))
        call = worker.request("echo")
        (await worker.work()).succeed("x" * 2000)
        assert (await worker.refusal(call)).reason == "ITEM_TOO_LARGE"
        await still_works(rig, worker)


async def test_oversized_chunk_ends_its_stream_by_name() -> None:
    async with running(configured(limits={"max_item_bytes": 2000, "max_frame_bytes": 1024})) as rig:
        worker = await rig.worker(agent("echo"))
        call = worker.stream("echo")
        work = await worker.work()
        work.chunk("x" * 2000)
        assert (await worker.refusal(call)).reason == "ITEM_TOO_LARGE"
        assert (await worker.next("cancel")).id == work.id
        work.fail("CANCELLED", code=1)
        await still_works(rig, worker)


async def test_headers_and_key_beyond_their_limits_are_refused_by_name(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    assert (await worker.refusal(worker.send("echo", headers={"h": "x" * 9000}))).reason == "HEADERS_TOO_LARGE"
    assert (await worker.refusal(worker.send("echo", key="k" * 513))).reason == "KEY_TOO_LONG"
    assert (await worker.refusal(worker.request("echo", key="ü" * 300))).reason == "KEY_TOO_LONG"
    await still_works(rig, worker)


async def test_calls_beyond_the_limit_in_flight_are_refused_until_one_ends() -> None:
    async with running(configured(limits={"max_calls_in_flight": 2})) as rig:
        worker = await rig.worker(agent("echo"))
        first, second = worker.request("echo", key="a"), worker.request("echo", key="b")
        failure = await worker.refusal(worker.request("echo", key="c"))
        assert failure.reason == "CALLS_IN_FLIGHT"
        assert failure.retryable
        (await worker.work()).succeed(1)
        assert await worker.result(first) == 1
        third = worker.request("echo", key="c")
        for _ in range(2):
            (await worker.work()).succeed(2)
        assert await worker.result(second) == await worker.result(third) == 2


async def test_values_at_the_end_of_their_range_are_taken(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    largest = 2**64 - 1
    request = message("echo", 1, ttl_ms=largest, sent_at_ms=-1)
    request.priority = -5  # type: ignore[assignment]
    call = worker.call("request", request, timeout_ms=largest)
    work = await worker.work()
    assert work.invoke.timeout_ms > 10**12
    work.succeed(1)
    assert await worker.result(call) == 1
    odd = message("echo", 1, ttl_ms=largest)
    odd.priority = 77  # type: ignore[assignment]
    assert (await worker.accepted(worker.call("send", odd))).message_id
    (await worker.work()).succeed()


# --- violations ------------------------------------------------------------------------------------------------------


def numbered(seq: int, *items: link_pb2.LinkItem, ack: int = 0) -> bytes:
    return link_pb2.LinkFrame(items=items, seq=seq, ack=ack).SerializeToString()


PING = link_pb2.LinkItem(ping=link_pb2.Ping(nonce=1))


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a\xff\xff\xff\xff\x0f garbage",
        numbered(2, PING),
        numbered(0, PING),
        numbered(1, PING, ack=99),
        numbered(1, *[PING] * 129),
        numbered(1, link_pb2.LinkItem(call=link_pb2.Call(subscribe=message_pb2.Subscription(pattern="t")))),
        numbered(1, link_pb2.LinkItem(register=link_pb2.Register())),
        numbered(1, link_pb2.LinkItem(chunk=link_pb2.Chunk(payload=common_pb2.Payload(data=b"x" * 600_000))), PING),
    ],
    ids=[
        "garbage",
        "gap",
        "unnumbered items",
        "ack of the future",
        "too many items",
        "call without an id",
        "register without an id",
        "too many bytes",
    ],
)
async def test_violation_of_the_protocol_ends_only_its_own_link(rig: Rig, data: bytes) -> None:
    worker = await rig.worker(agent("echo"))
    culprit = await rig.client()
    culprit.raw(data)
    await culprit.ended()
    assert culprit.connection is not None
    assert culprit.connection.error is not None
    assert culprit.connection.error.reason == "PROTOCOL_VIOLATION"
    await still_works(rig, worker)


async def test_violation_by_a_worker_redelivers_its_work_elsewhere(rig: Rig) -> None:
    culprit = await rig.worker(agent("echo"))
    good = rig.sdk()
    call_id = culprit.send("echo", 1)
    await culprit.accepted(call_id)
    assert (await culprit.work()).invoke.attempt == 1
    await good.connect(agent("echo"))
    culprit.raw(b"\xff\xff")
    work = await good.work()
    assert work.invoke.attempt == 2
    work.succeed()


# --- numbers, acknowledgements, resume -------------------------------------------------------------------------------


async def test_frame_repeated_is_dropped(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    call = worker.request("echo", 1)
    worker.raw(worker.sent[-1])
    worker.raw(worker.sent[-1])
    (await worker.work()).succeed(2)
    assert await worker.result(call) == 2
    await rig.settle()
    assert worker.waiting == 0


async def test_acknowledgement_is_sent_alone_after_a_second_of_silence(rig: Rig) -> None:
    client = await rig.client()
    client.feed(link_pb2.LinkItem(pong=link_pb2.Pong()))
    await rig.settle()
    assert not client.frames
    await rig.pass_time(1.5)
    (frame,) = client.frames
    assert (frame.seq, frame.ack, len(frame.items)) == (0, 1, 0)
    await rig.pass_time(10, step=1)
    assert len(client.frames) == 1  # nothing new to acknowledge


async def test_acknowledgement_is_sent_alone_after_32_frames(rig: Rig) -> None:
    client = await rig.client()
    for _ in range(32):
        client.feed(link_pb2.LinkItem(pong=link_pb2.Pong()))
    await rig.settle()
    assert [frame.ack for frame in client.frames] == [32]


async def test_resume_goes_on_with_running_work_and_open_calls(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    client = await rig.client()
    call = client.request("echo", 1)
    work = await worker.work()
    worker.disconnect()
    client.disconnect()
    await rig.pass_time(3)
    assert (await worker.resume()).resumed
    assert (await client.resume()).resumed
    work.succeed("late but in time")
    assert await client.result(call) == "late but in time"
    assert rig.counters.links_resumed == 2
    assert rig.counters.redeliveries == 0


async def test_resume_replays_exactly_what_the_sdk_has_not_received(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    client = await rig.client()
    for number in range(5):
        client.request("echo", number, key=str(number))
        await rig.settle()
    taken = [await worker.work() for _ in range(5)]
    assert [work.value for work in taken] == [0, 1, 2, 3, 4]
    worker.disconnect()
    worker.frames.clear()
    worker.received_seq = 3  # as if the last two frames had been lost with the connection
    welcome = await worker.resume()
    assert welcome.resumed
    again = [await worker.work(), await worker.work()]
    assert [work.value for work in again] == [3, 4]
    assert [work.invoke.attempt for work in again] == [1, 1]
    assert [frame.seq for frame in worker.frames] == [4, 5]
    await rig.settle()
    assert worker.waiting == 0


async def test_resume_takes_what_the_engine_has_not_received_once(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    client = await rig.client()
    first = client.request("echo", 1, key="a")
    client.disconnect()
    second = client.request("echo", 2, key="b")  # never arrives by the old connection
    assert (await client.resume()).resumed
    for _ in range(2):
        work = await worker.work()
        work.succeed(work.value * 10)
    assert await client.result(first) == 10
    assert await client.result(second) == 20
    await rig.settle()
    assert worker.waiting == 0


async def test_resume_while_the_old_connection_still_reads_loses_no_frame(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    client = await rig.client()
    for number in range(20):
        call = client.request("echo", number)
        if number % 2:
            assert (await worker.resume()).resumed  # the engine has not noticed that the old connection is gone
        work = await worker.work()
        assert work.value == number
        work.succeed(number)
        assert await client.result(call) == number


async def test_resume_with_frames_that_are_no_longer_kept_starts_anew(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    client = await rig.client()
    calls = [client.request("echo", number, key=str(number)) for number in range(3)]
    for work in [await worker.work() for _ in calls]:
        work.succeed(1)
    for call in calls:
        await client.result(call)
    worker.disconnect()
    assert not (await worker.resume(received_seq=0)).resumed
    assert not worker.welcome.resumed


async def test_link_lost_and_resumed_by_a_wrong_token_is_a_new_link(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"), link_id="w")
    await worker.accepted(worker.send("echo", 1))
    await worker.work()
    worker.disconnect()
    again = rig.sdk("w")
    welcome = await again.connect(agent("echo"), resume_token="guessed", received_seq=1)
    assert not welcome.resumed
    assert (await again.work()).invoke.attempt == 2


async def test_link_in_use_is_not_taken_over_by_a_wrong_token(rig: Rig) -> None:
    await rig.worker(agent("echo"), link_id="w")
    answer = await rig.sdk("w").try_connect(resume_token="guessed")
    assert isinstance(answer, common_pb2.Failure)
    assert answer.reason == "LINK_ID_IN_USE"


async def test_link_lost_is_waited_for_and_then_its_work_is_redelivered(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    other = await rig.worker(agent("echo"))
    client = await rig.client()
    call = client.request("echo", 1)
    await rig.settle()
    first, second = (worker, other) if worker.waiting else (other, worker)
    stale = await first.work()
    first.disconnect()
    await rig.pass_time(9)
    assert second.waiting == 0
    await rig.pass_time(2)
    work = await second.work()
    assert work.invoke.attempt == 2
    assert work.invoke.epoch > stale.invoke.epoch
    work.succeed("from the other")
    assert await client.result(call) == "from the other"
    assert rig.counters.redeliveries == 1
    assert rig.counters.links_lost == 1
    assert not (await first.resume()).resumed


async def test_process_started_again_under_its_link_id_is_not_waited_for(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"), link_id="w")
    client = await rig.client()
    await client.accepted(client.send("echo", 1))
    assert (await worker.work()).invoke.attempt == 1
    worker.disconnect()
    again = await rig.worker(agent("echo"), link_id="w")
    assert (await again.work()).invoke.attempt == 2


async def test_link_without_the_resume_feature_is_not_waited_for(rig: Rig) -> None:
    worker = rig.sdk()
    await worker.connect(agent("echo"), features=[])
    client = await rig.client()
    call = client.request("echo", 1)
    await worker.work()
    worker.disconnect()
    assert (await client.refusal(call)).reason == "LINK_LOST"


async def test_link_lost_under_a_volatile_request_with_no_other_host_fails_it(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    client = await rig.client()
    call = client.request("echo", 1)
    await worker.work()
    worker.disconnect()
    await rig.pass_time(11)
    assert (await client.refusal(call)).reason == "LINK_LOST"
    assert (await client.refusal(client.request("echo", 1))).reason == "NO_WORKER"


async def test_message_whose_links_keep_dying_becomes_a_dead_letter() -> None:
    async with running(configured(delivery={"redelivery_attempts": 2})) as rig:
        worker = await rig.worker(agent("killer"), link_id="w")
        await worker.accepted(worker.send("killer", message_id="poison"))
        for attempt in (1, 2, 3):
            assert (await worker.work()).invoke.attempt == attempt
            worker.disconnect()
            worker = await rig.worker(agent("killer"), link_id="w")
        await rig.settle()
        assert worker.waiting == 0
        letters, _ = await rig.engine.queries.dead_letters(rig.engine.namespace("default"), "", 0, 10)
        assert [letter.message.message_id for letter in letters] == ["poison"]
        assert letters[0].failure.reason == "LINK_LOST"


# --- liveness --------------------------------------------------------------------------------------------------------


async def test_ping_is_answered_with_its_nonce(rig: Rig) -> None:
    client = await rig.client()
    client.feed(link_pb2.LinkItem(ping=link_pb2.Ping(nonce=42, slots_in_use=3)))
    assert (await client.next("pong")).pong.nonce == 42


async def test_link_that_answers_pings_lives_and_a_silent_one_is_closed() -> None:
    async with running(configured(links={"heartbeat_interval": 5.0})) as rig:
        lively, silent = await rig.client(), await rig.client()
        silent.answers_pings = False
        await rig.pass_time(9, step=1)
        assert not silent.over
        await rig.pass_time(11, step=1)
        await silent.ended()
        assert silent.connection is not None
        assert silent.connection.error is not None
        assert silent.connection.error.reason == "LINK_SILENT"
        assert not lively.over
        assert (await silent.resume()).resumed  # it was only slow


async def test_link_that_never_acknowledges_is_closed_before_memory_runs_out() -> None:
    limits = {"heartbeat_interval": 5.0, "max_unacked_bytes": 1 << 20}
    async with running(configured(links=limits)) as rig:
        worker = await rig.worker(agent("echo"), credit=1000)
        client = await rig.client()
        worker.answers_pings = False
        for key in range(20):
            client.request("echo", "x" * 100_000, key=str(key))
        await rig.settle()
        await rig.pass_time(6)
        await worker.ended()
        assert not client.over


async def test_drained_link_takes_no_new_work_and_finishes_what_runs(rig: Rig) -> None:
    leaving = await rig.worker(agent("echo"))
    client = await rig.client()
    running_call = client.request("echo", 1)
    work = await leaving.work()
    leaving.drain()
    assert (await client.refusal(client.request("echo", 2, key="b"))).reason == "NO_WORKER"
    staying = await rig.worker(agent("echo"))
    queued = client.request("echo", 3)  # behind the message that still runs at the same instance
    other = client.request("echo", 4, key="b")
    assert (await staying.work()).value == 4
    work.succeed("done")
    assert await client.result(running_call) == "done"
    assert (await staying.work()).value == 3
    leaving.feed(link_pb2.LinkItem(drained=link_pb2.Drained()))
    await leaving.ended()
    assert rig.counters.links_lost == 0
    assert queued != other


async def test_messages_that_wait_are_refused_when_the_last_worker_leaves(rig: Rig) -> None:
    leaving = await rig.worker(agent("echo"))
    client = await rig.client()
    running_call = client.request("echo", 1)
    work = await leaving.work()
    waiting = client.request("echo", 2)
    stored = client.request("echo", 3, durability=DURABLE)
    await rig.settle()
    leaving.drain()
    assert (await client.refusal(waiting)).reason == "NO_WORKER"
    work.succeed("done")
    assert await client.result(running_call) == "done"
    staying = await rig.worker(agent("echo"))
    (await staying.work()).succeed("kept")
    assert await client.result(stored) == "kept"


async def test_message_whose_retry_finds_no_worker_is_refused(rig: Rig) -> None:
    echo = agent("echo", agent_pb2.HandlerDefinition(name="handle", retry=agent_pb2.RetryPolicy(max_attempts=3)))
    leaving = await rig.worker(echo)
    client = await rig.client()
    call = client.request("echo", 1)
    (await leaving.work()).fail(retryable=True)
    await rig.settle()
    leaving.drain()
    await rig.pass_time(5)
    assert (await client.refusal(call)).reason == "NO_WORKER"


async def test_link_that_does_not_drain_in_time_is_ended(rig: Rig) -> None:
    leaving = await rig.worker(agent("echo"))
    await leaving.accepted(leaving.send("echo", 1))
    await leaving.work()
    leaving.drain()
    staying = await rig.worker(agent("echo"))
    await rig.pass_time(29)
    assert staying.waiting == 0
    await rig.pass_time(2)
    await leaving.ended()
    assert (await staying.work()).invoke.attempt == 2


async def test_engine_that_leaves_says_so_and_waits_for_what_runs(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"))
    client = await rig.client()
    call = client.request("echo", 1)
    work = await worker.work()
    waiting = client.request("echo", 2)  # for its instance
    await rig.settle()
    draining = asyncio.create_task(rig.engine.drain(30.0))
    goodbye = await worker.next("go_away")
    assert goodbye.go_away.deadline_ms == 30_000
    assert (await client.refusal(waiting)).reason == "SHUTTING_DOWN"
    assert (await client.refusal(client.request("echo", 2))).reason == "SHUTTING_DOWN"
    answer = await rig.sdk().try_connect()
    assert isinstance(answer, common_pb2.Failure)
    assert answer.reason == "SHUTTING_DOWN"
    work.succeed("in time")
    assert await client.result(call) == "in time"
    assert await draining
    assert (await client.next("go_away")).go_away.deadline_ms > 0
    assert not (await client.next("go_away")).go_away.deadline_ms
    await client.ended()


# --- credit ----------------------------------------------------------------------------------------------------------


async def test_credit_is_never_exceeded_and_returned_by_each_completion(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"), credit=2)
    client = await rig.client()
    calls = [client.request("echo", n, key=str(n)) for n in range(7)]
    done = 0
    while done < len(calls):
        await rig.settle()
        assert worker.waiting == min(2, len(calls) - done)
        (await worker.work()).succeed(done)
        await rig.settle()
        done += 1
    for call in calls:
        await client.result(call)


async def test_credit_granted_later_replaces_the_first_value(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"), credit=0)
    client = await rig.client()
    for n in range(5):
        client.request("echo", n, key=str(n))
    await rig.settle()
    assert worker.waiting == 0
    worker.grant(3)
    await rig.settle()
    assert worker.waiting == 3
    worker.grant(1)
    (await worker.work()).succeed()
    await rig.settle()
    assert worker.waiting == 2  # two run, one is allowed: nothing new
    (await worker.work()).succeed()
    (await worker.work()).succeed()
    await rig.settle()
    assert worker.waiting == 1


async def test_credit_goes_round_the_agents_that_wait_for_it(rig: Rig) -> None:
    worker = await rig.worker(agent("busy"), agent("other"), agent("third"), credit=1)
    client = await rig.client()
    for key in range(20):
        client.request("busy", key=str(key))
    for key in range(3):
        client.request("other", key=str(key))
    client.request("third")
    ran = []
    for _ in range(24):
        work = await worker.work()
        ran.append(work.message.agent)
        work.succeed()
    assert ran[1:8].count("other") == 3
    assert ran[1:5].count("third") == 1
    assert ran.count("busy") == 20


async def test_credit_of_a_full_link_does_not_hold_up_another(rig: Rig) -> None:
    full = await rig.worker(agent("echo"), credit=1)
    free = await rig.worker(agent("echo"), credit=100)
    client = await rig.client()
    for n in range(10):
        client.request("echo", n, key=str(n))
    await rig.settle()
    assert full.waiting == 1
    assert free.waiting == 9


async def test_credit_freed_on_a_link_with_an_older_version_is_left_alone(rig: Rig) -> None:
    old = await rig.worker(agent("echo", version="1.0.0"), credit=100)
    new = await rig.worker(agent("echo", version="2.0.0"), credit=1)
    client = await rig.client()
    for n in range(4):
        client.request("echo", n, key=str(n))
    old.grant(50)
    await rig.settle()
    assert (old.waiting, new.waiting) == (0, 1)


async def test_memory_travels_with_an_instance_that_moves_to_a_free_link(rig: Rig) -> None:
    definition = agent("counter", memories=(value_memory(),))
    first = await rig.worker(definition, credit=1)
    call = first.request("counter")
    (await first.work()).succeed(effects=link_pb2.Effects(memory=[put("total", 5)]))
    await first.reply(call)
    second = await rig.worker(definition)
    first.grant(0)
    second.request("counter")
    work = await second.work()
    assert work.invoke.memory.memories[0].entries[0].value == b"5"
    assert (await first.next("deactivate")).deactivate.epochs


async def test_link_lost_under_a_concurrent_handler_lets_go_of_what_waits_for_its_instance(rig: Rig) -> None:
    beside = agent_pb2.HandlerDefinition(name="beside", concurrent=True)
    definition = agent("mixed", "alone", beside, mailbox_capacity=2)
    lost = await rig.worker(definition, credit=1)
    client = await rig.client()
    client.request("mixed", handler="beside", timeout_ms=60_000)
    await lost.work()
    lost.disconnect()
    other = await rig.worker(definition)
    for number in range(2):  # the instance cannot move while its handler may still run
        client.request("mixed", number, handler="alone", timeout_ms=60_000)
    await rig.settle()
    assert other.waiting == 0
    await rig.pass_time(11)
    handlers = []
    for _ in range(3):
        work = await other.work()
        handlers.append(work.message.handler)
        work.succeed()
    assert sorted(handlers) == ["alone", "alone", "beside"]
