"""Carries out the steps of a case of subject engine: plays links and callers against a real engine over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from amx.v1 import agent_pb2, engine_pb2, link_pb2
from conformance.runner.cases import CONNECT_KEYS, Case, Step, seconds
from conformance.runner.engine_process import EngineProcess
from conformance.runner.grpc_wire import OPTIONS, GrpcWire, failure_of
from conformance.runner.matchers import Bindings, Mismatch, match, text
from conformance.runner.messages import Obj, decode, shown
from conformance.runner.peer import CaseFailure, Peer, Trace, kind_of
from conformance.runner.scripted_engine import FEATURES
from conformance.runner.sdk_steps import frames
from conformance.runner.values import ValueProblem, build, fill, resolve

_CREDIT = 64
_SERVICE = engine_pb2.DESCRIPTOR.services_by_name["EngineService"]
_REST_SECONDS = 30.0
_MUTE_SECONDS = 0.05


class EngineLink(Peer):
    """The SDK's end of a link to the real engine."""

    def __init__(self, name: str, trace: Trace, bindings: Bindings, *, answer_pings: bool) -> None:
        super().__init__(name, trace, bindings, answer_pings=answer_pings)
        self.link_id = name
        self.token = ""
        self.resume_token = ""

    def took(self, kind: str, item: link_pb2.LinkItem) -> None:
        if kind == "welcome":
            self.resume_token = item.welcome.resume_token
            if item.welcome.resumed:
                self.sent_seq = max(self.sent_seq, item.welcome.received_seq)
            else:
                self.sent_seq = self.received_seq = self._acked = 0

    def said(self, kind: str, item: link_pb2.LinkItem) -> None:
        if kind == "hello" and item.hello.resume_token:
            self.received_seq = item.hello.received_seq

    def follow(self, earlier: EngineLink) -> None:
        """Goes on with the numbers and names of an earlier connection."""
        self.link_id, self.token, self.resume_token = earlier.link_id, earlier.token, earlier.resume_token
        self.sent_seq, self.received_seq, self._acked = earlier.sent_seq, earlier.received_seq, earlier._acked


class _Call:
    """A call of EngineService: of one response, or of many."""

    def __init__(self, call: Any, streams: bool) -> None:
        self.call = call
        self.streams = streams

    async def response(self) -> Message:
        """The only response. Raises RpcError."""
        found: Message = await self.call
        return found

    async def read(self, count: int | None) -> list[Message]:
        """The next `count` responses, or all there are. Raises RpcError."""
        found: list[Message] = []
        while count is None or len(found) < count:
            response = await self.call.read()
            if response is grpc.aio.EOF:
                if count is not None:
                    raise CaseFailure(f"expected {count} responses, the stream ended after {len(found)}")
                break
            found.append(response)
        return found


async def carry_out(case: Case, engine: EngineProcess, trace: Trace) -> None:
    """Runs the case on an engine that has been started for it. Raises CaseFailure, Broken."""
    player = _Player(case, engine, trace)
    try:
        for step in case.steps:
            trace.add(f"[{step}]")
            try:
                for _ in range(step.times):
                    await player.do(step)
            except CaseFailure as failure:
                raise CaseFailure(f"{step}: {failure}") from None
            except ValueProblem as problem:
                raise CaseFailure(f"{step}: {problem}") from None
        player.check()
    finally:
        await player.close()


