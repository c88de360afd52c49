"""Memory read and written from outside handlers: in turn with them, with versions, with and without a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from amx.v1 import link_pb2, memory_pb2
from amx_server.core.errors import AmxError
from tests.engine.link_driver import Rig, Sdk, agent, map_memory, put, remembered, running, value_memory

STORE = agent("store", memories=(map_memory(), value_memory("total"), map_memory("light", persistent=False)))


def operation(what: str, name: str = "items", key: str = "", **fields: object) -> memory_pb2.MemoryOperation:
    made = memory_pb2.MemoryOperation(name=name, **fields)  # type: ignore[arg-type]
    made.instance.agent, made.instance.key = "store", key
    if what.startswith("put"):
        _, made.put.id, value = what.split(" ")
        made.put.value = value.encode()
    else:
        verb, _, id = what.partition(" ")
        setattr(made, verb, id)
    return made


async def done(sdk: Sdk, what: str, **fields: object) -> memory_pb2.MemoryOperationResult:
    reply = await sdk.reply(sdk.call("memory", operation(what, **fields)))  # type: ignore[arg-type]
    assert reply.HasField("memory"), reply
    return reply.memory


async def test_entry_is_written_read_listed_and_removed(rig: Rig) -> None:
    sdk = await rig.worker(STORE)
    assert not (await done(sdk, 'get "a"')).found
    assert (await done(sdk, 'put "a" 1')).version == 1
    assert (await done(sdk, 'put "ab" 2')).version == 2
    assert (await done(sdk, 'put "b" 3')).version == 3
    found = await done(sdk, 'get "a"')
    assert found.found
    assert found.entries[0].value == b"1"
    listed = await done(sdk, 'list "a')
    assert [entry.id for entry in listed.entries] == ['"a"', '"ab"']
    page = await done(sdk, "list", limit=2)
    assert len(page.entries) == 2
    assert page.truncated
    assert (await done(sdk, 'remove "a"')).found
    assert not (await done(sdk, 'remove "a"')).found
    assert not (await done(sdk, 'get "a"')).found


async def test_write_is_seen_by_the_next_handler_and_the_other_way_round(rig: Rig) -> None:
    sdk = await rig.worker(STORE)
    sdk.request("store")
    (await sdk.work()).succeed(effects=link_pb2.Effects(memory=[put("items", 1, id='"a"')]))
    assert (await done(sdk, 'get "a"')).entries[0].value == b"1"
    await done(sdk, 'put "a" 2')
    sdk.request("store")
    work = await sdk.work()
    assert remembered(work.invoke, "items", '"a"') == 2
    assert work.invoke.memory_version == 2


async def test_write_waits_for_the_handler_that_runs(rig: Rig) -> None:
    sdk = await rig.worker(STORE)
    sdk.request("store", 1)
    work = await sdk.work()
    sdk.request("store", 2)
    call = sdk.call("memory", operation('put "a" 2'))
    await rig.settle()
    assert call not in sdk.replies
    work.succeed(effects=link_pb2.Effects(memory=[put("items", 1, id='"a"')]))
    assert (await sdk.reply(call)).memory.version == 2
    assert remembered((await sdk.work()).invoke, "items", '"a"') == 2


async def test_message_waits_until_an_earlier_write_is_stored(rig: Rig) -> None:
    sdk = await rig.worker(STORE)
    await done(sdk, 'put "a" 1')
    sdk.call("memory", operation('put "a" 2'))
    call = sdk.request("store")
    assert sdk.waiting == 0
    work = await sdk.work()
    assert remembered(work.invoke, "items", '"a"') == 2
    work.succeed()
    await sdk.result(call)


async def test_write_with_another_version_than_the_memory_has_is_refused(rig: Rig) -> None:
    sdk = await rig.worker(STORE)
    assert (await done(sdk, 'put "a" 1')).version == 1
    failure = await sdk.refusal(sdk.call("memory", operation('put "a" 2', if_version=7)))
    assert (failure.reason, failure.code) == ("MEMORY_VERSION_MISMATCH", 10)
    assert failure.metadata["version"] == "1"
    assert (await done(sdk, 'put "a" 2', if_version=1)).version == 2
    assert (await sdk.refusal(sdk.call("memory", operation('remove "a"', if_version=1)))).reason


async def test_memory_is_reached_while_no_process_hosts_the_agent(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with running(store=path) as rig:
        sdk = await rig.worker(STORE)
        await done(sdk, 'put "a" 1', key="k")
    async with running(store=path) as rig:
        client = await rig.client()
        assert (await done(client, 'get "a"', key="k")).entries[0].value == b"1"
        assert (await done(client, 'put "a" 5', key="k")).version > 1
        worker = await rig.worker(STORE)
        worker.request("store", key="k")
        assert remembered((await worker.work()).invoke, "items", '"a"') == 5


async def test_memory_is_reached_while_the_only_worker_has_no_credit(rig: Rig) -> None:
    sdk = await rig.worker(STORE, credit=0)
    sdk.request("store")
    await done(sdk, 'put "a" 1')
    assert (await done(sdk, 'get "a"')).found


async def test_what_is_not_known_is_refused_by_name(rig: Rig) -> None:
    sdk = await rig.worker(STORE)

    async def refusal(op: memory_pb2.MemoryOperation) -> str:
        return (await sdk.refusal(sdk.call("memory", op))).reason

    assert await refusal(operation("get x", name="unknown")) == "MEMORY_UNKNOWN"
    other = operation("get x")
    other.instance.agent = "nobody"
    assert await refusal(other) == "AGENT_UNKNOWN"
    nothing = operation("get x")
    nothing.ClearField("get")
    assert await refusal(nothing) == "INVALID_OPERATION"
    assert await refusal(operation("put nojson 1")) == "INVALID_MEMORY_CHANGE"
    assert await refusal(operation('put "a" ' + "1" * 2_000_000)) == "INVALID_MEMORY_CHANGE"


async def test_memory_that_is_not_persistent_is_written_without_the_store(rig: Rig) -> None:
    sdk = await rig.worker(STORE)
    assert (await done(sdk, 'put "a" 1', name="light")).version == 1
    assert (await done(sdk, 'get "a"', name="light")).found
    assert await rig.engine.store.memory("default", "store", "default") == []


async def test_listing_says_what_an_instance_remembers(rig: Rig) -> None:
    sdk = await rig.worker(STORE)
    await done(sdk, 'put "a" 12', key="k")
    heard: list[memory_pb2.MemoryInfo] = []
    ref = operation("list", key="k").instance
    rig.engine.memory.listing(rig.engine.namespace("default"), ref, lambda infos, version: heard.extend(infos))
    await rig.settle()
    assert [(info.name, info.entries, info.persistent) for info in heard] == [
        ("items", 1, True),
        ("light", 0, False),
        ("total", 0, True),
    ]
    ref.agent = "nobody"
    with pytest.raises(AmxError) as caught:
        rig.engine.memory.listing(rig.engine.namespace("default"), ref, lambda infos, version: None)
    assert caught.value.reason == "AGENT_UNKNOWN"
