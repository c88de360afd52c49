"""Running handlers: real agents, frames by hand, no sockets and no engine."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from amx.v1 import link_pb2, memory_pb2, message_pb2
from amx_engine import Agent, Context, Message, current_context, handler, memory, subscribe
from amx_engine import _runner as runner_module
from amx_engine._definition import HostedAgent
from amx_engine._link import Link
from amx_engine._transport import Connection, ConnectionLost

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")


class Nowhere:
    """A connector that is never asked to connect."""

    address = "nowhere"

    async def connect(self) -> Connection:
        raise ConnectionLost("there is nothing here")


class Rig:
    """A link whose engine is the test."""

    def __init__(self, *agents: type, concurrency: int = 256, **limits: int) -> None:
        self.link = Link(Nowhere(), [HostedAgent.of(agent) for agent in agents], concurrency=concurrency)
        self.runner = self.link.runner
        self.seq = 0
        self.items: list[link_pb2.LinkItem] = []
        self.open(**limits)

    def open(self, **limits: int) -> None:
        frame = link_pb2.LinkFrame()
        frame.items.add().welcome.protocol = 1
        frame.items[0].welcome.limits.CopyFrom(link_pb2.Limits(**limits))
        self.link.protocol.hello()
        self.link.protocol.receive(frame.SerializeToString())
        self.seq = 0

    def say(self, *items: link_pb2.LinkItem) -> None:
        self.seq += 1
        self.link.protocol.receive(link_pb2.LinkFrame(items=items, seq=self.seq).SerializeToString())

    def invoke(
        self,
        id: int,
        handler: str = "",
        content: Any = None,
        *,
        agent: str = "Subject",
        key: str = "k",
        epoch: int = 1,
        attempt: int = 1,
        version: int = 0,
        image: memory_pb2.InstanceMemory | None = None,
        timeout_ms: int = 0,
        streaming: bool = False,
    ) -> None:
        message = message_pb2.Message(agent=agent, key=key, handler=handler)
        if content is not None:
            message.payload.data = json.dumps(content).encode()
        invoke = link_pb2.Invoke(
            message=message,
            attempt=attempt,
            epoch=epoch,
            memory_version=version,
            memory=image,
            timeout_ms=timeout_ms,
            streaming=streaming,
        )
        self.say(link_pb2.LinkItem(id=id, invoke=invoke))

    def activate(self, epoch: int, key: str, version: int = 0) -> None:
        activate = link_pb2.Activate(epoch=epoch, memory_version=version, memory=memory_pb2.InstanceMemory())
        activate.instance.agent, activate.instance.key = "Subject", key
        self.say(link_pb2.LinkItem(activate=activate))

    def deliver(self, id: int, epochs: list[int], handler: str, content: Any = None) -> None:
        deliver = link_pb2.Deliver(agent="Subject", handler=handler, epochs=epochs)
        deliver.event.topic = "news"
        deliver.event.payload.data = json.dumps(content).encode()
        self.say(link_pb2.LinkItem(id=id, deliver=deliver))

    def cancel(self, id: int, reason: str = "because") -> None:
        self.say(link_pb2.LinkItem(id=id, cancel=link_pb2.Cancel(reason=reason)))

    def grant(self, id: int, chunks: int) -> None:
        self.say(link_pb2.LinkItem(id=id, credit=link_pb2.Credit(chunks=chunks)))

    def said(self) -> list[link_pb2.LinkItem]:
        while (data := self.link.protocol.next_frame()) is not None:
            self.items.extend(link_pb2.LinkFrame.FromString(data).items)
        return self.items

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    async def complete(self, id: int) -> link_pb2.Complete:
        def found() -> list[link_pb2.Complete]:
            return [item.complete for item in self.said() if item.id == id and item.HasField("complete")]

        await self.until(lambda: bool(found()))
        assert len(found()) == 1
        return found()[0]

    async def delivered(self, id: int) -> link_pb2.Delivered:
        def found() -> list[link_pb2.Delivered]:
            return [item.delivered for item in self.said() if item.id == id and item.HasField("delivered")]

        await self.until(lambda: bool(found()))
        assert len(found()) == 1
        return found()[0]

    def chunks(self, id: int) -> list[Any]:
        return [json.loads(i.chunk.payload.data) for i in self.said() if i.id == id and i.HasField("chunk")]


log: list[Any] = []
gate: asyncio.Event
release: threading.Event


@Agent
class Subject:
    """Does whatever a test needs."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @memory(persistent=True)
    def counts(self) -> dict[str, int]:
        return {}

    @handler(default=True)
    async def echo(self, message: Message) -> Any:
        return message.content

    @handler
    async def count(self, message: Message) -> int:
        self.counts["n"] = self.counts.get("n", 0) + 1
        return self.counts["n"]

    @handler
    async def count_and_fail(self, message: Message) -> None:
        self.counts["n"] = 1000
        raise ValueError("it went wrong")

    @handler
    async def leak(self, message: Message) -> str:
        before = variable.get()
        variable.set("dirty")
        await asyncio.sleep(0)
        return before + "/" + variable.get()

    @handler
    async def wait(self, message: Message) -> Any:
        log.append(("waiting", message.content))
        try:
            await gate.wait()
        except asyncio.CancelledError:
            log.append(("cancelled", message.content))
            raise
        log.append(("done", message.content))
        return message.content

    @handler
    async def count_and_wait(self, message: Message) -> None:
        self.counts["n"] = 7
        await gate.wait()

    @handler
    async def stubborn(self, message: Message) -> str:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            return "I carried on"
        return "released"

    @handler
    async def timed(self, message: Message) -> str:
        task = asyncio.current_task()
        assert task is not None
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return f"timed out, {task.cancelling()} cancellations pending"
        return "?"

    @handler
    def plain(self, message: Message) -> str:
        self.counts["plain"] = 1
        return threading.current_thread().name

    @handler(execution="loop")
    def plain_quick(self, content: int) -> str:
        self.counts["plain"] = content
        return threading.current_thread().name

    @handler(execution="process")
    def plain_computing(self, message: Message) -> str:
        return threading.current_thread().name

    @handler
    def plain_waiting(self, message: Message) -> str:
        log.append(id(self))
        release.wait(10)
        return "released"

    @handler
    async def who(self, message: Message) -> int:
        return id(self)

    @handler
    async def numbers(self, upto: int) -> AsyncIterator[int]:
        try:
            for number in range(upto):
                log.append(number)
                yield number
        finally:
            log.append("closed")

    @handler
    async def staged(self, message: Message, context: Context) -> None:
        context.send("Other", {"x": 1})
        context.publish("topic", 5)

    @handler
    async def ask_context(self, message: Message) -> str:
        context = current_context()
        return f"{context.address} attempt {context.attempt}"

    @handler(concurrent=True)
    async def concurrent(self, message: Message) -> str:
        await asyncio.sleep(0)
        return "ran"

    @handler(concurrent=True)
    async def concurrent_change(self, message: Message) -> None:
        self.counts["n"] = 5

    @handler
    async def large(self, message: Message) -> str:
        return "x" * 100_000

    @handler
    @subscribe("news")
    async def on_news(self, message: Message) -> None:
        self.seen.append(message.content)
        log.append((id(self), message.content))

    @handler
    async def on_slow_news(self, message: Message) -> None:
        log.append(("start", message.content))
        if message.content == "slow":
            await gate.wait()
        log.append(("end", message.content))

    @handler
    async def on_counted_news(self, message: Message) -> None:
        self.counts["n"] = self.counts.get("n", 0) + 1
        if message.content == "bad" and current_context().key == "1":
            raise ValueError("not this one")