class _Player:
    def __init__(self, case: Case, engine: EngineProcess, trace: Trace) -> None:
        self._case = case
        self._engine = engine
        self._trace = trace
        self._bindings: Bindings = {}
        self._links: dict[str, EngineLink] = {}
        self._every_link: list[EngineLink] = []
        self._calls: dict[str, _Call] = {}
        self._channel: grpc.aio.Channel | None = None

    async def do(self, step: Step) -> None:
        kind, args = step.kind, step.args
        if kind == "connect":
            await self._connect(step)
        elif kind == "disconnect":
            link = self._link(step)
            await link.disconnect("lost")
            await self._engine.disconnected(link.link_id)
        elif kind == "advance":
            await self._advance(round(seconds(args) * 1000))
        elif kind == "kill":
            self._trace.add("-- the engine is killed")
            await self._engine.kill()
        elif kind == "restart":
            await self._engine.restart()
            self._trace.add(f"-- the engine is back at {self._engine.address}")
        elif kind == "stop":
            await self._engine.stop()
        elif kind == "expect_stopped":
            await self._in_time(self._engine.stopped(), step, "the engine to stop")
        elif kind == "unary":
            await self._unary(step)
        elif kind == "outcome":
            call = self._calls.get(args)
            if call is None:
                raise CaseFailure(f"no call is named '{args}'")
            await self._outcome(call, step, step.more.get("take"))
        elif kind == "hang_up":
            self._calls.pop(args).call.cancel()
        elif kind != "note":
            await frames(self._link(step), step, self._bindings)

    def check(self) -> None:
        """Raises CaseFailure if a link saw what must never be."""
        for link in self._every_link:
            if link.violation:
                raise CaseFailure(link.violation)

    async def close(self) -> None:
        for call in self._calls.values():
            call.call.cancel()
        for link in self._every_link:
            await link.disconnect("the end")
        if self._channel is not None:
            await self._channel.close()

    def _link(self, step: Step) -> EngineLink:
        link = self._links.get(step.on)
        if link is None:
            raise CaseFailure(f"no link is named '{step.on}'; there are: {', '.join(self._links) or 'none'}")
        return link

    async def _connect(self, step: Step) -> None:
        args = step.args
        answer_pings = self._case.answer_pings
        earlier = self._links[args["resume"]] if "resume" in args else None
        replaced = self._links.get(step.on)
        if replaced is not None:
            await replaced.disconnect("replaced")
            await self._engine.disconnected(replaced.link_id)
        link = EngineLink(step.on, self._trace, self._bindings, answer_pings=answer_pings)
        follows = replaced if self._case.manual_handshake else earlier
        if follows is not None:
            link.follow(follows)
        self._links[step.on] = link
        self._every_link.append(link)
        token = resolve(args.get("token", link.token), self._bindings, "connect.token")
        link.token = token
        link.attach(GrpcWire(self._engine.address, token))
        if self._case.manual_handshake:
            return
        hello = link_pb2.Hello(link_id=link.link_id, protocol_min=1, protocol_max=1, features=FEATURES, credit=_CREDIT)
        hello.sdk.name = "amx-conformance"
        if earlier is not None:
            hello.resume_token = link.resume_token
            hello.received_seq = link.received_seq
        said = {key: value for key, value in args.items() if key not in CONNECT_KEYS}
        for name in said:
            hello.ClearField(name)
        fill(hello, said, self._bindings, "connect")
        link.link_id = hello.link_id or step.on
        for index, agent in enumerate(args.get("agents", ())):
            definition = build(agent_pb2.AgentDefinition.DESCRIPTOR, agent, self._bindings, f"connect.agents[{index}]")
            assert isinstance(definition, agent_pb2.AgentDefinition)
            hello.agents.append(definition)
        await link.send_items([link_pb2.LinkItem(hello=hello)])
        expected = step.more.get("expect", args.get("expect"))
        until = asyncio.get_running_loop().time() + step.within
        item = await link.next_item(until, "Welcome or Rejected")
        if expected is not None:
            self._match(expected, decode(item), "item")
        elif kind_of(item) != "welcome":
            raise CaseFailure(f"expected a Welcome, got {text(decode(item))}")

    async def _advance(self, ms: int) -> None:
        await self._rest()
        self._trace.add(f"-- the clock moves by {ms} ms")
        await self._engine.advance(ms)
        await self._rest()

    async def _rest(self) -> None:
        """Everything that was said has been heard, on both sides, and is stored."""
        if not self._case.answer_pings:
            await asyncio.sleep(_MUTE_SECONDS)  # a ping would say that the link is alive
            await self._engine.settle()
            return
        for _ in range(2):
            for link in self._every_link:
                if link.closed is None and link.wire is not None:
                    try:
                        await link.ping(_REST_SECONDS)
                    except CaseFailure:
                        await link.expect_closed(None, _REST_SECONDS)  # the engine ended it meanwhile
            await self._engine.settle()

    # --- callers -----------------------------------------------------------------------------------------------------

    async def _unary(self, step: Step) -> None:
        args = step.args
        method = _SERVICE.methods_by_name[args["method"]]
        request = build(method.input_type, args.get("request", {}), self._bindings, "unary.request")
        self._trace.add(f"caller → engine {method.name} {text(decode(request))}")
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._engine.address, options=OPTIONS)
        path = f"/{_SERVICE.full_name}/{method.name}"
        write: Callable[[Any], bytes] = type(request).SerializeToString
        read = GetMessageClass(method.output_type).FromString
        metadata = [(str(key), str(value)) for key, value in args.get("metadata", {}).items()]
        token = resolve(args.get("token", ""), self._bindings, "unary.token")
        if token:
            metadata.append(("authorization", f"Bearer {token}"))
        options: dict[str, Any] = {"metadata": metadata, "wait_for_ready": True}
        if "deadline" in args:
            options["timeout"] = seconds(args["deadline"])
        streams = bool(method.server_streaming)
        make: Any = self._channel.unary_stream if streams else self._channel.unary_unary
        call = _Call(make(path, request_serializer=write, response_deserializer=read)(request, **options), streams)
        name = args.get("as")
        if name is None:
            self._calls[f" {len(self._calls)}"] = call
            await self._outcome(call, step, args.get("take"))
            return
        self._calls[name] = call
        if method.name == "Subscribe":
            await self._in_time(call.read(1), step, "the subscription to be in force")
        elif not streams:
            await asyncio.sleep(0)  # the request leaves before the next step

    async def _outcome(self, call: _Call, step: Step, take: int | None) -> None:
        found: Obj | dict[str, Any]
        try:
            if call.streams:
                responses = await self._in_time(call.read(take), step, "the responses")
                found = {"chunks": [decode(response) for response in responses]}
            else:
                found = decode(await self._in_time(call.response(), step, "the response"))
        except grpc.aio.AioRpcError as error:
            failure = decode(failure_of(error))
            self._trace.add(f"engine → caller status {text(failure)}")
            if "status" not in step.more:
                raise CaseFailure(f"expected {text(step.more['expect'])}, got the status {text(failure)}") from None
            self._match(step.more["status"], failure, "status")
            return
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise CaseFailure("the call was cancelled on this side") from None
        self._trace.add(f"engine → caller {text(shown(found))}")
        if "status" in step.more:
            raise CaseFailure(f"expected the status {text(step.more['status'])}, got {text(found)}")
        self._match(step.more["expect"], found, "")

    async def _in_time(self, doing: Any, step: Step, what: str) -> Any:
        try:
            async with asyncio.timeout(step.within):
                return await doing
        except TimeoutError:
            raise CaseFailure(f"expected {what}; it did not come within {step.within:g} s") from None

    def _match(self, matcher: Any, found: Any, where: str) -> None:
        try:
            match(matcher, found, where, self._bindings)
        except Mismatch as mismatch:
            raise CaseFailure(f"{mismatch}\n  in {text(found)}") from None
