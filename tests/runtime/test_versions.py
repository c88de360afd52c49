"""Versions: semantic versioning's own order, and what is read leniently."""

from __future__ import annotations

import itertools

import pytest

from amx_server.core.errors import AmxError
from amx_server.runtime.versions import newest, precedence

# From https://semver.org/#spec-item-11, and around it.
ORDERED = [
    "0.0.0",
    "0.9.9",
    "1.0.0-1",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0-alpha",
    "2.0.0",
]


def test_versions_are_ordered_as_the_standard_says() -> None:
    for lower, higher in itertools.combinations(ORDERED, 2):
        assert precedence(lower) < precedence(higher), (lower, higher)
    assert newest(reversed(ORDERED)) == "2.0.0"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0.0"),
        ("v1.2", "1.2.0"),
        ("1.2.3+linux", "1.2.3+mac"),
        ("01.2.3", "1.2.3"),
        ("", "0.0.0"),
        ("1-a", "1.0.0-a"),
    ],
)
def test_versions_written_differently_are_equal(one: str, other: str) -> None:
    assert precedence(one) == precedence(other)


def test_newest_of_equal_versions_is_the_first() -> None:
    assert newest(["1.0.0+a", "0.9", "1.0.0+b"]) == "1.0.0+a"


UNREADABLE = ["latest", "1.", "1..2", "1.0-", "1.0.0-a..b", "1.0.0 beta", "-1", "9" * 200, "١.٢"]


@pytest.mark.parametrize("version", UNREADABLE)
def test_versions_that_cannot_be_read_are_named(version: str) -> None:
    with pytest.raises(AmxError) as raised:
        precedence(version)
    assert raised.value.reason == "INVALID_VERSION"
    assert version[:100] in raised.value.message
