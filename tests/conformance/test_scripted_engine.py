"""The steps of cases of subject sdk, carried out against a tiny SDK in this process."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amx.v1 import agent_pb2, common_pb2, link_pb2
from conformance.runner.loader import load_case
from conformance.runner.peer import Broken, CaseFailure, Trace, WireClosed
from conformance.runner.sdk_steps import carry_out

HEAD = """\
title: A case of the interpreter's tests
clause: docs/protocol.md#invocations
level: must
subject: sdk
"""


class FakeWire:
    """A connection whose frames the SDK answers at once."""

    def __init__(self, sdk: FakeSdk) -> None:
        self._sdk = sdk
        self._frames: deque[link_pb2.LinkFrame] = deque()
        self._news = asyncio.Event()
        self.reason: str | None = None

    def say(self, *items: link_pb2.LinkItem, seq: int | None = None) -> None:
        """A frame from the SDK; numbered unless it says Hello."""
        frame = link_pb2.LinkFrame(items=items, ack=self._sdk.received)
        if items and not items[0].HasField("hello"):
            self._sdk.sent += 1
            frame.seq = self._sdk.sent if seq is None else seq
        self._frames.append(frame)
        self._news.set()

    def end(self, reason: str) -> None:
        """The SDK ends the connection."""
        self.reason = reason
        self._news.set()

    async def send(self, frame: link_pb2.LinkFrame) -> None:
        self._sdk.take(frame)

    async def send_raw(self, data: bytes) -> None:
        self._sdk.raw.append(data)
        self.end("not a frame")

    async def receive(self) -> link_pb2.LinkFrame:
        while not self._frames:
            if self.reason is not None:
                raise WireClosed(self.reason)
            self._news.clear()
            await self._news.wait()
        return self._frames.popleft()

    async def close(self, reason: str) -> None:
        self._sdk.lost(reason)


class FakeSdk:
    """Hosts `Counter`, whose handler `add` adds to the memory `total`, and `Echo`. What it does can be replaced."""

    manual_time = True
    alive = True

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
        self.raw: list[bytes] = []
        self.token = ""
        self.now_ms = 0
        self.memory: dict[tuple[str, str], int] = {}
        self.versions: dict[tuple[str, str], int] = {}
        self.stopping = False
        self.exit_code = 0
        self.answer: Callable[[FakeSdk, link_pb2.LinkItem], None] = FakeSdk.complete
        self.wire = FakeWire(self)
        self._ended = asyncio.Event()

    async def accept(self, within: float) -> FakeWire:
        self.wire = FakeWire(self)
        hello = link_pb2.Hello(link_id="fake", protocol_min=1, protocol_max=1, features=["resume"], credit=4)
        hello.resume_token = self.token
        hello.received_seq = self.received if self.token else 0
        counter = hello.agents.add(name="Counter", version="1.0.0", default_handler="add")
        counter.handlers.add(name="add")
        counter.memories.add(name="total", kind=agent_pb2.MEMORY_KIND_VALUE, persistent=True)
        hello.agents.add(name="Echo", version="1.0.0").handlers.add(name="echo")
        self.wire.say(link_pb2.LinkItem(hello=hello))
        return self.wire

    async def wants_connection(self, within: float) -> bool:
        return True

    async def advance(self, ms: int) -> None:
        self.now_ms += ms

    async def stop(self) -> None:
        self.stopping = True
        self.wire.say(link_pb2.LinkItem(drain=link_pb2.Drain()))
        self.wire.say(link_pb2.LinkItem(drained=link_pb2.Drained()))

    async def stopped(self, within: float) -> int:
        await self._ended.wait()
        return self.exit_code

    async def kill(self) -> None:
        self._ended.set()

    def complaints(self) -> list[str]:
        return []

    def lost(self, reason: str) -> None:
        if self.stopping:
            self._ended.set()

    def take(self, frame: link_pb2.LinkFrame) -> None:
        if frame.seq:
            self.received = frame.seq
        for item in frame.items:
            if item.HasField("welcome"):
                if not item.welcome.resumed:
                    self.sent = self.received = 0
                self.token = item.welcome.resume_token
            elif item.HasField("ping"):
                self.wire.say(link_pb2.LinkItem(pong=link_pb2.Pong(nonce=item.ping.nonce)))
            elif item.HasField("deactivate"):
                self.versions.clear()
            elif item.HasField("invoke"):
                self.answer(self, item)

    def complete(self, item: link_pb2.LinkItem) -> None:
        """Does what an invocation asks for and says its Complete."""
        invoke = item.invoke
        answer = link_pb2.LinkItem(id=item.id)
        complete = answer.complete
        complete.attempt, complete.epoch = invoke.attempt, invoke.epoch
        content = json.loads(invoke.message.payload.data or b"null")
        if invoke.message.agent == "Echo":
            complete.result.data = invoke.message.payload.data
            complete.result.SetInParent()
        else:
            self._count(invoke, content, complete)
        self.wire.say(answer)

    def _count(self, invoke: link_pb2.Invoke, content: Any, complete: link_pb2.Complete) -> None:
        address = (invoke.message.agent, invoke.message.key)
        if invoke.HasField("memory"):
            entries = [entry for memory in invoke.memory.memories for entry in memory.entries]
            self.memory[address] = json.loads(entries[0].value) if entries else 0
            self.versions[address] = invoke.memory_version
        if self.versions.get(address) != invoke.memory_version:
            complete.failure.reason = "MEMORY_NOT_HELD"
            complete.memory_dropped = True
            return
        if content:
            self.memory[address] += content
            self.versions[address] += 1
            change = complete.effects.memory.add(name="total")
            change.put.value = json.dumps(self.memory[address]).encode()
        complete.result.data = json.dumps(self.memory[address]).encode()


async def outcome(tmp_path: Path, steps: str, sdk: FakeSdk | None = None, head: str = "") -> str:
    """Runs a case. Returns why it failed; empty if it passed."""
    path = tmp_path / "tests" / "one.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{HEAD}{head}steps:\n{steps}")
    try:
        await carry_out(load_case(path, tmp_path), sdk or FakeSdk(), Trace())
    except CaseFailure as failure:
        return str(failure)
    return ""


ECHO = "  - exchange: {agent: Echo, payload: {$json: 1}}\n    expect: {result: {$json: 1}}\n"
ADD = "  - exchange: {agent: Counter, payload: {$json: 2}}\n    expect: {result: {$json: %d}}\n"


async def test_exchange_is_an_invocation_and_its_outcome(tmp_path: Path) -> None:
    assert await outcome(tmp_path, ECHO) == ""
    found = await outcome(tmp_path, ECHO.replace("{result: {$json: 1}}", "{result: {$json: 2}}"))
    assert found.startswith("step 1 (exchange, line 6): expected 2 at result.data, got 1")


async def test_memory_is_kept_over_exchanges_and_hibernation(tmp_path: Path) -> None:
    steps = ADD % 2 + ADD % 4 + "  - hibernate: true\n" + ADD % 6 + "  - disconnect: true\n  - connect: {}\n" + ADD % 8
    assert await outcome(tmp_path, steps) == ""


async def test_invocation_whose_memory_is_not_held_comes_again_with_it(tmp_path: Path) -> None:
    sdk = FakeSdk()

    def forgetful(self: FakeSdk, item: link_pb2.LinkItem) -> None:
        if not item.invoke.HasField("memory"):
            self.versions.clear()
        self.complete(item)

    sdk.answer = forgetful
    assert await outcome(tmp_path, ADD % 2 + ADD % 4, sdk) == ""


async def test_steps_speak_frames(tmp_path: Path) -> None:
    steps = """\
  - send: {id: 5, invoke: {attempt: 1, epoch: 3, message: {agent: Echo, payload: {$text: "7"}}}}
  - expect_frame: {seq: 1, ack: 1, items: [{id: 5, complete: {epoch: 3, result: {$text: "7"}}}]}
  - send:
      - {id: 6, invoke: {attempt: 1, epoch: 3, message: {agent: Echo}}}
      - {id: 7, invoke: {attempt: 1, epoch: 4, message: {agent: Echo}}}
  - expect: {$unordered: [{id: 7, complete: {}}, {id: {$bind: six}, complete: {epoch: 3}}]}
  - send: {id: {$ref: six}, cancel: {}}
  - expect_nothing: true
  - {send: {ping: {nonce: 4}}, times: 2}
  - {expect: {pong: {nonce: 4}}, times: 2}
