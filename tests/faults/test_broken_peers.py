"""Peers that break the link protocol: each is told its reason, and everybody else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from amx.v1 import common_pb2, link_pb2, message_pb2
from amx_engine import AmxEngine, AmxError
from tests.process.agents import Counter, Echo
from tests.process.harness import (
    EngineProcess,
    RawLink,
    client,
    definition,
    engine_process,
    json_payload,
)

pytestmark = [pytest.mark.process, pytest.mark.fault]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    folder: Path = tmp_path_factory.mktemp("engine")
    with engine_process(folder, "links.resume_window=0s", "limits.max_item_bytes=64KiB") as engine:
        yield engine


@pytest_asyncio.fixture
async def bystander(engine: EngineProcess) -> AsyncIterator[AmxEngine]:
    """A link that must notice nothing of what others do."""
    async with client(engine.address, Echo, Counter) as application:
        session = application._link.protocol.session_id  # type: ignore[union-attr]
        yield application
        assert await application.request("Echo", "still here") == "still here"
        assert application._link.protocol.session_id == session  # type: ignore[union-attr]


def hello(**fields: object) -> bytes:
    frame = link_pb2.LinkFrame()
    said = {"link_id": "h", "protocol_min": 1, "protocol_max": 1, **fields}
    frame.items.add().hello.CopyFrom(link_pb2.Hello(**said))  # type: ignore[arg-type]
    return frame.SerializeToString()


def item(id: int = 0) -> link_pb2.LinkItem:
    return link_pb2.LinkItem(id=id)


PING = link_pb2.LinkItem(ping=link_pb2.Ping(nonce=1))


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (b"\xff\xff\xff", "PROTOCOL_VIOLATION"),
        (b"", "PROTOCOL_VIOLATION"),
        (link_pb2.LinkFrame(items=[PING], seq=1).SerializeToString(), "PROTOCOL_VIOLATION"),
        (hello(link_id=""), "INVALID_HELLO"),
        (hello(link_id="x" * 129), "INVALID_HELLO"),
        (hello(protocol_min=7, protocol_max=9), "PROTOCOL_VERSION_UNSUPPORTED"),
        (hello(protocol_min=0, protocol_max=0), "PROTOCOL_VERSION_UNSUPPORTED"),
        (hello(agents=[definition("no/such name")]), "INVALID"),
        (hello(agents=[definition("Twice", "a", "a")]), "INVALID"),
    ],
)
async def test_handshake_that_cannot_be_is_rejected_by_name(
    engine: EngineProcess, bystander: AmxEngine, first: bytes, reason: str
) -> None:
    async with RawLink(engine.address, "") as link:
        await link.write(first)
        (answer,) = (await link.read()).items
        assert answer.WhichOneof("item") == "rejected"
        assert reason in answer.rejected.failure.reason
        assert answer.rejected.failure.message
        code, details = await link.end()
        assert code is not grpc.StatusCode.OK
        assert answer.rejected.failure.message[:40] in details


async def test_changed_definition_under_the_same_version_is_rejected_with_the_difference(
    engine: EngineProcess, bystander: AmxEngine
) -> None:
    async with RawLink(engine.address, "r1") as first, RawLink(engine.address, "r2") as second:
        await first.open(definition("Changing", "one"))
        await second.write(hello(link_id="r2", agents=[definition("Changing", "two")]))
        (answer,) = (await second.read()).items
        assert answer.rejected.failure.reason == "DEFINITION_CHANGED"
        assert "two" in answer.rejected.failure.message


async def test_link_id_of_a_connected_process_cannot_be_taken_over(engine: EngineProcess, bystander: AmxEngine) -> None:
    async with RawLink(engine.address, "taken") as first, RawLink(engine.address, "taken") as second:
        await first.open(definition("Owned"))
        await second.write(hello(link_id="taken", resume_token="guessed"))
        (answer,) = (await second.read()).items
        assert answer.rejected.failure.reason == "LINK_ID_IN_USE"
        await first.send(PING)
        assert (await first.next("pong")).pong.nonce == 1


def frame(*items: link_pb2.LinkItem, seq: int = 1, ack: int = 0) -> bytes:
    return link_pb2.LinkFrame(items=items, seq=seq, ack=ack).SerializeToString()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x07garbage", "not a LinkFrame"),
        (frame(PING, seq=5), "frame 5 follows frame 0"),
        (frame(PING, seq=0), "has no number"),
        (frame(PING, ack=99), "frame 99 is acknowledged"),
        (frame(*[PING] * 129), "a frame of 129 items"),
        (
            frame(*[link_pb2.LinkItem(chunk=link_pb2.Chunk(payload=common_pb2.Payload(data=b"x" * 60_000)))] * 9),
            "bytes, 262144 are allowed",
        ),
    ],
)
async def test_frame_that_cannot_be_ends_its_link_by_name(
    engine: EngineProcess, bystander: AmxEngine, data: bytes, message: str
) -> None:
    async with RawLink(engine.address, "broken") as link:
        await link.open(definition("Broken"))
        await link.write(data)
        code, details = await link.end()
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert message in details


async def test_frame_larger_than_the_transport_takes_ends_its_link(engine: EngineProcess, bystander: AmxEngine) -> None:
    async with RawLink(engine.address, "huge") as link:
        await link.open(definition("Huge"))
        await link.write(b"\x00" * 2_000_000)
        code, _ = await link.end()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_call_over_the_limit_is_refused_by_name_and_the_link_goes_on(
    engine: EngineProcess, bystander: AmxEngine
) -> None:
    async with RawLink(engine.address, "large") as link:
        await link.open()
        call = item(1)
        call.call.request.CopyFrom(message_pb2.Message(agent="Echo", payload=json_payload("x" * 70_000)))
        await link.send(call)
        reply = await link.next("reply")
        assert (reply.id, reply.reply.failure.reason) == (1, "ITEM_TOO_LARGE")
        call = item(2)
        call.call.request.CopyFrom(message_pb2.Message(agent="Echo", payload=json_payload("small")))
        await link.send(call)
        assert (await link.next("reply")).reply.result.data == b'"small"'


async def test_result_over_the_limit_fails_its_caller_by_name(engine: EngineProcess, bystander: AmxEngine) -> None:
    async with RawLink(engine.address, "talker") as link:
        await link.open(definition("Talker"))
        asking = asyncio.create_task(bystander.request("Talker", 1))
        invoke = await link.next("invoke")
        complete = item(invoke.id)
        complete.complete.attempt, complete.complete.epoch = invoke.invoke.attempt, invoke.invoke.epoch
        complete.complete.result.data = b'"' + b"x" * 70_000 + b'"'
        await link.send(complete)
        with pytest.raises(AmxError) as caught:
            await asking
        assert caught.value.reason == "ITEM_TOO_LARGE"


async def test_items_of_unknown_kinds_are_answered_and_passed_over(engine: EngineProcess, bystander: AmxEngine) -> None:
    async with RawLink(engine.address, "future") as link:
        await link.open()
        unknown = link_pb2.LinkItem.FromString(b"\x08\x07\xfa\x3e\x02hi")  # id 7, field 1007
        await link.send(unknown, link_pb2.LinkItem(id=8, welcome=link_pb2.Welcome()))
        for id in (7, 8):
            reply = await link.next("reply")
            assert (reply.id, reply.reply.failure.reason) == (id, "UNSUPPORTED_ITEM")
        await link.send(PING)
        await link.next("pong")


async def test_duplicate_late_foreign_and_unasked_completions_change_nothing(
    engine: EngineProcess, bystander: AmxEngine
) -> None:
    async with RawLink(engine.address, "liar") as link, RawLink(engine.address, "other") as other:
        await link.open(definition("Liar"))
        await other.open(definition("Other"))
        asking = asyncio.create_task(bystander.request("Liar", 1))
        invoke = await link.next("invoke")

        def complete(value: str, attempt: int = 0, epoch: int = 0, id: int = 0) -> link_pb2.LinkItem:
            done = item(id or invoke.id)
            done.complete.attempt = attempt or invoke.invoke.attempt
            done.complete.epoch = epoch or invoke.invoke.epoch
            done.complete.result.data = value.encode()
            return done

        # Another link's, another attempt's, another placement's, and of something never asked for.
        await other.send(complete('"foreign"'))
        await other.send(PING)
        await other.next("pong")
        await link.send(complete('"attempt"', attempt=9), complete('"epoch"', epoch=9), complete('"id"', id=10**9))
        await link.send(PING)
        await link.next("pong")
        assert not asking.done()
        await link.send(complete('"true"'), complete('"again"'))
        assert await asking == "true"
        await link.send(complete('"late"'))
        asking = asyncio.create_task(bystander.request("Liar", 2))
        invoke = await link.next("invoke")
        await link.send(complete('"second"'))
        assert await asking == "second"


async def test_call_id_used_twice_gets_one_answer(engine: EngineProcess, bystander: AmxEngine) -> None:
    async with RawLink(engine.address, "twice") as link:
        await link.open(definition("Slowly"))
        call = item(1)
        call.call.request.CopyFrom(message_pb2.Message(agent="Slowly"))
        await link.send(call, call)
        invoke = await link.next("invoke")
        done = item(invoke.id)
        done.complete.attempt, done.complete.epoch = invoke.invoke.attempt, invoke.invoke.epoch
        done.complete.result.data = b"1"
        await link.send(done)
        assert (await link.next("reply")).reply.result.data == b"1"
        await link.send(PING)
        await link.next("pong")  # and no second reply or invocation before it


async def test_more_chunks_than_granted_end_the_invocation_by_name(engine: EngineProcess, bystander: AmxEngine) -> None:
    agent = definition("Flood")
    agent.handlers[0].streaming = True
    async with RawLink(engine.address, "flood") as link:
        await link.open(agent)

        async def read() -> None:
            async for _ in bystander.stream("Flood", 1):
                pass

        reading = asyncio.create_task(read())
        invoke = await link.next("invoke")
        for _ in range(20):
            chunks = [item(invoke.id) for _ in range(100)]
            for chunk in chunks:
                chunk.chunk.payload.data = b"1"
            await link.send(*chunks)
        with pytest.raises(AmxError) as caught:
            await reading
        assert caught.value.reason == "PROTOCOL_VIOLATION"


async def test_link_without_credit_gets_nothing_until_it_grants_some(
    engine: EngineProcess, bystander: AmxEngine
) -> None:
    async with RawLink(engine.address, "poor") as link:
        await link.open(definition("Poor"), credit=0)
        asking = asyncio.create_task(bystander.request("Poor", 1))
        await link.send(PING)
        first = await link.read()
        assert [one.WhichOneof("item") for one in first.items] == ["pong"]
        credit = item()
        credit.credit.invocations = 1
        await link.send(credit)
        invoke = await link.next("invoke")
        done = item(invoke.id)
        done.complete.attempt, done.complete.epoch = invoke.invoke.attempt, invoke.invoke.epoch
        done.complete.result.data = b"7"
        await link.send(done)
        assert await asking == 7


async def test_more_calls_than_allowed_are_refused_by_name(tmp_path: Path) -> None:
    with engine_process(tmp_path, "limits.max_calls_in_flight=10") as engine:
        async with RawLink(engine.address, "greedy") as link:
            await link.open(definition("Never"), credit=100)
            calls = []
            for id in range(1, 21):
                call = item(id)
                call.call.request.CopyFrom(message_pb2.Message(agent="Never", key=str(id)))
                calls.append(call)
            await link.send(*calls)
            for id in range(11, 21):
                reply = await link.next("reply")
                assert (reply.id, reply.reply.failure.reason) == (id, "CALLS_IN_FLIGHT")
