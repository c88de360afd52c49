"""The plain items of frames read and written as bytes mean the same as through the generated classes.

Each test runs with the source as it is, and with the compiled module where there is one.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from amx import wire as installed
from amx.v1 import link_pb2, message_pb2
from tests.fuzz.mutate import damaged, filled

SOURCE = Path(__file__).resolve().parents[2] / "sdk-python" / "amx" / "wire.py"


def _uncompiled() -> ModuleType:
    spec = importlib.util.spec_from_file_location("amx_wire_source", SOURCE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WIRES = [_uncompiled()] if installed.__file__.endswith(".py") else [_uncompiled(), installed]


on_both = pytest.mark.parametrize("wire", WIRES, ids=["source", "compiled"][: len(WIRES)])


def test_compiled_module_is_not_older_than_its_source() -> None:
    if not installed.__file__.endswith(".py"):
        newer = SOURCE.stat().st_mtime - Path(installed.__file__).stat().st_mtime
        assert newer <= 0, "amx/wire.py has changed since it was compiled: run sdk-python/compile_wire.py"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
small = st.integers(0, 2**32 - 1)
numbers = st.one_of(st.integers(0, 300), st.integers(0, 2**63 - 1))
ids = st.one_of(st.integers(1, 300), st.integers(1, 2**63 - 1))
contents = st.one_of(st.binary(max_size=300), st.integers(16000, 17000).map(bytes))


@st.composite
def messages(draw: st.DrawFn) -> message_pb2.Message:
    message = message_pb2.Message(agent=draw(names), key=draw(texts), handler=draw(names), type=draw(texts))
    if draw(st.booleans()):
        message.payload.content_type = draw(texts)
        message.payload.data = draw(contents)
    message.priority = draw(st.integers(0, 5))  # type: ignore[assignment]
    message.source, message.traceparent, message.sent_at_ms = draw(texts), draw(texts), draw(numbers)
    if draw(st.integers(0, 9)) == 0:  # something that the engine must act on
        message.headers[draw(texts)] = draw(texts)
    return message


@st.composite
def items_from_sdk(draw: st.DrawFn) -> link_pb2.LinkItem:
    item = link_pb2.LinkItem(id=draw(ids))
    kind = draw(st.integers(0, 9))
    if kind < 4:
        item.call.timeout_ms = draw(numbers)
        item.call.request.CopyFrom(draw(messages()))
    elif kind == 4:
        item.delivered.SetInParent()
    elif kind < 8:
        item.complete.attempt, item.complete.epoch = draw(small), draw(numbers)
        item.complete.result.content_type, item.complete.result.data = draw(texts), draw(contents)
        item.complete.duration_us = draw(numbers)
    else:
        filled(random.Random(draw(small)), item)
    return item


@st.composite
def items_from_engine(draw: st.DrawFn) -> link_pb2.LinkItem:
    item = link_pb2.LinkItem(id=draw(ids))
    kind = draw(st.integers(0, 9))
    if kind < 4:
        item.invoke.message.CopyFrom(draw(messages()))
        item.invoke.attempt, item.invoke.epoch = draw(small), draw(numbers)
        item.invoke.timeout_ms, item.invoke.memory_version = draw(numbers), draw(numbers)
    elif kind < 8:
        item.reply.result.content_type, item.reply.result.data = draw(texts), draw(contents)
    else:
        filled(random.Random(draw(small)), item)
    return item


def from_entry(wire: Any, entry: tuple[Any, ...]) -> Iterator[link_pb2.LinkItem]:
    """The items that an entry stands for. Fails if an entry contradicts itself."""
    kind, *fields = entry
    if kind == wire.OTHER:
        yield from link_pb2.LinkFrame.FromString(fields[0]).items
        return
    item = link_pb2.LinkItem(id=fields[0])
    if kind == wire.REQUEST:
        _, timeout_ms, agent, key, handler, type_, priority, data = fields
        item.call.timeout_ms = timeout_ms
        request = item.call.request
        request.ParseFromString(data)
        read = (request.agent, request.key, request.handler, request.type, request.priority)
        assert read == (agent, key, handler, type_, priority)
    elif kind == wire.RESULT:
        _, item.complete.attempt, item.complete.epoch, data = fields
        item.complete.result.ParseFromString(data)
        item.complete.result.SetInParent()
    elif kind == wire.DELIVERED:
        item.delivered.SetInParent()
    elif kind == wire.INVOKE:
        _, attempt, epoch, timeout_ms, version, agent, key, handler, data, content_type, content = fields
        invoke = item.invoke
        invoke.attempt, invoke.epoch, invoke.timeout_ms, invoke.memory_version = attempt, epoch, timeout_ms, version
        message = invoke.message
        message.ParseFromString(data)
        assert (message.agent, message.key, message.handler) == (agent, key, handler)
        assert (message.payload.content_type, message.payload.data) == (content_type, content)
    else:
        assert kind == wire.REPLY
        _, item.reply.result.content_type, item.reply.result.data = fields
        item.reply.result.SetInParent()
    yield item


def without_duration(items: list[link_pb2.LinkItem]) -> list[link_pb2.LinkItem]:
    """Scans leave out how long a handler ran: the engine has its own clock."""
    for item in items:
        if item.HasField("complete"):
            item.complete.duration_us = 0
    return items


@on_both
@pytest.mark.parametrize("from_sdk", [True, False])
@given(data=st.data())
def test_scan_of_a_frame_gives_the_items_in_it_in_their_order(wire: Any, from_sdk: bool, data: st.DataObject) -> None:
    items = data.draw(st.lists(items_from_sdk() if from_sdk else items_from_engine(), max_size=8))
    frame = link_pb2.LinkFrame(items=items, seq=data.draw(numbers), ack=data.draw(numbers))
    scanned = wire.scan(frame.SerializeToString(), from_sdk)
    assert scanned is not None
    seq, ack, count, entries = scanned
    assert (seq, ack, count) == (frame.seq, frame.ack, len(items))
    found = [item for entry in entries for item in from_entry(wire, entry)]
    assert without_duration(found) == without_duration(list(frame.items))


@on_both
@pytest.mark.parametrize("from_sdk", [True, False])
@given(data=st.data())
def test_scan_of_a_damaged_frame_finds_nothing_that_the_generated_classes_do_not(
    wire: Any, from_sdk: bool, data: st.DataObject
) -> None:
    items = data.draw(st.lists(items_from_sdk() if from_sdk else items_from_engine(), max_size=4))
    frame = link_pb2.LinkFrame(items=items, seq=data.draw(numbers), ack=data.draw(numbers))
    broken = damaged(random.Random(data.draw(small)), frame.SerializeToString())
    scanned = wire.scan(broken, from_sdk)
    if scanned is None:
        return
    seq, ack, count, entries = scanned
    found: list[link_pb2.LinkItem] | None = []
    for entry in entries:
        try:
            assert found is not None
            found.extend(from_entry(wire, entry))
        except DecodeError:
            assert entry[0] == wire.OTHER  # whoever takes the entry finds out
            found = None
            break
    try:
        whole = link_pb2.LinkFrame.FromString(broken)
    except DecodeError:
        assert found is None
        return
    assert found is not None
    assert (seq, ack, count) == (whole.seq, whole.ack, len(whole.items))
    assert without_duration(found) == without_duration(list(whole.items))


@on_both
@given(data=st.binary(max_size=100))
@settings(max_examples=500)
def test_scan_of_random_bytes_never_fails(wire: Any, data: bytes) -> None:
    for from_sdk in (True, False):
        scanned = wire.scan(data, from_sdk)
        assert scanned is None or scanned[2] >= 0


@on_both
@given(data=st.data())
def test_written_items_are_read_back_by_the_generated_classes(wire: Any, data: st.DataObject) -> None:
    draw = data.draw
    message = draw(messages())
    sender, kind, content = draw(names), draw(texts), draw(contents)
    expected = [link_pb2.LinkItem(id=draw(ids)) for _ in range(4)]
    invoke, reply, complete, request = expected
    invoke.invoke.message.CopyFrom(message)
    invoke.invoke.message.sender = sender
    invoke.invoke.attempt, invoke.invoke.epoch = draw(small), draw(numbers)
    invoke.invoke.timeout_ms, invoke.invoke.memory_version = draw(numbers), draw(numbers)
    reply.reply.result.content_type, reply.reply.result.data = kind, content
    complete.complete.attempt, complete.complete.epoch = draw(small), draw(numbers)
    complete.complete.duration_us = draw(numbers)
    complete.complete.result.CopyFrom(reply.reply.result)
    request.call.timeout_ms = draw(numbers)
    request.call.request.agent, request.call.request.key = message.agent, message.key
    request.call.request.payload.CopyFrom(reply.reply.result)

    frame = wire.Frame()
    frame.append(
        wire.invoke_item(
            invoke.id,
            message.SerializeToString(),
            wire.field(12 << 3 | 2, sender),
            invoke.invoke.attempt,
            invoke.invoke.epoch,
            invoke.invoke.timeout_ms,
            invoke.invoke.memory_version,
        )
    )
    frame.append(wire.reply_item(reply.id, reply.reply.result.SerializeToString()))
    frame.add(0).ping.nonce = 7
    done = complete.complete
    frame.append(wire.complete_item(complete.id, done.attempt, done.epoch, kind, content, done.duration_us))
    address = wire.field(1 << 3 | 2, message.agent) + wire.field(2 << 3 | 2, message.key)
    frame.append(wire.request_item(request.id, request.call.timeout_ms, address, kind, content))
    assert frame.count == 5

    seq, ack = draw(numbers), draw(numbers)
    read = link_pb2.LinkFrame.FromString(frame.serialize(seq, ack))
    assert (read.seq, read.ack) == (seq, ack)
    ping = read.items.pop(2)
    assert ping.ping.nonce == 7
    assert list(read.items) == expected


@on_both
@given(data=st.data())
def test_written_items_that_carry_events_are_read_back_by_the_generated_classes(wire: Any, data: st.DataObject) -> None:
    draw = data.draw
    published, deliver, delivered, call = expected = [link_pb2.LinkItem(id=draw(ids)) for _ in range(4)]
    published.reply.published.event_id, published.reply.published.subscribers = draw(texts), draw(small)
    event = deliver.deliver.event
    event.topic, event.publisher, event.payload.data = draw(names), draw(texts), draw(contents)
    deliver.deliver.agent, deliver.deliver.handler = draw(names), draw(names)
    deliver.deliver.epochs.extend(draw(st.lists(numbers, max_size=200)))
    delivered.delivered.SetInParent()
    call.call.invocation_id, call.call.timeout_ms = draw(numbers), draw(numbers)
    call.call.publish.CopyFrom(event)

    encoded = event.SerializeToString()
    receiver = wire.field(2 << 3 | 2, deliver.deliver.agent) + wire.field(3 << 3 | 2, deliver.deliver.handler)
    said = (published.reply.published.event_id, published.reply.published.subscribers)
    frame = wire.Frame()
    frame.append(wire.published_item(published.id, *said))
    frame.append(wire.deliver_item(deliver.id, encoded, receiver, list(deliver.deliver.epochs)))
    frame.append(wire.delivered_item(delivered.id))
    frame.append(wire.call_item(call.id, call.call.invocation_id, call.call.timeout_ms, 6 << 3 | 2, encoded))
    assert frame.items() == expected


@on_both
def test_frame_forgets_the_message_object_that_is_taken_back(wire: Any) -> None:
    frame = wire.Frame()
    frame.append(wire.reply_item(1, b""))
    frame.add(10).ping.nonce = 1
    frame.add(10).ping.nonce = 2
    frame.take_back()
    frame.append(wire.reply_item(2, b""))
    assert frame.count == 3
    assert [item.id or item.ping.nonce for item in frame.items()] == [1, 1, 2]
