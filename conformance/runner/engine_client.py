"""Carries out cases of exchanges only, as a client of the real engine at which the testee hosts its fixtures."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio

from amx.v1 import engine_pb2, engine_pb2_grpc, link_pb2, message_pb2
from conformance.runner.cases import EXCHANGE_KEYS, Case, Step
from conformance.runner.engine_steps import EngineLink
from conformance.runner.grpc_testee import ConnectingTestee
from conformance.runner.grpc_wire import OPTIONS, GrpcWire
from conformance.runner.matchers import Bindings, Mismatch, match, text
from conformance.runner.messages import Obj, decode
from conformance.runner.peer import Broken, CaseFailure, Trace, kind_of
from conformance.runner.scripted_engine import FEATURES, STREAM_WINDOW
from conformance.runner.values import ValueProblem, build

_HOSTED_SECONDS = 30.0
_ASK_AGAIN_SECONDS = 0.02


async def hosted(address: str, agents: list[str], testee: ConnectingTestee) -> None:
    """Returns when the engine has links for all these agents. Raises Broken."""
    channel = grpc.aio.insecure_channel(address, options=OPTIONS)
    stub: Any = engine_pb2_grpc.EngineServiceStub(channel)
    until = asyncio.get_running_loop().time() + _HOSTED_SECONDS
    missing = list(agents)
    try:
        while missing:
            if not testee.alive:
                raise Broken("the testee has ended before it hosted its agents")
            response = await stub.ListAgents(
                engine_pb2.ListAgentsRequest(page_size=1000), wait_for_ready=True, timeout=_HOSTED_SECONDS
            )
            there = {
                agent.definition.name for agent in response.agents if any(version.links for version in agent.versions)
            }
            missing = [agent for agent in agents if agent not in there]
            if missing and asyncio.get_running_loop().time() > until:
                raise Broken(f"the testee does not host {', '.join(missing)} after {_HOSTED_SECONDS:.0f} s")
            if missing:
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
    finally:
        await channel.close()


async def carry_out(case: Case, address: str, trace: Trace) -> None:
    """Runs the case. Raises CaseFailure, Broken."""
    bindings: Bindings = {}
    link = EngineLink("engine", trace, bindings, answer_pings=True)
    link.attach(GrpcWire(address))
    try:
        hello = link_pb2.Hello(link_id=f"conformance-{id(link):x}", protocol_min=1, protocol_max=1, features=FEATURES)
        hello.sdk.name = "amx-conformance"
        await link.send_items([link_pb2.LinkItem(hello=hello)])
        welcome = await link.next_item(asyncio.get_running_loop().time() + _HOSTED_SECONDS, "a Welcome")
        if kind_of(welcome) != "welcome":
            raise Broken(f"the engine does not welcome the runner: {text(decode(welcome))}")
        for number, step in enumerate(case.steps):
            trace.add(f"[{step}]")
            try:
                for round_ in range(step.times):
                    if step.kind == "exchange":
                        await _exchange(link, number * 10_000 + round_ + 1, step, bindings)
            except CaseFailure as failure:
                raise CaseFailure(f"{step}: {failure}") from None
            except ValueProblem as problem:
                raise CaseFailure(f"{step}: {problem}") from None
        if link.violation:
            raise CaseFailure(link.violation)
    finally:
        await link.disconnect("the end")


async def _exchange(link: EngineLink, id: int, step: Step, bindings: Bindings) -> None:
    said: Mapping[str, Any] = step.args
    expected: Mapping[str, Any] = step.more["expect"]
    plain = {key: value for key, value in said.items() if key not in EXCHANGE_KEYS}
    message = build(message_pb2.Message.DESCRIPTOR, plain, bindings, "exchange")
    assert isinstance(message, message_pb2.Message)
    call = link_pb2.Call(timeout_ms=int(said.get("timeout_ms", 0)))
    streaming = bool(said.get("stream", "chunks" in expected))
    (call.stream if streaming else call.request).CopyFrom(message)
    await link.send_items([link_pb2.LinkItem(id=id, call=call)])
    until = asyncio.get_running_loop().time() + step.within
    chunks: list[Obj] = []
    ungranted = 0
    while True:
        item = await link.next_item(until, f"the reply to call {id}")
        if kind_of(item) == "reply" and item.id == id:
            break
        if kind_of(item) != "chunk" or item.id != id:
            raise CaseFailure(f"expected chunks and the reply of call {id}, got {text(decode(item))}")
        chunks.append(decode(item.chunk.payload))
        ungranted += 1
        if ungranted * 2 >= STREAM_WINDOW:
            await link.send_items([link_pb2.LinkItem(id=id, credit=link_pb2.Credit(chunks=ungranted))])
            ungranted = 0
    found = Obj(link_pb2.Complete.DESCRIPTOR)
    found.update(decode(item.reply))
    if chunks or "chunks" in expected:
        found["chunks"] = chunks
    try:
        match(expected, found, "", bindings)
    except Mismatch as mismatch:
        raise CaseFailure(f"{mismatch}\n  in {text(found)}") from None
