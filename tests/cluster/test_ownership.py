"""Which engine owns an instance: the vectors of docs/protocol.md, and how evenly instances are spread."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from amx_engine._ownership import instance_hash, owner_of

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
VECTOR = re.compile(r"^\| `([^`]*)`, `([^`]*)`, `([^`]*)` \| (\d+) \| ([\d, ]+) \|$", re.MULTILINE)


def test_owner_is_the_one_that_the_document_says() -> None:
    vectors = VECTOR.findall(PROTOCOL.read_text(encoding="utf-8"))
    assert len(vectors) >= 3
    for namespace, agent, key, value, owners in vectors:
        assert instance_hash(namespace, agent, key) == int(value)
        found = [owner_of(namespace, agent, key, engines) for engines in (2, 3, 4, 8)]
        assert found == [int(owner) for owner in owners.split(",")]


@pytest.mark.parametrize("engines", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", ["{}", "user-{}", "{0}{0}", "order/{:08d}"])
def test_instances_spread_evenly_whatever_their_keys_look_like(engines: int, shape: str) -> None:
    owners = Counter(owner_of("default", "Agent", shape.format(number), engines) for number in range(8000))
    fair = 8000 / engines
    assert all(0.85 * fair < owners[engine] < 1.15 * fair for engine in range(engines)), owners


def test_names_do_not_run_into_each_other() -> None:
    assert instance_hash("a", "bc", "d") != instance_hash("ab", "c", "d")
    assert instance_hash("a", "b", "cd") != instance_hash("a", "bc", "d")
