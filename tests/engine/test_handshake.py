"""How links open: versions, features, definitions, permissions, who may use which link id."""

from __future__ import annotations

import pytest

from amx.v1 import common_pb2, link_pb2
from amx_server.security.identity import Identity
from amx_server.security.permissions import ROLES
from tests.engine.link_driver import Rig, agent, configured, running

CLIENT = Identity("someone", "default", ("client",), ROLES["client"])


def refused(answer: link_pb2.Welcome | common_pb2.Failure) -> common_pb2.Failure:
    assert isinstance(answer, common_pb2.Failure), answer
    return answer


async def test_handshake_agrees_on_version_features_and_limits(rig: Rig) -> None:
    welcome = await rig.sdk().connect(protocol_min=1, protocol_max=7, features=["resume", "telepathy"])
    assert welcome.protocol == 1
    assert list(welcome.features) == ["resume"]
    assert welcome.limits.max_frame_items == 128
    assert welcome.limits.max_item_bytes == 4 << 20
    assert welcome.namespace == "default"
    assert welcome.resume_token
    assert not welcome.resumed


async def test_handshake_with_versions_the_engine_does_not_speak_is_rejected(rig: Rig) -> None:
    failure = refused(await rig.sdk().try_connect(protocol_min=2, protocol_max=3))
    assert failure.reason == "PROTOCOL_VERSION_UNSUPPORTED"
    assert "2 to 3" in failure.message


@pytest.mark.parametrize("link_id", ["", "x" * 129])
async def test_handshake_with_an_unusable_link_id_is_rejected(rig: Rig, link_id: str) -> None:
    sdk = rig.sdk()
    sdk.link_id = link_id
    assert refused(await sdk.try_connect()).reason == "INVALID_HELLO"


@pytest.mark.parametrize(
    "first",
    [
        b"\xff\xff\xff garbage",
        b"",
        link_pb2.LinkFrame(items=[link_pb2.LinkItem(ping=link_pb2.Ping())]).SerializeToString(),
        link_pb2.LinkFrame(items=[link_pb2.LinkItem(hello=link_pb2.Hello(link_id="a"))] * 2).SerializeToString(),
    ],
    ids=["garbage", "empty", "no hello", "two hellos"],
)
async def test_handshake_with_a_malformed_first_frame_is_rejected(rig: Rig, first: bytes) -> None:
    sdk = rig.sdk()
    assert refused(await sdk.open(first)).reason == "PROTOCOL_VIOLATION"
    assert sdk.connection is not None
    assert await sdk.connection.next_frame() is None
    await rig.client()  # the engine goes on


async def test_handshake_with_a_link_id_in_use_is_rejected_and_the_first_link_goes_on(rig: Rig) -> None:
    worker = await rig.worker(agent("echo"), link_id="same")
    failure = refused(await rig.sdk("same").try_connect())
    assert failure.reason == "LINK_ID_IN_USE"
    call = worker.request("echo", 1)
    (await worker.work()).succeed(2)
    assert await worker.result(call) == 2


async def test_handshake_of_a_host_without_the_permission_is_rejected(rig: Rig) -> None:
    failure = refused(await rig.sdk(identity=CLIENT).try_connect(agent("echo")))
    assert failure.reason == "PERMISSION_DENIED"
    assert failure.metadata["permission"] == "agents:register"
    assert isinstance(await rig.sdk(identity=CLIENT).try_connect(), link_pb2.Welcome)


async def test_handshake_with_a_changed_definition_names_the_difference(rig: Rig) -> None:
    await rig.worker(agent("echo", "say"))
    failure = refused(await rig.sdk().try_connect(agent("echo", "say", "shout")))
    assert failure.reason == "DEFINITION_CHANGED"
    assert "shout" in failure.message
    assert failure.metadata["version"] == "1.0.0"
    await rig.worker(agent("echo", "say"))  # the same again is no change
    await rig.worker(agent("echo", "say", "shout", version="1.1.0"))


