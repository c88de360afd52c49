"""What cases expect, and what they say when something else comes."""

from __future__ import annotations

from typing import Any

import pytest

from amx.v1 import link_pb2, message_pb2
from conformance.runner.json_text import parse
from conformance.runner.matchers import Mismatch, match, matches
from conformance.runner.messages import decode


def frame(*items: link_pb2.LinkItem, **fields: Any) -> Any:
    """A frame as matchers see it."""
    return decode(link_pb2.LinkFrame(items=items, **fields))


def payload(data: bytes, content_type: str = "") -> Any:
    """A Complete with this result, as matchers see it."""
    complete = link_pb2.Complete()
    complete.result.SetInParent()
    complete.result.data = data
    complete.result.content_type = content_type
    return decode(complete)


def refused(matcher: Any, actual: Any, **bindings: Any) -> str:
    """Why it does not match."""
    with pytest.raises(Mismatch) as caught:
        match(matcher, actual, "", dict(bindings))
    return str(caught.value)


def test_a_mapping_matches_what_has_at_least_its_fields() -> None:
    match({"a": {"b": 1}}, parse('{"a":{"b":1,"c":2},"d":3}'), "", {})


def test_a_mismatch_says_what_was_expected_where_and_what_there_was() -> None:
    call = link_pb2.LinkItem(id=1)
    call.call.send.agent = "Ecko"
    found = refused({"items": [{"call": {"send": {"agent": "Echo"}}}]}, frame(call))
    assert found == 'expected "Echo" at items[0].call.send.agent, got "Ecko"'


def test_a_field_at_its_default_may_be_absent() -> None:
    complete = decode(link_pb2.Complete(attempt=1))
    match({"epoch": 0, "memory_dropped": False, "effects": {"memory": []}}, complete, "", {})
    message = decode(message_pb2.Message())
    match({"key": "", "headers": {}, "priority": "PRIORITY_UNSPECIFIED", "payload": {"$json": None}}, message, "", {})


def test_what_is_one_of_several_must_be_there() -> None:
    assert refused({"result": {}}, decode(link_pb2.Complete())) == "expected an object like {} at result, got nothing"
    match({"drain": {}}, decode(link_pb2.LinkItem(drain=link_pb2.Drain())), "", {})


def test_integers_of_64_bits_are_numbers_however_they_are_written() -> None:
    invoke = decode(link_pb2.Invoke(epoch=2**63))
    match({"epoch": 2**63}, invoke, "", {})
    match({"epoch": str(2**63)}, invoke, "", {})
    assert "expected 5 at epoch, got 9223372036854775808" in refused({"epoch": 5}, invoke)


def test_codes_of_failures_have_names() -> None:
    complete = link_pb2.Complete()
    complete.failure.code = 5
    match({"failure": {"code": "NOT_FOUND"}}, decode(complete), "", {})
    assert 'expected "ABORTED" at failure.code, got 5' in refused({"failure": {"code": "ABORTED"}}, decode(complete))


@pytest.mark.parametrize(("matcher", "data"), [(1, b"1"), ({"a": 1}, b'{"a":1,"b":2}'), (None, b""), (None, b"null")])
def test_json_matches_the_content_of_a_payload(matcher: Any, data: bytes) -> None:
    match({"result": {"$json": matcher}}, payload(data), "", {})


@pytest.mark.parametrize(
    ("matcher", "data"), [(1, b"1.0"), (1, b'"1"'), (1, b"true"), ([1], b"[1,2]"), ({"a": None}, b"{}"), (0, b"")]
)
def test_json_that_differs_is_refused(matcher: Any, data: bytes) -> None:
    refused({"result": {"$json": matcher}}, payload(data))


def test_json_needs_a_payload_of_json() -> None:
    assert "at result.content_type" in refused({"result": {"$json": 1}}, payload(b"1", "text/plain"))
    match({"result": {"content_type": "text/plain", "data": {"$json": 1}}}, payload(b"1", "text/plain"), "", {})


