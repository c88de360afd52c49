"""AmxEngine over real gRPC, against an engine that does exactly what the test tells it to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from amx.v1 import link_pb2
from amx_engine import Agent, AmxEngine, AmxError, Message, handler
from amx_engine._client import AmxEngineBuilder
from amx_engine._transport import METHOD

Script = Callable[["Peer"], Any]


class Peer:
    """One connection of an SDK, as the engine sees it."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.metadata = dict(context.invocation_metadata())
        self.seq = 0
        self.received = 0

    async def read(self) -> link_pb2.LinkFrame | None:
        data = await self.context.read()
        if data is grpc.aio.EOF:
            return None
        frame = link_pb2.LinkFrame.FromString(data)
        self.received = max(self.received, frame.seq)
        return frame

    async def hello(self) -> link_pb2.Hello:
        frame = await self.read()
        assert frame is not None
        return frame.items[0].hello

    async def welcome(self, **fields: Any) -> None:
        frame = link_pb2.LinkFrame()
        frame.items.add().welcome.CopyFrom(link_pb2.Welcome(**{"protocol": 1, "heartbeat_interval_ms": 5000, **fields}))
        await self.context.write(frame.SerializeToString())

    async def items(self) -> AsyncIterator[link_pb2.LinkItem]:
        while (frame := await self.read()) is not None:
            for item in frame.items:
                yield item

    async def say(self, *items: link_pb2.LinkItem) -> None:
        self.seq += 1
        frame = link_pb2.LinkFrame(items=items, seq=self.seq, ack=self.received)
        await self.context.write(frame.SerializeToString())