async def test_handshake_with_a_changed_definition_is_taken_where_redefinition_is_allowed() -> None:
    async with running(configured(agents={"allow_redefinition": True})) as rig:
        await rig.worker(agent("echo", "say"))
        worker = await rig.worker(agent("echo", "say", "shout"))
        call = worker.request("echo", "x", handler="shout")
        other = await worker.work()
        assert other.message.handler == "shout"
        other.succeed("X")
        assert await worker.result(call) == "X"


async def test_definition_that_replaced_another_goes_with_its_last_host_and_the_one_before_is_served_again() -> None:
    async with running(configured(agents={"allow_redefinition": True})) as rig:
        first = await rig.worker(agent("echo", "say"))
        second = await rig.worker(agent("echo", "say", "shout"))
        third = await rig.worker(agent("echo", "say", "sing"))
        client = await rig.client()
        client.send("echo", "waits", handler="say")
        (await third.work()).succeed()
        second.drain()
        third.drain()
        await rig.settle()
        call = client.request("echo", "x", handler="say")
        (await first.work()).succeed("y")
        assert await client.result(call) == "y"
        assert (await client.refusal(client.request("echo", "x", handler="sing"))).reason == "HANDLER_UNKNOWN"


async def test_definition_that_comes_back_is_served_by_those_who_hosted_it_before() -> None:
    async with running(configured(agents={"allow_redefinition": True})) as rig:
        first = await rig.worker(agent("echo", "say"))
        await rig.worker(agent("echo", "say", "shout"))
        third = await rig.worker(agent("echo", "say"))
        third.drain()
        await rig.settle()
        client = await rig.client()
        call = client.request("echo", "x", handler="say")
        (await first.work()).succeed("y")
        assert await client.result(call) == "y"


async def test_handshake_with_a_malformed_definition_is_rejected_whole(rig: Rig) -> None:
    failure = refused(await rig.sdk().try_connect(agent("fine"), agent("not fine")))
    assert failure.reason == "INVALID_DEFINITION"
    assert failure.metadata["field"] == "name"
    client = await rig.client()
    assert (await client.refusal(client.request("fine"))).reason == "AGENT_UNKNOWN"


async def test_handshake_naming_an_agent_twice_is_rejected(rig: Rig) -> None:
    assert refused(await rig.sdk().try_connect(agent("a"), agent("a"))).reason == "DUPLICATE_AGENT"


async def test_handshake_beyond_the_limit_of_links_is_rejected() -> None:
    async with running(configured(limits={"max_links": 1})) as rig:
        await rig.client()
        failure = refused(await rig.sdk().try_connect())
        assert failure.reason == "LINK_LIMIT"
        assert failure.retryable


async def test_register_adds_and_removes_agents_after_the_handshake(rig: Rig) -> None:
    worker = await rig.worker()
    item = link_pb2.LinkItem(id=900)
    item.register.agents.append(agent("late"))
    worker.feed(item)
    assert (await worker.reply(900)).HasField("result")
    call = worker.request("late", 1)
    (await worker.work()).succeed(2)
    assert await worker.result(call) == 2
    item = link_pb2.LinkItem(id=901)
    item.register.removed.append("late")
    worker.feed(item)
    await worker.reply(901)
    assert (await worker.refusal(worker.request("late", 1))).reason == "NO_WORKER"


async def test_register_of_a_malformed_agent_is_answered_and_the_link_survives(rig: Rig) -> None:
    worker = await rig.worker()
    item = link_pb2.LinkItem(id=900)
    item.register.agents.append(agent("no good"))
    worker.feed(item)
    assert (await worker.refusal(900)).reason == "INVALID_DEFINITION"
    assert not worker.over


async def test_namespaces_are_kept_apart(rig: Rig) -> None:
    other = Identity("other", "elsewhere", ("admin",), ROLES["admin"])
    await rig.worker(agent("echo"), link_id="same id")
    stranger = rig.sdk("same id", other)
    await stranger.connect()
    assert (await stranger.refusal(stranger.request("echo"))).reason == "AGENT_UNKNOWN"
