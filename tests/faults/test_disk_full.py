"""The disk fills up under a running engine: refusals by name, nothing acknowledged lost, service when there is room."""

from __future__ import annotations

import asyncio
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from amx_engine import AmxEngine, AmxError
from tests.faults.content_load import Archive
from tests.process.agents import Counter
from tests.process.harness import EngineProcess, client, engine_process, until

pytestmark = [pytest.mark.process, pytest.mark.fault]

SIZE_MIB = 6


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("small_disk: mounting a file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"small_disk: no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def fill(application: AmxEngine, acknowledged: dict[str, int]) -> AmxError:
    """Sends until a send is refused, and returns the refusal."""
    for number in range(len(acknowledged), 100_000):
        id = f"m-{number}"
        try:
            await application.send("Counter", number, handler="add_padded", message_id=id, headers={"pad": "x" * 4000})
        except AmxError as error:
            return error
        acknowledged[id] = number
    pytest.fail("100,000 messages fitted onto the small disk")


def ready(engine: EngineProcess) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{engine.http}/health/ready", timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("killed", [False, True], ids=["room comes back", "killed while full"])
async def test_full_disk_refuses_by_name_loses_nothing_and_serves_again(
    tmp_path: Path, small_disk: Path, killed: bool
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * (2 << 20))
    acknowledged: dict[str, int] = {}
    with engine_process(tmp_path, data=small_disk) as engine:
        # The agent is known, and away: what is sent stays.
        async with client(engine.address, Counter) as worker:
            await worker.request("Counter", handler="totals")
        async with client(engine.address) as application:
            refusal = await fill(application, acknowledged)
            assert refusal.reason == "STORAGE_FULL", refusal
            assert refusal.message
            for _ in range(5):  # and stays refused, at once and by name, with the engine alive
                with pytest.raises(AmxError) as caught:
                    await application.send("Counter", 1, handler="add_padded", headers={"pad": "x" * 4000}, timeout=10)
                assert caught.value.reason == "STORAGE_FULL"
            status, text = await asyncio.to_thread(ready, engine)
            assert status == 503
            assert "store" in text
            if killed:
                engine.kill()
            ballast.unlink()
            if killed:
                await asyncio.to_thread(engine.start)
            before = len(acknowledged)
            reasons: set[str] = set()

            async def serves() -> bool:
                try:
                    await application.send("Counter", before, message_id=f"m-{before}", timeout=60)
                except AmxError as error:
                    reasons.add(error.reason)
                    return False
                return True

            await until(serves, "service after room came back")
            assert reasons <= {"STORAGE_FULL"}
            acknowledged[f"m-{before}"] = before
            assert (await asyncio.to_thread(ready, engine))[0] == 200
            async with client(engine.address, Counter):
                expected = [len(acknowledged), sum(acknowledged.values())]

                async def counted() -> bool:
                    return bool((await application.request("Counter", handler="totals"))[0] >= expected[0])

                await until(counted, f"totals {expected}")
                assert await application.request("Counter", handler="totals") == expected


async def test_handler_whose_changes_cannot_be_stored_does_not_answer_as_if_they_were(
    tmp_path: Path, small_disk: Path
) -> None:
    with engine_process(tmp_path, data=small_disk) as engine:
        async with client(engine.address, Counter) as application:
            assert await application.request("Counter", 5) == 1
            filling = small_disk / "filling"
            with filling.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"\0" * 4096)
                except OSError:
                    pass
            refusals = []
            counted = 1
            for _ in range(3000):  # the log of the store has some room left
                try:
                    counted = await application.request("Counter", 1, timeout=10)
                except AmxError as error:
                    refusals.append(error.reason)
                    if len(refusals) == 3:
                        break
            assert refusals == ["STORAGE_FULL"] * 3
            filling.unlink()
            totals = await application.request("Counter", handler="totals")
            assert totals[0] == counted
            assert await application.request("Counter", 1) == counted + 1


async def test_full_disk_refuses_large_values_by_name_and_takes_them_when_there_is_room(
    tmp_path: Path, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * (4 << 20))
    with engine_process(tmp_path, data=small_disk) as engine:
        async with client(engine.address, Archive) as application:
            stored = 0
            refusals: list[str] = []
            while len(refusals) < 3:
                try:
                    await application.request("Archive", stored + 1, handler="keep", timeout=10)
                    stored += 1
                except AmxError as error:
                    refusals.append(error.reason)
            assert stored > 50
            assert refusals == ["STORAGE_FULL"] * 3
            ballast.unlink()

            async def serves() -> bool:
                try:
                    await application.request("Archive", stored + 1, handler="keep", timeout=10)
                except AmxError as error:
                    refusals.append(error.reason)
                    return False
                return True

            await until(serves, "service after room came back")
            assert set(refusals) == {"STORAGE_FULL"}
        engine.kill()
        await asyncio.to_thread(engine.start)
        async with client(engine.address, Archive) as application:
            assert await application.request("Archive", handler="count", timeout=60) == [stored + 1, 1]