"""
    assert await outcome(tmp_path, steps) == ""


async def test_what_nobody_expects_is_not_nothing(tmp_path: Path) -> None:
    steps = "  - send: {id: 5, invoke: {attempt: 1, epoch: 3, message: {agent: Echo}}}\n  - expect_nothing: true\n"
    assert 'expected nothing, got {"id":5' in await outcome(tmp_path, steps)


async def test_what_does_not_come_fails_in_time(tmp_path: Path) -> None:
    found = await outcome(tmp_path, "  - {expect: {chunk: {}}, within: 20ms}\n")
    assert 'expected an item like {"chunk":{}}; nothing came in time' in found


async def test_items_are_passed_over_where_a_step_says_so(tmp_path: Path) -> None:
    steps = "  - {send: {ping: {nonce: 1}}}\n  - {send: {ping: {nonce: 2}}}\n"
    assert await outcome(tmp_path, steps + "  - {expect: {pong: {nonce: 2}}, past: {pong: {}}}\n") == ""
    assert "expected 2" in await outcome(tmp_path, steps + "  - {expect: {pong: {nonce: 2}}}\n")


async def test_bytes_that_are_no_frame_end_the_connection(tmp_path: Path) -> None:
    sdk = FakeSdk()
    steps = "  - send_raw: {text: garbage}\n  - expect_closed: {reason: {$regex: not a frame}}\n"
    assert await outcome(tmp_path, steps, sdk, "stop: false\n") == ""
    assert sdk.raw == [b"garbage"]


async def test_time_moves_in_steps_shorter_than_heartbeats(tmp_path: Path) -> None:
    sdk = FakeSdk()
    assert await outcome(tmp_path, "  - advance: 1m\n", sdk) == ""
    assert sdk.now_ms == 60_000


async def test_resumed_link_gets_what_it_has_not_received(tmp_path: Path) -> None:
    sdk = FakeSdk()
    answered: list[int] = []

    def deaf(self: FakeSdk, item: link_pb2.LinkItem) -> None:
        answered.append(item.id)
        if len(answered) == 1:
            self.received -= 1  # it never came
        else:
            self.complete(item)

    sdk.answer = deaf
    steps = """\
  - send: {id: 5, invoke: {attempt: 1, epoch: 3, message: {agent: Echo}}}
  - disconnect: true
  - connect: {resume: true}
  - expect: {id: 5, complete: {}}
