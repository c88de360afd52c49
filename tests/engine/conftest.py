"""One engine with default settings for the tests of its semantics."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.engine.link_driver import Rig, running


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    """An engine on a store in memory, with a clock that stands still."""
    async with running() as rig:
        yield rig