def test_text_matches_the_bytes() -> None:
    match({"result": {"$text": "[1, 2]"}}, payload(b"[1, 2]"), "", {})
    match({"result": {"$text": {"$regex": "^\\[1"}}}, payload(b"[1, 2]"), "", {})
    refused({"result": {"$text": "[1,2]"}}, payload(b"[1, 2]"))


def test_exact_allows_no_further_fields() -> None:
    match({"$exact": {"a": 1}}, {"a": 1}, "", {})
    assert refused({"$exact": {"a": {"b": 1}}}, {"a": {"b": 1, "c": 2}}).startswith("expected no fields but b at a")


def test_lists_match_element_by_element() -> None:
    match([{"a": 1}, 2], [{"a": 1, "b": 2}, 2], "", {})
    assert refused([1, 2], [1, 3]) == "expected 2 at [1], got 3"
    assert refused([1], [1, 2]).startswith("expected 1 elements")


def test_unordered_finds_the_assignment_that_works() -> None:
    match({"$unordered": [{}, {"a": 1}]}, [{"a": 1}, {"b": 2}], "", {})
    assert refused({"$unordered": [1, 2]}, [1, 1]).startswith("expected an element like 2")
    assert refused({"$unordered": [1]}, [1, 2]).startswith("expected 1 elements")


def test_contains_passes_over_the_others() -> None:
    match({"$contains": [3, 1]}, [1, 2, 3], "", {})
    refused({"$contains": [1, 1]}, [1, 2, 3])


def test_bind_remembers_and_ref_compares() -> None:
    bindings: dict[str, Any] = {}
    match({"a": {"$bind": "x", "$match": {"$range": [1, 5]}}, "b": {"$ref": "x"}}, {"a": 3, "b": 3}, "", bindings)
    assert bindings == {"x": 3}
    assert "4 (bound to 'x')" in refused({"$ref": "x"}, 3, x=4)
    assert "which nothing is" in refused({"$ref": "y"}, 3)


def test_bindings_of_a_choice_that_failed_are_forgotten() -> None:
    bindings: dict[str, Any] = {}
    match({"$one_of": [{"a": {"$bind": "x"}, "b": 9}, {"a": 1}]}, {"a": 1, "b": 2}, "", bindings)
    assert bindings == {}


@pytest.mark.parametrize(
    ("matcher", "actual"),
    [
        ({"$regex": "b+"}, "abbc"),
        ({"$any": True}, None),
        ({"$not": 1}, 2),
        ({"$one_of": [1, 2]}, 2),
        ({"$range": [1, 2]}, 2),
        ({"$length": 3}, "äöü"),
        ({"$length": {"$range": [0, 2]}}, [1]),
        ({"$repeat": {"text": "ab", "times": 2}}, "abab"),
        ({"a": {"$absent": True}}, {}),
    ],
)
def test_matchers_match(matcher: Any, actual: Any) -> None:
    match(matcher, actual, "", {})


@pytest.mark.parametrize(
    ("matcher", "actual"),
    [
        ({"$regex": "^b"}, "abbc"),
        ({"$not": 1}, 1),
        ({"$one_of": [1, 2]}, 3),
        ({"$range": [1, 2]}, 3),
        ({"$range": [1, 2]}, "1"),
        ({"$length": 3}, "ab"),
        ({"$length": 3}, 3),
        ({"a": {"$absent": True}}, {"a": None}),
        ({"a": {"$any": True, "$absent": False}}, []),
        ({"$above": "x"}, 1),
        (True, 1),
        (None, False),
        ("1", 1),
    ],
)
def test_matchers_refuse(matcher: Any, actual: Any) -> None:
    assert not matches(matcher, actual, {"x": 1})


def test_absent_is_what_a_message_has_at_its_default() -> None:
    complete = decode(link_pb2.Complete(attempt=1))
    match({"epoch": {"$absent": True}, "result": {"$absent": True}, "effects": {"$absent": True}}, complete, "", {})
    refused({"attempt": {"$absent": True}}, complete)


def test_not_looks_at_the_default_of_what_is_absent() -> None:
    refused({"epoch": {"$not": 0}}, decode(link_pb2.Complete()))


def test_long_values_are_cut_in_messages() -> None:
    assert len(refused("x" * 10_000, "y" * 10_000)) < 1_500