@pytest.fixture(autouse=True)
async def _fresh() -> AsyncIterator[None]:
    global gate, release
    log.clear()
    gate = asyncio.Event()
    release = threading.Event()
    yield
    release.set()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig(Subject)
    yield made
    release.set()
    await made.runner.close()


async def test_handler_result_is_completed_with_its_fence(rig: Rig) -> None:
    rig.invoke(9, "echo", {"a": [1]}, epoch=4, attempt=3)
    complete = await rig.complete(9)
    assert json.loads(complete.result.data) == {"a": [1]}
    assert (complete.attempt, complete.epoch) == (3, 4)
    assert not complete.HasField("effects")
    assert rig.runner.slots_in_use == 0


async def test_plain_handler_runs_on_the_loop_only_if_it_says_so(rig: Rig) -> None:
    rig.invoke(1, "plain_quick", 5)
    quick = await rig.complete(1)
    assert json.loads(quick.result.data) == threading.main_thread().name
    assert quick.effects.memory  # noticed as in any other handler
    rig.invoke(2, "plain_computing", key="other", epoch=2)
    assert json.loads((await rig.complete(2)).result.data).startswith("amx-handler")


async def test_handler_without_a_name_is_chosen(rig: Rig) -> None:
    rig.invoke(1, "", "x")
    assert json.loads((await rig.complete(1)).result.data) == "x"


