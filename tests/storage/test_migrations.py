"""Files written by earlier versions open in this one; files of newer versions and of other programs are refused."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from amx_server.core.errors import AmxError
from amx_server.storage import MessageState, StoredAgent, StoredSchedule, StoredSubscription, open_store
from amx_server.storage.migrations import MIGRATIONS, SCHEMA_VERSION
from tests.storage.support import Session, message, row

FIXTURES = Path(__file__).parent / "fixtures"
GREETER = ("default", "greeter", "default")


async def write_fixture(path: Path) -> None:
    """What each fixture holds. Ran once at every schema version to make schema_vN.db; those files are never remade."""
    async with open_store(str(path)) as store:
        session = Session(store)
        await session.commit(
            insert=[message(1), message(2), message(3, "dead \x00", namespace="other")],
            memory_put=[(*GREETER, row("facts", '"a"', b"\x00\x01", 2)), (*GREETER, row("facts", '"b"', b"2", 1))],
            schedule_put=[StoredSchedule(*GREETER, "hourly", b"\x08\x01", 10, 5, True, False)],
            subscription_put=[StoredSubscription(*GREETER, "news.*", "hello", "kind = 'a'")],
            agent_put=[StoredAgent("default", "greeter", "1", b"\x0a\x01", True)],
        )
        await session.commit(
            finish=[(2, MessageState.SUCCEEDED, b"result", 99, 1), (3, MessageState.DEAD, b"failure", 98, 3)]
        )


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
async def test_store_of_an_earlier_schema_opens_with_everything_in_it(version: int, tmp_path: Path) -> None:
    path = tmp_path / "amx.db"
    shutil.copy(FIXTURES / f"schema_v{version}.db", path)
    async with open_store(str(path)) as store:
        assert (store.generation, store.next_seq) == (2, 4)
        assert await store.pending_messages(0, 9) == [message(1)]
        assert await store.message("default", "m2") == message(
            2, body=b"", state=MessageState.SUCCEEDED, outcome=b"result", ended_at_ms=99, attempts=1
        )
        assert await store.message("other", "dead \x00") == message(
            3,
            "dead \x00",
            namespace="other",
            state=MessageState.DEAD,
            outcome=b"failure",
            ended_at_ms=98,
            attempts=3,
        )
        assert await store.memory(*GREETER) == [row("facts", '"b"', b"2", 1), row("facts", '"a"', b"\x00\x01", 2)]
        assert await store.schedules() == [StoredSchedule(*GREETER, "hourly", b"\x08\x01", 10, 5, True, False)]
        assert await store.subscriptions() == [StoredSubscription(*GREETER, "news.*", "hello", "kind = 'a'")]
        assert await store.agents() == [StoredAgent("default", "greeter", "1", b"\x0a\x01", True)]
        await Session(store).commit(insert=[message(4)])
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_memories_of_a_store_without_versions_have_the_one_they_were_at(tmp_path: Path) -> None:
    path = tmp_path / "amx.db"
    shutil.copy(FIXTURES / "schema_v1.db", path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE memory SET version = 7 WHERE entry = '\"b\"'")
    # All that some instance remembered is gone: the first schema kept the number in a row without a name.
    connection.execute("INSERT INTO memory VALUES ('default', 'greeter', 'emptied', '', '', x'', 0, 9, 0)")
    connection.commit()
    connection.close()
    async with open_store(str(path)) as store:
        (version,) = await store.memory_versions(*GREETER, 0, 9)
        assert (version.version, version.changes, version.message_id) == (7, 2, "")
        assert len((await store.memory_at(*GREETER, 7)).rows) == 2
        (emptied,) = await store.memory("default", "greeter", "emptied")
        assert (emptied.name, emptied.version) == ("", 9)
        assert await store.memory_instances("default", "", ("", ""), 9) == [("greeter", "default")]
        await Session(store).commit(
            memory_put=((*GREETER, row("facts", '"a"', b"new", 3, 8)),), memory_version=((*GREETER, 8, 1, "m", 1),)
        )
        assert {found.value for found in (await store.memory_at(*GREETER, 7)).rows} == {b"\x00\x01", b"2"}


async def test_new_store_has_the_schema_of_a_migrated_one(tmp_path: Path) -> None:
    schemas = []
    shutil.copy(FIXTURES / "schema_v1.db", tmp_path / "old.db")
    for name in ("new.db", "old.db"):
        async with open_store(str(tmp_path / name)):
            pass
        connection = sqlite3.connect(tmp_path / name)
        schemas.append(connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall())
        connection.close()
    assert schemas[0] == schemas[1]


async def test_store_of_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "amx.db"
    async with open_store(str(path)):
        pass
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(AmxError) as error:
        async with open_store(str(path)):
            pass
    assert error.value.reason == "STORAGE_TOO_NEW"
    assert str(SCHEMA_VERSION + 1) in error.value.message and str(path) in error.value.message
    assert path.read_bytes() == before


async def test_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "browser.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE history (url)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(AmxError) as error:
        async with open_store(str(path)):
            pass
    assert error.value.reason == "STORAGE_FOREIGN"
    assert path.read_bytes() == before


async def test_failed_migration_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "amx.db"
    async with open_store(str(path)) as store:
        await Session(store).commit(insert=[message(1)])
    broken = "ALTER TABLE messages ADD COLUMN extra INTEGER; CREATE TABLE messages (seq)"
    with monkeypatch.context() as patch:
        patch.setattr("amx_server.storage.migrations.MIGRATIONS", (*MIGRATIONS, broken))
        patch.setattr("amx_server.storage.migrations.SCHEMA_VERSION", SCHEMA_VERSION + 1)
        with pytest.raises(AmxError):
            async with open_store(str(path)):
                pass
    async with open_store(str(path)) as store:
        assert await store.pending_messages(0, 9) == [message(1)]
