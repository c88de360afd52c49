"""Stores for tests: small budgets, no background thread unless asked for."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amx_server.memory.content import ContentOptions, ContentStore

OpenStore = Callable[..., ContentStore]
SMALL = ContentOptions(hot_bytes=64_000, warm_bytes=64_000, segment_bytes=64_000, background=False)
WORDS = ("agent", "memory", "content", "tier", "segment", "the", "of", "message", "tool", "result", "order", "reply")


def prose(seed: int, size: int = 4096) -> bytes:
    """Text that compresses, different for every seed."""
    source = random.Random(seed)
    words = [f"{seed}"]
    while len(words) * 4 < size + 64:
        words.append(source.choice(WORDS))
    return " ".join(words).encode()[:size]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the store of this test: again when called again. `folder=None` keeps it in memory."""
    opened: list[ContentStore] = []

    def open_it(folder: Path | None = tmp_path / "content", **options: Any) -> ContentStore:
        store = ContentStore(folder, replace(SMALL, **options))
        opened.append(store)
        return store

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: OpenStore) -> ContentStore:
    """A store on disk."""
    return open_store()
