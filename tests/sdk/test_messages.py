"""Messages, results, errors and contexts: what travels, what comes back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from amx.v1 import agent_pb2, common_pb2, link_pb2, memory_pb2, message_pb2
from amx_engine import (
    AgentReference,
    AmxError,
    BaseMessageRouter,
    Context,
    HandlerError,
    InvalidInput,
    Message,
    Priority,
    ProcessingResult,
    Receipt,
)
from amx_engine import types as public_types
from amx_engine._calls import SubscriptionCall
from amx_engine._context import current_context, reset_current, set_current
from amx_engine._errors import error_from_failure, failure_from_exception
from amx_engine._message import milliseconds, outgoing
from amx_engine._values import InvalidValue


def travel(message: Message) -> Message:
    proto = message_pb2.Message()
    message.to_proto(proto)
    return Message.from_proto(message_pb2.Message.FromString(proto.SerializeToString()))


def test_a_message_survives_the_journey() -> None:
    sent = Message(
        {"text": "hi", "n": 2**50},
        type="inquiry",
        priority="high",
        headers={"a": "b"},
        source="app",
        id="m1",
        idempotency_key="k1",
        ttl=timedelta(seconds=2),
        delay=timedelta(milliseconds=5),
        durable=True,
        agent="a",
        key="7",
        handler="h",
    )
    got = travel(sent)
    assert got.content == {"text": "hi", "n": 2**50} and got.content is got.content
    assert (got.type, got.priority, dict(got.headers), got.source) == ("inquiry", Priority.HIGH, {"a": "b"}, "app")
    assert (got.id, got.idempotency_key, got.ttl, got.delay) == (
        "m1",
        "k1",
        timedelta(seconds=2),
        timedelta(0, 0, 5000),
    )
    assert (got.durable, got.agent, got.key, got.handler) == (True, "a", "7", "h")
    assert got.sent_at is not None
    assert sent.content == {"text": "hi", "n": 2**50}


def test_an_empty_message_says_nothing() -> None:
    got = travel(Message())
    assert got.content is None and got.payload == b"" and got.key == "default"
    assert got.priority is Priority.NORMAL and got.durable is None and got.ttl is None


@pytest.mark.parametrize(
    ("content_type", "data", "content"),
    [
        ("", b'{"a":1}', {"a": 1}),
        ("application/json; charset=utf-8", b"1", 1),
        ("application/problem+json", b"[]", []),
        ("text/plain", "ä".encode(), "ä"),
        ("image/png", b"\x89", b"\x89"),
    ],
)
def test_content_is_decoded_by_its_type(content_type: str, data: bytes, content: Any) -> None:
    proto = message_pb2.Message()
    proto.payload.content_type, proto.payload.data = content_type, data
    assert Message.from_proto(proto).content == content


def test_raw_payloads_pass_unchanged() -> None:
    got = travel(Message(payload=b"\x00\x01", content_type="application/x-thing"))
    assert (got.payload, got.content_type, got.content) == (b"\x00\x01", "application/x-thing", b"\x00\x01")


def test_a_message_shows_how_it_will_travel() -> None:
    assert (Message({"a": 1}).payload, Message({"a": 1}).content_type) == (b'{"a":1}', "application/json")
    assert Message().encoded() == ("", b"")


@dataclass
class Thing:
    n: int


def test_content_as_a_type() -> None:
    assert travel(Message(Thing(1))).content_as(Thing) == Thing(1)
    with pytest.raises(InvalidInput, match="n: expected an integer"):
        travel(Message({"n": "1"})).content_as(Thing)


def test_content_that_cannot_travel_is_named() -> None:
    with pytest.raises(InvalidValue, match=r"a\[0\]"):
        travel(Message({"a": [object()]}))


def test_an_event_becomes_a_message() -> None:
    event = message_pb2.Event(topic="orders.new", event_id="e", publisher="shop/1", key="k", attributes={"r": "eu"})
    event.payload.data = b"1"
    message = Message.from_event(event)
    assert (message.topic, message.id, message.sender, message.key) == ("orders.new", "e", "shop/1", "k")
    assert dict(message.headers) == {"r": "eu"} and message.content == 1


def test_priorities_have_names_and_an_order() -> None:
    assert Priority.of("high") is Priority.HIGH and Priority.of("BACKGROUND") is Priority.BACKGROUND
    assert sorted([Priority.LOW, Priority.CRITICAL]) == [Priority.CRITICAL, Priority.LOW]
    with pytest.raises(InvalidInput, match="use one of critical, high, normal, low, background"):
        Message(priority="urgent")


@pytest.mark.parametrize(
    ("value", "millis"),
    [("250ms", 250), ("30s", 30_000), ("1.5h", 5_400_000), (timedelta(microseconds=1), 1), (2, 2000), (None, None)],
)
def test_lengths_of_time(value: Any, millis: int | None) -> None:
    assert milliseconds(value, "ttl") == millis


@pytest.mark.parametrize("value", ["", "5", "s", "-1s", "1 week", timedelta(-1), float("nan")])
def test_lengths_of_time_that_are_none(value: Any) -> None:
    with pytest.raises(InvalidInput, match="ttl"):
        milliseconds(value, "ttl")


@pytest.mark.parametrize(
    ("result", "success", "kind"),
    [
        (ProcessingResult.success(data={"a": 1}, from_cache=True), True, None),
        (ProcessingResult.warning("slow", data=[1]), True, None),
        (ProcessingResult.error("No text", error_type="NO_TEXT", field="text"), False, "NO_TEXT"),
        (ProcessingResult.error("No text"), False, "PROCESSING_ERROR"),
    ],
)
def test_results_survive_the_journey(result: ProcessingResult, success: bool, kind: str | None) -> None:
    content_type, data = result.to_payload()
    assert set(json.loads(data)) == {"status", "data", "message", "metadata"}
    got = ProcessingResult.from_payload(common_pb2.Payload(content_type=content_type, data=data))
    assert got == result
    assert (got.is_success, got.error_type) == (success, kind)


def test_any_other_reply_is_the_data_of_a_success() -> None:
    assert ProcessingResult.from_payload(common_pb2.Payload(data=b'"x"')) == ProcessingResult.success("x")
    assert ProcessingResult.from_payload(common_pb2.Payload()).data is None


def test_addresses() -> None:
    assert str(AgentReference("a")) == "a/default"
    assert AgentReference.parse("a/b/c") == AgentReference("a", "b/c")
    assert len({AgentReference("a"), AgentReference.parse("a")}) == 1


def test_an_exception_crosses_the_wire_with_causes_and_stack() -> None:
    def fail() -> None:
        try:
            dict[str, int]()["x"]
        except KeyError as error:
            raise HandlerError("no x", reason="X_MISSING", metadata={"key": "x"}) from error

    with pytest.raises(HandlerError) as caught:
        fail()
    failure = failure_from_exception(caught.value, "a/b#c")
    got = error_from_failure(common_pb2.Failure.FromString(failure.SerializeToString()))
    assert (got.reason, got.message, got.metadata, got.retryable) == ("X_MISSING", "no x", {"key": "x"}, False)
    assert got.source == "a/b#c" and "in fail" in got.stack
    assert isinstance(got.__cause__, AmxError)
    assert got.__cause__.reason == "HANDLER_FAILED" and got.__cause__.metadata == {"exception": "KeyError"}
    again = failure_from_exception(got, "elsewhere")
    assert (again.source, again.stack_trace, again.cause.message) == ("a/b#c", failure.stack_trace, "'x'")


def test_an_unclassified_exception_may_be_repeated() -> None:
    failure = failure_from_exception(ConnectionError("gone"), "a")
    assert (failure.reason, failure.retryable, failure.message) == ("HANDLER_FAILED", True, "gone")
    assert failure_from_exception(ValueError(), "a").message == "ValueError"
    assert failure_from_exception(asyncio.CancelledError(), "a").reason == "CANCELLED"


def test_exceptions_of_any_size_and_shape_fit_on_the_wire() -> None:
    class Odd(Exception):
        reason = "not upper snake"
        code = "x"
        metadata = {1: "ä" * 5000}  # noqa: RUF012

    error: BaseException = Odd("ü\ud800" * 100_000)
    for _ in range(50):
        outer = ValueError("outer")
        outer.__cause__ = error
        error = outer
    loop = ValueError("loop")
    loop.__cause__ = error
    error.__context__ = loop
    for exc in (Odd("ü\ud800" * 100_000), error, loop):
        assert failure_from_exception(exc, "a").ByteSize() < 256 * 1024
    assert failure_from_exception(Odd("x"), "a").reason == "HANDLER_FAILED"


class Engine:
    """Calls, recorded and answered."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, int, int]] = []

    async def send(
        self, message: message_pb2.Message, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> link_pb2.Accepted:
        self.calls.append(("send", message, timeout_ms, invocation_id))
        return link_pb2.Accepted(message_id="m9")

    async def request(
        self, message: message_pb2.Message, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> common_pb2.Payload:
        self.calls.append(("request", message, timeout_ms, invocation_id))
        content_type, data = ProcessingResult.success(1).to_payload()
        return common_pb2.Payload(content_type=content_type, data=data)

    async def stream(
        self, message: message_pb2.Message, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> AsyncGenerator[common_pb2.Payload, None]:
        self.calls.append(("stream", message, timeout_ms, invocation_id))
        for data in (b"1", b"2"):
            yield common_pb2.Payload(data=data)

    async def publish(
        self, event: message_pb2.Event, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> link_pb2.Published:
        self.calls.append(("publish", event, timeout_ms, invocation_id))
        return link_pb2.Published(subscribers=3)

    async def broadcast(
        self, broadcast: link_pb2.Broadcast, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> message_pb2.BroadcastResult:
        raise NotImplementedError

    async def memory(
        self, operation: memory_pb2.MemoryOperation, *, timeout_ms: int = 0, invocation_id: int = 0
    ) -> memory_pb2.MemoryOperationResult:
        self.calls.append(("memory", operation, timeout_ms, invocation_id))
        return memory_pb2.MemoryOperationResult(
            found=True, kind=agent_pb2.MEMORY_KIND_MAP, entries=[memory_pb2.MemoryEntry(id='"k"', value=b"5")]
        )

    async def subscribe(self, subscription: message_pb2.Subscription, *, invocation_id: int = 0) -> SubscriptionCall:
        self.calls.append(("subscribe", subscription, 0, invocation_id))
        call = SubscriptionCall(subscription)
        call.event(message_pb2.Event(topic="news.local", payload=common_pb2.Payload(data=b'"rain"')))
        return call

    def unsubscribe(self, call: SubscriptionCall) -> None:
        self.calls.append(("unsubscribe", call, 0, 0))


def test_effects_are_staged_until_collected() -> None:
    context = Context(Message(), 4, 2, "shop", "7")
    assert not context.has_effects
    context.emit("billing/7", {"n": 1}, type="bill", delay=timedelta(seconds=1), priority="low")
    context.send(AgentReference("stock", "x"), Message("y", headers={"h": "1"}), handler="take")
    context.publish("orders.new", {"n": 1}, attributes={"region": "eu"}, durable=True)
    context.schedule("remind", "on_remind", {"n": 2}, after=timedelta(minutes=1))
    context.schedule("often", "on_often", every=timedelta(seconds=5), missed="skip")
    context.unschedule("old")
    context.subscribe("prices.*", "on_price", "currency = eur")
    context.unsubscribe("news")
    assert context.has_effects
    effects = link_pb2.Effects()
    context.collect(effects)
    assert not context.has_effects
    first, second = effects.messages
    assert (first.agent, first.key, first.type, first.delay_ms) == ("billing", "7", "bill", 1000)
    assert first.payload.data == b'{"n":1}' and first.priority == common_pb2.PRIORITY_LOW
    assert (second.agent, second.key, second.handler, second.payload.data) == ("stock", "x", "take", b'"y"')
    assert second.headers["h"] == "1"
    (event,) = effects.events
    assert event.topic == "orders.new" and event.durability == common_pb2.DURABILITY_DURABLE
    remind, often = effects.schedules
    assert (remind.name, remind.handler, remind.once_after_ms, remind.key) == ("remind", "on_remind", 60_000, "7")
    assert remind.payload.data == b'{"n":2}' and often.fixed_rate_ms == 5000
    assert effects.cancelled_schedules == ["old"] and effects.cancelled_subscriptions == ["news"]
    assert effects.subscriptions[0].filter == "currency = eur"


def test_an_effect_that_cannot_travel_is_not_staged() -> None:
    context = Context(Message())
    with pytest.raises(InvalidValue):
        context.emit("a", object())
    with pytest.raises(InvalidInput, match="exactly one"):
        context.schedule("a", "b")
    assert not context.has_effects


async def test_calls_carry_invocation_deadline_and_trace() -> None:
    engine = Engine()
    message = Message(traceparent="00-1-2-01")
    context = Context(message, 4, 1, "shop", "7", deadline=time.monotonic() + 10, calls=engine)
    assert await context.request("a/k", {"x": 1}, timeout=timedelta(seconds=2)) == ProcessingResult.success(1)
    assert [chunk async for chunk in context.stream("a", 1)] == [1, 2]
    assert await context.send_now("a", 1, id="m9") == Receipt("m9", False)
    assert await context.publish_now("t", 1) == 3
    assert [(name, invocation) for name, _, _, invocation in engine.calls] == [
        ("request", 4),
        ("stream", 4),
        ("send", 4),
        ("publish", 4),
    ]
    assert engine.calls[0][2] == 2000 and 9000 < engine.calls[1][2] <= 10_000
    assert all(sent.traceparent == "00-1-2-01" for _, sent, _, _ in engine.calls)
    assert (engine.calls[0][1].agent, engine.calls[0][1].key) == ("a", "k")


async def test_a_handler_reads_the_memory_of_another_instance_and_events_on_behalf_of_its_invocation() -> None:
    engine = Engine()
    context = Context(Message(), 4, 1, "shop", "7", calls=engine)
    assert await context.memory("stock/north").get("counts", "k") == 5
    async with context.events("news.*", "region = eu") as events:
        event = await anext(events)
    assert (event.topic, event.content) == ("news.local", "rain")
    assert [(name, invocation) for name, _, _, invocation in engine.calls] == [
        ("memory", 4),
        ("subscribe", 4),
        ("unsubscribe", 0),
    ]
    assert (engine.calls[0][1].instance.agent, engine.calls[0][1].instance.key) == ("stock", "north")
    assert (engine.calls[1][1].pattern, engine.calls[1][1].filter) == ("news.*", "region = eu")


def test_details_of_an_error_reach_the_other_side() -> None:
    error = HandlerError("no", reason="NO", details=[{"seat": "4A"}, None, "text", object(), 7])
    failure = failure_from_exception(error, "a")
    assert len(failure.details) == 4  # what has no JSON form stays behind
    assert error_from_failure(failure).details == [{"seat": "4A"}, None, "text", 7]
    large = HandlerError("no", reason="NO", details=["first", "x" * 100_000])
    assert [detail.data for detail in failure_from_exception(large, "a").details] == [b'"first"']


def test_a_router_chooses_a_handler_too() -> None:
    router = BaseMessageRouter()
    assert router.find_agent("Support/7", handler="urgent") == AgentReference("Support", "7", "urgent")
    assert outgoing(router.find_agent("Support", handler="urgent"), 1).handler == "urgent"
    assert outgoing(router.find_agent("Support", handler="urgent"), 1, handler="other").handler == "other"


async def test_calls_without_an_engine_say_what_to_do() -> None:
    with pytest.raises(AmxError, match=r"amx_engine\.testing") as caught:
        await Context(Message()).request("a")
    assert caught.value.reason == "NO_ENGINE"


def test_the_current_context_is_known_inside_handlers_only() -> None:
    with pytest.raises(AmxError, match="inside a handler"):
        current_context()
    context = Context(Message())
    token = set_current(context)
    assert current_context() is context
    reset_current(token)


def test_everything_public_is_there() -> None:
    import amx_engine

    for name in set(amx_engine.__all__) - {"AmxEngine"}:
        assert getattr(amx_engine, name) is not None
    for name in public_types.__all__:
        assert getattr(public_types, name) is not None


def test_looking_at_the_priority_of_a_message_keeps_nothing_of_it() -> None:
    message = Message.from_bytes(
        message_pb2.Message(priority=common_pb2.PRIORITY_HIGH, type="t").SerializeToString(), "", b""
    )
    assert message.priority is Priority.HIGH
    assert not hasattr(message, "_made")
    assert message.type == "t" and message.priority is Priority.HIGH