"""
    assert await outcome(tmp_path, steps, sdk) == ""
    assert answered == [5, 5]


async def test_handshake_by_hand(tmp_path: Path) -> None:
    steps = """\
  - connect: {}
  - expect: {hello: {link_id: fake, agents: {$contains: [{name: Echo}]}}}
  - send_frame: {items: [{welcome: {protocol: 1, resume_token: t}}]}
  - send: {ping: {nonce: 1}}
  - expect: {pong: {nonce: 1}}
"""
    assert await outcome(tmp_path, steps, head="handshake: manual\n") == ""


async def test_link_may_be_refused_first(tmp_path: Path) -> None:
    assert await outcome(tmp_path, "  - refuse: {code: UNAVAILABLE, retryable: true}\n  - connect: {}\n" + ECHO) == ""


def twice(sdk: FakeSdk, item: link_pb2.LinkItem) -> None:
    """Says the Complete twice."""
    sdk.complete(item)
    sdk.complete(item)


def with_another_epoch(sdk: FakeSdk, item: link_pb2.LinkItem) -> None:
    """Says an epoch that is not the invocation's."""
    item.invoke.epoch += 1
    sdk.complete(item)


def with_a_gap(sdk: FakeSdk, item: link_pb2.LinkItem) -> None:
    """Leaves a number out."""
    sdk.sent += 1
    sdk.complete(item)


