"""How often worker processes collect cyclic garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from amx_engine._collector import rare_collections


@pytest.fixture(autouse=True)
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_collections_are_rarer_for_the_time_being() -> None:
    gc.set_threshold(700, 10, 10)
    with rare_collections():
        assert gc.get_threshold()[0] > 700
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == (700, 10, 10)
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("chosen", [0, 50_000])
def test_collections_stay_as_the_process_chose(chosen: int) -> None:
    gc.set_threshold(chosen, 5, 5)
    with rare_collections():
        assert gc.get_threshold() == (chosen, 5, 5)
        assert gc.get_freeze_count() == 0
