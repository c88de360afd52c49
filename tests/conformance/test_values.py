"""What cases send, as messages."""

from __future__ import annotations

from typing import Any

import pytest

from amx.v1 import agent_pb2, common_pb2, link_pb2, memory_pb2
from conformance.runner.json_text import Real
from conformance.runner.values import ValueProblem, build


def item(value: Any, **bindings: Any) -> link_pb2.LinkItem:
    """The LinkItem that a case describes."""
    found = build(link_pb2.LinkItem.DESCRIPTOR, value, bindings)
    assert isinstance(found, link_pb2.LinkItem)
    return found


def request(message: dict[str, Any], **bindings: Any) -> Any:
    """The message of a request."""
    return item({"id": 1, "call": {"request": message}}, **bindings).call.request


def test_fields_have_their_names_of_the_contract() -> None:
    found = request(
        {"agent": "Echo", "priority": "PRIORITY_HIGH", "headers": {"a": "b"}, "ttl_ms": "12", "sent_at_ms": -3}
    )
    assert (found.agent, found.priority, dict(found.headers)) == ("Echo", common_pb2.PRIORITY_HIGH, {"a": "b"})
    assert (found.ttl_ms, found.sent_at_ms) == (12, -3)


def test_json_becomes_a_payload_with_its_numbers_as_written() -> None:
    assert request({"payload": {"$json": {"a": [1, Real("1.0"), None]}}}).payload.data == b'{"a":[1,1.0,null]}'


def test_text_becomes_a_payload_with_exactly_that_text() -> None:
    payload = request({"payload": {"$text": '{"a":1,"a":2}'}}).payload
    assert (payload.data, payload.content_type) == (b'{"a":1,"a":2}', "")


def test_json_in_a_field_of_bytes_or_text_is_the_text_itself() -> None:
    entry = build(memory_pb2.MemoryEntry.DESCRIPTOR, {"id": {"$json": "k"}, "value": {"$json": [1]}}, {})
    assert (entry.id, entry.value) == ('"k"', b"[1]")  # type: ignore[attr-defined]
    handler = build(agent_pb2.HandlerDefinition.DESCRIPTOR, {"input_schema": {"$json": {"type": "integer"}}}, {})
    assert handler.input_schema == '{"type":"integer"}'  # type: ignore[attr-defined]


def test_bytes_are_base64() -> None:
    assert request({"payload": {"data": "AP8="}}).payload.data == b"\x00\xff"
    assert request({"payload": {"content_type": "x/y", "data": {"$bytes": "AP8="}}}).payload.data == b"\x00\xff"


def test_repeated_text_goes_into_text_bytes_and_json() -> None:
    repeat = {"$repeat": {"text": "äb", "times": 3}}
    assert request({"key": repeat}).key == "äbäbäb"
    assert request({"payload": {"data": repeat}}).payload.data.decode() == "äbäbäb"
    assert request({"payload": {"$json": [repeat]}}).payload.data.decode() == '["äbäbäb"]'
    assert request({"payload": {"$text": repeat}}).payload.data.decode() == "äbäbäb"


def test_what_was_bound_can_be_sent() -> None:
    found = item(
        {"id": {"$ref": "i"}, "complete": {"epoch": {"$ref": "e"}, "result": {"$json": {"$ref": "v"}}}}, i=7, e=9, v="x"
    )
    assert (found.id, found.complete.epoch, found.complete.result.data) == (7, 9, b'"x"')


def test_an_empty_mapping_says_that_the_message_is_there() -> None:
    assert item({"drain": {}}).WhichOneof("item") == "drain"


def test_codes_of_failures_have_names() -> None:
    assert item({"complete": {"failure": {"code": "NOT_FOUND"}}}).complete.failure.code == 5


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"invoke": {"mesage": {}}}, "at invoke.mesage: a Invoke has no field 'mesage'"),
        ({"id": "x"}, "at id: 'x' is not what LinkItem.id holds"),
        ({"call": {"request": {"agent": 5}}}, "at call.request.agent: 5 is not what Message.agent holds"),
        (
            {"call": {"request": {"priority": "HIGH"}}},
            "at call.request.priority: 'HIGH' is none of PRIORITY_",
        ),
        ({"call": {"request": {"payload": {"data": "?"}}}}, "at call.request.payload.data: '.' is not base64"),
        ({"id": {"$ref": "nothing"}}, "nothing is bound to 'nothing' yet"),
        ({"invoke": {"$json": 1}}, r"\$json cannot stand for a Invoke"),
        ({"call": {"request": {"key": {"$repeat": {"text": "x", "times": 10**9}}}}}, "more than the"),
    ],
)
def test_what_cannot_be_sent_is_named_with_its_place(value: Any, message: str) -> None:
    with pytest.raises(ValueProblem, match=message):
        item(value)