@pytest.mark.parametrize(
    ("agent", "handler", "reason"), [("Subject", "nope", "HANDLER_UNKNOWN"), ("No", "", "AGENT_UNKNOWN")]
)
async def test_unknown_targets_are_answered_by_name(rig: Rig, agent: str, handler: str, reason: str) -> None:
    rig.invoke(1, handler, agent=agent)
    assert (await rig.complete(1)).failure.reason == reason


async def test_exception_becomes_a_failure_and_memory_is_rolled_back(rig: Rig) -> None:
    rig.invoke(1, "count")
    await rig.complete(1)
    rig.invoke(2, "count_and_fail", version=1)
    complete = await rig.complete(2)
    assert complete.failure.reason == "HANDLER_FAILED"
    assert complete.failure.message == "it went wrong"
    assert complete.failure.source == "Subject/k#count_and_fail"
    assert not complete.memory_dropped
    assert not complete.HasField("effects")
    rig.invoke(3, "count", version=1)
    assert json.loads((await rig.complete(3)).result.data) == 2


async def test_memory_changes_travel_as_effects_and_count_the_version(rig: Rig) -> None:
    for version in range(3):
        rig.invoke(version + 1, "count", version=version)
        complete = await rig.complete(version + 1)
        assert [(c.name, c.put.id, c.put.value) for c in complete.effects.memory] == [
            ("counts", '"n"', str(version + 1).encode())
        ]


async def test_memory_version_that_is_not_held_is_asked_for(rig: Rig) -> None:
    rig.invoke(1, "count", version=5)
    complete = await rig.complete(1)
    assert (complete.failure.reason, complete.memory_dropped) == ("MEMORY_NOT_HELD", True)
    image = memory_pb2.InstanceMemory()
    image.memories.add(name="counts").entries.add(id='"n"', value=b"41")
    rig.invoke(2, "count", version=5, image=image)
    assert json.loads((await rig.complete(2)).result.data) == 42
    rig.invoke(3, "count", version=6)
    assert json.loads((await rig.complete(3)).result.data) == 43


async def test_deactivated_memory_is_forgotten(rig: Rig) -> None:
    rig.invoke(1, "count")
    await rig.complete(1)
    rig.say(link_pb2.LinkItem(deactivate=link_pb2.Deactivate(epochs=[1])))
    rig.invoke(2, "count", version=1)
    assert (await rig.complete(2)).failure.reason == "MEMORY_NOT_HELD"


async def test_staged_effects_are_completed_together(rig: Rig) -> None:
    rig.invoke(1, "staged")
    effects = (await rig.complete(1)).effects
    assert [message.agent for message in effects.messages] == ["Other"]
    assert [event.topic for event in effects.events] == ["topic"]


async def test_current_context_is_there_without_being_asked_for_in_the_signature(rig: Rig) -> None:
    rig.invoke(1, "ask_context", key="a", attempt=2)
    assert json.loads((await rig.complete(1)).result.data) == "Subject/a attempt 2"


async def test_context_variables_do_not_leak_between_handlers(rig: Rig) -> None:
    for id in range(1, 4):
        rig.invoke(id, "leak", key=str(id), epoch=id)
    for id in range(1, 4):
        assert json.loads((await rig.complete(id)).result.data) == "clean/dirty"


async def test_suspended_handlers_do_not_hold_up_the_others(rig: Rig) -> None:
    for id in range(1, 51):
        rig.invoke(id, "wait", id, epoch=id, key=str(id))
    rig.invoke(99, "echo", "through", epoch=99)
    assert json.loads((await rig.complete(99)).result.data) == "through"
    assert rig.runner.slots_in_use == 50
    gate.set()
    for id in range(1, 51):
        assert json.loads((await rig.complete(id)).result.data) == id


async def test_runners_are_reused(rig: Rig) -> None:
    for id in range(1, 300):
        rig.invoke(id, "leak", epoch=id, key=str(id))
        await rig.complete(id)
    assert len(rig.runner._tasks) <= 2


async def test_nothing_is_kept_of_a_handler_that_ended_while_another_still_waits(rig: Rig) -> None:
    gc.disable()
    try:
        rig.invoke(1, "leak", epoch=1, key="1")
        rig.invoke(2, "wait", epoch=2, key="2")
        ended = weakref.ref(rig.runner._jobs[1])
        await rig.complete(1)
        assert ended() is None
    finally:
        gc.enable()
    assert rig.runner.slots_in_use == 1


