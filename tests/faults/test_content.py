"""Content under a real engine: kill -9 during group commits, damage on disk."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from amx_engine import AmxError
from amx_server.memory.blobs import ContentBlobs
from amx_server.memory.content import ContentOptions
from amx_server.storage import open_store
from tests.faults.content_load import KEYS, PAGES, Archive, text
from tests.process.harness import client, engine_process

pytestmark = [pytest.mark.process, pytest.mark.fault, pytest.mark.slow]

KILLS = int(os.environ.get("AMX_TEST_CONTENT_KILLS", "50"))
ROOT = Path(__file__).resolve().parents[2]


def killed_run(folder: Path, seed: int, seconds: float) -> dict[str, int]:
    """One life of an engine, `seconds` from its first acknowledgement. Returns the last one for each key."""
    command = [sys.executable, "-m", "tests.faults.content_load", str(folder), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        lines = [process.stdout.readline()]
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL, f"seed {seed}: the engine ended by itself"
    acknowledged = {}
    for line in lines:
        if line.endswith("\n"):  # the last one may be torn
            key, number = line.split()
            acknowledged[key] = int(number)
    return acknowledged


async def check(folder: Path, acknowledged: dict[str, int], where: str) -> int:
    """What the next start finds: everything acknowledged, nothing missing, and no garbage after one collection.

    What it found may not be lost again either: it stands in `acknowledged` then.
    """
    with ContentBlobs(folder / "amx.db-content", ContentOptions(), 1024) as blobs:
        content = blobs.store
        before = {address: content.references(address) for address in content._contents.index}
        async with open_store(str(folder / "amx.db"), blobs=blobs) as store:
            assert not blobs.reconciled.missing, where
            verified = content.verify()
            assert verified.clean, f"{where}: {verified}"
            content.collect()
            stats = content.stats()
            assert (stats.unreferenced, stats.lost) == (0, 0), f"{where}: {stats}"
            for key, number in acknowledged.items():
                rows = {(r.name, r.entry): r.value for r in await store.memory("default", "Archive", key)}
                last = int(rows["last", ""])
                assert number <= last <= number + 1, f"{where}: {key} had {number} acknowledged and has {last}"
                acknowledged[key] = last
                expected = {str(n % PAGES): text(n) for n in range(max(last - PAGES + 1, 1), last + 1) if n % 11}
                pages = {json.loads(entry): json.loads(rows[name, entry]) for name, entry in rows if name == "pages"}
                assert pages == expected, f"{where}: {key} at {last}"
                versions = await store.memory_versions("default", "Archive", key, 0, 1000)
                for version in versions:  # earlier ones can be read as well
                    await store.memory_at("default", "Archive", key, version.version)
        return sum(content.references(address) != count for address, count in before.items())


def test_engine_killed_during_group_commits_with_content_loses_no_reference(tmp_path: Path) -> None:
    seed = int(os.environ.get("AMX_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    acknowledged: dict[str, int] = {}
    corrected: Counter[bool] = Counter()
    for kill in range(KILLS):
        acknowledged |= killed_run(tmp_path, kill, generator.uniform(0, 0.4))
        corrected[asyncio.run(check(tmp_path, acknowledged, f"seed {seed}, kill {kill}")) > 0] += 1
    assert len(acknowledged) == KEYS
    print(f"{sum(acknowledged.values())} writes; {corrected[True]} of {KILLS} kills left references to set right")


async def test_damaged_content_is_named_with_who_refers_to_it_and_others_go_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    large = next(number for number in range(1, 99) if len(text(number)) > 5000)
    with engine_process(tmp_path, data=data) as engine:
        async with client(engine.address, Archive) as application:
            await application.request("Archive", large, key="one")
            await application.request("Archive", 1, key="two")
        assert await asyncio.to_thread(engine.stop) == 0
    damaged = 0
    for segment in (data / "amx.db-content").glob("*.segment"):
        content = bytearray(segment.read_bytes())
        for at in range(200, len(content), 97):  # bits flip all over it
            content[at] ^= 1
            damaged += 1
        segment.write_bytes(content)
    assert damaged
    with engine_process(tmp_path, data=data) as engine:
        async with client(engine.address, Archive) as application:
            assert await application.request("Archive", 2, key="two") == text(3)
            with pytest.raises(AmxError):
                await application.request("Archive", large + 1, key="one", timeout=3)
        output = engine.output
    assert "memory 'pages', entry" in output
    assert "of Archive/one in default" in output
    assert "memory_unreadable" in output or "content_missing" in output
