"""Server-sent events, however they are cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx_server.inference.io.sse import EventParser, EventTooLarge, ServerEvent


def parsed(*pieces: bytes) -> list[ServerEvent]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"data: one\n\n", [ServerEvent(b"one")]),
        (b"data:one\n\ndata:  two\n\n", [ServerEvent(b"one"), ServerEvent(b" two")]),
        (b"data: one\ndata\ndata: three\n\n", [ServerEvent(b"one\n\nthree")]),
        (b"event: delta\nid: 7\ndata: x\n\ndata: y\n\n", [ServerEvent(b"x", "delta", "7"), ServerEvent(b"y", id="7")]),
        (b": comment\n\nevent: nothing\n\ndata: x\n\n", [ServerEvent(b"x")]),
        (
            b"retry: 10\nunknown: 1\ndata: x\r\n\r\ndata: y\r\rdata: z\n\n",
            [ServerEvent(b"x"), *map(ServerEvent, b"y z".split())],
        ),
        (b"\xef\xbb\xbfdata: x\n\n", [ServerEvent(b"x")]),
        (b"data: unfinished\n", []),
        (b"data: unfinished", []),
        (b"", []),
    ],
)
def test_events_are_read_as_the_standard_says(text: bytes, events: list[ServerEvent]) -> None:
    assert parsed(text) == events


@given(
    lines=st.lists(st.sampled_from([b"data: a", b"data: bc", b"event: e", b"id: 1", b": c", b"", b""]), max_size=20),
    ending=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    cuts=st.lists(st.integers(0, 200), max_size=10),
)
def test_events_do_not_depend_on_how_they_are_cut(lines: list[bytes], ending: bytes, cuts: list[int]) -> None:
    # One more line, so that a carriage return at the end is not held back as half of a line's end.
    text = b"".join(line + ending for line in lines) + b": end"
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert parsed(*pieces) == parsed(text) == parsed(text.replace(ending, b"\n"))


@pytest.mark.parametrize("text", [b"data: " + b"x" * 100, b"data: xxxxx\n" * 20])
def test_event_beyond_its_bound_is_refused(text: bytes) -> None:
    with pytest.raises(EventTooLarge, match="more than 64 bytes"):
        EventParser(64).feed(text)


def test_unfinished_event_is_known_as_such() -> None:
    parser = EventParser()
    parser.feed(b"data: x\n")
    assert parser.pending
    parser.feed(b"\n")
    assert not parser.pending