class Engine:
    """A gRPC server whose connections follow scripts, one after the other; the last script repeats."""

    def __init__(self, address: str, *scripts: Script) -> None:
        self.address = address
        self.connections = 0
        self._scripts = list(scripts)
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Engine:
        self._server = grpc.aio.server()
        service, method = METHOD[1:].split("/")
        handlers: Any = {method: grpc.stream_stream_rpc_method_handler(self._open)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        port = self._server.add_insecure_port(self.address)
        if not self.address.startswith("unix:"):
            self.address = f"127.0.0.1:{port}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.stop(None)

    async def _open(self, _: object, context: Any) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        await script(Peer(context))


def answer(item: link_pb2.LinkItem) -> link_pb2.LinkItem:
    reply = link_pb2.LinkItem(id=item.id)
    if item.call.HasField("request"):
        reply.reply.result.CopyFrom(item.call.request.payload)
    elif item.call.HasField("send"):
        reply.reply.accepted.message_id = item.call.send.message_id
    return reply


async def echo(peer: Peer) -> None:
    await peer.hello()
    await peer.welcome()
    async for item in peer.items():
        if item.HasField("call"):
            await peer.say(answer(item))
        elif item.HasField("ping"):
            await peer.say(link_pb2.LinkItem(pong=link_pb2.Pong(nonce=item.ping.nonce)))
        elif item.HasField("drained"):
            return


def client(engine: Engine) -> AmxEngineBuilder:
    return AmxEngine.builder().with_address(engine.address)


@Agent
class Greeter:
    @handler
    async def greet(self, message: Message) -> str:
        return f"Hello, {message.content}"


async def test_request_over_tcp_and_over_a_unix_socket(tmp_path: Path) -> None:
    for address in ("127.0.0.1:0", f"unix:{tmp_path}/engine.sock"):
        async with Engine(address, echo) as engine, client(engine).build() as amx:
            assert await amx.request("echo", {"a": 1}) == {"a": 1}
            assert await amx.request_bytes("echo", b"raw") == b"raw"
            results = await asyncio.gather(*(amx.request("echo", n) for n in range(500)))
            assert results == list(range(500))


async def test_token_travels_as_bearer() -> None:
    seen: list[str] = []

    async def script(peer: Peer) -> None:
        seen.append(str(peer.metadata.get("authorization")))
        await echo(peer)

    async with Engine("127.0.0.1:0", script) as engine, client(engine).with_token("secret").build():
        pass
    assert seen == ["Bearer secret"]


async def test_nothing_listening_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr("amx_engine._client.DEFAULT_ADDRESS", f"127.0.0.1:{port}")
    monkeypatch.delenv("AMX_ADDRESS", raising=False)
    amx = AmxEngine.builder().with_agent(Greeter).build()
    with pytest.raises(AmxError) as caught:
        await amx.start()
    assert caught.value.reason == "ENGINE_UNREACHABLE"
    for advice in (str(port), "amx dev", "AMX_ADDRESS", ".embedded()"):
        assert advice in caught.value.message
    assert not amx.connected


async def test_engine_that_comes_late_is_waited_for() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    amx = AmxEngine.builder().with_address(address).build()
    starting = asyncio.ensure_future(amx.start(patience=20))
    await asyncio.sleep(0.05)
    assert not starting.done()
    async with Engine(address, echo):
        await starting
        assert await amx.request("echo", 1) == 1
        await amx.stop()


async def test_refused_token_is_an_error_of_its_own() -> None:
    async def script(peer: Peer) -> None:
        await peer.context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown token")

    async with Engine("127.0.0.1:0", script) as engine:
        with pytest.raises(AmxError, match="AMX_TOKEN") as caught:
            await client(engine).build().start()
        assert caught.value.reason == "UNAUTHENTICATED"
        assert engine.connections == 1


async def test_rejection_is_raised_with_its_reason() -> None:
    async def script(peer: Peer) -> None:
        await peer.hello()
        frame = link_pb2.LinkFrame()
        failure = frame.items.add().rejected.failure
        failure.code, failure.reason, failure.message = 9, "DEFINITION_CHANGED", "handler 'greet' has changed"
        await peer.context.write(frame.SerializeToString())

    async with Engine("127.0.0.1:0", script) as engine:
        with pytest.raises(AmxError, match="has changed") as caught:
            await client(engine).with_agent(Greeter).build().start()
        assert caught.value.reason == "DEFINITION_CHANGED"


async def test_something_else_listening_is_named() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        with pytest.raises(AmxError, match="not an AMX engine"):
            await AmxEngine.builder().with_address(f"127.0.0.1:{port}").build().start()
    finally:
        await server.stop(None)


async def test_lost_connection_is_resumed_and_calls_survive() -> None:
    hellos: list[link_pb2.Hello] = []
    first: list[link_pb2.LinkItem] = []

    async def lose(peer: Peer) -> None:
        hellos.append(await peer.hello())
        await peer.welcome(resume_token="token", resume_window_ms=10_000)
        async for item in peer.items():
            first.append(item)
            return

    async def resume(peer: Peer) -> None:
        hellos.append(await peer.hello())
        await peer.welcome(resume_token="token", resume_window_ms=10_000, resumed=True, received_seq=1)
        await peer.say(answer(first[0]))  # it was received: it is not said again
        async for item in peer.items():
            if item.HasField("call"):
                await peer.say(answer(item))
            elif item.HasField("drained"):
                return

    async with Engine("127.0.0.1:0", lose, resume) as engine, client(engine).build() as amx:
        assert await amx.request("echo", "survives") == "survives"
        assert await amx.request("echo", "next") == "next"
    assert [hello.resume_token for hello in hellos] == ["", "token"]
    assert hellos[0].link_id == hellos[1].link_id


async def test_restarted_engine_gets_what_is_safe_again_and_the_rest_fails() -> None:
    async def forget(peer: Peer) -> None:
        await peer.hello()
        await peer.welcome(resume_token="one")
        calls = 0
        async for item in peer.items():
            calls += item.HasField("call")
            if calls == 3:
                return

    async with Engine("127.0.0.1:0", forget, echo) as engine, client(engine).build() as amx:
        sent = asyncio.ensure_future(amx.send("echo", "once"))
        keyed = asyncio.ensure_future(amx.request("echo", "keyed", idempotency_key="k"))
        plain = asyncio.ensure_future(amx.request("echo", "plain"))
        assert await keyed == "keyed"
        assert (await sent).message_id
        with pytest.raises(AmxError) as caught:
            await plain
        assert caught.value.reason == "ENGINE_RESTARTED"
        assert caught.value.retryable


async def test_silent_engine_is_left_after_two_heartbeats() -> None:
    async def mute(peer: Peer) -> None:
        await peer.hello()
        await peer.welcome(heartbeat_interval_ms=40)
        async for _ in peer.items():
            pass

    async with Engine("127.0.0.1:0", mute, echo) as engine, client(engine).build() as amx:
        async with asyncio.timeout(20):
            while engine.connections < 2:
                await asyncio.sleep(0.01)
        assert await amx.request("echo", 1) == 1


async def test_garbage_from_the_engine_ends_the_connection_not_the_client() -> None:
    async def babble(peer: Peer) -> None:
        await peer.hello()
        await peer.welcome()
        await peer.context.write(b"\xff\xff\xff\xff")
        async for _ in peer.items():
            pass

    async with Engine("127.0.0.1:0", babble, echo) as engine, client(engine).build() as amx:
        assert await amx.request("echo", 1, idempotency_key="k") == 1
        assert engine.connections == 2


async def test_invocation_runs_and_stop_drains() -> None:
    said: list[str] = []
    results: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.hello()
        await peer.welcome()
        invoke = link_pb2.LinkItem(id=1)
        invoke.invoke.attempt = invoke.invoke.epoch = 1
        invoke.invoke.message.agent = "Greeter"
        invoke.invoke.message.payload.data = b'"Ada"'
        await peer.say(invoke)
        async for item in peer.items():
            kind = item.WhichOneof("item")
            if kind in ("complete", "drain", "drained"):
                said.append(kind)
            if kind == "complete":
                results.append(item.complete.result.data)
            if kind == "drained":
                return

    async with Engine("127.0.0.1:0", script) as engine:
        amx = client(engine).with_agent(Greeter).build()
        await amx.start()
        async with asyncio.timeout(20):
            while not results:
                await asyncio.sleep(0.01)
        await amx.stop()
    assert results == [b'"Hello, Ada"']
    assert said == ["complete", "drain", "drained"]


async def test_calls_before_start_and_after_stop_say_so() -> None:
    amx = AmxEngine.builder().build()
    with pytest.raises(AmxError, match="not started"):
        await amx.request("echo")
    await amx.stop()


async def test_call_in_flight_at_stop_fails_with_shutting_down() -> None:
    async def deaf(peer: Peer) -> None:
        await peer.hello()
        await peer.welcome()
        async for item in peer.items():
            if item.HasField("drained"):
                return

    async with Engine("127.0.0.1:0", deaf) as engine:
        amx = client(engine).build()
        await amx.start()
        call = asyncio.ensure_future(amx.request("echo"))
        await asyncio.sleep(0)
        await amx.stop()
        with pytest.raises(AmxError) as caught:
            await call
        assert caught.value.reason == "SHUTTING_DOWN"


async def test_configuration_file_names_the_engine_and_keeps_other_sections(tmp_path: Path) -> None:
    async with Engine("127.0.0.1:0", echo) as engine:
        path = tmp_path / "amx-config.yaml"
        path.write_text(f"engine:\n  address: {engine.address}\n  concurrency: 7\naws:\n  region: eu\n")
        amx = AmxEngine.builder().with_config(path).with_agent(Greeter).build()
        assert amx.address == engine.address
        assert amx.config["aws"] == {"region": "eu"}
        async with amx:
            assert await amx.request("echo", 1) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1, 2]", "must hold sections"), ("a: [", "is not YAML"), ("engine: {concurrency: none}", "engine.concurrency")],
)
def test_bad_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "amx-config.yaml"
    path.write_text(text)
    with pytest.raises(AmxError, match=message) as caught:
        AmxEngine.builder().with_config(path).build()
    assert caught.value.reason == "INVALID_CONFIG"


def test_two_agents_of_one_name_are_refused() -> None:
    with pytest.raises(AmxError, match="Greeter"):
        AmxEngine.builder().with_agent(Greeter).with_agent(Greeter)


def test_missing_configuration_is_named() -> None:
    with pytest.raises(AmxError, match=r"nowhere\.yaml cannot be read"):
        AmxEngine.builder().with_config("nowhere.yaml")
