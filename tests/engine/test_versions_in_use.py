"""Updates without downtime: which version of an agent takes new messages while others drain or come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from amx.v1 import agent_pb2, link_pb2
from amx_server.core.errors import AmxError
from tests.engine.link_driver import Rig, Sdk, agent, map_memory, put, remembered, running, value_memory


def echo(version: str, **fields: object) -> agent_pb2.AgentDefinition:
    return agent("echo", version=version, **fields)  # type: ignore[arg-type]


async def leave(sdk: Sdk) -> None:
    sdk.drain()
    sdk.feed(link_pb2.LinkItem(drained=link_pb2.Drained()))
    await sdk.ended()


async def takes(rig: Rig, sdk: Sdk, key: str = "default") -> bool:
    """Whether a new message goes to this SDK; it is completed there."""
    client = await rig.client()
    call = client.request("echo", key=key)
    await rig.settle()
    if not sdk.waiting:
        client.cancel(call)
        await rig.settle()
        return False
    (await sdk.work()).succeed()
    await client.result(call)
    return True


async def test_newer_version_takes_new_messages_while_the_old_one_finishes(rig: Rig) -> None:
    old = await rig.worker(echo("1.9.0"))
    client = await rig.client()
    first = client.request("echo", 1)
    work = await old.work()
    behind = client.request("echo", 2)
    new = await rig.worker(echo("1.10.0"))
    elsewhere = client.request("echo", 3, key="other")
    assert (await new.work()).value == 3
    await rig.settle()
    assert new.waiting == 0  # the instance still runs at the old version
    work.succeed("from the old")
    assert await client.result(first) == "from the old"
    moved = await new.work()
    assert moved.value == 2
    assert old.waiting == 0
    assert behind != elsewhere


async def test_update_takes_the_memory_along(rig: Rig) -> None:
    old = await rig.worker(echo("1.0.0", memories=(value_memory("kept"), value_memory("dropped"))))
    call = old.request("echo")
    (await old.work()).succeed(effects=link_pb2.Effects(memory=[put("kept", 1), put("dropped", 2)]))
    await old.result(call)
    call = old.request("echo")
    in_flight = await old.work()
    new = await rig.worker(echo("2.0.0", memories=(value_memory("kept"), map_memory("added"))))
    in_flight.succeed("fine", link_pb2.Effects(memory=[put("kept", 10), put("dropped", 20)]))
    assert await old.result(call) == "fine"  # what the old version changes is checked by its own definition
    new.request("echo")
    work = await new.work()
    assert remembered(work.invoke, "kept") == 10
    assert remembered(work.invoke, "dropped") is None
    work.succeed()
    await leave(new)
    old.request("echo")
    assert remembered((await old.work()).invoke, "dropped") == 20


async def test_older_version_takes_over_when_the_newer_one_leaves(rig: Rig) -> None:
    old = await rig.worker(echo("1.0.0"))
    new = await rig.worker(echo("2.0.0"))
    assert await takes(rig, new)
    assert not await takes(rig, old)
    waiting = new.send("echo", "waits", key="w")
    new.grant(0)
    await new.accepted(waiting)
    queued = new.send("echo", "no credit", key="v")
    await new.accepted(queued)
    await new.work()
    await leave(new)
    await rig.settle()
    assert sorted([(await old.work()).value, (await old.work()).value]) == ["no credit", "waits"]


async def test_pinned_version_takes_new_messages_until_unpinned(rig: Rig) -> None:
    old = await rig.worker(echo("1.0.0"))
    new = await rig.worker(echo("2.0.0"))
    namespace = rig.engine.namespace("default")
    rig.engine.registry.pin(namespace, "echo", "1.0.0")
    assert await takes(rig, old)
    assert not await takes(rig, new, key="b")
    rig.engine.registry.pin(namespace, "echo", "")
    assert await takes(rig, new, key="c")
    with pytest.raises(AmxError, match=r"it has: 2\.0\.0, 1\.0\.0"):
        rig.engine.registry.pin(namespace, "echo", "3.0.0")
    with pytest.raises(AmxError, match="no agent named 'nobody'"):
        rig.engine.registry.pin(namespace, "nobody", "1")


async def test_pin_survives_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        await rig.worker(echo("1.0.0"))
        await rig.worker(echo("2.0.0"))
        rig.engine.registry.pin(rig.engine.namespace("default"), "echo", "1.0.0")
    async with running(store=path) as rig:
        new = await rig.worker(echo("2.0.0"))
        old = await rig.worker(echo("1.0.0"))
        assert await takes(rig, old)
        assert not await takes(rig, new)


async def test_links_of_one_version_share_the_work_and_keep_their_instances(rig: Rig) -> None:
    workers = [await rig.worker(echo("1.0.0")) for _ in range(2)]
    client = await rig.client()
    places: dict[str, Sdk] = {}
    for _ in range(3):
        for key in "abcdefgh":
            call = client.request("echo", key=key)
            await rig.settle()
            (sdk,) = [sdk for sdk in workers if sdk.waiting]
            assert places.setdefault(key, sdk) is sdk
            (await sdk.work()).succeed()
            await client.result(call)
    assert {sdk.link_id for sdk in places.values()} == {sdk.link_id for sdk in workers}


async def test_handler_that_a_new_version_lacks_is_unknown_from_then_on(rig: Rig) -> None:
    old = await rig.worker(agent("echo", "a", "b", version="1.0.0"))
    await rig.worker(agent("echo", "a", version="2.0.0"))
    assert (await old.refusal(old.request("echo", handler="b"))).reason == "HANDLER_UNKNOWN"