async def test_cancelled_handler_answers_cancelled_and_its_runner_goes_on(rig: Rig) -> None:
    rig.invoke(1, "wait", "a")
    await rig.until(lambda: ("waiting", "a") in log)
    rig.cancel(1, "the caller left")
    failure = (await rig.complete(1)).failure
    assert (failure.reason, failure.code) == ("CANCELLED", 1)
    assert "the caller left" in failure.message
    assert ("cancelled", "a") in log
    rig.invoke(2, "timed")
    assert json.loads((await rig.complete(2)).result.data) == "timed out, 0 cancellations pending"


async def test_cancelled_handler_leaves_memory_as_it_was(rig: Rig) -> None:
    rig.invoke(1, "count_and_wait")
    await rig.until(lambda: rig.runner.slots_in_use == 1)
    await asyncio.sleep(0)
    rig.cancel(1)
    assert not (await rig.complete(1)).memory_dropped
    rig.invoke(2, "count")
    assert json.loads((await rig.complete(2)).result.data) == 1


async def test_handler_that_ignores_its_cancellation_has_failed_all_the_same(rig: Rig) -> None:
    rig.invoke(1, "stubborn")
    await asyncio.sleep(0.01)
    rig.cancel(1)
    assert (await rig.complete(1)).failure.reason == "CANCELLED"


async def test_invocation_cancelled_before_it_began_does_not_run(rig: Rig) -> None:
    rig.invoke(1, "wait", "never")
    rig.cancel(1)
    assert (await rig.complete(1)).failure.reason == "CANCELLED"
    assert log == []


async def test_deadline_is_enforced_here_too(rig: Rig) -> None:
    rig.invoke(1, "wait", "late", timeout_ms=20)
    assert (await rig.complete(1)).failure.reason == "DEADLINE_EXCEEDED"
    assert ("cancelled", "late") in log


async def test_plain_handler_runs_in_a_thread_with_its_memory(rig: Rig) -> None:
    rig.invoke(1, "plain")
    complete = await rig.complete(1)
    assert json.loads(complete.result.data).startswith("amx-handler")
    assert [change.put.id for change in complete.effects.memory] == ['"plain"']


