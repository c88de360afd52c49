"""Random bytes, damaged frames and odd messages at every RPC of a real engine: no crash, no hang, memory flat."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf import message_factory
from google.protobuf.message import DecodeError

from amx.v1 import engine_pb2, link_pb2, message_pb2
from amx_engine import AmxEngine
from tests.fuzz.mutate import damaged, filled, noise
from tests.process import agents
from tests.process.harness import EngineProcess, RawLink, client, definition, engine_process, json_payload

pytestmark = [pytest.mark.process, pytest.mark.fault, pytest.mark.slow]

INPUTS = int(os.environ.get("AMX_TEST_FUZZ", "10000"))  # of all tests here together
DEADLINE = 20.0  # seconds: whatever is answered at all is answered long before
GROWTH = 48 << 20  # bytes that the engine may grow by; what is stored and waits is part of it
SETTINGS = (
    "delivery.default_timeout=500ms",
    "links.resume_window=0s",
    "logging.level=warning",
    "limits.max_memory_bytes=64KiB",
    "limits.mailbox_capacity=50",
)
# Events that an engine logs when something inside it went wrong that it did not foresee.
DEFECTS = ("item_failed", "link_failed", "tick_failed", "timer_failed", "rpc_failed", "Traceback")
# What this side of gRPC says of a write to a stream that the other side has just ended.
WRITTEN_TOO_LATE = "Internal error from Core"
# RPCs that may answer with silence: they wait for something to happen.
WAITING = frozenset({"Subscribe", "ReadLog", "WaitInvocation"})
RPCS = {method.name: method for method in engine_pb2.DESCRIPTOR.services_by_name["EngineService"].methods}


@pytest.fixture
def generator() -> random.Random:
    seed = int(os.environ.get("AMX_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EngineProcess]:
    """An engine with a worker; afterwards both must work as before, and no defect must have shown."""
    with engine_process(tmp_path, *SETTINGS) as engine:
        async with client(engine.address, agents.Echo, agents.Counter) as application:
            await _works(application)
            yield engine
            assert engine.alive, engine.output
            await _works(application)
            async with client(engine.address) as newcomer:
                await _works(newcomer)
        for defect in DEFECTS:
            assert defect not in engine.output, engine.output[-5000:]


async def _works(application: AmxEngine) -> None:
    assert await application.request("Echo", "works", key="witness", timeout=DEADLINE) == "works"


async def test_nothing_sent_to_a_unary_or_streaming_rpc_breaks_the_engine(
    engine: EngineProcess, generator: random.Random
) -> None:
    each = max(20, INPUTS // 2 // len(RPCS))
    codes: Counter[str] = Counter()
    before = 0
    limit = asyncio.Semaphore(32)
    async with grpc.aio.insecure_channel(engine.address) as channel:
        for name, method in RPCS.items():
            path = f"/amx.v1.EngineService/{name}"
            call: Any = channel.unary_stream(path) if method.server_streaming else channel.unary_unary(path)

            async def one(data: bytes, call: Any = call, method: Any = method, name: str = name) -> None:
                waits = name in WAITING or _is_held_back(method, data)
                async with limit:
                    outcome, details = await _call(call, data, method.server_streaming, 0.2 if waits else DEADLINE)
                codes[outcome] += 1
                assert outcome not in ("UNKNOWN", "INTERNAL"), f"{name} failed at {data!r}: {details}"
                assert waits or "Deadline Exceeded" not in details, f"{name} hangs at {data!r}"

            count = min(each, 30) if name in WAITING else each
            await asyncio.gather(*(one(_request(generator, method)) for _ in range(count)))
            before = before or engine.resident_bytes()
    print(codes)
    assert engine.resident_bytes() - before < GROWTH


async def _call(call: Any, data: bytes, streams: bool, timeout: float) -> tuple[str, str]:
    """Status and message of one call."""
    try:
        if streams:
            async for _ in call(data, timeout=timeout):
                pass
        else:
            await call(data, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


def _is_held_back(method: Any, data: bytes) -> bool:
    """Whether the request is a message that asks for a delay: its reply comes after that."""
    try:
        request = message_factory.GetMessageClass(method.input_type).FromString(data)
    except DecodeError:
        return False
    return bool(getattr(getattr(request, "message", None), "delay_ms", 0))


def _request(generator: random.Random, method: Any) -> bytes:
    kind = generator.randrange(4)
    if kind == 0:
        return noise(generator)
    request = filled(generator, message_factory.GetMessageClass(method.input_type)())
    data = bytes(request.SerializeToString())
    return damaged(generator, data) if kind == 1 else data


async def test_no_first_frame_breaks_the_engine(engine: EngineProcess, generator: random.Random) -> None:
    before = engine.resident_bytes()
    limit = asyncio.Semaphore(16)

    async def one(number: int, data: bytes) -> None:
        async with limit, RawLink(engine.address, f"f-{number}") as link:
            await link.write(data)
            await link.call.done_writing()
            try:
                async with asyncio.timeout(DEADLINE):
                    code, _ = await link.end()
            except TimeoutError:
                pytest.fail(f"no end after {data!r}")
            assert code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), data

    await asyncio.gather(*(one(number, _first(generator, number)) for number in range(INPUTS // 10)))
    assert engine.resident_bytes() - before < GROWTH


def _first(generator: random.Random, number: int) -> bytes:
    kind = generator.randrange(4)
    if kind == 0:
        return noise(generator)
    frame = link_pb2.LinkFrame()
    hello = frame.items.add().hello
    if kind == 1:
        hello.CopyFrom(link_pb2.Hello(link_id="h", protocol_max=1, agents=[definition("Echo2")], credit=5))
        return damaged(generator, frame.SerializeToString())
    filled(generator, hello)
    hello.link_id = f"l-{number}"
    hello.protocol_min, hello.protocol_max = 0, 1
    return frame.SerializeToString()


async def test_no_frame_after_the_handshake_breaks_the_engine(engine: EngineProcess, generator: random.Random) -> None:
    before = engine.resident_bytes()
    sent = links = 0
    while sent < INPUTS * 4 // 10:
        links += 1
        async with RawLink(engine.address, f"a-{links}") as link:
            await link.open(definition("Fuzzed"), credit=10)
            while sent < INPUTS * 4 // 10 and not link.call.done():
                sent += 1
                damage = generator.random() < 0.05
                frame = frame_of_odd_items(generator, link.seq + 1)
                data = damaged(generator, frame.SerializeToString()) if damage else frame.SerializeToString()
                link.seq += 1
                try:
                    await link.write(data)
                except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
                    break
                if sent % 20 == 0:
                    # Everything sent so far has been taken in, or the link is over.
                    link.seq += 1
                    ping = link_pb2.LinkFrame(items=[{"ping": {"nonce": sent}}], seq=link.seq)
                    try:
                        await link.write(ping.SerializeToString())
                        async with asyncio.timeout(DEADLINE):
                            await _pong(link, sent)
                    except TimeoutError:
                        pytest.fail("the engine hangs")
                    except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError, AssertionError):
                        break
            if link.call.done() and await link.call.details() != WRITTEN_TOO_LATE:
                code = await link.call.code()
                assert code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), await link.call.details()
    print(f"{sent} frames on {links} links")
    assert engine.resident_bytes() - before < GROWTH


async def _pong(link: RawLink, nonce: int) -> None:
    while True:
        for item in (await link.read()).items:
            if item.HasField("pong") and item.pong.nonce == nonce:
                return


def frame_of_odd_items(generator: random.Random, seq: int) -> link_pb2.LinkFrame:
    """A frame as the protocol wants it, full of items that are not."""
    frame = link_pb2.LinkFrame(seq=seq)
    for _ in range(generator.choice((1, 1, 2, 5))):
        item = frame.items.add(id=generator.choice((0, 1, 2, 3, generator.randrange(2**40))))
        kind = generator.choice(
            ("call", "call", "call", "complete", "chunk", "delivered", "credit", "cancel", "register", "")
        )
        if kind:
            part = getattr(item, kind)
            part.SetInParent()
            filled(generator, part)
            if kind == "call" and generator.random() < 0.5:
                operation = generator.choice(("send", "request", "stream"))
                message = message_pb2.Message(
                    agent="Echo", payload=json_payload(1), message_id=f"m-{generator.random()}"
                )
                getattr(part, operation).CopyFrom(filled(generator, message))
        else:
            filled(generator, item)
            for field in ("drain", "drained"):
                item.ClearField(field)
    return frame