def unasked(sdk: FakeSdk, item: link_pb2.LinkItem) -> None:
    """Completes what nobody asked for."""
    item.id += 1000
    sdk.complete(item)


def chunk_after_the_end(sdk: FakeSdk, item: link_pb2.LinkItem) -> None:
    """Sends a chunk after the Complete."""
    sdk.complete(item)
    sdk.wire.say(link_pb2.LinkItem(id=item.id, chunk=link_pb2.Chunk(payload=common_pb2.Payload(data=b"1"))))


def call_ids_that_fall(sdk: FakeSdk, item: link_pb2.LinkItem) -> None:
    """Numbers calls backwards."""
    sdk.complete(item)
    sdk.wire.say(link_pb2.LinkItem(id=2, call=link_pb2.Call()), link_pb2.LinkItem(id=1, call=link_pb2.Call()))


def acknowledging_the_future(sdk: FakeSdk, item: link_pb2.LinkItem) -> None:
    """Acknowledges what was not sent."""
    sdk.received += 5
    sdk.complete(item)


def changing_unknown_memory(sdk: FakeSdk, item: link_pb2.LinkItem) -> None:
    """Changes a memory that is not declared."""
    answer = link_pb2.LinkItem(id=item.id)
    answer.complete.attempt, answer.complete.epoch = item.invoke.attempt, item.invoke.epoch
    answer.complete.result.SetInParent()
    answer.complete.effects.memory.add(name="nobody", clear=True)
    sdk.wire.say(answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (twice, "a second Complete for invocation 5"),
        (with_another_epoch, "has attempt 1 and epoch 4"),
        (with_a_gap, "sdk sent frame 2 after frame 0"),
        (unasked, "which it was never asked for"),
        (chunk_after_the_end, "a chunk of invocation 5 after its Complete"),
        (call_ids_that_fall, "a call 1 after call 2"),
        (acknowledging_the_future, "sdk acknowledged frame 6, "),
        (changing_unknown_memory, "a change to memory 'nobody'"),
    ],
)
async def test_what_must_never_be_fails_every_case(tmp_path: Path, answer: Any, expected: str) -> None:
    sdk = FakeSdk()
    sdk.answer = answer
    steps = "  - send: {id: 5, invoke: {attempt: 1, epoch: 3, message: {agent: Echo}}}\n"
    steps += "  - {send: {ping: {}}, times: 2}\n"
    steps += "  - {expect: {pong: {}}, past: {$any: true}, within: 100ms, times: 3}\n"
    assert expected in await outcome(tmp_path, steps, sdk)


async def test_exchange_whose_handler_makes_a_call_says_what_to_do(tmp_path: Path) -> None:
    sdk = FakeSdk()

    def calling(self: FakeSdk, item: link_pb2.LinkItem) -> None:
        call = link_pb2.LinkItem(id=1, call=link_pb2.Call(invocation_id=item.id))
        call.call.request.agent = "Echo"
        self.wire.say(call)

    sdk.answer = calling
    assert "transports: [engine]" in await outcome(tmp_path, ECHO, sdk)


async def test_sdk_must_stop_politely_at_the_end(tmp_path: Path) -> None:
    sdk = FakeSdk()
    sdk.exit_code = 3
    assert "at the end: the testee stopped with exit code 3" in await outcome(tmp_path, ECHO, sdk)


async def test_testee_that_breaks_down_is_no_failure_of_the_case(tmp_path: Path) -> None:
    class Dying(FakeSdk):
        async def advance(self, ms: int) -> None:
            raise Broken("the testee ended unexpectedly with exit code 1")

    with pytest.raises(Broken, match="exit code 1"):
        await outcome(tmp_path, "  - advance: 1s\n", Dying())
