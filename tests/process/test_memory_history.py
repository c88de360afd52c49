"""Versions of memory in a real engine under load: forks and restores fall between messages, and survive its death."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio
import pytest

from amx.v1 import common_pb2, engine_pb2
from amx_engine import AmxEngine, AmxError
from tests.process.harness import PATIENCE, EngineProcess, client, engine_process, hosted, unary, until, worker_process

if TYPE_CHECKING:
    from amx.v1.engine_pb2_grpc import EngineServiceAsyncStub

pytestmark = pytest.mark.process


def counter(key: str) -> common_pb2.InstanceRef:
    return common_pb2.InstanceRef(agent="Counter", key=key)


async def totals(stub: EngineServiceAsyncStub, key: str, version: int = 0) -> tuple[int, int]:
    """Count and sum of a counter, now or at a version."""
    found = []
    for name in ("count", "sum"):
        request = engine_pb2.GetMemoryRequest(instance=counter(key), name=name, at_version=version)
        found.append(json.loads((await stub.GetMemory(request, timeout=PATIENCE)).entry.value))
    return found[0], found[1]


async def history(stub: EngineServiceAsyncStub, key: str) -> list[int]:
    request = engine_pb2.ListMemoryVersionsRequest(instance=counter(key), page_size=1000)
    return [each.version for each in (await stub.ListMemoryVersions(request, timeout=PATIENCE)).versions]


async def collect_and_verify(stub: EngineServiceAsyncStub) -> None:
    async for collected in stub.CollectMemory(engine_pb2.CollectMemoryRequest()):
        assert 0 <= collected.progress <= 1
    async for verified in stub.VerifyMemory(engine_pb2.VerifyMemoryRequest()):
        assert not verified.damages
    assert collected.done and verified.done


@contextlib.asynccontextmanager
async def adding(application: AmxEngine, key: str) -> AsyncIterator[list[int]]:
    """Messages to a counter, one after the other; the list holds what it has counted to."""
    counted = [0]

    async def add() -> None:
        while True:
            with contextlib.suppress(AmxError):  # the engine was killed: it may have counted or not
                counted[0] = await application.request("Counter", 1, key=key, durable=True, timeout=60)

    task = asyncio.create_task(add())
    try:
        yield counted
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_forks_and_restores_under_load_fall_between_messages(tmp_path: Path) -> None:
    with (
        engine_process(tmp_path, "memory.history_versions=100000") as engine,
        worker_process(tmp_path, engine.address, "Counter"),
    ):
        async with client(engine.address) as application, unary(engine.address) as stub:
            async with adding(application, "busy") as counted:
                await until(lambda: counted[0] > 10, "a counter that counts")
                forked = await stub.ForkInstance(
                    engine_pb2.ForkInstanceRequest(source=counter("busy"), target=counter("first"))
                )
                # Every message is one version and counts one.
                assert await totals(stub, "first") == (forked.version, forked.version)
                for number in range(20):
                    forked = await stub.ForkInstance(
                        engine_pb2.ForkInstanceRequest(source=counter("busy"), target=counter(f"fork-{number}"))
                    )
                    assert await totals(stub, f"fork-{number}") == await totals(stub, "busy", forked.version)
                    await stub.RestoreMemory(
                        engine_pb2.RestoreMemoryRequest(instance=counter("busy"), version=max(1, forked.version - 3))
                    )
            versions = await history(stub, "busy")
            assert versions == list(range(len(versions), 0, -1))
            for version in versions:
                count, amount = await totals(stub, "busy", version)
                assert count == amount
            # A fork works like any other instance.
            count, _ = await totals(stub, "fork-7")
            assert await application.request("Counter", 1, key="fork-7", timeout=60) == count + 1
            await collect_and_verify(stub)


@pytest.mark.fault
@pytest.mark.slow
async def test_acknowledged_forks_and_names_survive_kills_of_the_engine(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path, "memory.history_versions=3", "delivery.redelivery_attempts=50")
    kept: dict[str, int] = {}  # fork -> version that its source had
    named: dict[str, int] = {}

    def grown(counted: list[int], before: int) -> bool:
        return counted[0] > before

    def enough(names: int) -> bool:
        return len(named) > names

    async def fork_and_name(stub: EngineServiceAsyncStub, round_: int) -> None:
        for number in range(1000):
            name = f"{round_}-{number}"
            with contextlib.suppress(grpc.aio.AioRpcError):  # the engine is away: nothing was promised
                forked = await stub.ForkInstance(
                    engine_pb2.ForkInstanceRequest(source=counter("busy"), target=counter(f"fork-{name}"))
                )
                kept[f"fork-{name}"] = forked.version
                request = engine_pb2.CreateSnapshotRequest(instance=counter("busy"), name=f"snapshot-{name}")
                named[f"snapshot-{name}"] = (await stub.CreateSnapshot(request)).version.version
            await asyncio.sleep(0)

    try:
        await asyncio.to_thread(engine.start)
        with worker_process(tmp_path, engine.address, "Counter"):
            async with client(engine.address) as application, adding(application, "busy") as counted:
                for round_ in range(4):
                    await until(partial(grown, counted, counted[0]), "a counter that counts")
                    async with unary(engine.address) as stub:
                        forking = asyncio.create_task(fork_and_name(stub, round_))
                        await until(partial(enough, len(named) + 5), "forks and names")
                        await engine.restart()
                        forking.cancel()
                        await asyncio.wait([forking])
                    async with unary(engine.address) as stub:  # channels back off for a while after refusals
                        await stub.GetEngine(engine_pb2.GetEngineRequest(), wait_for_ready=True, timeout=PATIENCE)
                    await hosted(engine.address, "Counter")
            async with unary(engine.address) as stub:
                await collect_and_verify(stub)
                listed = await stub.ListMemoryVersions(
                    engine_pb2.ListMemoryVersionsRequest(instance=counter("busy"), page_size=1000), timeout=PATIENCE
                )
                found = {name: each.version for each in listed.versions for name in each.snapshots}
                assert named.items() <= found.items()
                for name, version in named.items():
                    assert await totals(stub, "busy", version) == (version, version), name
                for name, version in kept.items():
                    assert await totals(stub, name) == (version, version), name
                assert len(kept) >= 20
    finally:
        engine.kill()
