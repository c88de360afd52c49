"""Filter expressions: what they mean, and errors that point at the column."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx_server.core.errors import AmxError
from amx_server.runtime.filters import compile_filter

EVENT = {"severity": "high", "region": "us", "size": "12", "note": "two words", "empty": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("  ", True),
        ("severity in (high, critical), region != eu", True),
        ("severity in (low)", False),
        ("severity not in (low, normal)", True),
        ("region = us", True),
        ("region == us", True),
        ("region=us,size>=12", True),
        ("region = US", False),
        ("tier = gold", False),
        ("tier != gold", True),
        ("tier in (gold)", False),
        ("tier not in (gold)", True),
        ("exists(region)", True),
        ("!exists(region)", False),
        ("! exists ( tier )", True),
        ("empty = ''", True),
        ("tier = ''", False),
        ("note = 'two words'", True),
        ('note in ("two words", other)', True),
        ("size > 9", True),
        ("size < 1.5e1", True),
        ("size <= 11.9", False),
        ("region > 5", False),
        ("tier > 5", False),
        ("tier < 5", False),
        ("exists = 1", False),
        ("in in (in)", False),
    ],
)
def test_filter_means(text: str, expected: bool) -> None:
    assert compile_filter(text)(EVENT) is expected


def test_filter_compares_large_integers_exactly() -> None:
    assert compile_filter("id > 9007199254740992")({"id": "9007199254740993"})


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("severity", 9, "expected one of = != < <= > >= in, not in, found the end"),
        ("severity inn (a)", 10, "found 'inn'"),
        ("severity in high", 13, "expected '(', found 'high'"),
        ("severity in ()", 14, "expected a value, found ')'"),
        ("severity in (a", 15, "expected ',' or ')', found the end"),
        ("a = b c = d", 7, "expected ',' or the end, found 'c'"),
        ("a = b,", 7, "expected the name of an attribute, found the end"),
        (", a = b", 1, "expected the name of an attribute, found ','"),
        ("a = 'b", 5, "the quote ' is not closed"),
        ("size >= big", 9, "'>=' compares numbers, and 'big' is none"),
        ("!a = b", 2, "expected exists(...) after '!'"),
        ("a not b", 7, "expected 'in' after 'not', found 'b'"),
        ("exists(a", 9, "expected ')', found the end"),
        ("'a' = b", 1, "expected the name of an attribute"),
    ],
)
def test_filter_error_points_at_the_column(text: str, column: int, words: str) -> None:
    with pytest.raises(AmxError) as raised:
        compile_filter(text)
    assert raised.value.reason == "INVALID_FILTER"
    assert raised.value.metadata["column"] == str(column)
    assert words in raised.value.message


def test_filter_too_long_is_refused() -> None:
    with pytest.raises(AmxError, match="longer than 4096"):
        compile_filter("a = b," * 1000)


def error_of(text: str) -> AmxError | None:
    try:
        predicate = compile_filter(text)
    except AmxError as error:
        return error
    assert predicate({}) in (True, False)
    assert predicate({"a": "5", "b": "ab"}) in (True, False)
    return None


@given(st.one_of(st.text("ab=!<>(),'\" in0notexs5.\t", max_size=40), st.text(max_size=40)))
def test_filter_of_any_text_compiles_or_names_a_column(text: str) -> None:
    error = error_of(text)
    if error is not None:
        assert error.reason == "INVALID_FILTER"
        assert 1 <= int(error.metadata["column"]) <= len(text) + 1


NAMES = st.sampled_from(["a", "b", "c.d", "e-f/g"])
WORDS = st.sampled_from(["x", "y", "5", "-7.5", "12"])
SIGNS = ["<", "<=", ">", ">="]


@given(
    st.lists(st.tuples(NAMES, st.sampled_from(["=", "!=", "in", "not in", "exists", *SIGNS]), WORDS), min_size=1),
    st.dictionaries(NAMES, WORDS),
)
def test_filter_agrees_with_plain_evaluation(terms: list[tuple[str, str, str]], attributes: dict[str, str]) -> None:
    written, expected = [], True
    for name, sign, value in terms:
        actual = attributes.get(name)
        if sign in SIGNS:
            if value in "xy":
                continue
            written.append(f"{name} {sign} {value}")
            holds = actual not in (None, "x", "y") and {
                "<": lambda a, b: a < b,
                "<=": lambda a, b: a <= b,
                ">": lambda a, b: a > b,
                ">=": lambda a, b: a >= b,
            }[sign](float(actual or 0), float(value))
        elif sign == "exists":
            written.append(f"exists({name})")
            holds = actual is not None
        elif sign in ("=", "!="):
            written.append(f"{name}{sign}{value}")
            holds = (actual == value) == (sign == "=")
        else:
            written.append(f"{name} {sign} ({value}, z)")
            holds = (actual == value) == (sign == "in")
        expected = expected and holds
    assert compile_filter(", ".join(written))(attributes) is expected