async def test_cancelled_plain_handler_keeps_its_object_and_the_instance_gets_a_new_one(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.invoke(1, "plain_waiting")
    await rig.until(lambda: bool(log))
    rig.cancel(1)
    complete = await rig.complete(1)
    assert (complete.failure.reason, complete.memory_dropped) == ("CANCELLED", True)
    assert "Subject/k#plain_waiting was cancelled" in caplog.text
    rig.invoke(2, "who", version=0, image=memory_pb2.InstanceMemory())
    assert json.loads((await rig.complete(2)).result.data) != log[0]


async def test_stream_waits_for_its_window_then_completes() -> None:
    rig = Rig(Subject, stream_window=3)
    rig.invoke(1, "numbers", 8, streaming=True)
    await rig.until(lambda: len(rig.chunks(1)) == 3)
    await asyncio.sleep(0.01)
    assert rig.chunks(1) == [0, 1, 2]
    rig.grant(1, 2)
    await rig.until(lambda: len(rig.chunks(1)) == 5)
    rig.grant(1, 100)
    complete = await rig.complete(1)
    assert rig.chunks(1) == list(range(8))
    assert complete.HasField("result")
    assert not complete.result.data
    await rig.runner.close()


async def test_cancelled_stream_closes_its_generator() -> None:
    rig = Rig(Subject, stream_window=2)
    rig.invoke(1, "numbers", 1000, streaming=True)
    await rig.until(lambda: len(rig.chunks(1)) == 2)
    rig.cancel(1)
    assert (await rig.complete(1)).failure.reason == "CANCELLED"
    assert log == [0, 1, 2, "closed"]
    await rig.runner.close()


async def test_stream_asked_for_as_one_result_is_a_list(rig: Rig) -> None:
    rig.invoke(1, "numbers", 1000)
    assert json.loads((await rig.complete(1)).result.data) == list(range(1000))


async def test_concurrent_handler_runs_beside_another(rig: Rig) -> None:
    rig.invoke(1, "wait", "a")
    await rig.until(lambda: ("waiting", "a") in log)
    rig.invoke(2, "concurrent")
    assert json.loads((await rig.complete(2)).result.data) == "ran"
    gate.set()
    await rig.complete(1)


async def test_concurrent_handler_must_not_change_memory(rig: Rig) -> None:
    rig.invoke(1, "concurrent_change")
    assert (await rig.complete(1)).failure.reason == "CONCURRENT_MEMORY_CHANGE"
    rig.invoke(2, "count")
    assert json.loads((await rig.complete(2)).result.data) == 1


async def test_result_over_the_limit_is_refused_by_name() -> None:
    rig = Rig(Subject, max_item_bytes=50_000)
    rig.invoke(1, "large")
    assert (await rig.complete(1)).failure.reason == "ITEM_TOO_LARGE"
    await rig.runner.close()


async def test_input_that_does_not_fit_names_the_field(rig: Rig) -> None:
    rig.invoke(1, "numbers", "many")
    assert (await rig.complete(1)).failure.reason == "INVALID_INPUT"


async def test_event_reaches_every_target_and_is_answered_once(rig: Rig) -> None:
    for epoch in range(1, 301):
        rig.activate(epoch, str(epoch))
    rig.deliver(5, list(range(1, 301)), "on_news", "hello")
    assert len((await rig.delivered(5)).targets) == 0
    assert len({who for who, _ in log}) == 300


async def test_event_outcomes_are_reported_by_position(rig: Rig) -> None:
    for epoch in range(3):
        rig.activate(epoch + 1, str(epoch))
    rig.deliver(5, [1, 2, 3, 77], "on_counted_news", "bad")
    targets = {target.index: target for target in (await rig.delivered(5)).targets}
    assert [change.put.value for change in targets[0].effects.memory] == [b"1"]
    assert targets[1].failure.message == "not this one"
    assert not targets[1].memory_dropped
    assert [change.put.value for change in targets[2].effects.memory] == [b"1"]
    assert (targets[3].failure.reason, targets[3].memory_dropped) == ("MEMORY_NOT_HELD", True)
    rig.invoke(6, "count", epoch=1, version=1)
    assert json.loads((await rig.complete(6)).result.data) == 2


async def test_events_of_one_instance_run_in_order_and_others_go_ahead(rig: Rig) -> None:
    rig.activate(1, "a")
    rig.activate(2, "b")
    rig.deliver(1, [1], "on_slow_news", "slow")
    rig.deliver(2, [1, 2], "on_slow_news", "second")
    rig.deliver(3, [1], "on_slow_news", "third")
    await rig.until(lambda: len(log) >= 3)
    assert log == [("start", "slow"), ("start", "second"), ("end", "second")]
    assert not [item for item in rig.said() if item.HasField("delivered")]
    gate.set()
    for id in (1, 2, 3):
        await rig.delivered(id)
    assert log[3:] == [("end", "slow"), ("start", "second"), ("end", "second"), ("start", "third"), ("end", "third")]


async def test_suspended_targets_are_bounded_and_all_end() -> None:
    rig = Rig(Subject, concurrency=4)
    for epoch in range(1, 31):
        rig.activate(epoch, str(epoch))
    rig.deliver(1, list(range(1, 31)), "on_slow_news", "slow")
    await rig.until(lambda: len(log) == 4)
    rig.invoke(2, "echo", "an invocation is not held up", epoch=99)
    await rig.complete(2)
    assert len(log) == 4
    gate.set()
    await rig.delivered(1)
    assert log.count(("end", "slow")) == 30
    await rig.runner.close()


async def test_cancelled_delivery_ends_everywhere(rig: Rig) -> None:
    for epoch in range(1, 4):
        rig.activate(epoch, str(epoch))
    rig.deliver(1, [1, 2, 3], "on_slow_news", "slow")
    await rig.until(lambda: len(log) == 3)
    rig.cancel(1)
    assert [t.failure.reason for t in (await rig.delivered(1)).targets] == ["CANCELLED"] * 3


async def test_lost_session_stops_handlers_and_answers_nothing(rig: Rig) -> None:
    rig.invoke(1, "wait", "old")
    await rig.until(lambda: ("waiting", "old") in log)
    rig.said()
    before = len(rig.items)
    rig.open()  # an engine that knows nothing of it
    await rig.until(lambda: ("cancelled", "old") in log)
    rig.invoke(1, "echo", "new", epoch=1)
    assert json.loads((await rig.complete(1)).result.data) == "new"
    assert [item.id for item in rig.items[before:]] == [1]


async def test_handler_that_blocks_the_event_loop_is_named(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "BLOCKING_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING):
        rig.invoke(1, "echo")
        await rig.complete(1)
        rig.invoke(2, "echo")
        await rig.complete(2)
    assert caplog.text.count("Subject#echo blocked the event loop") == 1


async def test_wait_empty_returns_when_the_last_invocation_has_ended(rig: Rig) -> None:
    await rig.runner.wait_empty()
    rig.invoke(1, "wait", "a")
    waiting = asyncio.ensure_future(rig.runner.wait_empty())
    await rig.until(lambda: ("waiting", "a") in log)
    assert not waiting.done()
    gate.set()
    await waiting
