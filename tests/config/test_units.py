"""Durations and sizes as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amx_server.core.units import parse_duration, parse_size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("24h", 86_400), ("1h30m", 5400), ("500ms", 0.5), ("250us", 0.00025), ("2d", 172_800), ("1w", 604_800),
        ("PT5M", 300), ("P1DT2H", 93_600), ("pt0.5s", 0.5), ("P1W", 604_800), ("15", 15), ("0.25", 0.25),
        (7, 7), (1.5, 1.5), (0, 0), (timedelta(minutes=2), 120), (" 30s ", 30),
    ],
)  # fmt: skip
def test_duration_is_read_into_seconds(written: object, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "soon",
        "5 apples",
        "P",
        "PT",
        "P1DT",
        "-1s",
        "-5",
        -1,
        True,
        None,
        "nan",
        "inf",
        float("nan"),
        [],
        "1h30",
        10**400,
    ],
)
def test_duration_that_is_none_is_refused_with_examples(written: object) -> None:
    with pytest.raises(ValueError, match="write for example 30s"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("16MiB", 16 << 20), ("256KiB", 256 << 10), ("4MB", 4_000_000), ("4 kB", 4000), ("1G", 10**9), ("1.5KiB", 1536),
        ("512", 512), ("512B", 512), (0, 0), (77, 77),
    ],
)  # fmt: skip
def test_size_is_read_into_bytes(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["", "big", "-1", -1, "1XB", "MiB", True, None, 1.5, "1 000", 1 << 63, "9" * 400])
def test_size_that_is_none_is_refused_with_examples(written: object) -> None:
    with pytest.raises(ValueError, match="write for example 16MiB"):
        parse_size(written)


@given(st.text(max_size=20))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            assert parse(text) >= 0
        except ValueError:
            pass
