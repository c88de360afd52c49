"""Calls at one of several engines: every RPC has its way, and answers of all become one."""

from __future__ import annotations

import pytest

from amx.v1 import engine_pb2
from amx_server.api.merging import merge
from amx_server.api.passing import WAYS, Passing
from amx_server.cluster.shards import Shard
from amx_server.core.errors import AmxError
from amx_server.security.identity import ANONYMOUS

SERVICE = engine_pb2.DESCRIPTOR.services_by_name["EngineService"]


def test_every_rpc_has_its_way() -> None:
    assert set(WAYS) == {method.name for method in SERVICE.methods}


def test_numbers_of_engines_add_up_and_what_all_know_is_told_once() -> None:
    first = engine_pb2.GetEngineResponse(version="1", uptime_ms=10, links=2, agents=3, instances=4, storage="a")
    second = engine_pb2.GetEngineResponse(version="1", uptime_ms=30, links=1, agents=3, instances=5, storage="b")
    whole = merge([first, second])
    assert whole == engine_pb2.GetEngineResponse(
        version="1", uptime_ms=30, links=2, agents=3, instances=9, storage="a; b"
    )


def test_an_agent_of_all_engines_is_one_agent() -> None:
    answers = []
    for active in (1, 2):
        answer = engine_pb2.ListAgentsResponse()
        agent = answer.agents.add(active_instances=active, processed=10)
        agent.definition.name = "Echo"
        agent.definition.handlers.add(name="echo")
        agent.versions.add(version="1.0.0", links=1, active=True)
        answers.append(answer)
    answers[1].agents.add().definition.name = "Other"
    echo, other = merge(answers).agents
    assert (echo.active_instances, echo.processed, len(echo.definition.handlers)) == (3, 20, 1)
    assert [(version.links, version.active) for version in echo.versions] == [(1, True)]
    assert other.definition.name == "Other"


def test_shares_of_agents_are_averaged_and_waits_added() -> None:
    answers = []
    for used, waiting in ((0.5, 3), (0.1, 4)):
        answer = engine_pb2.GetSchedulerResponse(policy="adaptive", pressure=engine_pb2.PRESSURE_LEVEL_NORMAL)
        answer.shares.add(namespace="default", agent="Echo", weight=2, used=used)
        answer.waits.add(reason=1, instances=waiting)
        answers.append(answer)
    answers[1].pressure = engine_pb2.PRESSURE_LEVEL_HIGH
    whole = merge(answers)
    assert whole.pressure == engine_pb2.PRESSURE_LEVEL_HIGH
    assert [(wait.reason, wait.instances) for wait in whole.waits] == [(1, 7)]
    (share,) = whole.shares
    assert share.weight == 2


async def test_fork_to_another_engine_is_refused_with_a_key_that_works() -> None:
    shard = Shard(0, ("a", "b", "c"), (1, 2, 3), False, "secret")
    source = shard.owner("default", "Agent", "origin")
    other = next(key for key in map(str, range(99)) if shard.owner("default", "Agent", key) != source)
    request = engine_pb2.ForkInstanceRequest()
    request.source.agent = request.target.agent = "Agent"
    request.source.key, request.target.key = "origin", other

    async def here(request: engine_pb2.ForkInstanceRequest) -> engine_pb2.ForkInstanceResponse:
        return engine_pb2.ForkInstanceResponse()

    with pytest.raises(AmxError) as refused:
        await Passing(shard).unary("ForkInstance", request, ANONYMOUS, None, here)
    assert refused.value.reason == "FORK_ELSEWHERE"
    assert shard.owner("default", "Agent", refused.value.metadata["key"]) == source
    assert refused.value.metadata["key"] in refused.value.message


async def test_pages_go_through_the_engines_one_after_the_other() -> None:
    shard = Shard(0, ("a",), (1,), False, "secret")
    pages = {"": (["1", "2"], "next"), "next": (["3"], "")}

    async def here(request: engine_pb2.ListInstancesRequest) -> engine_pb2.ListInstancesResponse:
        keys, token = pages[request.page_token]
        response = engine_pb2.ListInstancesResponse(next_page_token=token)
        for key in keys[: request.page_size]:
            response.instances.add().instance.key = key
        return response

    passing = Passing(shard)
    request = engine_pb2.ListInstancesRequest(page_size=2)
    first = await passing.unary("ListInstances", request, ANONYMOUS, None, here)
    assert isinstance(first, engine_pb2.ListInstancesResponse)
    request.page_token = first.next_page_token
    second = await passing.unary("ListInstances", request, ANONYMOUS, None, here)
    assert isinstance(second, engine_pb2.ListInstancesResponse)
    assert [each.instance.key for page in (first, second) for each in page.instances] == ["1", "2", "3"]
    assert not second.next_page_token
    request.page_token = "made up"
    with pytest.raises(AmxError) as refused:
        await passing.unary("ListInstances", request, ANONYMOUS, None, here)
    assert refused.value.reason == "INVALID_PAGE_TOKEN"
