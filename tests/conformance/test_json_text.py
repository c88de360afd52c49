"""JSON whose numbers keep their text."""

from __future__ import annotations

import pytest

from conformance.runner.json_text import Real, dump, parse


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-1",
        "1.0",
        "1e3",
        "-0",
        "0.10",
        "123456789012345678901234567890",
        '"ä\\n"',
        '{"b":1,"a":[null,true,false]}',
    ],
)
def test_what_is_read_is_written_as_it_was(text: str) -> None:
    assert dump(parse(text)) == text


@pytest.mark.parametrize(("one", "other"), [("1", "1.0"), ("0.1", "0.10"), ("-0", "0"), ("1e3", "1E3"), ("1", "true")])
def test_numbers_that_are_written_differently_differ(one: str, other: str) -> None:
    assert parse(one) != parse(other) or isinstance(parse(other), bool)


@pytest.mark.parametrize("text", ["", "{", "NaN", "-Infinity", '{"a":1,"a":2}', "1 2", "'a'"])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_a_real_is_a_number_too() -> None:
    assert Real("2.50") + 1 == 3.5
    assert repr(Real("2.50")) == "2.50"


def test_a_value_without_a_json_form_is_refused() -> None:
    with pytest.raises(ValueError, match="no JSON form"):
        dump({"a": b"bytes"})
