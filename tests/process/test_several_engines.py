"""`amx serve --workers`: several engine processes behind one address, with SDK processes, and kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest

from amx.v1 import engine_pb2, link_pb2
from amx_engine import AmxEngine, Scope
from amx_engine._errors import AmxError
from amx_engine._ownership import owner_of
from tests.process.harness import (
    PATIENCE,
    EngineProcess,
    RawLink,
    client,
    definition,
    engine_process,
    json_payload,
    unary,
    until,
    worker_process,
)

pytestmark = [pytest.mark.process]


def keys_of(engine: int, agent: str, count: int = 1, engines: int = 2) -> list[str]:
    """Keys whose instances of `agent` that engine owns."""
    keys = (f"key-{number}" for number in range(100_000))
    owned = (key for key in keys if owner_of("default", agent, key, engines) == engine)
    return [next(owned) for _ in range(count)]


def pid_of(engine: EngineProcess, number: int) -> int:
    """The process that runs an engine now, by the log."""
    opened = re.findall(rf'"event":"engine_opened".*"engine":{number},"process":(\d+)', engine.output)
    return int(opened[-1])


async def totals(app: AmxEngine, key: str) -> Any:
    """[number of messages, sum] of a Counter; asked again while engines move."""
    while True:
        try:
            return await app.request("Counter", None, key=key, handler="totals")
        except AmxError as error:
            if not error.retryable and error.reason != "AGENT_UNKNOWN":
                raise
            await asyncio.sleep(0.05)


async def add(app: AmxEngine, key: str, name: str) -> None:
    """Adds 1 to a Counter; once, however often it is said."""
    await app.send("Counter", 1, key=key, message_id=f"{key}-{name}", timeout=PATIENCE)


async def test_sdk_hosts_on_all_engines_and_finds_the_owner(tmp_path: Path) -> None:
    with engine_process(tmp_path, workers=2) as engine, worker_process(tmp_path, engine.address, "Echo", "Counter"):
        async with client(engine.address) as app:
            answers = await asyncio.gather(*(app.request("Echo", n, key=f"k{n}") for n in range(100)))
            assert answers == list(range(100))
            for number in (0, 1):
                (key,) = keys_of(number, "Counter")
                assert await app.request("Counter", 5, key=key) == 1
                assert await app.request("Counter", 5, key=key) == 2
                assert await app.memory("Counter", key).get("sum") == 10
            chunks = [n async for n in app.stream("Echo", 200, key=keys_of(1, "Echo")[0], handler="count")]
            assert chunks == list(range(200))


async def test_what_a_handler_sends_reaches_instances_of_other_engines_once(tmp_path: Path) -> None:
    with engine_process(tmp_path, workers=2) as engine, worker_process(tmp_path, engine.address, "Relay", "Counter"):
        async with client(engine.address) as app:
            keys = [*keys_of(0, "Relay", 20), *keys_of(1, "Relay", 20)]
            await asyncio.gather(*(app.request("Relay", n, key=key) for n, key in enumerate(keys)))

            async def arrived() -> bool:
                return bool(await totals(app, "relayed") == [40, sum(range(40))])

            await until(arrived, "what the relays sent")


async def test_unary_calls_and_lists_at_any_engine_speak_for_all(tmp_path: Path) -> None:
    with engine_process(tmp_path, workers=3) as engine, worker_process(tmp_path, engine.address, "Counter"):
        keys = [key for number in range(3) for key in keys_of(number, "Counter", 3, engines=3)]
        async with unary(engine.address) as stub:
            for key in keys:
                request = engine_pb2.SendRequest()
                request.message.agent, request.message.key, request.message.message_id = "Counter", key, f"id-{key}"
                request.message.payload.CopyFrom(json_payload(7))
                assert (await stub.Send(request)).message_id == f"id-{key}"
                assert (await stub.Send(request)).duplicate
                wait = engine_pb2.WaitInvocationRequest(message_id=f"id-{key}")
                ended = (await stub.WaitInvocation(wait, timeout=PATIENCE)).invocation
                assert ended.state == engine_pb2.INVOCATION_STATE_SUCCEEDED
                memory = engine_pb2.GetMemoryRequest(name="sum")
                memory.instance.agent, memory.instance.key = "Counter", key
                assert (await stub.GetMemory(memory)).entry.value == b"7"
            found, token = [], ""
            while True:
                page = await stub.ListInstances(engine_pb2.ListInstancesRequest(page_size=2, page_token=token))
                found += [each.instance.key for each in page.instances]
                token = page.next_page_token
                if not token:
                    break
                assert len(page.instances) == 2
            assert sorted(found) == sorted(keys)
            status = await stub.GetEngine(engine_pb2.GetEngineRequest())
            assert (status.agents, status.instances, status.processed) == (1, 9, 9)
            (agent,) = (await stub.ListAgents(engine_pb2.ListAgentsRequest())).agents
            assert (agent.definition.name, agent.active_instances, agent.processed) == ("Counter", 9, 9)
            assert [(version.version, version.links) for version in agent.versions] == [("1.0.0", 1)]


async def test_events_and_broadcasts_reach_the_instances_of_all_engines(tmp_path: Path) -> None:
    with engine_process(tmp_path, workers=2) as engine, worker_process(tmp_path, engine.address, "Echo"):
        async with client(engine.address) as app, client(engine.address) as other:
            keys = [*keys_of(0, "Echo", 3), *keys_of(1, "Echo", 3)]
            outcome = await app.broadcast(Scope.agent("Echo"), "anyone?")
            assert outcome.succeeded == 1  # nobody was awake: the default instance, once
            await asyncio.gather(*(app.request("Echo", 1, key=key) for key in keys))
            outcome = await app.broadcast(Scope.agent("Echo"), "hello")
            assert (outcome.succeeded, outcome.failed) == (7, 0)
            async with other.subscribe("news.*") as events:
                for durable in (False, True):
                    for key in keys:
                        published = await app.publish("news.today", f"{key} {durable}", key=key, durable=durable)
                        assert published.subscribers == 2  # the agent's instance, and the other application
                        event = await anext(aiter(events))
                        assert event.content == f"{key} {durable}"
            for key in keys:

                async def heard(key: str = key) -> bool:
                    return bool(await app.memory("Echo", key).get("heard") == [f"{key} False", f"{key} True"])

                await until(heard, f"what {key} has heard")


async def test_an_sdk_that_does_not_know_of_engines_calls_but_does_not_host(tmp_path: Path) -> None:
    with engine_process(tmp_path, workers=2) as engine, worker_process(tmp_path, engine.address, "Echo"):
        async with RawLink(engine.address, "old") as link:
            welcome = await link.open()
            assert not welcome.engines
            for number in (0, 1):
                item = link_pb2.LinkItem(id=number + 1)
                item.call.request.agent, item.call.request.key = "Echo", keys_of(number, "Echo")[0]
                item.call.request.payload.CopyFrom(json_payload("hello"))
                await link.send(item)
                reply = await link.next("reply")
                assert (reply.id, reply.reply.result.data) == (number + 1, b'"hello"')
        async with RawLink(engine.address, "older") as link:
            hello = link_pb2.Hello(link_id="older", protocol_min=1, protocol_max=1, agents=[definition("Mine")])
            await link.write(link_pb2.LinkFrame(items=[link_pb2.LinkItem(hello=hello)]).SerializeToString())
            (item,) = (await link.read()).items
            assert item.rejected.failure.reason == "ENGINES_NOT_KNOWN"


async def test_streams_are_passed_on_at_the_pace_of_their_reader_and_cancelled(tmp_path: Path) -> None:
    with (
        engine_process(tmp_path, workers=2) as engine,
        worker_process(tmp_path, engine.address, "Echo") as worker,
    ):
        async with RawLink(engine.address, "reader") as link:
            await link.open()
            for id, number in ((1, 0), (2, 1)):  # one of the two is elsewhere
                item = link_pb2.LinkItem(id=id)
                stream = item.call.stream
                stream.agent, stream.key, stream.handler = "Echo", keys_of(number, "Echo")[0], "count"
                stream.payload.CopyFrom(json_payload(150))
                await link.send(item)
                for expected in range(150):
                    chunk = await link.next("chunk")
                    assert (chunk.id, chunk.chunk.payload.data) == (id, str(expected).encode())
                    if expected % 32 == 31:
                        await link.send(link_pb2.LinkItem(id=id, credit=link_pb2.Credit(chunks=32)))
                reply = await link.next("reply")
                assert reply.id == id and reply.reply.HasField("result")
            for id, number in ((3, 0), (4, 1)):
                item = link_pb2.LinkItem(id=id)
                request = item.call.request
                request.agent, request.key, request.handler = "Echo", keys_of(number, "Echo")[0], "hang"
                await link.send(item)
                await until(lambda: worker.output.count("hang began") == id - 2, "the handler to run")  # noqa: B023
                await link.send(link_pb2.LinkItem(id=id, cancel=link_pb2.Cancel(reason="no longer wanted")))
                assert (await link.next("reply")).reply.failure.reason == "CANCELLED"
                await until(lambda: worker.output.count("hang ended") == id - 2, "the handler to stop")  # noqa: B023


async def test_agents_loaded_into_the_engines_call_each_other_and_keep_who_sends(tmp_path: Path) -> None:
    (tmp_path / "loaded.py").write_text(
        """
