"""TopicIndex against a matcher written as plainly as possible, and what patterns and topics may look like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx_server.core.errors import AmxError
from amx_server.runtime.topics import TopicIndex, parse_pattern, parse_topic

SEGMENT = st.sampled_from(["a", "b", "c"])
TOPIC = st.lists(SEGMENT, min_size=1, max_size=5).map(".".join)
PATTERN = st.tuples(
    st.lists(st.one_of(SEGMENT, st.sampled_from(["*", "**"])), max_size=5), st.sampled_from(["a", "*", "**", ">"])
).map(lambda parts: ".".join([*parts[0], parts[1]]))


def reaches(topic: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not topic
    if pattern[0] in ("**", ">"):
        return any(reaches(topic[skipped:], pattern[1:]) for skipped in range(len(topic) + 1))
    return bool(topic) and pattern[0] in ("*", topic[0]) and reaches(topic[1:], pattern[1:])


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "match"]), PATTERN, st.integers(0, 3), TOPIC), max_size=40))
def test_topics_match_like_a_naive_matcher_through_changes(steps: list[tuple[str, str, int, str]]) -> None:
    index: TopicIndex[int] = TopicIndex()
    model: dict[tuple[str, int], None] = {}
    for action, pattern, subscriber, topic in steps:
        canonical = ".".join(parse_pattern(pattern))
        if action == "add":
            index.add(pattern, subscriber)
            model.setdefault((canonical, subscriber))
        elif action == "remove":
            assert index.remove(pattern, subscriber) == ((canonical, subscriber) in model)
            model.pop((canonical, subscriber), None)
        expected = [s for p, s in model if reaches(topic.split("."), p.split("."))]
        assert index.match(topic) == tuple(dict.fromkeys(expected))
        assert index.match(topic) == tuple(dict.fromkeys(expected))  # from the memo
    for pattern, subscriber in model:
        assert index.remove(pattern, subscriber)
    assert not index


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("orders.*", "orders.created", True),
        ("orders.*", "orders", False),
        ("orders.*", "orders.eu.created", False),
        ("orders.**", "orders", True),
        ("orders.>", "orders.eu.created", True),
        ("**.created", "orders.eu.created", True),
        ("**", "anything.at.all", True),
        ("a.**.b.**.c", "a.x.b.b.c", True),
        ("a.**.b.**.c", "a.x.c", False),
    ],
)
def test_topics_wildcards(pattern: str, topic: str, expected: bool) -> None:
    index: TopicIndex[str] = TopicIndex()
    index.add(pattern, "subscriber")
    assert bool(index.match(topic)) is expected


@pytest.mark.parametrize("pattern", ["", ".", "a..b", "a.", "a.>.b", "a*.b", "a.***", ".".join("a" * 33), "x" * 513])
def test_topics_refuse_a_bad_pattern_by_name(pattern: str) -> None:
    with pytest.raises(AmxError) as raised:
        TopicIndex[int]().add(pattern, 1)
    assert raised.value.reason == "INVALID_PATTERN"
    assert pattern[:64] in raised.value.message


@pytest.mark.parametrize("topic", ["", "a..b", "a.*", "**", "a.>", "x" * 513])
def test_topics_refuse_a_bad_topic_by_name(topic: str) -> None:
    with pytest.raises(AmxError) as raised:
        parse_topic(topic)
    assert raised.value.reason == "INVALID_TOPIC"


def test_topics_many_wildcards_do_not_multiply() -> None:
    index: TopicIndex[int] = TopicIndex()
    index.add(".".join(["**", "a"] * 16), 1)
    assert index.match(".".join(["a"] * 32)) == (1,)
    assert index.match(".".join(["a"] * 31 + ["b"])) == ()


def test_topics_memo_is_bounded() -> None:
    index: TopicIndex[int] = TopicIndex()
    for subscriber in range(600):
        index.add("**", subscriber)
    for number in range(5000):
        assert len(index.match(f"topic.{number}")) == 600
    assert index._memo_matches == sum(map(len, index._memo.values())) <= 1_000_000
