"""What several engines store where, and which numbers they count with."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from amx_server.cluster.shards import Shard, ShardedStore
from amx_server.core.config import EngineConfig, QuotaConfig, QuotasConfig, StorageConfig
from amx_server.core.errors import AmxError


def config_at(path: Path) -> EngineConfig:
    return EngineConfig(storage=StorageConfig(path=str(path)))


def shard(number: int, count: int, public: bool = False) -> Shard:
    sockets = tuple(f"/run/{each}.sock" for each in range(count))
    return Shard(number, sockets, tuple(range(9091, 9091 + count)), public, "secret")


def test_store_made_for_engines_keeps_their_number(tmp_path: Path) -> None:
    config = config_at(tmp_path / "amx.db")
    assert ShardedStore(config).engines() == 0
    assert ShardedStore(config).claim(3) == 3
    assert ShardedStore(config).engines() == 3
    assert ShardedStore(config).claim(1) == 3  # one process runs all of them
    with pytest.raises(AmxError, match="at most 3") as raised:
        ShardedStore(config).claim(4)
    assert raised.value.reason == "ENGINES_MISMATCH"


def test_store_of_a_single_engine_is_not_shared_out(tmp_path: Path) -> None:
    (tmp_path / "amx.db").write_bytes(b"a store")
    with pytest.raises(AmxError, match="single engine"):
        ShardedStore(config_at(tmp_path / "amx.db")).claim(2)


def test_store_whose_manifest_is_damaged_is_named(tmp_path: Path) -> None:
    store = ShardedStore(config_at(tmp_path / "amx.db"))
    store.claim(2)
    for text in ("", "{}", "[]", json.dumps({"engines": 0}), json.dumps({"engines": 1000})):
        (store.folder / "engines.json").write_text(text)
        with pytest.raises(AmxError, match=r"engines\.json") as raised:
            store.engines()
        assert raised.value.reason == "STORAGE_UNAVAILABLE"


def test_each_engine_has_its_own_file_and_its_part_of_the_quotas(tmp_path: Path) -> None:
    quota = QuotaConfig(messages_per_second=90, stored_bytes=100)
    config = config_at(tmp_path / "amx.db").replace(quotas=QuotasConfig(default=quota))
    parts = [ShardedStore(config).config(config, number, 3) for number in range(3)]
    assert len({part.storage.file for part in parts}) == 3
    assert parts[0].quotas.default.messages_per_second == 30
    assert parts[0].quotas.default.stored_bytes == 34
    assert parts[0].quotas.default.burst == 0  # unlimited, and one second's worth, stay so


@pytest.mark.parametrize(("whole", "part"), [(1 << 20, 512 << 10), (300 << 10, 256 << 10)])
def test_each_engine_has_its_part_of_the_database_cache_and_no_less_than_the_least(
    tmp_path: Path, whole: int, part: int
) -> None:
    config = config_at(tmp_path / "amx.db")
    config = config.replace(storage=config.storage.replace(cache_bytes=whole))
    assert ShardedStore(config).config(config, 0, 2).storage.cache_bytes == part


@pytest.mark.parametrize("first", [1, 7, 1000])
def test_numbers_of_engines_never_meet(first: int) -> None:
    counted = [list(islice(shard(number, 3).ids(first), 50)) for number in range(3)]
    assert all(numbers[0] >= first for numbers in counted)
    assert len({number for numbers in counted for number in numbers}) == 150


def test_sdk_is_told_sockets_only_if_it_came_over_one_and_may() -> None:
    assert shard(0, 2).endpoints(over_socket=True) == [":9091", ":9092"]
    assert shard(0, 2, public=True).endpoints(over_socket=False) == [":9091", ":9092"]
    assert shard(0, 2, public=True).endpoints(over_socket=True) == ["unix:/run/0.sock", "unix:/run/1.sock"]