from amx_engine import Agent, Context, handler

@Agent
class Asker:
    @handler(default=True)
    async def ask(self, key: str, context: Context) -> str:
        return await context.request("Asked", key=key)

@Agent
class Asked:
    @handler(default=True)
    async def answer(self, context: Context) -> str:
        return f"{context.key} was asked by {context.message.sender}"
"""
    )
    with engine_process(tmp_path, workers=2, load="loaded") as engine:
        async with client(engine.address) as app:
            for asker in (*keys_of(0, "Asker"), *keys_of(1, "Asker")):
                for asked in (*keys_of(0, "Asked"), *keys_of(1, "Asked")):
                    answer = await app.request("Asker", asked, key=asker)
                    assert answer == f"{asked} was asked by Asker/{asker}"


async def test_tokens_and_permissions_hold_at_every_engine(tmp_path: Path) -> None:
    tokens = [
        {"token": "worker", "subject": "worker", "roles": ["worker"], "namespace": "shop"},
        {"token": "client", "subject": "client", "roles": ["client"], "namespace": "shop"},
        {"token": "other", "subject": "other", "roles": ["client"], "namespace": "other"},
    ]
    settings = f"security.tokens={json.dumps(tokens)}"
    with (
        engine_process(tmp_path, settings, workers=2) as engine,
        worker_process(tmp_path, engine.address, "Echo", AMX_TOKEN="worker"),
    ):
        keys = [next(str(n) for n in range(99) if owner_of("shop", "Echo", str(n), 2) == each) for each in (0, 1)]
        async with client(engine.address, token="client") as app, client(engine.address, token="other") as other:
            for key in keys:
                assert await app.request("Echo", "hello", key=key) == "hello"
                with pytest.raises(AmxError) as refused:
                    await app.request("Echo", None, key=key, handler="open_vault")
                assert refused.value.reason == "PERMISSION_DENIED"
                with pytest.raises(AmxError) as unknown:
                    await other.request("Echo", "hello", key=key)
                assert unknown.value.reason == "AGENT_UNKNOWN"
        # Over plain gRPC, where one engine passes on to the other.
        for token, code in (
            ("client", grpc.StatusCode.PERMISSION_DENIED),
            ("wrong", grpc.StatusCode.UNAUTHENTICATED),
        ):
            async with unary(engine.address) as stub:
                for key in keys:
                    request = engine_pb2.RequestRequest()
                    request.message.agent, request.message.key, request.message.handler = "Echo", key, "open_vault"
                    with pytest.raises(grpc.aio.AioRpcError) as error:
                        await stub.Request(request, metadata=(("authorization", f"Bearer {token}"),))
                    assert error.value.code() == code


async def test_log_of_all_engines_is_one_log(tmp_path: Path) -> None:
    with engine_process(tmp_path, workers=3) as engine:
        async with unary(engine.address) as stub:
            lines = [line async for line in stub.ReadLog(engine_pb2.ReadLogRequest(lines=1000))]
            assert sum(line.event == "engine_started" for line in lines) == 3
            assert [line.at_ms for line in lines] == sorted(line.at_ms for line in lines)
            last = [line async for line in stub.ReadLog(engine_pb2.ReadLogRequest(lines=2))]
            assert len(last) == 2


async def test_metrics_of_all_engines_are_on_one_page(tmp_path: Path) -> None:
    with engine_process(tmp_path, workers=2) as engine, worker_process(tmp_path, engine.address, "Echo"):
        async with client(engine.address) as app:
            for key in (*keys_of(0, "Echo", 2), *keys_of(1, "Echo", 3)):
                await app.request("Echo", 1, key=key)
        async with aiohttp.ClientSession() as session, session.get(f"http://{engine.http}/metrics") as response:
            page = await response.text()
        assert re.search(r'^amx_active_agents\{engine="0"\} 2.0$', page, re.MULTILINE)
        assert re.search(r'^amx_active_agents\{engine="1"\} 3.0$', page, re.MULTILINE)
        assert page.count("# TYPE amx_active_agents gauge") == 1


@pytest.mark.fault
async def test_engine_process_killed_its_instances_go_on_elsewhere_and_come_home(tmp_path: Path) -> None:
    with engine_process(tmp_path, workers=2) as engine, worker_process(tmp_path, engine.address, "Counter"):
        async with client(engine.address) as app:
            keys = {number: keys_of(number, "Counter")[0] for number in (0, 1)}
            for key in keys.values():
                await add(app, key, "before")
            home, survivor = pid_of(engine, 1), pid_of(engine, 0)
            os.kill(home, signal.SIGKILL)
            await until(lambda: pid_of(engine, 1) != home, "another process with the engine")
            for key in keys.values():
                await add(app, key, "before")  # known, also where the engine is now
                await add(app, key, "away")
                assert await totals(app, key) == [2, 2]
            await until(lambda: pid_of(engine, 1) not in (home, survivor), "the engine at home again")
            for key in keys.values():
                await add(app, key, "away")
                await add(app, key, "home")
                assert await totals(app, key) == [3, 3]
        assert "engine_process_died" in engine.output
        assert engine.stop() == 0


@pytest.mark.fault
async def test_no_call_fails_when_an_engine_comes_home(tmp_path: Path) -> None:
    with engine_process(tmp_path, workers=2) as engine, worker_process(tmp_path, engine.address, "Echo"):
        async with client(engine.address) as app:
            home = pid_of(engine, 1)
            keys = keys_of(1, "Echo", 16)
            await asyncio.gather(*(app.request("Echo", 1, key=key) for key in keys))
            os.kill(home, signal.SIGKILL)
            survivor = await until(lambda: pid_of(engine, 1) != home and pid_of(engine, 1), "the engine elsewhere")
            await until(lambda: _answers(app, keys[0]), "its agents")
            back = False

            async def ask(key: str) -> int:
                asked = 0
                while not back:
                    assert await app.request("Echo", asked, key=key) == asked
                    asked += 1
                return asked

            asking = [asyncio.create_task(ask(key)) for key in keys]
            await until(lambda: pid_of(engine, 1) != survivor, "the engine at home")
            back = True
            assert min(await asyncio.gather(*asking)) > 0


async def _answers(app: AmxEngine, key: str) -> bool:
    try:
        return bool(await app.request("Echo", True, key=key))
    except AmxError:
        return False


@pytest.mark.fault
@pytest.mark.slow
async def test_engine_processes_killed_under_load_lose_nothing_acknowledged(tmp_path: Path) -> None:
    """Durable sends to both engines, and relays whose effects cross between them, while processes die."""
    with engine_process(tmp_path, workers=2) as engine, worker_process(tmp_path, engine.address, "Relay", "Counter"):
        async with client(engine.address) as app:
            direct = [*keys_of(0, "Counter", 5), *keys_of(1, "Counter", 5)]
            relays = [*keys_of(0, "Relay", 5), *keys_of(1, "Relay", 5)]
            sent = 0

            async def send(round: int) -> None:
                nonlocal sent
                for number, key in enumerate(direct):
                    await app.send("Counter", 1, key=key, message_id=f"d-{round}-{key}", timeout=PATIENCE)
                    await app.send("Relay", 1, key=relays[number], message_id=f"r-{round}-{number}", timeout=PATIENCE)
                sent += 1

            async def load() -> None:
                for batch in range(12):
                    await asyncio.gather(*(send(20 * batch + number) for number in range(20)))

            loading = asyncio.create_task(load())
            for victim in (0, 1, 0, 1):
                before, rounds = pid_of(engine, victim), sent
                os.kill(before, signal.SIGKILL)
                await until(lambda: pid_of(engine, victim) != before, "the engine elsewhere")  # noqa: B023
                await until(lambda: sent > rounds or loading.done(), "messages that get through")  # noqa: B023
            await loading

            async def complete() -> bool:
                found = [await totals(app, key) for key in (*direct, "relayed")]
                return found == [[sent, sent]] * len(direct) + [[sent * len(relays)] * 2]

            await until(complete, f"{sent} messages to each counter, and as many from each relay")


@pytest.mark.fault
async def test_public_socket_moves_with_the_engine_that_listens_there(tmp_path: Path) -> None:
    socket = tmp_path / "amx.sock"
    address = f"unix:{socket}"
    with (
        engine_process(tmp_path, f"grpc.unix_socket={socket}", workers=2) as engine,
        worker_process(tmp_path, address, "Counter"),
    ):
        async with client(address) as app:
            for key in (*keys_of(0, "Counter"), *keys_of(1, "Counter")):
                await add(app, key, "before")
            home = pid_of(engine, 0)
            os.kill(home, signal.SIGKILL)
            await until(lambda: pid_of(engine, 0) != home, "another process with the engine")
            async with client(address) as late:
                for key in (*keys_of(0, "Counter"), *keys_of(1, "Counter")):
                    assert await totals(late, key) == [1, 1]


@pytest.mark.fault
async def test_engine_processes_stop_when_their_parent_was_killed(tmp_path: Path) -> None:
    with engine_process(tmp_path, workers=2) as engine:
        pids = {pid_of(engine, number) for number in (0, 1)}
        engine.kill()
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the end of its processes")
        with engine_process(tmp_path, workers=2) as again:  # its stores are free, and so are its ports
            assert again.alive


async def test_a_store_for_several_engines_is_for_no_other_number(tmp_path: Path) -> None:
    with engine_process(tmp_path, workers=2) as engine, worker_process(tmp_path, engine.address, "Counter"):
        async with client(engine.address) as app:
            for key in (*keys_of(0, "Counter"), *keys_of(1, "Counter")):
                await app.request("Counter", 3, key=key)
        assert engine.stop() == 0
    for workers in (0, 3):
        other = EngineProcess(tmp_path, workers=workers)
        other.launch()
        assert other.ended() != 0
        assert "ENGINES_MISMATCH" in other.output
    # One process runs both.
    with engine_process(tmp_path, workers=1) as engine, worker_process(tmp_path, engine.address, "Counter"):
        assert "2 engines in 1 processes" in engine.output
        async with client(engine.address) as app:
            for key in (*keys_of(0, "Counter"), *keys_of(1, "Counter")):
                assert await app.request("Counter", 4, key=key) == 2
