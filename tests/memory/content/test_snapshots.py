"""A set of named values as one address: equal sets are equal, changes cost their difference."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amx_server.core.errors import AmxError
from amx_server.memory.content import ContentOptions, ContentStore, Snapshots
from tests.memory.content.auditing import audit
from tests.memory.content.conftest import OpenStore, prose

Changes = list[dict[str, int | None]]
NAMES = st.sampled_from([f"name-{number}" for number in range(80)]) | st.text(max_size=5)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.dictionaries(NAMES, st.none() | st.integers(0, 3), max_size=60), max_size=5))
def test_map_behaves_like_a_dictionary(changes: Changes) -> None:
    store = ContentStore(None, ContentOptions(background=False))
    maps = Snapshots(store)
    values = [store.put(b"value %d" % number) for number in range(4)]
    model: dict[str, bytes] = {}
    root = maps.create()
    for change in changes:
        before, old = root, dict(model)
        update = {name: None if at is None else values[at] for name, at in change.items()}
        root = maps.update(root, update)
        for name, value in update.items():
            if value is None:
                model.pop(name, None)
            else:
                model[name] = value
        assert dict(maps.items(root)) == model
        assert maps.count(root) == len(model)
        assert all(maps.get(root, name) == model.get(name) for name in [*model, *change, "absent"])
        assert dict(maps.items(before)) == old
        assert maps.difference(before, root) == {
            name: (old.get(name), model.get(name))
            for name in old.keys() | model.keys()
            if old.get(name) != model.get(name)
        }
    assert maps.create(model) == root
    assert (maps.create() == root) == (not model)
    audit(store)
    store.close()


def test_snapshot_keeps_its_values_and_costs_the_difference(open_store: OpenStore) -> None:
    store = open_store()
    maps = Snapshots(store)
    root = maps.create({f"key-{number}": store.put(prose(number, 300)) for number in range(1000)})
    store.retain([root])
    before = len(store)
    forks = []
    for number in range(20):
        forks.append(maps.update(root, {f"key-{number}": store.put(b"changed %d" % number)}))
    assert len(store) - before <= 20 * 5
    store.retain(forks)
    store.release([root])
    store.close()
    again = open_store()
    again.collect()
    values = dict(Snapshots(again).items(forks[7]))
    assert again.get(values["key-7"]) == b"changed 7"
    assert all(again.get(values[f"key-{number}"]) == prose(number, 300) for number in range(1000) if number != 7)
    again.release(forks)
    again.collect()
    assert len(again) == 0


def test_value_is_not_taken_for_a_map(store: ContentStore) -> None:
    with pytest.raises(AmxError, match="not a node"):
        Snapshots(store).get(store.put(b"L"), "name")
    with pytest.raises(AmxError, match="is no map"):
        Snapshots(store).update(store.put_node([], b"x"), {"name": None})


def test_absent_value_is_refused(store: ContentStore) -> None:
    with pytest.raises(AmxError, match="no content"):
        Snapshots(store).create({"name": bytes(32)})
