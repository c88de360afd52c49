"""Kills, full disks, damaged files, other programs' locks: nothing acknowledged is lost, every error has a name."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amx_server.core.errors import RESOURCE_EXHAUSTED, AmxError
from amx_server.storage import MessageState, open_store
from tests.storage.support import Session, message, row

WRITER = """
import asyncio, sys
from amx_server.storage import Commit, MemoryRow, StoredMessage, open_store

async def main(path):
    async with open_store(path) as store:
        free = asyncio.Semaphore(200)
        seq = store.next_seq
        while True:
            await free.acquire()
            def done(error, seq=seq):
                assert error is None, error
                print(seq, flush=True)
                free.release()
            new = StoredMessage(seq, "default", f"m{seq}", "greeter", "default", "hello", 1, seq, b"x" * 300)
            put = ("default", "greeter", str(seq), MemoryRow("seq", "", b"%d" % seq, 0, 1, 0))
            store.submit(Commit(done, insert=(new,), memory_put=(put,)))
            seq += 1

asyncio.run(main(sys.argv[1]))
"""


async def check_survivors(path: str, generation: int, acknowledged: set[int]) -> None:
    async with open_store(path) as store:
        assert store.generation == generation
        assert store.next_seq > max(acknowledged)
        pending = {m.seq for m in await store.pending_messages(0, 1_000_000)}
        assert acknowledged <= pending
        # A commit is all or nothing, also where nobody was told of it.
        assert {int(key) for _, key in await store.memory_instances("default", "", ("", ""), 1_000_000)} == pending


@pytest.mark.process
@pytest.mark.fault
def test_acknowledged_commits_survive_kill_9(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    acknowledged: list[int] = []
    for generation in range(1, 6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, path],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        for _ in range(150 * generation):  # a new moment of the writer's life every round
            acknowledged.append(int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.stdout.close()
        process.wait()
        asyncio.run(check_survivors(path, 2 * generation, set(acknowledged)))
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=True)


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB; needs the right to mount."""
    folder = tmp_path / "volume"
    folder.mkdir()
    try:
        mount(folder, "size=2m")
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def fill(session: Session, first: int) -> tuple[set[int], AmxError]:
    """Commits until one fails, 20 at a time. Returns what was acknowledged and the failure."""
    acknowledged: set[int] = set()
    for start in range(first, first + 2000, 20):
        submitted = [
            (seq, session.submit(insert=[message(seq, body=b"x" * 4000)])[1]) for seq in range(start, start + 20)
        ]
        outcomes = await asyncio.gather(*(result for _, result in submitted), return_exceptions=True)
        acknowledged |= {seq for (seq, _), outcome in zip(submitted, outcomes, strict=True) if outcome is None}
        for outcome in outcomes:
            if outcome is not None:
                assert isinstance(outcome, AmxError)
                return acknowledged, outcome
    raise AssertionError("the volume never filled up")


@pytest.mark.fault
async def test_full_disk_is_named_and_storing_resumes_when_space_returns(small_volume: Path) -> None:
    path = small_volume / "amx.db"
    ballast = small_volume / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    async with open_store(str(path)) as store:
        session = Session(store)
        acknowledged, failure = await fill(session, 1)
        assert (failure.code, failure.reason, failure.retryable) == (RESOURCE_EXHAUSTED, "STORAGE_FULL", True)
        assert str(path) in failure.message
        with pytest.raises(AmxError) as error:  # more than one statement holds
            await session.commit(insert=[message(seq, body=b"x" * 4000) for seq in range(5000, 5500)])
        assert error.value.reason == "STORAGE_FULL"
        assert {m.seq for m in await store.pending_messages(0, 10_000)} == acknowledged
        ballast.unlink()
        await session.commit(insert=[message(10_000, body=b"x" * 4000)])
        more, failure = await fill(session, 11_000)
        assert failure.reason == "STORAGE_FULL"
        acknowledged |= more | {10_000}
    await asyncio.to_thread(mount, small_volume, "remount,size=8m")
    await check_pending(str(path), sorted(acknowledged))


LIMITED = """
import asyncio, resource, sys
from amx_server.storage import Commit, StoredMessage, open_store

async def main(path):
    async with open_store(path) as store:
        async def commit(seq):
            result = asyncio.get_running_loop().create_future()
            new = StoredMessage(seq, "default", f"m{seq}", "greeter", "default", "hello", 1, seq, b"x" * 30_000)
            store.submit(Commit(result.set_result, insert=(new,)))
            return await result
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        seq = 1
        while (error := await commit(seq)) is None:
            seq += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        again = await commit(seq)
        print(seq, error.reason, again)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.process
@pytest.mark.fault
def test_file_size_limit_is_named_and_storing_resumes_when_it_is_lifted(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, env=environment, check=True
    )
    seq, reason, again = ran.stdout.split()
    assert (reason, again) == ("STORAGE_FULL", "None")
    assert int(seq) > 10
    asyncio.run(check_pending(path, list(range(1, int(seq) + 1))))


async def check_pending(path: str, seqs: list[int]) -> None:
    async with open_store(path) as store:
        assert [m.seq for m in await store.pending_messages(0, 10_000)] == seqs


@pytest.mark.fault
async def test_open_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "amx.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(AmxError) as error:
        async with open_store(str(path)):
            pass
    assert error.value.reason == "STORAGE_UNAVAILABLE"
    assert "backup" in error.value.message


@pytest.mark.fault
async def test_damaged_page_is_named_and_other_data_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "amx.db"
    async with open_store(str(path)) as store:
        session = Session(store)
        await session.commit(memory_put=[("default", "a", str(n), row("m", value=b"x" * 3000)) for n in range(300)])
        await session.commit(insert=[message(1)])
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'memory'").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    async with open_store(str(path)) as store:
        with pytest.raises(AmxError) as error:
            await store.memory("default", "a", "1")
        assert error.value.reason == "STORAGE_UNAVAILABLE"
        with pytest.raises(AmxError) as error:
            await Session(store).commit(memory_put=[("default", "a", "1", row("m"))])
        assert error.value.reason == "STORAGE_UNAVAILABLE"
        await Session(store).commit(finish=[(1, MessageState.SUCCEEDED, b"", 1, 1)])
        found = await store.message("default", "m1")
        assert found is not None and found.state == MessageState.SUCCEEDED


BROWSER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.process
@pytest.mark.fault
async def test_lock_of_another_program_is_named_and_storing_resumes_after_it(tmp_path: Path) -> None:
    path = tmp_path / "amx.db"
    async with open_store(str(path)) as store:
        session = Session(store)
        browser = await asyncio.create_subprocess_exec(
            sys.executable, "-c", BROWSER, str(path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert browser.stdout is not None
        await browser.stdout.readline()
        waiting = [session.submit(insert=[message(seq)])[1] for seq in range(2, 100)]
        with pytest.raises(AmxError) as error:
            await session.commit(insert=[message(1)])
        await asyncio.gather(*waiting, return_exceptions=True)
        assert error.value.reason == "STORAGE_UNAVAILABLE"
        assert error.value.retryable and "another program" in error.value.message
        await browser.communicate(b"")
        await session.commit(insert=[message(1)])
